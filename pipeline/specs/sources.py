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
from pipeline.specs.addresses import (
    ADDRESS,
    fill,
    holds_a_key,
    names_a_file,
    saved_as,
    shared_addresses,
    unknown_marks,
)
from pipeline.specs.base import SpecModel, load_once
from pipeline.specs.known_totals import KnownTotal
from pipeline.specs.layouts import Fingerprint, Layout
from pipeline.specs.roots import Roots, spec_roots
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
    {st} is read from every matching file; {table} is repeated for each of ``tables``, by default
    the source's. ``url`` is the address of this very file, where the source's or vintage's is not
    (the same placeholders); `geocal fetch` asks for it, unless ``by_hand`` says why only a person
    can.
    """

    role: str = "table"
    paths: tuple[str, ...] = Field(min_length=1)
    url: str | None = Field(default=None, pattern=ADDRESS)
    by_hand: str | None = Field(default=None, min_length=10)
    tables: tuple[str, ...] = ()
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
    url: str | None = Field(default=None, pattern=ADDRESS)
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

    ``instead``: other sources that hold the same cells under the same names, with the tables that
    must all be there; the first that is complete is read where this one's own files are not.
    """

    id: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str = Field(min_length=5)
    publisher: str = Field(min_length=3)
    licence: str = Field(min_length=3)
    url: str = Field(pattern=ADDRESS)
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
    instead: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    @field_validator("vintages")
    @classmethod
    def _years(cls, value: dict[str, VintageSpec]) -> dict[str, VintageSpec]:
        if wrong := [key for key in value if not re.fullmatch(r"\d{4}", key)]:
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
        if repeated := sorted({name for name, _, v in keys if keys.count((name, None, v)) > 1}):
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
                if more := sorted(set(file.tables) - set(self.tables)):
                    raise ValueError(f"tables of a file that the source lacks: {', '.join(more)}")
                urls.append("" if by_table else file.url or "")
            if any("{table}" in url for url in urls):
                raise ValueError(
                    f"vintage {vintage} has {{table}} in a url of no single table; give it as `url`"
                    " of a file whose path holds {table}"
                )
        return self

    @model_validator(mode="after")
    def _addresses_of_files(self) -> Self:
        for vintage in self.vintages:
            claims = []
            for file in self.files_of(vintage):
                url = self._address(vintage, file)
                if unknown := unknown_marks(url):
                    raise ValueError(f"nothing fills in {', '.join(unknown)} of address {url}")
                if holds_a_key(url):
                    raise ValueError("an address holds a key; keys come from the environment")
                if not self.by_hand(vintage, file):
                    claims.append((saved_as(file.paths, url), url))
            if shared := shared_addresses(claims):
                raise ValueError(
                    f"vintage {vintage}: several files have one address, {', '.join(shared)}; give"
                    " each its own `url`"
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

    def tables_of(self, file: FileSpec) -> tuple[str | None, ...]:
        """The tables for each of which ``file`` is repeated; (None,) for a file of no table."""
        if not any("{table}" in path for path in file.paths):
            return (None,)
        return file.tables or self.tables

    def by_hand(self, vintage: str, file: FileSpec) -> str:
        """Why no program can ask the publisher for ``file``; "" where one can."""
        special = self.vintage(vintage)
        if file.by_hand or not special.publishers_form:
            return file.by_hand or " ".join(special.notes)
        page = not names_a_file(self._address(vintage, file))
        return "the address known is that of a page, not of the file" if page else ""

    def _address(self, vintage: str, file: FileSpec | None) -> str:
        return (file.url if file else None) or self.vintage(vintage).url or self.url

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
        return fill(self._address(vintage, file), vintage, state=state, table=table)


def load_source(source_id: str, root: Path | None = None) -> SourceSpec:
    """The spec with this id, under ``root`` or else in the folders that the environment names.

    Raises SpecError if there is none, it is invalid, or its id is not its file name.
    """
    roots = _roots(root)
    known = roots.files("sources")
    if source_id not in known:
        raise SpecError(
            f"There is no source {source_id!r}",
            where=str(roots.folders[-1] / "sources" / f"{source_id}.yaml"),
            expected=f"one of {', '.join(sorted(known))}",
            remedy="Correct the id, or add a YAML file of that name",
        )
    return source_of(known[source_id])


def source_of(path: Path) -> SourceSpec:
    """The spec that ``path`` holds. Raises SpecError if it is invalid or has another id."""
    spec = load_once(path, SourceSpec)
    if spec.id != path.stem:
        raise SpecError(
            f"The file's id is {spec.id!r}",
            where=str(path),
            expected=f"id: {path.stem}",
            remedy="Make the id equal the file name",
        )
    return spec


def load_sources(root: Path | None = None) -> dict[str, SourceSpec]:
    """All source specs by id, sorted."""
    return {name: source_of(path) for name, path in sorted(_roots(root).files("sources").items())}


def _roots(root: Path | None) -> Roots:
    return spec_roots() if root is None else Roots((root.resolve(),))
