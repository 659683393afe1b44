"""Precision-weighted reconciliation of estimates along a tree of areas, in two sweeps.

For one variable, find leaf values x that minimise, over all nodes n with an estimate y_n of
variance v_n,

    sum_n ( (sum of x below n) - y_n )^2 / v_n ,     x >= 0 .

With independent errors on a tree this is a Kalman smoother: going up, each node's own estimate is
fused with the sum of its children by precision; going down, each parent's correction is shared
among its children in proportion to their variance. With m_c, s_c the fused value and variance of
child c before the sweep down, B = sum s_c, and X, U the parent's final ones,

    lambda = (X - sum m_c) / B,   x_c = m_c + s_c lambda,   u_c = s_c - s_c^2 (B - U) / B^2 .

Cost and memory are linear in the number of nodes. References: Cumings-Menon, arXiv 2404.13164;
Wickramasuriya, Athanasopoulos and Hyndman (JASA 114, 2019).

Non-negativity: the matrix of the objective is a sum of nested blocks of ones, an ultrametric
matrix, so its inverse is an M-matrix (Martinez, Michon and San Martin, SIAM J. Matrix Anal. Appl.
15, 1994). A leaf that is negative while some others are held at zero is therefore zero at the
optimum: leaves are held, all negative ones at once, until none is negative, and none need ever be
let go again (Chandrasekaran, Opsearch 7, 1970). What is left is the optimum, not a heuristic.

Belongs here: the problem, the active set, the result. Does not belong here: the sweeps
(``tree/reconcile/sweeps.py``), categories that add up (``categories.py``), what the variables mean,
or how published margins become variances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from calibration_core.common.threads import one_thread
from calibration_core.errors import ContradictionError, ProblemError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.reconcile.sweeps import Settled, Shares, Sweeps, received


@dataclass(frozen=True, eq=False)
class ReconcileResult:
    """Reconciled values by level; lists run from the top level to the leaves, arrays are (areas,
    variables).

    Attributes
    ----------
    values : reconciled values; NaN where nothing determines the value (only a sum with missing
        siblings is known).
    variances : their variances; inf where the value is undetermined, 0 where it is exact or held at
        zero.
    adjustments : (reconciled - estimate) / standard error of the estimate; 0 where the estimate was
        exact, NaN where missing.
    level_chi_square, level_degrees_of_freedom : (levels, variables) how far the estimates of a
        level are from the sums of what lies below them, each difference squared over its variance,
        and the number of such differences. Before values are held at zero (which would add to the
        first without being a disagreement); where none is, their sum over levels is the sum of
        squared adjustments.
    pinned : (variables,) number of leaf values held at zero by the non-negativity constraint.
    held : (leaves, variables) bool: which ones.
    iterations : rounds of the active set, 1 where no value would have been negative.
    converged : whether the active set settled for every variable; where not, some values are
        negative.
    """

    values: tuple[np.ndarray, ...]
    variances: tuple[np.ndarray, ...]
    adjustments: tuple[np.ndarray, ...]
    level_chi_square: np.ndarray
    level_degrees_of_freedom: np.ndarray
    pinned: np.ndarray
    held: np.ndarray
    iterations: int
    converged: bool

    @property
    def chi_square(self) -> np.ndarray:
        """(variables,) over all levels; far above the degrees of freedom, levels disagree by more
        than their errors.
        """
        return self.level_chi_square.sum(axis=0)

    @property
    def degrees_of_freedom(self) -> np.ndarray:
        """(variables,) number of redundant estimates."""
        return self.level_degrees_of_freedom.sum(axis=0)

    @property
    def p_values(self) -> np.ndarray:
        """(variables,) chance of a chi-square this large if all errors are independent and as large
        as stated; NaN where nothing is redundant.
        """
        return np.where(
            self.degrees_of_freedom > 0,
            special.chdtrc(np.maximum(self.degrees_of_freedom, 1), self.chi_square),
            np.nan,
        )

    def summary(self) -> str:
        """One paragraph for people: rounds, values held at zero, chi-square."""
        used = self.degrees_of_freedom > 0
        ratio = self.chi_square[used] / self.degrees_of_freedom[used]
        worst = f", at most {ratio.max():.2f}" if ratio.size else ""
        return (
            f"{'settled' if self.converged else 'stopped before it settled'} after"
            f" {self.iterations} rounds; {int(self.pinned.sum()):,} of {self.held.size:,} finest"
            " values held at zero; chi-square over degrees of freedom"
            f" {float(np.median(ratio)) if ratio.size else float('nan'):.2f} in the median"
            f" variable{worst}"
        )


@one_thread()
def reconcile_tree(
    tree: GeographyTree,
    estimates: Sequence[np.ndarray],
    variances: Sequence[np.ndarray],
    *,
    nonnegative: Sequence[bool] | np.ndarray | None = None,
    max_rounds: int = 50,
    names: Sequence[str] = (),
) -> ReconcileResult:
    """One consistent tree of values: for each variable, those that add up and move the estimates
    as little as their variances allow.

    Parameters
    ----------
    tree : the areas.
    estimates : per level, top first, (areas, variables) float64. Ignored where the variance is inf.
    variances : same shapes. ``inf`` marks a missing estimate, ``0`` an exact one.
    nonnegative : per variable, whether leaf values must be >= 0 (default: all).
    max_rounds : limit of the active-set rounds for non-negativity.
    names : what to call the variables in errors; their numbers where empty.

    Returns
    -------
    ReconcileResult : ``values`` and their ``variances`` per level, by how many standard errors each
        estimate moved, and a chi-square that says whether the levels agree at all.

    Raises
    ------
    ProblemError : shapes disagree, a variance is negative or NaN, an estimate is not finite.
    ContradictionError : exact estimates contradict one another or non-negativity; names the areas
        and values.
    """
    y, v = _checked(tree, estimates, variances)
    count = y[0].shape[1]
    positive = (
        np.ones(count, dtype=bool) if nonnegative is None else np.asarray(nonnegative, dtype=bool)
    )
    if positive.shape != (count,) or (len(names) and len(names) != count):
        raise ProblemError(
            f"nonnegative has shape {positive.shape}, names {len(names)} entries",
            expected=f"one for each of the {count} variables",
        )
    sweeps = Sweeps(tree, y, v, tuple(names))
    _refuse_negative_exact(tree, y, v, positive, names)
    levels = sweeps.up(None)
    agreement = sweeps.agreement(levels)
    held: np.ndarray | None = None
    rounds, converged = 1, True
    while True:
        settled, shares = sweeps.down(levels)
        negative = _negative(sweeps, shares, held, positive) if positive.any() else None
        if negative is None:
            break
        if rounds >= max_rounds:
            converged = False
            break
        rounds += 1
        held = negative if held is None else held | negative
        levels = sweeps.up(held)
    return _result(sweeps, settled, shares, held, agreement, rounds, converged, positive)


def _checked(
    tree: GeographyTree, estimates: Sequence[np.ndarray], variances: Sequence[np.ndarray]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Estimates and variances as float64, one array a level; raises as ``reconcile_tree``."""
    if len(estimates) != len(tree.levels) or len(variances) != len(tree.levels):
        raise ProblemError(
            f"{len(estimates)} estimate and {len(variances)} variance arrays for {len(tree.levels)}"
            " levels",
            expected="one array per level",
        )
    y, v = [], []
    width = np.shape(estimates[0])[1:]
    for level, size, estimate, variance in zip(
        tree.levels, tree.sizes, estimates, variances, strict=True
    ):
        estimate, variance = (
            np.ascontiguousarray(estimate, dtype=np.float64),
            np.ascontiguousarray(variance, dtype=np.float64),
        )
        if (
            estimate.ndim != 2
            or estimate.shape != variance.shape
            or estimate.shape[0] != size
            or estimate.shape[1:] != width
        ):
            raise ProblemError(
                f"Arrays of shape {estimate.shape} and {variance.shape}",
                where=f"level {level}",
                expected=f"({size}, variables) for both",
            )
        # NaN fails every comparison.
        if not (variance >= 0).all():
            raise ProblemError(
                "A variance is negative or NaN",
                where=f"level {level}",
                expected="0 (exact), positive, or inf (missing)",
            )
        if not (np.isfinite(estimate) | np.isinf(variance)).all():
            raise ProblemError(
                "An estimate with a finite variance is not finite",
                where=f"level {level}",
                expected="finite numbers; mark missing ones by variance inf",
            )
        y.append(estimate)
        v.append(variance)
    return y, v


