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

from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.conflicts import feasibility, precheck
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.conflicts.bounds import opening, uniform
from calibration_core.flat.conflicts.relaxation import GAP, Program
from calibration_core.flat.conflicts.wording import percent
from calibration_core.flat.html import diagnosis_html
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning
from calibration_core.flat.standard_form import standard_form


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

    @property
    def verdict(self) -> str:
        """``feasible`` in words."""
        words = {
            True: "every target can be met",
            False: "NOT all targets can be met",
            None: "it was not settled whether all targets can be met",
        }
        return words[self.feasible]

    def _repr_html_(self) -> str:
        return diagnosis_html(self)

    def summary(self) -> str:
        """A few lines for people."""
        lines = [f"diagnosis: {self.verdict} ({self.seconds:.3g} s)"]
        if self.minimax_error > 0:
            lines.append(f"  smallest possible largest error {percent(self.minimax_error)}")
        if self.smallest_bounds is not None:
            low, high = self.smallest_bounds
            lines.append(
                f"  narrowest feasible bounds on the weight ratios {math.floor(low * 1e4) / 1e4:g}"
                f" to {math.ceil(high * 1e4) / 1e4:g}"
            )
        return "\n".join(lines + [f"  ! {w.message}" for w in self.findings])


@one_thread()
def diagnose(
    problem: CalibrationProblem, *, seconds: float = 60.0, tolerance: float = LEAST_TOLERANCE
) -> Diagnosis:
    """Look for everything that keeps ``problem`` from being solved, without solving it.

    Parameters
    ----------
    problem : the problem. Weights count as not negative unless its bounds allow negative ones.
    seconds : limit of time for the linear programs; what it cuts short is said in the findings.
    tolerance : relative error within which a target counts as met; the exact methods have the same
        setting and the same default, and come to the same verdict.

    Raises
    ------
    ProblemError : not a CalibrationProblem. SettingsError : ``seconds`` is not above zero, or
        ``tolerance`` not between 0 and 0.01.
    """
    if not isinstance(problem, CalibrationProblem):
        raise ProblemError(
            f"diagnose was given a {type(problem).__name__}",
            expected="a CalibrationProblem",
            remedy="CalibrationProblem(matrix, targets, ...)",
        )
    if not seconds > 0:
        raise SettingsError(f"seconds is {seconds!r}", expected="above zero")
    if not 0 < tolerance <= 1e-2:
        raise SettingsError(f"tolerance is {tolerance!r}", expected="above 0, at most 0.01")
    began = time.perf_counter()
    problem = standard_form(problem)
    seen = precheck.look(problem, tolerance=tolerance)
    findings, rows = list(seen.findings), seen.supported
    smallest, bounds = 0.0, None
    feasible: bool | None = not seen.blocking
    if rows.size:
        verdict = feasibility.judge(
            seen.problem, rows, seen.box, tolerance=tolerance, seconds=seconds, gap=GAP
        )
        # What linear algebra has found is told even where the program cannot resolve it.
        feasible = False if seen.blocking else verdict.feasible
        smallest = verdict.error
        findings += verdict.findings
        if problem.initial_weights is not None:
            # Bounds are told as the caller would give them: for all his records, those that can
            # only weigh zero too.
            program = Program(problem, rows, tolerance)
            deadline = began + seconds
            bounds = _smallest_bounds(program, verdict.feasible, findings, deadline)
        if bounds is None and time.perf_counter() >= began + seconds:
            text = (
                f"The search for the narrowest feasible bounds was stopped after {seconds:g} s; "
                "allow diagnose more seconds"
            )
            findings.append(CalibrationWarning("check_incomplete", text, size=seconds))
    harmful = [w for w in findings if w.code not in _HARMLESS]
    harmless = [w for w in findings if w.code in _HARMLESS]
    return Diagnosis(
        tuple(harmful + harmless), feasible, smallest, bounds, time.perf_counter() - began
    )


_HARMLESS = ("records_emptied", "records_cancel", "zero_weights", "duplicate_targets")


def _smallest_bounds(
    program: Program, feasible: bool | None, findings, deadline: float
) -> tuple[float, float] | None:
    problem = program.problem
    if feasible is True:
        return None if problem.weight_bounds is not None else _around_one(program, deadline)
    pair = uniform(problem)
    opened = [w for w in findings if w.code == "bounds_too_narrow"]
    cut = any(w.code == "check_incomplete" for w in findings)
    if pair is None or not pair.ratio or not opened or cut:
        return None
    low = pair.low - opened[0].size
    return max(low, 0.0) if pair.low >= 0 else low, pair.high + opened[0].size


def _around_one(program: Program, deadline: float) -> tuple[float, float] | None:
    """The narrowest ratio bounds around one; None if time ran out or none suffice."""
    start = program.problem.start
    found = opening(program, start, start, 1, 1, start, deadline)
    if not found.complete or not math.isfinite(found.theta):
        return None
    return max(0.0, 1.0 - found.theta), 1.0 + found.theta
