"""Reconciling target tables: from rows to arrays on a tree of areas, through ``calibration_core.reconcile``, and back.

Order: the nation with all states, once; then, for each state, its reconciled state values with its counties and tracts.
A state value published for the target year is held there, so that states keep adding up to the nation; one carried from
another year is fused by precision with what lies below it, because the error of carrying is common to all states.
Categories that partition a parent (age bands, races) are made to add up at every level above the finest, then followed downwards.

Belongs here: the glue and the report of what moved. Does not belong here: the sweeps themselves, or building targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.geography import GeographyTree
from calibration_core.reconcile import reconcile
from pipeline.errors import TargetError
from pipeline.specs.variables import CategoryGroup

HELD_RELATIVE_ERROR = 1e-6
LARGE_ADJUSTMENT = 2.0
CATEGORY_ROUNDS = 6
POPULATION = ("persons", "total")
_NOUN = {"county": "counties", "tract": "tracts"}

ADJUSTMENT_SCHEMA: dict[str, pl.DataType] = {
    "level": pl.String(),
    "geoid": pl.String(),
    "variable": pl.String(),
    "domain": pl.String(),
    "published_value": pl.Float64(),
    "published_standard_error": pl.Float64(),
    "value": pl.Float64(),
    "adjustment_in_standard_errors": pl.Float64(),
    "step": pl.String(),
}


@dataclass(frozen=True)
class Reconciled:
    """``frame``: the target table with reconciled ``value`` and ``standard_error``, derived rows added; ``adjustments``: every
    published value moved by more than two of its standard errors; ``agreement``: chi-square and degrees of freedom by variable."""

    frame: pl.DataFrame
    adjustments: pl.DataFrame
    agreement: pl.DataFrame


@dataclass(frozen=True)
class _Grid:
    """Targets as arrays: per level, (areas, variables); variance inf where nothing is known."""

    tree: GeographyTree
    keys: list[tuple[str, str]]
    values: list[np.ndarray]
    variances: list[np.ndarray]


def reconcile_national(targets: pl.DataFrame, groups: Iterable[CategoryGroup] = ()) -> Reconciled:
    """Reconcile the nation with its states. ``targets``: rows of levels nation and state (all states there are).

    Where states are missing from a publication the nation says nothing about one of them alone, and values stay as published.
    """
    states = sorted(set(targets.filter(pl.col("level") == "state")["geoid"]))
    tree = GeographyTree.from_leaves(["nation", "state"], [[""] * len(states), states])
    return _reconcile(targets, tree, list(groups), held=None, category_depths=0)


def reconcile_state(
    state_targets: pl.DataFrame, national: pl.DataFrame, areas: pl.DataFrame, levels: tuple[str, ...], groups: Iterable[CategoryGroup] = ()
) -> Reconciled:
    """Reconcile one state's counties and tracts with its state values.

    Parameters
    ----------
    state_targets : rows of the levels below state, one state.
    national : the frame of ``reconcile_national``; this state's rows are used.
    areas : the state's geography: ``state_fips``, ``county_fips`` and, if ``levels`` has tract, ``tract``.
    levels : the profile's levels, nation first.
    groups : categories that partition a parent.

    Raises TargetError if a county or tract of the targets is not in the geography, or an area of the finest level has no target
    while others have. An area that is not in the geography and in which nobody lives keeps its rows, with role dropped and the reason.
    """
    fips = areas["state_fips"][0]
    names = [level for level in levels if level != "nation"]
    columns = {"state": "state_fips", "county": "county_fips", "tract": "tract"}
    leaves = areas.select([columns[n] for n in names]).unique().sort(columns[names[-1]])
    tree = GeographyTree.from_leaves(names, [leaves[columns[n]].to_list() for n in names])
    state_targets = owned_areas(state_targets, tree)
    own = national.filter((pl.col("level") == "state") & (pl.col("geoid") == fips))
    rows = pl.concat([own, state_targets.filter(pl.col("level") != "state")])
    held = {(r["variable"], r["domain"]) for r in own.iter_rows(named=True) if r["carry_factor"] == 1.0 and r["value"] is not None}
    return _reconcile(rows, tree, list(groups), held=held, category_depths=len(names) - 1)


def owned_areas(targets: pl.DataFrame, tree: GeographyTree) -> pl.DataFrame:
    """``targets`` of the tree's levels, after checking that tables and geography name the same areas. See ``reconcile_state``."""
    dropped: list[str] = []
    for level, geoids in zip(tree.levels[1:], tree.geoids[1:], strict=True):
        rows = targets.filter(pl.col("level") == level)
        alien = rows.filter(~pl.col("geoid").is_in(list(geoids))).group_by("geoid").agg(pl.col("value").abs().max(), pl.col("source").unique().sort())
        peopled = alien.filter(pl.col("value") > 0).sort("geoid")
        if peopled.height:
            first = peopled.row(0, named=True)
            raise TargetError(
                f"The tables have {peopled.height:,} {_NOUN[level]} that the tract list has not, first {level} {first['geoid']}",
                where=f"{', '.join(first['source'])}, GEOID {first['geoid']}",
                expected=f"the {len(geoids):,} {_NOUN[level]} of the tract list, so that each has a county to own it",
                remedy="Compare the tract list with the tables: one may be cut or edited, then download it again; or they are of different vintages, "
                "then change the profile's geography.vintage",
            )
        dropped += alien["geoid"].to_list()
        bare = sorted(set(geoids) - set(rows["geoid"]))
        # A county that no table has may still be the sum of its tracts; at the finest level nothing stands in.
        if rows.height and bare and level == tree.levels[-1]:
            raise TargetError(
                f"The tract list has {len(bare):,} {_NOUN[level]} that are in none of the tables, first {level} {bare[0]}",
                where=f"tract list, {level} {bare[0]}",
                expected=f"each {level} of the list among the {rows['geoid'].n_unique():,} of the tables ({', '.join(rows['source'].unique().sort())})",
                remedy="Compare the tract list with the tables: one may be cut or edited, then download it again; or they are of different vintages, "
                "then change the profile's geography.vintage",
            )
    lost = pl.col("geoid").is_in(dropped)
    reason = pl.lit("the area is not in the tract list, and nothing above zero is published for it")
    return targets.with_columns(
        pl.when(lost).then(pl.lit("dropped")).otherwise("role").alias("role"), pl.when(lost).then(reason).otherwise("reason").alias("reason")
    )


