"""Whether all targets can be met together, and if not, the smallest relaxation under which they
could: linear programs, in words.

Belongs here: which programs are asked and what their answers mean. Does not belong here: the
program (``relaxation.py``), the search for bounds (``bounds.py``), multipliers of a compromise
(``tensions.py``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.conflicts.bounds import explain_bounds
from calibration_core.flat.conflicts.reach import Box
from calibration_core.flat.conflicts.reach import box as box_of
from calibration_core.flat.conflicts.relaxation import Program, Relaxation, least_error
from calibration_core.flat.conflicts.wording import capital, family, number, percent, quoted
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning

# Cost of one target's own change beside its margin's, in all: enough to leave alone what need not
# change.
_OWN_CHANGE = 0.01
# Changes smaller than this share of the largest are not told.
_TOLD = 1e-3
# Share of the smallest error that may stay unproved on large problems; the words then give both
# ends.
_GAP = 0.01

# Codes of findings on bounds.
NARROW = ("bounds_too_narrow", "upper_bound_too_low", "lower_bound_too_high")


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the programs say.

    Attributes
    ----------
    feasible : whether weights in the box meet every target; None where that was not settled.
    findings : why not, and what would have to give; nothing where they do.
    weights : (records,) those of the program.
    error : the smallest possible largest error that was found.
    """

    feasible: bool | None
    findings: tuple[CalibrationWarning, ...]
    weights: np.ndarray
    error: float


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
    ends = box_of(problem) if box is None else box
    return least_error(Program(problem, rows), *ends, seconds=seconds).value


def judge(
    problem: CalibrationProblem,
    rows: np.ndarray,
    box: Box | None = None,
    *,
    tolerance: float = LEAST_TOLERANCE,
    seconds: float = 30.0,
    gap: float = _GAP,
) -> Verdict:
    """Whether ``rows`` (indices of the targets that records support) can be met together.

    Parameters
    ----------
    problem, rows, box : as in ``minimax_error``.
    tolerance : relative error within which a target counts as met.
    seconds : wall-clock limit of all programs together; a check that it cuts short says so
        (``check_incomplete``).
    gap : share of the smallest error that may stay unproved.

    Codes of findings: ``bounds_too_narrow``, ``upper_bound_too_low``, ``lower_bound_too_high`` (see
    ``bounds.py``); ``smallest_relaxation`` (size: the share by which every target would have to
    give at least); ``fewest_changes`` (size: sum of the shares by which margins would have to
    change, all others being met); ``check_incomplete``.
    """
    if len(rows) == 0:
        return Verdict(True, (), problem.start, 0.0)
    deadline = time.perf_counter() + seconds
    low, high = box_of(problem) if box is None else box
    program = Program(problem, rows, tolerance)
    largest = least_error(program, low, high, gap=gap, seconds=seconds / 2)
    if largest.feasible:
        return Verdict(True, (), largest.weights, 0.0)
    findings = list(_bounds(problem, program, (low, high), largest, deadline))
    findings.append(_smallest(problem, largest, len(rows)))
    if largest.feasible is False:
        changes = _fewest(problem, program, low, high, deadline)
        findings += [changes] if changes is not None else []
    told = any(w.code == "check_incomplete" for w in findings)
    if not largest.complete or (time.perf_counter() > deadline and not told):
        findings.append(_incomplete(problem, seconds, largest))
    return Verdict(largest.feasible, tuple(findings), largest.weights, largest.value)


def explain(
    problem: CalibrationProblem, rows: np.ndarray, box: Box | None = None, seconds: float = 30.0
) -> tuple[CalibrationWarning, ...]:
    """The findings of ``judge`` alone."""
    return judge(problem, rows, box, seconds=seconds).findings


