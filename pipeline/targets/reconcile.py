"""Reconciling target tables: from rows to arrays on a tree of areas, through
``calibration_core.tree.reconcile.levels``, and back.

Order: the nation with all states, once; then, for each state, its reconciled state values with its
counties and tracts. Figures below the state that only say how its total is shared are scaled to it
first (``shares.py``). A state value published for the target year is held there, so that states
keep adding up to the nation. One carried from another year is fused by precision with what lies
below it, because the error of carrying is common to all states. Categories that partition a parent
(age bands, races) are made to add up at every level above the finest (``category_step.py``). Last,
no part stays above its whole (``wholes.py``).

Belongs here: the glue and the report of what moved. Does not belong here: the sweeps themselves, or
building targets.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import polars as pl

from calibration_core.tree.geography import GeographyTree
from pipeline.errors import TargetError
from pipeline.specs.variables import CategoryGroup
from pipeline.targets.category_step import LevelFigures, settle_categories
from pipeline.targets.grid import TargetGrid, area_tree
from pipeline.targets.moves import moved
from pipeline.targets.shares import Place, ShareRule, scaled_to_state
from pipeline.targets.wholes import hold_parts_within_wholes, reconciled_within_wholes
from pipeline.vocabulary import (
    CALIBRATE,
    COUNTY,
    DROPPED,
    NATION,
    POPULATION,
    SIGNED_UNITS,
    STATE,
    TARGET_KEY,
    TRACT,
    VARIABLE_KEY,
    Key,
    is_area,
)

# A held value has a standard error of a millionth of itself: it moves by less than is printed.
HELD_RELATIVE_ERROR = 1e-6
# Below this share of its value a target has not changed but by rounding of the sums.
LEAST_CHANGE = 1e-9
DERIVED = {
    "margin_published": False,
    "source": "derived from other levels",
    "vintage": "",
    "carry_rule": "none",
    "carry_factor": 1.0,
    "status": "derived",
}
_NOUN = {COUNTY: "counties", TRACT: "tracts"}


@dataclass(frozen=True)
class Reconciled:
    """What reconciliation gives.

    Attributes
    ----------
    frame : the target table with reconciled ``value`` and ``standard_error``, derived rows added.
    adjustments : every published value moved by more than two of its standard errors.
    agreement : chi-square and degrees of freedom by variable.
    categories : one row per group and level, applied or not and why, with the gap before and after.
    converged : non-negativity settled.
    above_whole : values that lay above their whole and were brought down to it (``wholes.py``).
    no_evidence : why nothing is held to the survey's own estimates, or empty (``evidence.py``).
    water : tracts of water that no table has and that are therefore no areas here.
    """

    frame: pl.DataFrame
    adjustments: pl.DataFrame
    agreement: pl.DataFrame
    categories: pl.DataFrame
    converged: bool
    above_whole: int = 0
    no_evidence: str = ""
    water: tuple[str, ...] = ()

    @property
    def largest_category_gap(self) -> float:
        """Largest relative gap left between a parent and its children among the groups applied; 0
        where there are none.
        """
        return max(self.categories.filter("applied")["gap_after"].drop_nulls(), default=0.0)


def reconcile_national(targets: pl.DataFrame, groups: Iterable[CategoryGroup] = ()) -> Reconciled:
    """Reconcile the nation with its states. ``targets``: rows of levels nation and state (all
    states there are).

    Where states are missing from a publication the nation says nothing about one of them alone, and
    values stay as published.
    """
    states = sorted(set(targets.filter(pl.col("level") == STATE)["geoid"]))
    tree = GeographyTree.from_leaves([NATION, STATE], [[""] * len(states), states])
    return _reconcile(targets, tree, list(groups), held=None, category_depths=0)


def reconcile_state(
    state_targets: pl.DataFrame,
    national: pl.DataFrame,
    areas: pl.DataFrame,
    levels: tuple[str, ...],
    groups: Iterable[CategoryGroup] = (),
    shares: Mapping[Place, ShareRule] = MappingProxyType({}),
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
    shares : figures that are scaled to the state's own first (``shares.share_rules``).

    Raises TargetError if a county or tract of the targets is not in the geography, or an area of
    the finest level has no target while others have. An area that is not in the geography and in
    which nobody lives keeps its rows, with role dropped and the reason.
    """
    fips = areas["state_fips"][0]
    tree = area_tree(areas, levels)
    state_targets = owned_areas(state_targets, tree)
    own = national.filter(is_area(STATE, fips))
    below = scaled_to_state(state_targets.filter(pl.col("level") != STATE), own, shares)
    rows = pl.concat([own, below])
    held = {
        (r["variable"], r["domain"])
        for r in own.iter_rows(named=True)
        if r["carry_factor"] == 1.0 and r["value"] is not None
    }
    return _reconcile(rows, tree, list(groups), held=held, category_depths=len(tree.levels) - 1)


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
        pl.when(lost).then(pl.lit(DROPPED)).otherwise("role").alias("role"),
        pl.when(lost).then(reason).otherwise("reason").alias("reason"),
    )


