"""A known answer as a calibration problem, and our solution of it.

Belongs here: which method with which settings solves a case. Does not belong here: reading files
(``case_files.py``), comparing (``known_answers.py``).
"""

from __future__ import annotations

import dataclasses

import numpy as np

from benchmarks.case_files import Case, Part
from calibration_core import CalibrationProblem, CalibrationResult, calibrate, settings_of

# What a bounded case of a method that holds no bounds is solved by.
_BOUNDED = {
    "linear": "truncated_linear",
    "raking": "raking_bounded",
    "ipf": "raking_bounded",
    "entropy": "raking_bounded",
}


# The part of an infinite upper bound in the logit curve: a ratio differs from the limit by its own
# size over this.
_LOGIT_INFINITY = 1e10


def problem_of(case: Case, part: Part) -> CalibrationProblem:
    """The case, or one area of it, as a calibration problem. A weight column of zeros counts as no
    initial weights.
    """
    low, high = part.low, part.high
    bounds: dict = {}
    if low is not None and (np.isfinite(low).any() or np.isfinite(high).any()):
        # The project asks for finite lower ends. Far below any weight is as good as none.
        far = -1e6 * max(float(np.abs(part.initial).max()), 1.0) if case.bounds_on_weights else -1e6
        floor = far if case.distance == "truncated_linear" or case.distance == "linear" else 0.0
        low = np.where(np.isneginf(low), floor, low)
        if case.distance == "logit":
            high = np.where(
                np.isposinf(high),
                _LOGIT_INFINITY * (part.initial if case.bounds_on_weights else 1.0),
                high,
            )
        bounds = {"weight_bounds" if case.bounds_on_weights else "ratio_bounds": (low, high)}
    initial = part.initial if (part.initial > 0).any() else None
    return CalibrationProblem(
        part.matrix, part.targets, initial, q=part.q, target_names=case.constraints, **bounds
    )


def method_of(case: Case, problem: CalibrationProblem) -> str:
    """The method that solves a case: its distance, or the bounded form of it, or raking where IPF
    cannot go (its answer is the same).
    """
    if problem.bounded:
        return _BOUNDED.get(case.distance, case.distance)
    if case.distance in ("truncated_linear", "raking_bounded", "logit"):
        # Without a bound on either side the truncated and logit curves are the plain ones.
        return "linear" if case.distance == "truncated_linear" else "raking"
    if case.distance == "ipf" and (
        problem.q is not None or not np.isin(_values(problem), (0.0, 1.0)).all()
    ):
        return "raking"
    return case.distance


def _values(problem: CalibrationProblem) -> np.ndarray:
    stored = problem.matrix.by_record
    return stored.data if problem.matrix.is_sparse else stored


def settings_for(case: Case, method: str) -> dict:
    """Settings that the case's own words ask for."""
    text = case.method.lower()
    if method == "trim":
        kept = case.content.get(
            "keep_totals", "trimcal" in text or "totals held" in text or "totals kept" in text
        )
        strict = case.content.get(
            "strict", "strict=false" not in text.replace(" ", "") and "not strict" not in text
        )
        distance = "raking" if "raking" in text else "linear"
        return {
            "keep_totals": bool(kept),
            "repeat": bool(strict),
            "spread": "proportional" if "proportion" in text else "equal",
            "distance": distance,
        }
    if method == "entropy":
        total = case.content.get("total", case.content.get("sum_w"))
        return {} if total is None or len(case.parts) > 1 else {"total": float(total)}
    if method == "relaxed_entropy":
        wanted = {
            "importance": case.importance,
            "algorithm": "list_balancing",
            "master": None if case.master is None else case.constraints[case.master],
        }
        known = {f.name for f in dataclasses.fields(settings_of("relaxed_entropy"))}
        return {
            name: value for name, value in wanted.items() if name in known and value is not None
        }
    return {}


def solve(case: Case, part: Part) -> tuple[str, CalibrationResult]:
    """(method, result) of one part, without the constraints that the producing run did not hold."""
    problem = problem_of(case, part)
    method = method_of(case, problem)
    settings = settings_for(case, method)
    if case.unheld:
        held = np.array([j for j, name in enumerate(case.constraints) if name not in case.unheld])
        problem = problem.take_targets(held)
        if settings.get("importance") is not None:
            settings["importance"] = settings["importance"][held]
    return method, calibrate(problem, method, **settings)
