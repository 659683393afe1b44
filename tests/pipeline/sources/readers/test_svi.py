"""The Social Vulnerability Index under CDC's own file names, by county and tract."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import SourceLayoutError, SourceValueError
from pipeline.sources.base import resolve_files
from pipeline.sources.registry import read_source
from pipeline.specs.sources import load_source

OLD = "AFFGEOID,ST,FIPS,LOCATION,E_TOTPOP,M_TOTPOP,E_HH,M_HH,E_PCI,M_PCI,E_POV,M_POV\n"
NEW = "ST,STCNTY,FIPS,LOCATION,E_TOTPOP,M_TOTPOP,E_HH,M_HH,E_POV150,M_POV150,E_HBURD,M_HBURD\n"
COUNTIES = {
    "2014": (314_107_084, 3_142),
    "2018": (322_903_030, 3_142),
    "2020": (326_569_308, 3_143),
    "2022": (331_097_593, 3_144),
}
TRACTS = [
    ("AK", "2022", 734_821, 177),
    ("DE", "2022", 993_635, 259),
    ("GA", "2022", 10_722_325, 2_791),
    ("NE", "2022", 1_958_939, 553),
    ("NY", "2022", 19_994_379, 5_394),
    ("SD", "2022", 890_342, 242),
    ("VT", "2022", 643_816, 193),
    ("WY", "2022", 577_929, 160),
]


def _total(frame: pl.DataFrame, column: str = "TOTPOP") -> float:
    return float(frame.filter(pl.col("column") == column)["estimate"].sum())


def test_counties_of_2014_with_another_code_beside_and_decimals(read, cell):
    row = "0500000US44001,44,44001,SYNTHETIC,500.0,0.0,200.0,12.5,24644.0,780.0,30.0,9.0\n"
    path = "acs_tables/county_us/SVI_2014_US_county.csv"
    frame = read("svi_counties", "2014", {path: OLD + row}).frame
    assert cell(frame, "44001", "HH")["estimate"] == 200.0
    assert cell(frame, "44001", "TOTPOP")["status"] == "controlled"


def test_tracts_of_a_state_of_two_words_under_cdcs_name(read, cell):
    rows = "44,44001,44001030100,Census Tract 301; SYNTHETIC,90,9,40,4,12,-999,7,3\n"
    path = "acs_tables/svi_tracts_2022/RhodeIsland.csv"
    frame = read("svi_tracts", "2022", {path: NEW + rows}, ["RI"]).frame
    row = cell(frame, "44001030100", "TOTPOP")
    assert (row["level"], row["estimate"], row["margin_of_error"]) == ("tract", 90.0, 9.0)
    assert cell(frame, "44001030100", "POV150")["margin_of_error"] is None


def test_tract_codes_that_lost_a_zero_are_mended(read, cell):
    rows = "1,1001,1001020100,Census Tract 201; SYNTHETIC,90,9,40,4,12,3,7,3\n"
    path = "acs_tables/svi_tracts_2022/Alabama.csv"
    assert cell(read("svi_tracts", "2022", {path: NEW + rows}, ["AL"]).frame, "01001020100", "HH")


@pytest.mark.parametrize("row", ["44001,SYNTHETIC", "10001040100,Census Tract 401; SYNTHETIC"])
def test_counties_or_another_state_are_no_tracts_of_this_one(read, row):
    path = "acs_tables/svi_tracts_2022/RhodeIsland.csv"
    with pytest.raises(SourceValueError, match=r"No row is left|of another state"):
        read("svi_tracts", "2022", {path: f"{NEW}44,44001,{row},90,9,40,4,12,3,7,3\n"}, ["RI"])


def test_tracts_of_2018_are_not_taken_for_2022(read):
    rows = "14000,44,44001030100,SYNTHETIC,90,9,40,4,12,3,7,3\n"
    path = "acs_tables/svi_tracts_2022/RhodeIsland.csv"
    with pytest.raises(SourceLayoutError, match="looks like vintage 2018"):
        read("svi_tracts", "2022", {path: OLD + rows}, ["RI"])


def test_files_of_states_stand_in_for_that_of_the_nation(put):
    folder = "acs_tables/svi_counties_2022_state"
    data = put({f"{folder}/Montana_county.csv": "x", f"{folder}/Idaho_County.csv": "x"})
    files = resolve_files(load_source("svi_counties"), "2022", data)
    assert [(file.state.postal, file.exists) for file in files if file.state] == [
        ("MT", True),
        ("ID", True),
    ]


@pytest.mark.parametrize("vintage", COUNTIES)
def test_the_publishers_counties_add_up_to_the_nation(realdata, vintage):
    frame = read_source(load_source("svi_counties"), vintage, realdata).frame
    assert (_total(frame), frame["geoid"].n_unique()) == COUNTIES[vintage]


@pytest.mark.parametrize(("postal", "vintage", "population", "tracts"), TRACTS)
def test_the_publishers_tracts_add_up_to_the_state(realdata, postal, vintage, population, tracts):
    spec = load_source("svi_tracts")
    if not resolve_files(spec, vintage, realdata, [postal])[0].exists:
        pytest.skip(f"no SVI {vintage} of the tracts of {postal}")
    frame = read_source(spec, vintage, realdata, [postal]).frame
    assert (_total(frame), frame["geoid"].n_unique()) == (population, tracts)


def test_the_publishers_tracts_of_georgia_in_2018(realdata):
    frame = read_source(load_source("svi_tracts"), "2018", realdata, ["GA"]).frame
    assert frame["geoid"].n_unique() == 1_966
    assert _total(frame, "POV") > 0
