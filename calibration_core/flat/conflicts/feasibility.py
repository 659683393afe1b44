"""Whether all targets can be met together, and if not, the smallest relaxation under which they
could: linear programs, in words.

Belongs here: which programs are asked and what their answers mean. Does not belong here: the
program (``relaxation.py``), the search for bounds (``bounds.py``), multipliers of a compromise
(``tensions.py``).
"""

from __future__ import annotations

import time

import numpy as np

from calibration_core.flat.conflicts.bounds import explain_bounds
from calibration_core.flat.conflicts.reach import box as box_of
from calibration_core.flat.conflicts.relaxation import Program, Relaxation, least_error
from calibration_core.flat.conflicts.wording import capital, family, number, percent, quoted
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning

# Cost of one target's own change beside its margin's, in all: enough to leave alone what need not
# change.
_OWN_CHANGE = 0.01
# Changes smaller than this are not told.
_TOLD = 1e-6
# Share of the smallest error that may stay unproved on large problems; the words then give both
# ends.
_GAP = 0.01

# Codes of findings on bounds.
NARROW = ("bounds_too_narrow", "upper_bound_too_low", "lower_bound_too_high")

Box = tuple[np.ndarray, np.ndarray]


def minimax_error(
    problem: CalibrationProblem, rows: np.ndarray, box: Box | None = None, seconds: float = 30.0
) -> float | None:
    """The smallest t with |a_j.w - b_j| <= t s_j for all ``rows`` (indices) and some w in the box;
    s as in ``compromise.residual_scale``.

    Parameters
    ----------
    box : (low, high) on the weights (see ``reach.box``); None for the problem's bounds and weights
        that are not negative.
    seconds : limit of time. A value that is reached but not proved smallest is returned all the
        same: it is one that can be met.
    """
    if len(rows) == 0:
        return None
    return least_error(
        Program(problem, rows), *(box_of(problem) if box is None else box), seconds=seconds
    ).value


def explain(
    problem: CalibrationProblem, rows: np.ndarray, box: Box | None = None, seconds: float = 30.0
) -> tuple[CalibrationWarning, ...]:
    """Findings on ``rows`` (indices of the targets that records support) together.

    Parameters
    ----------
    problem, rows, box : as in ``minimax_error``.
    seconds : wall-clock limit of all programs together; a check that it cuts short says so
        (``check_incomplete``).

    Codes: ``bounds_too_narrow``, ``upper_bound_too_low``, ``lower_bound_too_high`` (see
    ``bounds.py``); ``smallest_relaxation`` (size: the share by which every target would have to
    give at least); ``fewest_changes`` (size: sum of the shares by which margins would have to
    change, all others being met); ``feasible`` (weights exist, so it was the method that stopped);
    ``check_incomplete``.
    """
    if len(rows) == 0:
        return ()
    deadline = time.perf_counter() + seconds
    low, high = box_of(problem) if box is None else box
    program = Program(problem, rows)
    largest = least_error(program, low, high, gap=_GAP, seconds=seconds / 2)
    if largest.feasible:
        return (_feasible(problem, largest, low),)
    findings = []
    limited = problem.bounded and bool(
        np.isfinite(high[problem.start > 0]).any() or (low[problem.start > 0] > 0).any()
    )
    if limited and largest.feasible is False:
        floor = np.where((low >= 0), 0.0, -np.inf)
        floor, ceiling = (
            np.where(problem.start > 0, floor, 0.0),
            np.where(problem.start > 0, np.inf, 0.0),
        )
        unlimited = least_error(program, floor, ceiling, seconds=_left(deadline))
        if unlimited.feasible:
            findings += explain_bounds(problem, program, low, high, deadline)
    findings.append(_smallest(problem, largest, len(rows)))
    if largest.feasible is False:
        changes = _fewest(problem, program, low, high, deadline)
        findings += [changes] if changes is not None else []
    told = any(w.code == "check_incomplete" for w in findings)
    if not largest.complete or (time.perf_counter() > deadline and not told):
        findings.append(_incomplete(problem, seconds, largest))
    return tuple(findings)


def _feasible(
    problem: CalibrationProblem, answer: Relaxation, low: np.ndarray
) -> CalibrationWarning:
    at_end = int(((answer.weights <= low * (1 + 1e-12)) & (problem.start > 0)).sum())
    where, remedy = (
        ("on their lower bound", "truncated_linear, whose weights can lie on their bounds")
        if problem.bounded
        else ("at zero", "linear")
    )
    text = (
        "Weights that meet every target do exist, so it is the method that stopped; those found by"
        f" a linear program leave {at_end:,} of {problem.start.size:,} records {where}. Raise"
        f" max_iterations, or use {remedy}"
    )
    return CalibrationWarning("feasible", text, size=answer.value)