def _reconcile(
    rows: pl.DataFrame,
    tree: GeographyTree,
    groups: list[CategoryGroup],
    *,
    held: set[Key] | None,
    category_depths: int,
) -> Reconciled:
    """``category_depths``: at how many levels, from the top, categories are made to add up."""
    grid = _grid(rows, tree)
    keys = grid.keys[0]
    y, v = _estimates(rows, grid, held)
    unit = {tuple(key): unit for *key, unit in rows.select(*VARIABLE_KEY, "unit").iter_rows()}
    nonnegative = np.array([unit[key] not in SIGNED_UNITS for key in keys])
    published_variance = v[-1].copy()
    result, capped = reconciled_within_wholes(tree, keys, y, v, nonnegative)
    values, variances = [a.copy() for a in result.values], [a.copy() for a in result.variances]
    figures = LevelFigures(tree, keys, y, v, values, variances, nonnegative)
    by_category, categories = settle_categories(figures, groups, category_depths)
    above = hold_parts_within_wholes(tree, keys, values, variances, nonnegative)
    # At its whole a figure is as uncertain as it was published, not exact.
    variances[-1][capped] = published_variance[capped]
    frame = _rows_out(rows, grid, values, variances)
    agreement = pl.DataFrame(
        {
            "variable": [k[0] for k in keys],
            "domain": [k[1] for k in keys],
            "chi_square": result.chi_square,
            "degrees_of_freedom": result.degrees_of_freedom,
            "held_at_zero": result.pinned,
            "moved_by_categories": [key in by_category for key in keys],
        }
    )
    return Reconciled(
        frame, moved(frame), agreement, categories, result.converged, above + int(capped.sum())
    )


def _tight(values: np.ndarray) -> np.ndarray:
    """The variance of a value that is held."""
    return (HELD_RELATIVE_ERROR * np.abs(values) + 1e-9) ** 2


def _grid(rows: pl.DataFrame, tree: GeographyTree) -> TargetGrid:
    """Places of the targets that take part: the same variables at every level."""
    # A target kept for validation must not move those that calibrate, least of all its neighbours.
    usable = pl.col("role") == CALIBRATE
    keys = sorted(set(rows.filter(usable).select(VARIABLE_KEY).iter_rows()))
    return TargetGrid.of(
        rows, usable & pl.col("value").is_not_null(), tree, [keys] * len(tree.levels)
    )


def _estimates(
    rows: pl.DataFrame, grid: TargetGrid, held: set[Key] | None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Per level, (areas, variables): values, and variances, inf where nothing is known.

    ``held``: variables whose values at the top are held.
    """
    values = list(grid.read(rows["value"], 0.0))
    # A value without a standard error says nothing about its precision: it must not pull on others.
    # Another concept is one more reason why levels need not agree.
    variances = [
        error**2 + concept**2
        for error, concept in zip(
            grid.read(rows["standard_error"], np.inf),
            grid.read(rows["concept_error"], 0.0),
            strict=True,
        )
    ]
    keys = grid.keys[0]
    if held:
        of = [i for i, key in enumerate(keys) if key in held]
        y, v = values[0][:, of], variances[0][:, of]
        variances[0][:, of] = np.where(np.isfinite(v), np.minimum(v, _tight(y)), np.inf)
    _empty_areas_stay_empty(keys, values[-1], variances[-1])
    return values, variances


def _empty_areas_stay_empty(keys: Sequence[Key], values: np.ndarray, variances: np.ndarray) -> None:
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
    rows: pl.DataFrame, grid: TargetGrid, values: list[np.ndarray], variances: list[np.ndarray]
) -> pl.DataFrame:
    """The target table with reconciled values; areas and variables nothing was published for, but
    which are now known, are added."""
    known = [np.isfinite(v) for v in variances]
    errors = [np.sqrt(v) for v in variances]
    solved = grid.long(known, _value=values, _standard_error=errors)
    kept = _with_solved(rows, solved)
    return pl.concat([kept, _derived(rows, solved)]).sort(TARGET_KEY)


def _with_solved(rows: pl.DataFrame, solved: pl.DataFrame) -> pl.DataFrame:
    """The published rows with what was solved for; one kept for validation keeps its value."""
    calibrates = pl.col("role") == CALIBRATE
    joined = rows.join(solved, on=TARGET_KEY, how="left").with_columns(
        pl.when(calibrates).then("_value"), pl.when(calibrates).then("_standard_error")
    )
    known = pl.col("_value").is_not_null()
    value = pl.coalesce("_value", "value")
    error = pl.when(known).then("_standard_error").otherwise("standard_error")
    size = pl.max_horizontal(pl.col("value").abs(), pl.lit(1.0))
    changed = (value - pl.col("value")).abs() > LEAST_CHANGE * size
    status = (
        pl.when(pl.col("value").is_null() & known)
        .then(pl.lit("derived"))
        .when(changed & (pl.col("status") == "published"))
        .then(pl.lit("reconciled"))
        .otherwise("status")
    )
    new = joined.with_columns(
        status.alias("status"), value.alias("value"), error.alias("standard_error")
    )
    return new.select(rows.columns)


def _derived(rows: pl.DataFrame, solved: pl.DataFrame) -> pl.DataFrame:
    """Rows for what nothing was published for, but other levels now give."""
    relative = (pl.col("concept_error") / pl.col("published_value").abs()).fill_nan(None)
    described = (
        rows.select(*VARIABLE_KEY, "family", "unit", "role", "reason")
        .with_columns(rows.select(relative.max().over(VARIABLE_KEY).alias("_relative")))
        .sort(*VARIABLE_KEY, "role", "reason")
        .unique(VARIABLE_KEY, keep="first", maintain_order=True)
    )
    added = solved.join(rows.select(TARGET_KEY), on=TARGET_KEY, how="anti")
    added = added.join(described, on=VARIABLE_KEY, how="left")
    added = added.rename({"_value": "value", "_standard_error": "standard_error"})
    added = added.with_columns(
        # A concept is common to all areas: adding them up does not average it away.
        (pl.col("_relative") * pl.col("value").abs()).alias("concept_error"),
        **{name: pl.lit(fact) for name, fact in DERIVED.items()},
    )
    absent = [name for name in rows.columns if name not in added.columns]
    unpublished = [pl.lit(None, rows.schema[name]).alias(name) for name in absent]
    return added.with_columns(unpublished).select(rows.columns)