def _refuse_negative_exact(
    tree: GeographyTree,
    estimates: Sequence[np.ndarray],
    variances: Sequence[np.ndarray],
    positive: np.ndarray,
    names: Sequence[str],
) -> None:
    """Raise ContradictionError if an exact estimate of a variable that may not be negative is
    negative, at any level.
    """
    for depth, (level, y, v) in enumerate(zip(tree.levels, estimates, variances, strict=True)):
        wrong = (y < 0) & (v == 0) & positive
        if wrong.any():
            area, variable = (int(i) for i in np.argwhere(wrong)[0])
            raise ContradictionError(
                f"{level} {tree.geoids[depth][area] or 'US'} is exact at {y[area, variable]:,.6g}"
                " and may not be negative",
                where=(
                    f"{names[variable] if len(names) else f'variable number {variable}'};"
                    f" {int(wrong.sum())} such values at level {level}"
                ),
                expected="exact values that are not negative",
                remedy=(
                    "Give it a standard error, correct the source, or allow the variable to be"
                    " negative"
                ),
            )


def _negative(
    sweeps: Sweeps, shares: Shares | None, held: np.ndarray | None, positive: np.ndarray
) -> np.ndarray | None:
    """Leaves not yet held that would be below zero, (leaves, variables) bool; None if there are
    none.
    """
    found = None
    for span in sweeps.spans:
        leaf, small = _leaves(sweeps, span, shares, held)
        wrong = leaf.value < small
        wrong |= leaf.squeezed
        wrong &= positive
        if held is not None:
            wrong &= ~held[slice(*span)]
        if wrong.any():
            found = np.zeros(sweeps.y[-1].shape, dtype=bool) if found is None else found
            found[slice(*span)] = wrong
    return found


