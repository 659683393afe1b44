"""ACS and census tables as the Bureau published them: figures, and vintages told apart."""

from __future__ import annotations

import json

import polars as pl
import pytest

from pipeline.errors import SourceLayoutError, SourceValueError
from pipeline.sources.registry import read_source
from pipeline.specs.sources import load_source

POP = "acs_tables/ri_tracts/tracts_acs2022_pophousing_retrieved_data.json"
SOC = "acs_tables/ri_tracts/tracts_acs2022_socialecon_retrieved_data.json"


def test_real_tracts_of_rhode_island(realdata):
    frame = read_source(load_source("acs5_profile_tracts"), "2022", realdata, ["RI"]).frame
    population = frame.filter(pl.col("column") == "DP05_0001")
    assert population.height == 250
    assert population["estimate"].sum() == 1_094_250
    counties = (
        population.group_by(pl.col("geoid").str.slice(0, 5))
        .agg(pl.col("estimate").sum())
        .sort("geoid")
    )
    assert counties["estimate"].to_list() == [50_658, 170_168, 85_442, 657_984, 129_998]
    assert frame.filter(pl.col("column") == "DP02_0001")["estimate"].sum() == 432_219
    assert set(frame["status"]) == {"published", "not_available"}
    assert frame["estimate"].min() == 0


def test_real_tract_households_equal_the_counties(realdata):
    tracts = read_source(load_source("acs5_profile_tracts"), "2022", realdata, ["RI"]).frame.filter(
        pl.col("column") == "DP02_0001"
    )
    counties = read_source(load_source("acs5_s1901_counties"), "2022", realdata).frame.filter(
        pl.col("column") == "S1901_C01_001"
    )
    summed = dict(
        tracts.group_by(pl.col("geoid").str.slice(0, 5)).agg(pl.col("estimate").sum()).iter_rows()
    )
    assert summed == dict(
        counties.filter(pl.col("geoid").str.starts_with("44"))
        .select("geoid", "estimate")
        .iter_rows()
    )


@pytest.mark.parametrize(
    ("vintage", "counties"), [("2012", 3221), ("2018", 3220), ("2021", 3221), ("2022", 3222)]
)
def test_real_counties_of_every_vintage(realdata, vintage, counties):
    frame = read_source(load_source("acs5_s1901_counties"), vintage, realdata).frame
    assert frame["geoid"].n_unique() == counties
    assert frame["column"].n_unique() == 13


def test_real_county_files_are_told_apart_by_their_areas(realdata, read):
    for asked, held in (
        ("2022", "2021"),
        ("2021", "2022"),
        ("2018", "2012"),
        ("2012", "2018"),
        ("2018", "2021"),
    ):
        data = (realdata / f"acs_tables/county_us/ACSST5Y{held}.S1901-Data.csv").read_bytes()
        with pytest.raises(SourceLayoutError, match=f"looks like vintage {held}, not {asked}"):
            read(
                "acs5_s1901_counties",
                asked,
                {f"acs_tables/county_us/ACSST5Y{asked}.S1901-Data.csv": data},
            )


def test_real_profile_is_not_taken_for_the_year_before(realdata, read):
    files = {f.replace("2022", "2021"): (realdata / f).read_bytes() for f in (POP, SOC)}
    with pytest.raises(
        SourceLayoutError,
        match="looks like vintage 2022, not 2021: DP05_0001 and DP05_0072 agree in all 250 areas",
    ):
        read("acs5_profile_tracts", "2021", files, ["RI"])


def test_real_state_tables(realdata, cell):
    frame = read_source(load_source("acs1_detailed"), "2018", realdata).frame
    assert cell(frame, "44", "B01001_001")["estimate"] == 1_057_315
    assert cell(frame, "44", "B01001_001")["status"] == "controlled"
    assert cell(frame, "44", "B19001_001")["estimate"] == 406_573
    assert cell(frame, "", "B19001_001")["estimate"] == 121_520_180
    assert frame["column"].n_unique() == 194
    assert frame.filter(pl.col("level") == "state")["geoid"].n_unique() == 52
    subject = read_source(load_source("acs1_s1901"), "2018", realdata).frame
    assert cell(subject, "44", "S1901_C01_001")["estimate"] == 406_573


def test_real_census_counts(realdata):
    dp = read_source(load_source("census2020_dp_tracts"), "2020", realdata, ["RI"]).frame
    pl_ = read_source(load_source("census2020_pl_tracts"), "2020", realdata, ["RI"]).frame
    assert dp.filter(pl.col("column") == "DP1_0001C")["estimate"].sum() == 1_097_379
    assert pl_.filter(pl.col("column") == "P1_001N")["estimate"].sum() == 1_097_379
    assert dp["margin_of_error"].null_count() == dp.height


def test_one_faulty_total_is_not_taken_for_another_year(read, realdata, tmp_path):
    """The traits of a vintage are judged by most areas: a negative count in one tract is reported
    as that.
    """
    spec = load_source("acs5_profile_tracts")
    folder = tmp_path / "acs_tables" / "ri_tracts"
    folder.mkdir(parents=True)
    for name in ("pophousing", "socialecon"):
        file = f"acs_tables/ri_tracts/tracts_acs2022_{name}_retrieved_data.json"
        rows = json.loads((realdata / file).read_text())
        if name == "pophousing":
            rows[2][rows[0].index("DP05_0001E")] = "-12"
        (tmp_path / file).write_text(json.dumps(rows))
    with pytest.raises(
        SourceValueError,
        match=r"negative; the first is '-12'.*column DP05_0001 \(estimate\), row 3",
    ):
        read_source(spec, "2022", tmp_path, ["RI"])
