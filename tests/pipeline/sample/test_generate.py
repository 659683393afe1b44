"""The generation as a whole: same bytes, reuse, the files it promises, the label, the truth."""

import io
import json
import zipfile

import fastexcel
import polars as pl
import pytest

from pipeline.errors import StoreError
from pipeline.sample.generate import (
    README,
    STAMP,
    TRUTH,
    ensure_sample,
    generate_sample,
    read_truth,
)
from pipeline.sources.microdata.schema import check_microdata

PROMISED = [
    "acs_pums/2022_1yr/csv_pri.zip",
    "acs_pums/2022_1yr/csv_hri.zip",
    "acs_pums/2022_1yr/csv_pde.zip",
    "acs_pums/2022_1yr/csv_hde.zip",
    "cps/asecpub23csv.zip",
    "acs_tables/ri_tracts/tracts_acs2022_pophousing_retrieved_data.json",
    "acs_tables/ri_tracts/tracts_acs2022_socialecon_retrieved_data.json",
    "acs_tables/de_tracts/tracts_acs2022_pophousing_retrieved_data.json",
    "acs_tables/de_tracts/tracts_acs2022_socialecon_retrieved_data.json",
    "acs_tables/ri_tracts/tracts_census2020_count_retrieved_data.json",
    "acs_tables/ri_tracts/tracts_census2020_plrd_retrieved_data.json",
    "acs_tables/table_based/acsdt5y2022-b01001.dat",
    "acs_tables/table_based/acsdt5y2022-b11001.dat",
    "acs_tables/table_based/acsdt5y2022-b19001.dat",
    "acs_tables/county_us/ACSST5Y2022.S1901-Data.csv",
    "acs_tables/state_us_2022_1yr/bystate/acs-acs1-subject-2022-GROUP_S1901_DATA.csv",
    "acs_tables/state_us_2022_1yr/us/acs-acs1-subject-2022-GROUP_S1901_DATA.csv",
    "irs/22in55cmcsv.csv",
    "irs/22incyallnoagi.csv",
    "ssa/ssi_sc22.xlsx",
    "ssa/oasdi_sc22.xlsx",
    "pep/co-est2024-alldata.csv",
    "geo/2010_Census_Tract_to_2010_PUMA.zip",
    "geo/2020_Census_Tract_to_2020_PUMA.zip",
]
ONE_YEAR = [
    "B01001",
    "B03002",
    "B15003",
    "B17001",
    "B19001",
    "B19013",
    "B19025",
    "B19052",
    "B19053",
    "B19055",
    "B19056",
    "B19065",
    "B19066",
    "B22010",
]


@pytest.fixture(scope="module")
def small(settings):
    return settings.model_copy(update={"scale": 0.1})


def test_every_promised_file_is_made_and_every_file_is_in_the_manifest(manifest):
    group = [
        f"acs_tables/state_us_2022_1yr/{level}/acs-acs1-2022-GROUP_{t}_DATA.csv"
        for level in ("bystate", "us")
        for t in ONE_YEAR
    ]
    assert set(PROMISED) | set(group) <= set(manifest.files)
    on_disk = {
        p.relative_to(manifest.root).as_posix() for p in manifest.root.rglob("*") if p.is_file()
    }
    assert on_disk == set(manifest.files) | {STAMP}


def test_two_generations_have_the_same_bytes_and_another_seed_has_not(tmp_path, small):
    first, second = generate_sample(tmp_path / "a", small), generate_sample(tmp_path / "b", small)
    assert first.files == second.files
    assert (tmp_path / "a" / STAMP).read_bytes() == (tmp_path / "b" / STAMP).read_bytes()
    other = generate_sample(tmp_path / "c", small.model_copy(update={"seed": small.seed + 1}))
    assert other.digest != first.digest
    same = {path for path, digest in other.files.items() if digest == first.files[path]}
    assert same <= {
        README,
        "geo/2010_Census_Tract_to_2010_PUMA.zip",
        "geo/2020_Census_Tract_to_2020_PUMA.zip",
    }


def test_a_finished_sample_is_used_again_until_something_differs(tmp_path, small):
    made = ensure_sample(tmp_path, small)
    target = tmp_path / "irs/22in55cmcsv.csv"
    before = target.stat().st_mtime_ns
    (tmp_path / "mine.txt").write_text("not the generator's")
    assert ensure_sample(tmp_path, small) == made
    assert target.stat().st_mtime_ns == before
    text = target.read_bytes()
    target.write_bytes(text[:-40])
    assert ensure_sample(tmp_path, small).files == made.files
    assert target.read_bytes() == text
    target.unlink()
    ensure_sample(tmp_path, small)
    assert target.read_bytes() == text
    changed = ensure_sample(tmp_path, small.model_copy(update={"seed": 3}))
    assert changed.digest != made.digest
    assert target.read_bytes() != text
    assert (tmp_path / "mine.txt").exists()


