"""Settings of the synthetic sample: sizes, kinds of tract, sampling shares, seed.

Belongs here: the models behind ``data_specs/sample.yaml``, derived codes, and named random streams.
Does not belong here: how a population or a file is made from them.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import numpy as np
import polars as pl
import xlsxwriter
from pydantic import Field

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml


class StateSetting(SpecModel):
    """A state: postal code, two-digit FIPS, name, census division and region codes."""

    postal: str
    fips: str = Field(pattern=r"^\d{2}$")
    name: str
    division: str
    region: str


class CountySetting(SpecModel):
    """A county: FIPS, name, yearly growth, shift of affluence, its PUMAs (2020), the kinds of its
    tracts, tracts without people.
    """

    fips: str = Field(pattern=r"^\d{5}$")
    name: str
    growth: float = Field(gt=-0.1, lt=0.1)
    affluence: float
    pumas: tuple[str, ...] = Field(min_length=1)
    tracts: tuple[str, ...] = Field(min_length=1)
    empty_tracts: int = 0


class KindSetting(SpecModel):
    """What makes a kind of tract differ; shares are of households, group quarters in persons."""

    affluence: float
    age: float
    urban: float
    hispanic: float
    black: float
    asian: float
    kids: float
    owner: float
    households: int
    student: float = 0.0
    military: float = 0.0
    nursing: int = 0
    dorm: int = 0
    prison: int = 0
    barracks: int = 0


class SurveySetting(SpecModel):
    """The share of units that answer a survey."""

    share: float = Field(gt=0, lt=1)


class SampleSettings(SpecModel):
    """Everything the generator needs; the same settings give the same bytes."""

    seed: int
    year: int
    adjinc: float
    label: str
    states: tuple[StateSetting, ...]
    counties: tuple[CountySetting, ...]
    kinds: dict[str, KindSetting]
    vacant_share: float = Field(ge=0, lt=1)
    surveys: dict[str, SurveySetting]
    weight_cv: float
    zero_margin: dict[str, int]
    five_year_income_factor: float
    odd_tracts: dict[str, float]
    controlled_tract: str
    scale: float = Field(
        default=1.0,
        gt=0.0,
        le=10.0,
        description="multiplies households and group quarters of every tract",
    )

    def stream(self, name: str) -> np.random.Generator:
        """A random stream of its own for each named step, so that a change in one step leaves the
        others as they were.
        """
        return np.random.Generator(
            np.random.PCG64(np.random.SeedSequence([self.seed, zlib.crc32(name.encode())]))
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the settings, of the generator's own code, and of the versions of the
        libraries that decide its bytes.
        """
        total = hashlib.sha256(self.model_dump_json().encode())
        versions = (np.__version__, pl.__version__, xlsxwriter.__version__)
        total.update("numpy {} polars {} xlsxwriter {}".format(*versions).encode())
        for path in sorted(Path(__file__).parent.glob("*.py")):
            total.update(path.name.encode())
            total.update(path.read_bytes())
        return total.hexdigest()


def load_settings(path: Path = SPEC_ROOT / "sample.yaml") -> SampleSettings:
    """The settings in ``data_specs/sample.yaml``. Raises SpecError naming the faulty key."""
    return load_yaml(path, SampleSettings)


def small_settings() -> SampleSettings:
    """The sample at a dozen households per tract and 21 tracts: a run of seconds, not minutes."""
    settings = load_settings()
    # Rhode Island's third county keeps five tracts, so that a county has more than a few.
    kept = {county.fips: 5 if county.fips == "44007" else 2 for county in settings.counties}
    counties = tuple(
        county.model_copy(update={"tracts": county.tracts[: kept[county.fips]], "empty_tracts": 0})
        for county in settings.counties
    )
    return settings.model_copy(update={"scale": 0.15, "counties": counties})
