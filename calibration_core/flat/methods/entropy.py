"""Entropy balancing: Kullback-Leibler weights whose moments match, with their sum held.

    minimise sum_i w_i log(w_i / d_i)  subject to A w = b, sum_i w_i = N

Hainmueller, Political Analysis 20 (2012) 25-46. Differs from ``raking`` only where no target
implies the sum of weights: raking then lets it float, entropy balancing holds it (at the sum of the
initial weights, or what ``total`` says). ``moment_problem`` writes the balance of covariates up to
a given moment against a reference group as a calibration problem.

Belongs here: the added total, and moments as rows. Does not belong here: the course all exact
methods share (``flat/solve/exact.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy import linalg, sparse

from calibration_core.common.distances import Raking
from calibration_core.common.settings import Number, Rule, check
from calibration_core.errors import ProblemError
from calibration_core.flat.constraint_rows import row_structure
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult
from calibration_core.flat.solve.exact import ExactSettings, calibrate_exactly

TOTAL_NAME = "sum of weights"


@dataclass(frozen=True)
class Settings(ExactSettings):
    """See ExactSettings.

    Attributes
    ----------
    total : the sum of weights to hold; None for the sum of the initial weights. Not used where the
        targets already imply one.
    """

    RULES: ClassVar[dict[str, Rule]] = {**ExactSettings.RULES, "total": Number(above=0, none=True)}

    total: float | None = None

    def __post_init__(self) -> None:
        check(self)


def prepare(
    problem: CalibrationProblem, settings: Settings
) -> tuple[CalibrationProblem, dict[str, Any]]:
    """The problem with a row that holds the sum of weights, unless its targets imply one already.

    The figures returned with it are for the result: ``total_added``, and the ``total`` if one was.
    """
    if problem.bounded:
        raise ProblemError(
            "The problem has bounds and the method 'entropy' holds none",
            remedy="Use raking_bounded, or drop the bounds",
        )
    if _total_is_implied(problem):
        return problem, {"total_added": False}
    wanted = settings.total if settings.total is not None else float(problem.start.sum())
    return _with_total(problem, wanted), {"total_added": True, "total": wanted}


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Calibrate a problem that ``prepare`` returned. Raises InfeasibleError in strict mode."""
    return calibrate_exactly(problem, "entropy", Raking(), settings, progress)


def _with_total(problem: CalibrationProblem, total: float) -> CalibrationProblem:
    ones = np.ones((1, problem.matrix.records))
    rows = problem.matrix.target_major()
    matrix = (
        sparse.vstack([rows, sparse.csr_array(ones)])
        if problem.matrix.is_sparse
        else np.vstack([rows, ones])
    )
    errors = (
        None
        if problem.standard_errors is None
        else np.append(problem.standard_errors, problem.standard_errors.min() * 1e-3)
    )
    name = TOTAL_NAME if TOTAL_NAME not in problem.target_names else TOTAL_NAME + " (held)"
    return problem.change(
        matrix=DesignMatrix(matrix),
        targets=np.append(problem.targets, total),
        target_names=(*problem.target_names, name),
        groups=(*problem.groups, name),
        standard_errors=errors,
    )


def _total_is_implied(problem: CalibrationProblem) -> bool:
    """Whether a combination of rows is one on every record that can have weight: weighted least
    squares of ones on the rows.
    """
    start = problem.start
    rows = row_structure(problem.matrix, start)
    if rows.kept.size == 0:
        return False
    scale = np.sqrt(np.diagonal(rows.gram)[rows.kept])
    gram = rows.gram[np.ix_(rows.kept, rows.kept)] / scale[:, None] / scale[None, :]
    solution = np.zeros(problem.matrix.targets)
    solution[rows.kept] = (
        linalg.solve(gram, problem.matrix.totals(start)[rows.kept] / scale, assume_a="pos") / scale
    )
    left = 1.0 - problem.matrix.exponents(solution)
    return float(start @ left**2) <= 1e-16 * float(start.sum())


def moment_problem(
    covariates: np.ndarray,
    reference: np.ndarray,
    *,
    moments: int = 1,
    names: Sequence[str] = (),
    base_weights: np.ndarray | None = None,
    reference_weights: np.ndarray | None = None,
) -> CalibrationProblem:
    """Balance a group's covariates to a reference group's: raw moments about the reference means,
    up to order ``moments``.

    Parameters
    ----------
    covariates : (records, covariates) float64 of the group to be weighted (the controls).
    reference : (others, covariates) float64 of the group to match (the treated).
    moments : 1 for means, 2 for variances too, 3 for skewness. A moment that repeats a lower one
        (of a 0/1 covariate) is left out.
    names : names of the covariates.
    base_weights, reference_weights : (records,), (others,) >= 0; ones if None. Base weights are
        scaled to the reference's sum.

    Returns
    -------
    CalibrationProblem : rows "sum of weights", then covariate by moment; totals are sums over the
        reference.

    Raises
    ------
    ProblemError : shapes disagree, or a covariate does not vary between the groups' records at all.
    """
    x, r = np.asarray(covariates, dtype=np.float64), np.asarray(reference, dtype=np.float64)
    if x.ndim != 2 or r.ndim != 2 or x.shape[1] != r.shape[1] or not 1 <= moments <= 4:
        raise ProblemError(
            f"covariates {x.shape}, reference {r.shape}, moments {moments}",
            expected="two tables of equal width and 1 to 4 moments",
        )
    base = (
        np.ones(x.shape[0]) if base_weights is None else np.asarray(base_weights, dtype=np.float64)
    )
    other = (
        np.ones(r.shape[0])
        if reference_weights is None
        else np.asarray(reference_weights, dtype=np.float64)
    )
    labels = list(names) or [f"x{j}" for j in range(x.shape[1])]
    rows, goals, titles = [np.ones(x.shape[0])], [other.sum()], [TOTAL_NAME]
    for j, label in enumerate(labels):
        centre = 0.0 if moments == 1 else float(np.average(r[:, j], weights=other))
        binary = np.unique(np.concatenate([x[:, j], r[:, j]])).size <= 2
        for power in range(1, (1 if binary else moments) + 1):
            shift = centre if power > 1 else 0.0
            rows.append((x[:, j] - shift) ** power)
            goals.append(float(other @ (r[:, j] - shift) ** power))
            titles.append(label if power == 1 else f"{label}: moment {power}")
    return CalibrationProblem(
        np.stack(rows), np.array(goals), base * (other.sum() / base.sum()), target_names=titles
    )
