"""What differs between two results: moves, targets, weights, records; and how it is printed."""

from __future__ import annotations

import json

import polars as pl
import pytest
from rich.console import Console

from pipeline.errors import StoreError
from pipeline.release.contents import working_output
from pipeline.release.diff import compare, document, relative_move, summary_of_moves
from pipeline.release.show_diff import print_difference
from tests.pipeline.release.result import STATES, write_result

SSA = "usd_social_security/households"


def both(tmp_path, **second):
    a = working_output(write_result(tmp_path / "a"), STATES)
    return a, working_output(write_result(tmp_path / "b", **second), STATES)


def printed(found, every=False) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    print_difference(found, console, every=every)
    return console.export_text()


def test_the_same_result_has_no_difference(tmp_path):
    found = compare(*both(tmp_path))
    assert found.same and found.moved.is_empty() and not found.files
    assert "is the same" in printed(found)


def test_a_lower_total_is_found_at_every_level(tmp_path):
    found = compare(*both(tmp_path, factor={SSA: 0.56}))
    assert not found.same
    moved = found.moved
    assert set(moved["level"]) == {"nation", "state", "county", "tract"}
    assert set(moved["variable"]) == {"usd_social_security"}
    assert moved["move"].to_list() == pytest.approx([-0.44] * moved.height)
    nation = moved.row(0, named=True)
    assert nation["level"] == "nation" and nation["kind"] == "told"
    # Two states of 870 households and 9,000 dollars each.
    assert (nation["a"], nation["b"]) == pytest.approx((15_660_000, 8_769_600))
    state = moved.filter(pl.col("level") == "state").row(0, named=True)
    assert state["standard_errors"] == pytest.approx(-0.44 / 0.02)
    text = printed(found)
    assert SSA in text and "-44.0 %" in text and "15,660,000" in text


def test_untold_figures_are_compared_too(tmp_path):
    found = compare(*both(tmp_path, factor={"persons/veterans": 1.3}))
    assert set(found.moved["kind"]) == {"untold"}
    rows = summary_of_moves(found.totals, 0.01, "kind").filter(pl.col("kind") == "untold")
    assert rows["moved"].to_list() == [1, 2] and rows["of"].unique().item() == "persons/veterans"


def test_targets_that_went_came_or_moved(tmp_path):
    def without(fit: pl.DataFrame) -> pl.DataFrame:
        return fit.filter(
            ~((pl.col("domain") == "oasdi") & (pl.col("level") == "state"))
        ).with_columns(
            value=pl.when(pl.col("domain") == "total")
            .then(pl.col("value") * 1.02)
            .otherwise("value")
        )

    a, b = both(tmp_path, change_fit=without)
    rows = {
        (r["level"], f"{r['variable']}/{r['domain']}"): r
        for r in compare(a, b).targets.iter_rows(named=True)
    }
    assert rows["state", "persons/oasdi"]["gone"] == 2
    assert rows["county", "persons/oasdi"]["gone"] == 0
    total = rows["tract", "persons/total"]
    assert (total["moved"], total["areas_a"]) == (12, 12)
    assert total["largest"] == pytest.approx(0.02)
    back = {(r["level"], r["domain"]): r for r in compare(b, a).targets.iter_rows(named=True)}
    assert back["state", "oasdi"]["new"] == 2
    # The figure is measured all the same, and still counts as told.
    totals = compare(a, b).totals.filter(pl.col("level") == "state", pl.col("domain") == "oasdi")
    assert totals["kind"].to_list() == ["told", "told"] and totals["b"].null_count() == 0


def test_weights_and_records(tmp_path):
    found = compare(*both(tmp_path, seed=1)).weights["RI"]
    assert found["pairs_kept"] + found["pairs_gone"] == found["pairs_a"] == 60
    assert found["pairs_kept"] == 54 and found["pairs_same_weight"] == 0
    assert found["records_kept"] + found["records_gone"] == 40 or found["records_kept"] > 30
    assert found["sum_of_weights_b"] - found["sum_of_weights_a"] == pytest.approx(0.6)
    assert 0.0 < found["kolmogorov"] <= 0.2
    same = compare(*both(tmp_path / "same")).weights["RI"]
    assert same["pairs_same_weight"] == 60 and same["kolmogorov"] == 0.0


def test_states_that_one_has_alone_are_named_and_not_compared(tmp_path):
    a = working_output(write_result(tmp_path / "a"), STATES)
    b = working_output(write_result(tmp_path / "b", states=("RI",)), STATES)
    found = compare(a, b)
    assert (found.states, found.states_gone, found.states_new) == (("RI",), ("DE",), ())
    assert found.moved.is_empty() and not found.same
    assert compare(b, a).states_new == ("DE",)
    assert "States gone: DE" in printed(found)
    with pytest.raises(StoreError, match="no state in common"):
        compare(b, working_output(write_result(tmp_path / "c", states=("DE",)), STATES))


def test_changed_raw_files_and_versions_are_named(tmp_path):
    a, b = both(tmp_path)
    place = b.root / "manifests" / "RI.json"
    told = json.loads(place.read_text())
    files = [
        {"file": "a.csv", "member": "", "sha256": "11"},
        {"file": "b.zip", "member": "x", "sha256": "22"},
    ]
    place.write_text(json.dumps({**told, "inputs": files, "seed": 2}))
    found = compare(a.only(("RI",)), b.only(("RI",)))
    assert found.files == {"a.csv": "changed", "b.zip x": "new"}
    assert found.versions == {"seed": ("1", "2")}


def test_a_move_from_nothing_is_relative_to_what_came():
    frame = pl.DataFrame(
        {
            "unit": ["persons", "persons", "persons", "usd", "persons"],
            "a": [100.0, 0.0, 0.2, 500.0, None],
            "b": [90.0, 50.0, 0.4, 400.0, 1.0],
        }
    )
    moves = frame.select(relative_move("a", "b")).to_series().to_list()
    assert moves == [pytest.approx(-0.1), 1.0, 0.0, 0.0, None]


def test_the_document_is_json_and_complete(tmp_path):
    found = document(compare(*both(tmp_path, factor={SSA: 0.56}), threshold=0.02))
    again = json.loads(json.dumps(found, allow_nan=False))
    assert again["threshold"] == 0.02
    assert [row["level"] for row in again["moved"]] == ["nation", "state", "state"]
    assert {row["level"] for row in again["moved_below"]} == {"county", "tract"}
    assert again["weights"]["RI"]["records_gone"] == 0


def test_verbose_names_what_is_too_small_to_be_worth_it(tmp_path):
    few = {"change_bystanders": lambda r: r.with_columns(records=pl.lit(3, dtype=pl.Int64))}
    a = working_output(write_result(tmp_path / "a", **few), STATES)
    b = working_output(
        write_result(tmp_path / "b", factor={"persons/veterans": 2.0}, **few), STATES
    )
    found = compare(a, b)
    assert found.worth_naming.is_empty() and found.moved.height == 3
    assert "persons/veterans" in printed(found, every=True).split("Largest moves")[1]


def test_tables_of_another_form_are_said_in_words(tmp_path):
    a, b = both(tmp_path, change_bystanders=lambda report: report.rename({"selected": "chosen"}))
    with pytest.raises(StoreError, match="has not the columns that are compared"):
        compare(a, b)
