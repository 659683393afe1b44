"""Reconciling target tables: from rows to arrays on a tree of areas, through ``calibration_core.reconcile``, and back.

Order: the nation with all states, once; then, for each state, its reconciled state values with its counties and tracts.
A state value published for the target year is held there, so that states keep adding up to the nation; one carried from
another year is fused by precision with what lies below it, because the error of carrying is common to all states.
Categories that partition a parent (age bands, races) are made to add up at the state, then followed downwards.

Belongs here: the glue and the report of what moved. Does not belong here: the sweeps themselves, or building targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.geography import GeographyTree
from calibration_core.reconcile import reconcile
from pipeline.specs.variables import CategoryGroup

HELD_RELATIVE_ERROR = 1e-6
LARGE_ADJUSTMENT = 2.0

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
    return _reconcile(targets, tree, list(groups), held=None, category_depth=None)


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
    """
    fips = areas["state_fips"][0]
    names = [level for level in levels if level != "nation"]
    columns = {"state": "state_fips", "county": "county_fips", "tract": "tract"}
    leaves = areas.select([columns[n] for n in names]).unique().sort(columns[names[-1]])
    tree = GeographyTree.from_leaves(names, [leaves[columns[n]].to_list() for n in names])
    own = national.filter((pl.col("level") == "state") & (pl.col("geoid") == fips))
    rows = pl.concat([own, state_targets.filter(pl.col("level") != "state")])
    held = {(r["variable"], r["domain"]) for r in own.iter_rows(named=True) if r["carry_factor"] == 1.0 and r["value"] is not None}
    return _reconcile(rows, tree, list(groups), held=held, category_depth=0)


def _reconcile(
    rows: pl.DataFrame, tree: GeographyTree, groups: list[CategoryGroup], *, held: set[tuple[str, str]] | None, category_depth: int | None
) -> Reconciled:
    grid = _grid(rows, tree, held)
    nonnegative = [not variable.startswith("usd_") for variable, _ in grid.keys]
    result = reconcile(tree, grid.values, grid.variances, nonnegative=nonnegative)
    step = "areas"
    values, variances = [v.copy() for v in result.values], [v.copy() for v in result.variances]
    moved_by_category: set[tuple[str, str]] = set()
    if category_depth is not None and groups:
        moved_by_category = _categories(grid.keys, values[category_depth], variances[category_depth], groups)
    if moved_by_category:
        columns = [i for i, key in enumerate(grid.keys) if key in moved_by_category]
        pinned_v = [v[:, columns].copy() for v in grid.variances]
        pinned_y = [y[:, columns].copy() for y in grid.values]
        top_value, top_variance = values[category_depth][:, columns], variances[category_depth][:, columns]
        pinned_y[category_depth] = np.where(np.isfinite(top_variance), top_value, 0.0)
        pinned_v[category_depth] = np.where(np.isfinite(top_variance), (HELD_RELATIVE_ERROR * np.abs(pinned_y[category_depth]) + 1e-9) ** 2, np.inf)
        again = reconcile(tree, pinned_y, pinned_v, nonnegative=[nonnegative[i] for i in columns])
        for depth in range(len(values)):
            values[depth][:, columns] = again.values[depth]
            if depth != category_depth:
                variances[depth][:, columns] = again.variances[depth]
    frame = _rows_out(rows, grid, values, variances)
    agreement = pl.DataFrame(
        {
            "variable": [k[0] for k in grid.keys],
            "domain": [k[1] for k in grid.keys],
            "chi_square": result.chi_square,
            "degrees_of_freedom": result.degrees_of_freedom,
            "held_at_zero": result.pinned,
            "moved_by_categories": [key in moved_by_category for key in grid.keys],
        }
    )
    return Reconciled(frame, _adjusted(frame, step, moved_by_category), agreement)


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
            v[:, of] = np.where(np.isfinite(v[:, of]), np.minimum(v[:, of], (HELD_RELATIVE_ERROR * np.abs(y[:, of]) + 1e-9) ** 2), np.inf)
        values.append(y)
        variances.append(v)
    return _Grid(tree, keys, values, variances)


def _categories(keys: list[tuple[str, str]], values: np.ndarray, variances: np.ndarray, groups: list[CategoryGroup]) -> set[tuple[str, str]]:
    """Make the children of each group add up to their parent at the top level (in place); returns the keys moved.

    Groups come parents first: a value once made to add up is held for the groups after it.
    """
    column = {key: i for i, key in enumerate(keys)}
    settled: set[int] = set()
    moved: set[tuple[str, str]] = set()
    for group in groups:
        family = [column.get((m.variable, m.domain)) for m in (group.parent, *group.children)]
        if any(i is None for i in family) or not np.isfinite(variances[:, family]).all():
            continue
        parent, children = family[0], family[1:]
        tree = GeographyTree.from_leaves(["parent", "child"], [["parent"] * len(children), [f"{n:05d}" for n in range(len(children))]])
        for area in range(values.shape[0]):
            tight = {i: (HELD_RELATIVE_ERROR * abs(values[area, i]) + 1e-9) ** 2 for i in family if i in settled}
            variance = np.array([tight.get(i, max(variances[area, i], (HELD_RELATIVE_ERROR * abs(values[area, i]) + 1e-9) ** 2)) for i in family])
            answer = reconcile(
                tree,
                [values[area, [parent]][:, None], values[area, children][:, None]],
                [variance[:1][:, None], variance[1:][:, None]],
                nonnegative=[not group.parent.variable.startswith("usd_")],
            )
            new = np.concatenate([answer.values[0][:, 0], answer.values[1][:, 0]])
            new_v = np.concatenate([answer.variances[0][:, 0], answer.variances[1][:, 0]])
            values[area, family] = new
            variances[area, family] = np.minimum(variances[area, family], new_v)
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
    joined = rows.join(solved, on=key, how="left").with_columns(
        pl.coalesce("_value", "value").alias("_new"),
        pl.when(pl.col("_value").is_not_null()).then("_standard_error").otherwise("standard_error").alias("_new_se"),
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


def _adjusted(frame: pl.DataFrame, step: str, by_category: set[tuple[str, str]]) -> pl.DataFrame:
    moved = frame.filter(pl.col("published_value").is_not_null() & pl.col("value").is_not_null() & (pl.col("published_standard_error") > 0)).with_columns(
        ((pl.col("value") - pl.col("published_value")) / pl.col("published_standard_error")).alias("adjustment_in_standard_errors")
    )
    large = moved.filter(pl.col("adjustment_in_standard_errors").abs() > LARGE_ADJUSTMENT)
    steps = ["categories" if key in by_category else step for key in large.select("variable", "domain").iter_rows()]
    return (
        large.with_columns(pl.Series("step", steps, dtype=pl.String))
        .select(list(ADJUSTMENT_SCHEMA))
        .sort(pl.col("adjustment_in_standard_errors").abs(), descending=True)
    )
