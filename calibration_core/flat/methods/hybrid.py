"""The hybrid: dense calibration, cross-category selection of exactly k records, refinement of all
targets. The default for sparse files.

    1  w~ = argmin KL(w, d) subject to A w = b                       (all records; the least-squares
    compromise where b conflicts)
    2  S drawn with pi_i = min(1, c w~_i), |S| = k, cells within rounding of their share, sum_{i in
    S} a_i w~_i / pi_i close to A w~
    3  w = argmin KL(w, w~/pi) subject to A_S w_S = b                 (the second-order dual, or the
    least-squares compromise on S)

Step 2 is the best of several systematic draws (or of draws by the cube method: Deville and Tille,
Biometrika 91 (2004) 893-912), repaired by exchanges. They stay within pools of cells and bring the
totals of all targets closer (``flat/select/repair.py``): measured, this leaves totals as close as
the cube method does, in a fraction of its time. Where S cannot meet targets that all records
together meet, because k is near or below their number, records are swapped until it can or the loss
falls no more (``flat/select/swaps.py``). This is what "Sparse Calibration for Microdata Synthesis"
asks for in its open questions and conclusion: selection across categories, then refinement by
gradient; here the gradient is the dual's, to second order.

It fails, and says so, where k is below the number of independent targets: then they are traded off
in least squares.

Belongs here: this method. Does not belong here: cells, draws, swaps, refits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from calibration_core.common.settings import Choice, Number, Rule, check
from calibration_core.common.weight_shape import effective_sample_size
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.methods._usable import usable
from calibration_core.flat.methods.cross_category import (
    dense_weights,
    moved_mass,
    started_from,
    to_draw_by,
)
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning
from calibration_core.flat.select.cell_allocation import check_budget, record_budget
from calibration_core.flat.select.draw import draw_records
from calibration_core.flat.select.refit import concluded, refit
from calibration_core.flat.select.swaps import improve
from calibration_core.flat.solve.compromise import residual_scale
from calibration_core.flat.solve.exact import ExactSettings

# Dense weights may vanish where a compromise is stiff; such records can still be drawn when k asks
# for (nearly) all.
_LEAST_WEIGHT = 1e-12
# A selection is refitted again after swaps where its error exceeds what all records reach by this
# much (relative, and absolute).
_WORSE, _MET = 1.01, 1e-8


@dataclass(frozen=True)
class Settings:
    """Settings of hybrid.

    Attributes
    ----------
    records : k, the number of records to keep; or
    sparsity : the share of records to leave out, in [0, 1): k is records x (1 - sparsity), rounded.
        One of the two must be given.
    seed : of the draw. The draw is keyed on the position of records.
    design : "systematic" within cells, or "balanced", the cube method on all targets, whose time
        grows with records x targets^2.
    draws : tentative draws, the best of which before refinement is kept.
    thin : cells that expect fewer records than this are pooled with their neighbours.
    repair : passes of exchanges within pools after a draw that bring totals closer
        (``flat/select/repair.py``); with 0, and one draw, inclusion probabilities are exactly those
        of the design.
    swaps : batches of swaps at most, where the selection cannot do what all records can; 0 for
        none.
    compromise : "least_squares" or "minimax", where the records kept cannot meet all targets.
    tolerance : relative error under which a target is met.
    max_iterations : Newton steps of a calibration.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "records": Number(least=1, whole=True, none=True),
        "sparsity": Number(least=0, below=1, none=True),
        "design": Choice(("balanced", "systematic")),
        "repair": Number(least=0, whole=True),
        "swaps": Number(least=0, whole=True),
        "compromise": Choice(("least_squares", "minimax")),
        "seed": Number(least=0, whole=True),
        "thin": Number(least=0),
        "draws": Number(least=1, whole=True),
        "tolerance": Number(above=0, most=1e-2),
        "max_iterations": Number(least=1, whole=True),
    }

    records: int | None = None
    sparsity: float | None = None
    seed: int = 0
    design: str = "systematic"
    draws: int = 5
    thin: float = 1.0
    repair: int = 5
    swaps: int = 100
    compromise: str = "least_squares"
    tolerance: float = 1e-9
    max_iterations: int = 100

    def __post_init__(self) -> None:
        check(self)
        check_budget(self.records, self.sparsity)

    @property
    def exact(self) -> ExactSettings:
        """Settings of the refinement."""
        return ExactSettings(
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
            compromise=self.compromise,
            explain=False,
        )


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Select and refine.

    Raises SettingsError without ``records`` or ``sparsity``, and BudgetError if fewer than k
    records have a positive initial weight.
    """
    began = time.perf_counter()
    k = record_budget(settings.records, settings.sparsity, problem.matrix.records)
    problem, warnings = usable(problem)
    dense = dense_weights(problem, settings.tolerance)
    weights = np.where(
        problem.start > 0, np.maximum(dense.weights, _LEAST_WEIGHT * problem.start), 0.0
    )
    by = to_draw_by(weights)
    after_dense = time.perf_counter()
    drawn = draw_records(
        problem,
        by,
        k,
        settings.seed,
        design=settings.design,
        draws=settings.draws,
        thin=settings.thin,
        sweeps=settings.repair,
        totals=dense.fitted,
    )
    drawn = started_from(drawn, by, weights)
    after_draw = time.perf_counter()
    warnings += [w for w in dense.warnings if w.code not in _DENSE_ONLY] + moved_mass(drawn)
    selected, starting = drawn.selected, drawn.starting
    fit = refit(problem, selected, starting, exact_settings=settings.exact, progress=progress)
    reachable, swaps = _error(problem, dense.weights), 0
    missing = not fit.met and _error(problem, fit.weights) > max(_WORSE * reachable, _MET)
    if missing and settings.swaps and k < int((weights > 0).sum()):
        better = improve(problem, selected, starting, weights > 0, reachable, settings.swaps)
        if better.swaps:
            again = refit(
                problem,
                better.selected,
                better.starting,
                exact_settings=settings.exact,
                progress=progress,
            )
            if _error(problem, again.weights) < _error(problem, fit.weights):
                fit, selected, starting, swaps = (
                    again,
                    better.selected,
                    better.starting,
                    better.swaps,
                )
    error = _error(problem, fit.weights)
    if dense.converged and not fit.met:
        text = (
            f"All records together meet every target; the {k:,} kept do not (root mean square"
            f" relative error {error:.3g}). Keep more records, or fewer targets"
        )
        warnings.append(CalibrationWarning("too_few_records", text, size=error))
    base = CalibrationResult(
        problem=problem,
        method="hybrid",
        settings=settings,
        weights=starting,
        converged=True,
        status=f"{k:,} records drawn across {drawn.pools:,} pools of {drawn.cells:,} cells"
        + (f", {swaps:,} swapped" if swaps else ""),
        iterations=dense.iterations + fit.iterations,
        loss_trace=(*dense.loss_trace, drawn.error, *fit.trace),
        tolerance=max(settings.tolerance, LEAST_TOLERANCE),
        warnings=tuple(warnings),
        details={
            **drawn.details,
            "records": k,
            "swaps": swaps,
            "selected": selected,
            "probability": drawn.probability,
            "dense_converged": dense.converged,
            "dense_error": reachable,
            "error_after_refinement": error,
            "effective_sample_size": effective_sample_size(fit.weights),
            "seconds_of_dense": after_dense - began,
            "seconds_of_selection": after_draw - after_dense,
            "seconds_of_refinement": time.perf_counter() - after_draw,
        },
    )
    result = concluded(base, fit)
    # As for the exact methods: a compromise, however good, is not what was asked for.
    return replace(result, converged=fit.met and fit.converged, seconds=time.perf_counter() - began)


# What the dense step says of its own weights, not of the targets; the refit speaks for the records
# kept.
_DENSE_ONLY = ("targets_missed", "negative_weights", "zero_weights", "no_initial_weights")


def _error(problem: CalibrationProblem, weights: np.ndarray) -> float:
    """Root mean square of residuals, in standard errors where the problem has them, else relative
    to the target's size.
    """
    return float(
        np.sqrt(
            (
                ((problem.matrix.totals(weights) - problem.targets) / residual_scale(problem)) ** 2
            ).mean()
        )
    )
