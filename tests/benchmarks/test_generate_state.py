"""Made-up states, tiny: the ordinary readers read them, and their cells are the model's totals with
the noise that their margins say.
"""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.generate_state import generate, main
from benchmarks.generated_residence import build_state
from benchmarks.generated_settings import facts, settings_of, size_of
from benchmarks.generated_taxes import spread_tax_units
from calibration_core.errors import SettingsError
from pipeline.sample.acs_columns import Count
from pipeline.sample.acs_profile_columns import profile_columns
from pipeline.sample.ssa import ssi_counts
from pipeline.sample.surveys import five_year_factor
from pipeline.sample.taxes import build_tax_units
from pipeline.settings import SPECS_VARIABLE
from pipeline.sources.microdata.acs_pums import read_pums
from pipeline.sources.registry import read_source
from pipeline.specs.catalog import load_catalog
from pipeline.specs.states import BY_POSTAL, STATES

Z90 = 1.645
TINY = {"tracts": 12, "pumas": 2, "records": 600, "seed": 7}
SOURCES = {
    "acs5_profile_tracts": ("2022", "tract", 12),
    "census2020_dp_tracts": ("2020", "tract", 12),
    "acs5_detailed_tracts": ("2022", "tract", 12),
    "acs5_s1901_counties": ("2022", "county", 2),
    "acs1_detailed": ("2022", "state", 1),
    "irs_historic_table_2": ("2022", "state", 1),
    "irs_county": ("2022", "county", 2),
    "ssa_ssi_counties": ("2022", "county", 2),
    "ssa_oasdi_counties": ("2022", "county", 2),
    "pep_counties": ("2024", "county", 2),
}


@pytest.fixture(scope="module")
def size():
    return size_of("RI", **TINY)


@pytest.fixture(scope="module")
def made(size):
    return build_state(settings_of(size))


@pytest.fixture(scope="module")
def folder(tmp_path_factory, size) -> Path:
    place = tmp_path_factory.mktemp("made") / "ri"
    generate([size], place, 60)
    return place


@pytest.fixture(scope="module")
def catalog():
    return load_catalog()


def digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "README.txt"
    }


@pytest.mark.parametrize("source", SOURCES)
def test_the_ordinary_readers_read_every_table(folder, catalog, source):
    vintage, level, areas = SOURCES[source]
    frame = read_source(catalog.sources[source], vintage, folder, ["RI"]).frame
    assert frame.filter(pl.col("level") == level)["geoid"].n_unique() == areas


def test_the_profile_is_found_and_asks_for_what_is_made(folder, monkeypatch):
    monkeypatch.setenv(SPECS_VARIABLE, str(folder / "specs"))
    profile = load_catalog().profile("generated")
    assert profile.states == ("RI",) and "SYNTHETIC" in profile.title
    assert profile.budget.pairs_per_area == 60 and not profile.synthetic
    made = set(SOURCES) | {"acs_pums_1yr", "cps_asec", "tract_puma"}
    assert set(profile.sources) == made
    assert "SYNTHETIC" in (folder / "README.txt").read_text()
    assert "SYNTHETIC" in (folder / "known_totals.yaml").read_text()


def test_records_are_as_many_as_asked_for_and_stand_for_the_published_persons(folder, catalog):
    base = folder / "acs_pums/2022_1yr"
    read = read_pums(base / "csv_pri.zip", base / "csv_hri.zip", year=2022, state_fips="44")
    households = read.households.filter(~pl.col("is_group_quarters"))
    assert households.height == pytest.approx(TINY["records"], rel=0.03)
    assert read.replicate_weights is not None
    assert read.persons["puma"].n_unique() == TINY["pumas"]
    table = read_source(catalog.sources["pep_counties"], "2024", folder, ["RI"]).frame
    state = table.filter((pl.col("level") == "state") & (pl.col("column") == "POPESTIMATE2022"))
    assert read.persons["design_weight"].sum() == state["estimate"].item()


def test_a_state_is_as_large_as_it_should_be(made):
    people = made.population
    held = people.by_tract(people.is_household)
    assert held.sum() == pytest.approx(12 * facts().households_per_tract, rel=0.12)
    assert (held > 0).sum() == people.geography.populated.sum()
    weight = made.weight[people.is_household].sum()
    assert weight == pytest.approx(12 * facts().households_per_tract, rel=1e-9)
    # Every household lives in its record's PUMA.
    puma = people.geography.puma
    lives = people.residence
    assert (puma[lives.tract] == puma[people.unit_tract[lives.unit]]).all()


