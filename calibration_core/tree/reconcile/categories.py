"""Making categories add up: children of a group sum to their parent in every area, and areas keep
summing to the level above.

For the areas of one level and K variables with estimates y and variances v, find x minimising sum
(x - y)^2 / v subject to

    x[a, parent] = sum over children of x[a, child]            for every group and area a,
    sum over areas a inside b of x[a, k] = T[b, k]             for every area b of the level above,
    where T is known,

and x >= 0 where asked. Groups may cross (age by sex, age, sex): all are solved together, since
settling them one after another makes each undo the last.

The dual has a multiplier mu_a per group and area and nu_b per held total, and x = max(0, y + v (C'
mu_a + nu_b)) where x >= 0 is asked. Its derivative, how much each constraint is missed by, is
piecewise linear, so Newton's method ends after finitely many steps, at the optimum and not only at
a point that adds up (Qi and Sun, SIAM J. Control Optim. 44, 2006, for this dual; finite end as in
Mangasarian, JOTA 121, 2004). A step is block-arrow: one small system per area, bordered by its
parent's totals. Redundant constraints make it singular; a relative ridge of 1e-12, mended by the
steps that follow, leaves the answer alone.

Belongs here: this projection on arrays. Does not belong here: the sweep along the tree
(``tree/reconcile/levels.py``), or what a group means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import membership

# One entry per group and area, and one per held total; None where no total is held.
_Dual = tuple[np.ndarray, np.ndarray | None]

_SETTLED = 1e-9
_STEPS = 100
_RIDGE = 1e-12
# Eigenvalues of a matrix of unit diagonal that stand for redundant constraints.
_NULL = 1e-11
# The least a variable is measured by, of the largest in its groups: else what nobody is stops all.
_NOBODY = 1e-6
# Entries of the squares a span of areas needs at a time: 32 MB.
_ENTRIES_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class Group:
    """``children`` (indices of variables) partition ``parent``."""

    parent: int
    children: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class CategoryResult:
    """Values that add up.

    Attributes
    ----------
    values, variances : (areas, variables); variables in no group as they came. Variances are those
        of the projection, given which values are held at zero.
    gap_before, gap_after : (groups,) largest |parent - sum of children| over areas, relative to the
        largest parent.
    total_gap : largest miss of a held total, relative to the variable's largest value.
    pinned : values held at zero.
    iterations : Newton steps.
    converged : all gaps below 1e-9.
    """

    values: np.ndarray
    variances: np.ndarray
    gap_before: np.ndarray
    gap_after: np.ndarray
    total_gap: float
    pinned: int
    iterations: int
    converged: bool


@one_thread()
def reconcile_categories(
    values: np.ndarray,
    variances: np.ndarray,
    groups: Sequence[Group],
    *,
    nonnegative: np.ndarray,
    parent_area: np.ndarray | None = None,
    totals: np.ndarray | None = None,
) -> CategoryResult:
    """Project estimates on the constraints above.

    Parameters
    ----------
    values, variances : (areas, variables) float64; variance 0 marks a value that must not move.
    groups : groups whose members are all finite in every area.
    nonnegative : (variables,) bool.
    parent_area : (areas,) int64 index of each area's parent, with ``totals`` (parents, variables),
        NaN where a total is not held.

    Raises
    ------
    ProblemError : shapes disagree, a group's member is not finite or has a negative variance, or a
        total has no area.
    """
    y, v = np.asarray(values, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if y.ndim != 2 or y.shape != v.shape or nonnegative.shape != (y.shape[1],):
        raise ProblemError(
            f"values {y.shape}, variances {v.shape}, nonnegative {nonnegative.shape}",
            expected="(areas, variables) twice and (variables,)",
        )
    members = sorted({i for g in groups for i in (g.parent, *g.children)})
    if not np.isfinite(y[:, members]).all() or not np.isfinite(v[:, members]).all():
        raise ProblemError(
            "A member of a group is not finite",
            expected="finite values and variances; leave such groups out",
        )
    if (v[:, members] < 0).any():
        raise ProblemError("A variance is negative", expected="0 (does not move) or positive")
    place = {k: i for i, k in enumerate(members)}
    signs = np.zeros((len(groups), len(members)))
    for row, group in zip(signs, groups, strict=True):
        row[place[group.parent]] = 1.0
        row[[place[c] for c in group.children]] = -1.0
    held = None
    if totals is not None and parent_area is not None:
        held = _checked_totals(totals[:, members], parent_area, y.shape[0])
    problem = _Projection(
        y[:, members],
        v[:, members],
        signs,
        nonnegative[members],
        parent_area if held is not None else None,
        held,
    )
    x, steps = problem.solve()
    answer, spread = y.copy(), v.copy()
    answer[:, members], spread[:, members] = x, problem.variances()
    before, after = _group_gaps(problem.y, signs), _group_gaps(x, signs)
    total_gap = problem.total_gap()
    settled = bool(after.max(initial=0.0) < _SETTLED and total_gap < _SETTLED)
    return CategoryResult(
        answer, spread, before, after, total_gap, int(problem.pinned().sum()), steps, settled
    )


def _checked_totals(totals: np.ndarray, parent_area: np.ndarray, areas: int) -> np.ndarray:
    if parent_area.shape != (areas,) or (
        areas and (parent_area.min() < 0 or parent_area.max() >= totals.shape[0])
    ):
        raise ProblemError(
            f"parent_area of shape {parent_area.shape} into {totals.shape[0]} totals",
            expected=f"({areas},) indices of totals",
        )
    bare = np.flatnonzero(
        (np.bincount(parent_area, minlength=totals.shape[0]) == 0) & np.isfinite(totals).any(axis=1)
    )
    if bare.size:
        raise ProblemError(
            f"Total number {int(bare[0])} has no area",
            expected="at least one area in every parent whose totals are held",
        )
    return np.asarray(totals, dtype=np.float64)


def _group_gaps(x: np.ndarray, signs: np.ndarray) -> np.ndarray:
    largest = np.abs(x @ np.maximum(signs, 0.0).T).max(axis=0, initial=0.0)
    return np.abs(x @ signs.T).max(axis=0, initial=0.0) / np.maximum(1.0, largest)


@dataclass(frozen=True, eq=False)
class _Outer:
    """Totals that areas must add up to: ``parent`` the row of T each area adds to; ``totals`` T,
    (parents, members) with NaN where none is held; ``held`` where one is; ``within`` the sum over
    the areas of a parent.
    """

    parent: np.ndarray
    totals: np.ndarray
    held: np.ndarray
    within: sp.csr_matrix


class _Projection:
    """Newton on the dual. ``signs`` is C, (groups, members); ``totals`` T, (parents, members) with
    NaN where none is held, or None; ``parent`` the row of T an area adds to, or None.
    """

    def __init__(
        self,
        y: np.ndarray,
        v: np.ndarray,
        signs: np.ndarray,
        nonnegative: np.ndarray,
        parent: np.ndarray | None,
        totals: np.ndarray | None,
    ) -> None:
        self.y, self.v, self.signs = y, v, signs
        self.nonnegative = nonnegative
        areas, width = y.shape
        self.mu = np.zeros((areas, signs.shape[0]))
        self.nu: np.ndarray | None = None
        self.outer: _Outer | None = None
        if totals is not None and parent is not None:
            self.nu = np.zeros(totals.shape)
            within = membership(parent, totals.shape[0])
            self.outer = _Outer(parent, totals, np.isfinite(totals), within)
        step = max(1, _ENTRIES_AT_A_TIME // max(width * width, signs.shape[0] ** 2, 1))
        self.spans = [slice(a, min(a + step, areas)) for a in range(0, areas, step)]
        # C V C' of an area is its row of v times this: products of signs.
        self.products = (signs.T[:, :, None] * signs.T[:, None, :]).reshape(width, -1)
        # What values and groups' sums are measured by: variables may be persons or dollars.
        own, member = np.abs(y).max(axis=0, initial=0.0), np.abs(signs)
        self.group_size = (member * own).max(axis=1, initial=1e-300)
        beside = (member.T * self.group_size).max(axis=1, initial=0.0)
        self.size = np.maximum(1e-300, np.maximum(own, _NOBODY * beside))

    def target(self, mu: np.ndarray, nu: np.ndarray | None) -> np.ndarray:
        """y + v (C' mu + nu), before anything is held at zero."""
        push = mu @ self.signs
        if nu is not None and self.outer is not None:
            push += nu[self.outer.parent]
        return self.y + self.v * push

    def values(self, mu: np.ndarray, nu: np.ndarray | None) -> np.ndarray:
        x = self.target(mu, nu)
        return np.where(self.nonnegative & (self.v > 0), np.maximum(x, 0.0), x)

    def misses(self, x: np.ndarray) -> _Dual:
        """What each constraint lacks: -C x, and T - sum of x."""
        short, outer = -(x @ self.signs.T), self.outer
        if outer is None:
            return short, None
        return short, np.where(outer.held, outer.totals - outer.within @ x, 0.0)

    def solve(self) -> tuple[np.ndarray, int]:
        """Values at the optimum and the number of steps."""
        x = self.values(self.mu, self.nu)
        best, closest, idle, steps = np.inf, (self.mu, self.nu), 0, 0
        while steps < _STEPS:
            missed = self.misses(x)
            worst = self.worst(missed)
            # Rounding, or constraints that cannot be met together, leave something over.
            idle = 0 if worst < 0.5 * best else idle + 1
            if worst < best:
                best, closest = worst, (self.mu, self.nu)
            if worst <= 1e-14 or idle > (3 if best < 1e-11 else 12):
                break
            x = self.advance(missed, self.newton(x, missed, max(_RIDGE, min(1e-3, 1e-3 * worst))))
            steps += 1
        self.mu, self.nu = closest
        return self.values(self.mu, self.nu), steps

    def worst(self, missed: _Dual) -> float:
        """The largest miss, relative."""
        short, lacking = missed
        of_groups = float((np.abs(short) / self.group_size).max(initial=0.0))
        return (
            of_groups
            if lacking is None
            else max(of_groups, float((np.abs(lacking) / self.size).max(initial=0.0)))
        )

    def inverse(self, span: slice, free: np.ndarray, ridge: float) -> np.ndarray:
        """(C V C')^-1 of the areas of a span, V what is free."""
        groups = self.signs.shape[0]
        return _inverse(
            (free[span] @ self.products).reshape(-1, groups, groups),
            self.v[span] @ (self.signs**2).T,
            ridge,
        )

    def border(self, outer: _Outer, free: np.ndarray, ridge: float) -> np.ndarray:
        """Inverse of the totals' system once areas are eliminated, (parents, members, members)."""
        total = np.zeros((*outer.totals.shape, outer.totals.shape[1]))
        for span in self.spans:
            np.add.at(
                total,
                outer.parent[span],
                self.conditional(free[span], self.inverse(span, free, ridge)),
            )
        total *= outer.held[:, :, None] & outer.held[:, None, :]
        return _inverse(total, np.where(outer.held, outer.within @ self.v, 0.0), ridge)

    def newton(self, x: np.ndarray, missed: _Dual, ridge: float) -> _Dual:
        """(d mu, d nu) that would meet every constraint if nothing came to zero or left it."""
        free = np.where(self.nonnegative & (x <= 0), 0.0, self.v)
        short, lacking = missed
        solved = np.empty_like(short)
        for span in self.spans:
            solved[span] = np.einsum("agh,ah->ag", self.inverse(span, free, ridge), short[span])
        outer = self.outer
        if lacking is None or outer is None:
            return solved, None
        pull = np.where(outer.held, lacking - outer.within @ (free * (solved @ self.signs)), 0.0)
        move = np.einsum("bkl,bl->bk", self.border(outer, free, ridge), pull)
        for span in self.spans:
            pushed = (free[span] * move[outer.parent[span]]) @ self.signs.T
            solved[span] -= np.einsum("agh,ah->ag", self.inverse(span, free, ridge), pushed)
        return solved, move

    def conditional(self, v: np.ndarray, inverse: np.ndarray) -> np.ndarray:
        """V - V C' (C V C')^-1 C V of each area, (areas, members, members)."""
        crossed = self.signs[None, :, :] * v[:, None, :]
        block = -np.swapaxes(crossed, 1, 2) @ (inverse @ crossed)
        diagonal = np.arange(v.shape[1])
        block[:, diagonal, diagonal] += v
        return block

    def advance(self, missed: _Dual, direction: _Dual) -> np.ndarray:
        """Move the multipliers along the direction, to where the dual's slope along it is zero or
        nearly so; the slope only falls.
        """
        mu, nu = self.mu, self.nu
        along, along_totals = direction

        def at(length: float) -> tuple[_Dual, np.ndarray, float]:
            if nu is None or along_totals is None:
                new: _Dual = mu + length * along, None
            else:
                new = mu + length * along, nu + length * along_totals
            x = self.values(*new)
            return new, x, _inner(direction, self.misses(x))

        start = _inner(direction, missed)
        low, high, length = 0.0, 1.0, 1.0
        (self.mu, self.nu), x, slope = at(length)
        for _ in range(60):
            if abs(slope) <= 0.5 * abs(start):
                break
            low, high = (length, high) if slope > 0 else (low, length)
            if low == high:
                high = 2.0 * length
                length = high
            else:
                length = 0.5 * (low + high)
            (self.mu, self.nu), x, slope = at(length)
        return x

    def pinned(self) -> np.ndarray:
        """(areas, members) bool: held at zero, rounding aside."""
        return (
            self.nonnegative & (self.v > 0) & (self.target(self.mu, self.nu) < -1e-12 * self.size)
        )

    def total_gap(self) -> float:
        """Largest miss of a held total, relative to the variable's largest value."""
        missed = self.misses(self.values(self.mu, self.nu))[1]
        return (
            0.0
            if missed is None
            else float((np.abs(missed) / np.maximum(1.0, self.size)).max(initial=0.0))
        )

    def variances(self) -> np.ndarray:
        """Diagonal of V - V A' (A V A')^-1 A V, what is held at zero left out."""
        free = np.where(self.pinned(), 0.0, self.v)
        outer = self.outer
        if outer is not None:
            core = self.border(outer, free, 0.0)
        answer = np.empty_like(free)
        for span in self.spans:
            block = self.conditional(free[span], self.inverse(span, free, 0.0))
            answer[span] = np.diagonal(block, axis1=1, axis2=2)
            if outer is not None:
                answer[span] -= np.einsum(
                    "akl,alm,amk->ak", block, core[outer.parent[span]], block, optimize=True
                )
        return np.maximum(answer, 0.0)


def _inner(direction: _Dual, missed: _Dual) -> float:
    return sum(
        float((d * m).sum())
        for d, m in zip(direction, missed, strict=True)
        if d is not None and m is not None
    )


def _inverse(blocks: np.ndarray, full: np.ndarray, ridge: float) -> np.ndarray:
    """Inverses of positive semidefinite blocks scaled by 1 / sqrt(full), their diagonals with
    nothing held, and ridged; rows whose ``full`` is 0 stay zero. Ridge 0 asks for the
    pseudo-inverse, which is slower.
    """
    diagonal = np.arange(blocks.shape[-1])
    scale = np.divide(1.0, np.sqrt(np.maximum(full, 0.0)), out=np.zeros_like(full), where=full > 0)
    unit = blocks * scale[:, :, None] * scale[:, None, :]
    if ridge > 0:
        unit[:, diagonal, diagonal] += np.where(full > 0, ridge, 1.0)
        return np.linalg.inv(unit) * scale[:, :, None] * scale[:, None, :]
    size, axes = np.linalg.eigh(unit)
    axes *= scale[:, :, None]
    return (
        axes * np.divide(1.0, size, out=np.zeros_like(size), where=size > _NULL)[:, None, :]
    ) @ np.swapaxes(axes, 1, 2)
