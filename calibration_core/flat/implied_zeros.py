"""Records that can only weigh zero: found before solving, and told by name of what leaves them out.

Weights are not negative. If every record counts in the row r at least as much as in the row s, and
the targets of the two are equal, then sum_i w_i (r_i - s_i) = 0. So a record that counts more in r
weighs zero in every solution. Both may be rows, sums of a margin, or sums of those rows of a margin
that lie within another row. For example, the margin by region counts everybody, the margin by sex
leaves out whoever stated none, and both add up to the population. A target of zero is the case s =
0. If the target of s is larger than that of r, no weights meet both.

Setting such weights to zero is exact, and leaves a problem with finite multipliers: an exponential
reaches zero only at minus infinity. Where a combination of more rows implies zeros, a linear
program finds it (the largest set of zeros that any multipliers y with A'y >= 0 and y.b <= 0 prove).

Belongs here: finding and telling those records. Does not belong here: solving what is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from calibration_core.flat.conflicts.margins import told_factor
from calibration_core.flat.conflicts.wording import family, number, percent, quoted
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning

# Sums of the same weights over nested sets of records agree to this; it only picks candidates.
_SUMS = 1e-12
# An entry under this share of the largest difference of two rows is rounding.
_ROUNDING = 1e-12
# Targets beyond which combinations of rows are not looked at (their square is held in memory),
# pairs of rows that are compared record by record, and rounds in which zeros may imply further
# ones.
_MOST_TARGETS, _MOST_PAIRS, _MOST_ROUNDS = 3_000, 60, 5
# Different columns beyond which the linear program is left alone, and its limit of time.
_MOST_COLUMNS, _SECONDS = 8_000, 20.0

_REMEDY = "Give them a target of their own, or leave them out of the sample"


@dataclass(frozen=True, eq=False)
class Implied:
    """One finding.

    Attributes
    ----------
    records : (records,) bool: those that can only weigh zero; nobody where the targets contradict.
    warning : in words.
    """

    records: np.ndarray
    warning: CalibrationWarning


def implied_zeros(
    problem: CalibrationProblem, low: np.ndarray, tolerance: float, gram: np.ndarray | None = None
) -> tuple[Implied, ...]:
    """Findings on rows and pairs of rows, each on records that no earlier one has named.

    Parameters
    ----------
    problem : records with an initial weight of zero do not count.
    low : (records,) least weights that can be given. Where one is negative weights may be negative,
        nothing is implied, and nothing is found.
    tolerance : relative difference of totals that count as equal.
    gram : (targets, targets) A diag(d) A', if it is known already.

    Codes: ``records_emptied`` (size: how many records), ``lower_bound_above_zero`` (the same, but a
    lower bound forbids it) and ``part_exceeds_whole`` (size: by which share); the latter two mean
    that no weights meet every target.
    """
    if (low[problem.start > 0] < 0).any():
        return ()
    found: list[Implied] = []
    live = problem.start > 0
    for _ in range(_MOST_ROUNDS):
        fresh = _Round(problem, live, low, tolerance, gram).find()
        found += fresh
        emptied = np.any([f.records for f in fresh], axis=0) if fresh else np.zeros_like(live)
        if not emptied.any():
            break
        live, gram = live & ~emptied, None
    return tuple(found)


class _Round:
    """One look at the rows, over the records that are ``live``."""

    def __init__(self, problem: CalibrationProblem, live, low, tolerance, gram) -> None:
        self.problem, self.live, self.low, self.tolerance = problem, live.copy(), low, tolerance
        self.gram = gram
        self.unit = problem.matrix.unit
        self.found: list[Implied] = []
        self.pairs = 0

    def find(self) -> list[Implied]:
        self._zero_targets()
        if self.problem.matrix.targets <= _MOST_TARGETS and self._candidates():
            for whole, part in self._equal_totals():
                self._compare(whole, part)
        return self.found

    def _zero_targets(self) -> None:
        zero = np.flatnonzero(self.problem.targets == 0)
        if zero.size == 0:
            return
        part = self.problem.matrix.take_targets(zero).stored[self.live]
        least = part.min(axis=0)
        least = least.toarray().ravel() if sparse.issparse(part) else least
        rows = zero[least >= 0]
        v = np.zeros(self.problem.targets.size)
        v[rows] = 1.0 / self.unit[rows]
        touched = (self.problem.matrix.exponents(v) > 0) & self.live
        # Where nobody would be left the targets contradict one another, which is told elsewhere.
        if not touched.any() or (touched == self.live).all():
            return
        names = tuple(self.problem.target_names[j] for j in rows)
        text = (
            f"{int(touched.sum()):,} records have weight zero in every solution, because a target "
            f"they contribute to is zero ({quoted(names)})"
        )
        self._tell(touched, text, names)

    def _candidates(self) -> bool:
        """Rows that count, and sums of groups of them: their targets and products."""
        problem = self.problem
        counts = problem.matrix.counts & (problem.targets >= 0)
        member: dict[str, list[int]] = {}
        for j in np.flatnonzero(counts):
            member.setdefault(problem.groups[j], []).append(int(j))
        single = [np.array([j]) for j in np.flatnonzero(counts)]
        self.sets = single + [np.array(x) for x in member.values() if len(x) > 1]
        if len(self.sets) < 2:
            return False
        gram = self.gram
        if gram is None:
            gram = problem.matrix.gram(np.where(self.live, problem.start, 0.0))
        square = gram / self.unit[:, None] / self.unit[None, :]
        sums = np.zeros((len(self.sets), problem.targets.size))
        for p, index in enumerate(self.sets):
            sums[p, index] = 1.0
        self.totals = sums @ (problem.targets / self.unit)
        self.square = sums @ square @ sums.T
        self.sums = sums
        self.groups = [np.array(x) for x in member.values() if len(x) > 1]
        self.row_square = square
        return bool((np.diagonal(self.square) > 0).any())

    def _equal_totals(self):
        """Yield (whole, part), index arrays of rows, that look as if whole held part, and whose
        targets forbid the rest: equal ones, or a part that is larger.
        """
        own = np.diagonal(self.square)
        slack = _SUMS * np.maximum(own[:, None], own[None, :])
        # <r, r> >= <r, s> >= <s, s> where r >= s >= 0; equality throughout means r = s.
        above = (own[:, None] >= self.square - slack) & (self.square >= own[None, :] - slack)
        differ = own[:, None] - own[None, :] > 2 * slack
        above &= differ & (own[None, :] > 0) & self._not_more(self.totals[:, None], self.totals)
        for p, q in np.argwhere(above):
            if not np.isin(self.sets[q], self.sets[p]).all():
                yield self.sets[p], self.sets[q]
        yield from self._subsets(own)

    def _subsets(self, own: np.ndarray):
        """The same, of a row or sum and the rows of a group that lie within it or cover it."""
        problem = self.problem
        for index in self.groups:
            part = self.row_square[np.ix_(index, index)]
            size = np.diagonal(part)
            if np.abs(part - np.diag(size)).max() > _SUMS * size.max():
                continue
            b = problem.targets[index] / self.unit[index]
            shared = self.sums @ self.row_square[:, index]
            apart = ~self.sums[:, index].any(axis=1)
            inside = (shared >= size * (1 - _SUMS)) & (size > 0)
            within = apart & inside.any(axis=1) & ~inside.all(axis=1)
            within &= (inside @ size < own * (1 - _SUMS)) & self._not_more(self.totals, inside @ b)
            for p in np.flatnonzero(within):
                yield self.sets[p], index[inside[p]]
            meets = shared > _SUMS * own[:, None]
            total = (shared * meets).sum(axis=1)
            cover = apart & (np.abs(total - own) <= _SUMS * own) & ~meets.all(axis=1)
            cover &= (meets @ size > own * (1 + _SUMS)) & self._not_more(meets @ b, self.totals)
            for p in np.flatnonzero(cover):
                yield index[meets[p]], self.sets[p]

    def _not_more(self, whole, part):
        """Whether the target of the whole leaves nothing beyond that of the part."""
        return whole - part <= self.tolerance * (np.abs(whole) + np.abs(part))

    def _compare(self, whole: np.ndarray, part: np.ndarray) -> None:
        if self.pairs >= _MOST_PAIRS:
            return
        self.pairs += 1
        v = np.zeros(self.problem.targets.size)
        v[whole] += 1.0 / self.unit[whole]
        v[part] -= 1.0 / self.unit[part]
        more = np.where(self.live, self.problem.matrix.exponents(v), 0.0)
        edge = _ROUNDING * float(np.abs(more).max(initial=0.0))
        rest = more > edge
        if (more < -edge).any() or not rest.any() or (rest == self.live).all():
            return
        told = told_factor(self.problem, np.concatenate([whole, part]))
        totals = [float((self.problem.targets / self.unit)[x].sum()) for x in (whole, part)]
        names = tuple(self.problem.target_names[j] for j in np.concatenate([part, whole]))
        if totals[1] - totals[0] > self.tolerance * (totals[0] + totals[1]):
            self._exceeds(whole, part, [t * told for t in totals], names)
            return
        who = f"{int(rest.sum()):,} records {self._where(whole, part, more)}"
        text = (
            f"{who}, while the targets of both add up to {number(totals[0] * told)}:"
            " they can only weigh zero"
        )
        self._tell(rest, text, names)

    def _where(self, whole: np.ndarray, part: np.ndarray, more: np.ndarray) -> str:
        """Where the records stand that count in the whole and not in the part."""
        problem = self.problem
        group = problem.groups[int(part[0])]
        margin = part.size > 1 and part.size == sum(g == group for g in problem.groups)
        once = part.size > 1 or bool((more <= 1.0 + 1e-9).all())
        inside, outside = family(problem, whole), family(problem, part)
        if margin and once:
            return f"count in no category of {group!r} but in {inside}"
        return (
            f"count in {inside} but not in {outside}"
            if once
            else (f"count more in {inside} than in {outside}")
        )

    def _exceeds(self, whole, part, totals, names) -> None:
        share = totals[1] / totals[0] - 1.0 if totals[0] > 0 else float("inf")
        apart = f", {percent(share)} more" if np.isfinite(share) else ""
        text = (
            f"Whoever counts in {family(self.problem, part)} counts in"
            f" {family(self.problem, whole)}"
            f" too, but the targets of the former add up to {number(totals[1])} and those of the "
            f"latter to {number(totals[0])}{apart}; no weights meet both. Correct one of them, or "
            "take the compromise"
        )
        if sum(f.warning.code == "part_exceeds_whole" for f in self.found) < 5:
            warning = CalibrationWarning("part_exceeds_whole", text, names, share)
            self.found.append(Implied(np.zeros_like(self.live), warning))

    def _tell(
        self, records: np.ndarray, text: str, names: tuple[str, ...], remedy: str = ""
    ) -> None:
        self.live &= ~records
        self.found.append(_finding(records, text, names, self.low, remedy))


def _finding(
    records: np.ndarray, text: str, names: tuple[str, ...], low: np.ndarray, remedy: str
) -> Implied:
    count = float(records.sum())
    stuck = int((low[records] > 0).sum())
    if stuck:
        text += f", but the lower bounds of {stuck:,} of them are above zero; no weights do both"
        warning = CalibrationWarning("lower_bound_above_zero", text, names, float(stuck))
        return Implied(np.zeros_like(records), warning)
    return Implied(
        records, CalibrationWarning("records_emptied", f"{text}. {_REMEDY}", names, count)
    )


def zeros_by_program(
    problem: CalibrationProblem, rows: np.ndarray, low: np.ndarray, tolerance: float
) -> Implied | None:
    """The largest set of records that any combination of ``rows`` (indices) proves to weigh zero.

    Costs a linear program with one inequality per different column; None where there are too many
    of those, weights may be negative, or nothing is implied.
    """
    live = np.flatnonzero(problem.start > 0)
    if (low[live] < 0).any():
        return None
    part = problem.matrix.take_records(live).take_targets(rows)
    columns = sparse.csr_array(part.stored) @ sparse.diags_array(
        part.unit / problem.relative_scale[rows]
    )
    first, member = _different(columns)
    if first.size > _MOST_COLUMNS:
        return None
    size = np.asarray(abs(columns[first]).max(axis=1).todense()).ravel()
    scaled = sparse.diags_array(1.0 / np.where(size > 0, size, 1.0)) @ columns[first]
    goal = problem.targets[rows] / problem.relative_scale[rows]
    proof = _largest_proof(scaled, goal)
    if proof is None:
        return None
    gain = scaled @ proof
    # What the proof leaves a record of this column, at most, beside all the weight there is.
    if float(goal @ proof) > tolerance * float(np.abs(goal) @ np.abs(proof)):
        return None
    records = np.zeros(problem.start.size, dtype=bool)
    records[live] = (gain > 0.5)[member]
    if not records.any() or records[live].all():
        return None
    used = rows[np.abs(proof) > 1e-6 * np.abs(proof).max()]
    names = tuple(problem.target_names[j] for j in used)
    text = (
        f"{int(records.sum()):,} records can only weigh zero: as weights are not negative, targets "
        f"{quoted(names)} together leave them nothing"
    )
    return _finding(records, text, names, low, _REMEDY)


def _different(columns) -> tuple[np.ndarray, np.ndarray]:
    """The first record of each different column, and (records,) which one each record has."""
    dense = np.round(columns.toarray(), 12)
    _, first, member = np.unique(dense, axis=0, return_index=True, return_inverse=True)
    return first, member.ravel()


def _largest_proof(scaled, goal: np.ndarray) -> np.ndarray | None:
    """Multipliers y with scaled @ y >= t >= 0, y.goal <= 0 and sum t largest, t <= 1 each."""
    n, m = scaled.shape
    rises = sparse.hstack([-scaled, sparse.eye_array(n)], format="csc")
    total = sparse.csr_array(np.concatenate([goal, np.zeros(n)])[None, :])
    answer = linprog(
        np.concatenate([np.zeros(m), -np.ones(n)]),
        A_ub=sparse.vstack([rises, total], format="csc"),
        b_ub=np.zeros(n + 1),
        bounds=[(None, None)] * m + [(0.0, 1.0)] * n,
        method="highs",
        options={"time_limit": _SECONDS},
    )
    if answer.status != 0 or answer.x is None or -answer.fun < 0.5:
        return None
    return answer.x[:m]