def _reconcile(rows: pl.DataFrame, tree: GeographyTree, groups: list[CategoryGroup], *, held: set[tuple[str, str]] | None, category_depths: int) -> Reconciled:
    """``category_depths``: at how many levels, from the top, categories are made to add up."""
    grid = _grid(rows, tree, held)
    nonnegative = np.array([not variable.startswith("usd_") for variable, _ in grid.keys])
    result = reconcile(tree, grid.values, grid.variances, nonnegative=nonnegative)
    values, variances = [v.copy() for v in result.values], [v.copy() for v in result.variances]
    moved: set[tuple[str, str]] = set()
    for depth in range(category_depths):
        # Areas and categories are two hierarchies that cross: making one add up disturbs the other. Turn by turn they settle.
        for _ in range(CATEGORY_ROUNDS if depth else 1):
            touched = _categories(grid.keys, values[depth], variances[depth], groups)
            moved |= touched
            if not touched:
                break
            _follow(grid, values, variances, nonnegative, [i for i, key in enumerate(grid.keys) if key in touched], depth)
    frame = _rows_out(rows, grid, values, variances)
    agreement = pl.DataFrame(
        {
            "variable": [k[0] for k in grid.keys],
            "domain": [k[1] for k in grid.keys],
            "chi_square": result.chi_square,
            "degrees_of_freedom": result.degrees_of_freedom,
            "held_at_zero": result.pinned,
            "moved_by_categories": [key in moved for key in grid.keys],
        }
    )
    return Reconciled(frame, _adjusted(frame, moved), agreement)


