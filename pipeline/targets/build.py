"""From published long tables to rows of the target table.

Belongs here: picking cells, sums and products, standard errors, carrying, and the role an item's
spec gives it. Does not belong here: reading files, reconciling levels (``reconcile.py``), or
comparing with records (``concept_gap.py``).

Every area of every item appears exactly once. A withheld cell keeps its row with a null value;
nothing is imputed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.errors import TargetError
from pipeline.specs.catalog import Catalog
from pipeline.specs.factors import Factor
from pipeline.specs.profiles import Profile
from pipeline.specs.targets import CarryRule, TargetItem, TargetSpec
from pipeline.targets.carry import Carrier, Tables
from pipeline.targets.standard_errors import (
    carried_standard_error,
    cell_standard_error,
    product_standard_error,
    sum_standard_error,
)
from pipeline.vocabulary import CALIBRATE, DROPPED, GEOID_LENGTH, NATION, TARGET_KEY, VALIDATION

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
    "status": pl.String(),
    "role": pl.String(),
    "reason": pl.String(),
}


@dataclass(frozen=True)
class TargetNote:
    """A counted fact about the targets built: ``code`` names its kind, ``count`` how often,
    ``detail`` in words.
    """

    code: str
    count: int
    detail: str

    def __str__(self) -> str:
        return f"{self.detail} ({self.count:,})"


@dataclass(frozen=True)
class BuiltTargets:
    """``frame``: the target table (TARGET_SCHEMA), sorted by level, geoid, variable, domain;
    ``notes``: counted facts.
    """

    frame: pl.DataFrame
    notes: tuple[TargetNote, ...]


@dataclass(frozen=True)
class _Block:
    """Cells of one table at one level: arrays (areas, columns), NaN where nothing is published."""

    geoids: list[str]
    columns: dict[tuple[str, str], int]
    estimate: np.ndarray
    margin: np.ndarray
    controlled: np.ndarray
    withheld: np.ndarray


@dataclass(frozen=True)
class _Measured:
    """One item over all areas: arrays (areas,); ``factor`` is carried over published;
    ``margin_error`` lacks the error of carrying that ``error`` has.
    """

    published: np.ndarray
    carried: np.ndarray
    error: np.ndarray
    margin_error: np.ndarray
    factor: np.ndarray
    withheld: np.ndarray


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
    wanted, pieces, notes = list(dict.fromkeys(levels)), [], []
    for spec in (catalog.targets[i] for i in profile.targets):
        vintage = catalog.vintage_of(spec, profile)
        frame = tables.get((spec.source, vintage))
        for level in (lv for lv in wanted if lv in spec.levels):
            if frame is None:
                raise TargetError(
                    f"Targets {spec.id} need {spec.source} {vintage}, which was not read",
                    where=f"data_specs/targets/{spec.id}.yaml",
                    expected=(
                        "that table among"
                        f" {', '.join(f'{s} {v}' for s, v in sorted(tables)) or 'none'}"
                    ),
                    remedy="Pass every table of Catalog.required_tables",
                )
            pieces.append(
                _SpecBuilder(catalog, profile, spec, vintage, carrier, notes).rows(
                    frame, level, state_fips
                )
            )
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
    return BuiltTargets(result, _merged(notes))


def _merged(notes: list[TargetNote]) -> tuple[TargetNote, ...]:
    total: Counter[tuple[str, str]] = Counter()
    for note in notes:
        total[(note.code, note.detail)] += note.count
    return tuple(
        TargetNote(code, count, detail) for (code, detail), count in sorted(total.items()) if count
    )


class _SpecBuilder:
    """Rows of one target file at one level."""

    def __init__(
        self,
        catalog: Catalog,
        profile: Profile,
        spec: TargetSpec,
        vintage: str,
        carrier: Carrier,
        notes: list[TargetNote],
    ) -> None:
        self.catalog, self.profile, self.spec, self.vintage, self.carrier, self.notes = (
            catalog,
            profile,
            spec,
            vintage,
            carrier,
            notes,
        )
        self.items = spec.items_of(vintage)
        self.data_year = catalog.data_year(spec, vintage, profile)
        self._cell_factors: dict[str, np.ndarray] = {}

    def _name(self, column: str) -> str:
        return column.format(target_year=self.profile.target_year)

    def _note(self, code: str, count: int, detail: str) -> None:
        self.notes.append(TargetNote(code, int(count), f"{self.spec.id}: {detail}"))

    def rows(self, frame: pl.DataFrame, level: str, state_fips: str | None) -> pl.DataFrame:
        block = self._block(frame, level, state_fips)
        self._cell_factors = {}
        pieces = [self._item_rows(item, block, level) for item in self.items]
        return pl.concat(pieces)

    def _block(self, frame: pl.DataFrame, level: str, state_fips: str | None) -> _Block:
        spec = self.spec
        names = [(self._name(c), item.stratum) for item in self.items for c in item.columns] + [
            (c.column, "") for c in spec.age_sex_partition
        ]
        keys = {key: index for index, key in enumerate(dict.fromkeys(names))}
        rows = frame.select(
            pl.col("level").cast(pl.String),
            "geoid",
            "column",
            "stratum",
            "estimate",
            "margin_of_error",
            pl.col("status").cast(pl.String),
        )
        rows = self._recoded(rows, level)
        at_level = rows.filter(pl.col("level") == level)
        for prefix in spec.exclude_geoids:
            at_level = at_level.filter(~pl.col("geoid").str.starts_with(prefix))
        if state_fips is not None and level != NATION:
            at_level = at_level.filter(pl.col("geoid").str.starts_with(state_fips))
        geoids = sorted(at_level["geoid"].unique().to_list())
        if not geoids:
            raise TargetError(
                f"{spec.source} {self.vintage} has no {level} rows"
                + (f" for state {state_fips}" if state_fips else ""),
                where=f"data_specs/targets/{spec.id}.yaml",
                expected=f"at least one area at level {level}",
                remedy=(
                    "Check that the file covers the state, or take the level out of the target file"
                ),
            )
        lookup = pl.DataFrame(
            {
                "column": [k[0] for k in keys],
                "stratum": [k[1] for k in keys],
                "position": list(keys.values()),
            },
            schema_overrides={"position": pl.Int64},
        )
        needed = rows.join(lookup, on=["column", "stratum"])
        absent = [k for k, p in keys.items() if p not in set(needed["position"].unique().to_list())]
        if absent:
            column, stratum = absent[0]
            raise TargetError(
                f"{spec.source} {self.vintage} has no column {column}"
                + (f" in class {stratum}" if stratum else "")
                + (f" ({len(absent)} columns are missing)" if len(absent) > 1 else ""),
                where=f"data_specs/targets/{spec.id}.yaml",
                expected="the columns the target file names",
                remedy="Check the vintage's column numbering, or correct the target file",
            )
        cells = needed.filter(pl.col("level") == level).join(
            pl.DataFrame(
                {"geoid": geoids, "area": range(len(geoids))},
                schema={"geoid": pl.String, "area": pl.Int64},
            ),
            on="geoid",
        )
        shape = (len(geoids), len(keys))
        estimate, margin, controlled, withheld = (
            np.full(shape, np.nan),
            np.full(shape, np.nan),
            np.zeros(shape, bool),
            np.ones(shape, bool),
        )
        at = (cells["area"].to_numpy(), cells["position"].to_numpy())
        estimate[at] = cells["estimate"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        margin[at] = cells["margin_of_error"].cast(pl.Float64).fill_null(np.nan).to_numpy()
        controlled[at] = (cells["status"] == "controlled").to_numpy()
        withheld = np.isnan(estimate)
        no_row = np.ones(shape, bool)
        no_row[at] = False
        self._note(
            "no_row",
            no_row.sum(),
            f"cells without a row in {spec.source} {self.vintage} at {level} level; kept as"
            " suppressed",
        )
        self._note(
            "suppressed",
            (withheld & ~no_row).sum(),
            f"cells withheld or not available in {spec.source} {self.vintage} at {level} level",
        )
        if level == NATION and spec.nation_minus:
            self._subtract_other_areas(needed, estimate)
        return _Block(geoids, keys, estimate, margin, controlled, withheld)

    def _recoded(self, rows: pl.DataFrame, level: str) -> pl.DataFrame:
        """Rows with the present codes of areas renamed since the data year. Raises TargetError if
        old and present code both occur.
        """
        renamed = self.spec.recode_geoids
        if not renamed:
            return rows
        held = set(rows["geoid"].unique().to_list())
        both = sorted(old for old, new in renamed.items() if old in held and new in held)
        if both:
            raise TargetError(
                f"Area {both[0]} and its present code {renamed[both[0]]} both occur in"
                f" {self.spec.source} {self.vintage}",
                where=f"data_specs/targets/{self.spec.id}.yaml, recode_geoids",
                expected="areas that were renamed, not merged",
                remedy="Take the pair out of recode_geoids",
            )
        self._note(
            "recoded",
            sum(old in held and len(old) == GEOID_LENGTH[level] for old in renamed),
            f"areas renamed since {self.vintage} and given their present codes",
        )
        return rows.with_columns(pl.col("geoid").replace(renamed))

    def _subtract_other_areas(self, needed: pl.DataFrame, estimate: np.ndarray) -> None:
        """Take areas outside the 50 states and DC out of a national total (margins are untouched:
        such files have none).
        """
        for geoid in self.spec.nation_minus:
            other = needed.filter((pl.col("geoid") == geoid) & (pl.col("level") != NATION))
            if other.is_empty():
                self._note(
                    "no_other_area",
                    1,
                    f"the file has no row for {geoid}, so nothing was taken out of the nation",
                )
                continue
            for position, value in other.select("position", "estimate").drop_nulls().iter_rows():
                estimate[:, position] -= value

    def _measure(self, item: TargetItem, block: _Block, level: str) -> _Measured:
        at = [block.columns[(self._name(c), item.stratum)] for c in item.columns]
        value, withheld = block.estimate[:, at], block.withheld[:, at].any(axis=1)
        error = cell_standard_error(
            self.spec.standard_error_of(item), value, block.margin[:, at], block.controlled[:, at]
        )
        carry = self._carry_of(item)
        moved = self.data_year != self.profile.target_year
        cohort = self.carrier.age_sex_rule(carry.rule) if moved else None
        by_column = (
            np.ones_like(value)
            if cohort is None
            else self._age_sex_factors(cohort, item, block, level)
        )
        published, carried, raw_error = _combine(item, value, value * by_column, error * by_column)
        if cohort is None:
            factor = self.carrier.factors(carry.rule, level, block.geoids, self.data_year)
            carried, raw_error = carried * factor, raw_error * factor
        else:
            factor = np.divide(carried, published, out=np.ones_like(carried), where=published != 0)
        final = carried_standard_error(
            raw_error, np.ones_like(carried), carried, carry.relative_error if moved else 0.0
        )
        return _Measured(published, carried, final, raw_error, factor, withheld & np.isnan(carried))

    def _carry_of(self, item: TargetItem) -> CarryRule:
        return self.catalog.carry_of(self.spec, item, self.profile)

    def _age_sex_factors(
        self, factor: Factor, item: TargetItem, block: _Block, level: str
    ) -> np.ndarray:
        """Factors by column of ``item``, shape (areas, columns). A column outside the partition (a
        sex's total) takes the mean of the cells inside.
        """
        partition = self.spec.age_sex_partition
        cells = block.estimate[:, [block.columns[(c.column, "")] for c in partition]]
        if factor.id not in self._cell_factors:
            self._cell_factors[factor.id] = self.carrier.age_sex(
                factor, partition, self.spec.source, self.vintage, level, block.geoids, cells
            )
        multipliers = self._cell_factors[factor.id]
        position = {c.column: i for i, c in enumerate(partition)}
        columns = []
        for name in map(self._name, item.columns):
            if name not in position:
                raise TargetError(
                    f"Column {name} is carried by {factor.id} but is no cell of the age-by-sex"
                    " partition",
                    where=f"data_specs/targets/{self.spec.id}.yaml, {item.variable}/{item.domain}",
                    expected="columns listed under `age_sex_partition`",
                    remedy="Write the item as a sum of cells, or give it another carry rule",
                )
            columns.append(multipliers[:, position[name]])
        return np.stack(columns, axis=1)

    def _item_rows(self, item: TargetItem, block: _Block, level: str) -> pl.DataFrame:
        variable = self.catalog.variables[(item.variable, item.domain)]
        measured = self._measure(item, block, level)
        rule = self.spec.standard_error_of(item)
        known = ~np.isnan(measured.carried)
        self._note(
            "no_margin",
            (known & np.isnan(measured.error)).sum(),
            "values published without a margin of error; their variance is taken as infinite",
        )
        role, reason = self._role(item)
        count = len(block.geoids)
        carried, error = (
            pl.Series(x, dtype=pl.Float64).fill_nan(None)
            for x in (measured.carried, measured.error)
        )
        stated = (
            (known & ~np.isnan(measured.margin_error))
            if rule.rule == "acs_margin"
            else np.zeros(count, bool)
        )
        margin_error = pl.Series(
            np.where(stated, measured.margin_error, np.nan), dtype=pl.Float64
        ).fill_nan(None)
        moved = self.data_year != self.profile.target_year
        given = "published" if item.column is not None else "derived"
        frame = pl.DataFrame(
            {
                "level": [level] * count,
                "geoid": block.geoids,
                "variable": [item.variable] * count,
                "domain": [item.domain] * count,
                "family": [variable.family] * count,
                "unit": [variable.unit] * count,
                "value": carried,
                "standard_error": error,
                "published_value": carried,
                "published_standard_error": error,
                "margin_standard_error": margin_error,
                "margin_published": stated,
                "source": [self.spec.source] * count,
                "vintage": [self.vintage] * count,
                "carry_rule": (
                    [" * ".join(self._carry_of(item).rule) or "none" if moved else "none"] * count
                ),
                "carry_factor": measured.factor,
                "status": [given if k else "suppressed" for k in known],
                "role": [role] * count,
                "reason": [
                    reason or ("" if k else "withheld or not available in the publication")
                    for k in known
                ],
            },
            schema=TARGET_SCHEMA,
        )
        return frame

    def _role(self, item: TargetItem) -> tuple[str, str]:
        variable = self.catalog.variables[(item.variable, item.domain)]
        if not variable.expressible:
            return DROPPED, variable.not_expressible
        if item.validation_only:
            return VALIDATION, item.validation_only
        if (
            item.records_from is not None
            and int(self.profile.records.vintage) < item.records_from.year
        ):
            return (
                VALIDATION,
                f"{item.records_from.reason} (records are of {self.profile.records.vintage})",
            )
        if item.validation_only_when_carried and self.data_year != self.profile.target_year:
            return VALIDATION, item.validation_only_when_carried
        return CALIBRATE, ""


def _combine(
    item: TargetItem, value: np.ndarray, carried: np.ndarray, error: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``(published, carried, standard error of carried)`` of one item from its columns (areas,
    columns).
    """
    if item.column is not None:
        return value[:, 0], carried[:, 0], error[:, 0]
    if item.sum is not None:
        sign = np.array([1.0] * len(item.sum.plus) + [-1.0] * len(item.sum.minus))
        return value @ sign, carried @ sign, sum_standard_error(error)
    scale = item.product.scale
    plain, moved = scale * value[:, 0] * value[:, 1], scale * carried[:, 0] * carried[:, 1]
    spread = product_standard_error(carried[:, 0], carried[:, 1], error[:, 0], error[:, 1], scale)
    for one, other in ((0, 1), (1, 0)):
        # Nothing times an unpublished mean is nothing: a tract without households has no mean
        # income. Its error is that of the zero count times the typical mean of the level.
        empty = (value[:, one] == 0) & np.isnan(value[:, other])
        if empty.any():
            typical = (
                np.nanmedian(carried[:, other]) if np.isfinite(carried[:, other]).any() else np.nan
            )
            plain, moved = np.where(empty, 0.0, plain), np.where(empty, 0.0, moved)
            spread = np.where(empty, abs(scale) * error[:, one] * abs(typical), spread)
    return plain, moved, spread
