"""Improving a selection by swaps, where the records kept cannot meet targets that all records
together could: k stays what it is.

With r the residuals of the refitted selection in units of s, a record left out that takes weight t
changes the loss by 2 t g_i + t^2 |a_i / s|^2, g_i = r . a_i / s: it wants in where g_i is negative,
with a gain of g_i^2 / |a_i / s|^2 (matching pursuit: Mallat and Zhang, IEEE Transactions on Signal
Processing 41 (1993) 3397-3415). Records kept leave where the loss rises least when their weight
goes. The selection is refitted after each batch and a batch that does not lower the loss is undone
and halved, so the loss falls with every swap kept. Inclusion probabilities no longer hold for a
selection so improved.

This is no exchange of ``sampling/exchange.py``: there a record takes the weight of the place it
comes to, here the one that serves the targets best, which only a refit can tell.

Belongs here: that exchange. Does not belong here: the first draw (``draw.py``), the last refit
(``refit.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.digits import CHOICE_BITS, rounded
from calibration_core.common.distances import Raking
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.solve.compromise import residual_scale
from calibration_core.flat.solve.dual_newton import DualSettings, solve_dual
from calibration_core.flat.solve.dual_problem import DualProblem

# kappa of the relaxed refits between swaps, relative to the sum of weights: small enough that the
# targets rule, large enough that a Newton solution takes a few steps from the one before. The path
# leads to the first one.
_PATH = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
_ENOUGH = 1e-3
_LEAST_GAIN = 1e-3
# Batches in a row that may fail before it stops: at the last the batch is one record.
_FAILURES = 6


@dataclass(frozen=True, eq=False)
class Improved:
    """``selected`` (k,) ascending; ``starting`` (records,) weights; ``swaps`` made; ``before``,
    ``after``: root mean square relative error.
    """

    selected: np.ndarray
    starting: np.ndarray
    swaps: int
    before: float
    after: float


def improve(
    problem: CalibrationProblem,
    selected: np.ndarray,
    starting: np.ndarray,
    allowed: np.ndarray,
    reachable: float,
    rounds: int,
) -> Improved:
    """Swap records until the loss is nearly what all records together reach.

    Parameters
    ----------
    problem : targets and matrix; bounds are not looked at here.
    selected, starting : the draw: (k,) indices, and (records,) weights, positive on them.
    allowed : (records,) bool: who may come in.
    reachable : root mean square relative error of the dense solution; it stops a little above it.
    rounds : batches at most.
    """
    search = _Search(problem, selected, starting, allowed)
    first = best = search.error
    goal = max(reachable * 1.01, 1e-7)
    batch, failures, swaps = max(1, selected.size // 10), 0, 0
    for _ in range(rounds):
        if best <= goal or failures >= _FAILURES:
            break
        made = search.propose(batch)
        if made == 0:
            break
        if search.error < best * (1.0 - _LEAST_GAIN):
            best, failures, swaps = search.error, 0, swaps + made
            search.accept()
        else:
            failures += 1
            batch = max(1, batch // 2)
            search.undo()
    return Improved(
        np.flatnonzero(search.inside),
        np.where(search.inside, search.starting, 0.0),
        swaps,
        first,
        best,
    )


class _Search:
    """The selection as it stands, its relaxed refit, and one proposal at a time."""

    def __init__(
        self,
        problem: CalibrationProblem,
        selected: np.ndarray,
        starting: np.ndarray,
        allowed: np.ndarray,
    ) -> None:
        self.problem, self.allowed = problem, allowed
        self.scale = residual_scale(problem)
        self.inside = np.zeros(problem.matrix.records, dtype=bool)
        self.inside[selected] = True
        self.starting = starting.copy()
        self.typical = float(starting[selected].mean())
        x = problem.matrix.by_record
        self.norms = (
            (x**2) @ (1.0 / self.scale**2)
            if not problem.matrix.is_sparse
            else x.power(2) @ (1.0 / self.scale**2)
        )
        self.tabu = np.zeros(problem.matrix.records, dtype=bool)
        self._refit()

    def _refit(self) -> None:
        index = np.flatnonzero(self.inside)
        start = self.starting[index]
        size = float(start.sum())
        dual = DualSettings(tolerance=1e-6, max_iterations=60)
        y = None
        for relative in _PATH:
            ridge = relative / size * self.scale**2
            part = DualProblem(
                self.problem.matrix.take_records(index),
                self.problem.targets,
                start,
                Raking(),
                self.scale,
                ridge=ridge,
            )
            found = solve_dual(part, dual, multipliers=y)
            y = found.multipliers
        self.weights = np.zeros(self.inside.size)
        self.weights[index] = found.weights
        self.residual = (found.fitted - self.problem.targets) / self.scale
        self.error = float(np.sqrt((self.residual**2).mean()))

    def propose(self, count: int) -> int:
        """Exchange up to ``count`` records and refit; returns how many."""
        self.saved = (
            self.inside.copy(),
            self.starting.copy(),
            self.weights,
            self.residual,
            self.error,
        )
        self.entered: list[int] = []
        residual, matrix = self.residual.copy(), self.problem.matrix
        weights = self.weights.copy()
        for _ in range(count):
            gradient = matrix.exponents(residual / self.scale)
            gain = np.where(
                self.allowed & ~self.inside & ~self.tabu & (gradient < 0) & (self.norms > 0),
                gradient**2 / np.maximum(self.norms, 1e-300),
                0.0,
            )
            # Rounded: of records that gain alike the first comes, whatever the last bits say.
            coming = int(rounded(gain, CHOICE_BITS).argmax())
            if gain[coming] <= _LEAST_GAIN * float(residual @ residual) / max(count, 10):
                break
            weight = -gradient[coming] / self.norms[coming]
            residual += weight * self._row(coming) / self.scale
            leaving = self._leaving(residual, weights)
            if leaving is None:
                break
            residual -= weights[leaving] * self._row(leaving) / self.scale
            self.inside[coming], self.inside[leaving] = True, False
            self.starting[coming], self.starting[leaving] = self.typical, 0.0
            weights[leaving] = 0.0
            self.entered.append(coming)
        if self.entered:
            self._refit()
        return len(self.entered)

    def _leaving(self, residual: np.ndarray, weights: np.ndarray) -> int | None:
        """The record whose weight is least needed; the last one of a target costs that target, so
        it is seldom the one.
        """
        fresh = np.zeros(self.inside.size, dtype=bool)
        fresh[self.entered] = True
        index = np.flatnonzero(self.inside & ~fresh)
        if index.size == 0:
            return None
        gradient = self.problem.matrix.by_record[index] @ (residual / self.scale)
        cost = weights[index] * (weights[index] * self.norms[index] - 2.0 * gradient)
        return int(index[int(rounded(cost, CHOICE_BITS).argmin())])

    def _row(self, record: int) -> np.ndarray:
        row = self.problem.matrix.by_record[[record]]
        return (row.toarray() if self.problem.matrix.is_sparse else row).ravel()

    def accept(self) -> None:
        self.tabu[:] = False

    def undo(self) -> None:
        """Back to the selection before the proposal; whoever came in first is not tried again until
        something has improved.
        """
        self.tabu[self.entered[:1]] = True
        self.inside, self.starting, self.weights, self.residual, self.error = self.saved
