"""What ``data_specs/known_totals.yaml`` says: published totals by year and area, and which column
of a source must meet them.

Belongs here: the models of a series and of a source's use of one, and their loader. Does not belong
here: comparing a table with them (``pipeline/sources/known_totals.py``).
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Self

from pydantic import Field, RootModel, model_validator

from pipeline.errors import SpecError
from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.specs.states import BY_POSTAL

FILE = "known_totals.yaml"
NATION = "US"


class Series(SpecModel):
    """One figure by year and area. ``tolerance``: the share by which a file may differ;
    ``states_add_up``: whether the states together are the nation of this series.
    """

    unit: str
    tolerance: float = Field(ge=0, lt=0.5)
    states_add_up: bool = True
    source: str = Field(min_length=10)
    years: dict[str, dict[str, float]]

    @model_validator(mode="after")
    def _areas(self) -> Self:
        known = {NATION, *BY_POSTAL}
        wrong = sorted({area for areas in self.years.values() for area in areas} - known)
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: neither a postal code nor {NATION}")
        if bad := [year for year in self.years if not (len(year) == 4 and year.isdigit())]:
            raise ValueError(f"{', '.join(bad)}: no years")
        return self

    def figure(self, year: str, area: str) -> float | None:
        return self.years.get(year, {}).get(area)

    def year_of(self, area: str, figure: float) -> list[str]:
        """The years whose figure of ``area`` is this one, within the tolerance and rounding."""
        return [
            year
            for year, areas in sorted(self.years.items())
            if area in areas and abs(areas[area] - figure) <= max(0.5, self.tolerance * figure)
        ]


class KnownSeries(RootModel[dict[str, Series]]):
    """All series by name. Of a folder of made-up files there is a file of this form too."""


class KnownTotal(SpecModel):
    """A column (of a survey: ``persons`` or ``households``, the sum of weights) that must meet a
    series. ``may_be_part``: files may hold some of a state's counties, so that a sum is judged only
    where all counties are there.
    """

    column: str
    stratum: str = ""
    series: str
    may_be_part: bool = False


def holds_made_up(data: Path) -> bool:
    """Whether the folder holds made-up files, which state totals of their own."""
    return (data / FILE).is_file()


@cache
def _loaded(path: Path, _changed: int) -> dict[str, Series]:
    content = load_yaml(path, KnownSeries)  # type: ignore[type-var]
    return content.root


def load_known_totals(data: Path | None = None, root: Path = SPEC_ROOT) -> dict[str, Series]:
    """The series of ``data`` if that folder holds made-up files with totals of their own, else the
    published ones. Raises SpecError for an invalid file.
    """
    own = None if data is None else data / FILE
    path = own if own is not None and own.is_file() else root / FILE
    return _loaded(path, path.stat().st_mtime_ns)


def series_called(name: str, known: dict[str, Series], source: str) -> Series | None:
    """The series, or None in a folder that states none. Raises SpecError if nothing has the
    name."""
    if name not in known and name not in load_known_totals():
        raise SpecError(
            f"There is no series {name!r} of known totals",
            where=f"data_specs/sources/{source}.yaml, known_totals",
            expected=f"one of {', '.join(sorted(known))}",
            remedy="Correct the name, or add the series to data_specs/known_totals.yaml",
        )
    return known.get(name)
