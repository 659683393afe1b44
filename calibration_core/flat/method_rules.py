"""The rules by which methods are ranked for a problem: one class, a rule or two for each method.

Every rule either rules a method out with a reason, or gives it a score from 0 to 100 with reasons;
a reason quotes the figure that it rests on. Scores are ranks with gaps, not measurements.

Belongs here: the rules and their words. Does not belong here: the figures (``problem_figures.py``),
the call and its answer (``advice.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from calibration_core.flat.problem_figures import ProblemFigures

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


_EXACT_SCORES = {
    "ipf": 76,
    "linear": 78,
    "raking": 84,
    "entropy": 74,
    "truncated_linear": 82,
    "logit": 80,
    "raking_bounded": 84,
}


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


class Judge:
    """The rules; every one either rules a method out with a reason or gives it a score with
    reasons.
    """

    def __init__(self, figures: ProblemFigures, keep: bool) -> None:
        self.f, self.keep = figures, keep
        self.sparse = figures.records_asked is not None and figures.records_asked < figures.records
        self.conflict = bool(figures.conflicts) or figures.infeasible is not None
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
        found = self._against_keeping(method) or self._against_bounds(method)
        if found:
            return found
        if method == "ipf" and f.amounts:
            amounts = counted(f.amounts, "amount")
            return f"{margins_words(f)} and {amounts}: it holds rows of zeros and ones only"
        if method == "ipf" and f.q_given:
            return "records have a scale q of their own, which it does not know"
        if method in (*_EXACT, "trim", "relaxed_entropy") and f.targets > _SQUARE_TARGETS:
            return f"needs a square of the {f.targets:,} targets, {8e-9 * f.targets**2:.1f} GB"
        if method == "cross_category" and not f.margins and f.loose_counts == 0:
            return f"no target is a category: {counted(f.amounts, 'amount')} only"
        if method == "relaxed_entropy" and (f.negative_entries or f.least_target < 0):
            return (
                "some contributions or targets are negative, and it reaches a share of each target "
                "from above zero"
            )
        return ""

    def _against_keeping(self, method: str) -> str:
        """Why a method keeps the wrong number of records."""
        f = self.f
        if method in _SPARSE and not self.sparse:
            if f.records_asked is None:
                return "no number of records is asked: advise(problem, records=k)"
            return f"all {f.records:,} records are asked for"
        if self.sparse and method not in _SPARSE:
            return f"keeps all {f.records:,} records, {f.records_asked:,} are asked for"
        return ""

    def _against_bounds(self, method: str) -> str:
        """Why a method does not go with the bounds there are, or are not."""
        f = self.f
        if method in _UNBOUNDED and f.ratio_range is not None:
            return f"holds no bounds, and w/d is to stay within {range_words(f.ratio_range)}"
        if method in _BOUNDED and f.ratio_range is None:
            return "the problem has no bounds"
        if method == "logit" and not f.bounds_enclose_one:
            bounds = range_words(f.ratio_range)
            return f"its bounds must be finite and enclose one for every record; they are {bounds}"
        if method == "trim" and f.ratio_range is None:
            return "needs initial weights and bounds to bring them into"
        if method == "trim" and not f.weights_given:
            return "there are no initial weights to trim"
        return ""

    def _exact(self, method: str) -> tuple[int, list[str], dict]:
        f, settings = self.f, {}
        reasons: list[str] = []
        score = _EXACT_SCORES[method] + self._own_merit(method, reasons)
        score += self._weights_kept(method, reasons)
        if self.conflicts_with(method):
            score -= 40 if method == "ipf" else 30
            reasons.append(f"{self._conflict()}: only a compromise, said to be one")
            settings = {} if method == "ipf" else {"compromise": "minimax"}
        elif self.many:
            score -= 20
            reasons.append(f"{f.targets:,} targets are a system of that size at every step")
        return score, reasons, settings

    def _own_merit(self, method: str, reasons: list[str]) -> int:
        """Points for what an exact method is for, and why."""
        f = self.f
        if method == "linear":
            return self._linear_preference(reasons)
        if method == "ipf":
            few = len(f.margins) <= _FEW_MARGINS
            more = (
                f"; more than {_FEW_MARGINS} margins take many sweeps, raking has the same answer"
            )
            reasons.append(f"{margins_words(f)}, nothing but 0/1 rows{'' if few else more}")
            return 14 if few and f.margins else 0
        if method == "raking":
            amounts = f", holds {counted(f.amounts, 'amount')} with {margins_words(f)}"
            reasons.append(f"exact and positive{amounts if f.amounts else ', the limit of ipf'}")
            return 0
        if method == "entropy":
            floats = not (f.totals or f.margins)
            held = "the same as raking here: targets hold the sum of weights already"
            reasons.append("holds the sum of weights, which no target does" if floats else held)
            return 12 if floats else 0
        how = {"logit": ", strictly", "truncated_linear": ", weights may sit on a bound"}
        reasons.append(f"holds w/d within {range_words(f.ratio_range)}{how.get(method, '')}")
        return 0

    def _weights_kept(self, method: str, reasons: list[str]) -> int:
        """Points for staying near the initial weights, and why."""
        f = self.f
        if self.keep:
            vary = (
                f"stays as near as can be to initial weights that vary by {f.weight_variation:.0%}"
            )
            reasons.append(vary if f.weights_vary else "stays near the initial weights")
            return 4
        if method in ("linear", "truncated_linear"):
            given = "the initial weights are not said to be worth keeping"
            reasons.append(given if f.weights_given else "no initial weights to stay near")
            return -10
        none = "no initial weights to keep: the most even weights that meet the targets"
        reasons.append("equal weights stay as even as can be" if f.weights_given else none)
        return 0

    def _linear_preference(self, reasons: list[str]) -> int:
        f = self.f
        if f.linear_negative is None or f.linear_ratios is None:
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
            reasons.append(f"holds w/d within {range_words(f.ratio_range)}")
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
                f"cuts the initial weights to w/d within {range_words(f.ratio_range)}, then holds"
                " the"
                " totals; for weights that are calibrated already"
            ],
            {},
        )

    def _budget(self, reasons: list[str]) -> int:
        """Points off, and the reason, where k is below what the targets need."""
        f, k = self.f, self.f.records_asked
        needed = f.rank if f.rank is not None else f.targets
        if k is None:
            return 0
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
                margins_words(f) + ", no amounts"
                if f.categorical_only
                else f"{counted(f.amounts, 'amount')} come second to {margins_words(f)}"
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
            + (f", {counted(f.amounts, 'amount')} among them" if f.amounts else "")
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

    def conflicts_with(self, method: str) -> bool:
        """Whether targets cannot all be met by the weights of a method; those of linear may be
        negative.
        """
        return bool(self.f.conflicts) if method == "linear" else self.conflict

    def _conflict(self) -> str:
        names, size = self.f.conflicting_targets, self.f.largest_conflict
        if not names:
            return f"the targets cannot all be met (off by {100 * size:.3g} % each)"
        if len(names) == 1:
            return f"target {names[0]!r} cannot be met"
        off = f" (off by {100 * size:.3g} %)" if size == size else ""
        return f"{counted(len(names), 'target')} cannot all be met{off}"


def margins_words(f: ProblemFigures) -> str:
    """3 margins of 2 to 5 levels."""
    if not f.margins:
        return "no margins"
    least, most = min(f.margins), max(f.margins)
    levels = f"{least}" if least == most else f"{least} to {most}"
    return f"{counted(len(f.margins), 'margin')} of {levels} levels"


def counted(number: int, word: str) -> str:
    """1 amount, 2 amounts, 2 totals of all records."""
    if number == 1:
        return f"1 {word}"
    first, space, rest = word.partition(" of ")
    return f"{number:,} {first}s{space}{rest}"


def range_words(bounds: tuple[float, float] | None) -> str:
    """0.5 to 2."""
    if bounds is None:
        return "no bounds"
    return f"{bounds[0]:.4g} to {bounds[1]:.4g}"
