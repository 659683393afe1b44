"""The dual of a tree problem, in the solver's units: what F, its gradient and its curvature are at
given multipliers.

    F(y) = sum_i q_i H(u_i)  -  b' D y  +  tau/2 |y|^2 ,   u = A' D y,  D = diag(1/s),  w_i = q_i
    G(u_i)

Where the total of the weights is held, F has N log(sum q exp(u) / N) in place of the first term:
u is then known up to a constant, the ``shift``.

Belongs here: F and what it is made of, the scales as the solver uses them. Does not belong here:
steps (``newton.py``), passes over records (``pool_blocks.py``, ``pair_blocks.py``), units and
limits themselves (``conditioning.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from calibration_core.common.columns import largest_of
from calibration_core.tree.problem import PairProblem, PoolProblem
from calibration_core.tree.result import TreeNewtonSettings
from calibration_core.tree.solve.arrow import ArrowFactor, RankOneDown, inner
from calibration_core.tree.solve.conditioning import least_inverse, slackened, units_of
from calibration_core.tree.solve.link import HeldTotal, Link, make_link
from calibration_core.tree.solve.pair_blocks import PairBlocks
from calibration_core.tree.solve.pool_blocks import PoolBlocks

Levels = list[torch.Tensor]
# Within this of the right shift no exponent is cut off that counts.
_FAR = 500.0
# Rounding of a total of weights, relative to it.
_ROUNDING = 4.0 * 2.0**-53


@dataclass(frozen=True, eq=False)
class State:
    """At one y, per level: totals, residuals and gradient in units of their scales; the dual
    objective F, its sum of q H(u) and the size of the terms it is the difference of. ``shift`` is
    what u is shifted by so that the total of the weights is held (0 where it is not).
    """

    fitted: Levels
    scaled: Levels
    gradient: Levels
    dual: float
    potential: float
    terms: float
    shift: float

    @property
    def size(self) -> float:
        """Largest scaled gradient; inf where it is not finite."""
        found = largest(self.gradient)
        return found if math.isfinite(found) else math.inf


class Dual:
    """F of a problem. Multipliers are per level, top first, in units of 1 / scale.

    Attributes
    ----------
    blocks : passes over the records; ``blocks.inverse`` are 1 / scale as the solver uses them.
    target : per level, (areas, variables) b in the solver's units.
    used : per level, (areas, variables) bool: where there is a target.
    asked : per level, 1 / scale as the problem asks for it; ``blocks.inverse`` are never above.
    """

    def __init__(self, problem: PoolProblem | PairProblem, settings: TreeNewtonSettings) -> None:
        self.problem, self.settings = problem, settings
        self.units = units_of(problem, settings.prior_unit)
        device, unit = settings.device, self.units.weight
        self.blocks: PoolBlocks | PairBlocks = (
            PoolBlocks(problem, device, unit)
            if isinstance(problem, PoolProblem)
            else PairBlocks(problem, device, unit)
        )
        self.link = make_link(settings.ratio_bounds)
        of_pairs = isinstance(problem, PairProblem) and problem.ratio_bounds is not None
        self.bounded = settings.ratio_bounds is not None or of_pairs
        units = [u * self.units.weight for u in self.blocks.column_units]
        self.target = [
            self.blocks.send(b / u) for b, u in zip(problem.targets.values, units, strict=True)
        ]
        self.asked = [i.clone() for i in self.blocks.inverse]
        self.used = [i > 0 for i in self.asked]
        # A number that adds to u at the most: the largest entry of each column.
        self.most = [
            self.blocks.send(largest_of(d) / u)
            for d, u in zip(problem.targets.designs, self.blocks.column_units, strict=True)
        ]
        self.squares = [
            self.blocks.send(s / (u * c))
            for s, u, c in zip(problem.prior_sums(2), units, self.blocks.column_units, strict=True)
        ]

    @property
    def inverse(self) -> Levels:
        """1 / scale per level."""
        return self.blocks.inverse

    @property
    def total(self) -> float:
        """Sum of the prior weights."""
        return self.blocks.prior_total

    def nothing(self) -> Levels:
        """Multipliers of zero."""
        return [torch.zeros_like(b) for b in self.target]

    def strength(self, tau: float) -> float:
        """tau in the solver's units."""
        return tau * self.units.strength

    def scaled_down(self, y: Levels) -> Levels:
        """D y: multipliers in the solver's units."""
        return [a * i for a, i in zip(y, self.inverse, strict=True)]

    def link_at(self, shift: float) -> Link:
        """The link, shifted."""
        return HeldTotal(shift) if self.settings.hold_total else self.link

    def evaluate(self, y: Levels, tau: float, shift: float = 0.0) -> State:
        fitted, potential = self.blocks.evaluate(self.scaled_down(y), self.link_at(shift))
        return self.state(y, tau, fitted, potential, shift)

    def state(
        self, y: Levels, tau: float, fitted: Levels, potential: float, shift: float = 0.0
    ) -> State:
        """The state at y, given the totals there and the sum of q H(u)."""
        if self.settings.hold_total:
            share = self.total / max(potential, 1e-300)
            shift += math.log(share)
            fitted, potential = [f * share for f in fitted], -self.total * shift
        scaled = [(f - b) * i for f, b, i in zip(fitted, self.target, self.inverse, strict=True)]
        strength = self.strength(tau)
        gradient = [r + strength * a for r, a in zip(scaled, y, strict=True)]
        linear = inner(self.target, self.scaled_down(y))
        dual = potential - linear + 0.5 * strength * inner(y, y)
        terms = max(abs(potential), abs(linear))
        return State(fitted, scaled, gradient, dual, potential, terms, shift)

    def settled_shift(self, y: Levels) -> float:
        """The shift at a start that is not 0: first the mean of u, as far as it can be seen from
        here, then what the total says.
        """
        shift = 0.0
        for _ in range(100):
            state = self.evaluate(y, 1.0, shift)
            if abs(state.shift - shift) < _FAR:
                break
            shift = -inner(state.fitted, self.scaled_down(y)) / self.total
        return shift

    def factorise(self, y: Levels, state: State, tau: float) -> ArrowFactor | RankOneDown:
        """A factor of the Hessian. Raises FactorisationError."""
        strength = self.strength(tau)
        factor = self.blocks.factor(self.scaled_down(y), self.link_at(state.shift), strength)
        if not self.settings.hold_total:
            return factor
        # The matrix is the factor's - g g' / N with g the scaled totals: Sherman and Morrison.
        mean = [f * i for f, i in zip(state.fitted, self.inverse, strict=True)]
        return RankOneDown(factor, mean, self.total)

    def met(self, state: State) -> list[tuple[int, int]]:
        """Per level, how many targets lie within ``inside`` scales, as asked, and how many there
        are.
        """
        return [
            (int((((f - b) * i).abs() <= self.settings.inside)[u].sum()), int(u.sum()))
            for f, b, i, u in zip(state.fitted, self.target, self.asked, self.used, strict=True)
        ]

    def divergence(self, y: Levels, state: State) -> float:
        """Prior distance at the optimum's multipliers, by Legendre: sum of w u - q H(u), and sum of
        w u is that of fitted times D y.
        """
        return inner(state.fitted, self.scaled_down(y)) - state.potential

    def noise(self, y: Levels, state: State) -> float:
        """How large rounding may make a scaled gradient: totals are known to the digits that u
        leaves to the weights.
        """
        digits = _ROUNDING * (1.0 + self.tension(y))
        return digits * max(
            (
                float((f * i).abs().max())
                for f, i in zip(state.fitted, self.inverse, strict=True)
                if f.numel()
            ),
            default=0.0,
        )

    # Scales that rounding could not tell apart.

    def tensions(self, y: Levels) -> Levels:
        """Per level, the most that each multiplier adds to a log ratio."""
        return [(a * i).abs() * m for a, i, m in zip(y, self.inverse, self.most, strict=True)]

    def tension(self, y: Levels) -> float:
        """The largest of ``tensions``."""
        return largest(self.tensions(y))

    def hold_curvature(self, y: Levels, tau: float) -> Levels:
        """Widen scales whose curvature would drown tau, multipliers in the problem's units kept."""
        limits = [
            self.blocks.send(least_inverse(s.cpu().numpy(), self.strength(tau)))
            for s in self.squares
        ]
        return self._replace(
            y, [torch.minimum(i, m) for i, m in zip(self.inverse, limits, strict=True)]
        )

    def slacken(self, y: Levels, ahead: Levels) -> Levels | None:
        """Widen scales whose multipliers would leave log ratios too few digits at ``ahead``; y
        with D y kept, or None where no scale is in need of it.
        """
        wider = [
            self.blocks.send(slackened(i.cpu().numpy(), t.cpu().numpy()))
            for i, t in zip(self.inverse, self.tensions(ahead), strict=True)
        ]
        some = any(bool((a < b).any()) for a, b in zip(wider, self.inverse, strict=True))
        return self._replace(y, wider) if some else None

    def _replace(self, y: Levels, inverse: Levels) -> Levels:
        """Use other scales; returns y so that D y is what it was."""
        kept = [
            torch.where(new < old, a * old / torch.where(new > 0, new, 1.0), a)
            for a, old, new in zip(y, self.inverse, inverse, strict=True)
        ]
        self.blocks.inverse[:] = inverse
        return kept


def largest(per_level: Levels) -> float:
    """Largest size of an entry of any level."""
    return max((float(a.abs().max()) for a in per_level if a.numel()), default=0.0)
