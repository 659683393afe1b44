"""Dense calibration, selection and refit of one state, each one call into ``calibration_core``.

Belongs here: the arrays each call takes, and errors in the words of a run. Does not belong here:
numerics, settings (``settings.py``), stored tables (``table.py``), the order of all steps
(``pipeline/steps.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calibration_core.common.area_weights import AreaWeights
from calibration_core.errors import BudgetError
from calibration_core.tree.problem import PairProblem
from calibration_core.tree.select.joint import RefinedPairs, refine_pairs, select_jointly
from calibration_core.tree.select.pairs import Selection
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.solve.newton import Step, TreeNewtonResult, calibrate_tree
from pipeline.specs.cross_categories import load_cross_categories
from pipeline.weights.cells import affinity_of, categories_of
from pipeline.weights.problem import SolvableState, columns_without_target, pool_problem
from pipeline.weights.settings import dense_settings, joint_settings

StepProgress = Callable[[Step], None] | None
"""Called after each step of Newton."""
WordProgress = Callable[[str], None] | None
"""Called with a few words after each step of selection."""


def dense_calibration(state: SolvableState, progress: StepProgress = None) -> TreeNewtonResult:
    """Calibrate all (unit, area) pairs at once by tree Newton; the strength of the prior follows
    the discrepancy rule of the profile."""
    return calibrate_tree(pool_problem(state), dense_settings(state), progress=progress)


def pool_of(state: SolvableState, dense: np.ndarray | AreaWeights) -> Pool:
    """What pairs are chosen from. ``dense``: dense weights of units in areas, which the pool rounds
    so that another processor's last bit cannot change a draw. Without the table of cells there are
    no classes of cells, which a refit does not need."""
    units, problem = state.units, state.problem
    classes: tuple[np.ndarray, ...] = ()
    affinity = None
    if state.cells is not None:
        cross = load_cross_categories(state.profile.cross_categories)
        classes = tuple(each.members for each in categories_of(state.cells, cross))
        affinity = affinity_of(state.cells, cross)
    return Pool(
        tree=problem.tree,
        targets=problem.targets,
        dense=dense,
        cell=units["cell"].to_numpy(),
        order=units["order"].to_numpy(),
        attributes=problem.contributions,
        classes=classes,
        affinity=affinity,
        anchors=columns_without_target(state),
    )


def select(
    state: SolvableState, dense: np.ndarray | AreaWeights, pairs: int, progress: WordProgress = None
) -> Selection:
    """Choose exactly ``pairs`` pairs: draw, exchange, and refit in turn.

    Raises BudgetError, naming where the number is set, if so many pairs cannot be had.
    """
    settings = joint_settings(state, pairs)
    try:
        return select_jointly(pool_of(state, dense), settings, progress=progress)
    except BudgetError as error:
        raise _in_the_words_of_a_run(error, state) from error


def _in_the_words_of_a_run(error: BudgetError, state: SolvableState) -> BudgetError:
    """The numerics know arrays only: whose budget it is, and where it is set, is said here."""
    size = f"{len(state.leaves):,} areas and {state.units.height:,} units"
    return BudgetError(
        error.found,
        where=error.where or f"budget of state {state.problem.tree.geoids[0][0]}, {size}",
        expected=error.expected,
        remedy=(
            f"{error.remedy or 'Ask for fewer pairs'}: `geocal run --pairs`, `pairs` in the run "
            "configuration of selected_pairs, or budget.pairs_per_area in "
            f"data_specs/profiles/{state.profile.id}.yaml"
        ),
    )


def refine(
    state: SolvableState,
    dense: np.ndarray | AreaWeights,
    pairs: Selection | PairProblem,
    progress: StepProgress = None,
) -> RefinedPairs:
    """Refit the selected pairs' weights within the profile's limits, anchored to the dense totals
    of what has no target."""
    settings = joint_settings(state, max(1, int(pairs.leaf.size)))
    return refine_pairs(pool_of(state, dense), pairs, settings, progress=progress)
