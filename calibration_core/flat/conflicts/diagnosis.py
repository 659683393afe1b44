"""Everything that can be known about a problem before it is solved, in one frozen answer.

    from calibration_core import diagnose
    print(diagnose(problem).summary())

Belongs here: the one call. Does not belong here: the checks themselves (``precheck.py``,
``feasibility.py``, ``bounds.py``).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np

from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.conflicts import feasibility, precheck
from calibration_core.flat.conflicts.bounds import opening, uniform
from calibration_core.flat.conflicts.reach import box as box_of
from calibration_core.flat.conflicts.relaxation import Program, least_error
from calibration_core.flat.conflicts.wording import percent
from calibration_core.flat.constraint_rows import row_structure
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning


@dataclass(frozen=True)
class Diagnosis:
    """What can be said of a problem before solving it.

    Attributes
    ----------
    findings : everything found, what makes it impossible first.
    feasible : whether weights within the bounds (not negative, unless bounds say so) meet every
        target; None if time ran out.
    minimax_error : the smallest possible largest error, relative to each target (in standard errors
        where there are any), over the targets that records support; 0 if they can all be met.
    smallest_bounds : (low, high) on w/d, the narrowest feasible: the problem's own ratio bounds
        widened equally if they are too narrow, else (1, 1) widened equally. None if no ratios
        suffice, if bounds are on weights or differ between records, or if time ran out.
    seconds : wall-clock time.
    """

    findings: tuple[CalibrationWarning, ...]
    feasible: bool | None
    minimax_error: float
    smallest_bounds: tuple[float, float] | None
    seconds: float

    def summary(self) -> str:
        """A few lines for people."""
        head = {
            True: "every target can be met",
            False: "NOT all targets can be met",
            None: "it was not settled whether all targets can be met",
        }
        lines = [f"diagnosis: {head[self.feasible]} ({self.seconds:.3g} s)"]
        if self.minimax_error > 0:
            lines.append(f"  smallest possible largest error {percent(self.minimax_error)}")
        if self.smallest_bounds is not None:
            low, high = self.smallest_bounds
            lines.append(
                f"  narrowest feasible bounds on the weight ratios {math.floor(low * 1e4) / 1e4:g}"
                f" to {math.ceil(high * 1e4) / 1e4:g}"
            )
        return "\n".join(lines + [f"  ! {w.message}" for w in self.findings])


def diagnose(problem: CalibrationProblem, *, seconds: float = 60.0) -> Diagnosis:
    """Look for everything that keeps ``problem`` from being solved, without solving it.

    Parameters
    ----------
    problem : the problem. Weights count as not negative unless its bounds allow negative ones.
    seconds : limit of time for the linear programs; what it cuts short is said in the findings.

    Raises
    ------
    ProblemError : not a CalibrationProblem. SettingsError : ``seconds`` is not above zero.
    """
    if not isinstance(problem, CalibrationProblem):
        raise ProblemError(
            f"diagnose was given a {type(problem).__name__}",
            expected="a CalibrationProblem",
            remedy="CalibrationProblem(matrix, targets, ...)",
        )
    if not seconds > 0:
        raise SettingsError(f"seconds is {seconds!r}", expected="above zero")
    began = time.perf_counter()
    rows = row_structure(problem.matrix, problem.start)
    present = np.sort(np.concatenate([rows.kept, rows.dependent]))
    findings = list(precheck.inspect(problem, rows))
    blocked = any(w.code in precheck.IMPOSSIBLE for w in findings)
    low, high = box_of(problem)
    smallest, bounds, feasible = 0.0, None, not blocked
    if present.size:
        program = Program(problem, present)
        answer = least_error(program, low, high, seconds=seconds)
        # A conflict too small for the linear program to resolve, but found by linear algebra, is a
        # conflict all the same.
        feasible = False if blocked else answer.feasible
        smallest = answer.value if answer.feasible is not True else 0.0
        if answer.feasible is not True:
            findings += feasibility.explain(
                problem, present, (low, high), max(0.1, seconds - (time.perf_counter() - began))
            )
        bounds = _smallest_bounds(problem, program, answer.feasible, findings, began + seconds)
        if bounds is None and time.perf_counter() >= began + seconds:
            text = (
                f"The search for the narrowest feasible bounds was stopped after {seconds:g} s;"
                " allow diagnose more seconds"
            )
            findings.append(CalibrationWarning("check_incomplete", text, size=seconds))
    harmful = [w for w in findings if w.code not in ("zero_weights", "duplicate_targets")]
    harmless = [w for w in findings if w not in harmful]
    return Diagnosis(
        tuple(harmful + harmless), feasible, smallest, bounds, time.perf_counter() - began
    )


def _smallest_bounds(
    problem: CalibrationProblem, program: Program, feasible, findings, deadline: float
) -> tuple[float, float] | None:
    if problem.initial_weights is None:
        return None
    if feasible is True:
        if problem.weight_bounds is not None:
            return None
        found = opening(program, problem.start, problem.start, 1, 1, problem.start, deadline)
        return (
            (max(0.0, 1.0 - found.theta), 1.0 + found.theta)
            if found.complete and math.isfinite(found.theta)
            else None
        )
    pair = uniform(problem)
    opened = [w for w in findings if w.code == "bounds_too_narrow"]
    if (
        pair is None
        or not pair.ratio
        or not opened
        or any(w.code == "check_incomplete" for w in findings)
    ):
        return None
    low = pair.low - opened[0].size
    return max(low, 0.0) if pair.low >= 0 else low, pair.high + opened[0].size
