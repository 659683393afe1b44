"""Cross-category selection: exactly k records drawn across the cells of the categories, then
calibrated.

    pi_i = min(1, c w_i), sum pi_i = k;   n_cell = sum of pi over the cell, rounded down or up,
    summing to k;   v_i = w_i / pi_i

then ``refit="ipf"`` fits the 0/1 rows alone by iterative proportional fitting (the rule of "Sparse
Calibration for Microdata Synthesis"), ``"raking"`` fits all rows by Newton's method, ``"none"``
leaves the starting weights. Unlike a rule of at least one record a cell, this keeps exactly k:
cells that expect less than one record are pooled with their neighbours, and every weight stays in
the file's total. Records are drawn by systematic sampling on probability proportional to weight,
sorted within cells by the continuous rows (see ``flat/select/draw.py``).

It fails where targets are continuous and ``refit="ipf"``: those are then only as close as the draw
makes them, and the result names them. It also fails with k near the number of targets, where no
weights of the drawn records may meet all (use hybrid).

Belongs here: this method. Does not belong here: cells, allocation, draws, refits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from calibration_core.common.digits import to_choose_by
from calibration_core.common.settings import Choice, Number, Rule, check
from calibration_core.errors import ProblemError
from calibration_core.flat.cells import categorical_rows
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.methods import ipf, raking
from calibration_core.flat.methods._usable import usable
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning
from calibration_core.flat.select.cell_allocation import check_budget, record_budget
from calibration_core.flat.select.draw import Draw, draw_records
from calibration_core.flat.select.refit import concluded, refit
from calibration_core.flat.solve.exact import ExactSettings, targets_missed


@dataclass(frozen=True)
class Settings:
    """Settings of cross_category.

    Attributes
    ----------
    records : k, the number of records to keep; or
    sparsity : the share of records to leave out, in [0, 1): k is records x (1 - sparsity), rounded.
        One of the two must be given.
    seed : of the draw. The draw is keyed on the position of records.
    weights : what records are drawn by: "initial" weights, or those of a "dense" raking calibration
        of all records.
    refit : "ipf" on the 0/1 rows, "raking" on all rows, or "none".
    thin : cells that expect fewer records than this are pooled with their neighbours.
    draws : tentative draws; the one with the least error before the refit is kept. With more than
        one the inclusion probabilities are those of each draw, not of the best.
    tolerance : relative error under which a target is met.
    max_iterations : steps of the refit.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "records": Number(least=1, whole=True, none=True),
        "sparsity": Number(least=0, below=1, none=True),
        "weights": Choice(("initial", "dense")),
        "refit": Choice(("ipf", "raking", "none")),
        "seed": Number(least=0, whole=True),
        "thin": Number(least=0),
        "draws": Number(least=1, whole=True),
        "tolerance": Number(above=0, most=1e-2),
        "max_iterations": Number(least=1, whole=True),
    }

    records: int | None = None
    sparsity: float | None = None
    seed: int = 0
    weights: str = "initial"
    refit: str = "raking"
    thin: float = 1.0
    draws: int = 1
    tolerance: float = 1e-9
    max_iterations: int = 1000

    def __post_init__(self) -> None:
        check(self)
        check_budget(self.records, self.sparsity)


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Select and calibrate.

    Raises SettingsError without ``records`` or ``sparsity``; BudgetError if fewer than k records
    have a positive weight; ProblemError for ``refit="ipf"`` without a 0/1 row.
    """
    began = time.perf_counter()
    k = record_budget(settings.records, settings.sparsity, problem.matrix.records)
    problem, warnings = usable(problem)
    weights, dense = problem.start, None
    if settings.weights == "dense":
        dense = dense_weights(problem, settings.tolerance)
        weights = dense.weights
        warnings += [w for w in dense.warnings if w.code != "zero_weights"]
    selected = time.perf_counter()
    by = weights if dense is None else to_draw_by(weights)
    drawn = draw_records(problem, by, k, settings.seed, draws=settings.draws, thin=settings.thin)
    drawn = started_from(drawn, by, weights)
    details = {
        **drawn.details,
        "records": k,
        "refit_by": settings.refit,
        "seconds_of_selection": time.perf_counter() - selected,
    }
    warnings += moved_mass(drawn)
    base = CalibrationResult(
        problem=problem,
        method="cross_category",
        settings=settings,
        weights=drawn.starting,
        converged=True,
        status=f"{k:,} records drawn across {drawn.pools:,} pools of {drawn.cells:,} cells",
        iterations=0,
        loss_trace=(drawn.error,),
        tolerance=max(settings.tolerance, LEAST_TOLERANCE),
        warnings=tuple(warnings),
        details={**details, "probability": drawn.probability, "selected": drawn.selected},
    )
    if settings.refit == "raking":
        exact = ExactSettings(
            tolerance=settings.tolerance, max_iterations=settings.max_iterations, explain=False
        )
        fit = refit(
            problem, drawn.selected, drawn.starting, exact_settings=exact, progress=progress
        )
        base = concluded(
            replace(base, iterations=fit.iterations, loss_trace=(drawn.error, *fit.trace)), fit
        )
    elif settings.refit == "ipf":
        base = _fit_margins(problem, base, drawn, settings, progress)
    else:
        base = _name_missed(
            base,
            np.ones(problem.matrix.targets, dtype=bool),
            "no calibration was asked for after the draw",
        )
    # Whatever was left out of the fit, a result whose targets are not all met has not converged on
    # them.
    return replace(
        base,
        converged=base.converged and bool(base.targets_met.all()),
        seconds=time.perf_counter() - began,
    )


# Bits of dense weights by which records are drawn: to half a millionth, which no fit feels. Of
# 100,000 weights that differ between processors by 1e-12, one in ten runs sees one rounded
# otherwise.
_DRAW_BITS = 20


def to_draw_by(weights: np.ndarray) -> np.ndarray:
    """(records,) dense weights without the bits that hang on the processor and on the unit."""
    return to_choose_by(weights, _DRAW_BITS)


def started_from(drawn: Draw, by: np.ndarray, weights: np.ndarray) -> Draw:
    """``drawn`` by the weights ``by``, with the starting weights that ``weights``
    (records,) give.
    """
    ratio = np.divide(weights, by, out=np.ones_like(by), where=by > 0)
    return replace(drawn, starting=drawn.starting * ratio)


def dense_weights(problem: CalibrationProblem, tolerance: float) -> CalibrationResult:
    """The dense raking calibration (or its compromise) that records are drawn by; the bounds of the
    problem hold only at the end.
    """
    free = problem.change(ratio_bounds=None, weight_bounds=None) if problem.bounded else problem
    return raking.run(free, raking.Settings(tolerance=tolerance, explain=False), None)


def moved_mass(drawn: Draw) -> list[CalibrationWarning]:
    """The warning that counts cells without a record and their mass, if there are any."""
    if not drawn.cells_without_record:
        return []
    text = (
        f"{drawn.cells_without_record:,} of {drawn.cells:,} cells with weight got no record; their"
        f" {drawn.mass_moved:.2%} of the weight is carried by records of the same pool or the"
        " nearest one"
    )
    return [CalibrationWarning("mass_moved", text, size=drawn.mass_moved)]


def _fit_margins(
    problem: CalibrationProblem, base: CalibrationResult, drawn: Draw, settings: Settings, progress
) -> CalibrationResult:
    rows = np.flatnonzero(categorical_rows(problem.matrix))
    if rows.size == 0:
        raise ProblemError(
            "refit='ipf' fits the 0/1 rows, and no row of the matrix is one",
            remedy="Use refit='raking', which fits all rows",
        )
    part = problem.take_records(drawn.selected, drawn.starting[drawn.selected]).take_targets(rows)
    part = part.change(ratio_bounds=None, weight_bounds=None) if part.bounded else part
    fit = ipf.run(
        part,
        ipf.Settings(tolerance=settings.tolerance, max_iterations=settings.max_iterations),
        progress,
    )
    weights = np.zeros_like(drawn.starting)
    weights[drawn.selected] = fit.weights
    warnings = base.warnings + tuple(w for w in fit.warnings if w.code != "no_initial_weights")
    base = replace(
        base,
        weights=weights,
        converged=bool(fit.converged),
        status=f"{base.status}; IPF on the {rows.size} 0/1 rows: {fit.status}",
        iterations=fit.iterations,
        loss_trace=(drawn.error, *fit.loss_trace),
        warnings=warnings,
    )
    others = ~categorical_rows(problem.matrix)
    return _name_missed(base, others, "IPF fits only 0/1 rows") if others.any() else base


def _name_missed(result: CalibrationResult, rows: np.ndarray, why: str) -> CalibrationResult:
    """Add the warning that names the targets missed among ``rows``, if any."""
    missed = np.flatnonzero(rows & ~result.targets_met)
    if missed.size == 0:
        return result
    warning = targets_missed(result, missed, f"are not met, since {why}")
    return replace(result, warnings=(*result.warnings, warning))
