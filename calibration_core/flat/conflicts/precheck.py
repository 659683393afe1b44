"""What can be seen before solving, at the cost of a pass or two over the matrix: unsupported
targets, rows and margins that disagree, targets out of reach one at a time, records that cannot
take part.

Belongs here: cheap looks at rows, targets and bounds, in words. Does not belong here: linear
programs (``relaxation.py``).
"""

from __future__ import annotations

import numpy as np

from calibration_core.flat.conflicts import margins
from calibration_core.flat.conflicts.reach import box as box_of
from calibration_core.flat.conflicts.reach import reach
from calibration_core.flat.conflicts.wording import capital, family, number, percent, quoted
from calibration_core.flat.constraint_rows import RowStructure, row_structure
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning

# Codes of findings under which no weights meet every target, and those of them that concern targets
# which records do support.
IMPOSSIBLE = frozenset(
    {"unsupported_target", "margin_totals_disagree", "dependent_targets_disagree", "outside_reach"}
)
IMPOSSIBLE_TOGETHER = frozenset(
    {"margin_totals_disagree", "dependent_targets_disagree", "outside_reach"}
)

# Findings of one kind that get a sentence each; the others share one.
_SPELT_OUT = 5
# A target counts as out of reach when it is by more than this share of its size: the tolerance
# under which it counts as met.
_REACHED = 1e-9


def inspect(
    problem: CalibrationProblem,
    rows: RowStructure | None = None,
    box: tuple[np.ndarray, np.ndarray] | None = None,
    emptied: int = 0,
) -> tuple[CalibrationWarning, ...]:
    """Findings on the problem as it stands, the impossible ones (``IMPOSSIBLE``) first.

    Parameters
    ----------
    problem : what is to be calibrated.
    rows : ``row_structure(problem.matrix, problem.start)`` where it is known already; computed if
        None.
    box : (low, high) on the weights, each (records,), as ``reach.box`` gives for a method; None for
        the bounds of the problem, and weights that are not negative.
    emptied : how many of the zero initial weights the caller set itself and has told of.

    Codes: ``unsupported_target``, ``margin_totals_disagree``, ``dependent_targets_disagree``
    (duplicates too), ``outside_reach``; and, harmless, ``duplicate_targets`` (agreeing duplicates),
    ``zero_weights``. Agreeing dependent rows, which any two margins have, are not worth a word.
    ``size`` is a relative difference, except for counts.
    """
    rows = row_structure(problem.matrix, problem.start) if rows is None else rows
    low, high = box_of(problem) if box is None else box
    found = (
        _unsupported(problem, rows)
        + _margins_and_relations(problem, rows)
        + _out_of_reach(problem, rows, low, high)
    )
    return tuple(found + _duplicates(problem, rows) + _zero_weights(problem, emptied))


def _unsupported(problem: CalibrationProblem, rows: RowStructure) -> list[CalibrationWarning]:
    index = rows.unsupported[problem.targets[rows.unsupported] != 0]
    out = []
    for j in index[:_SPELT_OUT]:
        name, records = problem.target_names[j], int(problem.matrix.support[j])
        who = (
            "No record contributes"
            if records == 0
            else f"Only records whose initial weight is zero ({records:,}) contribute"
        )
        fix = (
            "Leave it out, merge it with another, or add records"
            if records == 0
            else "Give them positive initial weights, or leave it out"
        )
        text = (
            f"{who} to target {name!r}, which is {number(problem.targets[j])}; no weights can meet"
            f" it. {fix}"
        )
        out.append(CalibrationWarning("unsupported_target", text, (name,), 1.0))
    return out + _rest(
        "unsupported_target",
        problem,
        index[_SPELT_OUT:],
        "more targets have no record that contributes",
    )


