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

Belongs here: the rules and their words. Does not belong here: the figures (``problem_figures.py``),
solving.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.api import METHODS
from calibration_core.flat.html import advice_html
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.problem_figures import MOST_TARGETS, ProblemFigures, figures_of

# What the paper calls a simple calibration, and what it calls thousands of targets.
_FEW_MARGINS = 10
_MANY_TARGETS = 1_000
# Dense methods with a square of the targets in memory stop being sensible here: 8 bytes x 10,000^2
# are 0.8 GB.
_SQUARE_TARGETS = 10_000

_SPARSE = ("hybrid", "cross_category", "hard_concrete", "reweighted_l1", "random_subset")
_BOUNDED = ("truncated_linear", "logit", "raking_bounded")
_UNBOUNDED = ("ipf", "linear", "raking", "entropy")
_EXACT = (*_UNBOUNDED, *_BOUNDED)


@dataclass(frozen=True)
class RankedMethod:
    """A method, its score (0: does not apply), why, and the call to paste (empty if it does not
    apply).
    """

    method: str
    score: int
    reasons: tuple[str, ...]
    call: str

    @property
    def applies(self) -> bool:
        return self.score > 0


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
    judged = [_Judge(figures, keep).of(name) for name in METHODS]
    order = {name: place for place, name in enumerate(METHODS)}
    return Advice(figures, tuple(sorted(judged, key=lambda r: (-r.score, order[r.method]))))


