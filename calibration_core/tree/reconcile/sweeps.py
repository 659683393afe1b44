"""The two sweeps of a reconciliation: estimates fused going up a tree, corrections shared going
down.

Per variable, every area has a fused value m and variance s from what lies in it, or is open:
something in it is missing and nothing above that part of it is known (m is then the sum of what is
known in it). Going up, children are summed, and fused with the area's own estimate y of variance v
by precision:

    B = sum s_c,   m = sum m_c + (y - sum m_c) B / (B + v),   s = B v / (B + v) .

Going down, with X, U the final value and variance of an area none of whose children is open,

    x_c = m_c + (s_c / B) (X - sum m_c),   u_c = s_c (1 - s_c / B) + (s_c / B)^2 U .

One open child takes the whole difference: x = X - (sum of the others), u = U + B. Of two or more
only the sum is known.

The leaves are by far the most of it, so they are taken some thousand rows at a time and only their
answers are kept.

Belongs here: the arithmetic, linear in the number of areas. Does not belong here: checks of the
input, which leaves are held at zero and why (``tree/reconcile/levels.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calibration_core.errors import ContradictionError
from calibration_core.tree.geography import GeographyTree, membership

_RELATIVE_CONTRADICTION = 1e-9
# Rounding: a difference this small beside the area's value is none.
_ROUNDING = 1e-12
# Entries of leaf arrays taken at a time: half a megabyte of each.
_ENTRIES_AT_A_TIME = 65_536


@dataclass(frozen=True, eq=False)
class Fused:
    """A level above the leaves after the sweep up, (areas, variables) each: value, variance, open;
    and sums over the children of value and variance (open ones count with what is known in them,
    and no variance) and the number of open ones.
    """

    value: np.ndarray
    spread: np.ndarray
    hole: np.ndarray
    below: np.ndarray
    below_spread: np.ndarray
    holes: np.ndarray


@dataclass(frozen=True, eq=False)
class Settled:
    """A level after the sweep down: value, variance, whether they are known, and, where not,
    whether nothing is left for what is missing (so that it is zero if it may not be negative).
    """

    value: np.ndarray
    spread: np.ndarray
    known: np.ndarray
    squeezed: np.ndarray


@dataclass(frozen=True, eq=False)
class Shares:
    """What the children of each area of a level receive; (areas, variables) each, see the formulas
    above.

    ``total`` is B, inf where children keep what they have; ``rest`` is X - sum m_c and ``carried``
    U / B. Where ``single``, the one open child gets ``rest`` plus what is known in it, with
    variance ``wide``. ``squeezed``: open children have nothing left to take. ``small``: differences
    not above this are rounding.
    """

    total: np.ndarray
    rest: np.ndarray
    carried: np.ndarray
    single: np.ndarray
    wide: np.ndarray
    squeezed: np.ndarray
    small: np.ndarray


class Sweeps:
    """Both sweeps over one set of estimates.

    Parameters
    ----------
    tree : the areas.
    y, v : per level, top first, (areas, variables) float64 estimates and variances; inf marks a
        missing one, whose y is not read.
    names : what to call the variables in errors.
    """

    def __init__(
        self,
        tree: GeographyTree,
        y: list[np.ndarray],
        v: list[np.ndarray],
        names: tuple[str, ...] = (),
    ) -> None:
        self.tree, self.y, self.v, self.names = tree, y, v, names
        leaves, self.width = y[-1].shape
        step = max(1, _ENTRIES_AT_A_TIME // max(self.width, 1))
        self.spans = [(a, min(a + step, leaves)) for a in range(0, leaves, step)]

    def up(self, held: np.ndarray | None) -> list[Fused]:
        """Fused values of every level above the leaves, top first; ``held`` (leaves, variables)
        bool marks leaves that are zero.

        Raises ContradictionError where exact values do not add up.
        """
        if len(self.y) == 1:
            return []
        levels: list[Fused] = []
        sums = self._sum_leaves(held)
        for depth in range(len(self.y) - 2, -1, -1):
            fused = self._fuse(depth, *sums)
            self._refuse_contradictions(depth, fused, held, levels)
            levels.insert(0, fused)
            if depth:
                sums = (
                    self.tree.sum_to_parent(fused.value, depth),
                    self.tree.sum_to_parent(fused.spread, depth),
                    self.tree.sum_to_parent(fused.hole, depth),
                )
        return levels

    def leaves(
        self, span: tuple[int, int], held: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Value, variance (0 where open or held) and which are open (None: none is) of the leaves
        of a span.
        """
        here = slice(*span)
        y, v = self.y[-1][here], self.v[-1][here]
        hole = np.isinf(v)
        if held is None:
            if not hole.any():
                return y, v, None
            return np.where(hole, 0.0, y), np.where(hole, 0.0, v), hole
        zero = held[here]
        out = hole | zero
        hole &= ~zero
        return np.where(out, 0.0, y), np.where(out, 0.0, v), hole if hole.any() else None

    def _sum_leaves(self, held: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        shape = self.y[-2].shape
        below, below_spread, holes = (
            np.zeros(shape),
            np.zeros(shape),
            np.zeros(shape, dtype=np.int64),
        )
        for span, first, members in self._members():
            value, spread, hole = self.leaves(span, held)
            rows = slice(first, first + members.shape[0])
            below[rows] += members @ value
            below_spread[rows] += members @ spread
            if hole is not None:
                holes[rows] += members @ hole.astype(np.int64)
        return below, below_spread, holes

    def _members(self) -> Iterator[tuple]:
        """Spans, the first parent in each, and the matrix of ones that sums a span into its
        parents.
        """
        if not hasattr(self, "_kept"):
            self._kept = []
            for span in self.spans:
                parent = self.tree.parents[-1][slice(*span)]
                first, last = int(parent.min()), int(parent.max())
                self._kept.append((span, first, membership(parent - first, last - first + 1)))
        yield from self._kept

    def _fuse(
        self, depth: int, below: np.ndarray, below_spread: np.ndarray, holes: np.ndarray
    ) -> Fused:
        own, own_v = self.y[depth], self.v[depth]
        missing, unknown = np.isinf(own_v), holes > 0
        own, own_v = np.where(missing, 0.0, own), np.where(missing, 0.0, own_v)
        total = below_spread + own_v
        gain = np.divide(
            below_spread, total, out=np.zeros_like(total), where=(total > 0) & ~missing
        )
        value = np.where(
            missing, below, np.where(unknown | (own_v == 0), own, below + gain * (own - below))
        )
        spread = np.where(
            missing, np.where(unknown, 0.0, below_spread), np.where(unknown, own_v, gain * own_v)
        )
        return Fused(value, spread, missing & unknown, below, below_spread, holes)

    def agreement(self, levels: list[Fused]) -> tuple[np.ndarray, np.ndarray]:
        """Squared innovations (y - sum m_c)^2 / (v + B) and their number, (levels, variables) each;
        the leaves' rows are 0.

        If errors are independent, normal and as large as stated, each innovation is a standard
        normal of its own. Exact against exact is no innovation.
        """
        squares, count = (
            np.zeros((len(self.y), self.width)),
            np.zeros((len(self.y), self.width), dtype=np.int64),
        )
        for depth, fused in enumerate(levels):
            total = self.v[depth] + fused.below_spread
            tested = np.isfinite(self.v[depth]) & (fused.holes == 0) & (total > 0)
            gap = np.subtract(self.y[depth], fused.below, out=np.zeros_like(total), where=tested)
            squares[depth] = np.divide(gap**2, total, out=np.zeros_like(total), where=tested).sum(
                axis=0
            )
            count[depth] = tested.sum(axis=0)
        return squares, count

    def down(self, levels: list[Fused]) -> tuple[list[Settled], Shares | None]:
        """Final values of every level above the leaves, and what leaves receive from theirs (None
        in a tree of one level).
        """
        settled: list[Settled] = []
        shares = None
        for depth, fused in enumerate(levels):
            if shares is None:
                value, spread = (
                    np.where(fused.hole, np.nan, fused.value),
                    np.where(fused.hole, np.inf, fused.spread),
                )
                settled.append(Settled(value, spread, ~fused.hole, np.zeros_like(fused.hole)))
            else:
                settled.append(
                    received(
                        fused.value, fused.spread, fused.hole, shares, self.tree.parents[depth]
                    )
                )
            shares = _shares(settled[-1], fused)
        return settled, shares

    def _refuse_contradictions(
        self, depth: int, fused: Fused, held: np.ndarray | None, lower: list[Fused]
    ) -> None:
        own = self.y[depth]
        exact = (self.v[depth] == 0) & (fused.holes == 0) & (fused.below_spread == 0)
        if not exact.any():
            return
        clash = exact & (
            np.abs(own - fused.below) > _RELATIVE_CONTRADICTION * np.maximum(1.0, np.abs(own))
        )
        if not clash.any():
            return
        area, variable = (int(i) for i in np.argwhere(clash)[0])
        parts, zeros = self._exact_parts(
            depth + 1, np.flatnonzero(self.tree.parents[depth + 1] == area), variable, held
        )
        shown = ", ".join(parts[:4]) + (f" and {len(parts) - 4} more" if len(parts) > 4 else "")
        also = (
            f"{' and ' if parts else ''}{zeros} held at zero because they may not be negative"
            if zeros
            else ""
        )
        raise ContradictionError(
            f"{self.name(depth, area)} is exact at {own[area, variable]:,.6g}, but its exact parts"
            f" sum to {fused.below[area, variable]:,.6g} ({shown}{also})",
            where=(
                f"{self.variable(variable)}; {int(clash.sum())} such contradictions at level"
                f" {self.tree.levels[depth]}"
            ),
            expected="exact values that add up",
            remedy="Give one of the two a standard error, or correct the source",
        )

    def _exact_parts(
        self, depth: int, areas: np.ndarray, variable: int, held: np.ndarray | None
    ) -> tuple[list[str], int]:
        """The exact estimates that determine these areas, in words, and how many leaves among them
        are zero because they are held.
        """
        parts, zeros = [], 0
        last = depth == len(self.y) - 1
        for area in areas.tolist():
            if last and held is not None and held[area, variable]:
                zeros += 1
            elif self.v[depth][area, variable] == 0:
                parts.append(f"{self.name(depth, area)} {self.y[depth][area, variable]:,.6g}")
            elif not last:
                more, held_too = self._exact_parts(
                    depth + 1, np.flatnonzero(self.tree.parents[depth + 1] == area), variable, held
                )
                parts, zeros = parts + more, zeros + held_too
        return parts, zeros

    def name(self, depth: int, area: int) -> str:
        """Level and GEOID of an area."""
        return f"{self.tree.levels[depth]} {self.tree.geoids[depth][area] or 'US'}"

    def variable(self, variable: int) -> str:
        """A variable in words."""
        return self.names[variable] if self.names else f"variable number {variable}"


def _shares(settled: Settled, fused: Fused) -> Shares:
    known = settled.known
    value, spread = np.where(known, settled.value, 0.0), np.where(known, settled.spread, 0.0)
    small = _ROUNDING * (np.abs(value) + np.abs(fused.below))
    rest = np.where(known, value - fused.below, 0.0)
    share = known & (fused.holes == 0) & (fused.below_spread > 0)
    total = np.where(share, fused.below_spread, np.inf)
    single = known & (fused.holes == 1)
    wide = np.where(single, spread + fused.below_spread, 0.0)
    squeezed = np.where(known, (fused.holes > 1) & (rest <= small), settled.squeezed)
    return Shares(total, rest, spread / total, single, wide, squeezed, small)


def received(
    value: np.ndarray,
    spread: np.ndarray,
    hole: np.ndarray | None,
    shares: Shares,
    parent: np.ndarray,
) -> Settled:
    """Final values of children from their fused ones; ``hole`` None where no child is open."""
    ratio = spread / shares.total[parent]
    final = ratio * shares.rest[parent]
    final += value
    left = ratio * shares.carried[parent]
    left += np.subtract(1.0, ratio, out=ratio)
    left *= spread
    if hole is None:
        return Settled(
            final, left, np.ones(final.shape, dtype=bool), np.zeros(final.shape, dtype=bool)
        )
    known, squeezed = ~hole, np.zeros_like(hole)
    row, column = np.nonzero(hole)
    above = parent[row]
    single = shares.single[above, column]
    known[row, column] = single
    final[row, column] = np.where(single, shares.rest[above, column] + value[row, column], np.nan)
    left[row, column] = np.where(single, shares.wide[above, column], np.inf)
    squeezed[row, column] = ~single & shares.squeezed[above, column]
    return Settled(final, left, known, squeezed)
