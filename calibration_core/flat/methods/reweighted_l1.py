"""Keep few records by L1 with weights that grow as a record's weight shrinks, then calibrate
exactly those kept.

    w <- argmin  p sum_i v_i w_i + sum_i (w_i - d_i)^2 / (2 d_i) + sum_j (r_j / s_j)^2 / (2 kappa),
    w >= 0      (``flat/solve/sparse_l1.py``)
    v_i <- 1 / (w_i + eps),   eps <- decay eps,   p such that k weights are positive

Candes, Wakin and Boyd, J. Fourier Anal. Appl. 14 (2008) 877-905: each round minimises a linear
bound on sum log(w_i + eps), which approaches the count of positive weights. The first round takes v
from the dense calibration. It cannot take v = 1: where the total population is a target, sum w_i is
fixed, plain L1 is a constant, and its solution is the dense one.

Each round ends at exactly k positive weights (or, where several turn zero at the same penalty, just
above k; then the smallest go), rounds end when the support stands still. The support is calibrated
by ``flat/select/refit.py`` from initial weights. A vertex has at most as many positive weights as
targets; the chi-square term d, the dense weights, lets k be larger. Below that number targets must
give way, which is what kappa is for.

Deterministic: no seed. What it cannot do: tell records of equal columns apart (the first stays),
find the best subset for certain.

Belongs here: reweighting and the choice. Does not belong here: the solver, the refit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from calibration_core.common.settings import Kind, Number, Rule, Switch, check
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.methods._usable import usable
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning
from calibration_core.flat.select.cell_allocation import check_budget
from calibration_core.flat.select.refit import (
    QUIETLY,
    concluded,
    kept_count,
    learned,
    refit,
    relative_loss,
)
from calibration_core.flat.solve.compromise import residual_scale
from calibration_core.flat.solve.exact import ExactSettings
from calibration_core.flat.solve.sparse_l1 import WeightedL1

_FIRST_PENALTY = 10.0


@dataclass(frozen=True)
class Settings:
    """Settings of reweighted L1.

    Attributes
    ----------
    records : k, the number of records to keep, exactly; or
    sparsity : the share of records to leave out, in [0, 1): k is records x (1 - sparsity), rounded.
        One of the two must be given.
    refit : calibrate the records kept; False returns the weights of the last round.
    rounds : the most reweightings.
    decay : eps falls by this factor a round, from the mean weight of a kept record.
    kappa : how far targets give way, times the sum of the dense weights; r_j = -kappa s_j^2 y_j.
    settled : share of the k records that may change in the last round for the choice to count as
        converged.
    exact : settings of the refit.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "records": Number(least=1, whole=True, none=True),
        "sparsity": Number(least=0, below=1, none=True),
        "refit": Switch(),
        "rounds": Number(least=1, whole=True),
        "decay": Number(above=0, below=1),
        "kappa": Number(above=0),
        "settled": Number(least=0, below=1),
        "exact": Kind(ExactSettings),
    }

    records: int | None = None
    sparsity: float | None = None
    refit: bool = True
    rounds: int = 10
    decay: float = 0.3
    kappa: float = 1e-3
    settled: float = 0.01
    exact: ExactSettings = QUIETLY

    def __post_init__(self) -> None:
        check(self)
        check_budget(self.records, self.sparsity)


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Reweight until the support stands still, choose, refit. Raises ProblemError if k exceeds the
    records of positive initial weight.
    """
    began = time.perf_counter()
    problem, warnings = usable(problem)
    index = np.flatnonzero(problem.start > 0)
    k = kept_count(problem, settings.records, settings.sparsity, index.size)
    dense = refit(problem, index, problem.start, exact_settings=settings.exact)
    start = np.maximum(dense.weights[index], 1e-9 * dense.weights[index].mean())
    path = WeightedL1(
        (
            problem.matrix
            if index.size == problem.matrix.records
            else problem.matrix.take_records(index)
        ),
        problem.targets,
        start,
        residual_scale(problem),
        settings.kappa,
        problem.limits[1][index],
    )
    kept_weight = float(start.sum()) / k
    weights, penalty, y, support = start, _FIRST_PENALTY, None, np.arange(index.size)
    counts, changes, trace, unreached = [], [], [], []
    solutions = steps = 0
    for round_ in range(settings.rounds if k < index.size else 0):
        eps = kept_weight * settings.decay**round_
        found = path.search(kept_weight / (weights + eps), k, penalty, y)
        solutions, steps = solutions + found.solutions, steps + found.iterations
        if not found.reached:
            text = (
                f"Round {round_ + 1}: no penalty was found that leaves {k:,} positive; the nearest"
                f" left {found.positive:,}"
            )
            size = float(found.positive)
            unreached.append(CalibrationWarning("penalty_not_found", text, size=size))
            if found.positive < k or found.penalty == 0:
                break
        weights, y = found.weights, found.multipliers * settings.decay
        penalty = max(found.penalty * settings.decay, 1e-12)
        chosen = _largest(weights, start, k)
        counts.append(found.positive)
        changes.append(int(np.setdiff1d(chosen, support).size) if round_ else k)
        support = chosen
        full = np.zeros(problem.matrix.records)
        full[index] = weights
        trace.append(relative_loss(problem, full))
        if progress is not None:
            progress(round_ + 1, trace[-1])
        if changes[-1] == 0:
            break
    if k < index.size and support.size != k:
        support = _largest(weights, start, k)
    warnings += unreached
    settled = k == index.size or (
        len(changes) > 1 and changes[-1] <= settings.settled * k and not unreached
    )
    if not settled and changes:
        text = (
            f"{changes[-1]} of the {k:,} records kept changed in the last of {len(changes)} rounds:"
            " allow more rounds"
        )
        warnings.append(CalibrationWarning("selection_not_settled", text, size=float(changes[-1])))
    pruned = max(0, (counts[-1] if counts else index.size) - k) if k < index.size else 0
    filled = int((weights[support] <= 0).sum())
    if filled:
        text = (
            f"{filled} of {k:,} records were added by their dense weight: the penalised solution"
            " had no more that are positive"
        )
        warnings.append(CalibrationWarning("filled_by_dense_weight", text, size=float(filled)))
    chosen = index[support]
    learned_weights = np.zeros(problem.matrix.records)
    learned_weights[chosen] = np.where(weights[support] > 0, weights[support], start[support])
    result = CalibrationResult(
        problem=problem,
        method="reweighted_l1",
        settings=settings,
        weights=learned_weights,
        converged=settled,
        status=(
            f"{k:,} of {problem.matrix.records:,} records kept,"
            f" {'the choice is settled' if settled else 'the choice still changed'}"
        ),
        iterations=steps,
        loss_trace=tuple(trace),
        tolerance=max(settings.exact.tolerance, LEAST_TOLERANCE),
        warnings=tuple(warnings),
        details={
            "selected": chosen,
            "penalty": penalty / settings.decay if counts else 0.0,
            "positive": tuple(counts),
            "changes": tuple(changes),
            "pruned": pruned,
            "solutions": solutions,
            "learned_loss": relative_loss(problem, learned_weights),
            "dense_loss": relative_loss(problem, dense.weights),
            "selection_seconds": time.perf_counter() - began,
        },
    )
    result = (
        concluded(result, refit(problem, chosen, problem.start, exact_settings=settings.exact))
        if settings.refit
        else learned(result, chosen)
    )
    return replace(result, seconds=time.perf_counter() - began)


def _largest(weights: np.ndarray, dense: np.ndarray, k: int) -> np.ndarray:
    """The k largest weights; those that are zero follow in the order of their dense weight, ties by
    position.
    """
    return np.sort(np.lexsort((np.arange(weights.size), -dense, -weights))[:k])
