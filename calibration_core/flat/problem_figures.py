"""What kind of problem this is, in figures: margins, amounts, weights, bounds, conflicts, levels of
nesting.

A margin is a set of rows of zeros and ones of which every record has exactly one; rows belong
together by their group, or, where every target is a group of its own, by standing next to one
another. One family of rows is nested in another if each of its rows lies within one row of the
other and they add up to it (county in state). The depth counts the longest such chain, a row that
all records are in being its top.

Belongs here: facts computed from a problem in a few passes over its matrix. Does not belong here:
what follows from them (``advice.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg, sparse

from calibration_core.flat.conflicts import feasibility, precheck
from calibration_core.flat.conflicts.margins import plain_units
from calibration_core.flat.conflicts.relaxation import DIRECT
from calibration_core.flat.constraint_rows import row_structure
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning
from calibration_core.flat.standard_form import standard_form

# Beyond this many targets the square of the targets, and with it rank and conflicts, is left alone.
MOST_TARGETS = 3_000
# Families that are looked at for nesting: at most so many, and at most so many entries of records x
# families (4 bytes each).
_MOST_FAMILIES, _MOST_CODES = 400, 50_000_000
# Entries up to which a linear program is asked whether targets can be met, and its seconds: advice
# is to be had while one waits.
_MOST_PROGRAM, _SECONDS = 400_000, 5.0


@dataclass(frozen=True)
class ProblemFigures:
    """Facts of a problem.

    Attributes
    ----------
    targets, records : its size.
    density : share of entries that are not zero, 0 to 1.
    margins : number of levels of each categorical margin.
    loose_counts : 0/1 rows that belong to no complete margin.
    amounts : rows with other entries.
    totals : rows that are one for every record.
    negative_entries : whether any contribution is below zero.
    depth : levels of the longest chain of nested families of rows: 1 is flat, 3 is for example
        county, state, nation.
    nested_rows : rows that are sums of other rows along such chains.
    weights_given, weights_vary : whether there are initial weights, and whether they differ.
    weight_variation : their coefficient of variation; zero if there are none.
    level : what they are to be multiplied by to be at the level of the targets, if that is far from
        one (``CalibrationProblem.level``); else one.
    standard_errors : whether targets have any.
    q_given : whether records have a scale of their own.
    least_target : the smallest target, which may be negative.
    ratio_range : (lowest low, highest high) bound on w/d; None if the problem has no bounds.
    bounds_enclose_one : every record's bounds are finite and lie on both sides of its initial
        weight.
    rank : independent rows; None where there are too many targets to look.
    conflicts : findings of linear algebra that mean that not all targets can be met.
    infeasible : the finding of a linear program that they cannot be met by weights that are not
        negative and within the bounds, where nothing simpler says so; None if they can, or where
        the problem is too large to look.
    largest_conflict : relative size of the largest, NaN if none.
    linear_negative : weights that the linear method would make negative; None if it was not looked
        at.
    linear_ratios : (smallest, largest) w/d of the linear method; None likewise.
    records_asked : records to keep, or None.
    """

    targets: int
    records: int
    density: float
    margins: tuple[int, ...]
    loose_counts: int
    amounts: int
    totals: int
    negative_entries: bool
    depth: int
    nested_rows: int
    weights_given: bool
    weights_vary: bool
    weight_variation: float
    level: float
    standard_errors: bool
    q_given: bool
    least_target: float
    ratio_range: tuple[float, float] | None
    bounds_enclose_one: bool
    rank: int | None
    conflicts: tuple[CalibrationWarning, ...]
    infeasible: CalibrationWarning | None
    largest_conflict: float
    linear_negative: int | None
    linear_ratios: tuple[float, float] | None
    records_asked: int | None

    @property
    def categorical_only(self) -> bool:
        """Every row is a row of a margin, a total or another 0/1 row."""
        return self.amounts == 0

    @property
    def conflicting_targets(self) -> tuple[str, ...]:
        """Names of the targets the conflicts are about, each once, in order."""
        return tuple(dict.fromkeys(name for finding in self.conflicts for name in finding.targets))


def figures_of(problem: CalibrationProblem, records_asked: int | None = None) -> ProblemFigures:
    """The figures of ``problem``. Costs a few passes over the matrix and, up to ``MOST_TARGETS``
    targets, one product A diag(d) A'.
    """
    problem = standard_form(problem)
    m, n = problem.size
    x = problem.matrix.stored
    values = x.data if problem.matrix.is_sparse else x
    binary = problem.matrix.indicators | (problem.matrix.support == 0)
    families = _families(problem)
    margins = [f for f in families if f.complete and binary[f.rows].all()]
    levels = {int(j) for f in margins for j in f.rows}
    totals = [f for f in margins if f.rows.size == 1]
    depth, nested = _nesting(problem, [f for f in families if f.code is not None])
    seen = precheck.look(problem) if m <= MOST_TARGETS else None
    findings = () if seen is None else tuple(seen.blocking)
    infeasible = None if seen is None else _infeasible(seen)
    told = findings if infeasible is None else (infeasible,)
    sizes = [w.size for w in told if np.isfinite(w.size)]
    ratios = None if seen is None else _linear_ratios(problem, seen)
    start, given = problem.start, problem.initial_weights is not None
    mean = float(start.mean())
    return ProblemFigures(
        targets=m,
        records=n,
        density=float(np.count_nonzero(values)) / (m * n),
        margins=tuple(int(f.rows.size) for f in margins if f.rows.size > 1),
        loose_counts=int(binary.sum()) - len(levels),
        amounts=int((~binary).sum()),
        totals=len(totals),
        negative_entries=bool((values < 0).any()),
        depth=depth,
        nested_rows=nested,
        weights_given=given,
        weights_vary=given and bool(np.ptp(start) > 1e-9 * mean),
        weight_variation=float(start.std() / mean) if given else 0.0,
        level=problem.level,
        standard_errors=problem.standard_errors is not None,
        q_given=problem.q is not None,
        least_target=float((problem.targets * problem.total_unit).min()),
        ratio_range=_ratio_range(problem),
        bounds_enclose_one=_enclose_one(problem),
        rank=None if seen is None else seen.rows.kept.size,
        conflicts=findings,
        infeasible=infeasible,
        largest_conflict=max(sizes, default=float("nan")),
        linear_negative=None if ratios is None else int((ratios[start > 0] < 0).sum()),
        linear_ratios=None if ratios is None else (float(ratios.min()), float(ratios.max())),
        records_asked=records_asked,
    )


def _infeasible(seen: precheck.Seen) -> CalibrationWarning | None:
    """What a linear program says of a problem of moderate size in which nothing else was seen."""
    records, rows = seen.problem.matrix.records, seen.supported
    if seen.blocking or records > DIRECT or records * rows.size > _MOST_PROGRAM or not rows.size:
        return None
    verdict = feasibility.judge(seen.problem, rows, seen.box, seconds=_SECONDS)
    if verdict.feasible is not False:
        return None
    return next(w for w in verdict.findings if w.code == "smallest_relaxation")


@dataclass(frozen=True, eq=False)
class _Family:
    """Rows no two of which share a record. code: (records,) index into ``rows`` or -1, None to save
    memory; complete: no record is without one.
    """

    rows: np.ndarray
    code: np.ndarray | None
    complete: bool


def _families(problem: CalibrationProblem) -> list[_Family]:
    """Rows in order of their groups, cut into families: a new one begins with a new group, or where
    a row meets a record again.
    """
    n = problem.matrix.records
    columns = sparse.csc_array(problem.matrix.by_record)
    first: dict[str, int] = {}
    label = np.array([first.setdefault(g, len(first)) for g in problem.groups])
    grouped = len(first) < label.size
    out: list[_Family] = []
    rows: list[int] = []
    parts: list[np.ndarray] = []
    last_family = np.full(
        n, -1, dtype=np.int64
    )  # the family that last met a record: tells overlaps without clearing anything
    family = taken = 0
    room = min(_MOST_FAMILIES, _MOST_CODES // n)

    def close() -> None:
        nonlocal rows, parts, family, taken
        # Rows one after another that happen not to meet are no family unless they cover all records
        # or share a group.
        if rows and (taken == n or grouped or len(rows) == 1):
            code = None
            if len(out) < room:
                code = np.full(n, -1, dtype=np.int32)
                for k, members in enumerate(parts):
                    code[members] = k
            out.append(_Family(np.array(rows), code, taken == n))
        rows, parts, family, taken = [], [], family + 1, 0

    previous = -1
    for j in np.argsort(label, kind="stable"):
        span = slice(columns.indptr[j], columns.indptr[j + 1])
        members = columns.indices[span][columns.data[span] != 0]
        if rows and (
            (grouped and label[j] != previous)
            or taken == n
            or (last_family[members] == family).any()
        ):
            close()
        last_family[members] = family
        rows.append(int(j))
        parts.append(members)
        taken += members.size
        previous = label[j]
    close()
    return out


def _nesting(problem: CalibrationProblem, families: list[_Family]) -> tuple[int, int]:
    """(depth, rows that are sums of rows of another family)."""
    # Row sums under two fixed weightings tell rows apart: a row is the sum of others if it is under
    # both.
    position = np.arange(problem.matrix.records, dtype=np.float64)
    plain = plain_units(problem)
    sketch = np.stack(
        [
            plain * problem.matrix.totals(1.0 + np.modf(position * s)[0])
            for s in (0.6180339887498949, 0.4142135623730951)
        ]
    )
    order = sorted(range(len(families)), key=lambda f: families[f].rows.size)
    depth: dict[int, int] = {}
    nested: set[int] = set()
    for place, fine in enumerate(order):
        depth[fine] = 1
        for coarse in order[:place]:
            if families[coarse].rows.size < families[fine].rows.size and _refines(
                families[fine], families[coarse], sketch
            ):
                depth[fine] = max(depth[fine], depth[coarse] + 1)
                nested.update(int(j) for j in families[coarse].rows)
    return max(depth.values(), default=1), len(nested)


def _refines(fine: _Family, coarse: _Family, sketch: np.ndarray) -> bool:
    if fine.code is None or coarse.code is None:
        return False
    whole = sketch[:, fine.rows].sum(axis=1)
    if not np.allclose(whole, sketch[:, coarse.rows].sum(axis=1), rtol=1e-9, atol=0.0):
        return False
    inside = np.flatnonzero(fine.code >= 0)
    parent = np.full(fine.rows.size, -1, dtype=np.int64)
    parent[fine.code[inside]] = coarse.code[inside]
    if not np.array_equal(parent[fine.code[inside]], coarse.code[inside]) or (parent < 0).any():
        return False
    for s in sketch:
        sums = np.bincount(parent, s[fine.rows], minlength=coarse.rows.size)
        if not np.allclose(
            sums, s[coarse.rows], rtol=1e-9, atol=1e-9 * float(np.abs(s[coarse.rows]).max())
        ):
            return False
    return True


def _linear_ratios(problem: CalibrationProblem, seen: precheck.Seen) -> np.ndarray:
    """(records,) w/d of the linear method without bounds on the independent rows: one linear
    system.
    """
    rows = seen.rows
    if problem.q is not None or seen.problem is not problem:
        scale = problem.start if problem.q is None else problem.start * problem.q
        rows = row_structure(problem.matrix, scale)
    kept = rows.kept
    if kept.size == 0:
        return np.ones(problem.matrix.records)
    gram = rows.gram[np.ix_(kept, kept)]
    root = 1.0 / np.sqrt(np.diagonal(gram))
    missing = (problem.targets - problem.matrix.totals(problem.start))[kept]
    # The rows kept are independent to 1e-12 in the square; the ridge is below that, so that
    # rounding cannot stop the factorisation.
    square = gram * root[:, None] * root[None, :] + 1e-13 * np.eye(kept.size)
    y = np.zeros(problem.matrix.targets)
    y[kept] = root * linalg.cho_solve(linalg.cho_factor(square, lower=True), root * missing)
    u = problem.matrix.exponents(y)
    return 1.0 + (u if problem.q is None else u * problem.q)


def _ratio_range(problem: CalibrationProblem) -> tuple[float, float] | None:
    if not problem.bounded:
        return None
    low, high = problem.limits
    some = problem.start > 0
    return float((low[some] / problem.start[some]).min()), float(
        (high[some] / problem.start[some]).max()
    )


def _enclose_one(problem: CalibrationProblem) -> bool:
    if not problem.bounded:
        return False
    low, high = problem.limits
    some = problem.start > 0
    return bool(
        (low[some] < problem.start[some]).all()
        and (high[some] > problem.start[some]).all()
        and np.isfinite(high[some]).all()
    )
