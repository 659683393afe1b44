"""Choices by the files at hand, and sources that stand in for one another."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import SourceFileError
from pipeline.sources.of_profile import read_published, read_survey
from pipeline.sources.registry import check_source, read_source
from pipeline.sources.settled import settle
from pipeline.specs.catalog import load_catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import load_source
from tests.pipeline.faults import small_sample

TRACTS = "acs_tables/vt_tracts/tracts_{}_retrieved_data.json"
PROFILE = [TRACTS.format(f"acs2022_{part}") for part in ("pophousing", "socialecon")]
SVI = "acs_tables/svi_tracts_2022/Vermont.csv"


def settled(folder: Path, *files: str) -> Profile:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    catalog = load_catalog()
    return settle(catalog, catalog.profile("us_2022"), folder)


def option(profile: Profile, need: str, state: str | None = "VT") -> str:
    (taken,) = [t for t in profile.made(state or "") if t.need == need and t.postal == state]
    return taken.option.name


@pytest.mark.parametrize(
    ("files", "expected", "finest"),
    [
        ([], "none, to the county", "county"),
        ([SVI], "Social Vulnerability Index", "tract"),
        ([SVI, *PROFILE], "data profiles of the ACS", "tract"),
        ([SVI, PROFILE[0]], "Social Vulnerability Index", "tract"),
        (
            [*PROFILE, TRACTS.format("census2020_count")],
            "data profiles of the ACS and the 2020 Census",
            "tract",
        ),
    ],
    ids=["none", "svi", "profiles and svi", "half of the profiles", "all"],
)
def test_the_first_option_whose_files_are_all_there(tmp_path, files, expected, finest):
    found = settled(tmp_path, *files)
    assert option(found, "tables of tracts") == expected
    assert found.of("VT").finest_level == finest
    assert found.of("NH").finest_level == "county"


def test_what_is_passed_by_is_told_with_its_files_and_costs(tmp_path):
    found = settled(tmp_path, SVI)
    (taken,) = [t for t in found.made("VT") if t.need == "tables of tracts"]
    lacking = dict(taken.passed_by)["data profiles of the ACS"]
    assert lacking == tuple(
        f"acs_tables/vt_tracts/acs5_2022_{table}.json" for table in ("DP04", "DP05", "DP02", "DP03")
    )
    assert taken.costs.startswith("eleven counts") and taken.row()["costs"] == taken.costs


def test_an_excerpt_serves_its_own_state_only(tmp_path):
    found = settled(tmp_path, "irs/22incyallnoagi_vt.csv")
    need = "tax returns by county"
    assert option(found, need) == "SOI of 2022"
    # NH has no option with its files: what the run then asks for is the best one.
    (other,) = [t for t in found.made("NH") if t.need == need]
    assert other.option.name == "SOI of 2022" and "22incyallnoagi" in other.lacking[0]
    found = settled(tmp_path, "irs/12cyallnoagi.csv")
    assert option(found, need, "NH") == "SOI of 2012" and option(found, need) == "SOI of 2022"
    assert set(found.sources["irs_county"]) == {"2012", "2022"}


def test_an_option_that_was_begun_is_asked_for(tmp_path):
    found = settled(tmp_path, "acs_pums/2018_1yr/csv_hvt.zip")
    (taken,) = [t for t in found.made("VT") if t.need == "records"]
    assert taken.option.name == "PUMS of 2018"
    assert taken.lacking[0] == "acs_pums/2018_1yr/csv_pvt.zip" and taken.costs == ""


def test_the_nation_chooses_once_for_all(tmp_path):
    found = settled(tmp_path)
    need = "state tables of the ACS, one year"
    assert option(found, need, None) == "of 2022"
    assert found.of("VT").sources["acs1_detailed"] == ("2022",)


def test_the_cps_is_the_donor_of_all_where_its_archive_is_there(tmp_path):
    need = "a donor survey"
    found = settled(tmp_path)
    (taken,) = [t for t in found.made() if t.need == need]
    assert taken.option.name == "none" and found.of("VT").records.donor is None
    assert dict(taken.passed_by)["CPS ASEC of 2023"] == ("cps/asecpub23csv.zip",)
    assert taken.costs.startswith("nothing is donated from the CPS ASEC")
    found = settled(tmp_path, "cps/asecpub23csv.zip")
    assert option(found, need, None) == "CPS ASEC of 2023"
    for postal in ("VT", None):
        donor = found.of(postal).records.donor
        assert donor.vintage == "2023" and "snap" in donor.items
    assert found.records.donor == found.of("NH").records.donor
    assert found.sources["cps_asec"] == ("2023",)


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sample")
    small_sample(folder)
    return folder


def as_downloads(sample: Path, folder: Path) -> None:
    """The sample's answers of the API for Rhode Island as data.census.gov would give its tables."""
    columns: dict[str, list[str]] = {}
    for part in ("pophousing", "socialecon"):
        path = sample / f"acs_tables/ri_tracts/tracts_acs2022_{part}_retrieved_data.json"
        header, *rows = json.loads(path.read_text())
        columns |= {name: [row[at] for row in rows] for at, name in enumerate(header)}
    target = folder / "acs_tables/download/ri"
    target.mkdir(parents=True)
    (folder / "known_totals.yaml").write_bytes((sample / "known_totals.yaml").read_bytes())
    for table in ("DP02", "DP03", "DP04", "DP05"):
        names = ["GEO_ID", "NAME", *(n for n in columns if n.startswith(f"{table}_"))]
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerows([[*names, ""], [*(f"label of {n}" for n in names), ""]])
        writer.writerows([*row, ""] for row in zip(*(columns[n] for n in names), strict=True))
        (target / f"ACSDP5Y2022.{table}-Data.csv").write_text(text.getvalue())


