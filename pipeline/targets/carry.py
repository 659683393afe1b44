"""Factors that carry a published value of one year to the profile's target year.

Belongs here: evaluating the rules of ``data_specs/factors`` on published tables. Does not belong
here: the rules themselves, or the standard error of a carried value (``standard_errors.py``).

An area without a figure of its own is the sum of the areas below it: a nation of its states, a
state of its counties, a county of its tracts. Withheld cells add nothing to such a sum, which is
why a factor should rest on columns that are seldom withheld.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import itemgetter

import numpy as np
import polars as pl

from pipeline.errors import TargetError
from pipeline.specs.factors import (
    AgeGroupFactor,
    AgeSexFactor,
    Factor,
    GrowthFactor,
    GrowthPoint,
    RatioFactor,
    SeriesFactor,
    TrendFactor,
    factor_of,
)
from pipeline.specs.states import OUTLYING_AREAS
from pipeline.specs.targets import AgeSexCell
from pipeline.vocabulary import COUNTY, GEOID_LENGTH, LEVELS, NATION, TRACT

Tables = Mapping[tuple[str, str], pl.DataFrame]
_FROM = {level: LEVELS[position:] for position, level in enumerate(LEVELS)}
_OUTLYING = tuple(area.fips for area in OUTLYING_AREAS)
AGE_LIMIT = 120


class PublishedFigures:
    """Look-ups in published tables, with sums over children where a level has no rows
    of its own.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables
        self._found: dict[tuple[str, ...], dict[str, float]] = {}

    def values(
        self, source: str, vintage: str, column: str, level: str, stratum: str = ""
    ) -> dict[str, float]:
        """``{geoid: value}`` of one column at ``level``. Raises TargetError if the table or the
        column is not there.
        """
        key = (source, vintage, column, level, stratum)
        if key not in self._found:
            self._found[key] = self._look_up(*key)
        return self._found[key]

    def _look_up(
        self, source: str, vintage: str, column: str, level: str, stratum: str
    ) -> dict[str, float]:
        table = self._tables.get((source, vintage))
        if table is None:
            have = ", ".join(f"{s} {v}" for s, v in sorted(self._tables)) or "none"
            raise TargetError(
                f"A carry rule needs {source} {vintage}, which was not read",
                where=f"column {column}",
                expected=f"that table among those read ({have})",
                remedy=(
                    f"List {source} {vintage} under `sources` of the profile, or choose another"
                    " carry rule"
                ),
            )
        rows = table.filter((pl.col("column") == column) & (pl.col("stratum") == stratum))
        if rows.is_empty():
            raise TargetError(
                f"A carry rule needs column {column}{f' ({stratum})' if stratum else ''}, which"
                f" {source} {vintage} does not have",
                where=f"{source} {vintage}",
                expected="the column the factor names",
                remedy=(
                    "Check the year: another vintage of the source may hold it; or correct"
                    " data_specs/factors"
                ),
            )
        held: dict[str, dict[str, float]] = {finer: {} for finer in _FROM[level]}
        columns = (rows["geoid"].to_list(), rows["level"].to_list(), rows["estimate"].to_list())
        for geoid, at, value in sorted(zip(*columns, strict=True), key=itemgetter(0)):
            if at in held and value is not None and geoid[:2] not in _OUTLYING:
                held[at][geoid] = value
        found: dict[str, float] = {}
        for finer in reversed(_FROM[level]):
            parents: dict[str, float] = {}
            for geoid, value in found.items():
                parent = geoid[: GEOID_LENGTH[finer]]
                parents[parent] = parents.get(parent, 0.0) + value
            found = parents | held[finer]
        return found


def control_areas(area: str, level: str, geoids: Iterable[str]) -> tuple[str, list[str]]:
    """Level and GEOIDs of the areas whose figures carry targets of ``level``: the coarser of the
    rule's area and the target's own.

    ``finest`` is the target's own area, or the county of a tract (no estimates by year are
    published for tracts); ``own`` is the target's own area, tracts included.
    """
    if area == "own":
        return level, list(geoids)
    ruled = COUNTY if area == "finest" else area
    chosen = LEVELS[min(LEVELS.index(ruled), LEVELS.index(level))]
    return chosen, [g[: GEOID_LENGTH[chosen]] for g in geoids]


