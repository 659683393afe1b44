"""Exactly k records at random, then calibrated: the baseline that every sparse method must beat.

    draw S, |S| = k, without replacement;   weights = refit on S (``flat/select/refit.py``)

"equal": every record alike, refitted from its initial weight. "weight": with chances in proportion
to initial weights, by Efraimidis and Spirakis (Information Processing Letters 97, 2006): the k
largest log(u_i) / d_i; refitted from equal weights, since a draw in proportion to weights has
already used them. The draw hangs on the seed and on the position of a record, on no global state.

Belongs here: this draw. Does not belong here: draws balanced on categories (``cross_category``),
the refit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from calibration_core.common.settings import Choice, Kind, Number, Rule, check
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.methods._usable import usable
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult
from calibration_core.flat.select.cell_allocation import check_budget
from calibration_core.flat.select.refit import QUIETLY, concluded, kept_count, refit, relative_loss
from calibration_core.flat.solve.exact import ExactSettings

_PROBABILITIES = ("equal", "weight")


@dataclass(frozen=True)
class Settings:
    """Settings of the random draw.

    Attributes
    ----------
    records : k, the number of records to keep, exactly; or
    sparsity : the share of records to leave out, in [0, 1): k is records x (1 - sparsity), rounded.
        One of the two must be given.
    probability : "equal", or "weight" for chances in proportion to initial weights.
    seed : of the draw.
    exact : settings of the refit.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "records": Number(least=1, whole=True, none=True),
        "sparsity": Number(least=0, below=1, none=True),
        "probability": Choice(("equal", "weight")),
        "seed": Number(least=0, whole=True),
        "exact": Kind(ExactSettings),
    }

    records: int | None = None
    sparsity: float | None = None
    probability: str = "equal"
    seed: int = 0
    exact: ExactSettings = QUIETLY

    def __post_init__(self) -> None:
        check(self)
        check_budget(self.records, self.sparsity)


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Draw and refit. Raises BudgetError if k exceeds the records of positive initial weight."""
    began = time.perf_counter()
    by_weight = settings.probability == "weight"
    problem, warnings = usable(problem)
    index = np.flatnonzero(problem.start > 0)
    k = kept_count(problem, settings.records, settings.sparsity, index.size)
    generator = np.random.default_rng(settings.seed)
    keys = np.log1p(-generator.random(problem.matrix.records))[index]
    if by_weight:
        keys = keys / problem.start[index]
    selected = np.sort(index[np.argsort(-keys, kind="stable")[:k]])
    starting = np.ones(problem.matrix.records) if by_weight else problem.start
    drawn = time.perf_counter()
    fit = refit(problem, selected, starting, exact_settings=settings.exact, progress=progress)
    result = CalibrationResult(
        problem=problem,
        method="random_subset",
        settings=settings,
        weights=fit.weights,
        converged=True,
        status=f"{k:,} of {problem.matrix.records:,} records drawn at random",
        iterations=fit.iterations,
        loss_trace=(relative_loss(problem, fit.weights),),
        tolerance=max(settings.exact.tolerance, LEAST_TOLERANCE),
        warnings=tuple(warnings),
        details={"selected": selected, "selection_seconds": drawn - began},
        seconds=time.perf_counter() - began,
    )
    return concluded(result, fit)
