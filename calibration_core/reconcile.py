"""Precision-weighted reconciliation of estimates along a tree of areas, in two sweeps.

For one variable, find leaf values x that minimise, over all nodes n with an estimate y_n of variance v_n,

    sum_n ( (sum of x below n) - y_n )^2 / v_n ,     x >= 0 .

With independent errors on a tree this is a Kalman smoother: going up, each node's own estimate is fused with the
sum of its children by precision; going down, each parent's correction is shared among its children in proportion to
their variance. Cost is linear in the number of nodes. References: Cumings-Menon, arXiv 2404.13164; Wickramasuriya,
Athanasopoulos and Hyndman (2019).

Belongs here: the reconciliation of arrays on a GeographyTree. Does not belong here: what the variables mean,
or how published margins become variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration_core.errors import ContradictionError, ProblemError
from calibration_core.geography import GeographyTree

_RELATIVE_CONTRADICTION = 1e-9


@dataclass(frozen=True)
class ReconcileResult:
    """Reconciled values by level; lists run from the top level to the leaves, arrays are (areas, variables).

    Attributes
    ----------
    values : reconciled values; NaN where nothing determines the value (only a sum with missing siblings is known).
    variances : their variances; inf where the value is undetermined, 0 where it is exact.
    adjustments : (reconciled - estimate) / standard error of the estimate; 0 where the estimate was exact, NaN where missing.
    chi_square, degrees_of_freedom : (variables,) sum of squared adjustments and the number of redundant estimates;
        a chi-square far above its degrees of freedom says that levels disagree by more than their errors.
    pinned : number of leaf values held at zero by the non-negativity constraint, per variable.
    iterations : rounds of the active set, 1 where no value would have been negative.
    converged : whether the active set settled for every variable.
    """

    values: tuple[np.ndarray, ...]
    variances: tuple[np.ndarray, ...]
    adjustments: tuple[np.ndarray, ...]
    chi_square: np.ndarray
    degrees_of_freedom: np.ndarray
    pinned: np.ndarray
    iterations: int
    converged: bool


def reconcile(
    tree: GeographyTree,
    estimates: Sequence[np.ndarray],
    variances: Sequence[np.ndarray],
    *,
    nonnegative: Sequence[bool] | None = None,
    max_rounds: int = 50,
) -> ReconcileResult:
    """Reconcile estimates of several variables at once.

    Parameters
    ----------
    tree : the areas.
    estimates : per level, top first, (areas, variables) float64. Ignored where the variance is inf.
    variances : same shapes. ``inf`` marks a missing estimate, ``0`` an exact one.
    nonnegative : per variable, whether leaf values must be >= 0 (default: all).
    max_rounds : limit of the active-set rounds for non-negativity.

    Raises
    ------
    ProblemError : shapes disagree, a variance is negative or NaN, an estimate is not finite.
    ContradictionError : exact estimates contradict one another; names the areas and values.
    """
    y, v = _checked(tree, estimates, variances)
    count = y[0].shape[1]
    keep_positive = np.ones(count, dtype=bool) if nonnegative is None else np.asarray(nonnegative, dtype=bool)
    values, posterior, dof = _two_sweeps(tree, y, v)
    pinned = np.zeros(y[-1].shape, dtype=bool)
    rounds, converged = 1, True
    active = _negative(values[-1], keep_positive)
    while active.any():
        if rounds >= max_rounds:
            converged = False
            break
        rounds += 1
        pinned |= active
        columns = np.flatnonzero(pinned.any(axis=0))
        sub_y, sub_v = [a[:, columns].copy() for a in y], [a[:, columns].copy() for a in v]
        sub_y[-1][pinned[:, columns]] = 0.0
        sub_v[-1][pinned[:, columns]] = 0.0
        sub_values, sub_posterior, _ = _two_sweeps(tree, sub_y, sub_v)
        for level in range(len(y)):
            values[level][:, columns] = sub_values[level]
            posterior[level][:, columns] = sub_posterior[level]
        release = np.zeros_like(pinned)
        release[:, columns] = _wrongly_pinned(tree, [a[:, columns] for a in values], [a[:, columns] for a in y], [a[:, columns] for a in v], pinned[:, columns])
        active = _negative(values[-1], keep_positive) & ~pinned
        if release.any() and not active.any():
            pinned &= ~release
            active = release & _negative(_resolve(tree, y, v, pinned)[-1], keep_positive)
            if not active.any():
                values, posterior = _resolve_all(tree, y, v, pinned)
    adjustments, chi_square = _adjustments(values, y, v)
    return ReconcileResult(tuple(values), tuple(posterior), tuple(adjustments), chi_square, dof, pinned.sum(axis=0), rounds, converged)


def _checked(tree: GeographyTree, estimates: Sequence[np.ndarray], variances: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    if len(estimates) != len(tree.levels) or len(variances) != len(tree.levels):
        raise ProblemError(f"{len(estimates)} estimate and {len(variances)} variance arrays for {len(tree.levels)} levels", expected="one array per level")
    y, v = [], []
    for level, size, estimate, variance in zip(tree.levels, tree.sizes, estimates, variances, strict=True):
        estimate, variance = np.array(estimate, dtype=np.float64), np.array(variance, dtype=np.float64)
        if estimate.ndim != 2 or estimate.shape != variance.shape or estimate.shape[0] != size:
            raise ProblemError(f"Arrays of shape {estimate.shape} and {variance.shape}", where=f"level {level}", expected=f"({size}, variables) for both")
        if np.isnan(variance).any() or (variance < 0).any():
            raise ProblemError("A variance is negative or NaN", where=f"level {level}", expected="0 (exact), positive, or inf (missing)")
        known = np.isfinite(variance)
        if not np.isfinite(estimate[known]).all():
            raise ProblemError(
                "An estimate with a finite variance is not finite", where=f"level {level}", expected="finite numbers; mark missing ones by variance inf"
            )
        estimate[~known] = 0.0
        y.append(estimate)
        v.append(variance)
    return y, v


def _two_sweeps(tree: GeographyTree, y: list[np.ndarray], v: list[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """Unconstrained solution: values, variances, degrees of freedom."""
    depth = len(y)
    fused, spread = [a.copy() for a in y], [a.copy() for a in v]
    dof = np.zeros(y[0].shape[1], dtype=np.int64)
    for level in range(depth - 2, -1, -1):
        below = tree.sum_to_parent(fused[level + 1], level + 1)
        below_v = tree.sum_to_parent(spread[level + 1], level + 1)
        childless = np.bincount(tree.parents[level + 1], minlength=tree.sizes[level]) == 0
        below_v[childless] = np.inf
        own, own_v = y[level], v[level]
        both_exact = (own_v == 0) & (below_v == 0)
        clash = both_exact & (np.abs(own - below) > _RELATIVE_CONTRADICTION * np.maximum(1.0, np.abs(own)))
        if clash.any():
            area, variable = (int(i) for i in np.argwhere(clash)[0])
            raise ContradictionError(
                f"{tree.levels[level]} {tree.geoids[level][area] or 'US'} is exact at {own[area, variable]:,.6g}, but its exact parts sum to {below[area, variable]:,.6g}",
                where=f"variable number {variable}; {int(clash.sum())} such contradictions in all",
                expected="exact values that add up",
                remedy="Give one of the two a standard error, or correct the source",
            )
        dof += (np.isfinite(own_v) & np.isfinite(below_v)).sum(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(np.isinf(below_v), 1.0, below_v / (below_v + own_v))
        gain = np.where(np.isinf(own_v), 0.0, gain)
        gain = np.where(both_exact, 0.0, gain)
        missing = np.isinf(below_v) & np.isinf(own_v)
        with np.errstate(invalid="ignore"):
            fused[level] = np.where(missing, 0.0, below + gain * (own - below))
            merged = np.where(np.isinf(below_v), own_v, (1.0 - gain) * below_v)
        spread[level] = np.where(missing, np.inf, merged)
    for level in range(1, depth):
        _share_down(tree, level, fused, spread)
    for level in range(depth):
        fused[level][np.isinf(spread[level])] = np.nan
    return fused, spread, dof


def _share_down(tree: GeographyTree, level: int, fused: list[np.ndarray], spread: list[np.ndarray]) -> None:
    """Replace level's fused values and variances by their posterior given the parents' posterior (in place)."""
    parent = tree.parents[level]
    infinite = np.isinf(spread[level])
    finite_v = np.where(infinite, 0.0, spread[level])
    total_v = tree.sum_to_parent(finite_v, level)
    holes = tree.sum_to_parent(infinite.astype(np.int64), level)
    known = tree.sum_to_parent(np.where(infinite, 0.0, fused[level]), level)
    up_value, up_v = fused[level - 1], spread[level - 1]
    determined = np.isfinite(up_v)
    residual = np.where(determined, up_value - known, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(total_v[parent] > 0, finite_v / total_v[parent], 0.0)
    correct = (determined & (holes == 0))[parent]
    new_value = fused[level] + np.where(correct, share * residual[parent], 0.0)
    with np.errstate(invalid="ignore"):
        shrunk = finite_v - share * finite_v + share**2 * np.where(determined, up_v, 0.0)[parent]
    new_v = np.where(correct, np.maximum(shrunk, 0.0), spread[level])
    single = infinite & (determined & (holes == 1))[parent]
    new_value = np.where(single, residual[parent], new_value)
    new_v = np.where(single, (np.where(determined, up_v, 0.0) + total_v)[parent], new_v)
    fused[level], spread[level] = new_value, new_v


def _negative(leaf_values: np.ndarray, keep_positive: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (leaf_values < -1e-12 * np.maximum(1.0, np.nanmax(np.abs(leaf_values), axis=0, initial=0.0))) & keep_positive[None, :]


def _resolve_all(tree: GeographyTree, y: list[np.ndarray], v: list[np.ndarray], pinned: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    held_y, held_v = [*y[:-1], np.where(pinned, 0.0, y[-1])], [*v[:-1], np.where(pinned, 0.0, v[-1])]
    values, posterior, _ = _two_sweeps(tree, held_y, held_v)
    return values, posterior


def _resolve(tree: GeographyTree, y: list[np.ndarray], v: list[np.ndarray], pinned: np.ndarray) -> list[np.ndarray]:
    return _resolve_all(tree, y, v, pinned)[0]


def _wrongly_pinned(tree: GeographyTree, x: list[np.ndarray], y: list[np.ndarray], v: list[np.ndarray], pinned: np.ndarray) -> np.ndarray:
    """Pinned leaves whose objective would fall if they were let go (negative gradient).

    The gradient of leaf i is the sum over its ancestors of (x_a - y_a) / v_a. Exact ancestors contribute an unknown
    multiplier, shared by all leaves with the same lowest exact ancestor; it is read off their free leaves, whose
    gradient is zero. Where no free leaf remains the pin is kept.
    """
    leaves, count = pinned.shape
    gradient = np.zeros((leaves, count))
    anchor = np.full((leaves, count), -1, dtype=np.int64)
    offset = 0
    for depth in range(len(x)):
        above = tree.ancestor_of_leaves(depth)
        with np.errstate(divide="ignore", invalid="ignore"):
            term = np.where(np.isfinite(v[depth]) & (v[depth] > 0), (x[depth] - y[depth]) / v[depth], 0.0)
        gradient += np.nan_to_num(term)[above]
        if depth < len(x) - 1:
            exact = (v[depth] == 0)[above]
            anchor = np.where(exact, (above + offset)[:, None], anchor)
            offset += tree.sizes[depth]
    release = np.zeros_like(pinned)
    free = ~pinned & (v[-1] > 0)
    for column in range(count):
        group = anchor[:, column]
        multiplier = np.zeros(leaves)
        for key in np.unique(group[pinned[:, column]]):
            members = group == key
            loose = members & free[:, column]
            multiplier[members] = (-gradient[loose, column].mean() if loose.any() else np.inf) if key >= 0 else 0.0
        scale = np.abs(gradient[:, column]).max(initial=0.0)
        release[:, column] = pinned[:, column] & (v[-1][:, column] > 0) & (gradient[:, column] + multiplier < -1e-9 * max(scale, 1e-300))
    return release


def _adjustments(values: list[np.ndarray], y: list[np.ndarray], v: list[np.ndarray]) -> tuple[list[np.ndarray], np.ndarray]:
    adjustments = []
    chi_square = np.zeros(y[0].shape[1])
    for x, estimate, variance in zip(values, y, v, strict=True):
        known = np.isfinite(variance) & (variance > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            z = np.where(known, (x - estimate) / np.sqrt(variance), np.where(np.isinf(variance), np.nan, 0.0))
        adjustments.append(z)
        chi_square += np.nansum(np.where(known, z, 0.0) ** 2, axis=0)
    return adjustments, chi_square
