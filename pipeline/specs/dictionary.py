"""The data dictionary of sources: each column of each publication, and what it is used for.

Belongs here: joining source specs with the targets, factors and profiles that use them. Does not
belong here: how it is printed (``cli/sources.py``, ``docs/make_dictionary.py``), or the tables that
geocal writes (``codebook.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pipeline.specs.catalog import Catalog
from pipeline.specs.factors import AgeSexFactor, Factor, GrowthFactor, RatioFactor, TrendFactor
from pipeline.specs.sources import ColumnSpec, SourceSpec
from pipeline.specs.targets import TargetItem, TargetSpec

OF_RECORDS = "records"


@dataclass(frozen=True)
class Use:
    """One variable that a target file states from columns of a source.

    ``columns``: what of them is added (``-`` before one taken away, a product as ``a x b``), with
    its class after a colon; ``treatment``: fitted, restated by a factor, or observed, and ``why``
    where it is not the default; ``note``: how its concept differs from the records'.
    """

    target: str
    levels: tuple[str, ...]
    variable: str
    domain: str
    label: str
    unit: str
    columns: str
    vintages: tuple[str, ...]
    treatment: str
    why: str
    note: str


@dataclass(frozen=True)
class ColumnEntry:
    """A column, or all that match a pattern, as a reader gives it.

    ``published_in``: the unit printed, where it differs from ``unit``; ``variables``: how many
    variables of targets are made from it.
    """

    name: str
    role: str
    unit: str
    published_in: str
    description: str
    required: bool
    variables: int


@dataclass(frozen=True)
class FileEntry:
    """A file of the newest vintage as a pattern: usual paths, address, and how it is had."""

    role: str
    paths: tuple[str, ...]
    address: str
    tables: tuple[str, ...]
    optional: bool
    by_hand: str


@dataclass(frozen=True)
class SourceEntry:
    """All there is to say of a source. ``profiles``: vintages that each profile reads."""

    spec: SourceSpec
    files: tuple[FileEntry, ...]
    columns: tuple[ColumnEntry, ...]
    uses: tuple[Use, ...]
    factors: tuple[str, ...]
    profiles: dict[str, tuple[str, ...]]

    @property
    def used_for(self) -> str:
        """In a few words: how many variables, at which levels, or that it gives the records."""
        if self.spec.kind == "microdata":
            return OF_RECORDS
        if self.spec.kind == "geography":
            return "tracts and PUMAs"
        count = len({(use.variable, use.domain) for use in self.uses})
        said = [f"{count} variables"] if count else []
        return ", ".join([*said, *(["carrying"] if self.factors else [])]) or "nothing yet"


def source_entries(catalog: Catalog) -> dict[str, SourceEntry]:
    """Every source by id, sorted. Raises SpecError for a faulty file."""
    uses: dict[str, list[Use]] = {}
    for name in catalog.targets:
        spec = catalog.targets[name]
        uses.setdefault(spec.source, []).extend(_uses(spec, catalog))
    profiles = {name: catalog.profiles[name] for name in catalog.profiles}
    return {
        name: SourceEntry(
            catalog.sources[name],
            _files(catalog.sources[name]),
            tuple(_columns(catalog.sources[name], uses.get(name, []))),
            tuple(uses.get(name, [])),
            tuple(_factors_of(name, catalog)),
            {
                p: profile.sources[name]
                for p, profile in profiles.items()
                if name in profile.sources
            },
        )
        for name in sorted(catalog.sources)
    }


def _uses(spec: TargetSpec, catalog: Catalog) -> Iterator[Use]:
    for item in spec.items:
        variable = catalog.variables[item.variable, item.domain]
        treatment = spec.treatment_of(item)
        notes = (item.concept_note, variable.concept_note, variable.not_expressible)
        how = f"restated x {treatment.factor:g}" if treatment.how == "restated" else treatment.how
        yield Use(
            spec.id,
            spec.levels,
            item.variable,
            item.domain,
            variable.label,
            variable.unit,
            _formula(item),
            item.vintages or spec.vintages,
            how if variable.expressible else "not expressible",
            "" if treatment.how == "fitted" else treatment.why,
            " ".join(note for note in notes if note),
        )


def _formula(item: TargetItem) -> str:
    stratum = f":{item.stratum}" if item.stratum else ""
    if item.product is not None:
        text = " x ".join(item.product.columns)
    elif item.sum is not None:
        text = " + ".join(item.sum.plus) + "".join(f" - {name}" for name in item.sum.minus)
    else:
        text = item.column or ""
    times = f" x {item.times:g}" if item.times != 1 else ""
    return f"{text}{stratum}{times}"


def _columns(spec: SourceSpec, uses: list[Use]) -> Iterator[ColumnEntry]:
    wanted: dict[int, set[tuple[str, str]]] = {}
    for use in uses:
        for name in use.columns.replace(":", " ").split():
            owner = next((at for at, c in enumerate(spec.columns) if _gives(c, name)), None)
            if owner is not None:
                wanted.setdefault(owner, set()).add((use.variable, use.domain))
    for at, column in enumerate(spec.columns):
        printed = "" if column.unit == column.plain_unit else column.unit
        yield ColumnEntry(
            column.rename or column.label,
            column.role or "",
            column.plain_unit,
            printed,
            column.description,
            column.required,
            len(wanted.get(at, ())),
        )


def _gives(column: ColumnSpec, name: str) -> bool:
    """Whether a target's column (whose year may be open, as in POPESTIMATE{target_year}) is one
    that ``column`` declares.
    """
    year = "2000"
    shown = name.replace("{target_year}", year).replace("{year}", year)
    return column.rename == name or column.matches(shown, year)


def _files(spec: SourceSpec) -> tuple[FileEntry, ...]:
    newest = max(spec.vintages)
    return tuple(
        FileEntry(
            file.role,
            file.paths,
            file.url or spec.vintage(newest).url or spec.url,
            tuple(table for table in spec.tables_of(file) if table),
            file.optional,
            spec.by_hand(newest, file),
        )
        for file in spec.files_of(newest)
    )


def _factors_of(source: str, catalog: Catalog) -> Iterator[str]:
    """Factors of carrying that read ``source``, with the columns."""
    for name in catalog.factors:
        columns = _read_by(catalog.factors[name], source)
        if columns:
            yield f"{name} ({', '.join(columns)})"


def _read_by(factor: Factor, source: str) -> list[str]:
    if isinstance(factor, RatioFactor):
        return [factor.column] if factor.source == source else []
    if isinstance(factor, GrowthFactor):
        return [p.column for p in (factor.start, factor.end) if p.source == source]
    if isinstance(factor, TrendFactor):
        return ["each item's own column"] if factor.source == source else []
    if isinstance(factor, AgeSexFactor):
        own = [factor.national_column] if factor.national == source else []
        control = factor.control
        return own + ([control.column] if control and control.source == source else [])
    return []