def tract_cells(folder: Path, made) -> pl.DataFrame:
    """Published counts of the profiles beside the totals of the model."""
    rows = []
    for part in ("pophousing", "socialecon"):
        name = f"acs_tables/ri_tracts/tracts_acs2022_{part}_retrieved_data.json"
        head, *lines = json.loads((folder / name).read_text())
        rows += [{"geoid": line[0][-11:], **dict(zip(head, line, strict=True))} for line in lines]
    published: dict[str, dict[str, str]] = {}
    for row in rows:
        published.setdefault(row["geoid"], {}).update(row)
    people = made.population
    factor = five_year_factor(people)
    cells = []
    for code, column in profile_columns(people, 1.0).items():
        if isinstance(column, Count):
            totals = people.by_tract(column.x) * factor
            cells += [
                (code, tract, float(published[tract][f"{code}E"]), published[tract][f"{code}M"], t)
                for tract, t in zip(people.geography.tract, totals, strict=True)
            ]
    schema = ["column", "tract", "estimate", "margin", "truth"]
    frame = pl.DataFrame(cells, schema=schema, orient="row")
    return frame.with_columns(pl.col("margin").cast(pl.Float64))


def test_tract_cells_are_the_models_totals_within_their_margins(folder, made):
    cells = tract_cells(folder, made)
    assert cells["column"].n_unique() >= 60
    known = cells.filter((pl.col("margin") > 0) & (pl.col("truth") >= 50))
    off = (known["estimate"] - known["truth"]).abs() / known["margin"]
    # 90 % margins: about nine in ten lie within, and the noise is as large as they say.
    assert 0.8 < (off <= 1).mean() < 0.97
    assert 0.7 < (off * Z90).pow(2).mean() ** 0.5 < 1.35
    # A tract's population has a margin of about a tenth, as real tracts have.
    people = known.filter(pl.col("column") == "DP05_0001")
    assert 0.04 < (people["margin"] / people["estimate"]).median() < 0.2
    assert "-555555555" in cells["margin"].cast(pl.Int64).cast(pl.String).to_list()


def test_levels_disagree_a_little(folder, catalog):
    def total(source: str, vintage: str, level: str, column: str) -> float:
        frame = read_source(catalog.sources[source], vintage, folder, ["RI"]).frame
        own = frame.filter((pl.col("level") == level) & (pl.col("column") == column))
        return float(own["estimate"].sum())

    tracts = total("acs5_profile_tracts", "2022", "tract", "DP02_0001")
    counties = total("acs5_s1901_counties", "2022", "county", "S1901_C01_001")
    state = total("acs1_detailed", "2022", "state", "B19001_001")
    for one, other in ((tracts, counties), (counties, state)):
        assert one != other and one == pytest.approx(other, rel=0.1)


def test_what_agencies_count_is_counted_and_small_cells_are_withheld(folder, catalog, made):
    frame = read_source(catalog.sources["ssa_ssi_counties"], "2022", folder, ["RI"]).frame
    counted = ssi_counts(made.population)["ssi_total"]
    county = frame.filter((pl.col("level") == "county") & (pl.col("column") == "ssi_total"))
    assert dict(county.select("geoid", "estimate").iter_rows()) == counted
    statuses = set(frame["status"]) | set(
        read_source(catalog.sources["irs_county"], "2022", folder, ["RI"]).frame["status"]
    )
    assert "suppressed" in statuses


def test_returns_are_filed_where_households_live(made):
    people = made.population
    spread, units = spread_tax_units(people), build_tax_units(people)
    assert (spread["times"] > 0).all()
    lives = people.residence.by_unit
    record = units["household_id"].str.slice(6).cast(pl.Int64).to_numpy() - 1
    filers = units["is_filer"].to_numpy()
    wanted = lives[record][filers].sum()
    assert spread.filter("is_filer")["times"].sum() == wanted
    stay = units["tract"] == units["filing_tract"]
    county = people.geography.county
    first = np.unique(county)[0]
    there = people.by_tract(np.bincount(record[stay.to_numpy()], minlength=people.unit_count))
    mine = spread.filter(pl.col("county_fips") == first)["times"].sum()
    assert mine == pytest.approx(there[county == first].sum(), rel=0.05)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path, folder, size):
    generate([size], tmp_path / "again", 60)
    assert digests(tmp_path / "again") == digests(folder)
    other = size_of("RI", **{**TINY, "seed": 8})
    generate([other], tmp_path / "other", 60)
    assert digests(tmp_path / "other") != digests(folder)


