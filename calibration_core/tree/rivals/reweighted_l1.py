"""Few pairs by reweighted L1 over the whole pool, solved in the dual by the tree engine; then
exactly k kept, and refitted.

A round takes weights w to

    argmin_x   1/2 sum_j ((a_j.x - b_j) / s_j)^2  +  tau KL(x | w)  +  sum_t lambda_t sum_i v_ti
    x_ti,      v_ti = eps_t / (w_ti + eps_t)

over leaves t and records i: Candes, Wakin and Boyd, J. Fourier Anal. Appl. 14 (2008) 877-905, whose
v is the slope of sum log(w + eps). KL(x | w), the distance to the round before, makes the L1 cost a
shift of the exponent: x = w exp(-lambda v / tau) exp(u), so a round is one call of ``tree_newton``
with w exp(-lambda v / tau) for a prior, a few Newton steps. Its pull is to the last weights and not
to the prior, so it vanishes as rounds stand still. What a leaf's pairs all pay alike is given back
(that prior keeps the leaf's dense total): the total is a target, and plain L1 a constant.

lambda_t is not chosen. It is what brings down the smooth count of each leaf, sum_i w / (w + c m_t)
with m_t the mean weight of a kept pair. The count follows a geometric course from the dense
weights' to a little below k in ``rounds`` steps, and is held there for ``settle`` more; eps falls
beside it. The first round takes v from the dense weights. The k largest of each leaf are kept, with
the weights they have then; what the others still held is in the warnings.

Deterministic: the seed is not used; rounds run on one thread, so that a last bit cannot decide
between two pairs. What it cannot do: tell records of equal columns and equal dense weight apart
(the first stays).

Belongs here: reweighting and the choice. Does not belong here: the solver
(``tree/solve/newton.py``), the refit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from calibration_core.common.threads import one_thread
from calibration_core.common.warnings import CalibrationWarning
from calibration_core.errors import SettingsError
from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.rivals.refit import largest_pairs, refitted
from calibration_core.tree.rivals.task import PairOutcome, PairTask
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree

_DOUBLINGS, _HALVINGS = 12, 10


@dataclass(frozen=True)
class Settings:
    """Settings of reweighted L1.

    Attributes
    ----------
    rounds : reweightings on the way to k; ``settle`` further ones there.
    margin : the smooth count goes down to this share of k: weights between zero and full count in
        part.
    count_scale : c, the weight that counts half, as a share of the mean weight of a kept pair.
    first_eps, last_eps : eps of the first and the last round, as shares of the same.
    tau : strength of the pull to the round before.
    steps : most Newton steps per round; ``tolerance`` largest scaled gradient at which a round
        ends sooner.

    Chosen on Delaware's three counties at k = 60 each, share of county targets inside their 90 %
    margin: these settings 92 %; 8 rounds and 3 to settle 70; margin 1 instead of 0.9 (weight is
    then left outside the k kept) 28 to 72; tau 0.1 78; first_eps 3 87; last_eps 0.03 and
    count_scale 0.1 91; margins from 0.7 to 0.95 alike.
    """

    rounds: int = 12
    settle: int = 6
    margin: float = 0.9
    count_scale: float = 0.03
    first_eps: float = 1.0
    last_eps: float = 0.1
    tau: float = 0.01
    steps: int = 6
    tolerance: float = 0.3

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.settle < 0 or self.steps < 1 or not 0 < self.margin <= 1:
            raise SettingsError(
                f"rounds is {self.rounds}, settle {self.settle}, steps {self.steps}, margin"
                f" {self.margin:g}",
                expected=">= 1, >= 0, >= 1, and above 0 up to 1",
            )
        for name in ("count_scale", "first_eps", "last_eps", "tau", "tolerance"):
            if not 0 < getattr(self, name) < math.inf:
                raise SettingsError(
                    f"{name} is {getattr(self, name)!r}", expected="a finite number above zero"
                )


_STANDARD = Settings()


def run(task: PairTask, settings: Settings = _STANDARD) -> PairOutcome:
    """Reweight, keep the largest, refit."""
    began = time.perf_counter()
    weights = task.pool.table
    warnings: tuple[CalibrationWarning, ...] = ()
    if task.pairs < int((task.pool.table > 0).sum()):
        with one_thread():
            weights = _reweighted(task, settings)
        chosen, starting, warnings = largest_pairs(task, weights)
    else:
        chosen, starting, _ = largest_pairs(task, weights)
    return refitted(task, "reweighted_l1", chosen, starting, began, warnings)


def _reweighted(task: PairTask, settings: Settings) -> np.ndarray:
    """(leaves, records) weights after all rounds, nearly all of them in k pairs."""
    weights, totals, pool = task.pool.table, task.pool.totals, task.pool
    kept = np.where(task.pairs_per_area > 0, totals / np.maximum(task.pairs_per_area, 1), 1.0)[
        :, None
    ]
    half = settings.count_scale * kept
    records = weights.shape[1]
    newton = TreeNewtonSettings(
        tau_path=(settings.tau,),
        tolerance=settings.tolerance,
        path_tolerance=settings.tolerance,
        max_iterations=settings.steps,
    )
    first = smooth_count(weights, half)
    last = np.minimum(settings.margin * task.pairs_per_area, first)
    course = np.divide(last, first, out=np.ones_like(first), where=first > 0)
    for step in range(1, settings.rounds + settings.settle + 1):
        done = min(1.0, step / settings.rounds)
        eps = kept * settings.first_eps * (settings.last_eps / settings.first_eps) ** done
        prior = penalised_prior(weights, eps, first * course**done, half, totals)
        # One group per record: the prior of a pair is then any number.
        problem = PoolProblem(pool.tree, pool.targets, np.ones(records), np.arange(records), prior)
        weights = calibrate_tree(problem, newton).array
    return weights


def smooth_count(weights: np.ndarray, half: np.ndarray) -> np.ndarray:
    """(leaves,) sum over records of w / (w + half); weights (leaves, records) >= 0, half (leaves,
    1) > 0.
    """
    return (weights / (weights + half)).sum(axis=1)


def penalised_prior(
    weights: np.ndarray, eps: np.ndarray, count: np.ndarray, half: np.ndarray, totals: np.ndarray
) -> np.ndarray:
    """w exp(-lambda v) scaled to the leaves' totals, v = eps / (w + eps), with the least lambda >=
    0 per leaf at which its smooth count is at most ``count`` (by bisection; where ties keep it
    above, the largest lambda tried).

    Parameters
    ----------
    weights : (leaves, records) float64 >= 0; eps, half : (leaves, 1) > 0; count, totals : (leaves,)
        >= 0.
    """
    cost = eps / (weights + eps)
    cost -= cost.min(axis=1, keepdims=True)

    def at(strength: np.ndarray) -> np.ndarray:
        shrunk = np.exp(-strength[:, None] * cost)
        shrunk *= weights
        held = shrunk.sum(axis=1)
        shrunk *= np.divide(totals, held, out=np.zeros_like(held), where=held > 0)[:, None]
        return shrunk

    low, high = np.zeros(weights.shape[0]), np.ones(weights.shape[0])
    high[smooth_count(at(low), half) <= count] = 0.0
    for _ in range(_DOUBLINGS):
        above = smooth_count(at(high), half) > count
        if not above.any():
            break
        low, high = np.where(above, high, low), np.where(above, 2.0 * high, high)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        above = smooth_count(at(middle), half) > count
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return at(high)
