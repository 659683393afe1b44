"""Tract tables of the ACS: API JSON of profiles and table-based files."""

from __future__ import annotations

import json

import pytest

from pipeline.errors import SourceFileError, SourceLayoutError, SourceValueError
from pipeline.specs.sources import load_source

DAT = "acs_tables/table_based/acsdt5y2022-b19001.dat"
GEO = "acs_tables/table_based/Geos20225YR.txt"
POP = "acs_tables/ri_tracts/tracts_acs2022_pophousing_retrieved_data.json"
SOC = "acs_tables/ri_tracts/tracts_acs2022_socialecon_retrieved_data.json"


def profile(numbering: int = 2022, tract: str = "44001030100", **cells: str) -> dict[str, str]:
    total = "DP05_0072" if numbering == 2022 else "DP05_0070"
    pop = (
        {f"DP05_{n:04d}": "100" for n in (1, 2, 3, 19, 21, 24)}
        | {"DP05_0070": "7", "DP05_0072": "9"}
        | {total: "100"}
    )
    pop |= {f"DP04_{n:04d}": "40" for n in (2, 46, 47)} | cells
    social = {"DP02_0001": "40", "DP03_0004": "50", "DP03_0051": "40", "DP03_0063": "70000"}

    def answer(values: dict[str, str]) -> str:
        header = (
            ["GEO_ID", "NAME"]
            + [name + part for name in values for part in ("E", "M", "PE", "PM")]
            + ["state", "county", "tract"]
        )
        row = [f"1400000US{tract}", "Census Tract 301; SYNTHETIC County"] + [
            x for v in values.values() for x in (v, "5", "50.0", "1.0")
        ]
        return json.dumps([header, [*row, tract[:2], tract[2:5], tract[5:]]])

    return {POP: answer(pop), SOC: answer(social)}


def test_json_pairs_estimate_and_margin_and_keeps_percents_apart(read, cell):
    table = read("acs5_profile_tracts", "2022", profile(), ["RI"])
    row = cell(table.frame, "44001030100", "DP05_0001")
    assert (row["level"], row["estimate"], row["margin_of_error"], row["row"]) == (
        "tract",
        100.0,
        5.0,
        2,
    )
    percents = {c for c in table.frame["column"] if c.endswith("P")}
    assert {"DP05_0001P", "DP05_0002P"} <= percents, "read for checks"


def test_percent_columns_are_read_when_declared(read, cell):
    spec = load_source("acs5_profile_tracts")
    percent = spec.columns[0].model_copy(
        update={"name": "DP05_0002P", "unit": "percent", "type": "rate"}
    )
    table = read(
        spec.model_copy(update={"columns": (*spec.columns, percent)}), "2022", profile(), ["RI"]
    )
    assert cell(table.frame, "44001030100", "DP05_0002P")["estimate"] == 50.0


def test_the_numbering_of_another_year_is_recognised(read):
    with pytest.raises(
        SourceLayoutError,
        match=r"looks like vintage 2021, not 2022: DP05_0001 and DP05_0072 differ",
    ):
        read("acs5_profile_tracts", "2022", profile(numbering=2021), ["RI"])


def test_a_tract_of_another_state_is_an_error(read):
    with pytest.raises(
        SourceValueError,
        match=r"file of RI holds 1 area\(s\) of another state, the first 10001040100",
    ):
        read("acs5_profile_tracts", "2022", profile(tract="10001040100"), ["RI"])


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        pytest.param(
            '[["GEO_ID","NAME"],["1400000US44', SourceFileError, "not JSON", id="cut short"
        ),
        pytest.param(
            "error: unknown variable 'DP99'",
            SourceFileError,
            "begins with .*unknown variable",
            id="error message",
        ),
        pytest.param(
            '{"error": "no key"}', SourceLayoutError, "object with the keys error", id="object"
        ),
        pytest.param("[]", SourceLayoutError, "list of 0", id="empty list"),
        pytest.param(
            '[["GEO_ID","NAME"],["1400000US44001030100"]]',
            SourceLayoutError,
            "List 2 has 1 values",
            id="ragged",
        ),
    ],
)
def test_broken_answers_are_refused(read, content, error, words):
    with pytest.raises(error, match=words):
        read("acs5_profile_tracts", "2022", profile() | {POP: content}, ["RI"])


# ------------------------------------------------------------------------------------------------
# table-based .dat


def dat(rows: list[tuple[str, str, str]]) -> str:
    return (
        "\n".join(
            ["GEO_ID|B19001_E001|B19001_M001|B19001_E002|B19001_M002"]
            + [f"{g}|{e}|{m}|1|2" for g, e, m in rows]
        )
        + "\n"
    )


def test_table_based_files_are_cut_to_the_states_asked_for(read, cell):
    rows = [
        ("0100000US", "9", "1"),
        ("1400000US44001030100", "40", "5"),
        ("1400000US10001040100", "30", "-555555555"),
        ("1400000US50001960100", "8", "1"),
    ]
    geography = "FILEID|GEO_ID|NAME\nACSSF|1400000US44001030100|Census Tract 301, SYNTHETIC\n"
    table = read("acs5_detailed_tracts", "2022", {DAT: dat(rows), GEO: geography}, ["RI", "DE"])
    assert set(table.frame["geoid"]) == {"44001030100", "10001040100"}
    assert cell(table.frame, "44001030100", "B19001_001")["name"] == "Census Tract 301, SYNTHETIC"
    assert cell(table.frame, "10001040100", "B19001_001")["status"] == "controlled"
    assert cell(table.frame, "10001040100", "B19001_001")["row"] == 4
    assert {n.code: n.count for n in table.notes if n.code.startswith("rows")} == {
        "rows_of_other_levels": 1,
        "rows_of_other_states": 1,
    }


def test_names_are_null_without_the_geography_file(read, cell):
    table = read(
        "acs5_detailed_tracts", "2022", {DAT: dat([("1400000US44001030100", "40", "5")])}, ["RI"]
    )
    assert cell(table.frame, "44001030100", "B19001_002")["name"] is None


def test_a_file_without_the_state_is_an_error(read):
    with pytest.raises(SourceValueError, match=r"No row is left .* in DE"):
        read(
            "acs5_detailed_tracts",
            "2022",
            {DAT: dat([("1400000US44001030100", "40", "5")])},
            ["DE"],
        )
