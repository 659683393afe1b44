"""Which method for which problem: the paper's table of when to use each, read off the problem's own
figures, with reasons.

    situation                                                   method
    5 to 10 categorical margins                                 ipf or linear (chi-square)
    design weights worth keeping                                linear (bounded: logit,
    truncated_linear) or entropy, raking
    thousands of hierarchical, or conflicting, targets          gradient
    learned gates, research comparisons                         hard_concrete, reweighted_l1
    exactly k records, categories only, fast                    cross_category
    exactly k records, amounts or conflicting targets           hybrid

"Sparse Calibration for Microdata Synthesis", section 11. Scores are ranks with gaps, from 0 to 100,
not measurements; zero means that the method does not apply. A reason quotes the figure that it
rests on.

Belongs here: the call, its answer and its words. Does not belong here: the rules
(``method_rules.py``), the figures (``problem_figures.py``), solving.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.api import METHODS
from calibration_core.flat.html import advice_html
from calibration_core.flat.method_rules import (
    Judge,
    RankedMethod,
    counted,
    margins_words,
    range_words,
)
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.problem_figures import MOST_TARGETS, ProblemFigures, figures_of


@dataclass(frozen=True)
class Advice:
    """Every method ranked for one problem.

    Attributes
    ----------
    figures : the facts the ranking rests on.
    ranked : all methods of ``METHODS``, the most suitable first, those that do not apply last.
    """

    figures: ProblemFigures
    ranked: tuple[RankedMethod, ...]

    @property
    def best(self) -> RankedMethod:
        return self.ranked[0]

    def of(self, method: str) -> RankedMethod:
        """What is said of one method."""
        return next(r for r in self.ranked if r.method == method)

    def summary(self) -> str:
        """The figures in a paragraph and the methods as a table, for people."""
        lines = [*_describe(self.figures), ""]
        lines += [
            f"{place}. {r.method:<17} {r.score:>3}  {'; '.join(r.reasons)}"
            for place, r in enumerate((r for r in self.ranked if r.applies), 1)
        ]
        without: dict[str, list[str]] = {}
        for r in self.ranked:
            if not r.applies:
                without.setdefault(r.reasons[0], []).append(r.method)
        lines += ["", "Do not apply:"] if without else []
        lines += [f"   {', '.join(methods)}: {reason}" for reason, methods in without.items()]
        return "\n".join([*lines, "", f"Try: {self.best.call}"])

    __str__ = summary

    def _repr_html_(self) -> str:
        return advice_html(self)


@one_thread()
def advise(
    problem: CalibrationProblem, *, records: int | None = None, preserve_weights: bool | None = None
) -> Advice:
    """Rank the methods for ``problem``, with reasons.

    Parameters
    ----------
    problem : what is to be calibrated.
    records : k, if the answer is to have exactly k records with positive weight; None to keep them
        all.
    preserve_weights : whether the initial weights mean something that is worth keeping; None to
        judge by whether there are any that differ from one another.

    Returns
    -------
    Advice : ``.best`` is the first choice, ``.summary()`` says it in words.

    Raises
    ------
    ProblemError : not a problem, or preserve_weights without initial weights. SettingsError :
        records outside 1 ... records.
    """
    if not isinstance(problem, CalibrationProblem):
        raise ProblemError(
            f"advise was given a {type(problem).__name__}",
            expected="a CalibrationProblem",
            remedy="CalibrationProblem(matrix, targets, ...)",
        )
    n = problem.matrix.records
    whole = isinstance(records, (int, np.integer)) and not isinstance(records, bool)
    if records is not None and not (whole and 1 <= records <= n):
        raise SettingsError(
            f"records is {records!r}",
            expected=f"a whole number from 1 to {n:,}, the records there are",
            remedy="Give the number to keep",
        )
    if preserve_weights and problem.initial_weights is None:
        raise ProblemError(
            "preserve_weights is True, but the problem has no initial weights",
            remedy="Give initial_weights, or leave preserve_weights out",
        )
    figures = figures_of(problem, records)
    keep = figures.weights_vary if preserve_weights is None else preserve_weights
    judged = [Judge(figures, keep).of(name) for name in METHODS]
    order: dict[str, int] = {name: place for place, name in enumerate(METHODS)}
    return Advice(figures, tuple(sorted(judged, key=lambda r: (-r.score, order[r.method]))))


def _describe(f: ProblemFigures) -> list[str]:
    """The figures in a few lines."""
    kinds = [margins_words(f)] if f.margins else []
    named = ((f.totals, "total of all records"), (f.loose_counts, "other 0/1 row"))
    kinds += [counted(n, word) for n, word in (*named, (f.amounts, "amount")) if n]
    examined = f"more than {MOST_TARGETS:,}, so rank and conflicts were not looked at"
    if f.rank is not None:
        examined = f"{f.rank:,} independent"
    nesting = ""
    if f.depth > 1:
        nesting = f"; {f.depth} levels of nesting, {f.nested_rows:,} rows are sums of others"
    keep = "" if f.records_asked is None else f"; {f.records_asked:,} records to keep"
    bounds = "no bounds"
    if f.ratio_range is not None:
        bounds = f"bounds on w/d {range_words(f.ratio_range)}"
    errors = "standard errors given" if f.standard_errors else "no standard errors"
    lines = [
        f"{f.targets:,} targets ({examined}) x {f.records:,} records, {f.density:.1%} of the "
        "entries not zero",
        f"rows: {', '.join(kinds)}{nesting}",
        f"{_weights(f)}; {bounds}; {errors}{keep}",
    ]
    found = [*f.conflicts, *([] if f.infeasible is None else [f.infeasible])]
    return lines + [f"conflict: {w.message}" for w in found]


def _weights(f: ProblemFigures) -> str:
    if not f.weights_given:
        return "no initial weights"
    level = "" if f.level == 1.0 else f", at {1.0 / f.level:.3g} times the level of the targets"
    if f.weights_vary:
        return f"initial weights vary by {f.weight_variation:.0%}{level}"
    return f"initial weights are equal{level}"
