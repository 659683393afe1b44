"""What every calibration method returns: the weights, and everything a user must know about them,
as data.

Belongs here: the frozen result and warning objects and their derived figures. Does not belong here:
problems, settings, solvers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from calibration_core.common.warnings import CalibrationWarning
from calibration_core.common.weight_shape import effective_sample_size
from calibration_core.flat.html import result_html
from calibration_core.flat.labels import labelled
from calibration_core.flat.problem import CalibrationProblem

__all__ = ["CalibrationResult", "CalibrationWarning"]

# Rounding of a total, as a share of the sum of its terms' sizes.
ROUNDING = 1e-13


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """Outcome of ``calibrate``.

    Attributes
    ----------
    problem, method, settings : what was solved, by what.
    weights : (records,) float64.
    converged : the optimum of what the method was asked for was reached; for the exact methods that
        includes every target being met.
    status : the same in words.
    iterations : solver steps.
    loss_trace : the method's own loss after each step, in order.
    multipliers : (targets,) dual values y, the rate at which the distance grows with a target; None
        where a method has none.
    tolerance : relative error below which a target counts as met.
    warnings : everything that is not as asked.
    details : figures particular to the method, by name.
    seconds : wall-clock time of the solver.
    """

    problem: CalibrationProblem
    method: str
    settings: Any
    weights: np.ndarray
    converged: bool
    status: str
    iterations: int
    loss_trace: tuple[float, ...]
    multipliers: np.ndarray | None = None
    tolerance: float = 1e-6
    warnings: tuple[CalibrationWarning, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def labelled_weights(self) -> Any:
        """The weights with the labels of the records: a pandas series where pandas is loaded, else
        a mapping of labels to weights. Records without labels are numbered.
        """
        return labelled(self.weights, self.problem.record_labels, "weight")

    @cached_property
    def ratios(self) -> np.ndarray:
        """(records,) w / d; NaN where the initial weight is zero."""
        start = self.problem.start
        return np.divide(self.weights, start, out=np.full(start.shape, np.nan), where=start > 0)

    @cached_property
    def fitted(self) -> np.ndarray:
        """(targets,) A w."""
        return self.problem.matrix.totals(self.weights)

    @property
    def residuals(self) -> np.ndarray:
        """(targets,) fitted minus target, in the target's units."""
        return self.fitted - self.problem.targets

    @property
    def relative_errors(self) -> np.ndarray:
        """(targets,) |fitted - target| / |target|; NaN where the target is zero."""
        b = self.problem.targets
        return np.divide(
            np.abs(self.residuals), np.abs(b), out=np.full(b.shape, np.nan), where=b != 0
        )

    @cached_property
    def targets_met(self) -> np.ndarray:
        """(targets,) bool: |residual| within ``tolerance`` of the target's size (of what records
        add to it, where it is zero), rounding apart.
        """
        residual, allowed = np.abs(self.residuals), self.tolerance * self.problem.relative_scale
        if (residual <= allowed).all():
            return residual <= allowed
        weights = np.abs(self.weights)
        return residual <= allowed + ROUNDING * self.problem.matrix.absolute_totals(weights)

    @property
    def selected(self) -> np.ndarray:
        """(kept,) int64: the records whose weight is not zero."""
        return np.flatnonzero(self.weights != 0)

    @property
    def effective_sample_size(self) -> float:
        """Kish's (sum w)^2 / sum w^2."""
        return effective_sample_size(self.weights)

    @property
    def design_effect(self) -> float:
        """Kish's 1 + cv^2 of the weights kept: records kept over effective sample size."""
        size = self.effective_sample_size
        return self.selected.size / size if size > 0 else float("inf")

    def warned(self, code: str) -> tuple[CalibrationWarning, ...]:
        """The warnings of one code."""
        return tuple(w for w in self.warnings if w.code == code)

    def worst(self, count: int = 5) -> tuple[tuple[str, float, float, float], ...]:
        """(name, target, fitted, error relative to the target's size) of the targets
        furthest off.
        """
        error = np.abs(self.residuals) / self.problem.relative_scale
        order = np.argsort(-error, kind="stable")[:count]
        return tuple(
            (
                self.problem.target_names[j],
                float(self.problem.targets[j]),
                float(self.fitted[j]),
                float(error[j]),
            )
            for j in order
        )

    def _repr_html_(self) -> str:
        return result_html(self)

    def summary(self) -> str:
        """A few lines for people: what happened, how well it fits, what to know."""
        met, error = self.targets_met, np.abs(self.residuals) / self.problem.relative_scale
        ratio = self.ratios[np.isfinite(self.ratios)]
        lines = [
            (
                f"{self.method}: {'converged' if self.converged else 'NOT CONVERGED'}"
                f" ({self.status}) in {self.iterations} steps, {self.seconds:.3g} s"
            ),
            (
                f"  targets met      {int(met.sum()):,} of {met.size:,}; relative error median"
                f" {np.median(error):.2g}, largest {error.max():.2g}"
            ),
            (
                f"  records kept     {self.selected.size:,} of {self.weights.size:,}; effective"
                f" sample size {self.effective_sample_size:,.1f}"
            ),
        ]
        if ratio.size and self.problem.initial_weights is not None:
            lines.append(
                f"  weight ratios    {ratio.min():.4g} to {ratio.max():.4g} of the initial weight"
            )
        if not met.all():
            lines.append("  furthest off")
            lines += [
                f"    {name}: target {b:,.6g}, fitted {f:,.6g} ({e:.2%})"
                for name, b, f, e in self.worst()
                if e > self.tolerance
            ]
        lines += [f"  ! {w.message}" for w in self.warnings]
        return "\n".join(lines)