def test_files_of_an_earlier_generation_that_are_no_longer_made_are_removed(tmp_path, small):
    generate_sample(tmp_path, small)
    content = json.loads((tmp_path / STAMP).read_text())
    stale = tmp_path / "irs/21in55cmcsv.csv"
    stale.write_text("x")
    content["files"]["irs/21in55cmcsv.csv"] = "0" * 64
    (tmp_path / STAMP).write_text(json.dumps(content))
    ensure_sample(tmp_path, small)
    assert not stale.exists()


def _text_of(path, data: bytes) -> str:
    if path.endswith(".zip"):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return " ".join(archive.namelist())
    if path.endswith(".parquet"):
        return str(pl.read_parquet_metadata(io.BytesIO(data)))
    if path.endswith(".xlsx"):
        book = fastexcel.read_excel(data)
        return " ".join(
            str(book.load_sheet(n, header_row=None, dtypes="string").to_polars().rows())
            for n in book.sheet_names
        )
    return data.decode("latin-1")


def test_everything_with_room_for_a_name_says_synthetic(folder, manifest):
    # Codes only: no published form of these files has a column for a name.
    nameless = {
        p for p in manifest.files if p.startswith("geo/") or p.endswith((".dat", "in55cmcsv.csv"))
    }
    assert (folder / README).read_text().startswith("SYNTHETIC")
    unlabelled = {
        p
        for p in manifest.files
        if p not in nameless and "SYNTHETIC" not in _text_of(p, (folder / p).read_bytes())
    }
    assert unlabelled == set()


def test_the_readme_names_the_files_without_room_for_the_word(folder, manifest):
    words = (folder / README).read_text()
    assert all(
        form in words
        for form in (
            "irs/22in55cmcsv.csv",
            "acs_tables/table_based/*.dat",
            "geo/",
            "acs_pums/",
            "cps/",
        )
    )
    assert {"irs/22in55cmcsv.csv"} <= set(manifest.files)


@pytest.mark.parametrize("name", TRUTH.values())
def test_the_truth_is_labelled_as_geocals_own_tables_are(folder, name):
    facts = json.loads(pl.read_parquet_metadata(folder / name)["geocal"])
    assert facts == {"label": "SYNTHETIC", "synthetic": True}


def test_every_area_name_is_labelled(folder):
    for state in ("ri", "de"):
        rows = json.loads(
            (
                folder / f"acs_tables/{state}_tracts/tracts_acs2022_pophousing_retrieved_data.json"
            ).read_text()
        )
        assert all("(SYNTHETIC)" in row[1] for row in rows[1:])
    names = pl.read_csv(folder / "pep/co-est2024-alldata.csv", encoding="latin-1")
    assert names["CTYNAME"].str.contains("(SYNTHETIC)", literal=True).all()
    counties = pl.read_csv(folder / "irs/22incyallnoagi.csv", encoding="latin-1")
    assert counties["COUNTYNAME"].str.contains("(SYNTHETIC)", literal=True).all()


def test_the_truth_is_in_the_contracts_schema_and_adds_up(folder, manifest):
    truth = read_truth(folder)
    check_microdata(truth.persons, truth.households, "truth")
    assert truth.persons.height == manifest.counts["persons"]
    homes = truth.households.filter(~pl.col("is_group_quarters"))
    assert homes.height == manifest.counts["households"]
    sizes = (
        truth.persons.group_by("household_id").len("n").join(truth.households, on="household_id")
    )
    assert sizes.height == truth.households.height
    assert (sizes["n"] == sizes["persons"]).all()
    income = (
        truth.persons.group_by("household_id")
        .agg(pl.col("total_income").sum())
        .join(homes, on="household_id")
    )
    assert (income["total_income"] == income["household_income"]).all()
    parts = [
        "wages",
        "self_employment",
        "investment_income",
        "social_security",
        "ssi",
        "public_assistance",
        "retirement",
        "other_income",
    ]
    asked = truth.persons.filter(pl.col("age") >= 15)
    assert (
        asked.select(pl.sum_horizontal(*parts, "unemployment_compensation")).to_series()
        == asked["total_income"]
    ).all()


def test_a_missing_truth_table_is_named_with_its_remedy(tmp_path):
    with pytest.raises(StoreError, match=TRUTH["persons"]) as error:
        read_truth(tmp_path)
    assert "aterialise" in error.value.remedy
