"""What can be seen before solving, at the cost of a pass or two over the matrix: unsupported
targets, rows and margins that disagree, targets out of reach one at a time, records that cannot
take part.

Belongs here: cheap looks at rows, targets and bounds, in words. Does not belong here: linear
programs (``relaxation.py``), whether dependent targets agree (``agreement.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.flat.conflicts import margins
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE, Agreement, agreement
from calibration_core.flat.conflicts.reach import Box, reach
from calibration_core.flat.conflicts.reach import box as box_of
from calibration_core.flat.conflicts.wording import capital, family, number, percent, quoted
from calibration_core.flat.constraint_rows import RowStructure, row_structure
from calibration_core.flat.implied_zeros import Implied, implied_zeros
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning

# Codes of findings under which no weights meet every target, and those of them that concern targets
# which records do support.
IMPOSSIBLE_TOGETHER = frozenset(
    (
        "margin_totals_disagree",
        "dependent_targets_disagree",
        "outside_reach",
        "part_exceeds_whole",
        "lower_bound_above_zero",
    )
)
IMPOSSIBLE = IMPOSSIBLE_TOGETHER | {"unsupported_target"}

# Findings of one kind that get a sentence each; the others share one.
_SPELT_OUT = 5
# The tolerance of the exact methods, where a caller has none.
TOLERANCE = 1e-9


@dataclass(frozen=True, eq=False)
class Seen:
    """What was seen of one problem.

    Attributes
    ----------
    findings : in words, the impossible ones first.
    problem : what is left to solve: initial weights are zero where weights can only be zero.
    rows, agreement : its rows sorted out, and whether their targets agree.
    box : (low, high) on its weights.
    """

    findings: tuple[CalibrationWarning, ...]
    problem: CalibrationProblem
    rows: RowStructure
    agreement: Agreement
    box: Box

    @property
    def blocking(self) -> list[CalibrationWarning]:
        """Findings under which no weights meet every target."""
        return [w for w in self.findings if w.code in IMPOSSIBLE]

    @property
    def harmless(self) -> list[CalibrationWarning]:
        """The others."""
        return [w for w in self.findings if w.code not in IMPOSSIBLE]

    @property
    def together(self) -> bool:
        """Whether, as far as was seen, the targets that records support can be met together."""
        return not any(w.code in IMPOSSIBLE_TOGETHER for w in self.findings)

    @property
    def supported(self) -> np.ndarray:
        """Indices of the targets that records support, ascending."""
        return np.sort(np.concatenate([self.rows.kept, self.rows.dependent]))


def inspect(
    problem: CalibrationProblem, box: Box | None = None, tolerance: float = TOLERANCE
) -> tuple[CalibrationWarning, ...]:
    """The findings of ``look`` alone."""
    return look(problem, box, tolerance).findings


def look(problem: CalibrationProblem, box: Box | None = None, tolerance: float = TOLERANCE) -> Seen:
    """Look at the problem as it stands.

    Parameters
    ----------
    problem : what is to be calibrated.
    box : (low, high) on the weights, each (records,), as ``reach.box`` gives for a method; None for
        the bounds of the problem, and weights that are not negative.
    tolerance : relative error within which a target counts as met.

    Codes: ``unsupported_target``, ``margin_totals_disagree``, ``dependent_targets_disagree``
    (duplicates too), ``part_exceeds_whole``, ``lower_bound_above_zero``, ``outside_reach``; and,
    harmless, ``records_emptied``, ``records_cancel``, ``duplicate_targets`` (agreeing duplicates),
    ``zero_weights``. Agreeing dependent rows, which any two margins have, are not worth a word.
    ``size`` is a relative difference, except for counts.
    """
    box = box_of(problem) if box is None else box
    rows = row_structure(problem.matrix, problem.start)
    tolerance = max(tolerance, LEAST_TOLERANCE)
    implied = _implied(problem, box[0], tolerance, rows)
    left = without(problem, [f.records for f in implied])
    if left is not problem:
        rows = row_structure(left.matrix, left.start)
        low, high = (np.where(left.start > 0, end, 0.0) for end in box)
        box = low, high
    agreed = agreement(left, rows, tolerance)
    zeros = [f.warning for f in implied]
    findings = [
        *_unsupported(left, rows, problem.start),
        *_margins_and_relations(left, rows, agreed),
        *(w for w in zeros if w.code in IMPOSSIBLE),
        *_out_of_reach(left, rows, box, tolerance),
        *(w for w in zeros if w.code not in IMPOSSIBLE),
        *_duplicates(left, rows, agreed),
        *_zero_weights(problem),
    ]
    return Seen(tuple(findings), left, rows, agreed, box)


def without(problem: CalibrationProblem, records: list[np.ndarray]) -> CalibrationProblem:
    """The problem with the initial weights of ``records`` (masks) zero; itself if
    there are none.
    """
    emptied = np.zeros(problem.start.size, dtype=bool)
    for mask in records:
        emptied |= mask
    if not emptied.any():
        return problem
    return problem.change(initial_weights=np.where(emptied, 0.0, problem.start))


def _implied(
    problem: CalibrationProblem, low: np.ndarray, tolerance: float, rows: RowStructure
) -> tuple[Implied, ...]:
    if not (low[problem.start > 0] < 0).any():
        return implied_zeros(problem, low, tolerance, rows.gram)
    # Weights that may be negative need not be zero there, which is all the more worth a word.
    out = []
    for f in implied_zeros(problem, np.zeros_like(low), tolerance, rows.gram):
        w = f.warning
        if w.code == "records_emptied" and problem.targets[_index(problem, w)].any():
            text = w.message.replace(
                "they can only weigh zero. ",
                "together they must weigh zero, with negative weights among them if any is "
                "positive. ",
            )
            warning = CalibrationWarning("records_cancel", text, w.targets, w.size)
            out.append(Implied(np.zeros_like(f.records), warning))
    return tuple(out)


def _index(problem: CalibrationProblem, warning: CalibrationWarning) -> list[int]:
    place = {name: j for j, name in enumerate(problem.target_names)}
    return [place[name] for name in warning.targets]


def _unsupported(
    problem: CalibrationProblem, rows: RowStructure, given: np.ndarray
) -> list[CalibrationWarning]:
    index = rows.unsupported[problem.targets[rows.unsupported] != 0]
    out = []
    for j in index[:_SPELT_OUT]:
        name, records = problem.target_names[j], int(problem.matrix.support[j])
        who = "No record contributes"
        fix = "Leave it out, merge it with another, or add records"
        if records:
            zero = bool((given[problem.matrix.row(j) != 0] == 0).all())
            kind = "whose initial weight is zero" if zero else "that can only weigh zero"
            who = f"Only records {kind} ({records:,}) contribute"
            fix = "Give them positive initial weights, or leave it out" if zero else fix
        told = number(problem.told_total(j, problem.targets[j]))
        text = f"{who} to target {name!r}, which is {told}; no weights can meet it. {fix}"
        out.append(CalibrationWarning("unsupported_target", text, (name,), 1.0))
    more = "more targets have no record that contributes"
    return out + _rest("unsupported_target", problem, index[_SPELT_OUT:], more)


def _margins_and_relations(
    problem: CalibrationProblem, rows: RowStructure, agreed: Agreement
) -> list[CalibrationWarning]:
    if agreed.agree:
        return []
    disagreements, adjusted = margins.margin_disagreements(problem, rows, agreed.tolerance)
    out = [_disagreement(problem, d) for d in disagreements[:_SPELT_OUT]]
    more = disagreements[_SPELT_OUT:]
    if more:
        index = np.concatenate([d.other for d in more])
        text = f"targets of {len(more)} more margins disagree in total"
        out += _rest("margin_totals_disagree", problem, index, text)
    relations = margins.other_disagreements(problem, rows, agreed, adjusted)
    if not out and not relations:
        # Rescaling the margins would cure each relation, or no relation alone is beyond the
        # tolerance: say the worst plainly.
        relations = margins.other_disagreements(problem, rows, agreed, problem.targets)
        relations = relations or margins.worst_relation(problem, rows, agreed)
    out += [_relation(problem, r) for r in relations[:_SPELT_OUT]]
    if len(relations) > _SPELT_OUT:
        index = np.unique(np.concatenate([r.rows for r in relations[_SPELT_OUT:]]))
        text = f"targets are in {len(relations) - _SPELT_OUT} more relations that do not hold"
        out += _rest("dependent_targets_disagree", problem, index, text)
    return out


def _disagreement(problem: CalibrationProblem, d: margins.Disagreement) -> CalibrationWarning:
    first, second = (family(problem, index) for index in (d.reference, d.other))
    says = [
        f"{who} {'is' if index.size == 1 else 'adds up to'}"
        for who, index in ((first, d.reference), (second, d.other))
    ]
    a, b = d.totals
    apart = f"{number(b - a)} apart"
    if np.isfinite(d.share):
        apart = f"{percent(d.share)} {'more' if b > a else 'less'}"
    alike = "both add up the same contributions of every record"
    if d.counts_once:
        alike = "every record counts once in each"
    scaled = others = left_out = times = ""
    if abs(d.factor - 1) >= 1e-6:
        scaled = f" (after division by {d.factor:.6g}, by which each record counts more in it)"
    if d.agreeing:
        others = f" ({len(d.agreeing)} more agree with the former: {quoted(d.agreeing, 2)})"
    if d.left_out.size:
        names = quoted([problem.target_names[j] for j in d.left_out], 3)
        left_out = f", leaving out {names}, to which no record contributes"
    if a * b > 0:
        times = f" (times {number(a / b)} would make {second} agree)"
    text = (
        f"{capital(says[0])} {number(a)}{others} and {says[1]} {number(b)}{scaled}, {apart}"
        f"{left_out}; {alike}, so no weights meet both. Correct one of them{times}, or take the "
        "compromise"
    )
    named = tuple(problem.target_names[j] for j in np.concatenate([d.reference, d.other]))
    return CalibrationWarning("margin_totals_disagree", text, named, abs(d.share))


def _relation(problem: CalibrationProblem, r: margins.Relation) -> CalibrationWarning:
    sides, totals = [], []
    for sign in (1.0, -1.0):
        index = np.flatnonzero(r.coefficients * sign > 0)
        parts = [_term(problem, r.rows[k], abs(r.coefficients[k])) for k in index]
        more = f" + {len(parts) - 6} more" if len(parts) > 6 else ""
        sides.append(" + ".join(parts[:6]) + more)
        totals.append(sign * float(r.terms[index].sum()))
    size = abs(r.gap) / r.size
    if not all(sides):
        told = number(totals[0] - totals[1])
        text = f"{sides[0] or sides[1]} is zero for every record, but the targets give {told}"
    else:
        told = f"{number(totals[0])} and {number(totals[1])}"
        text = f"For every record {sides[0]} equals {sides[1]}, but their targets give {told}"
        text += f", {percent(totals[0] / totals[1] - 1)} apart" if totals[1] != 0 else ""
    text += "; no weights meet them all. Correct them, or take the compromise"
    names = tuple(problem.target_names[j] for j in r.rows)
    return CalibrationWarning("dependent_targets_disagree", text, names, size)


def _term(problem: CalibrationProblem, j: int, coefficient: float) -> str:
    times = "" if abs(coefficient - 1) < 1e-6 else f"{coefficient:.6g} x "
    return f"{times}{problem.target_names[j]!r}"


def _out_of_reach(
    problem: CalibrationProblem, rows: RowStructure, box: Box, tolerance: float
) -> list[CalibrationWarning]:
    live = problem.start > 0
    if np.isneginf(box[0][live]).all() and np.isposinf(box[1][live]).all():
        return []
    least, most = reach(problem.matrix, *box)
    with np.errstate(invalid="ignore"):
        short, over = problem.targets - most, least - problem.targets
    short, over = np.where(np.isnan(short), -np.inf, short), np.where(np.isnan(over), -np.inf, over)
    by = np.maximum(short, over) / problem.relative_scale
    outside = by > tolerance
    outside[rows.unsupported] = False
    index = np.flatnonzero(outside)
    index = index[np.argsort(-by[index], kind="stable")]
    out = [
        _unreachable(problem, int(j), float(least[j]), float(most[j]), float(by[j]))
        for j in index[:_SPELT_OUT]
    ]
    more = "more targets cannot be reached within the bounds even one at a time"
    return out + _rest("outside_reach", problem, index[_SPELT_OUT:], more)


def _unreachable(
    problem: CalibrationProblem, j: int, least: float, most: float, by: float
) -> CalibrationWarning:
    name = problem.target_names[j]
    told, low, high = (number(problem.told_total(j, x)) for x in (problem.targets[j], least, most))
    if not problem.bounded and (least == 0 or most == 0):
        sign = "zero or more" if least == 0 else "zero or less"
        text = (
            f"Target {name!r} is {told}, but every record adds {sign} to it and weights are not "
            "negative; none can meet it. Check its sign"
        )
    else:
        text = (
            f"Target {name!r} is {told}, but with weights within the bounds it can only reach "
            f"{low} to {high}, {percent(by)} of the target away. Widen the bounds, or correct the "
            "target"
        )
    return CalibrationWarning("outside_reach", text, (name,), by)


def _duplicates(
    problem: CalibrationProblem, rows: RowStructure, agreed: Agreement
) -> list[CalibrationWarning]:
    holds = dict(zip(rows.dependent.tolist(), agreed.part <= agreed.tolerance, strict=True))
    pairs = [(j, k, c) for j, k, c in margins.duplicates(rows) if holds[j]]
    if not pairs:
        return []
    j, k, c = pairs[0]
    plain = margins.plain_units(problem)
    c *= plain[j] / plain[k]
    same = "the same row" if abs(c - 1) < 1e-6 else f"{c:.6g} times the row"
    more = f"; {len(pairs) - 1} more targets repeat another" if len(pairs) > 1 else ""
    text = (
        f"Target {problem.target_names[j]!r} is {same} as {problem.target_names[k]!r}, with a "
        f"target that agrees{more}: harmless, but it counts twice in compromises"
    )
    names = tuple(problem.target_names[j] for j, _, _ in pairs)
    return [CalibrationWarning("duplicate_targets", text, names, float(len(pairs)))]


def _zero_weights(problem: CalibrationProblem) -> list[CalibrationWarning]:
    count = int((problem.start == 0).sum())
    if count == 0:
        return []
    text = (
        f"{count:,} of {problem.start.size:,} records have an initial weight of zero and stay at "
        "zero"
    )
    return [CalibrationWarning("zero_weights", text, size=float(count))]


def _rest(
    code: str, problem: CalibrationProblem, index: np.ndarray, what: str
) -> list[CalibrationWarning]:
    if len(index) == 0:
        return []
    names = tuple(problem.target_names[j] for j in index)
    text = f"{len(index):,} {what}: {quoted(names)}"
    return [CalibrationWarning(code, text, names, float(len(index)))]
