"""Dense calibration, selection and refinement of one state: tables in, one call into
``calibration_core``, tables out.

Belongs here: the order of the three steps and the arrays they take. Does not belong here: numerics,
files, Dagster.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.common.digits import significant
from calibration_core.common.threads import workers
from calibration_core.errors import BudgetError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, Targets, make_targets
from calibration_core.tree.select.joint import (
    JointSettings,
    RefinedPairs,
    refine_pairs,
    select_jointly,
)
from calibration_core.tree.select.pairs import Selection, SelectionSettings
from calibration_core.tree.select.weight_limits import WeightLimits
from calibration_core.tree.solve.newton import TreeNewtonResult, TreeNewtonSettings, calibrate_tree
from pipeline.errors import InvariantError
from pipeline.specs.cross_categories import load_cross_categories
from pipeline.specs.profiles import Profile
from pipeline.targets.standard_errors import MARGIN_90
from pipeline.weights.candidates import DESIGN_SEPARATOR, design_matrix
from pipeline.weights.cells import affinity_of, families_of

DENSE_DIGITS = 10
# Tight enough that the path taken (which differs with the number of threads in its last bits)
# leaves no trace in the weights.
FINAL_TOLERANCE = 1e-8
LEAST_SCALE = {"persons": 1.0, "households": 1.0, "returns": 1.0, "usd": 1000.0}


@dataclass(frozen=True)
class StateProblem:
    """Arrays of one state: the tree, per level the variables in use and their rows in the target
    table, and the targets.
    """

    tree: GeographyTree
    keys: tuple[tuple[tuple[str, str], ...], ...]
    rows: tuple[np.ndarray, ...]
    targets: Targets
    unsupported: tuple[tuple[str, str], ...]


def state_seed(seed: int, state_fips: str, purpose: str) -> int:
    """A seed from (run seed, state, purpose), the same whatever else runs: the first eight bytes of
    a SHA-256.
    """
    return int.from_bytes(
        hashlib.sha256(f"{seed}/{state_fips}/{purpose}".encode()).digest()[:8], "big"
    )


def build_problem(
    targets: pl.DataFrame, units: pl.DataFrame, geography: pl.DataFrame, profile: Profile
) -> StateProblem:
    """Arrange calibrating targets as arrays.

    The scale of a tract target is the standard error of its published margin where there is one,
    else its reconciled one. Above tracts it is a tenth of the reconciled standard error, at least
    ``relative_scale_floor`` of the value: totals of large areas are known well, and users compare
    them first.
    """
    levels = [level for level in profile.levels if level != "nation"]
    columns = {"state": "state_fips", "county": "county_fips", "tract": "tract"}
    leaves = geography.select([columns[n] for n in levels]).unique().sort(columns[levels[-1]])
    tree = GeographyTree.from_leaves(levels, [leaves[columns[n]].to_list() for n in levels])
    table = targets.with_row_index("_row").filter(
        (pl.col("role") == "calibrate")
        & pl.col("value").is_not_null()
        & pl.col("standard_error").is_not_null()
    )
    available = set(units.columns)
    keys, rows, designs, values, scales = [], [], [], [], []
    unsupported: set[tuple[str, str]] = set()
    for depth, level in enumerate(levels):
        part = table.filter(pl.col("level") == level)
        wanted = [
            k
            for k in sorted(set(part.select("variable", "domain").iter_rows()))
            if "|".join(k) in available
        ]
        design = design_matrix(units, wanted)
        alive = [i for i in range(len(wanted)) if np.any(design[:, i] != 0)]
        unsupported.update(wanted[i] for i in range(len(wanted)) if i not in set(alive))
        wanted, design = [wanted[i] for i in alive], design[:, alive]
        index, column = (
            {g: i for i, g in enumerate(tree.geoids[depth])},
            {k: i for i, k in enumerate(wanted)},
        )
        part = part.filter(
            pl.struct("variable", "domain").map_elements(
                lambda s, c=column: (s["variable"], s["domain"]) in c, return_dtype=pl.Boolean
            )
            & pl.col("geoid").is_in(list(index))
        )
        at = np.array([index[g] for g in part["geoid"]], dtype=np.int64)
        of = np.array(
            [column[k] for k in part.select("variable", "domain").iter_rows()], dtype=np.int64
        )
        row = np.full((len(index), len(wanted)), -1, dtype=np.int64)
        value, scale = np.zeros(row.shape), np.full(row.shape, np.inf)
        row[at, of] = part["_row"].to_numpy()
        value[at, of] = part["value"].to_numpy()
        scale[at, of] = _scale(part, level, profile)
        keys.append(tuple(wanted))
        rows.append(row)
        designs.append(design)
        values.append(value)
        scales.append(scale)
    return StateProblem(
        tree,
        tuple(keys),
        tuple(rows),
        make_targets(tree, designs, values, scales),
        tuple(sorted(unsupported)),
    )


def _scale(part: pl.DataFrame, level: str, profile: Profile) -> np.ndarray:
    least = part["unit"].replace_strict(LEAST_SCALE, return_dtype=pl.Float64).to_numpy()
    error = part["standard_error"].to_numpy()
    floor = profile.method.relative_scale_floor.get(level, 0.0) * np.abs(part["value"].to_numpy())
    if level == "tract":
        published = part["margin_standard_error"]
        error = np.where(published.is_null().to_numpy(), error, published.fill_null(0.0).to_numpy())
        return np.maximum(np.maximum(error, floor), least)
    return np.maximum(np.maximum(0.1 * error, floor), least)


def pool_problem(problem: StateProblem, units: pl.DataFrame, areas: pl.DataFrame) -> PoolProblem:
    """The dense problem: every area may use every unit."""
    pumas = sorted(set(units["puma"]))
    group = np.array([pumas.index(p) for p in units["puma"]], dtype=np.int64)
    shares = areas.pivot(on="puma", index="area", values="share").sort("area")
    leaf_prior = shares.select(pumas).to_numpy()
    return PoolProblem(
        problem.tree, problem.targets, units["prior_weight"].to_numpy(), group, leaf_prior
    )


def dense_calibration(
    problem: StateProblem, units: pl.DataFrame, areas: pl.DataFrame, profile: Profile, progress=None
) -> TreeNewtonResult:
    """Calibrate all (unit, area) pairs at once by tree Newton; the strength of the prior follows
    the discrepancy rule of the profile.
    """
    settings = TreeNewtonSettings(
        tau_path=profile.method.tau_path,
        share=_shares(problem, profile),
        inside=MARGIN_90,
        tolerance=FINAL_TOLERANCE,
        path_tolerance=0.5,
        max_iterations=200,
    )
    return calibrate_tree(pool_problem(problem, units, areas), settings, progress=progress)


def selection(
    problem: StateProblem,
    dense: np.ndarray,
    units: pl.DataFrame,
    cells: pl.DataFrame,
    profile: Profile,
    budget: int,
    progress=None,
) -> Selection:
    """Choose exactly ``budget`` pairs: draw, exchange, and refit in turn. Dense weights are rounded
    to ten significant digits first, so that another processor's last bit cannot change a draw.
    ``cells``: the table of cells of ``build_candidates``.
    """
    cross = load_cross_categories(profile.cross_categories)
    try:
        return select_jointly(
            problem.tree,
            problem.targets,
            significant(dense, DENSE_DIGITS),
            units["cell"].to_numpy(),
            units["order"].to_numpy(),
            attributes_of(units),
            joint_settings(problem, profile, budget),
            families=[family.members for family in families_of(cells, cross)],
            affinity=affinity_of(cells, cross),
            progress=progress,
        )
    except BudgetError as error:
        # The numerics know arrays only: whose budget it is, and where it is set, can be said here.
        raise BudgetError(
            error.found,
            where=error.where
            or f"budget of state {problem.tree.geoids[0][0]}, {len(problem.tree.leaves):,} areas and {units.height:,} units",
            expected=error.expected,
            remedy=(
                f"{error.remedy or 'Ask for fewer pairs'}: `geocal run --pairs`, `pairs` in the run"
                " configuration of selected_pairs, or budget.pairs_per_area in"
                f" data_specs/profiles/{profile.id}.yaml"
            ),
        ) from error


def refine(
    problem: StateProblem,
    pairs: Selection | PairProblem,
    dense: np.ndarray,
    units: pl.DataFrame,
    profile: Profile,
    progress=None,
) -> RefinedPairs:
    """Refit the selected pairs' weights in torch float64, within the profile's limits, anchored to
    the dense totals of what has no target.
    """
    settings = joint_settings(problem, profile, max(1, int(pairs.leaf.size)))
    return refine_pairs(
        problem.tree,
        problem.targets,
        significant(dense, DENSE_DIGITS),
        attributes_of(units),
        pairs,
        settings,
        progress=progress,
    )


def attributes_of(units: pl.DataFrame) -> np.ndarray:
    """Everything measured of each unit, (units, variables) float64, in the order of the columns."""
    return design_matrix(
        units,
        [tuple(name.split(DESIGN_SEPARATOR)) for name in units.columns if DESIGN_SEPARATOR in name],
    )


def refine_settings(problem: StateProblem, profile: Profile) -> TreeNewtonSettings:
    """How the selected pairs of a state are refitted."""
    return TreeNewtonSettings(
        tau_path=profile.method.refine_tau_path,
        share=_shares(problem, profile, at_least=0.999, above=0.97),
        inside=MARGIN_90,
        ratio_bounds=profile.method.ratio_bounds,
        tolerance=FINAL_TOLERANCE,
        path_tolerance=0.5,
        max_iterations=300,
    )


def joint_settings(problem: StateProblem, profile: Profile, budget: int) -> JointSettings:
    """The profile's settings of selection and refit, with the state's seed."""
    method, limits = profile.method.selection, profile.method.weight_limits
    chosen = SelectionSettings(
        budget,
        state_seed(profile.seed, problem.tree.geoids[0][0], "selection"),
        floor=profile.budget.minimum_pairs,
        rule=method.allocation,
        power=method.power,
        design=method.design,
        candidates=method.candidates_per_pair,
        exchanges=method.exchanges,
        cell_penalty=math.inf if method.cell_penalty is None else method.cell_penalty,
        rounds=method.rounds,
        threads=workers(),
    )
    return JointSettings(
        chosen,
        refine_settings(problem, profile),
        method.anchor_strength,
        WeightLimits(limits.smallest, limits.largest_share),
        inside=MARGIN_90,
    )


def _shares(
    problem: StateProblem, profile: Profile, at_least: float = 0.0, above: float = 0.0
) -> tuple[float, ...]:
    """Share of each level's targets to be met before the prior stops being weakened: of the finest,
    the profile's; of those above, ``above``.
    """
    return (above,) * (len(problem.tree.levels) - 1) + (
        max(profile.method.tract_target_share, at_least),
    )


def budget_of(profile: Profile, areas: int, requested: int | None = None) -> int:
    """k of a state: what was asked for, else pairs_per_area times its number of finest areas."""
    return requested if requested is not None else profile.budget.pairs_per_area * areas


def weights_table(
    problem: StateProblem,
    selected: Selection,
    weights: np.ndarray,
    units: pl.DataFrame,
    geography: pl.DataFrame,
    postal: str,
    finest_level: str,
) -> pl.DataFrame:
    """household_id, tract (null where the finest level is the county), county, state, weight; one
    row a pair, sorted.
    """
    ids = units["household_id"].to_list()
    leaves = problem.tree.leaves
    area = [leaves[i] for i in selected.leaf]
    column = "tract" if finest_level == "tract" else "county_fips"
    county = dict(
        geography.select(area=pl.col(column), county=pl.col("county_fips")).unique().iter_rows()
    )
    frame = pl.DataFrame(
        {
            "household_id": [ids[i] for i in selected.record],
            "tract": area if finest_level == "tract" else [None] * len(area),
            "county": [county[a] for a in area],
            "state": [postal] * len(area),
            "weight": weights,
        },
        schema={
            "household_id": pl.String,
            "tract": pl.String,
            "county": pl.String,
            "state": pl.String,
            "weight": pl.Float64,
        },
    )
    return frame.sort("county", "tract", "household_id")


def require_sound_weights(frame: pl.DataFrame, budget: int, state: str) -> None:
    """Hard rules before anything is written: exactly k rows, each pair once, weights finite and
    positive.
    """
    faults = []
    if frame.height != budget:
        faults.append(f"{frame.height:,} pairs for a budget of {budget:,}")
    if frame.select("household_id", "tract", "county").is_duplicated().any():
        faults.append("a pair occurs twice")
    weight = frame["weight"]
    if not weight.is_finite().all() or (weight <= 0).any():
        faults.append(
            f"{int((~weight.is_finite()).sum())} weights are not finite and"
            f" {int((weight <= 0).sum())} are not positive"
        )
    if faults:
        raise InvariantError(
            "; ".join(faults),
            where=f"weights of {state}",
            expected="exactly k distinct pairs with finite, positive weights",
            remedy="Nothing was written; report this with the run manifest",
        )
