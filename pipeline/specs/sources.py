"""What a source spec says: one YAML per publication, in ``data_specs/sources/``.

Belongs here: the models of a publication, its vintages, files, columns, units and suppression
codes, and the loader. Does not belong here: reading a raw file (``pipeline/sources/``) or what a
column is used for (``data_specs/targets/``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from pipeline.errors import SpecError
from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.specs.known_totals import KnownTotal
from pipeline.specs.layouts import Fingerprint, Layout
from pipeline.specs.states import State

Level = Literal["nation", "state", "county", "tract", "zip", "other"]
Status = Literal["suppressed", "not_available", "controlled"]
_Counted = Literal["persons", "households", "housing_units", "families", "returns"]
_Money = Literal["usd", "usd_thousands", "usd_month", "usd_thousands_month"]
_Rate = Literal["percent", "years", "minutes", "persons_per_household", "weight"]
_Scaled = Literal["factor_millionths", "weight_hundredths"]
Unit = Literal[_Counted, _Money, _Rate, _Scaled, "code", "text"]

# What a raw number is multiplied by to become a plain unit, and the unit it then has.
UNIT_SCALE: dict[str, tuple[float, str]] = {
    "usd_thousands": (1000.0, "usd"),
    "usd_thousands_month": (1000.0, "usd_month"),
    "factor_millionths": (1e-6, "factor"),
    "weight_hundredths": (0.01, "weight"),
}


class ColumnSpec(SpecModel):
    """A published column, or all columns whose whole name matches a regular expression.

    Exactly one of ``name`` and ``pattern``. ``{year}`` in a name stands for the vintage. ``rename``
    is the name in the long table (default: as published). ``role`` limits the column to files of
    that role, ``vintages`` to those vintages: where a publisher changed what a name means, each
    meaning has an entry and a ``rename`` of its own. ``jam_values``: numbers that stand for "below"
    or "above the last class" of a median, as 2499 and 250001 do for household income. The first
    entry that matches a column wins.
    """

    name: str | None = None
    pattern: str | None = None
    rename: str | None = None
    role: str | None = None
    vintages: tuple[str, ...] = ()
    type: Literal["count", "amount", "rate", "code", "text"] = "count"
    unit: Unit
    description: str = Field(min_length=3)
    required: bool = True
    may_be_negative: bool = False
    jam_values: tuple[float, ...] = ()

    @model_validator(mode="after")
    def _one_of(self) -> Self:
        if (self.name is None) == (self.pattern is None):
            raise ValueError("give exactly one of name and pattern")
        if self.pattern is not None:
            try:
                re.compile(self.pattern)
            except re.error as error:
                raise ValueError(
                    f"pattern {self.pattern!r} is no regular expression: {error}"
                ) from error
            if self.rename is not None:
                raise ValueError("a pattern cannot be renamed")
        return self

    @property
    def label(self) -> str:
        return self.name or f"/{self.pattern}/"

    @property
    def scale(self) -> float:
        return UNIT_SCALE.get(self.unit, (1.0, self.unit))[0]

    @property
    def plain_unit(self) -> str:
        """The unit of the column after the reader: persons, usd, usd_month, percent, ..."""
        return UNIT_SCALE.get(self.unit, (1.0, self.unit))[1]

    def matches(self, column: str, year: str) -> bool:
        if self.pattern is not None:
            return re.fullmatch(self.pattern.replace("{year}", year), column) is not None
        return self.name is not None and column == self.name.replace("{year}", year)


class CodeSpec(SpecModel):
    """A mark that stands where a number would: text such as ``(X)``, a sentinel such as
    ``-666666666``, or a regular expression.

    A code that reads as a number is compared as a number, so ``-666666666.00`` is met by
    ``-666666666``.
    """

    code: str
    is_pattern: bool = False
    applies_to: Literal["estimate", "margin", "both"] = "both"
    status: Status
    meaning: str = Field(min_length=3)

    @property
    def number(self) -> float | None:
        try:
            return float(self.code) if self.code and not self.is_pattern else None
        except ValueError:
            return None


class WithheldZeros(SpecModel):
    """Zeros that hide: at ``levels`` the publisher writes 0, in a count and its amount, for fewer
    than ``below`` returns. A 0 stays a figure where the same column and class is 0 in every row of
    ``whole`` (``pipeline/sources/tables/withheld_zeros.py``).

    The count of amount A00200 is N00200; ``counts`` names those that the rule of names does not
    give. ``why`` says how it is known.
    """

    levels: tuple[Level, ...] = Field(min_length=1)
    below: int = Field(ge=2)
    whole: Literal["nation", "state"]
    counts: dict[str, str] = Field(default_factory=dict)
    why: str = Field(min_length=10)

    def count_of(self, amount: str) -> str:
        return self.counts.get(amount, f"N{amount.removeprefix('A')}")


class FileSpec(SpecModel):
    """One file of a publication: the first of ``paths`` that exists.

    Placeholders: {year}, {yy}, {st}, {ST}, {fips}, {State} (the name without spaces), {table}. A
    nationwide source whose path holds
    {st} is read from every matching file; {table} is repeated for each of the source's tables.
    ``url`` is the official address of this file, where the source's or vintage's is not (the same
    placeholders).
    """

    role: str = "table"
    paths: tuple[str, ...] = Field(min_length=1)
    url: str | None = Field(default=None, pattern=r"^https?://")
    optional: bool = False
    members: tuple[str, ...] = ()


class VintageSpec(SpecModel):
    """What differs in one vintage. ``renames`` maps the name published in this vintage to the name
    the spec uses; ``recode_counties`` (tract lists) a county's code in this vintage to the code
    that statistics of later years carry. ``url`` is the official address where it differs from the
    source's. ``publishers_form`` is false where the file read is not the publisher's own; ``notes``
    then say what it is.
    """

    title: str = ""
    url: str | None = Field(default=None, pattern=r"^https?://")
    publishers_form: bool = True
    notes: tuple[str, ...] = ()
    reader: str | None = None
    files: tuple[FileSpec, ...] | None = None
    renames: dict[str, str] = Field(default_factory=dict)
    recode_counties: dict[str, str] = Field(default_factory=dict)
    layout: Layout | None = None
    suppression: tuple[CodeSpec, ...] | None = None
    fingerprint: Fingerprint = Fingerprint()
    columns_absent: tuple[str, ...] = ()
    zero_margin_is_controlled: bool | None = None


class SourceSpec(SpecModel):
    """One publication. See ``data_specs/sources/*.yaml``; every key is checked, unknown keys are
    errors.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str = Field(min_length=5)
    publisher: str = Field(min_length=3)
    licence: str = Field(min_length=3)
    url: str = Field(pattern=r"^https?://")
    documentation: str = Field(pattern=r"^https?://")
    coverage: Literal["nation", "state"]
    levels: tuple[Level, ...] = Field(min_length=1)
    kind: Literal["published", "microdata", "geography"] = "published"
    reader: str
    encoding: Literal["utf-8", "latin-1", "utf-8 or latin-1"] = "utf-8"
    layout: Layout = Layout()
    files: tuple[FileSpec, ...] = Field(min_length=1)
    tables: tuple[str, ...] = ()
    vintages: dict[str, VintageSpec] = Field(min_length=1)
    columns: tuple[ColumnSpec, ...] = Field(min_length=1)
    strata: dict[str, str] = Field(default_factory=dict)
    suppression: tuple[CodeSpec, ...] = ()
    withheld_zeros: WithheldZeros | None = None
    zero_margin_is_controlled: bool = False
    known_totals: tuple[KnownTotal, ...] = ()
    caveats: tuple[str, ...] = ()

    @field_validator("vintages")
    @classmethod
    def _years(cls, value: dict[str, VintageSpec]) -> dict[str, VintageSpec]:
        wrong = [key for key in value if not re.fullmatch(r"\d{4}", key)]
        if wrong:
            raise ValueError(f"vintages are four-digit years in quotes, not {', '.join(wrong)}")
        return value

    @model_validator(mode="after")
    def _columns_once(self) -> Self:
        keys = [
            (column.name, column.role, vintage)
            for column in self.columns
            if column.name
            for vintage in column.vintages or self.vintages
        ]
        repeated = sorted({name for name, _, v in keys if keys.count((name, None, v)) > 1})
        if repeated:
            raise ValueError(f"columns declared twice: {', '.join(repeated)}")
        return self

    @model_validator(mode="after")
    def _tables_of_files(self) -> Self:
        for vintage, special in self.vintages.items():
            urls = [self.url + (special.url or "")]
            for file in special.files or self.files:
                by_table = any("{table}" in path for path in file.paths)
                if by_table and not self.tables:
                    raise ValueError(
                        f"vintage {vintage} has {{table}} in a path but the source lists no tables"
                    )
                urls.append("" if by_table else file.url or "")
            if any("{table}" in url for url in urls):
                raise ValueError(
                    f"vintage {vintage} has {{table}} in a url of no single table; give it as `url`"
                    " of a file whose path holds {table}"
                )
        return self

    @model_validator(mode="after")
    def _vintages_explained(self) -> Self:
        names = {column.name for column in self.columns}
        for vintage, special in self.vintages.items():
            if not special.publishers_form and not special.notes:
                raise ValueError(
                    f"vintage {vintage} is not read in the publisher's form; say in its notes what"
                    " is read"
                )
            for sheet in (special.layout or self.layout).sheets:
                if unknown := sorted(set(sheet.columns.values()) - names):
                    raise ValueError(
                        f"sheet {sheet.name!r} names measures that are no columns:"
                        f" {', '.join(unknown)}"
                    )
        return self

    def vintage(self, vintage: str) -> VintageSpec:
        """The vintage's own settings. Raises SpecError naming the vintages there are."""
        found = self.vintages.get(vintage)
        if found is None:
            raise SpecError(
                f"Source {self.id} has no vintage {vintage!r}",
                where=f"data_specs/sources/{self.id}.yaml",
                expected=f"one of {', '.join(sorted(self.vintages))}",
                remedy="Correct the vintage in the profile, or add it to the source's YAML",
            )
        return found

    def files_of(self, vintage: str) -> tuple[FileSpec, ...]:
        return self.vintage(vintage).files or self.files

    def reader_of(self, vintage: str) -> str:
        return self.vintage(vintage).reader or self.reader

    def layout_of(self, vintage: str) -> Layout:
        return self.vintage(vintage).layout or self.layout

    def suppression_of(self, vintage: str) -> tuple[CodeSpec, ...]:
        special = self.vintage(vintage).suppression
        return self.suppression if special is None else special

    def zero_margin_of(self, vintage: str) -> bool:
        special = self.vintage(vintage).zero_margin_is_controlled
        return self.zero_margin_is_controlled if special is None else special

    def columns_of(self, vintage: str, role: str) -> tuple[ColumnSpec, ...]:
        """Columns that files of ``role`` have in ``vintage``."""
        absent = set(self.vintage(vintage).columns_absent)
        of_vintage = (c for c in self.columns if not c.vintages or vintage in c.vintages)
        there = (c for c in of_vintage if not absent & {c.label, c.name})
        return tuple(column for column in there if column.role in (None, role))

    def url_of(
        self,
        vintage: str,
        state: State | None = None,
        *,
        file: FileSpec | None = None,
        table: str | None = None,
    ) -> str:
        """The official address (the file's, else the vintage's, else the source's) with its year,
        state and table filled in, as far as given.
        """
        return fill(
            (file.url if file else None) or self.vintage(vintage).url or self.url,
            vintage,
            state=state,
            table=table,
        )


def fill(
    pattern: str, vintage: str, *, state: State | None = None, table: str | None = None
) -> str:
    """``pattern`` with {year}, {yy}, {st}, {ST}, {fips}, {State} and {table} replaced, as far as
    they are known.
    """
    values = {"{year}": vintage, "{yy}": vintage[-2:]}
    if state is not None:
        values |= {"{st}": state.postal.lower(), "{ST}": state.postal, "{fips}": state.fips}
        values |= {"{State}": state.compact_name}
    if table is not None:
        values |= {"{table}": table}
    for mark, value in values.items():
        pattern = pattern.replace(mark, value)
    return pattern


def load_source(source_id: str, root: Path = SPEC_ROOT) -> SourceSpec:
    """The spec with this id. Raises SpecError if there is none, it is invalid, or its id is not its
    file name.
    """
    path = root / "sources" / f"{source_id}.yaml"
    if not path.exists():
        known = sorted(p.stem for p in (root / "sources").glob("*.yaml"))
        raise SpecError(
            f"There is no source {source_id!r}",
            where=str(path),
            expected=f"one of {', '.join(known)}",
            remedy="Correct the id, or add a YAML file of that name",
        )
    spec = load_yaml(path, SourceSpec)
    if spec.id != source_id:
        raise SpecError(
            f"The file's id is {spec.id!r}",
            where=str(path),
            expected=f"id: {source_id}",
            remedy="Make the id equal the file name",
        )
    return spec


def load_sources(root: Path = SPEC_ROOT) -> dict[str, SourceSpec]:
    """All source specs by id, sorted."""
    return {
        path.stem: load_source(path.stem, root)
        for path in sorted((root / "sources").glob("*.yaml"))
    }
