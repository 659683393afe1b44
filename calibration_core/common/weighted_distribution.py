"""Weighted distributions of continuous variables: distribution function, quantiles, positive share,
ranks, correlations.

For one variable x and weights w >= 0 with total W:

    F(x)  =  sum of w_i over x_i <= x, / W
    q(p)  =  the smallest x with F(x) >= p, taken among the positive amounts only
    r_i   =  F(x_i) - sum of w_j over x_j = x_i, / 2W          (the weighted mid-rank)

An income is zero for many records and lies far above zero for others. So the share with a positive
amount is one figure, and the quantiles of the positive amounts are others; a quantile of all would
jump from zero to a wage as the share passes p.

Belongs here: these figures for one set of weights over coded records. Does not belong here:
comparing two sets (``tree/select/loss_report.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.errors import ProblemError

# A distribution function that reaches p but for rounding has reached it.
_ROUNDING = 1e-12
# A variance below this share of the largest square is rounding of a constant.
_CONSTANT = 1e-20


@dataclass(frozen=True, eq=False)
class CodedVariables:
    """Continuous variables with their values numbered in ascending order, one variable after
    another, so that any weights are summed by value in one pass and without sorting again.

    Attributes
    ----------
    code : (variables, records) int64 place of each record's value in ``levels``.
    levels : (places,) float64 different values of every variable, ascending within each.
    begin : (variables + 1,) int64 where each variable's places begin.
    positive : (variables,) int64 first place of each variable with a value above zero, or where the
        next variable begins.
    scaled : (variables, records) float64 values over the largest size of their variable, for
        correlations.
    """

    code: np.ndarray
    levels: np.ndarray
    begin: np.ndarray
    positive: np.ndarray
    scaled: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> CodedVariables:
        """Code ``values``, (records, variables) float64. Raises ProblemError unless it is a matrix
        of finite numbers.
        """
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise ProblemError(
                f"Continuous variables of shape {values.shape}, or not all finite",
                expected="(records, variables) finite numbers",
            )
        columns = np.ascontiguousarray(values.T)
        pairs = [np.unique(column, return_inverse=True) for column in columns]
        begin = np.cumsum([0, *(level.size for level, _ in pairs)])
        code = np.array(
            [inverse.ravel() + start for (_, inverse), start in zip(pairs, begin, strict=False)],
            dtype=np.int64,
        ).reshape(columns.shape)
        positive = np.array(
            [
                start + np.searchsorted(level, 0.0, side="right")
                for (level, _), start in zip(pairs, begin, strict=False)
            ],
            dtype=np.int64,
        )
        size = np.abs(columns).max(axis=1, initial=0.0)
        levels = np.concatenate([level for level, _ in pairs]) if pairs else np.empty(0)
        return cls(code, levels, begin, positive, columns / np.where(size > 0, size, 1.0)[:, None])

    def at(self, record: np.ndarray) -> CodedVariables:
        """Those of the records ``record`` (n,) int64 alone, with the values that these have: what
        is summed by value is then no longer than they are.
        """
        pairs = [np.unique(code, return_inverse=True) for code in self.code[:, record]]
        begin = np.cumsum([0, *(place.size for place, _ in pairs)])
        code = [inverse.ravel() + start for (_, inverse), start in zip(pairs, begin, strict=False)]
        levels = [self.levels[place] for place, _ in pairs]
        positive = [
            start + np.searchsorted(level, 0.0, side="right")
            for level, start in zip(levels, begin, strict=False)
        ]
        return CodedVariables(
            np.array(code, dtype=np.int64).reshape(len(pairs), record.size),
            np.concatenate(levels) if levels else np.empty(0),
            begin,
            np.array(positive, dtype=np.int64),
            self.scaled[:, record],
        )

    @property
    def variables(self) -> int:
        """Number of variables."""
        return self.code.shape[0]

    @property
    def records(self) -> int:
        """Number of records."""
        return self.code.shape[1]


@dataclass(frozen=True, eq=False)
class WeightedDistributions:
    """Distributions of every variable under one set of weights.

    Attributes
    ----------
    function : (places,) float64 F of each variable at each of its values.
    positive_share : (variables,) float64 share of the weight with an amount above zero.
    quantiles : (variables, percentiles) float64 quantiles of the positive amounts; NaN where there
        is none.
    mean : (variables,) float64 weighted mean of all amounts, zeros included.
    pearson, rank : (variables, variables) float64 weighted Pearson correlations of the amounts, and
        of their weighted mid-ranks (Spearman's rho for weighted data; with equal weights it is the
        textbook one, ties averaged). NaN where a variable does not vary.
    """

    function: np.ndarray
    positive_share: np.ndarray
    quantiles: np.ndarray
    mean: np.ndarray
    pearson: np.ndarray
    rank: np.ndarray


def distributions(
    variables: CodedVariables,
    record: np.ndarray | None,
    weights: np.ndarray,
    percentiles: np.ndarray,
) -> WeightedDistributions:
    """Distributions of the records ``record`` (n,) int64, or of every record once where it is None,
    weighted by ``weights`` (n,) float64 >= 0 with a positive sum; a record may occur more than
    once. ``percentiles`` in percent, (percentiles,).
    """
    total = float(weights.sum())
    code, values = (
        array if record is None else array[:, record]
        for array in (variables.code, variables.scaled)
    )
    mass = np.bincount(
        code.ravel(),
        weights=np.broadcast_to(weights, code.shape).ravel(),
        minlength=variables.levels.size,
    )
    below, amount = np.empty(mass.size), mass * variables.levels
    positive, mean = np.zeros(variables.variables), np.zeros(variables.variables)
    quantiles = np.full((variables.variables, percentiles.size), np.nan)
    for v, first in enumerate(variables.positive):
        start, end = variables.begin[v : v + 2]
        np.cumsum(mass[start:end], out=below[start:end])
        above = np.cumsum(mass[first:end])
        held = float(above[-1]) if above.size else 0.0
        positive[v], mean[v] = held / total, float(amount[start:end].sum()) / total
        if held > 0:
            place = np.searchsorted(
                above, percentiles / 100.0 * held * (1.0 - _ROUNDING), side="left"
            )
            quantiles[v] = variables.levels[first:end][place]
    below /= total
    ranks = (below - 0.5 * mass / total)[code]
    return WeightedDistributions(
        below,
        positive,
        quantiles,
        mean,
        weighted_correlation(values, weights),
        weighted_correlation(ranks, weights),
    )


def weighted_correlation(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation matrix, (variables, variables) float64, of ``values``
    (variables, n): with m the weighted means,

        r_ab = sum w (x_a - m_a)(x_b - m_b) / sqrt( sum w (x_a - m_a)^2  sum w (x_b - m_b)^2 )

    NaN in the rows and columns of a variable that does not vary where the weights are positive.
    """
    share = weights / weights.sum()
    mean = values @ share
    # Centred first and multiplied after: a difference of sums of squares would lose a rare amount
    # in rounding.
    centred = values - mean[:, None]
    centred *= np.sqrt(share)
    covariance = centred @ centred.T
    variance = np.diagonal(covariance)
    varies = variance > _CONSTANT * (variance + mean**2)
    deviation = np.sqrt(np.where(varies, variance, np.nan))
    return covariance / np.outer(deviation, deviation)
