"""The front door: one call for every method, found by name.

    from calibration_core import CalibrationProblem, calibrate
    result = calibrate(CalibrationProblem(matrix, targets, weights), method="raking")
    print(result.summary())

Belongs here: the table of methods and the call. Does not belong here: any numerics.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
from collections.abc import Callable
from typing import Any, Literal, Unpack, overload

from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.options import (
    CrossCategoryOptions,
    EntropyOptions,
    ExactOptions,
    GradientOptions,
    HardConcreteOptions,
    HybridOptions,
    Method,
    RandomSubsetOptions,
    RelaxedEntropyOptions,
    ReweightedL1Options,
    TrimOptions,
)
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult
from calibration_core.flat.standard_form import as_given, standard_form

# name -> what it is for, in a line. Modules of methods/ are imported when they are asked for: some
# need torch, which is slow to load.
METHODS: dict[Method, str] = {
    "ipf": "categorical margins, by iterative proportional fitting",
    "linear": "GREG / chi-square, exact in one step; weights may turn negative",
    "truncated_linear": "chi-square with bounds",
    "logit": "Deville and Sarndal's logit, ratios strictly within bounds",
    "raking": "exact Kullback-Leibler, margins and amounts",
    "raking_bounded": "Kullback-Leibler with bounds",
    "entropy": "entropy balancing: Kullback-Leibler with the total held, for moments",
    "relaxed_entropy": (
        "maximum entropy in which each target gives way by its importance, with bounds"
    ),
    "gradient": "the best trade-off among conflicting targets: relative, Huber or capped loss",
    "hard_concrete": "learned L0 gates, then a refit on exactly the records asked for",
    "reweighted_l1": "sparse by reweighted L1, then a refit on exactly the records asked for",
    "random_subset": (
        "exactly k records at random, then calibrated: the baseline for sparse methods"
    ),
    "cross_category": "exactly k records drawn across categories, then calibrated",
    "hybrid": (
        "cross-category selection, then refinement of all targets: the default for sparse files"
    ),
    "trim": "weights brought within bounds, totals kept",
}

# Told (iteration, loss or largest relative error) while a method works.
Progress = Callable[[int, float], None]

# Methods that choose records: what they choose must not hang on how the caller's table is sorted.
_CHOOSE_RECORDS = frozenset(
    ("hard_concrete", "reweighted_l1", "random_subset", "cross_category", "hybrid")
)

# Names that other software and the literature use for some of them: only to suggest ours.
_OTHER_NAMES = {
    **dict.fromkeys(("greg", "chi_square", "chi-square", "chi2", "gls"), "linear"),
    **dict.fromkeys(("kl", "rake", "multiplicative", "exponential"), "raking"),
    **dict.fromkeys(("ebal", "entropy_balancing", "maxent"), "entropy"),
    **dict.fromkeys(("adam", "lbfgs", "l-bfgs", "sgd", "torch"), "gradient"),
    **dict.fromkeys(("l0", "hardconcrete"), "hard_concrete"),
    **dict.fromkeys(("l1", "irl1", "lasso"), "reweighted_l1"),
    **dict.fromkeys(("truncated", "linear_bounded", "bounded"), "truncated_linear"),
    **dict.fromkeys(("trimcal", "trimming"), "trim"),
    **dict.fromkeys(("random", "thinning"), "random_subset"),
}


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal[
        "ipf", "linear", "truncated_linear", "logit", "raking", "raking_bounded"
    ] = "raking",
    *,
    progress: Progress | None = None,
    **settings: Unpack[ExactOptions],
) -> CalibrationResult: ...


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal["entropy"],
    *,
    progress: Progress | None = None,
    **settings: Unpack[EntropyOptions],
) -> CalibrationResult: ...


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal["relaxed_entropy"],
    *,
    progress: Progress | None = None,
    **settings: Unpack[RelaxedEntropyOptions],
) -> CalibrationResult: ...


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal["gradient"],
    *,
    progress: Progress | None = None,
    **settings: Unpack[GradientOptions],
) -> CalibrationResult: ...


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal["hard_concrete"],
    *,
    progress: Progress | None = None,
    **settings: Unpack[HardConcreteOptions],
) -> CalibrationResult: ...


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal["reweighted_l1"],
    *,
    progress: Progress | None = None,
    **settings: Unpack[ReweightedL1Options],
) -> CalibrationResult: ...


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal["random_subset"],
    *,
    progress: Progress | None = None,
    **settings: Unpack[RandomSubsetOptions],
) -> CalibrationResult: ...


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal["cross_category"],
    *,
    progress: Progress | None = None,
    **settings: Unpack[CrossCategoryOptions],
) -> CalibrationResult: ...


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal["hybrid"],
    *,
    progress: Progress | None = None,
    **settings: Unpack[HybridOptions],
) -> CalibrationResult: ...


@overload
def calibrate(
    problem: CalibrationProblem,
    method: Literal["trim"],
    *,
    progress: Progress | None = None,
    **settings: Unpack[TrimOptions],
) -> CalibrationResult: ...


def calibrate(
    problem: CalibrationProblem,
    method: str = "raking",
    *,
    progress: Progress | None = None,
    **settings: Any,
) -> CalibrationResult:
    """Calibrate ``problem`` by ``method``.

    Parameters
    ----------
    problem : what to calibrate to what.
    method : a name in ``METHODS``; ``advise(problem)`` ranks them for a problem.
    progress : called with (iteration, loss or largest relative error) while it works.
    settings : fields of the method's ``Settings``; ``settings_of(method)`` lists them with their
        defaults.

    Returns
    -------
    CalibrationResult : read ``converged`` and ``warnings`` before the weights.

    Raises
    ------
    SettingsError : unknown method or setting, or a setting of the wrong type or out of range.
    ProblemError : the problem does not fit the method.
    InfeasibleError : only with ``strict=True``: the targets cannot all be met.
    """
    if not isinstance(problem, CalibrationProblem):
        raise ProblemError(
            f"calibrate was given a {type(problem).__name__}",
            expected="a CalibrationProblem",
            remedy="CalibrationProblem(matrix, targets, ...)",
        )
    module = _module(method)
    names = [f.name for f in dataclasses.fields(module.Settings)]
    for name in settings:
        if name not in names:
            close = difflib.get_close_matches(name, names, 1)
            hint = (
                f"Did you mean {close[0]!r}?"
                if close
                else f"Settings of {method}: {', '.join(names)}"
            )
            raise SettingsError(
                f"{method!r} has no setting {name!r}",
                expected=f"one of {', '.join(names)}",
                remedy=hint,
            )
    chosen, facts = module.Settings(**settings), {}
    with one_thread():
        if hasattr(module, "prepare"):
            problem, facts = module.prepare(problem, chosen)
        form = standard_form(problem, ordered=method in _CHOOSE_RECORDS)
        result = as_given(module.run(form, chosen, progress), problem)
    return dataclasses.replace(result, details={**result.details, **facts}) if facts else result


def settings_of(method: str):
    """The frozen settings object of a method with its defaults; its class documents every field."""
    return _module(method).Settings()


def _module(method: str):
    if method not in METHODS:
        known = _OTHER_NAMES.get(str(method).lower())
        close = [known] if known else difflib.get_close_matches(str(method), METHODS, 1)
        hint = f"Did you mean {close[0]!r}?" if close else "advise(problem) ranks them"
        raise SettingsError(
            f"There is no method {method!r}", expected=f"one of {', '.join(METHODS)}", remedy=hint
        )
    return importlib.import_module(f"calibration_core.flat.methods.{method}")