def test_states_that_come_one_by_one_make_the_same_folder(tmp_path, size):
    others = [size_of(postal, **TINY) for postal in ("VT", "AK")]
    generate([*others, size], tmp_path / "once", 60)
    for each in (size, *others):
        generate([each], tmp_path / "by_and_by", 60)
    once = digests(tmp_path / "once")
    assert digests(tmp_path / "by_and_by") == once
    alone = tmp_path / "alone"
    generate([size], alone, 60)
    own = {path: d for path, d in digests(alone).items() if "parts/" in path or "ri" in path}
    assert own.items() <= once.items()


def test_the_nation_is_the_sum_of_its_states(tmp_path, catalog):
    states = ("AK", "CT", "VT")
    generate([size_of(postal, **TINY) for postal in states], tmp_path, 60)
    frame = read_source(catalog.sources["acs1_detailed"], "2022", tmp_path, states).frame
    counts = frame.filter(
        pl.col("column").str.starts_with("B01001_") & pl.col("estimate").is_not_null()
    )
    nation = dict(
        counts.filter(pl.col("level") == "nation").select("column", "estimate").iter_rows()
    )
    of_states = (
        counts.filter(pl.col("level") == "state")
        .group_by("column")
        .agg(pl.col("estimate").sum(), squares=pl.col("margin_of_error").pow(2).sum())
    )
    assert len(nation) == 49 and nation == dict(of_states.select("column", "estimate").iter_rows())
    margin = counts.filter((pl.col("level") == "nation") & (pl.col("column") == "B01001_003"))
    apart = of_states.filter(pl.col("column") == "B01001_003")["squares"].item() ** 0.5
    assert margin["margin_of_error"].item() == pytest.approx(apart, abs=1)
    with (tmp_path / "irs/22in55cmcsv.csv").open() as file:
        rows = list(csv.reader(file))
    assert [row[0] for row in rows[1:]] == [s for s in ("US", *states, "OA") for _ in range(11)]
    returns = {(r[0], r[1]): int(r[2].replace(",", "")) for r in rows[1:]}
    # The nation holds returns from abroad beside those of the states.
    assert returns["US", "0"] == sum(returns[s, "0"] for s in (*states, "OA"))
    for source, (vintage, level, areas) in SOURCES.items():
        read = read_source(catalog.sources[source], vintage, tmp_path, states).frame
        assert read.filter(pl.col("level") == level)["geoid"].n_unique() == 3 * areas, source


@pytest.mark.parametrize("postal", [state.postal for state in STATES])
def test_every_state_has_the_tracts_and_pumas_asked_for(postal):
    for size in (size_of(postal, seed=1, scale=0.05), size_of(postal, seed=2, tracts=31, pumas=3)):
        settings = settings_of(size)
        held = sum(len(c.tracts) + c.empty_tracts for c in settings.counties)
        assert held == size.tracts
        assert len({code for c in settings.counties for code in c.pumas}) == size.pumas
        codes = [c.fips for c in settings.counties]
        assert codes == sorted(set(codes))
        assert all(code[:2] == BY_POSTAL[postal].fips for code in codes)


def test_a_size_that_cannot_be_made_is_refused(capsys, tmp_path):
    with pytest.raises(SettingsError, match="no state XX"):
        size_of("XX", seed=1)
    with pytest.raises(SettingsError, match="cannot be made"):
        size_of("RI", seed=1, tracts=10, pumas=11, records=1000)
    with pytest.raises(SettingsError, match="cannot be made"):
        size_of("RI", seed=1, tracts=10, pumas=2, records=10_000)
    assert main(["RI", "--tracts", "10", "--records", "50", "--out", str(tmp_path / "no")]) == 1
    assert "12 to 300 records" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()