def _margins_and_relations(
    problem: CalibrationProblem, rows: RowStructure
) -> list[CalibrationWarning]:
    contradicting = margins.contradictions(problem, rows)
    if not contradicting.any():
        return []
    disagreements, adjusted = margins.margin_disagreements(problem, rows)
    out = [_disagreement(problem, d) for d in disagreements[:_SPELT_OUT]]
    more = disagreements[_SPELT_OUT:]
    if more:
        index = np.concatenate([d.other for d in more])
        out += _rest(
            "margin_totals_disagree",
            problem,
            index,
            f"targets of {len(more)} more margins disagree in total",
        )
    relations = margins.other_disagreements(problem, rows, contradicting, adjusted)
    out += [_relation(problem, r) for r in relations[:_SPELT_OUT]]
    if len(relations) > _SPELT_OUT:
        index = np.unique(np.concatenate([r.rows for r in relations[_SPELT_OUT:]]))
        out += _rest(
            "dependent_targets_disagree",
            problem,
            index,
            f"targets are in {len(relations) - _SPELT_OUT} more relations that do not hold",
        )
    if not out:
        # Rescaling the margins would cure each relation, but no margin disagrees by more than
        # rounding: say the relations plainly.
        relations = margins.other_disagreements(problem, rows, contradicting, problem.targets)
        out = [_relation(problem, r) for r in relations[:_SPELT_OUT]]
    return out


def _disagreement(problem: CalibrationProblem, d: margins.Disagreement) -> CalibrationWarning:
    first, second = (family(problem, index) for index in (d.reference, d.other))
    says = [
        f"{who} {'is' if index.size == 1 else 'adds up to'}"
        for who, index in ((first, d.reference), (second, d.other))
    ]
    a, b = d.totals
    apart = (
        f"{percent(d.share)} {'more' if b > a else 'less'}"
        if np.isfinite(d.share)
        else f"{number(b - a)} apart"
    )
    alike = (
        "every record counts once in each"
        if d.counts_once
        else "both add up the same contributions of every record"
    )
    scaled = (
        ""
        if abs(d.factor - 1) < 1e-6
        else f" (after division by {d.factor:.6g}, by which each record counts more in it)"
    )
    others = (
        f" ({len(d.agreeing)} more agree with the former: {quoted(d.agreeing, 2)})"
        if d.agreeing
        else ""
    )
    left_out = (
        f", leaving out {quoted([problem.target_names[j] for j in d.left_out], 3)}, to which no"
        " record contributes"
        if d.left_out.size
        else ""
    )
    text = (
        f"{capital(says[0])} {number(a)}{others} and {says[1]} {number(b)}{scaled},"
        f" {apart}{left_out}; {alike}, so no weights meet both. "
    )
    text += (
        "Correct one of"
        f" them{f' (times {number(a / b)} would make {second} agree)' if a * b > 0 else ''}, or"
        " take the compromise"
    )
    names = tuple(problem.target_names[j] for j in np.concatenate([d.reference, d.other]))
    return CalibrationWarning("margin_totals_disagree", text, names, abs(d.share))


def _relation(problem: CalibrationProblem, r: margins.Relation) -> CalibrationWarning:
    sides, totals = [], []
    for sign in (1.0, -1.0):
        index = np.flatnonzero(r.coefficients * sign > 0)
        parts = [_term(problem, r.rows[k], abs(r.coefficients[k])) for k in index]
        sides.append(
            " + ".join(parts[:6]) + (f" + {len(parts) - 6} more" if len(parts) > 6 else "")
        )
        totals.append(float(np.abs(r.coefficients[index]) @ problem.targets[r.rows[index]]))
    size = abs(r.gap) / r.size
    if not all(sides):
        text = (
            f"{sides[0] or sides[1]} is zero for every record, but the targets give"
            f" {number(totals[0] - totals[1])}"
        )
    else:
        text = (
            f"For every record {sides[0]} equals {sides[1]}, but their targets give"
            f" {number(totals[0])} and {number(totals[1])}"
        )
        text += f", {percent(totals[0] / totals[1] - 1)} apart" if totals[1] != 0 else ""
    names = tuple(problem.target_names[j] for j in r.rows)
    return CalibrationWarning(
        "dependent_targets_disagree",
        f"{text}; no weights meet them all. Correct them, or take the compromise",
        names,
        size,
    )


