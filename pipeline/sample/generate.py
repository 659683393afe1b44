"""Making the SYNTHETIC sample: one population, every file of the ``sample`` profile, and the truth
beside them.

Belongs here: the order of the steps, the stamp that lets a finished sample be used again, and
reading the truth back. Does not belong here: any one publication.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.errors import StoreError
from pipeline.sample.acs_files import write_acs_tables
from pipeline.sample.census2020 import write_census2020
from pipeline.sample.cps import write_cps
from pipeline.sample.estimates import (
    YEARS,
    state_controls,
    write_county_estimates,
    write_tract_puma,
)
from pipeline.sample.files import Folder
from pipeline.sample.irs import write_county, write_historic_table_2
from pipeline.sample.known_totals import write_known_totals
from pipeline.sample.population import build_population, canonical_households, canonical_persons
from pipeline.sample.pums import write_pums
from pipeline.sample.settings import SampleSettings, load_settings
from pipeline.sample.ssa import write_oasdi_workbook, write_ssi_workbook
from pipeline.sample.surveys import draw_weights, one_year_draw, tract_survey
from pipeline.sample.taxes import build_tax_units

STAMP = "SAMPLE_MANIFEST.json"
README = "README.txt"
TRUTH = {
    "persons": "truth_persons.parquet",
    "households": "truth_households.parquet",
    "tax_units": "truth_tax_units.parquet",
}
_README = """SYNTHETIC. Nothing in this folder was published by any agency, and no person or
household in it exists.

The geocal sample generator wrote these files from one invented population of two small states that
borrow the codes of Rhode Island and Delaware. Each file has the layout of the publisher whose name
its folder carries, so that the readers of real files read them too. Sampling noise, margins of
error, suppressed cells and disagreement between levels are simulated.

known_totals.yaml says what these files add up to, in place of the published totals. The
population itself is in truth_persons.parquet, truth_households.parquet and
truth_tax_units.parquet; the label SYNTHETIC stands in their key-value metadata, entry `geocal`.

Every name of an area or sheet in these files says SYNTHETIC. Published forms without a name have no
room for the word, so these files hold codes and numbers only: the microdata (acs_pums/, cps/; a
SYNTHETIC_README.txt in each archive says it), Historic Table 2 (irs/22in55cmcsv.csv), the
table-based summary file (acs_tables/table_based/*.dat) and tracts by PUMA (geo/).

Where the simulation departs from life: the five-year county table S1901 is drawn apart from the
five-year tract tables (in life they agree), the nation is the two states, and samples are larger
than in life because the states are so small.
"""


@dataclass(frozen=True)
class SampleManifest:
    """What a generation made. ``files``: SHA-256 by path relative to ``root``; ``counts``: persons,
    households, group quarters, tracts, returns.
    """

    root: Path
    digest: str
    files: Mapping[str, str]
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Truth:
    """The known population: ``persons`` and ``households`` in the contract's schema with weight 1
    plus ``tract`` (households and persons) and ``county_fips``; ``tax_units`` with ``tract`` of
    residence and ``filing_tract`` of the return's address.
    """

    persons: pl.DataFrame
    households: pl.DataFrame
    tax_units: pl.DataFrame


def generate_sample(out_dir: Path, settings: SampleSettings | None = None) -> SampleManifest:
    """Write every raw file of the sample profile, the truth tables, a README and the stamp (last)
    into ``out_dir``.

    The same settings and code give the same bytes. Files that an earlier generation left and this
    one does not make are removed; anything else in the folder is left alone.
    """
    settings = settings or load_settings()
    stamp = out_dir / STAMP
    before = _stamped(stamp)
    stamp.unlink(missing_ok=True)
    folder = Folder(out_dir)
    population = build_population(settings)
    tax_units = build_tax_units(population)
    controls = state_controls(population)
    one_year = one_year_draw(population, controls)

    folder.text(README, _README)
    write_acs_tables(folder, population, tract_survey(population), one_year)
    write_census2020(folder, population)
    share = settings.surveys["pums"].share
    answered = draw_weights(population, share, "pums", within=one_year.weight > 0)
    write_pums(folder, population, answered, controls)
    write_cps(folder, population)
    write_historic_table_2(folder, tax_units, settings)
    write_county(folder, tax_units, settings)
    write_ssi_workbook(folder, population)
    write_oasdi_workbook(folder, population)
    write_county_estimates(folder, population)
    # Another vintage of the same, which no target is made of: growth is compared with it.
    write_county_estimates(folder, population, YEARS[:-1])
    write_tract_puma(folder, population)
    write_known_totals(folder, population, tax_units)
    folder.parquet(TRUTH["persons"], canonical_persons(population))
    folder.parquet(TRUTH["households"], canonical_households(population))
    folder.parquet(TRUTH["tax_units"], tax_units)

    counts = {
        "persons": len(population.skeleton.unit),
        "households": int(population.is_household.sum()),
        "group_quarters_persons": int((~population.is_household).sum()),
        "tracts": population.geography.count,
        "tracts_with_people": int(np.count_nonzero(population.geography.populated)),
        "returns": int(tax_units["is_filer"].sum()),
    }
    manifest = SampleManifest(
        out_dir, settings.digest, dict(sorted(folder.written.items())), counts
    )
    for stale in sorted(set(before.get("files", {})) - set(manifest.files)):
        (out_dir / stale).unlink(missing_ok=True)
    content = {
        "label": "SYNTHETIC",
        "digest": manifest.digest,
        "counts": counts,
        "files": dict(manifest.files),
    }
    Folder(out_dir).text(STAMP, json.dumps(content, indent=1) + "\n")
    return manifest


def ensure_sample(out_dir: Path, settings: SampleSettings | None = None) -> SampleManifest:
    """The sample in ``out_dir``: as it is if settings, code and every file's digest agree with the
    stamp, else generated anew.
    """
    settings = settings or load_settings()
    found = _stamped(out_dir / STAMP)
    files = found.get("files", {})
    if (
        found.get("digest") == settings.digest
        and files
        and all(_same(out_dir / path, digest) for path, digest in files.items())
    ):
        return SampleManifest(out_dir, found["digest"], files, found["counts"])
    return generate_sample(out_dir, settings)


def read_truth(data_dir: Path) -> Truth:
    """The truth tables of a generated sample. Raises StoreError if one is missing or unreadable."""
    frames = {}
    for name, file in TRUTH.items():
        path = data_dir / file
        try:
            frames[name] = pl.read_parquet(path)
        except (OSError, pl.exceptions.PolarsError) as error:
            raise StoreError(
                "A truth table of the synthetic sample cannot be read"
                f" ({str(error).splitlines()[0]})",
                where=str(path),
                expected="the table the sample generator writes",
                remedy="Materialise the sample's raw files again",
            ) from error
    return Truth(**frames)


def _stamped(path: Path) -> dict:
    """The stamp's content; empty where there is none or it was damaged, so that the sample is made
    anew.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _same(path: Path, digest: str) -> bool:
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == digest