class _Judge:
    """The rules; every one either rules a method out with a reason or gives it a score with
    reasons.
    """

    def __init__(self, figures: ProblemFigures, keep: bool) -> None:
        self.f, self.keep = figures, keep
        self.sparse = figures.records_asked is not None and figures.records_asked < figures.records
        self.conflict = bool(figures.conflicts)
        self.many = figures.targets >= _MANY_TARGETS
        self.hierarchical = figures.depth >= 3

    def of(self, method: str) -> RankedMethod:
        against = self.against(method)
        if against:
            return RankedMethod(method, 0, (against,), "")
        score, reasons, settings = (
            getattr(self, f"_{method}")() if hasattr(self, f"_{method}") else self._exact(method)
        )
        call = (
            f"calibrate(problem, {method!r}{''.join(f', {k}={v!r}' for k, v in settings.items())})"
        )
        return RankedMethod(method, max(1, min(100, score)), tuple(reasons), call)

    def against(self, method: str) -> str:
        """Why a method does not apply, or nothing."""
        f = self.f
        if method in _SPARSE and not self.sparse:
            return (
                "no number of records is asked: advise(problem, records=k)"
                if f.records_asked is None
                else f"all {f.records:,} records are asked for"
            )
        if self.sparse and method not in _SPARSE:
            return f"keeps all {f.records:,} records, {f.records_asked:,} are asked for"
        if method == "ipf" and f.amounts:
            return (
                f"{_margins(f)} and {_count(f.amounts, 'amount')}: it holds rows of zeros and ones"
                " only"
            )
        if method == "ipf" and f.q_given:
            return "records have a scale q of their own, which it does not know"
        if method in _UNBOUNDED and f.ratio_range is not None:
            return f"holds no bounds, and w/d is to stay within {_range(f.ratio_range)}"
        if method in _BOUNDED and f.ratio_range is None:
            return "the problem has no bounds"
        if method == "logit" and not f.bounds_enclose_one:
            return (
                "its bounds must be finite and enclose one for every record; they are"
                f" {_range(f.ratio_range)}"
            )
        if method == "trim" and (f.ratio_range is None or not f.weights_given):
            return (
                "needs initial weights and bounds to bring them into"
                if f.ratio_range is None
                else "there are no initial weights to trim"
            )
        if method in (*_EXACT, "trim", "relaxed_entropy") and f.targets > _SQUARE_TARGETS:
            return f"needs a square of the {f.targets:,} targets, {8e-9 * f.targets**2:.1f} GB"
        if method == "cross_category" and not f.margins and f.loose_counts == 0:
            return f"no target is a category: {_count(f.amounts, 'amount')} only"
        if method == "relaxed_entropy" and (f.negative_entries or f.least_target < 0):
            return (
                "some contributions or targets are negative, and it reaches a share of each target"
                " from above zero"
            )
        return ""

    def _exact(self, method: str) -> tuple[int, list[str], dict]:
        f = self.f
        score = {
            "ipf": 76,
            "linear": 78,
            "raking": 84,
            "entropy": 74,
            "truncated_linear": 82,
            "logit": 80,
            "raking_bounded": 84,
        }[method]
        reasons, settings = [], {}
        if method == "ipf":
            few = len(f.margins) <= _FEW_MARGINS
            score += 14 if few and f.margins else 0
            reasons.append(
                f"{_margins(f)}, nothing but 0/1 rows"
                + (
                    ""
                    if few
                    else (
                        f"; more than {_FEW_MARGINS} margins take many sweeps, raking has the same"
                        " answer"
                    )
                )
            )
        elif method == "linear":
            score += self._linear_preference(reasons)
        elif method == "raking":
            reasons.append(
                "exact and positive"
                + (
                    f", holds {_count(f.amounts, 'amount')} with {_margins(f)}"
                    if f.amounts
                    else ", the limit of ipf"
                )
            )
        elif method == "entropy":
            floats = not (f.totals or f.margins)
            score += 12 if floats else 0
            reasons.append(
                "holds the sum of weights, which no target does"
                if floats
                else "the same as raking here: targets hold the sum of weights already"
            )
        else:
            reasons.append(
                f"holds w/d within {_range(f.ratio_range)}"
                + {"logit": ", strictly", "truncated_linear": ", weights may sit on a bound"}.get(
                    method, ""
                )
            )
        if self.keep:
            score += 4
            reasons.append(
                f"stays as near as can be to initial weights that vary by {f.weight_variation:.0%}"
                if f.weights_vary
                else "stays near the initial weights"
            )
        elif method in ("linear", "truncated_linear"):
            score -= 10
            reasons.append(
                "no initial weights to stay near"
                if not f.weights_given
                else "the initial weights are not said to be worth keeping"
            )
        else:
            reasons.append(
                "no initial weights to keep: the most even weights that meet the targets"
                if not f.weights_given
                else "equal weights stay as even as can be"
            )
        if self.conflict:
            score -= 40 if method == "ipf" else 30
            reasons.append(f"{self._conflict()}: only a compromise, said to be one")
            settings = {} if method == "ipf" else {"compromise": "minimax"}
        elif self.many:
            score -= 20
            reasons.append(f"{f.targets:,} targets are a system of that size at every step")
        return score, reasons, settings

    def _linear_preference(self, reasons: list[str]) -> int:
        f = self.f
        if f.linear_negative is None:
            reasons.append("exact, one linear system")
            return 0
        low, high = f.linear_ratios
        if f.linear_negative:
            reasons.append(
                f"exact in one step, but {f.linear_negative:,} of {f.records:,} weights would be"
                " negative"
            )
            return -24
        reasons.append(
            f"exact in one step, every weight stays positive (w/d {low:.3g} to {high:.3g})"
        )
        return 9 if self.keep else 4

    def _gradient(self) -> tuple[int, list[str], dict]:
        f, score, reasons = self.f, 50, []
        if self.conflict:
            score += 42
            reasons.append(f"{self._conflict()}: it finds the trade-off")
        if self.many:
            score += 34
            reasons.append(f"{f.targets:,} targets")
        if self.hierarchical:
            score += 8
            reasons.append(
                f"{f.depth} levels of nested rows, {f.nested_rows:,} of which are sums of others"
            )
        if f.standard_errors:
            score += 6
            reasons.append("targets carry standard errors, by which it can weigh them")
        if not f.weights_given:
            score += 8
            reasons.append("no initial weights to preserve")
        return (
            score,
            reasons
            or [
                "one loss for all targets, but nothing here conflicts: an exact method meets all of"
                " them"
            ],
            {},
        )

    def _relaxed_entropy(self) -> tuple[int, list[str], dict]:
        f, score, reasons = self.f, 45, []
        if self.conflict:
            score += 30
            reasons.append(f"{self._conflict()}: each target gives way by its importance")
        if f.ratio_range is not None:
            score += 4
            reasons.append(f"holds w/d within {_range(f.ratio_range)}")
        return (
            score,
            reasons or ["every target gives way a little; an exact method meets all of them"],
            {},
        )

    def _trim(self) -> tuple[int, list[str], dict]:
        f = self.f
        return (
            40,
            [
                f"cuts the initial weights to w/d within {_range(f.ratio_range)}, then holds the"
                " totals; for weights that are calibrated already"
            ],
            {},
        )

    def _budget(self, reasons: list[str]) -> int:
        """Points off, and the reason, where k is below what the targets need."""
        f, k = self.f, self.f.records_asked
        needed = f.rank if f.rank is not None else f.targets
        if k < needed:
            reasons.append(
                f"k = {k:,} is below the {needed:,} independent targets, which must be traded off"
            )
            return 1
        if k < 2 * needed:
            reasons.append(
                f"k = {k:,} is less than twice the {needed:,} independent targets: which records"
                " are kept matters"
            )
        return 0

    def _cross_category(self) -> tuple[int, list[str], dict]:
        f, reasons = self.f, []
        score = 92 if f.categorical_only else 62
        reasons.append(
            f"exactly {f.records_asked:,} records, fast; "
            + (
                _margins(f) + ", no amounts"
                if f.categorical_only
                else f"{_count(f.amounts, 'amount')} come second to {_margins(f)}"
            )
        )
        score -= 12 * self._budget(reasons)
        if self.conflict:
            score -= 15
            reasons.append(f"{self._conflict()}: its refit has no trade-off by loss")
        return score, reasons, {"records": f.records_asked}

    def _hybrid(self) -> tuple[int, list[str], dict]:
        f, reasons = self.f, []
        score = 84 if f.categorical_only else 92
        reasons.append(
            f"exactly {f.records_asked:,} records across categories, then refined on all"
            f" {f.targets:,} targets"
            + (f", {_count(f.amounts, 'amount')} among them" if f.amounts else "")
        )
        self._budget(reasons)
        if self.conflict:
            score += 6
            reasons.append(f"{self._conflict()}: the refinement finds the trade-off")
        return score, reasons, {"records": f.records_asked}

    def _hard_concrete(self) -> tuple[int, list[str], dict]:
        reasons = ["learns which records to keep, in many epochs; for research and comparison"]
        return 50 + 4 * self._budget(reasons), reasons, {"records": self.f.records_asked}

    def _reweighted_l1(self) -> tuple[int, list[str], dict]:
        reasons = [
            "learns which records to keep, by a sequence of convex problems; for research and"
            " comparison"
        ]
        return 48 + 8 * self._budget(reasons), reasons, {"records": self.f.records_asked}

    def _random_subset(self) -> tuple[int, list[str], dict]:
        reasons = ["a draw at random, then a refit: what any selection is to be compared with"]
        return 20 - 5 * self._budget(reasons), reasons, {"records": self.f.records_asked}

    def _conflict(self) -> str:
        names = self.f.conflicting_targets
        size = (
            f" (off by {100 * self.f.largest_conflict:.3g} %)"
            if self.f.largest_conflict == self.f.largest_conflict
            else ""
        )
        return (
            f"{_count(len(names), 'target')} cannot all be met{size}"
            if len(names) > 1
            else f"target {names[0]!r} cannot be met"
        )


