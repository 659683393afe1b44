"""Iterative proportional fitting: categorical margins, adjusted in turn until all agree.

    for each margin in turn:  w_i <- w_i * target_c / total_c,  c the category of record i in that
    margin

Deming and Stephan, Annals of Mathematical Statistics 11 (1940) 427-444; Csiszar, Annals of
Probability 3 (1975) 146-158: the limit minimises sum w log(w/d), so it equals ``raking``, which
gets there in a few Newton steps. Convergence is linear and can be slow where margins are close to
dependent. IPF has no trade-off: where margins contradict one another it would end on whichever came
last, so then the Kullback-Leibler compromise is returned instead, and said to be one.

Belongs here: the sweeps over margins. Does not belong here: what to do about contradictions
(``flat/solve/exact.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from calibration_core.common.distances import Raking
from calibration_core.errors import ProblemError
from calibration_core.flat.conflicts import precheck
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning
from calibration_core.flat.solve.exact import ExactSettings, calibrate_exactly, finish

# Sweeps without the largest error falling by a tenth after which it will not converge in any useful
# time.
_PATIENCE = 200


@dataclass(frozen=True)
class Settings(ExactSettings):
    """See ExactSettings; ``max_iterations`` counts sweeps over all margins."""

    max_iterations: int = 5000


def run(
    problem: CalibrationProblem,
    settings: Settings,
    progress: Callable[[int, float], None] | None = None,
) -> CalibrationResult:
    """Calibrate. Raises ProblemError if a row is not 0/1 (in any unit), or the problem has bounds
    or q, none of which IPF can hold.
    """
    began = time.perf_counter()
    _check(problem)
    seen = precheck.look(problem, tolerance=settings.tolerance)
    if not seen.together:
        return _otherwise(problem, settings, None)
    # Targets that agree but for the tolerance are brought to agree, or the sweeps would not end.
    working = seen.problem.change(targets=seen.agreement.targets)
    codes, sizes, rows = margins_of(working)
    ratio, trace, factors = _sweep(codes, sizes, rows, working, settings, progress)
    error = trace[-1] if trace else 0.0
    if error > settings.tolerance:
        return _otherwise(problem, settings, (len(trace), error))
    result = CalibrationResult(
        problem=problem,
        method="ipf",
        settings=settings,
        weights=working.start * ratio,
        converged=True,
        status="",
        iterations=len(trace),
        loss_trace=tuple(trace),
        multipliers=factors,
        tolerance=max(settings.tolerance, LEAST_TOLERANCE),
        warnings=seen.findings,
        details={"margins": len(codes)},
    )
    return finish(result, True, time.perf_counter() - began, feasible=not seen.blocking)


def _check(problem: CalibrationProblem) -> None:
    others = np.flatnonzero(~problem.matrix.indicators & (problem.matrix.support > 0))
    if others.size:
        raise ProblemError(
            "IPF takes categorical margins: rows of zeros and ones",
            where=f"target {problem.target_names[others[0]]!r}",
            expected="every entry 0 or 1, or 0 or the same unit",
            remedy="Use raking, which has the same solution and takes amounts and counts",
        )
    if problem.bounded or problem.q is not None:
        what = "bounds" if problem.bounded else "a per-record scale q"
        raise ProblemError(
            f"The problem has {what}, which IPF cannot hold",
            remedy="Use raking_bounded (bounds) or raking (q), or drop them",
        )
    negative = np.flatnonzero(problem.targets < 0)
    if negative.size:
        raise ProblemError(
            f"A count of {problem.told_total(negative[0], problem.targets[negative[0]]):g} is asked"
            " for",
            where=f"target {problem.target_names[negative[0]]!r}",
            expected=">= 0",
        )


def margins_of(problem: CalibrationProblem) -> tuple[list[np.ndarray], list[int], list[np.ndarray]]:
    """Sort 0/1 rows into margins of rows that share no record.

    Returns, per margin: (records,) int16 or int32 category of each record (the number of rows for
    none), the number of rows, and the rows' indices. A group is one margin if its rows share no
    record; rows that do are put into the first margin with room for them.
    """
    overlap = problem.matrix.gram(np.ones(problem.matrix.records)) > 0
    order = sorted(
        range(problem.matrix.targets), key=lambda j: (problem.groups.index(problem.groups[j]), j)
    )
    members: list[tuple[str, list[int]]] = []
    for j in order:
        home = next(
            (
                rows
                for group, rows in members
                if group == problem.groups[j] and not overlap[j, rows].any()
            ),
            None,
        )
        if home is None:
            home = (
                next((rows for _, rows in members if not overlap[j, rows].any()), None)
                if (problem.matrix.support[j] == 0)
                else None
            )
        if home is None:
            members.append((problem.groups[j], [j]))
        else:
            home.append(j)
    margins = _merge(members, overlap)
    table = problem.matrix.target_major()
    codes = []
    for rows in margins:
        code = np.full(
            problem.matrix.records, len(rows), dtype=np.int16 if len(rows) < 32_000 else np.int32
        )
        for place, j in enumerate(rows):
            touched = (
                table.indices[table.indptr[j] : table.indptr[j + 1]][
                    table.data[table.indptr[j] : table.indptr[j + 1]] != 0
                ]
                if problem.matrix.is_sparse
                else np.flatnonzero(table[j])
            )
            code[touched] = place
        codes.append(code)
    return codes, [len(rows) for rows in margins], [np.asarray(rows) for rows in margins]


def _merge(members: list[tuple[str, list[int]]], overlap: np.ndarray) -> list[list[int]]:
    """Rows that came alone (ungrouped names) join the first margin that shares no record with them,
    so that a sweep is short.
    """
    whole = [rows for _, rows in members if len(rows) > 1]
    for _, rows in members:
        if len(rows) == 1:
            home = next((other for other in whole if not overlap[rows[0], other].any()), None)
            if home is None:
                whole.append(list(rows))
            else:
                home.append(rows[0])
    return whole


def _sweep(codes, sizes, rows, problem, settings, progress):
    """Ratios (records,), largest relative error after each sweep, and log factors of
    every target.
    """
    first, member = _patterns(codes, sizes)
    # Records alike in every margin keep equal ratios, so each pattern is fitted once.
    patterns = [code[first].astype(np.intp) for code in codes]
    start = np.bincount(member, weights=problem.start, minlength=first.size)
    weights, factors, trace = start.copy(), np.ones(problem.matrix.targets), []
    best, since = np.inf, 0
    for sweep in range(settings.max_iterations):
        worst = 0.0
        for code, size, index in zip(patterns, sizes, rows, strict=True):
            goal = problem.targets[index]
            total = np.bincount(code, weights=weights, minlength=size + 1)[:size]
            worst = max(
                worst,
                float(
                    (np.abs(total - goal) / problem.relative_scale[index])[total > 0].max(
                        initial=0.0
                    )
                ),
            )
            factor = np.divide(goal, total, out=np.ones(size), where=total > 0)
            factors[index] *= factor
            weights *= np.append(factor, 1.0)[code]
        # Errors are seen as each margin is reached, so a small one means that all held at once,
        # within it.
        trace.append(worst)
        if progress is not None:
            progress(sweep + 1, worst)
        if worst <= settings.tolerance * 0.1:
            break
        best, since = (worst, 0) if worst < 0.9 * best else (best, since + 1)
        if since >= _PATIENCE:
            break
    with np.errstate(divide="ignore"):
        logs = np.log(factors)
    return (
        np.divide(weights, start, out=np.ones_like(weights), where=start > 0)[member],
        trace,
        logs,
    )


def _patterns(codes: list[np.ndarray], sizes: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Distinct combinations of categories: the first record of each, and (records,) which one each
    record has.
    """
    key, top = np.zeros(codes[0].size, dtype=np.int64), 1
    for code, size in zip(codes, sizes, strict=True):
        if top * (size + 1) >= 2**62:
            key = np.unique(key, return_inverse=True)[1].ravel()
            top = int(key.max()) + 1
        key *= size + 1
        key += code
        top *= size + 1
    _, first, member = np.unique(key, return_index=True, return_inverse=True)
    return first, member.ravel()


def _otherwise(
    problem: CalibrationProblem, settings: Settings, stalled: tuple[int, float] | None
) -> CalibrationResult:
    """The same optimum by Newton's method, or the compromise where there is none."""
    fields = {**vars(settings), "max_iterations": 100}
    result = calibrate_exactly(problem, "ipf", Raking(), ExactSettings(**fields))
    if stalled is not None:
        text = (
            f"The sweeps were at a largest relative error of {stalled[1]:.2g} after {stalled[0]:,};"
            " Newton's method finished the same problem"
        )
        result = replace(
            result,
            warnings=(
                CalibrationWarning("slow_convergence", text, size=stalled[1]),
                *result.warnings,
            ),
        )
    return replace(result, settings=settings)