def _term(problem: CalibrationProblem, j: int, coefficient: float) -> str:
    times = "" if abs(coefficient - 1) < 1e-6 else f"{coefficient:.6g} x "
    return f"{times}{problem.target_names[j]!r}"


def _out_of_reach(
    problem: CalibrationProblem, rows: RowStructure, low: np.ndarray, high: np.ndarray
) -> list[CalibrationWarning]:
    if np.isneginf(low[problem.start > 0]).all() and np.isposinf(high[problem.start > 0]).all():
        return []
    least, most = reach(problem.matrix, low, high)
    b, allowed = problem.targets, _REACHED * problem.relative_scale
    with np.errstate(invalid="ignore"):
        short, over = b - most, least - b
    short, over = np.where(np.isnan(short), -np.inf, short), np.where(np.isnan(over), -np.inf, over)
    by = np.maximum(short, over)
    outside = by > allowed
    outside[rows.unsupported] = False
    index = np.flatnonzero(outside)
    index = index[np.argsort(-by[index] / problem.relative_scale[index], kind="stable")]
    out = []
    for j in index[:_SPELT_OUT]:
        name, size = problem.target_names[j], float(by[j] / problem.relative_scale[j])
        if not problem.bounded and (least[j] == 0 or most[j] == 0):
            sign = "zero or more" if least[j] == 0 else "zero or less"
            text = (
                f"Target {name!r} is {number(b[j])}, but every record adds {sign} to it and weights"
                " are not negative; none can meet it. Check its sign"
            )
        else:
            ends = f"{number(least[j])} to {number(most[j])}"
            text = (
                f"Target {name!r} is {number(b[j])}, but with weights within the bounds it can only"
                f" reach {ends}, {percent(size)} of the target away. "
            )
            text += "Widen the bounds, or correct the target"
        out.append(CalibrationWarning("outside_reach", text, (name,), size))
    return out + _rest(
        "outside_reach",
        problem,
        index[_SPELT_OUT:],
        "more targets cannot be reached within the bounds even one at a time",
    )


def _duplicates(problem: CalibrationProblem, rows: RowStructure) -> list[CalibrationWarning]:
    gap, spread = np.abs(rows.disagreement(problem.targets)), rows.spread(problem.targets)
    agrees = dict(
        zip(rows.dependent.tolist(), (gap <= margins.AGREES * spread).tolist(), strict=True)
    )
    pairs = [(j, k, c) for j, k, c in margins.duplicates(rows) if agrees[j]]
    if not pairs:
        return []
    j, k, c = pairs[0]
    same = "the same row" if abs(c - 1) < 1e-6 else f"{c:.6g} times the row"
    more = f"; {len(pairs) - 1} more targets repeat another" if len(pairs) > 1 else ""
    text = (
        f"Target {problem.target_names[j]!r} is {same} as {problem.target_names[k]!r}, with a"
        f" target that agrees{more}: harmless, but it counts twice in compromises"
    )
    return [
        CalibrationWarning(
            "duplicate_targets",
            text,
            tuple(problem.target_names[j] for j, _, _ in pairs),
            float(len(pairs)),
        )
    ]


def _zero_weights(problem: CalibrationProblem, emptied: int) -> list[CalibrationWarning]:
    count = int((problem.start == 0).sum()) - emptied
    if count <= 0:
        return []
    text = (
        f"{count:,} of {problem.start.size:,} records have an initial weight of zero and stay at"
        " zero"
    )
    return [CalibrationWarning("zero_weights", text, size=float(count))]


def _rest(
    code: str, problem: CalibrationProblem, index: np.ndarray, what: str
) -> list[CalibrationWarning]:
    if len(index) == 0:
        return []
    names = tuple(problem.target_names[j] for j in index)
    return [
        CalibrationWarning(
            code, f"{len(index):,} {what}: {quoted(names)}", names, float(len(index))
        )
    ]
