"""Which told totals pull a total that nobody told: the move from prior to calibrated weights, told
apart by the moves of the totals that had targets.

Calibrated weights are w = q exp(u) with u = sum_j lambda_j x_j, a multiplier lambda_j for each
target. With the logarithmic mean m = (w - q) / log(w / q), which lies between q and w, the move of
any total z is linear in the multipliers, without remainder:

    sum_i (w_i - q_i) z_i  =  sum_j lambda_j sum_i m_i x_ij z_i

(B. W. Ang, Energy Policy 32, 2004: the additive log-mean Divisia index). Multipliers themselves
are poor reading: each pulls everything that comes with it, children with adults, and the others
push it back. What each target asked for is d_j, the move of its own total, and that of the told
totals together gives the multipliers: d = (X' M X) lambda. Put in, lambda is gone:

    sum_i (w_i - q_i) z_i  =  sum_j B_jz d_j ,   B = (X' M X)^-1 X' M Z ,

the regression of z on the told variables over the records, times what each was moved by. It is what
the calibration estimator is to first order (J.-C. Deville and C.-E. Saerndal, JASA 87, 1992), here
without remainder where all targets are of one area. With targets of many areas and weights summed
over them, the remainder is what differs between areas; it is given as such.

Belongs here: that sum. Does not belong here: solving, names of targets, which total is worth asking
about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.columns import Design
from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError

RIDGE = 1e-3
"""Added to X' M X, each told variable scaled to a mean square of one: told variables repeat one
another (ages and their sum), and without it opposite pulls of twins grow. On Rhode Island, 206 told
and 120 other variables whose totals moved by 7.0 % in the median, 0.8 % are left unexplained and
all pulls add up to 64 % in absolute size; without it 0.9 and 70, with 1e-2 1.3 and 47, with 1e-1
2.6 and 28."""
# Records looked at together.
_RECORDS = 20_000
# Below it log(w / q) keeps no digits, and the mean is q.
_SMALL = 1e-8


@dataclass(frozen=True, eq=False)
class Pull:
    """What the told variables do to other totals.

    Attributes
    ----------
    by_told : (told, outcomes) float64: coefficient times ``told_moved``, in the outcome's unit.
    told_moved : (told,) float64: calibrated less prior total of each told variable.
    moved : (outcomes,) float64: calibrated less prior total of each outcome.
    own_share : (outcomes,) float64 from 0 to 1: share of the outcome's sum of squares, by mean
        weights, that no sum of told variables accounts for. Next to 0, told totals add up to it.
    """

    by_told: np.ndarray
    told_moved: np.ndarray
    moved: np.ndarray
    own_share: np.ndarray

    @property
    def rest(self) -> np.ndarray:
        """(outcomes,) what no told total accounts for: differences between areas, and the ridge."""
        return self.moved - self.by_told.sum(axis=0)


def log_mean(prior: np.ndarray, calibrated: np.ndarray) -> np.ndarray:
    """(w - q) / log(w / q), elementwise; q where they are next to equal, 0 where either is 0."""
    both = (prior > 0) & (calibrated > 0)
    q, w = np.where(both, prior, 1.0), np.where(both, calibrated, 1.0)
    u = np.log(w / q)
    near = np.abs(u) < _SMALL
    mean = np.where(near, q, (w - q) / np.where(near, 1.0, u))
    return np.where(both, mean, 0.0)


@one_thread()
def pull_on(
    prior: np.ndarray, calibrated: np.ndarray, told: Design, outcomes: Design, ridge: float = RIDGE
) -> Pull:
    """Tell apart by told variable what calibration did to totals that may have no target.

    Parameters
    ----------
    prior, calibrated : (records,) float64 >= 0: weights before and after, summed over areas.
    told : (records, told) float64: what one record adds to each variable that has a target.
    outcomes : (records, outcomes) float64: what one record adds to each total in question.
    ridge : see RIDGE; >= 0.

    Returns
    -------
    Pull. A told variable that no record has pulls nothing.

    Raises
    ------
    ProblemError : shapes disagree, or a weight is negative or not finite.
    """
    _check(prior, calibrated, told, outcomes)
    step, mean = calibrated - prior, log_mean(prior, calibrated)
    total = mean.sum()
    blocks = [slice(b, b + _RECORDS) for b in range(0, max(prior.size, 1), _RECORDS)]
    moved, whole = np.zeros((2, outcomes.shape[1]))
    told_moved, size = np.zeros((2, told.shape[1]))
    for some in blocks:
        inside, out = told[some], outcomes[some]
        moved += step[some] @ out
        whole += mean[some] @ out**2
        told_moved += step[some] @ inside
        size += (mean[some, None] * inside**2).sum(axis=0)
    size = np.sqrt(size / max(total, 1e-300))
    alive = size > 0
    by_told = np.zeros((told.shape[1], outcomes.shape[1]))
    own_share = np.ones(outcomes.shape[1])
    if alive.any():
        square = np.zeros((int(alive.sum()), int(alive.sum())))
        product = np.zeros((len(square), outcomes.shape[1]))
        for some in blocks:
            scaled = told[some][:, alive] / size[alive]
            weighted = scaled * (mean[some] / total)[:, None]
            square += weighted.T @ scaled
            product += weighted.T @ outcomes[some]
        coefficient = _least_squares(square + ridge * np.eye(len(square)), product)
        by_told[alive] = coefficient * (told_moved[alive] / size[alive])[:, None]
        without, left = _least_squares(square, product), np.zeros(outcomes.shape[1])
        for some in blocks:
            rest = outcomes[some] - (told[some][:, alive] / size[alive]) @ without
            left += mean[some] @ rest**2
        own_share = left / np.maximum(whole, 1e-300)
    return Pull(by_told, told_moved, moved, own_share)


def _least_squares(square: np.ndarray, product: np.ndarray) -> np.ndarray:
    """Coefficients of least size, since told variables repeat one another."""
    return np.linalg.lstsq(square, product, rcond=1e-12)[0]


def _check(prior: np.ndarray, calibrated: np.ndarray, told: Design, outcomes: Design) -> None:
    records = prior.shape[0]
    shapes = (prior.shape, calibrated.shape, told.shape[:1], outcomes.shape[:1])
    if set(shapes) != {(records,)} or told.ndim != 2 or outcomes.ndim != 2:
        raise ProblemError(
            f"Weights of shapes {prior.shape} and {calibrated.shape}, told {told.shape}, outcomes"
            f" {outcomes.shape}",
            expected="(records,) twice, (records, told) and (records, outcomes)",
        )
    for name, weight in (("prior", prior), ("calibrated", calibrated)):
        wrong = np.flatnonzero(~(np.isfinite(weight) & (weight >= 0)))
        if wrong.size:
            raise ProblemError(
                f"{wrong.size} weights are negative or not finite",
                where=f"{name}, record {int(wrong[0])}",
                expected="finite weights of at least zero",
            )