def _leaves(
    sweeps: Sweeps, span: tuple[int, int], shares: Shares | None, held: np.ndarray | None
) -> tuple[Settled, np.ndarray | float]:
    """Final values of the leaves of a span, and below what they count as negative."""
    value, spread, hole = sweeps.leaves(span, held)
    if shares is None:
        hole = np.zeros(value.shape, dtype=bool) if hole is None else hole
        return (
            Settled(
                np.where(hole, np.nan, value),
                np.where(hole, np.inf, spread),
                ~hole,
                np.zeros_like(hole),
            ),
            0.0,
        )
    parent = sweeps.tree.parents[-1][slice(*span)]
    return received(value, spread, hole, shares, parent), -shares.small[parent]


def _result(
    sweeps: Sweeps,
    settled: list[Settled],
    shares: Shares | None,
    held: np.ndarray | None,
    agreement: tuple[np.ndarray, np.ndarray],
    rounds: int,
    converged: bool,
    positive: np.ndarray,
) -> ReconcileResult:
    """The last round written out, leaves span by span."""
    y, v = sweeps.y, sweeps.v
    values, spreads, adjustments = [], [], []
    for depth, level in enumerate(settled):
        values.append(level.value)
        spreads.append(level.spread)
        adjustments.append(_adjustment(level.value, y[depth], v[depth]))
    shape = y[-1].shape
    values.append(np.empty(shape))
    spreads.append(np.empty(shape))
    adjustments.append(np.empty(shape))
    for span in sweeps.spans:
        here = slice(*span)
        leaf, _ = _leaves(sweeps, span, shares, held)
        # What is left below zero once the active set has settled is rounding.
        values[-1][here] = (
            np.where(positive & (leaf.value < 0), 0.0, leaf.value) if converged else leaf.value
        )
        spreads[-1][here] = leaf.spread
        adjustments[-1][here] = _adjustment(values[-1][here], y[-1][here], v[-1][here])
    held = np.zeros(shape, dtype=bool) if held is None else held
    return ReconcileResult(
        tuple(values),
        tuple(spreads),
        tuple(adjustments),
        *agreement,
        held.sum(axis=0),
        held,
        rounds,
        converged,
    )


def _adjustment(x: np.ndarray, y: np.ndarray, v: np.ndarray) -> np.ndarray:
    """(x - y) / sqrt(v); 0 where v is 0, NaN where it is inf."""
    missing = np.isinf(v)
    moved = np.divide(x - y, np.sqrt(v), out=np.zeros_like(x), where=(v > 0) & ~missing)
    moved[missing] = np.nan
    return moved
