"""Standard figures that the bystander report always lists, by heading.

Belongs here: the model of ``data_specs/bystanders.yaml`` and its checks. Does not belong here: what
a figure is (``data_specs/variables``), how far one may move (``specs/method.py``), the report
(``pipeline/reports/bystanders.py``).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from pydantic import Field, model_validator

from pipeline.errors import SpecError
from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.specs.catalog import Catalog
from pipeline.vocabulary import Key

BYSTANDERS_FILE = SPEC_ROOT / "bystanders.yaml"


class FigureGroup(SpecModel):
    """``figures`` under one heading, each ``variable/domain``, in the order shown."""

    title: str
    figures: tuple[str, ...] = Field(min_length=1)

    @property
    def keys(self) -> tuple[Key, ...]:
        """The figures as (variable, domain)."""
        return tuple(_key(figure) for figure in self.figures)


class BystanderFile(SpecModel):
    """``data_specs/bystanders.yaml``."""

    groups: tuple[FigureGroup, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _each_once(self) -> BystanderFile:
        counts = Counter(figure for group in self.groups for figure in group.figures)
        if twice := sorted(figure for figure, count in counts.items() if count > 1):
            raise ValueError(f"listed twice: {', '.join(twice)}")
        return self

    @property
    def group_of(self) -> dict[Key, str]:
        """The heading of each figure, in the order shown."""
        return {key: group.title for group in self.groups for key in group.keys}


def _key(figure: str) -> Key:
    variable, _, domain = figure.partition("/")
    return variable, domain


def load_bystanders(catalog: Catalog, path: Path = BYSTANDERS_FILE) -> BystanderFile:
    """Read the file. Raises SpecError if it names a figure that is no variable."""
    found = load_yaml(path, BystanderFile)
    unknown = [key for key in found.group_of if key not in catalog.variables]
    if unknown:
        raise SpecError(
            f"No variable is called {', '.join('/'.join(key) for key in unknown)}",
            where=str(path),
            expected="variable/domain of data_specs/variables",
            remedy="Correct the name, or declare the variable",
        )
    return found