def _describe(f: ProblemFigures) -> list[str]:
    kinds = [_margins(f)] if f.margins else []
    kinds += [
        _count(n, word)
        for n, word in (
            (f.totals, "total of all records"),
            (f.loose_counts, "other 0/1 row"),
            (f.amounts, "amount"),
        )
        if n
    ]
    weights = (
        f"initial weights vary by {f.weight_variation:.0%}"
        if f.weights_vary
        else "initial weights are equal"
        if f.weights_given
        else "no initial weights"
    )
    examined = (
        f"{f.rank:,} independent"
        if f.rank is not None
        else f"more than {MOST_TARGETS:,}, so rank and conflicts were not looked at"
    )
    bounds = f"bounds on w/d {_range(f.ratio_range)}" if f.ratio_range is not None else "no bounds"
    lines = [
        (
            f"{f.targets:,} targets ({examined}) x {f.records:,} records, {f.density:.1%} of the"
            " entries not zero"
        ),
        f"rows: {', '.join(kinds)}"
        + (
            f"; {f.depth} levels of nesting, {f.nested_rows:,} rows are sums of others"
            if f.depth > 1
            else ""
        ),
        f"{weights}; {bounds};"
        f" {'standard errors given' if f.standard_errors else 'no standard errors'}"
        + (f"; {f.records_asked:,} records to keep" if f.records_asked is not None else ""),
    ]
    return lines + [f"conflict: {w.message}" for w in f.conflicts]


def _margins(f: ProblemFigures) -> str:
    if not f.margins:
        return "no margins"
    levels = (
        f"{min(f.margins)}"
        if min(f.margins) == max(f.margins)
        else f"{min(f.margins)} to {max(f.margins)}"
    )
    return f"{_count(len(f.margins), 'margin')} of {levels} levels"


def _count(number: int, word: str) -> str:
    return (
        f"{number:,}"
        f" {word if number == 1 else word.replace('total of', 'totals of') if word.startswith('total') else word + 's'}"
    )


def _range(bounds: tuple[float, float]) -> str:
    return f"{bounds[0]:.4g} to {bounds[1]:.4g}"
