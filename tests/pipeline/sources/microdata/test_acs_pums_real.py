"""Real PUMS files: totals that the Bureau published, five-year serials, a housing file."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import SourceLayoutError
from pipeline.sources.files import read_member, read_raw
from pipeline.sources.microdata.acs_pums import read_pums
from pipeline.sources.microdata.acs_pums_codes import HOUSING_COLUMNS
from pipeline.sources.microdata.columns import SurveyColumns
from tests.pipeline.sources.microdata.pums_rows import counts


@pytest.mark.parametrize(
    ("postal", "fips", "records", "population", "odd"),
    [
        ("de", "10", 9_123, 967_171, 0),
        ("ri", "44", 10_489, 1_057_315, 0),
        ("vt", "50", 6_436, 626_299, 0),
        ("wy", "56", 5_740, 577_737, 0),
        ("nh", "33", 13_780, 1_356_410, 2),
    ],
)
def test_real_state_files_add_up_to_the_published_population(
    realdata: Path, postal: str, fips: str, records: int, population: int, odd: int
) -> None:
    data = read_pums(realdata / f"acs_pums/2018_1yr/csv_p{postal}.zip", year=2018, state_fips=fips)
    assert data.persons.height == records
    assert data.persons["design_weight"].sum() == population
    # Two New Hampshire records really do not add up; the note counts them.
    assert counts(data.notes).get("income_does_not_add_up", 0) == odd


def test_rhode_island_households(realdata: Path) -> None:
    data = read_pums(realdata / "acs_pums/2018_1yr/csv_pri.zip", year=2018, state_fips="44")
    occupied = data.households.filter(~pl.col("is_group_quarters"))
    assert (data.households.height, occupied.height, occupied["design_weight"].sum()) == (
        4_989,
        4_257,
        406_587,
    )
    # B19056 (31,864) and B19053 (33,558 +- 2,663), ACS 2018 1-year.
    ssi = data.persons.filter(~pl.col("is_group_quarters") & (pl.col("ssi") > 0))["household_id"]
    assert (
        occupied.filter(pl.col("household_id").is_in(ssi.implode()))["design_weight"].sum()
        == 31_861
    )
    assert sorted(data.persons["puma"].unique()) == [
        "4400101",
        "4400102",
        "4400103",
        "4400104",
        "4400201",
        "4400300",
        "4400400",
    ]


def test_the_five_year_sample_with_numeric_serials_and_five_factors(realdata: Path) -> None:
    folder = realdata / "acs_pums/ri_2012_2016_5yr_sample"
    data = read_pums(
        folder / "ss16pri_short.csv",
        folder / "ss16hri_short.csv",
        year=2016,
        period=5,
        state_fips="44",
    )
    assert (data.persons.height, data.households.height, counts(data.notes)["vacant"]) == (
        396,
        189,
        11,
    )
    person = data.persons.filter(pl.col("household_id") == "acs2016-2012000013130").row(
        0, named=True
    )
    assert (
        person["social_security"] == pytest.approx(7800 * 1.056030) and person["puma"] == "4400104"
    )
    with pytest.raises(SourceLayoutError, match="another year"):
        read_pums(folder / "ss16pri_short.csv", year=2016, period=1, state_fips="44")


def test_a_real_housing_file_has_the_columns_and_the_published_number_of_units(
    realdata: Path,
) -> None:
    raw = read_member(read_raw(realdata / "acs_pums/2018_1yr/csv_hak.zip"), "psam_h02.csv")
    columns = SurveyColumns.read(raw, HOUSING_COLUMNS)
    assert columns.frame.height == 3_713
    assert columns.number("WGTP", low=0, nullable=False).sum() == 318_352
    assert set(columns.integer("TYPE", low=1, high=3, nullable=False)) == {1, 2, 3}


def test_alaska_housing_is_no_person_file(realdata: Path) -> None:
    with pytest.raises(SourceLayoutError, match=r"psam_h02\.csv"):
        read_pums(realdata / "acs_pums/2018_1yr/csv_hak.zip", year=2018, state_fips="02")
