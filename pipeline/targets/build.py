"""From published long tables to rows of the target table.

Belongs here: sums and products of cells, standard errors, carrying, and the role an item's spec
gives it. Does not belong here: picking cells (``published_cells.py``), reading files, reconciling
levels (``reconcile.py``), or comparing with records (``concept_gap.py``).

Every area of every item appears exactly once. A withheld cell keeps its row with a null value;
nothing is imputed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.errors import TargetError
from pipeline.sources.base import SourceNote, merged_notes
from pipeline.specs.catalog import Catalog
from pipeline.specs.factors import Factor
from pipeline.specs.profiles import Profile
from pipeline.specs.targets import TargetItem, TargetSpec
from pipeline.targets.carry import Carrier, Tables
from pipeline.targets.item_factors import ItemFactors
from pipeline.targets.published_cells import Column, published_cells
from pipeline.targets.standard_errors import (
    carried_standard_error,
    cell_standard_error,
    product_standard_error,
    sum_standard_error,
)
from pipeline.vocabulary import CALIBRATE, DROPPED, TARGET_KEY, VALIDATION

TARGET_SCHEMA: dict[str, pl.DataType] = {
    "level": pl.String(),
    "geoid": pl.String(),
    "variable": pl.String(),
    "domain": pl.String(),
    "family": pl.String(),
    "unit": pl.String(),
    "value": pl.Float64(),
    "standard_error": pl.Float64(),
    "published_value": pl.Float64(),
    "published_standard_error": pl.Float64(),
    "margin_standard_error": pl.Float64(),
    "margin_published": pl.Boolean(),
    "source": pl.String(),
    "vintage": pl.String(),
    "carry_rule": pl.String(),
    "carry_factor": pl.Float64(),
    "provenance": pl.String(),
    "treatment": pl.String(),
    "concept_error": pl.Float64(),
    "status": pl.String(),
    "role": pl.String(),
    "reason": pl.String(),
}

# What is the same in all rows of an item.
_OF_ITEM = (
    *("level", "variable", "domain", "family", "unit", "source", "vintage"),
    *("carry_rule", "provenance", "treatment", "role"),
)


@dataclass(frozen=True)
class BuiltTargets:
    """``frame``: the target table (TARGET_SCHEMA), sorted by level, geoid, variable, domain;
    ``notes``: counted facts.
    """

    frame: pl.DataFrame
    notes: tuple[SourceNote, ...]


@dataclass(frozen=True, eq=False)
class _Measured:
    """One item over all areas: arrays (areas,), NaN where nothing is published; ``factor`` is
    carried over published, ``rule`` its name; ``margin_error`` lacks the error of carrying that
    ``error`` has. What is restated is so in all of them.
    """

    carried: np.ndarray
    error: np.ndarray
    margin_error: np.ndarray
    factor: np.ndarray
    rule: str


def build_targets(
    catalog: Catalog,
    profile: Profile,
    tables: Tables,
    levels: Iterable[str],
    state_fips: str | None = None,
    factors: Mapping[str, Factor] | None = None,
) -> BuiltTargets:
    """Target rows of ``profile`` at ``levels``.

    Parameters
    ----------
    catalog, profile : the specs.
    tables : published long tables by (source, vintage); those the carry rules need belong here too
        (``Catalog.required_tables``).
    levels : any of nation, state, county, tract.
    state_fips : two digits limits state, county and tract rows to one state; None builds all areas
        there are.
    factors : by id; defaults to the catalog's.

    Raises TargetError naming file, column and remedy if a table or column is missing or a factor
    cannot be had.
    """
    carrier = Carrier(catalog.factors if factors is None else factors, tables, profile.target_year)
    wanted = list(dict.fromkeys(levels))
    pieces: list[pl.DataFrame] = []
    notes: list[SourceNote] = []
    for spec in (catalog.targets[i] for i in profile.targets):
        vintage = catalog.vintage_of(spec, profile)
        builder = _SpecBuilder(catalog, profile, spec, vintage, carrier, notes)
        for level in (lv for lv in wanted if lv in spec.levels):
            pieces.append(builder.rows(_table_of(spec, vintage, tables), level, state_fips))
    if not pieces:
        return BuiltTargets(pl.DataFrame(schema=TARGET_SCHEMA), ())
    result = pl.concat(pieces).sort(TARGET_KEY)
    twice = result.filter(pl.struct(TARGET_KEY).is_duplicated())
    if twice.height:
        first = twice.row(0, named=True)
        raise TargetError(
            f"{twice.height:,} targets are stated twice, for example"
            f" {first['variable']}/{first['domain']}",
            where=f"{first['level']} {first['geoid'] or 'nation'}, source {first['source']}",
            expected="one source for each variable, domain and area",
            remedy="Leave one of the target files out of the profile",
        )
    return BuiltTargets(result, merged_notes(notes))


def _table_of(spec: TargetSpec, vintage: str, tables: Tables) -> pl.DataFrame:
    frame = tables.get((spec.source, vintage))
    if frame is None:
        have = ", ".join(f"{s} {v}" for s, v in sorted(tables)) or "none"
        raise TargetError(
            f"Targets {spec.id} need {spec.source} {vintage}, which was not read",
            where=f"data_specs/targets/{spec.id}.yaml",
            expected=f"that table among {have}",
            remedy="Pass every table of Catalog.required_tables",
        )
    return frame


class _SpecBuilder:
    """Rows of one target file."""

    def __init__(
        self,
        catalog: Catalog,
        profile: Profile,
        spec: TargetSpec,
        vintage: str,
        carrier: Carrier,
        notes: list[SourceNote],
    ) -> None:
        self.catalog, self.profile, self.spec, self.vintage = catalog, profile, spec, vintage
        self.carrier, self.notes = carrier, notes
        self.data_year = catalog.data_year(spec, vintage, profile)
        self.moved = self.data_year != profile.target_year
        self.partition = catalog.partition_of(spec)

    def _columns(self, item: TargetItem) -> list[Column]:
        year = self.profile.target_year
        return [(name.format(target_year=year), item.stratum) for name in item.columns]

    def _note(self, code: str, count: int, detail: str) -> None:
        self.notes.append(SourceNote(code, int(count), f"{self.spec.id}: {detail}"))

    def rows(self, frame: pl.DataFrame, level: str, state_fips: str | None) -> pl.DataFrame:
        """Rows at one level, from the published long table ``frame``."""
        items = self.spec.items_of(self.vintage)
        columns = [column for item in items for column in self._columns(item)]
        columns += [(cell.column, "") for cell in self.partition]
        cells = published_cells(
            self.spec,
            self.vintage,
            columns,
            frame,
            level,
            state_fips,
            self._note,
            self.profile.target_year,
        )
        factors = ItemFactors(self.carrier, self.spec, self.vintage, self.partition, cells, level)
        parts = [self._item_rows(item, factors) for item in items]
        texts = pl.DataFrame([text for text, _ in parts], schema=dict.fromkeys(_OF_ITEM, pl.String))
        whole = texts[np.repeat(np.arange(len(parts)), len(cells.geoids))].hstack(
            [
                pl.Series("geoid", cells.geoids * len(parts), dtype=pl.String),
                *(_stacked(name, [part[name] for _, part in parts]) for name in parts[0][1]),
            ]
        )
        return whole.select(pl.col(name).cast(kind) for name, kind in TARGET_SCHEMA.items())

    def _measure(self, item: TargetItem, factors: ItemFactors) -> _Measured:
        cells, columns = factors.cells, self._columns(item)
        at = [cells.columns[column] for column in columns]
        value, margin, controlled = (
            x[:, at] for x in (cells.estimate, cells.margin, cells.controlled)
        )
        if item.times != 1.0:
            value, margin = value * item.times, margin * item.times
        year = self.data_year + item.years_ahead
        moved = year != self.profile.target_year
        rule = self.spec.standard_error_of(item)
        error = cell_standard_error(rule, value, margin, controlled)
        carry = self.catalog.carry_of(self.spec, item, self.profile)
        name = f"{item.variable}/{item.domain}"
        by_column = factors.by_column(carry.rule, columns, year, name) if moved else None
        if by_column is None:
            published, plain, plain_error = _combine(item, value, value, error)
            factor = factors.by_area(carry.rule, year)
            carried, raw_error = plain * factor, plain_error * factor
        else:
            published, carried, raw_error = _combine(
                item, value, value * by_column, error * by_column
            )
            factor = np.divide(carried, published, out=np.ones_like(carried), where=published != 0)
        share = carry.error(self.profile.target_year - year)
        final = carried_standard_error(raw_error, np.ones_like(carried), carried, share)
        rules = list(carry.rule) if moved else []
        treatment = self.spec.treatment_of(item)
        if treatment.how == "restated":
            rules.append(f"restated by {treatment.factor:g}")
        by = treatment.factor
        carried, final, raw_error = carried * by, final * by, raw_error * by
        return _Measured(carried, final, raw_error, factor * by, " * ".join(rules) or "none")

    def _item_rows(
        self, item: TargetItem, factors: ItemFactors
    ) -> tuple[dict[str, str | None], dict[str, np.ndarray | list[str]]]:
        """What all rows of an item share (``_OF_ITEM``), and its figures, one for each area; NaN
        where there is none."""
        variable = self.catalog.variables[(item.variable, item.domain)]
        measured = self._measure(item, factors)
        known = ~np.isnan(measured.carried)
        no_margin = (known & np.isnan(measured.error)).sum()
        detail = "values published without a margin of error; their variance is taken as infinite"
        self._note("no_margin", no_margin, detail)
        role, reason = self._role(item)
        by_margin = self.spec.standard_error_of(item).rule == "acs_margin"
        stated = known & ~np.isnan(measured.margin_error) & by_margin
        given = "published" if item.column is not None else "derived"
        withheld = "withheld or not available in the publication"
        same: dict[str, str | None] = {
            "level": factors.level,
            "variable": item.variable,
            "domain": item.domain,
            "family": variable.family,
            "unit": variable.unit,
            "source": self.spec.source,
            "vintage": self.vintage,
            "carry_rule": measured.rule,
            "provenance": self.spec.provenance_of(item),
            "treatment": self.spec.treatment_of(item).how,
            "role": role,
        }
        return same, {
            "value": measured.carried,
            "standard_error": measured.error,
            "published_value": measured.carried,
            "published_standard_error": measured.error,
            "margin_standard_error": np.where(stated, measured.margin_error, np.nan),
            "margin_published": stated,
            "carry_factor": measured.factor,
            "concept_error": self._concept_error(item, measured.carried),
            "status": [given if k else "suppressed" for k in known],
            "reason": [reason or ("" if k else withheld) for k in known],
        }

    def _concept_error(self, item: TargetItem, value: np.ndarray) -> np.ndarray:
        """Of each area, in the unit of the value: none of one concept, that of the factor where
        restated; NaN until the gap is measured (``concept_gap.py``)."""
        treatment = self.spec.treatment_of(item)
        if self.spec.same_concept:
            return np.zeros_like(value)
        if treatment.how == "restated":
            return treatment.factor_error * np.abs(value)
        return np.full_like(value, np.nan)

    def _role(self, item: TargetItem) -> tuple[str, str]:
        variable = self.catalog.variables[(item.variable, item.domain)]
        if not variable.expressible:
            return DROPPED, variable.not_expressible
        provenance = self.spec.provenance_of(item)
        if provenance in self.profile.held_out_classes:
            return VALIDATION, f"the profile holds out figures of class {provenance}"
        treatment = self.spec.treatment_of(item)
        if treatment.how == "observed":
            return VALIDATION, treatment.why
        records = self.profile.records.vintage
        if item.records_from is not None and int(records) < item.records_from.year:
            return VALIDATION, f"{item.records_from.reason} (records are of {records})"
        if item.validation_only_when_carried and self.moved:
            return VALIDATION, item.validation_only_when_carried
        return CALIBRATE, ""


def _stacked(name: str, parts: Sequence[np.ndarray | list[str]]) -> pl.Series:
    """One column of several items, one below the other; NaN is null, but of a factor."""
    if isinstance(parts[0], list):
        return pl.Series(name, [text for part in parts for text in part], dtype=pl.String)
    return pl.Series(name, np.concatenate(parts), nan_to_null=name != "carry_factor")


def _combine(
    item: TargetItem, value: np.ndarray, carried: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(published, carried, standard error of carried)`` of one item from its columns (areas,
    columns).
    """
    if item.product is not None:
        return _product(item.product.scale, value, carried, error)
    if item.sum is not None:
        sign = np.array([1.0] * len(item.sum.plus) + [-1.0] * len(item.sum.minus))
        return (value * sign).sum(axis=1), (carried * sign).sum(axis=1), sum_standard_error(error)
    return value[:, 0], carried[:, 0], error[:, 0]


def _product(
    scale: float, value: np.ndarray, carried: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same of ``scale`` times the first column times the second."""
    plain, moved = scale * value[:, 0] * value[:, 1], scale * carried[:, 0] * carried[:, 1]
    spread = product_standard_error(carried[:, 0], carried[:, 1], error[:, 0], error[:, 1], scale)
    for one, other in ((0, 1), (1, 0)):
        # Nothing times an unpublished mean is nothing: a tract without households has no mean
        # income. Its error is that of the zero count times the typical mean of the level.
        empty = (value[:, one] == 0) & np.isnan(value[:, other])
        if empty.any():
            known = np.isfinite(carried[:, other]).any()
            typical = np.nanmedian(carried[:, other]) if known else np.nan
            plain, moved = np.where(empty, 0.0, plain), np.where(empty, 0.0, moved)
            spread = np.where(empty, abs(scale) * error[:, one] * abs(typical), spread)
    return plain, moved, spread
