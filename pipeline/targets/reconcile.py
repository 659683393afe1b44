"""Reconciling target tables: from rows to arrays on a tree of areas, through
``calibration_core.tree.reconcile.levels``, and back.

Order: the nation with all states, once; then, for each state, its reconciled state values with its
counties and tracts. A state value published for the target year is held there, so that states keep
adding up to the nation; one carried from another year is fused by precision with what lies below
it, because the error of carrying is common to all states. Categories that partition a parent (age
bands, races) are made to add up at every level above the finest (``category_step.py``).

Belongs here: the glue and the report of what moved. Does not belong here: the sweeps themselves, or
building targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.reconcile.levels import reconcile
from pipeline.errors import TargetError
from pipeline.specs.variables import CategoryGroup
from pipeline.targets.category_step import settle_categories
from pipeline.targets.moves import moved

HELD_RELATIVE_ERROR = 1e-6
POPULATION = ("persons", "total")
_NOUN = {"county": "counties", "tract": "tracts"}


@dataclass(frozen=True)
class Reconciled:
    """``frame``: the target table with reconciled ``value`` and ``standard_error``, derived rows
    added; ``adjustments``: every published value moved by more than two of its standard errors;
    ``agreement``: chi-square and degrees of freedom by variable; ``categories``: a row a group and
    level, applied or not and why, with the gap before and after; ``converged``: non-negativity
    settled.
    """

    frame: pl.DataFrame
    adjustments: pl.DataFrame
    agreement: pl.DataFrame
    categories: pl.DataFrame
    converged: bool

    @property
    def largest_category_gap(self) -> float:
        """Largest relative gap left between a parent and its children among the groups applied; 0
        where there are none.
        """
        return float(self.categories.filter("applied")["gap_after"].max() or 0.0)


@dataclass(frozen=True)
class _Grid:
    """Targets as arrays: per level, (areas, variables); variance inf where nothing is known."""

    tree: GeographyTree
    keys: list[tuple[str, str]]
    values: list[np.ndarray]
    variances: list[np.ndarray]


def reconcile_national(targets: pl.DataFrame, groups: Iterable[CategoryGroup] = ()) -> Reconciled:
    """Reconcile the nation with its states. ``targets``: rows of levels nation and state (all
    states there are).

    Where states are missing from a publication the nation says nothing about one of them alone, and
    values stay as published.
    """
    states = sorted(set(targets.filter(pl.col("level") == "state")["geoid"]))
    tree = GeographyTree.from_leaves(["nation", "state"], [[""] * len(states), states])
    return _reconcile(targets, tree, list(groups), held=None, category_depths=0)


def reconcile_state(
    state_targets: pl.DataFrame,
    national: pl.DataFrame,
    areas: pl.DataFrame,
    levels: tuple[str, ...],
    groups: Iterable[CategoryGroup] = (),
) -> Reconciled:
    """Reconcile one state's counties and tracts with its state values.

    Parameters
    ----------
    state_targets : rows of the levels below state, one state.
    national : the frame of ``reconcile_national``; this state's rows are used.
    areas : the state's geography: ``state_fips``, ``county_fips`` and, if ``levels`` has tract,
        ``tract``.
    levels : the profile's levels, nation first.
    groups : categories that partition a parent.

    Raises TargetError if a county or tract of the targets is not in the geography, or an area of
    the finest level has no target while others have. An area that is not in the geography and in
    which nobody lives keeps its rows, with role dropped and the reason.
    """
    fips = areas["state_fips"][0]
    names = [level for level in levels if level != "nation"]
    columns = {"state": "state_fips", "county": "county_fips", "tract": "tract"}
    leaves = areas.select([columns[n] for n in names]).unique().sort(columns[names[-1]])
    tree = GeographyTree.from_leaves(names, [leaves[columns[n]].to_list() for n in names])
    state_targets = owned_areas(state_targets, tree)
    own = national.filter((pl.col("level") == "state") & (pl.col("geoid") == fips))
    rows = pl.concat([own, state_targets.filter(pl.col("level") != "state")])
    held = {
        (r["variable"], r["domain"])
        for r in own.iter_rows(named=True)
        if r["carry_factor"] == 1.0 and r["value"] is not None
    }
    return _reconcile(rows, tree, list(groups), held=held, category_depths=len(names) - 1)


def owned_areas(targets: pl.DataFrame, tree: GeographyTree) -> pl.DataFrame:
    """``targets`` of the tree's levels, after checking that tables and geography name the same
    areas. See ``reconcile_state``.
    """
    dropped: list[str] = []
    for level, geoids in zip(tree.levels[1:], tree.geoids[1:], strict=True):
        rows = targets.filter(pl.col("level") == level)
        alien = (
            rows.filter(~pl.col("geoid").is_in(list(geoids)))
            .group_by("geoid")
            .agg(pl.col("value").abs().max(), pl.col("source").unique().sort())
        )
        peopled = alien.filter(pl.col("value") > 0).sort("geoid")
        if peopled.height:
            first = peopled.row(0, named=True)
            raise TargetError(
                f"The tables have {peopled.height:,} {_NOUN[level]} that the tract list has not,"
                f" first {level} {first['geoid']}",
                where=f"{', '.join(first['source'])}, GEOID {first['geoid']}",
                expected=(
                    f"the {len(geoids):,} {_NOUN[level]} of the tract list, so that each has a"
                    " county to own it"
                ),
                remedy=(
                    "Compare the tract list with the tables: one may be cut or edited, then"
                    " download it again; or they are of different vintages, then change the"
                    " profile's geography.vintage"
                ),
            )
        dropped += alien["geoid"].to_list()
        bare = sorted(set(geoids) - set(rows["geoid"]))
        # A county that no table has may still be the sum of its tracts; at the finest level nothing
        # stands in.
        if rows.height and bare and level == tree.levels[-1]:
            raise TargetError(
                f"The tract list has {len(bare):,} {_NOUN[level]} that are in none of the tables,"
                f" first {level} {bare[0]}",
                where=f"tract list, {level} {bare[0]}",
                expected=(
                    f"each {level} of the list among the {rows['geoid'].n_unique():,} of the tables"
                    f" ({', '.join(rows['source'].unique().sort())})"
                ),
                remedy=(
                    "Compare the tract list with the tables: one may be cut or edited, then"
                    " download it again; or they are of different vintages, then change the"
                    " profile's geography.vintage"
                ),
            )
    lost = pl.col("geoid").is_in(dropped)
    reason = pl.lit("the area is not in the tract list, and nothing above zero is published for it")
    return targets.with_columns(
        pl.when(lost).then(pl.lit("dropped")).otherwise("role").alias("role"),
        pl.when(lost).then(reason).otherwise("reason").alias("reason"),
    )


def _reconcile(
    rows: pl.DataFrame,
    tree: GeographyTree,
    groups: list[CategoryGroup],
    *,
    held: set[tuple[str, str]] | None,
    category_depths: int,
) -> Reconciled:
    """``category_depths``: at how many levels, from the top, categories are made to add up."""
    grid = _grid(rows, tree, held)
    nonnegative = np.array([not variable.startswith("usd_") for variable, _ in grid.keys])
    result = reconcile(tree, grid.values, grid.variances, nonnegative=nonnegative)
    values, variances = [v.copy() for v in result.values], [v.copy() for v in result.variances]
    by_category, categories = settle_categories(
        tree,
        grid.keys,
        (grid.values, grid.variances),
        values,
        variances,
        groups,
        nonnegative,
        category_depths,
    )
    frame = _rows_out(rows, grid, values, variances)
    agreement = pl.DataFrame(
        {
            "variable": [k[0] for k in grid.keys],
            "domain": [k[1] for k in grid.keys],
            "chi_square": result.chi_square,
            "degrees_of_freedom": result.degrees_of_freedom,
            "held_at_zero": result.pinned,
            "moved_by_categories": [key in by_category for key in grid.keys],
        }
    )
    return Reconciled(frame, moved(frame), agreement, categories, result.converged)


def _tight(values: np.ndarray) -> np.ndarray:
    """The variance of a value that is held."""
    return (HELD_RELATIVE_ERROR * np.abs(values) + 1e-9) ** 2


def _grid(rows: pl.DataFrame, tree: GeographyTree, held: set[tuple[str, str]] | None) -> _Grid:
    # A target kept for validation must not move the ones that calibrate, least of all its own
    # neighbours in the tree.
    usable = rows.filter(pl.col("role") == "calibrate")
    keys = sorted(set(usable.select("variable", "domain").iter_rows()))
    column = {key: i for i, key in enumerate(keys)}
    values, variances = [], []
    for depth, level in enumerate(tree.levels):
        index = {g: i for i, g in enumerate(tree.geoids[depth])}
        y = np.zeros((len(index), len(keys)))
        v = np.full(y.shape, np.inf)
        part = usable.filter(
            (pl.col("level") == level)
            & pl.col("value").is_not_null()
            & pl.col("geoid").is_in(list(index))
        )
        if part.height:
            at = np.array([index[g] for g in part["geoid"]])
            of = np.array([column[k] for k in part.select("variable", "domain").iter_rows()])
            y[at, of] = part["value"].to_numpy()
            # A value without a standard error says nothing about its precision, so it must not pull
            # on others.
            v[at, of] = part["standard_error"].fill_null(np.inf).to_numpy() ** 2
        if depth == 0 and held:
            of = [column[key] for key in held if key in column]
            v[:, of] = np.where(
                np.isfinite(v[:, of]), np.minimum(v[:, of], _tight(y[:, of])), np.inf
            )
        values.append(y)
        variances.append(v)
    _empty_areas_stay_empty(keys, values[-1], variances[-1])
    return _Grid(tree, keys, values, variances)


def _empty_areas_stay_empty(
    keys: list[tuple[str, str]], values: np.ndarray, variances: np.ndarray
) -> None:
    """Hold every zero of an area whose published population is zero (in place).

    The margin of a zero (about 12 persons in the ACS) would otherwise move a share of a county's
    correction into open water.
    """
    if POPULATION not in keys:
        return
    column = keys.index(POPULATION)
    empty = np.isfinite(variances[:, column]) & (values[:, column] == 0)
    variances[empty[:, None] & np.isfinite(variances) & (values == 0)] = 0.0


def _rows_out(
    rows: pl.DataFrame, grid: _Grid, values: list[np.ndarray], variances: list[np.ndarray]
) -> pl.DataFrame:
    """The target table with reconciled values; areas and variables nothing was published for, but
    which are now known, are added.
    """
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
                schema_overrides={
                    "level": pl.String,
                    "geoid": pl.String,
                    "variable": pl.String,
                    "domain": pl.String,
                },
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
        .with_columns(
            pl.when(calibrates).then("_value"), pl.when(calibrates).then("_standard_error")
        )
        .with_columns(
            pl.coalesce("_value", "value").alias("_new"),
            pl.when(pl.col("_value").is_not_null())
            .then("_standard_error")
            .otherwise("standard_error")
            .alias("_new_se"),
        )
    )
    changed = (pl.col("_new") - pl.col("value")).abs() > 1e-9 * pl.max_horizontal(
        pl.col("value").abs(), pl.lit(1.0)
    )
    status = (
        pl.when(pl.col("value").is_null() & pl.col("_value").is_not_null())
        .then(pl.lit("derived"))
        .when(changed & (pl.col("status") == "published"))
        .then(pl.lit("reconciled"))
        .otherwise(pl.col("status"))
    )
    kept = joined.with_columns(
        status.alias("status"),
        pl.col("_new").alias("value"),
        pl.col("_new_se").alias("standard_error"),
    ).select(rows.columns)
    added = solved.join(rows.select(key), on=key, how="anti").join(
        described, on=["variable", "domain"], how="left"
    )
    facts = {
        "margin_published": False,
        "source": "derived from other levels",
        "vintage": "",
        "carry_rule": "none",
        "carry_factor": 1.0,
        "status": "derived",
    }
    extra = added.rename({"_value": "value", "_standard_error": "standard_error"}).with_columns(
        **{name: pl.lit(fact) for name, fact in facts.items()}
    )
    unpublished = [
        pl.lit(None, rows.schema[name]).alias(name)
        for name in rows.columns
        if name not in extra.columns
    ]
    return pl.concat([kept, extra.with_columns(unpublished).select(rows.columns)]).sort(key)
