"""From published cells to target rows: values, errors, status, roles, and nothing lost."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.errors import TargetError
from pipeline.specs.catalog import load_catalog
from pipeline.targets.build import TARGET_SCHEMA, build_targets
from tests.pipeline.targets.toy_tables import OTHER, TOTAL, TRACT, build, cells, only


def test_a_published_cell_becomes_a_row_of_the_contract() -> None:
    built = build([TOTAL], cells((TRACT, "A", 100.0, 16.45)))
    assert built.frame.schema == pl.Schema(TARGET_SCHEMA)
    assert only(built) == {
        "level": "tract",
        "geoid": TRACT,
        "variable": "persons",
        "domain": "total",
        "family": "f",
        "unit": "persons",
        "value": 100.0,
        "standard_error": pytest.approx(10.0),
        "published_value": 100.0,
        "published_standard_error": pytest.approx(10.0),
        "margin_standard_error": pytest.approx(10.0),
        "margin_published": True,
        "source": "src",
        "vintage": "2018",
        "carry_rule": "none",
        "carry_factor": 1.0,
        "provenance": "survey_demographic",
        "treatment": "fitted",
        "concept_error": None,
        "status": "published",
        "role": "calibrate",
        "reason": "",
    }


def test_every_area_of_every_item_has_a_row_and_withheld_cells_stay_without_a_value() -> None:
    table = cells(
        (TRACT, "A", None, None, "", "suppressed"), (OTHER, "A", 5.0, 1.0), (OTHER, "B", 2.0, 1.0)
    )
    built = build([TOTAL, {"variable": "persons", "domain": "young", "column": "B"}], table)
    assert built.frame.height == 4
    held = built.frame.filter(pl.col("geoid") == TRACT)
    assert held["status"].to_list() == ["suppressed", "suppressed"]
    assert held["value"].null_count() == held["standard_error"].null_count() == 2
    assert not held["margin_published"].any()
    assert all("withheld" in reason for reason in held["reason"])
    assert {(note.code, note.count) for note in built.notes} == {("suppressed", 1), ("no_row", 1)}


def test_controlled_cells_are_exact_and_zero_counts_keep_their_margin() -> None:
    frame = build(
        [TOTAL], cells((TRACT, "A", 7.0, None, "", "controlled"), (OTHER, "A", 0.0, 12.0))
    ).frame
    assert frame["standard_error"].to_list() == [0.0, pytest.approx(12 / 1.645)]


def test_a_value_without_a_margin_is_kept_with_unknown_error_and_counted() -> None:
    built = build([TOTAL], cells((TRACT, "A", 7.0, None)))
    row = only(built)
    assert (row["value"], row["standard_error"], row["margin_published"]) == (7.0, None, False)
    assert row["margin_standard_error"] is None
    assert [(n.code, n.count) for n in built.notes] == [("no_margin", 1)]


def test_an_error_by_rule_is_no_published_margin() -> None:
    row = only(
        build(
            [TOTAL],
            cells((TRACT, "A", 100.0, None)),
            standard_error={"rule": "relative", "share": 0.1, "floor": 1.0, "why": "a test"},
        )
    )
    assert (
        row["published_standard_error"],
        row["margin_standard_error"],
        row["margin_published"],
    ) == (10.0, None, False)


def test_controlled_margins_stay_zero_in_another_year() -> None:
    carry = {"rule": "cpi", "relative_error": 0.1, "why": "a test"}
    row = only(
        build(
            [TOTAL],
            cells((TRACT, "A", 100.0, None, "", "controlled")),
            target_year=2022,
            carry=carry,
        )
    )
    assert (row["margin_standard_error"], row["published_standard_error"]) == (
        0.0,
        pytest.approx(11.0),
    )


def test_sums_and_differences_propagate_margins() -> None:
    row = only(
        build(
            [TOTAL | {"column": None, "sum": {"plus": ["A", "B"], "minus": ["C"]}}],
            cells((TRACT, "A", 10.0, 3.29), (TRACT, "B", 20.0, 3.29), (TRACT, "C", 5.0, 1.645)),
        )
    )
    assert (row["value"], row["status"]) == (25.0, "derived")
    assert row["standard_error"] == pytest.approx(3.0)


def test_a_sum_with_a_withheld_part_is_withheld() -> None:
    row = only(
        build(
            [TOTAL | {"column": None, "sum": {"plus": ["A", "B"]}}],
            cells((TRACT, "A", 10.0, 1.0), (TRACT, "B", None, None, "", "suppressed")),
        )
    )
    assert (row["value"], row["status"]) == (None, "suppressed")


INCOME = {"variable": "usd_income", "domain": "total", "product": {"columns": ["MEAN", "COUNT"]}}


def test_a_mean_times_a_count_is_an_aggregate_by_the_delta_method() -> None:
    row = only(
        build([INCOME], cells((TRACT, "MEAN", 1000.0, 164.5), (TRACT, "COUNT", 50.0, 8.225)))
    )
    assert row["value"] == 50_000.0
    assert row["standard_error"] == pytest.approx(np.hypot(100 * 50, 5 * 1000))


def test_nobody_times_an_unpublished_mean_is_nothing_with_an_error() -> None:
    table = cells(
        (TRACT, "MEAN", None, None, "", "not_available"),
        (TRACT, "COUNT", 0.0, 16.45),
        (OTHER, "MEAN", 2000.0, 1.645),
        (OTHER, "COUNT", 10.0, 0.0),
    )
    frame = build([INCOME], table).frame
    assert frame["value"].to_list() == [0.0, 20_000.0]
    assert frame["standard_error"].to_list() == [pytest.approx(10.0 * 2000.0), pytest.approx(10.0)]


def test_a_percentage_times_a_total() -> None:
    item = TOTAL | {"column": None, "product": {"columns": ["PERCENT", "TOTAL"], "scale": 0.01}}
    assert only(build([item], cells((TRACT, "PERCENT", 12.5, 1.0), (TRACT, "TOTAL", 800.0, 10.0))))[
        "value"
    ] == pytest.approx(100.0)


def test_carrying_multiplies_value_and_error_and_adds_its_own() -> None:
    carry = {"rule": "cpi", "relative_error": 0.1, "why": "a test"}
    row = only(build([TOTAL], cells((TRACT, "A", 100.0, 16.45)), target_year=2022, carry=carry))
    assert (row["carry_rule"], row["carry_factor"]) == ("cpi", pytest.approx(1.1))
    assert row["value"] == row["published_value"] == pytest.approx(110.0)
    assert (
        row["standard_error"]
        == row["published_standard_error"]
        == pytest.approx(np.hypot(11.0, 11.0))
    )
    assert row["margin_standard_error"] == pytest.approx(11.0), (
        "the published margin is scaled with the value, not widened"
    )
    same_year = only(build([TOTAL], cells((TRACT, "A", 100.0, 16.45)), carry=carry))
    assert (same_year["carry_rule"], same_year["value"], same_year["standard_error"]) == (
        "none",
        100.0,
        pytest.approx(10.0),
    )


def test_areas_outside_the_states_are_taken_out_of_the_nation() -> None:
    table = cells(
        ("", "A", 100.0, None, "0"),
        ("OA", "A", 3.0, None, "0"),
        ("PR", "A", 2.0, None, "0"),
        ("44", "A", 10.0, None, "0"),
        ("72", "A", 2.0, None, "0"),
    )
    table = table.with_columns(
        level=pl.when(pl.col("geoid").is_in(["OA", "PR"])).then(pl.lit("other")).otherwise("level")
    )
    rounding = {"rule": "rounding", "unit": 10, "why": "a test"}
    built = build(
        [TOTAL | {"stratum": "0"}],
        table,
        levels=("nation", "state"),
        state=None,
        standard_error=rounding,
        nation_minus=["OA", "PR", "VI"],
        exclude_geoids=["72"],
    )
    assert built.frame.select("geoid", "value").rows() == [("", 95.0), ("44", 10.0)]
    assert not built.frame["margin_published"].any()
    assert [(n.code, n.count) for n in built.notes] == [("no_other_area", 1)]


def test_a_withheld_other_area_stays_in_the_nation_and_is_counted() -> None:
    table = cells(
        ("", "A", 100.0, None), ("PR", "A", None, None, "", "suppressed"), ("OA", "A", 3.0, None)
    )
    built = build([TOTAL], table, levels=("nation",), state=None, nation_minus=["OA", "PR"])
    assert built.frame["value"].to_list() == [97.0]
    assert ("other_area_withheld", 1) in [(n.code, n.count) for n in built.notes]


def test_one_state_or_all() -> None:
    table = cells(("", "A", 3.0, 0.0), ("09", "A", 1.0, 0.0), ("44", "A", 2.0, 0.0))
    levels = ("nation", "state")
    assert build([TOTAL], table, levels=levels, state=None).frame["geoid"].to_list() == [
        "",
        "09",
        "44",
    ]
    assert build([TOTAL], table, levels=levels, state="44").frame["geoid"].to_list() == ["", "44"]


def test_renamed_areas_get_their_present_code() -> None:
    table = cells(("46113", "A", 3.0, 0.0), ("46011", "A", 1.0, 0.0))
    built = build(
        [TOTAL],
        table,
        levels=("county",),
        state="46",
        recode_geoids={"46113": "46102", "02270": "02158"},
    )
    assert built.frame.select("geoid", "value").rows() == [("46011", 1.0), ("46102", 3.0)]
    assert [(n.code, n.count) for n in built.notes] == [("recoded", 1)]
    with pytest.raises(TargetError, match="46113 and its present code 46102 both occur"):
        build(
            [TOTAL],
            pl.concat([table, cells(("46102", "A", 9.0, 0.0))]),
            levels=("county",),
            state="46",
            recode_geoids={"46113": "46102"},
        )


@pytest.mark.parametrize(
    ("item", "more", "role", "reason"),
    [
        pytest.param(
            {"validation_only": "children are missing"},
            {},
            "validation",
            "children are missing",
            id="always",
        ),
        pytest.param(
            {"validation_only_when_carried": "too old"},
            {"target_year": 2022},
            "validation",
            "too old",
            id="carried",
        ),
        pytest.param(
            {"validation_only_when_carried": "too old"}, {}, "calibrate", "", id="not-carried"
        ),
        pytest.param(
            {"records_from": {"year": 2020, "reason": "recoded"}},
            {},
            "validation",
            "recoded (records are of 2018)",
            id="old-records",
        ),
        pytest.param(
            {"records_from": {"year": 2020, "reason": "recoded"}},
            {"records": "2022"},
            "calibrate",
            "",
            id="new-records",
        ),
        pytest.param(
            {"variable": "households", "domain": "broadband"},
            {},
            "dropped",
            "nobody asks",
            id="inexpressible",
        ),
    ],
)
def test_roles_follow_the_spec(item: dict, more: dict, role: str, reason: str) -> None:
    row = only(build([TOTAL | item], cells((TRACT, "A", 1.0, 1.0)), **more))
    assert (row["role"], row["reason"]) == (role, reason)
    assert row["value"] == 1.0


def test_row_order_of_the_publication_does_not_matter() -> None:
    table = cells(
        (TRACT, "A", 1.0, 1.0),
        (OTHER, "A", 2.0, 1.0),
        (TRACT, "B", 3.0, 1.0),
        (OTHER, "B", 4.0, 1.0),
    )
    items = [TOTAL, {"variable": "persons", "domain": "young", "column": "B"}]
    assert_frame_equal(
        build(items, table).frame, build(items[::-1], table.reverse()).frame, check_exact=True
    )


def test_faults_name_file_column_and_remedy() -> None:
    with pytest.raises(TargetError, match=r"src 2018 has no column Z.*targets/one\.yaml"):
        build([TOTAL | {"column": "Z"}], cells((TRACT, "A", 1.0, 1.0)))
    with pytest.raises(TargetError, match=r"has no column A in class 3"):
        build([TOTAL | {"stratum": "3"}], cells((TRACT, "A", 1.0, 1.0)))
    with pytest.raises(TargetError, match=r"no tract rows for state 44"):
        build([TOTAL], cells(("09001000100", "A", 1.0, 1.0)))


def test_a_table_that_was_not_read_is_named() -> None:
    catalog = load_catalog()
    with pytest.raises(TargetError, match=r"pep_states need pep_counties 2024, which was not read"):
        build_targets(catalog, catalog.profile("sample"), {}, ["state"])