def test_downloads_stand_in_for_answers_of_the_api(sample, tmp_path):
    as_downloads(sample, tmp_path)
    spec = load_source("acs5_profile_tracts")
    whole = read_source(spec, "2022", sample, ["RI"]).frame
    table = read_source(spec, "2022", tmp_path, ["RI"])
    key = ["geoid", "column"]
    columns = [*key, "level", "estimate", "margin_of_error", "status"]
    # Percents serve checks of the API's answers alone.
    whole = whole.filter(~pl.col("column").str.ends_with("P"))
    first, second = (f.select(columns).sort(key) for f in (whole, table.frame))
    assert first.height > 1_000 and first.equals(second)
    assert [n.code for n in table.notes].count("read_instead") == 1
    found = settled(tmp_path)
    assert option(found, "tables of tracts", "RI") == "data profiles of the ACS"
    lines = check_source(spec, "2022", tmp_path, ["RI"])
    assert len(lines) == 4 and all(line.ok for line in lines)


def test_half_of_the_downloads_stand_in_for_nothing(sample, tmp_path):
    as_downloads(sample, tmp_path)
    (tmp_path / "acs_tables/download/ri/ACSDP5Y2022.DP03-Data.csv").unlink()
    lines = check_source(load_source("acs5_profile_tracts"), "2022", tmp_path, ["RI"])
    assert [line.missing for line in lines] == [True] * 4
    assert option(settled(tmp_path), "tables of tracts", "RI") == "none, to the county"


def test_of_files_that_are_all_optional_one_is_wanted(tmp_path):
    (line,) = check_source(load_source("acs5_tables_download"), "2022", tmp_path, ["RI"])
    assert line.missing and "download/ri/ACSDP5Y2022.B01001-Data.csv" in line.message


def test_a_state_that_does_without_a_source_has_an_empty_table_of_it():
    table = read_published(load_source("svi_tracts"), [], Path("nowhere"), ["RI"])
    assert table.frame.is_empty() and isinstance(table.frame, pl.DataFrame)
    assert "not read for RI" in str(table.notes[0])


# ------------------------------------------------------------------------------------------------
# real files


@pytest.mark.parametrize(
    ("state", "tables", "finest"),
    [
        ("RI", "data profiles of the ACS and the 2020 Census", "tract"),
        ("VT", "Social Vulnerability Index", "tract"),
        ("ID", "none, to the county", "county"),
    ],
)
def test_real_files_decide(realdata, state, tables, finest):
    catalog = load_catalog()
    found = settle(catalog, catalog.profile("us_2022"), realdata)
    assert option(found, "tables of tracts", state) == tables
    assert found.of(state).finest_level == finest
    assert option(found, "records", state) == "PUMS of 2018"


def test_a_housing_file_alone_is_told_beside_what_is_missing(realdata):
    catalog = load_catalog()
    profile = settle(catalog, catalog.profile("us_2022"), realdata).of("AK")
    with pytest.raises(SourceFileError, match=r"csv_hak\.zip is there.*csv_pak\.zip"):
        read_survey(profile, realdata, "AK")
