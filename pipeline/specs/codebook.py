"""What stands in the tables that geocal writes: columns, types, units, labels of codes.

Belongs here: the model of ``data_specs/codebook.yaml``, and what it says of one column of a stored
table. Does not belong here: columns of publications (``sources.py``, ``dictionary.py``), or how the
page is written (``docs/make_dictionary.py``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml

CODEBOOK_FILE = "codebook.yaml"
ANY_SOURCE = "SOURCE"
"""Stands for the tables of all published sources, which have one form."""


class OutputColumn(SpecModel):
    """One column: ``codes`` names a list of labels, ``unit`` is given for every amount and count,
    ``null_where`` says when nothing stands there ("" if something always does).
    """

    type: Literal["text", "integer", "number", "flag", "list"]
    meaning: str = Field(min_length=3)
    unit: str = ""
    codes: str = ""
    null_where: str = ""

    @model_validator(mode="after")
    def _coded_or_measured(self) -> Self:
        if self.unit and self.codes:
            raise ValueError("a column has codes or a unit, not both")
        return self


class OutputTable(SpecModel):
    """Tables of one form, by name. ``columns``: names from the common list; ``own``: what differs
    here; ``sometimes``: columns of some profiles; ``patterns``: columns by regular expression;
    ``includes``: a table all of whose columns this one has too.
    """

    names: tuple[str, ...] = Field(min_length=1)
    title: str = Field(min_length=5)
    key: tuple[str, ...] = Field(min_length=1)
    columns: tuple[str, ...] = ()
    own: dict[str, OutputColumn] = Field(default_factory=dict)
    sometimes: tuple[str, ...] = ()
    patterns: dict[str, OutputColumn] = Field(default_factory=dict)
    includes: str = ""
    notes: str = ""


class Codebook(SpecModel):
    """``data_specs/codebook.yaml``."""

    codes: dict[str, dict[str | int, str]]
    columns: dict[str, OutputColumn]
    tables: tuple[OutputTable, ...]

    @model_validator(mode="after")
    def _references(self) -> Self:
        columns = [*self.columns.items()]
        for table in self.tables:
            columns += [*table.own.items(), *table.patterns.items()]
            if unknown := sorted({*table.columns, *table.sometimes} - set(self.columns)):
                raise ValueError(f"{table.names[0]}: no column {', '.join(unknown)}")
            names = self.names_of(table)
            if unknown := sorted(set(table.key) - set(names)):
                raise ValueError(f"{table.names[0]}: its key has {', '.join(unknown)}")
            if twice := sorted({n for n in names if names.count(n) > 1}):
                raise ValueError(f"{table.names[0]}: twice {', '.join(twice)}")
        for name, column in columns:
            if column.codes and column.codes not in self.codes:
                raise ValueError(f"column {name}: no list of codes {column.codes!r}")
        return self

    def table(self, name: str) -> OutputTable:
        """The table called ``name``; a source's own one stands under ``SOURCE``."""
        found = (t for t in self.tables if name in t.names)
        return next(found, self._of_sources())

    def _of_sources(self) -> OutputTable:
        return next(table for table in self.tables if ANY_SOURCE in table.names)

    def names_of(self, table: OutputTable) -> list[str]:
        """Names of the columns that ``table`` always has, without those of patterns."""
        included = self.names_of(self.table(table.includes)) if table.includes else []
        return [*included, *table.columns, *table.own]

    def words(self, table: str, column: str) -> str | None:
        """What is said of a column of the table called ``table``, in one line; None where nothing
        is."""
        found = self.column(self.table(table), column)
        if found is None:
            return None
        unit = f" Unit: {found.unit}." if found.unit else ""
        null = f" Null where {found.null_where}." if found.null_where else ""
        return f"{found.meaning.rstrip('.')}.{unit}{null}"

    def column(self, table: OutputTable, name: str) -> OutputColumn | None:
        """What is said of column ``name`` of ``table``; None where nothing is."""
        if name in table.own:
            return table.own[name]
        if name in (*table.columns, *table.sometimes):
            return self.columns[name]
        for pattern, column in table.patterns.items():
            if re.fullmatch(pattern, name):
                return column
        return self.column(self.table(table.includes), name) if table.includes else None


def load_codebook(root: Path = SPEC_ROOT) -> Codebook:
    """The codebook. Raises SpecError naming file and key."""
    return load_yaml(root / CODEBOOK_FILE, Codebook)
