"""Zeros that hide a count, and zeros that are true: by hand, and in the publisher's own files."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from pydantic import ValidationError

from pipeline.sources.registry import read_source
from pipeline.specs.sources import WithheldZeros, load_source
from pipeline.specs.states import BY_FIPS

HEAD = "STATEFIPS,STATE,COUNTYFIPS,COUNTYNAME,AGI_STUB"
COLUMNS = (
    "N1",
    "MARS4",
    "N2",
    "A00100",
    "N00200",
    "A00200",
    "N02300",
    "A02300",
    "N00400",
    "N59661",
)
STATES = sorted(f for f, s in BY_FIPS.items() if int(f) <= 56)


def county_file(counties: dict[str, dict[str, str]], states: dict[str, dict[str, str]]) -> str:
    """The county file; every cell not named is 1,000. Keys are GEOIDs."""
    lines = [",".join([HEAD, *COLUMNS])]
    for code, cells in {**states, **counties}.items():
        figures = (cells.get(c, "1000") for c in COLUMNS)
        area = [code[:2], "XX", code[2:] or "000", "SYNTHETIC", "0"]
        lines.append(",".join([*area, *figures]))
    return "\n".join(lines) + "\n"


def state_file(rows: dict[tuple[str, str], dict[str, str]]) -> str:
    lines = [",".join(["STATE,AGI_STUB", *COLUMNS])]
    for (state, stub), cells in rows.items():
        lines.append(",".join([state, stub, *(cells.get(c, "1000") for c in COLUMNS)]))
    return "\n".join(lines) + "\n"


@pytest.fixture
def county_cells(read):
    """Status and estimate of each column of county 44001 with these cells."""

    def call(cells: dict[str, str], states: dict[str, dict[str, str]] | None = None):
        text = county_file({"44001": cells}, states or {"44": {}})
        table = read("irs_county", "2022", {"irs/22incyallnoagi.csv": text})
        rows = table.frame.filter(pl.col("geoid") == "44001")
        found = {r["column"]: (r["status"], r["estimate"]) for r in rows.iter_rows(named=True)}
        return found, table.notes

    return call


def test_a_count_and_its_amount_of_zero_are_withheld_in_a_county(county_cells) -> None:
    found, notes = county_cells({"N02300": "0", "A02300": "0.0000", "MARS4": "0.0000"})
    assert {found[c] for c in ("N02300", "A02300", "MARS4")} == {("suppressed", None)}
    assert found["N00200"] == ("published", 1000.0)
    assert [(n.code, n.count) for n in notes] == [("suppressed", 3)]
    assert "fewer than 20" in notes[0].detail
    assert "22incyallnoagi.csv" in notes[0].detail


@pytest.mark.parametrize(
    ("count", "amount", "expected"),
    [
        pytest.param("20", "0", ("published", 0.0), id="less than half a thousand dollars"),
        pytest.param("0", "3", ("published", 3000.0), id="an amount that is printed"),
        pytest.param("**", "0", ("suppressed", None), id="a count that is marked"),
        pytest.param("0", "0", ("suppressed", None), id="both zero"),
    ],
)
def test_an_amount_is_judged_with_its_count(county_cells, count, amount, expected) -> None:
    found, _ = county_cells({"N02300": count, "A02300": amount})
    assert found["A02300"] == expected


def test_adjusted_gross_income_is_judged_with_the_returns(county_cells) -> None:
    found, _ = county_cells({"N1": "0", "A00100": "0"})
    assert found["A00100"] == ("suppressed", None)
    found, _ = county_cells({"N1": "40", "A00100": "0"})
    assert found["A00100"] == ("published", 0.0)


def test_a_zero_of_the_state_row_is_not_judged(read) -> None:
    text = county_file({"44001": {}}, {"44": {"N02300": "0", "A02300": "0"}})
    frame = read("irs_county", "2022", {"irs/22incyallnoagi.csv": text}).frame
    cells = frame.filter((pl.col("geoid") == "44") & (pl.col("estimate") == 0))
    assert cells["column"].sort().to_list() == ["A02300", "N02300"]


@pytest.mark.parametrize(
    ("states", "status"),
    [
        pytest.param(STATES, "published", id="all states and DC have none"),
        pytest.param(STATES[1:], "suppressed", id="a state is missing"),
        pytest.param(["44"], "suppressed", id="a file of one state proves nothing"),
    ],
)
def test_a_zero_is_true_where_the_whole_nation_has_none(county_cells, states, status) -> None:
    none = {"N02300": "0", "A02300": "0"}
    found, notes = county_cells(none, dict.fromkeys(states, none))
    assert found["N02300"][0] == found["A02300"][0] == status
    code = "true_zero" if status == "published" else "suppressed"
    assert [(n.code, n.count) for n in notes] == [(code, 2)]


def test_one_state_with_the_item_makes_every_zero_doubtful(county_cells) -> None:
    none = {"N02300": "0", "A02300": "0"}
    found, _ = county_cells(none, dict.fromkeys(STATES, none) | {"06": {}})
    assert found["N02300"] == found["A02300"] == ("suppressed", None)


def test_a_class_of_historic_table_2_is_withheld_unless_the_nation_has_none(read, cell) -> None:
    zero = {"N00200": "0", "A00200": "0"}
    rows = {
        ("US", "9"): zero,
        ("RI", "9"): zero,
        ("US", "10"): {},
        ("RI", "10"): zero,
        ("PR", "10"): zero,
    }
    table = read("irs_historic_table_2", "2022", {"irs/22in55cmcsv.csv": state_file(rows)})
    for column in ("N00200", "A00200"):
        assert cell(table.frame, "", column, "9")["estimate"] == 0
        assert cell(table.frame, "44", column, "9")["status"] == "published"
        assert cell(table.frame, "44", column, "10")["status"] == "suppressed"
        assert cell(table.frame, "PR", column, "10")["estimate"] is None
    assert {n.code: n.count for n in table.notes} == {"suppressed": 4, "true_zero": 2}


def test_row_order_changes_nothing(read) -> None:
    counties = {"44001": {"N02300": "0", "A02300": "0"}, "44003": {}}
    there = county_file(counties, {"44": {}})
    head, *lines = there.strip().split("\n")
    back = "\n".join([head, *lines[::-1]]) + "\n"
    one, two = (
        read("irs_county", "2022", {"irs/22incyallnoagi.csv": text}).frame for text in (there, back)
    )
    columns = ["geoid", "column", "estimate", "status"]
    assert one.select(columns).sort(columns).equals(two.select(columns).sort(columns))


def test_a_source_without_the_rule_keeps_its_zeros(read, cell) -> None:
    spec = load_source("irs_county").model_copy(update={"withheld_zeros": None})
    text = county_file({"44001": {"N02300": "0"}}, {"44": {}})
    table = read(spec, "2022", {"irs/22incyallnoagi.csv": text})
    assert cell(table.frame, "44001", "N02300")["status"] == "published"


def test_the_rule_must_say_why() -> None:
    with pytest.raises(ValidationError, match="why"):
        WithheldZeros(levels=("county",), below=20, whole="state", why="")


# ------------------------------------------------------------------------------------------------
# real files


def test_no_county_of_2012_keeps_a_zero_of_returns(realdata: Path) -> None:
    frame = read_source(load_source("irs_county"), "2012", realdata, None).frame
    counts = frame.filter(
        (pl.col("level") == "county") & pl.col("column").str.contains(r"^(N\d+|MARS\d)$")
    )
    held = counts.filter(pl.col("status") == "suppressed")
    assert held.height == 2330
    assert counts["estimate"].min() == 20
    pairs = frame.filter(pl.col("column").str.contains(r"^[NA]\d{5}$")).with_columns(
        item=pl.col("column").str.tail(5), kind=pl.col("column").str.head(1)
    )
    wide = pairs.pivot("kind", index=["geoid", "item"], values="status").drop_nulls()
    assert wide.filter(pl.col("N") != pl.col("A")).is_empty()


def test_what_no_state_may_have_stays_zero_in_historic_table_2(realdata: Path) -> None:
    frame = read_source(load_source("irs_historic_table_2"), "2022", realdata, None).frame
    rhode_island = frame.filter(pl.col("geoid") == "44")
    # Nobody with a million dollars has an earned income credit; some have unemployment benefits.
    credit = rhode_island.filter((pl.col("column") == "N59660") & (pl.col("stratum") == "10"))
    assert credit["estimate"].to_list() == [0.0]
    none = frame.filter((pl.col("estimate") == 0) & ~pl.col("column").str.starts_with("A"))
    zeros, nation = none.filter(level="state"), none.filter(level="nation")
    assert zeros.join(nation, on=["column", "stratum"], how="anti").is_empty()
    counted = frame.filter(pl.col("column").str.contains(r"^N\d{5}$"))["status"] == "suppressed"
    assert counted.sum() > 500
