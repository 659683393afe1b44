"""Weights and multipliers of a convex loss together, by a primal-dual interior point method.

    minimise_w  sum_i (1/q_i) [w_i log(w_i/d_i) - w_i + d_i] + sum_j psi_j(a_j.w - b_j),   lo <= w
    <= hi

where psi_j is quadratic, residual^2 / (2 ridge_j), until its slope reaches box_j (inf: never) and
straight from there. With y the multipliers of the residuals, z those of the bounds on w and v those
of |y| <= box, the conditions of optimality, relaxed by mu > 0, are

    log(w/d)/q - A'y - z_low + z_high = 0,     A w - b + ridge y + v_up - v_down = 0,
    z_low (w - lo) = z_high (hi - w) = v_up (box - y) = v_down (box + y) = mu,

and Newton steps on them, mu falling, stay strictly inside every bound (Wright, Primal-Dual
Interior-Point Methods, SIAM 1997). A step costs one A diag(.) A' and a Cholesky factor of the
targets. Where Newton on the dual alone stalls - a weak prior under tight bounds or steep losses,
where F is all but piecewise linear and multipliers that pull against one another are large and
cancel - this does not.

Belongs here: that iteration. Does not belong here: losses, the proof of optimality
(``dual_losses.py``), problems without box or bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import linalg

from calibration_core.flat.design_matrix import DesignMatrix

# A step ends at this share of the way to the nearest bound.
_SHORT_OF_BOUND = 0.99
# A start lies at least this share of the room inside its bounds.
_INSIDE = 0.05


@dataclass(frozen=True, eq=False)
class InteriorProblem:
    """The problem above: matrix (targets, records); targets, ridge > 0, box >= 0 and scale
    (targets,); start d > 0, q and bounds (records,). A target with box 0 has the multiplier 0.
    Records with lo = hi stay there; so do those with d = 0.
    """

    matrix: DesignMatrix
    targets: np.ndarray
    ridge: np.ndarray
    box: np.ndarray
    scale: np.ndarray
    start: np.ndarray
    q: np.ndarray
    low: np.ndarray
    high: np.ndarray


def interior_point(
    problem: InteriorProblem,
    accept: Callable[[np.ndarray, np.ndarray], bool],
    max_iterations: int = 100,
) -> tuple[np.ndarray, np.ndarray, int]:
    """(weights, multipliers, steps) at the first point that ``accept(weights, multipliers)`` takes,
    or where no step is possible any more.
    """
    return _Interior(problem).solve(accept, max_iterations)


class _Interior:
    def __init__(self, p: InteriorProblem) -> None:
        self.p = p
        self.on = np.flatnonzero(p.box > 0)
        self.moves = (p.start > 0) & (p.high > p.low)
        low, high, d = p.low, p.high, p.start
        room = np.where(np.isfinite(high), high - low, np.inf)
        inset = _INSIDE * np.minimum(room, np.maximum(d, low))
        self.w = np.where(
            self.moves,
            np.clip(d, low + inset, high - inset),
            np.where(d > 0, np.clip(d, low, high), 0.0),
        )
        slope = p.matrix.totals(self.w) - p.targets
        self.y = np.where(p.box > 0, np.clip(-slope / p.ridge, -0.5 * p.box, 0.5 * p.box), 0.0)
        beyond = slope + p.ridge * self.y
        self.boxed = np.isfinite(p.box) & (p.box > 0)
        self.topped = np.isfinite(high) & self.moves
        # A bound of zero too: weights that tend to zero end there, instead of following log(w) to
        # where it overflows.
        self.floored = self.moves
        self.v_up, self.v_down = (
            np.where(self.boxed, np.maximum(s * beyond, 0.0) + 0.1 * p.scale, 0.0)
            for s in (-1.0, 1.0)
        )
        pull = self.log_slope() - p.matrix.exponents(self.y)
        self.z_low, self.z_high = (
            np.where(self.floored, np.maximum(pull, 0) + 1, 0.0),
            np.where(self.topped, np.maximum(-pull, 0) + 1, 0.0),
        )

    def log_slope(self) -> np.ndarray:
        return np.divide(
            np.log(np.divide(self.w, self.p.start, out=np.ones_like(self.w), where=self.moves)),
            self.p.q,
        )

    def slacks(self) -> list[np.ndarray]:
        """Room to every bound; one where there is none."""
        p, w, y = self.p, self.w, self.y
        room = (
            (w - p.low, self.floored),
            (p.high - w, self.topped),
            (p.box - y, self.boxed),
            (p.box + y, self.boxed),
        )
        return [np.where(mask, s, 1.0) for s, mask in room]

    def solve(self, accept, max_iterations: int) -> tuple[np.ndarray, np.ndarray, int]:
        # Slacks are carried along: taken anew as differences they would round to zero beside a
        # bound.
        p, steps, slacks = self.p, 0, self.slacks()
        masks = (self.floored, self.topped, self.boxed, self.boxed)
        while not accept(self.w, self.y) and steps < max_iterations:
            pairs = tuple(
                zip((self.z_low, self.z_high, self.v_up, self.v_down), slacks, masks, strict=True)
            )
            count = sum(int(mask.sum()) for _, _, mask in pairs)
            mean = sum(float(m @ s) for m, s, _ in pairs) / max(count, 1)
            (z_low, to_low, _), (z_high, to_high, _), (v_up, to_up, _), (v_down, to_down, _) = pairs
            curve = np.where(
                self.moves,
                1.0 / (p.q * np.maximum(self.w, 1e-300)) + z_low / to_low + z_high / to_high,
                np.inf,
            )
            inverse = 1.0 / curve
            hessian = p.matrix.gram(inverse)[np.ix_(self.on, self.on)]
            hessian[np.diag_indices_from(hessian)] += (p.ridge + v_up / to_up + v_down / to_down)[
                self.on
            ]
            root = 1.0 / np.sqrt(np.diagonal(hessian))
            scaled = hessian * root[:, None] * root[None, :]
            try:
                chol = linalg.cho_factor(scaled, lower=True, check_finite=False)
            except linalg.LinAlgError:
                chol = linalg.cho_factor(
                    scaled + 1e-10 * np.eye(root.size), lower=True, check_finite=False
                )
            stray_w = np.where(self.moves, self.log_slope() - p.matrix.exponents(self.y), 0.0)
            stray_y = p.matrix.totals(self.w) - p.targets + p.ridge * self.y
            if not (
                np.isfinite(stray_w).all()
                and np.isfinite(stray_y).all()
                and np.isfinite(scaled).all()
            ):
                break

            def direction(
                mu,
                extra,
                stray_w=stray_w,
                stray_y=stray_y,
                inverse=inverse,
                root=root,
                chol=chol,
                pairs=pairs,
            ):
                """Newton step towards mu; ``extra`` are second-order terms of the four products."""
                goal = [
                    np.where(mask, mu - e, 0.0) / s
                    for (_, s, mask), e in zip(pairs, extra, strict=True)
                ]
                right_w = stray_w - goal[0] + goal[1]
                right_y = stray_y + goal[2] - goal[3]
                rhs = -right_y + p.matrix.totals(inverse * right_w)
                dy = np.zeros_like(self.y)
                dy[self.on] = root * linalg.cho_solve(chol, root * rhs[self.on])
                dw = inverse * (p.matrix.exponents(dy) - right_w)
                moves = (dw, -dw, -dy, dy)
                dm = [
                    np.where(mask, g - m - m * move / s, 0.0)
                    for g, (m, s, mask), move in zip(goal, pairs, moves, strict=True)
                ]
                return dw, dy, moves, dm

            none = (0.0, 0.0, 0.0, 0.0)
            dw, dy, moves, dm = direction(0.0, none)
            ahead_p, ahead_d = self.reach(pairs, dw, moves), self.reach_multipliers(pairs, dm)
            after = sum(
                float(((m + ahead_d * g) * (s + ahead_p * move))[mask].sum())
                for (m, s, mask), g, move in zip(pairs, dm, moves, strict=True)
            )
            mu = mean * min(1.0, max(after / max(count, 1) / max(mean, 1e-300), 1e-3)) ** 3
            dw, dy, moves, dm = direction(mu, [g * move for g, move in zip(dm, moves, strict=True)])
            # log(w/d) is not linear in w: one step length for all keeps the residuals falling
            # together.
            length = min(
                1.0,
                _SHORT_OF_BOUND
                * min(self.reach(pairs, dw, moves), self.reach_multipliers(pairs, dm)),
            )
            if not np.isfinite(length) or length < 1e-12:
                break
            slacks = [
                np.where(mask, s + length * move, 1.0)
                for (_, s, mask), move in zip(pairs, moves, strict=True)
            ]
            self.w, self.y = self.w + length * dw, self.y + length * dy
            self.z_low, self.z_high, self.v_up, self.v_down = (
                m + length * g for (m, _, _), g in zip(pairs, dm, strict=True)
            )
            steps += 1
        return self.w, self.y, steps

    def reach(self, pairs, dw: np.ndarray, moves) -> float:
        """Longest step, at most one over the share above, that keeps every slack and every weight
        >= 0.
        """
        return min(
            _longest(self.w[self.moves], dw[self.moves]),
            *(
                _longest(s[mask], move[mask])
                for (_, s, mask), move in zip(pairs, moves, strict=True)
            ),
        )

    def reach_multipliers(self, pairs, dm) -> float:
        return min(_longest(m[mask], g[mask]) for (m, _, mask), g in zip(pairs, dm, strict=True))


def _longest(x: np.ndarray, dx: np.ndarray) -> float:
    falls = dx < 0
    return float((x[falls] / -dx[falls]).min(initial=1.0 / _SHORT_OF_BOUND))
