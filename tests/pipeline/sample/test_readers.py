"""The product's own readers read every file of the sample, with the profile's specs, and find what
was put in.
"""

import polars as pl
import pytest

from pipeline.sample.generate import read_truth
from pipeline.sources.microdata.acs_pums import read_pums
from pipeline.sources.microdata.cps_asec import read_asec
from pipeline.sources.registry import read_source
from pipeline.specs.catalog import load_catalog

SOURCES = [
    ("acs5_profile_tracts", "2022", "tract", 46),
    ("census2020_dp_tracts", "2020", "tract", 46),
    ("census2020_pl_tracts", "2020", "tract", 46),
    ("acs5_detailed_tracts", "2022", "tract", 46),
    ("acs5_s1901_counties", "2022", "county", 8),
    ("acs1_detailed", "2022", "state", 2),
    ("acs1_s1901", "2022", "nation", 1),
    ("irs_historic_table_2", "2022", "state", 2),
    ("irs_county", "2022", "county", 8),
    ("ssa_ssi_counties", "2022", "county", 8),
    ("ssa_oasdi_counties", "2022", "county", 8),
    ("pep_counties", "2024", "county", 8),
]


@pytest.fixture(scope="module")
def catalog():
    return load_catalog()


@pytest.mark.parametrize(
    ("source", "vintage", "level", "areas"), SOURCES, ids=[s[0] for s in SOURCES]
)
def test_every_publication_is_read_at_its_levels(folder, catalog, source, vintage, level, areas):
    table = read_source(catalog.sources[source], vintage, folder, ["RI", "DE"]).frame
    assert table.filter(pl.col("level") == level)["geoid"].n_unique() == areas


def test_the_sample_profile_asks_for_no_source_that_is_not_made(catalog):
    made = {name for name, *_ in SOURCES} | {"acs_pums_1yr", "cps_asec", "tract_puma"}
    asked = {
        (source, vintage)
        for source, vintages in catalog.profile("sample").sources.items()
        for vintage in vintages
    }
    assert {source for source, _ in asked} <= made
    known = {name: vintage for name, vintage, *_ in SOURCES} | {
        "acs_pums_1yr": "2022",
        "cps_asec": "2023",
        "tract_puma": "2020",
    }
    assert all(known[source] == vintage for source, vintage in asked)


def test_suppressed_controlled_and_uncomputable_cells_arrive_as_such(folder, catalog):
    def statuses(source: str, vintage: str) -> dict[str, int]:
        return dict(
            read_source(catalog.sources[source], vintage, folder, ["RI", "DE"])
            .frame["status"]
            .value_counts()
            .iter_rows()
        )

    assert statuses("ssa_ssi_counties", "2022")["suppressed"] >= 2
    assert statuses("acs5_profile_tracts", "2022")["controlled"] >= 1
    assert statuses("acs5_profile_tracts", "2022")["not_available"] >= 10
    assert statuses("acs1_detailed", "2022")["controlled"] >= 3


@pytest.mark.parametrize(("postal", "fips"), [("ri", "44"), ("de", "10")])
def test_the_microdata_readers_return_the_vocabulary_of_the_truth(folder, postal, fips):
    base = folder / "acs_pums/2022_1yr"
    read = read_pums(
        base / f"csv_p{postal}.zip", base / f"csv_h{postal}.zip", year=2022, state_fips=fips
    )
    truth = read_truth(folder)
    persons, true = read.persons, truth.persons.filter(pl.col("state_fips") == fips)
    assert read.replicate_weights is not None
    assert read.replicate_weights.width == 82
    assert (read.replicate_weights["person_number"] == 0).sum() == read.households.height
    assert set(persons["puma"]) == set(true["puma"])
    for column in (
        "sex",
        "relationship",
        "school",
        "employment",
        "commute",
        "moved",
        "marital_status",
    ):
        assert set(persons[column]) == set(true[column]), column
    for column, tolerance in (("wages", 0.15), ("social_security", 0.15), ("total_income", 0.12)):
        assert (persons[column] * persons["design_weight"]).sum() == pytest.approx(
            true[column].sum(), rel=tolerance
        )
    # The same universes: a cell is blank in the survey for the ages for which it is null in the
    # truth.
    for column in (
        "education",
        "veteran",
        "other_language",
        "wages",
        "weeks_worked",
        "at_work",
        "gave_birth",
    ):
        assert (
            persons.filter(pl.col(column).is_not_null())["age"].min()
            == true.filter(pl.col(column).is_not_null())["age"].min()
        ), column
        assert persons[column].null_count() / persons.height == pytest.approx(
            true[column].null_count() / true.height, abs=0.06
        ), column


def test_the_cps_reader_finds_the_donor_amounts(folder):
    read = read_asec(folder / "cps/asecpub23csv.zip", year=2023)
    truth = read_truth(folder).persons.filter(~pl.col("is_group_quarters"))
    for column, tolerance in (
        ("wages", 0.15),
        ("social_security", 0.2),
        ("unemployment_compensation", 0.6),
    ):
        assert (read.persons[column] * read.persons["design_weight"]).sum() == pytest.approx(
            truth[column].sum(), rel=tolerance
        )
    assert set(read.households["county_fips"].drop_nulls()) == {"44007", "10003"}
    assert read.persons["poverty_ratio"].null_count() == 0