def _smallest(problem: CalibrationProblem, answer: Relaxation, rows: int) -> CalibrationWarning:
    unit = (
        (lambda t: f"{t:.4g} standard errors") if problem.standard_errors is not None else percent
    )
    if answer.feasible is False and answer.value - answer.proved <= 1e-3 * answer.value:
        text = (
            f"No weights meet all {rows} targets; if each may be missed by the same share,"
            f" {unit(answer.value)} is the least that suffices"
        )
    elif answer.feasible is False:
        text = (
            f"No weights meet all {rows} targets; if each may be missed by the same share,"
            f" {unit(answer.value)} suffices and {unit(answer.proved)} does not"
        )
    else:
        text = (
            f"Whether weights meet all {rows} targets was not settled; {unit(answer.value)} off"
            " each suffices"
        )
    if problem.standard_errors is not None:
        text = text.replace("by the same share", "by the same number of standard errors")
    return CalibrationWarning("smallest_relaxation", text, size=answer.value)


def _fewest(
    problem: CalibrationProblem,
    program: Program,
    low: np.ndarray,
    high: np.ndarray,
    deadline: float,
) -> CalibrationWarning | None:
    """Which margins would have to change: one t for each, their sum smallest."""
    names = [problem.groups[j] for j in program.rows]
    order = {g: k for k, g in enumerate(dict.fromkeys(names))}
    families = np.array([order[g] for g in names])
    answer = least_error(
        program,
        low,
        high,
        families,
        epsilon=_OWN_CHANGE / program.rows.size,
        seconds=_left(deadline),
    )
    if not answer.complete:
        return None
    changed = np.flatnonzero(
        np.abs(answer.errors) > max(_TOLD, 1e-3 * np.abs(answer.errors).max(initial=0.0))
    )
    if changed.size == 0:
        return None
    parts = []
    for k in sorted(
        set(families[changed].tolist()), key=lambda k: -np.abs(answer.errors[families == k]).max()
    ):
        parts.append(_change(problem, program, answer, changed[families[changed] == k]))
    listed = "; ".join(parts[:4]) + (
        f"; and {len(parts) - 4} more margins" if len(parts) > 4 else ""
    )
    text = (
        "The fewest changes that would make all targets feasible (margins counted by their largest"
        f" relative change): {listed}"
    )
    return CalibrationWarning(
        "fewest_changes",
        text,
        tuple(problem.target_names[program.rows[j]] for j in changed),
        answer.value,
    )


def _change(
    problem: CalibrationProblem, program: Program, answer: Relaxation, index: np.ndarray
) -> str:
    rows = program.rows[index]
    b = problem.targets[rows]
    move = -answer.errors[index] * program.scale[index] * program.top[index]
    share = np.divide(move, np.abs(b), out=np.full(b.shape, np.nan), where=b != 0)
    who = capital(family(problem, rows))
    if rows.size == 1:
        relative = f" ({'+' if move[0] > 0 else '-'}{percent(share[0])})" if b[0] != 0 else ""
        return f"{who} from {number(b[0])} to {number(b[0] + move[0])}{relative}"
    if (np.isfinite(share).all() and (share > 0).all()) or (share < 0).all():
        least, most = np.abs(share).min(), np.abs(share).max()
        by = (
            percent(most) if most - least <= 1e-3 * most else f"{percent(least)} to {percent(most)}"
        )
        return f"{who} {'up' if share[0] > 0 else 'down'} by {by}"
    worst = int(np.nanargmax(np.abs(move)))
    rest = (
        f"{who} by up to {percent(np.nanmax(np.abs(share)))} either way"
        if np.isfinite(share).any()
        else f"{who} either way"
    )
    return (
        f"{rest}, most {quoted([problem.target_names[rows[worst]]])} from {number(b[worst])} to"
        f" {number(b[worst] + move[worst])}"
    )


def _incomplete(
    problem: CalibrationProblem, seconds: float, answer: Relaxation
) -> CalibrationWarning:
    m, n = problem.size
    size = f"({n:,} records x {m:,} targets) was stopped after {seconds:g} s"
    if answer.complete:
        text = (
            f"The search for the narrowest bounds and the fewest changes {size}; what it found by"
            " then is told"
        )
    else:
        text = (
            f"The search for the smallest relaxation {size}; its largest error lies between"
            f" {percent(answer.proved)} and {percent(answer.value)}"
        )
    return CalibrationWarning("check_incomplete", text, size=answer.value - answer.proved)


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.perf_counter())