def _follow(grid: _Grid, values: list[np.ndarray], variances: list[np.ndarray], nonnegative: np.ndarray, columns: list[int], depth: int) -> None:
    """Bring the areas back together (in place) after categories moved ``columns`` at ``depth``: levels above are held, this level keeps
    what the categories made of it, levels below keep their own estimates."""
    y, v = [], []
    for level in range(len(values)):
        known = np.isfinite(variances[level][:, columns])
        if level < depth or (level == depth == 0):
            y.append(np.where(known, values[level][:, columns], 0.0))
            v.append(np.where(known, _tight(y[-1]), np.inf))
        elif level == depth:
            y.append(np.where(known, values[level][:, columns], 0.0))
            v.append(np.where(known, np.maximum(variances[level][:, columns], _tight(y[-1])), np.inf))
        else:
            # What lies below has already had its say at this level, so here it only shares out; its precision decides how.
            y.append(grid.values[level][:, columns])
            v.append(grid.variances[level][:, columns])
    tree = grid.tree
    if 0 < depth < len(values) - 1:
        upper = GeographyTree(tree.levels[: depth + 1], tree.geoids[: depth + 1], tree.parents[: depth + 1])
        settled = reconcile(upper, y[: depth + 1], v[: depth + 1], nonnegative=nonnegative[columns])
        y[depth] = np.nan_to_num(settled.values[depth])
        v[depth] = np.where(np.isfinite(v[depth]), _tight(y[depth]), np.inf)
    again = reconcile(tree, y, v, nonnegative=nonnegative[columns])
    for level in range(len(values)):
        values[level][:, columns] = again.values[level]
        if level > depth:
            variances[level][:, columns] = again.variances[level]


def _tight(values: np.ndarray) -> np.ndarray:
    """The variance of a value that is held."""
    return (HELD_RELATIVE_ERROR * np.abs(values) + 1e-9) ** 2


def _grid(rows: pl.DataFrame, tree: GeographyTree, held: set[tuple[str, str]] | None) -> _Grid:
    # A target kept for validation must not move the ones that calibrate, least of all its own neighbours in the tree.
    usable = rows.filter(pl.col("role") == "calibrate")
    keys = sorted(set(usable.select("variable", "domain").iter_rows()))
    column = {key: i for i, key in enumerate(keys)}
    values, variances = [], []
    for depth, level in enumerate(tree.levels):
        index = {g: i for i, g in enumerate(tree.geoids[depth])}
        y = np.zeros((len(index), len(keys)))
        v = np.full(y.shape, np.inf)
        part = usable.filter((pl.col("level") == level) & pl.col("value").is_not_null() & pl.col("geoid").is_in(list(index)))
        if part.height:
            at = np.array([index[g] for g in part["geoid"]])
            of = np.array([column[k] for k in part.select("variable", "domain").iter_rows()])
            y[at, of] = part["value"].to_numpy()
            # A value without a standard error says nothing about its precision, so it must not pull on others.
            v[at, of] = part["standard_error"].fill_null(np.inf).to_numpy() ** 2
        if depth == 0 and held:
            of = [column[key] for key in held if key in column]
            v[:, of] = np.where(np.isfinite(v[:, of]), np.minimum(v[:, of], _tight(y[:, of])), np.inf)
        values.append(y)
        variances.append(v)
    _empty_areas_stay_empty(keys, values[-1], variances[-1])
    return _Grid(tree, keys, values, variances)


def _empty_areas_stay_empty(keys: list[tuple[str, str]], values: np.ndarray, variances: np.ndarray) -> None:
    """Hold every zero of an area whose published population is zero (in place).

    The margin of a zero (about 12 persons in the ACS) would otherwise move a share of a county's correction into open water.
    """
    if POPULATION not in keys:
        return
    column = keys.index(POPULATION)
    empty = np.isfinite(variances[:, column]) & (values[:, column] == 0)
    variances[empty[:, None] & np.isfinite(variances) & (values == 0)] = 0.0


def _categories(keys: list[tuple[str, str]], values: np.ndarray, variances: np.ndarray, groups: list[CategoryGroup]) -> set[tuple[str, str]]:
    """Make the children of each group add up to their parent in every area of one level (in place); returns the keys moved.

    Groups come parents first: a value once made to add up is held for the groups after it. Areas are solved side by side.
    """
    column = {key: i for i, key in enumerate(keys)}
    settled: set[int] = set()
    moved: set[tuple[str, str]] = set()
    for group in groups:
        found = [column.get((m.variable, m.domain)) for m in (group.parent, *group.children)]
        family = [i for i in found if i is not None]
        if len(family) < len(found) or not np.isfinite(variances[:, family]).all():
            continue
        children = len(family) - 1
        tree = GeographyTree.from_leaves(["parent", "child"], [["parent"] * children, [f"{n:05d}" for n in range(children)]])
        y = values[:, family].T
        floor = _tight(y)
        v = np.where(np.isin(family, list(settled))[:, None], floor, np.maximum(variances[:, family].T, floor))
        positive = not group.parent.variable.startswith("usd_")
        answer = reconcile(tree, [y[:1], y[1:]], [v[:1], v[1:]], nonnegative=[positive] * y.shape[1])
        values[:, family] = np.concatenate([answer.values[0], answer.values[1]]).T
        variances[:, family] = np.minimum(variances[:, family], np.concatenate([answer.variances[0], answer.variances[1]]).T)
        settled.update(family)
        moved.update(keys[i] for i in family)
    return moved


