"""What ``data_specs/columns.yaml`` says: which columns of figures a vintage's file has.

Short because one form says it all. Belongs here: the model of a source's lists, and their loader.
Does not belong here: comparing a file with them (``sources/tables/column_lists.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from pydantic import Field, RootModel

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml

FILE = "columns.yaml"


class Change(SpecModel):
    """Columns that a vintage has and the one listed before has not, and the other way round."""

    new: str = ""
    gone: str = ""


class ColumnLists(SpecModel):
    """A source's columns of figures, those that ``pattern`` matches: of the ``first`` vintage, and
    the changes from one listed vintage to the next."""

    pattern: str
    first: str
    columns: str = Field(min_length=1)
    changes: dict[str, Change] = Field(default_factory=dict)

    def of(self, vintage: str) -> tuple[str, ...] | None:
        """The vintage's columns in capitals, or None where it is not listed."""
        held = self.columns.split()
        if vintage == self.first:
            return tuple(held)
        for year, change in sorted(self.changes.items()):
            gone = set(change.gone.split())
            held = [column for column in held if column not in gone] + change.new.split()
            if year == vintage:
                return tuple(held)
        return None

    def nearest(self, vintage: str) -> str:
        """The listed vintage nearest to another; of two the older."""
        listed = sorted([self.first, *self.changes])
        return min(
            (v for v in listed if v != vintage),
            key=lambda v: (abs(int(v) - int(vintage)), v),
            default=self.first,
        )

    def figures(self, header: Iterable[str]) -> list[str]:
        """The columns of a header that are figures of this source, in capitals."""
        capitals = (name.upper() for name in header)
        return [name for name in capitals if re.fullmatch(self.pattern, name)]


class AllColumnLists(RootModel[dict[str, ColumnLists]]):
    """By source."""


@cache
def load_column_lists(root: Path = SPEC_ROOT) -> dict[str, ColumnLists]:
    """The lists of every source that has one. Raises SpecError for an invalid file."""
    return load_yaml(root / FILE, AllColumnLists).root  # type: ignore[type-var]
