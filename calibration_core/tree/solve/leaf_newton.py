"""The leaves' own multipliers, for given multipliers of the levels above: many small Newton solves
at once (nonlinear elimination).

Given the multipliers z of the levels above, the dual of ``tree/solve/newton.py`` falls apart into
one strictly convex function a leaf,

    f_t(x) = sum_{i in t} q_i H(c_i + a_i' D x)  -  b_t' D x  +  tau/2 |x|^2 ,      c_i = what the
    levels above add to u_i ,

a handful of variables and pairs each. They are minimised side by side: every leaf has its own
Newton direction, step length and line search (Armijo), and one that is at its optimum drops out of
the batch and costs nothing more. A step with the factor of an earlier point (chord) is tried first;
a leaf whose gradient it does not cut to ``chord_rate`` gets a factor of its own.

Eliminating them leaves F^(z) = min_x F(x, z): smooth and convex, its gradient that of F along z,
its Hessian the Schur complement that ``arrow.py`` forms. However many leaves there are, none
shortens the step of another.

References: Cai and Keyes, Nonlinearly preconditioned inexact Newton algorithms, SIAM Journal on
Scientific Computing 24 (2002); Golub and Pereyra, The differentiation of pseudo-inverses and
nonlinear least squares problems whose variables separate, SIAM Journal on Numerical Analysis 10
(1973).

Belongs here: those solves. Does not belong here: the levels above (``tree/solve/newton.py``), how
pairs are batched (``pair_blocks.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from calibration_core.common import newton as rules
from calibration_core.common.distances import Raking
from calibration_core.tree.solve.arrow import ArrowFactor
from calibration_core.tree.solve.leaf_systems import LeafSystems
from calibration_core.tree.solve.link import Link
from calibration_core.tree.solve.pair_blocks import Batch, PairBlocks
from calibration_core.tree.solve.pair_leaves import PairLeaves
from calibration_core.tree.solve.pair_rows import PairRows

# Newton and chord steps of one leaf at most; one that needs more is taken up again from where it
# stands after the next step above.
_MOST_STEPS = 60
# Rounding of f_t against the size of its terms.
_SLACK = 1e-10


@dataclass(frozen=True, eq=False)
class _Leaves:
    """Some leaves of a batch: design rows, u from above (n, longest), prior (n, longest), link,
    targets and 1 / scale (n, p).
    """

    rows: PairRows
    above: torch.Tensor
    prior: torch.Tensor
    link: Link
    target: torch.Tensor
    inverse: torch.Tensor

    def take(self, which: torch.Tensor) -> _Leaves:
        if which.numel() == self.prior.shape[0]:
            return self
        return _Leaves(
            self.rows.take(which),
            self.above[which],
            self.prior[which],
            self.link.take(which),
            self.target[which],
            self.inverse[which],
        )


@dataclass(frozen=True, eq=False)
class _Point:
    """Multipliers x (n, p), u and ratios (n, longest), gradient (n, p), and per leaf the value f,
    its potential and the size of its terms.
    """

    x: torch.Tensor
    u: torch.Tensor
    ratio: torch.Tensor
    gradient: torch.Tensor
    value: torch.Tensor
    potential: torch.Tensor
    terms: torch.Tensor

    def parts(self) -> tuple[torch.Tensor, ...]:
        return self.x, self.u, self.ratio, self.gradient, self.value, self.potential, self.terms

    def take(self, which: torch.Tensor) -> _Point:
        return (
            self if which.numel() == self.x.shape[0] else _Point(*(a[which] for a in self.parts()))
        )

    def put(self, which: torch.Tensor, other: _Point) -> None:
        """Overwrite some leaves."""
        for mine, theirs in zip(self.parts(), other.parts(), strict=True):
            mine[which] = theirs

    @property
    def size(self) -> torch.Tensor:
        """Largest scaled gradient of each leaf."""
        return (
            self.gradient.abs().amax(dim=1)
            if self.gradient.shape[1]
            else self.gradient.new_zeros(self.gradient.shape[0])
        )


class LeafNewton:
    """Solves the leaves of a PairProblem.

    Parameters
    ----------
    blocks : the problem's passes.
    target : (leaves, p) float64 targets of the leaves.
    chord_rate, longest_step : as in TreeNewtonSettings.
    """

    def __init__(
        self, blocks: PairBlocks, target: torch.Tensor, chord_rate: float, longest_step: float
    ) -> None:
        self.blocks, self.target, self.chord_rate, self.longest_step = (
            blocks,
            target,
            chord_rate,
            longest_step,
        )

    def solve(
        self,
        y: list[torch.Tensor],
        step: torch.Tensor | None,
        link: Link,
        tau: float,
        tolerance: float,
        factor: ArrowFactor | None,
    ) -> tuple[torch.Tensor, list[torch.Tensor], float]:
        """Minimise every leaf's own function at the multipliers above.

        Parameters
        ----------
        y : multipliers per level, top first; the last are the leaves', from which they start.
        step : (leaves, p) a guess of their change (the linear predictor of a step above), taken by
            the leaves that it makes better.
        tolerance : largest scaled gradient of a leaf.
        factor : of the whole at a point near by, whose leaves' blocks serve for chord steps; or
            None.

        Returns
        -------
        The leaves' multipliers (leaves, p), the totals per level, and the sum of q H(u), all at
        those multipliers. A leaf whose line search failed stays where it got to; its gradient
        tells.
        """
        blocks, x = self.blocks, y[-1].clone()
        upper = blocks.above_of([a * i for a, i in zip(y, blocks.inverse, strict=True)])
        per_leaf, potential = blocks.no_totals(), 0.0
        # A leaf without pairs: its optimum is known.
        empty = blocks.empty
        x[empty] = self.target[empty] * blocks.inverse[-1][empty] / tau

        def one(numbered: tuple[int, Batch]) -> tuple[_Point, torch.Tensor]:
            number, batch = numbered
            rows, at = batch.rows.loaded(), batch.leaves
            above = rows.above_u(upper[at]) if blocks.deep else torch.zeros_like(batch.prior)
            leaves = _Leaves(
                rows,
                above,
                batch.prior,
                batch.link_or(link),
                self.target[at],
                blocks.inverse[-1][at],
            )
            point = self._solve(
                leaves,
                x[at],
                None if step is None else step[at],
                tau,
                tolerance,
                _kept(factor, number),
            )
            return point, blocks.totals_of(rows, point.ratio * batch.prior)

        # One batch after another: these are many small steps, between which two threads would hand
        # the interpreter's lock to and fro. A refit of Rhode Island takes 13 s so, and 22 in two.
        answers = map(one, enumerate(blocks.batches))
        for batch, (point, totals) in zip(blocks.batches, answers, strict=True):
            x[batch.leaves], per_leaf[batch.leaves] = point.x, totals
            potential += float(point.potential.sum())
        return x, blocks.totals(per_leaf), potential

    def _solve(
        self, leaves: _Leaves, x, step, tau: float, tolerance: float, systems: LeafSystems | None
    ) -> _Point:
        best = _at(leaves, x if step is None else x + step, tau)
        todo = best.size > tolerance
        if step is not None:
            ids = todo.nonzero()[:, 0]
            some, there = leaves.take(ids), best.take(ids)
            stay = _at(some, x[ids], tau)
            back = (~(there.value <= stay.value + _SLACK * stay.terms)).nonzero()[:, 0]
            best.put(ids[back], stay.take(back))
            todo[ids[back]] = stay.size[back] > tolerance
        ids, point = torch.arange(x.shape[0], device=x.device), best
        stale, own = torch.full_like(todo, systems is None), False
        for _ in range(_MOST_STEPS):
            go = todo.nonzero()[:, 0]
            if not go.numel():
                break
            if go.numel() < ids.numel():
                ids, leaves, point, stale = ids[go], leaves.take(go), point.take(go), stale[go]
                systems, own = None if systems is None else systems.take(go), True
            fresh = stale
            if systems is None:
                # Then all are stale.
                systems, own = _systems_of(leaves, point, tau), True
            elif bool(stale.any()):
                which = stale.nonzero()[:, 0]
                systems, own = systems if own else systems.clone(), True
                systems.put(which, _systems_of(leaves.take(which), point.take(which), tau))
            new, moved = self._step(leaves, point, systems, fresh, tau)
            stale = ~(moved & (new.size < self.chord_rate * point.size))
            todo = (new.size > tolerance) & (moved | ~fresh)
            point = new
            best.put(ids, point)
        return best

    def _step(
        self, leaves: _Leaves, point: _Point, systems: LeafSystems, fresh: torch.Tensor, tau: float
    ) -> tuple[_Point, torch.Tensor]:
        """One step of every leaf, halved where its function does not fall enough and its factor is
        fresh; and which leaves moved.
        """
        direction = systems.solve(leaves.rows, leaves.inverse, point.gradient).neg_()
        slope = (point.gradient * direction).sum(dim=1)
        length = self._cap(leaves, point, direction)
        new = _at(leaves, point.x + length[:, None] * direction, tau)
        moved = _enough(point, new, direction, length, slope) & (slope < 0)
        left = (~moved).nonzero()[:, 0]
        new.put(left, point.take(left))
        left = (~moved & fresh & (slope < 0)).nonzero()[:, 0]
        for _ in range(rules.HALVINGS):
            if not left.numel():
                break
            length[left] *= 0.5
            some, at = leaves.take(left), point.take(left)
            trial = _at(some, at.x + length[left][:, None] * direction[left], tau)
            good = _enough(at, trial, direction[left], length[left], slope[left])
            done = good.nonzero()[:, 0]
            new.put(left[done], trial.take(done))
            moved[left[done]] = True
            left = left[~good]
        return new, moved

    def _cap(self, leaves: _Leaves, point: _Point, direction: torch.Tensor) -> torch.Tensor:
        """Per leaf, the longest step: exponentials may rise by ``longest_step`` where the weight
        then matters; bounded ratios by anything.
        """
        ones = torch.ones_like(point.value)
        if not isinstance(leaves.link, Raking):
            return ones
        change = leaves.rows.own_u(direction * leaves.inverse)
        rise = torch.where(
            leaves.prior > 0, torch.minimum(change, point.u + change + rules.NEGLIGIBLE), 0.0
        ).amax(dim=1)
        return torch.minimum(ones, self.longest_step / rise.clamp(min=1e-300))


def _kept(factor: ArrowFactor | None, number: int) -> LeafSystems | None:
    """The systems of the leaves of one batch in a factor of the whole."""
    part = None if factor is None else factor.parts[number]
    return part.systems if isinstance(part, PairLeaves) else None


def _systems_of(leaves: _Leaves, point: _Point, tau: float) -> LeafSystems:
    """Of leaves where they are."""
    slope = leaves.link.slope(point.u, point.ratio) * leaves.prior
    return LeafSystems.of(leaves.rows, leaves.inverse, slope, tau)


def _enough(
    old: _Point, new: _Point, direction: torch.Tensor, length: torch.Tensor, slope: torch.Tensor
) -> torch.Tensor:
    """Whether f fell enough (Armijo); where its change drowns in rounding, whether its slope along
    the direction came nearer to zero.
    """
    drowned = (new.value - old.value).abs() <= _SLACK * old.terms
    flatter = (new.gradient * direction).sum(dim=1).abs() <= rules.FLATTER * slope.abs()
    return rules.enough(old.value, new.value, length * slope, 0.0) | (drowned & flatter)


def _at(leaves: _Leaves, x: torch.Tensor, tau: float) -> _Point:
    scaled = x * leaves.inverse
    u = leaves.rows.own_u(scaled).add_(leaves.above)
    ratio = leaves.link.ratio(u)
    weights = ratio * leaves.prior
    potential = leaves.link.potential(u, ratio, leaves.prior, weights)
    linear, square = (leaves.target * scaled).sum(dim=1), 0.5 * tau * (x * x).sum(dim=1)
    gradient = (leaves.rows.own_totals(weights) - leaves.target) * leaves.inverse + tau * x
    return _Point(
        x,
        u,
        ratio,
        gradient,
        potential - linear + square,
        potential,
        potential.abs() + linear.abs() + square,
    )