def _rows_out(rows: pl.DataFrame, grid: _Grid, values: list[np.ndarray], variances: list[np.ndarray]) -> pl.DataFrame:
    """The target table with reconciled values; areas and variables nothing was published for, but which are now known, are added."""
    pieces = []
    variable, domain = [k[0] for k in grid.keys], [k[1] for k in grid.keys]
    for depth, level in enumerate(grid.tree.levels):
        geoids = grid.tree.geoids[depth]
        known = np.isfinite(variances[depth])
        area, key = np.nonzero(known)
        pieces.append(
            pl.DataFrame(
                {
                    "level": [level] * area.size,
                    "geoid": [geoids[i] for i in area],
                    "variable": [variable[i] for i in key],
                    "domain": [domain[i] for i in key],
                    "_value": values[depth][area, key],
                    "_standard_error": np.sqrt(variances[depth][area, key]),
                },
                schema_overrides={"level": pl.String, "geoid": pl.String, "variable": pl.String, "domain": pl.String},
            )
        )
    solved = pl.concat(pieces)
    key = ["level", "geoid", "variable", "domain"]
    described = (
        rows.select("variable", "domain", "family", "unit", "role", "reason")
        .sort("variable", "domain", "role", "reason")
        .unique(["variable", "domain"], keep="first", maintain_order=True)
    )
    # A row kept for validation keeps the value it was published with.
    calibrates = pl.col("role") == "calibrate"
    joined = (
        rows.join(solved, on=key, how="left")
        .with_columns(pl.when(calibrates).then("_value"), pl.when(calibrates).then("_standard_error"))
        .with_columns(
            pl.coalesce("_value", "value").alias("_new"),
            pl.when(pl.col("_value").is_not_null()).then("_standard_error").otherwise("standard_error").alias("_new_se"),
        )
    )
    changed = (pl.col("_new") - pl.col("value")).abs() > 1e-9 * pl.max_horizontal(pl.col("value").abs(), pl.lit(1.0))
    status = (
        pl.when(pl.col("value").is_null() & pl.col("_value").is_not_null())
        .then(pl.lit("derived"))
        .when(changed & (pl.col("status") == "published"))
        .then(pl.lit("reconciled"))
        .otherwise(pl.col("status"))
    )
    kept = joined.with_columns(status.alias("status"), pl.col("_new").alias("value"), pl.col("_new_se").alias("standard_error")).select(rows.columns)
    added = solved.join(rows.select(key), on=key, how="anti").join(described, on=["variable", "domain"], how="left")
    extra = added.select(
        *key,
        "family",
        "unit",
        pl.col("_value").alias("value"),
        pl.col("_standard_error").alias("standard_error"),
        pl.lit(None, pl.Float64).alias("published_value"),
        pl.lit(None, pl.Float64).alias("published_standard_error"),
        pl.lit(False).alias("margin_published"),
        pl.lit("derived from other levels").alias("source"),
        pl.lit("").alias("vintage"),
        pl.lit("none").alias("carry_rule"),
        pl.lit(1.0).alias("carry_factor"),
        pl.lit("derived").alias("status"),
        "role",
        "reason",
    )
    return pl.concat([kept, extra.select(rows.columns)]).sort(key)


def _adjusted(frame: pl.DataFrame, by_category: set[tuple[str, str]]) -> pl.DataFrame:
    moved = frame.filter(pl.col("published_value").is_not_null() & pl.col("value").is_not_null() & (pl.col("published_standard_error") > 0)).with_columns(
        ((pl.col("value") - pl.col("published_value")) / pl.col("published_standard_error")).alias("adjustment_in_standard_errors")
    )
    large = moved.filter(pl.col("adjustment_in_standard_errors").abs() > LARGE_ADJUSTMENT)
    steps = ["categories" if key in by_category else "areas" for key in large.select("variable", "domain").iter_rows()]
    return (
        large.with_columns(pl.Series("step", steps, dtype=pl.String))
        .select(list(ADJUSTMENT_SCHEMA))
        .sort(pl.col("adjustment_in_standard_errors").abs(), descending=True)
    )