def _bounds(
    problem: CalibrationProblem, program: Program, box: Box, largest: Relaxation, deadline: float
) -> tuple[CalibrationWarning, ...]:
    """What is to be said of bounds, if it is they that stand in the way."""
    low, high = box
    live = problem.start > 0
    limited = problem.bounded and bool(np.isfinite(high[live]).any() or (low[live] > 0).any())
    if not limited or largest.feasible is not False:
        return ()
    floor = np.where(live & (low < 0), -np.inf, 0.0)
    ceiling = np.where(live, np.inf, 0.0)
    unlimited = least_error(program, floor, ceiling, seconds=_left(deadline))
    return explain_bounds(problem, program, low, high, deadline) if unlimited.feasible else ()


def _smallest(problem: CalibrationProblem, answer: Relaxation, rows: int) -> CalibrationWarning:
    def unit(t: float) -> str:
        return f"{t:.4g} standard errors" if problem.standard_errors is not None else percent(t)

    share = "by the same share"
    if problem.standard_errors is not None:
        share = "by the same number of standard errors"
    least = f"{unit(answer.value)} is the least that suffices"
    if answer.value - answer.proved > 1e-3 * answer.value:
        least = f"{unit(answer.value)} suffices and {unit(answer.proved)} does not"
    text = f"No weights meet all {rows} targets; if each may be missed {share}, {least}"
    if answer.feasible is None:
        text = (
            f"Whether weights meet all {rows} targets was not settled; {unit(answer.value)} off "
            "each suffices"
        )
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
    size = np.abs(answer.errors)
    changed = np.flatnonzero((size > program.slack) & (size > _TOLD * size.max(initial=0.0)))
    if changed.size == 0:
        return None
    parts = []
    for k in sorted(set(families[changed].tolist()), key=lambda k: -size[families == k].max()):
        parts.append(_change(problem, program, answer, changed[families[changed] == k]))
    listed = "; ".join(parts[:4])
    listed += f"; and {len(parts) - 4} more margins" if len(parts) > 4 else ""
    text = (
        "The fewest changes that would make all targets feasible (margins counted by their largest "
        f"relative change): {listed}"
    )
    named = tuple(problem.target_names[program.rows[j]] for j in changed)
    return CalibrationWarning("fewest_changes", text, named, answer.value)


def _change(
    problem: CalibrationProblem, program: Program, answer: Relaxation, index: np.ndarray
) -> str:
    rows = program.rows[index]
    b = problem.targets[rows]
    move = -answer.errors[index] * program.scale[index] * program.top[index]
    share = np.divide(move, np.abs(b), out=np.full(b.shape, np.nan), where=b != 0)
    who = capital(family(problem, rows))

    def told(k: int) -> str:
        before, after = (problem.told_total(rows[k], x) for x in (b[k], b[k] + move[k]))
        return f"from {number(before)} to {number(after)}"

    if rows.size == 1:
        sign = "+" if move[0] > 0 else "-"
        return f"{who} {told(0)}" + (f" ({sign}{percent(share[0])})" if b[0] != 0 else "")
    if (np.isfinite(share).all() and (share > 0).all()) or (share < 0).all():
        least, most = np.abs(share).min(), np.abs(share).max()
        same = most - least <= 1e-3 * most
        by = percent(most) if same else f"{percent(least)} to {percent(most)}"
        return f"{who} {'up' if share[0] > 0 else 'down'} by {by}"
    worst = int(np.nanargmax(np.abs(share) if np.isfinite(share).any() else np.abs(move)))
    rest = f"{who} either way"
    if np.isfinite(share).any():
        rest = f"{who} by up to {percent(np.nanmax(np.abs(share)))} either way"
    return f"{rest}, most {quoted([problem.target_names[rows[worst]]])} {told(worst)}"


def _incomplete(
    problem: CalibrationProblem, seconds: float, answer: Relaxation
) -> CalibrationWarning:
    m, n = problem.size
    size = f"({n:,} records x {m:,} targets) was stopped after {seconds:g} s"
    if answer.complete:
        text = (
            f"The search for the narrowest bounds and the fewest changes {size}; what it found by "
            "then is told"
        )
    else:
        text = (
            f"The search for the smallest relaxation {size}; its largest error lies between "
            f"{percent(answer.proved)} and {percent(answer.value)}"
        )
    return CalibrationWarning("check_incomplete", text, size=answer.value - answer.proved)


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.perf_counter())
