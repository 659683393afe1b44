"""Weighted distributions of continuous variables: distribution function, quantiles, positive share, ranks, correlations.

For one variable x and weights w >= 0 with total W:

    F(x)  =  sum of w_i over x_i <= x, / W
    q(p)  =  the smallest x with F(x) >= p, taken among the positive amounts only
    r_i   =  F(x_i) - sum of w_j over x_j = x_i, / 2W          (the weighted mid-rank)

An income is zero for many records and lies far above zero for others. So the share with a positive amount is one figure, and the
quantiles of the positive amounts are others; a quantile of all would jump from zero to a wage as the share passes p.

Belongs here: these figures for one set of weights over coded records. Does not belong here: comparing two sets (``selection_loss.py``).
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
    """Continuous variables with their values numbered in ascending order, so that any weights are summed by value without sorting again.

    Attributes
    ----------
    code : (variables, records) int64 number of each record's value.
    levels : per variable, (different values,) float64 ascending.
    scaled : (records, variables) float64 values over the largest size of their variable, for correlations.
    """

    code: np.ndarray
    levels: tuple[np.ndarray, ...]
    scaled: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> CodedVariables:
        """Code ``values``, (records, variables) float64. Raises ProblemError unless it is a matrix of finite numbers."""
        values = np.asarray(values, dtype=np.float64)
        if values.ndim != 2 or not np.isfinite(values).all():
            raise ProblemError(f"Continuous variables of shape {values.shape}, or not all finite", expected="(records, variables) finite numbers")
        pairs = [np.unique(column, return_inverse=True) for column in values.T]
        code = np.array([inverse.ravel() for _, inverse in pairs], dtype=np.int64).reshape(values.shape[::-1])
        size = np.abs(values).max(axis=0, initial=0.0)
        return cls(code, tuple(level for level, _ in pairs), values / np.where(size > 0, size, 1.0))

    @property
    def variables(self) -> int:
        """Number of variables."""
        return self.code.shape[0]


@dataclass(frozen=True, eq=False)
class WeightedDistributions:
    """Distributions of every variable under one set of weights.

    Attributes
    ----------
    function : per variable, (different values,) float64 F at each value.
    positive_share : (variables,) float64 share of the weight with an amount above zero.
    quantiles : (variables, percentiles) float64 quantiles of the positive amounts; NaN where there is none.
    mean : (variables,) float64 weighted mean of all amounts, zeros included.
    pearson, rank : (variables, variables) float64 weighted Pearson correlations of the amounts, and of their weighted mid-ranks (Spearman's rho
        for weighted data; with equal weights it is the textbook one, ties averaged). NaN where a variable does not vary.
    """

    function: tuple[np.ndarray, ...]
    positive_share: np.ndarray
    quantiles: np.ndarray
    mean: np.ndarray
    pearson: np.ndarray
    rank: np.ndarray


def distributions(variables: CodedVariables, record: np.ndarray, weights: np.ndarray, percentiles: np.ndarray) -> WeightedDistributions:
    """Distributions of the records ``record`` (n,) int64 weighted by ``weights`` (n,) float64 >= 0 with a positive sum; a record may occur
    more than once. ``percentiles`` in percent, (percentiles,)."""
    total = float(weights.sum())
    code = variables.code[:, record]
    functions, ranks = [], np.empty((record.size, variables.variables))
    positive, mean = np.empty(variables.variables), np.empty(variables.variables)
    quantiles = np.full((variables.variables, percentiles.size), np.nan)
    for v, levels in enumerate(variables.levels):
        mass = np.bincount(code[v], weights=weights, minlength=levels.size)
        below = np.cumsum(mass) / total
        functions.append(below)
        ranks[:, v] = (below - 0.5 * mass / total)[code[v]]
        first = int(np.searchsorted(levels, 0.0, side="right"))
        above = np.cumsum(mass[first:])
        held = float(above[-1]) if above.size else 0.0
        positive[v], mean[v] = held / total, float(mass @ levels) / total
        if held > 0:
            place = np.searchsorted(above, percentiles / 100.0 * held * (1.0 - _ROUNDING), side="left")
            quantiles[v] = levels[first:][place]
    return WeightedDistributions(
        tuple(functions), positive, quantiles, mean, weighted_correlation(variables.scaled[record], weights), weighted_correlation(ranks, weights)
    )


def weighted_correlation(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weighted Pearson correlation matrix, (variables, variables) float64, of ``values`` (n, variables): with m the weighted means,

        r_ab = sum w (x_a - m_a)(x_b - m_b) / sqrt( sum w (x_a - m_a)^2  sum w (x_b - m_b)^2 )

    NaN in the rows and columns of a variable that does not vary where the weights are positive."""
    total = float(weights.sum())
    mean = weights @ values / total
    centred = (values - mean) * np.sqrt(weights / total)[:, None]
    covariance = centred.T @ centred
    variance = np.diagonal(covariance)
    size = np.abs(values[weights > 0]).max(axis=0, initial=0.0)
    varies = variance > _CONSTANT * size**2
    deviation = np.sqrt(np.where(varies, variance, np.nan))
    return covariance / np.outer(deviation, deviation)
