"""The cells of one published table that a target file asks for, at one level, as arrays.

Belongs here: picking areas and columns, renamed areas, cells without a row, areas taken out of the
nation. Does not belong here: what is made of the cells (``build.py``), or reading files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.errors import TargetError
from pipeline.specs.area_changes import load_area_changes
from pipeline.specs.targets import TargetSpec
from pipeline.vocabulary import GEOID_LENGTH, NATION

Column = tuple[str, str]
"""Published name and stratum."""
Tell = Callable[[str, int, str], None]
"""Takes a counted fact: code, count, detail."""


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of one table at one level: arrays (areas, columns), NaN where nothing is published;
    ``columns`` gives the position of each column.
    """

    geoids: list[str]
    columns: dict[Column, int]
    estimate: np.ndarray
    margin: np.ndarray
    controlled: np.ndarray

    @property
    def withheld(self) -> np.ndarray:
        return np.isnan(self.estimate)


def published_cells(
    spec: TargetSpec,
    vintage: str,
    columns: Iterable[Column],
    frame: pl.DataFrame,
    level: str,
    state_fips: str | None,
    tell: Tell,
    target_year: int,
) -> Cells:
    """Cells of ``columns`` for every area of ``frame`` (a published long table) at ``level``.

    Areas that were divided anew and that statistics of the target year do not know are left out and
    told: their figures speak of several of its areas, or of parts.

    Raises TargetError if there is no area of the level, or a column is not there.
    """
    positions = {column: index for index, column in enumerate(dict.fromkeys(columns))}
    text = pl.col("level", "status").cast(pl.String)
    kept = ("geoid", "column", "stratum", "estimate", "margin_of_error")
    rows = _recoded(spec, vintage, frame.select(text, *kept), level, tell)
    geoids = _areas(spec, vintage, rows, level, state_fips, tell)
    geoids = _of_the_year(geoids, target_year, tell)
    needed = rows.join(_lookup(positions), on=["column", "stratum"])
    _require_columns(spec, vintage, positions, needed)

    areas = pl.DataFrame({"geoid": pl.Series(geoids, dtype=pl.String)}).with_row_index("area")
    cells = needed.filter(pl.col("level") == level).join(areas, on="geoid")
    at = (cells["area"].to_numpy(), cells["position"].to_numpy())
    shape = (len(geoids), len(positions))
    estimate, margin = np.full(shape, np.nan), np.full(shape, np.nan)
    controlled, no_row = np.zeros(shape, bool), np.ones(shape, bool)
    estimate[at] = cells["estimate"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    margin[at] = cells["margin_of_error"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    controlled[at] = (cells["status"] == "controlled").to_numpy()
    no_row[at] = False
    made = Cells(geoids, positions, estimate, margin, controlled)
    table = f"in {spec.source} {vintage} at {level} level"
    tell("no_row", no_row.sum(), f"cells without a row {table}; kept as suppressed")
    withheld = (made.withheld & ~no_row).sum()
    tell("suppressed", withheld, f"cells withheld or not available {table}")
    if level == NATION:
        _subtract_other_areas(spec, needed, estimate, tell)
    return made


def _of_the_year(geoids: list[str], year: int, tell: Tell) -> list[str]:
    for change in load_area_changes().changes:
        if out := change.left_out(geoids, year):
            since = f"{change.name}, from {change.year} on"
            tell("divided_anew", len(out), f"figures of {', '.join(out)} left out: {since}")
            geoids = [geoid for geoid in geoids if geoid not in out]
    return geoids


def _lookup(positions: dict[Column, int]) -> pl.DataFrame:
    rows = [(name, stratum, position) for (name, stratum), position in positions.items()]
    schema = {"column": pl.String, "stratum": pl.String, "position": pl.Int64}
    return pl.DataFrame(rows, schema=schema, orient="row")


def _areas(
    spec: TargetSpec,
    vintage: str,
    rows: pl.DataFrame,
    level: str,
    state_fips: str | None,
    tell: Tell,
) -> list[str]:
    at_level = rows.filter(pl.col("level") == level)
    for prefix in spec.exclude_geoids:
        at_level = at_level.filter(~pl.col("geoid").str.starts_with(prefix))
    if state_fips is not None and level != NATION:
        at_level = at_level.filter(pl.col("geoid").str.starts_with(state_fips))
    geoids = sorted(at_level["geoid"].unique().to_list())
    without = spec.states_without.get(state_fips or "")
    if not geoids and without:
        tell("state_without", 1, f"no {level} of state {state_fips}: {without}")
    elif not geoids:
        raise TargetError(
            f"{spec.source} {vintage} has no {level} rows"
            + (f" for state {state_fips}" if state_fips else ""),
            where=f"data_specs/targets/{spec.id}.yaml",
            expected=f"at least one area at level {level}",
            remedy="Check that the file covers the state, or take the level out of the target file",
        )
    return geoids


def _require_columns(
    spec: TargetSpec, vintage: str, positions: dict[Column, int], needed: pl.DataFrame
) -> None:
    held = set(needed["position"].unique().to_list())
    absent = [column for column, position in positions.items() if position not in held]
    if absent:
        column, stratum = absent[0]
        raise TargetError(
            f"{spec.source} {vintage} has no column {column}"
            + (f" in class {stratum}" if stratum else "")
            + (f" ({len(absent)} columns are missing)" if len(absent) > 1 else ""),
            where=f"data_specs/targets/{spec.id}.yaml",
            expected="the columns the target file names",
            remedy="Check the vintage's column numbering, or correct the target file",
        )


def _recoded(
    spec: TargetSpec, vintage: str, rows: pl.DataFrame, level: str, tell: Tell
) -> pl.DataFrame:
    """Rows with the present codes of areas renamed since the data year. Raises TargetError if old
    and present code both occur.
    """
    renamed = spec.recode_geoids
    if not renamed:
        return rows
    held = set(rows["geoid"].unique().to_list())
    both = sorted(old for old, new in renamed.items() if old in held and new in held)
    if both:
        raise TargetError(
            f"Area {both[0]} and its present code {renamed[both[0]]} both occur in"
            f" {spec.source} {vintage}",
            where=f"data_specs/targets/{spec.id}.yaml, recode_geoids",
            expected="areas that were renamed, not merged",
            remedy="Take the pair out of recode_geoids",
        )
    count = sum(old in held and len(old) == GEOID_LENGTH[level] for old in renamed)
    tell("recoded", count, f"areas renamed since {vintage} and given their present codes")
    return rows.with_columns(pl.col("geoid").replace(renamed))


def _subtract_other_areas(
    spec: TargetSpec, needed: pl.DataFrame, estimate: np.ndarray, tell: Tell
) -> None:
    """Take areas outside the 50 states and DC out of a national total (margins are untouched: such
    files have none).
    """
    for geoid in spec.nation_minus:
        other = needed.filter((pl.col("geoid") == geoid) & (pl.col("level") != NATION))
        if other.is_empty():
            detail = f"the file has no row for {geoid}, so nothing was taken out of the nation"
            tell("no_other_area", 1, detail)
        hidden = other["estimate"].null_count()
        tell(
            "other_area_withheld",
            hidden,
            f"cells of {geoid} are withheld, so not taken out of the nation",
        )
        for position, value in other.select("position", "estimate").drop_nulls().iter_rows():
            estimate[:, position] -= value
