"""What keeps rounding out of a tree problem: units in which no number is extreme, and scales that a
float64 solver can tell apart.

Weights are solved in a unit near a thousandth of what a mean leaf will weigh, contributions in
units near their largest (``blocks.column_units``). All are powers of two, so that a problem
multiplied by one gives the same bits, and any other factor changes what rounding changes.

A target of scale s is met by moving its multiplier, and the multiplier is told by the ridge tau:

    curvature  sum_i q_i a_ij^2 / s_j^2   against  tau .

Above ``_MOST_CURVATURE`` times tau, rounding in the one hides the other. And where targets
contradict each other, their multipliers pull against each other by a_ij y_j / s_j in u, which then
loses as many digits as they are large. Scales that ask for more than that are widened, to where
rounding stays below what the scale stands for, and named in the result.

Belongs here: those units and limits. Does not belong here: the iteration (``newton.py``), what is
said of widened scales (``outcome.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.units import Units, units_for
from calibration_core.tree.problem import PairProblem, PoolProblem

# Curvature a target may have, in tau: 2^-53 of it must stay well below one.
_MOST_CURVATURE = 1e12
# What opposing targets may each add to a log ratio: ten of sixteen digits are left.
_MOST_TENSION = 1e6
# A widened scale comes out this much above the limit, so that it is not widened again for nothing.
_ROOM = 4.0


@dataclass(frozen=True)
class SolverUnits(Units):
    """Attributes: of Units; ``factor``: the typical target over what prior weights give it."""

    factor: float = 1.0


def units_of(problem: PoolProblem | PairProblem, prior_unit: float | None) -> SolverUnits:
    """Units of a problem, from the mean weight, by prior and targets, of the leaves that have any.
    Prior weights alone would not do: they may be a sample's own, or in another unit than targets.
    """
    factor, by_leaf = _factor(problem), problem.prior_by_leaf
    some = by_leaf > 0
    mean = factor * float(by_leaf[some].mean()) if some.any() else 0.0
    units = units_for(mean, prior_unit)
    return SolverUnits(units.weight, units.prior, factor)


def _factor(problem: PoolProblem | PairProblem) -> float:
    """The median, over targets that prior weights reach, of the target over what they give it."""
    targets, ratios = problem.targets, []
    for given, b, s in zip(problem.prior_sums(), targets.values, targets.scales, strict=True):
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            ratio = b / given
        ratios.append(ratio[np.isfinite(s) & np.isfinite(ratio) & (ratio > 0)])
    found = np.concatenate(ratios)
    return float(np.median(found)) if found.size else 1.0


def least_inverse(curvature: np.ndarray, tau: float) -> np.ndarray:
    """(areas, variables) largest 1 / scale that curvature per squared scale (same shape, in the
    solver's units) allows at tau.
    """
    with np.errstate(divide="ignore", over="ignore"):
        return np.sqrt(_MOST_CURVATURE * tau / curvature)


def slackened(inverse: np.ndarray, tension: np.ndarray) -> np.ndarray:
    """1 / scale, (areas, variables), of targets whose multipliers add ``tension`` (same shape) to
    log ratios: multipliers fall with the square of the scale.
    """
    over = tension > _MOST_TENSION
    return np.where(
        over, inverse / np.sqrt(np.where(over, _ROOM * tension / _MOST_TENSION, 1.0)), inverse
    )