class Carrier:
    """Evaluates carry rules for one target year.

    Parameters: ``factors`` by id, ``tables`` by (source, vintage), ``target_year``.
    """

    def __init__(self, factors: Mapping[str, Factor], tables: Tables, target_year: int) -> None:
        self._factors, self._figures = factors, PublishedFigures(tables)
        self.target_year = target_year

    def rule(self, name: str) -> Factor:
        """The factor called ``name``. Raises TargetError if there is none."""
        if name not in self._factors:
            raise TargetError(
                f"There is no factor {name!r}",
                where="data_specs/factors",
                expected=", ".join(sorted(self._factors)),
                remedy="Correct the carry rule",
            )
        return self._factors[name]

    def age_sex_rule(self, rule: tuple[str, ...]) -> AgeSexFactor | None:
        """The age-by-sex factor of ``rule``, if that is what it is (it cannot be multiplied with
        others).
        """
        return next((f for f in map(self.rule, rule) if isinstance(f, AgeSexFactor)), None)

    def age_group_rule(self, rule: tuple[str, ...]) -> AgeGroupFactor | None:
        """The factor of an age group in ``rule``, if there is one (it stands alone)."""
        return next((f for f in map(self.rule, rule) if isinstance(f, AgeGroupFactor)), None)

    def follows_trend(self, rule: tuple[str, ...]) -> bool:
        """Whether a factor of ``rule`` depends on the column carried."""
        return any(isinstance(self.rule(name), TrendFactor) for name in rule)

    def factors(
        self,
        rule: tuple[str, ...],
        level: str,
        geoids: list[str],
        data_year: int,
        column: tuple[str, str] = ("", ""),
    ) -> np.ndarray:
        """Product of the factors of ``rule``, one number per area, shape (areas,). All ones where
        no year lies between. ``column``: name and stratum of what is carried, for trends.
        """
        result = np.ones(len(geoids))
        if data_year == self.target_year:
            return result
        for factor in map(self.rule, rule):
            if isinstance(factor, SeriesFactor):
                result = result * factor.factor(data_year, self.target_year)
            elif isinstance(factor, RatioFactor):
                result = result * self._ratio(factor, level, geoids, data_year)
            elif isinstance(factor, GrowthFactor):
                result = result * self._growth(factor, level, geoids, data_year)
            elif isinstance(factor, TrendFactor):
                result = result * self._trend(factor, level, geoids, data_year, column)
            else:
                raise TargetError(
                    f"Factor {factor.id} carries age-by-sex cells only",
                    where=f"level {level}",
                    expected="an item whose columns lie in the file's `age_sex_partition`",
                    remedy="Give the item another rule",
                )
        return result

    def population(
        self, factor: RatioFactor, level: str, geoids: list[str], year: int
    ) -> np.ndarray:
        """The level (not the ratio) of a ratio factor's column in ``year``, shape (areas,)."""
        within = (v.vintage for v in factor.vintages if v.years[0] <= year <= v.years[1])
        vintage = next(within, None)
        if vintage is None:
            have = (f"{v.vintage}: {v.years[0]}-{v.years[1]}" for v in factor.vintages)
            raise TargetError(
                f"Factor {factor.id} has no vintage that gives {year}",
                where=f"data_specs/factors ({factor.title})",
                expected=", ".join(have),
                remedy="Add the vintage that holds it, to the factor and to the profile's sources",
            )
        column = factor.column.format(year=year)
        values = self._figures.values(factor.source, vintage, column, level)
        return _pick(values, geoids, f"{factor.source} {vintage}, {level}, {column}")

    def _ratio(
        self, factor: RatioFactor, level: str, geoids: list[str], data_year: int
    ) -> np.ndarray:
        control, areas = control_areas(factor.area, level, geoids)
        after = self.population(factor, control, areas, self.target_year)
        before = self.population(factor, control, areas, data_year)
        return after / _above_zero(before, areas, f"{factor.id} {data_year}")

    def _growth(
        self, factor: GrowthFactor, level: str, geoids: list[str], data_year: int
    ) -> np.ndarray:
        control, areas = control_areas(factor.area, level, geoids)
        start, end = (self._at(point, control, areas) for point in (factor.start, factor.end))
        if factor.area == "own":
            start = np.where((start > 0) & (end > 0), start, np.where(end > 0, end, 1.0))
            end = np.where(end > 0, end, start)
        span = (self.target_year - data_year) / (factor.end.year - factor.start.year)
        return (end / _above_zero(start, areas, f"{factor.id} {factor.start.year}")) ** span

    def _trend(
        self,
        factor: TrendFactor,
        level: str,
        geoids: list[str],
        data_year: int,
        column: tuple[str, str],
    ) -> np.ndarray:
        name, stratum = column
        points = (
            GrowthPoint(
                source=factor.source, vintage=vintage, column=name, stratum=stratum, year=year
            )
            for vintage, year in (
                (factor.start_vintage, factor.start_year),
                (factor.end_vintage, factor.end_year),
            )
        )
        start, end = points
        grown = GrowthFactor(
            id=factor.id, kind="growth", title=factor.title, area=factor.area, start=start, end=end
        )
        return self._growth(grown, level, geoids, data_year)

    def _at(self, point: GrowthPoint, level: str, geoids: list[str]) -> np.ndarray:
        """The published cell of each area, shape (areas,)."""
        table = (point.source, point.vintage, point.column, level)
        what = f"{point.source} {point.vintage}, {level}, {point.column}"
        return _pick(self._figures.values(*table, point.stratum), geoids, what)

    def age_sex(
        self,
        factor: AgeSexFactor,
        partition: tuple[AgeSexCell, ...],
        source: str,
        vintage: str,
        level: str,
        geoids: list[str],
        cells: np.ndarray,
    ) -> np.ndarray:
        """Factors of the partition's cells, shape (areas, cells); ``cells`` holds their published
        values (NaN where withheld).

        carried(a, c) = B(a, c) g(c) P(A) / sum over a in A and c of B(a, c) g(c): see AgeSexFactor.
        """
        change = self._national_change(factor, partition, source, vintage)
        if factor.control is not None and level == TRACT:
            published = self._at(factor.control, TRACT, geoids)
            grown = np.nansum(cells * change, axis=1)
            usable = (grown > 0) & (published > 0)
            scale = np.where(usable, published / np.where(usable, grown, 1.0), 1.0)
            return scale[:, None] * change[None, :]
        control, areas = control_areas("finest", level, geoids)
        names = sorted(set(areas))
        owner = np.array([names.index(a) for a in areas], dtype=np.int64)
        grown = np.zeros(len(names))
        np.add.at(grown, owner, np.nansum(cells * change, axis=1))
        ratio_factor = factor_of(self._factors, factor.population, RatioFactor)
        published = self.population(ratio_factor, control, names, self.target_year)
        scale = published / _above_zero(grown, names, f"{factor.id}, cells of {source} {vintage}")
        return scale[owner][:, None] * change[None, :]

    def _national_change(
        self, factor: AgeSexFactor, partition: tuple[AgeSexCell, ...], source: str, vintage: str
    ) -> np.ndarray:
        """g of each cell, shape (cells,): the nation at the target year over its base."""
        latest = factor.national_column.format(year=self.target_year)
        after = np.array([self._national(factor, cell, latest) for cell in partition])
        if factor.base == "own_nation":
            own = (self._figures.values(source, vintage, c.column, NATION) for c in partition)
            before = np.array([values.get("", np.nan) for values in own])
        else:
            column = factor.base_column
            before = np.array([self._national(factor, cell, column) for cell in partition])
        names = [cell.column for cell in partition]
        return after / _above_zero(before, names, f"{factor.id}, national base")

    def _national(self, factor: AgeSexFactor, cell: AgeSexCell, column: str) -> float:
        sexes = {"male": "1", "female": "2", "both": "0"}[cell.sex]
        total = 0.0
        for age in range(cell.ages[0], min(cell.ages[1], factor.top_age) + 1):
            stratum = factor.stratum.format(sex=sexes, age=age)
            table = (factor.national, factor.national_vintage, column, NATION)
            total += self._figures.values(*table, stratum).get("", np.nan)
        return total


def _pick(values: Mapping[str, float], geoids: list[str], what: str) -> np.ndarray:
    missing = sorted({g for g in geoids if g not in values})
    if missing:
        more = f" and {len(missing) - 5} more areas" if len(missing) > 5 else ""
        raise TargetError(
            f"A carry rule finds no value for {', '.join(missing[:5])}{more}",
            where=what,
            expected="a published value for every area that is carried",
            remedy=(
                "The areas' codes may have changed between the vintages (Connecticut in 2022):"
                " carry these targets by their state, or leave them out; if one of the files was"
                " cut or edited, download it again"
            ),
        )
    return np.array([values[g] for g in geoids], dtype=np.float64)


def _above_zero(values: np.ndarray, names: list[str], what: str) -> np.ndarray:
    bad = [n or "the nation" for n, v in zip(names, values, strict=True) if not v > 0]
    if bad:
        raise TargetError(
            f"A carry factor would divide by zero for {', '.join(bad[:5])}",
            where=what,
            expected="a published base above zero",
            remedy="Carry these targets by a coarser area",
        )
    return values
