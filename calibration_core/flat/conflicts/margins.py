"""Which rows that say the same thing together disagree: margins of one population, duplicates,
other relations.

A relation is a vector v with v'A = 0: then v.b = 0 whatever the weights, or no weights meet the
targets. ``row_structure`` gives every row in coordinates of the kept rows, so relations are found
among (targets, kept) numbers, without another pass over the records. Whether targets disagree at
all is decided elsewhere (``agreement.py``); here those to blame are found.

Rows are added up in plain units: counts in whole records or persons, whatever unit they were
written in, amounts as they were written.

Belongs here: finding relations and their gaps. Does not belong here: words (``precheck.py``),
solvers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.flat.conflicts.agreement import Agreement, relation_noise
from calibration_core.flat.constraint_rows import RowStructure
from calibration_core.flat.problem import CalibrationProblem

# Coordinates closer than this (relative to the largest) are the same row.
_SAME = 1e-7
# Groups beyond which single relations are not searched for a shorter form.
_MOST_GROUPS = 200


@dataclass(frozen=True, eq=False)
class Disagreement:
    """Two margins (or a margin and a total) that count records alike and have different totals.

    Attributes
    ----------
    reference, other : row indices of each.
    factor : the rows of ``other`` add up to factor times those of ``reference``.
    totals : the two totals, of ``other`` divided by the factor, over the rows that some record
        supports; in the caller's units of ``reference``.
    left_out : rows of the two without support, whose targets the totals leave out.
    agreeing : groups (names) that agree with the reference, without it.
    counts_once : whether each record counts exactly once in both.
    """

    reference: np.ndarray
    other: np.ndarray
    factor: float
    totals: tuple[float, float]
    left_out: np.ndarray
    agreeing: tuple[str, ...]
    counts_once: bool

    @property
    def share(self) -> float:
        """How much larger the other total is, relative to the reference; inf where that is zero."""
        return self.totals[1] / self.totals[0] - 1.0 if self.totals[0] != 0 else float("inf")


@dataclass(frozen=True, eq=False)
class Relation:
    """coefficients @ (rows in plain units) = 0 for every record; ``gap`` is what it gives for the
    targets and ``terms`` are its terms, both in the caller's units.
    """

    rows: np.ndarray
    coefficients: np.ndarray
    terms: np.ndarray

    @property
    def gap(self) -> float:
        """What the targets give instead of zero."""
        return float(self.terms.sum())

    @property
    def size(self) -> float:
        """The largest of its terms."""
        return float(np.abs(self.terms).max())


def plain_units(problem: CalibrationProblem) -> np.ndarray:
    """(targets,) factors from the problem's rows to plain units."""
    counts = problem.matrix.counts
    if problem.origin is None:
        return np.where(counts, 1.0 / problem.matrix.unit, 1.0)
    return np.where(counts, 1.0, problem.origin.row)


def written_unit(problem: CalibrationProblem, rows: np.ndarray) -> float | None:
    """The caller's unit of ``rows`` in plain units, if it is the same for all: of counts the number
    they are multiples of, of amounts one.
    """
    counts = problem.matrix.counts[rows]
    if not counts.any():
        return 1.0
    unit = (problem.matrix.unit if problem.origin is None else problem.origin.row)[rows]
    return float(unit[0]) if counts.all() and np.ptp(unit) == 0.0 else None


def told_factor(problem: CalibrationProblem, rows: np.ndarray) -> float:
    """What turns a sum of targets in plain units into the caller's: his unit of the rows, if it is
    the same in all of them, times his unit of weights.
    """
    return (written_unit(problem, rows) or 1.0) * problem.weight_unit


def coordinates(rows: RowStructure, targets: int) -> np.ndarray:
    """(targets, kept): every supported row as a combination of the kept ones; zero for rows without
    support.
    """
    out = np.zeros((targets, rows.kept.size))
    out[rows.kept, np.arange(rows.kept.size)] = 1.0
    out[rows.dependent] = rows.combination
    return out


def duplicates(rows: RowStructure) -> list[tuple[int, int, float]]:
    """(row, kept row, factor) for dependent rows that are a multiple of one kept row."""
    single = np.flatnonzero((rows.combination != 0).sum(axis=1) == 1)
    place = np.argmax(rows.combination[single] != 0, axis=1)
    return [
        (int(rows.dependent[i]), int(rows.kept[k]), float(rows.combination[i, k]))
        for i, k in zip(single, place, strict=True)
    ]


def margin_disagreements(
    problem: CalibrationProblem, rows: RowStructure, tolerance: float
) -> tuple[list[Disagreement], np.ndarray]:
    """Groups with the same row sum and totals further apart than ``tolerance``, each against the
    total that most of the alike groups have.

    Returns
    -------
    The disagreements, and (targets,) the targets with each such group rescaled to agree: what else
    disagrees shows in those.
    """
    return _Margins(problem, rows, tolerance).find()


class _Margins:
    def __init__(self, problem: CalibrationProblem, rows: RowStructure, tolerance: float) -> None:
        self.problem, self.tolerance = problem, tolerance
        self.plain = plain_units(problem)
        self.targets = problem.targets * self.plain
        self.groups, self.member = _members(problem)
        self.supported = np.ones(problem.matrix.targets, dtype=bool)
        self.supported[rows.unsupported] = False
        position = coordinates(rows, problem.matrix.targets) * self.plain[:, None]
        scale = problem.relative_scale[rows.kept][None, :]
        self.sums = np.array([position[index].sum(axis=0) for index in self.member]) * scale
        self.adjusted = np.array(problem.targets)

    def find(self) -> tuple[list[Disagreement], np.ndarray]:
        found = []
        for cluster, factors in _alike(self.sums):
            totals, size = self._totals(cluster, factors)
            best = _majority(totals, size, self.tolerance)
            for k in np.flatnonzero(~best):
                found += self._one(cluster, factors, totals, best, int(k))
        return found, self.adjusted

    def _totals(self, cluster, factors) -> tuple[np.ndarray, np.ndarray]:
        """Totals of the groups of a cluster over the rows some record supports, and the sum of the
        sizes of their targets.
        """
        totals, size = [], []
        for g in cluster:
            index = self.member[g][self.supported[self.member[g]]]
            totals.append(self.targets[index].sum())
            size.append(np.abs(self.targets[index]).sum())
        return np.array(totals) / factors, np.array(size) / np.abs(factors)

    def _one(self, cluster, factors, totals, best, k: int) -> list[Disagreement]:
        reference = int(np.flatnonzero(best)[0])
        pair = self.member[cluster[reference]], self.member[cluster[k]]
        relation = np.zeros(self.targets.size)
        relation[pair[0]] -= self.plain[pair[0]] / factors[reference]
        relation[pair[1]] += self.plain[pair[1]] / factors[k]
        if abs(totals[k] - totals[reference]) <= 10 * relation_noise(self.problem, relation):
            return []
        alike = [i for i in np.flatnonzero(best) if i != reference]
        told, factor = self.problem.weight_unit, float(factors[k] / factors[reference])
        one, other = (written_unit(self.problem, index) for index in pair)
        if one is not None and other is not None:
            told, factor = told * one, factor * other / one
        if totals[k] != 0:
            self.adjusted[pair[1]] *= totals[reference] / totals[k]
        return [
            Disagreement(
                *pair,
                factor,
                (float(totals[reference] * told), float(totals[k] * told)),
                np.concatenate([index[~self.supported[index]] for index in pair]),
                tuple(self.groups[cluster[i]] for i in alike),
                all(self._counts_once(index) for index in pair),
            )
        ]

    def _counts_once(self, index: np.ndarray) -> bool:
        v = np.zeros(self.targets.size)
        v[index] = self.plain[index]
        return bool((self.problem.matrix.exponents(v)[self.problem.start > 0] == 1.0).all())


def other_disagreements(
    problem: CalibrationProblem, rows: RowStructure, found: Agreement, adjusted: np.ndarray
) -> list[Relation]:
    """Relations whose targets disagree, and still do when disagreeing margins are rescaled to
    ``adjusted``; each in as few rows as one group allows, the largest first.
    """
    left = problem.change(targets=adjusted)
    still = _parts(left, rows) > found.tolerance
    open_rows = np.flatnonzero((found.part > found.tolerance) & still)
    if open_rows.size == 0:
        return []
    return _relations_of(problem, rows, open_rows[np.argsort(-found.part[open_rows])], found)


def worst_relation(
    problem: CalibrationProblem, rows: RowStructure, found: Agreement
) -> list[Relation]:
    """The relation that is furthest from holding, where none alone is beyond the tolerance."""
    return _relations_of(problem, rows, np.array([int(found.part.argmax())]), found)


def _parts(problem: CalibrationProblem, rows: RowStructure) -> np.ndarray:
    """(dependent,) the gap of each relation over the sum of the sizes of its terms."""
    size = problem.relative_scale
    terms = size[rows.dependent] + np.abs(rows.combination) @ size[rows.kept]
    return np.abs(rows.disagreement(problem.targets)) / terms


def _relations_of(
    problem: CalibrationProblem, rows: RowStructure, which: np.ndarray, found: Agreement
) -> list[Relation]:
    position = coordinates(rows, problem.matrix.targets)
    position = position * problem.relative_scale[rows.kept][None, :]
    _, member = _members(problem)
    plain = plain_units(problem)
    out = []
    for i in which:
        dependent = int(rows.dependent[i])
        v = _relation(rows, i, problem.matrix.targets)
        v = _shorter(problem, v, dependent, position, member, found.tolerance)
        index = np.flatnonzero(v)
        # In plain units too the row that is expressed by the others counts once.
        coefficients = v[index] / plain[index] * plain[index[np.argmax(v[index] == 1.0)]]
        terms = coefficients * plain[index] * problem.targets[index]
        out.append(Relation(index, coefficients, terms * told_factor(problem, index)))
    return out


def _members(problem: CalibrationProblem) -> tuple[list[str], list[np.ndarray]]:
    """Group names in order of appearance, and the row indices of each."""
    index: dict[str, list[int]] = {}
    for j, group in enumerate(problem.groups):
        index.setdefault(group, []).append(j)
    return list(index), [np.array(x) for x in index.values()]


def _alike(sums: np.ndarray):
    """Yield (indices, factors) of vectors that are multiples of one another; factors relative to
    the first.

    Vectors are sorted by one projection on fixed random numbers, so that equal ones become
    neighbours: no comparison of all pairs.
    """
    top = np.abs(sums).max(axis=1, initial=0.0)
    alive = np.flatnonzero(top > 0)
    # Ties for the largest entry break by rounding; signs and sizes are taken from a projection
    # instead.
    probe = sums @ np.random.default_rng(0).uniform(1.0, 2.0, size=sums.shape[1])
    alive = alive[np.abs(probe[alive]) > 1e-9 * top[alive]]
    unit = sums[alive] / probe[alive][:, None]
    second = unit @ np.random.default_rng(1).uniform(1.0, 2.0, size=sums.shape[1])
    order = np.argsort(second, kind="stable")
    begin = 0
    for end in range(1, order.size + 1):
        first = unit[order[begin]]
        close = _SAME * np.abs(first).max()
        if end < order.size and np.abs(unit[order[end]] - first).max() <= close:
            continue
        if end - begin > 1:
            cluster = np.sort(order[begin:end])
            yield alive[cluster], probe[alive[cluster]] / probe[alive[cluster[0]]]
        begin = end


def _majority(totals: np.ndarray, size: np.ndarray, tolerance: float) -> np.ndarray:
    """Bool: the largest set of totals that agree; of equal sets the one that the earliest total
    belongs to.
    """
    near = np.abs(totals[:, None] - totals[None, :]) <= tolerance * (size[:, None] + size[None, :])
    return near[int(near.sum(axis=1).argmax())]


def _relation(rows: RowStructure, i: int, targets: int) -> np.ndarray:
    v = np.zeros(targets)
    v[rows.kept] = -rows.combination[i]
    v[rows.dependent[i]] = 1.0
    return v


def _shorter(
    problem: CalibrationProblem,
    v: np.ndarray,
    dependent: int,
    position: np.ndarray,
    member: list[np.ndarray],
    tolerance: float,
) -> np.ndarray:
    """The relation of one of its rows to the rows of one other group, if there is one that
    disagrees too, else the relation itself.
    """
    if len(member) > _MOST_GROUPS or np.count_nonzero(v) <= 4:
        return v
    best = v
    for j in (dependent, *np.flatnonzero(v)):
        for index in member:
            index = index[(index != j) & (position[index].any(axis=1))]
            if index.size == 0 or index.size + 1 >= np.count_nonzero(best):
                continue
            trial = _as_sum_of(j, index, position, v.size)
            if trial is None or np.count_nonzero(trial) >= np.count_nonzero(best):
                continue
            if abs(trial @ problem.targets) > tolerance * (np.abs(trial) @ problem.relative_scale):
                best = trial
    return best


def _as_sum_of(j: int, index: np.ndarray, position: np.ndarray, targets: int) -> np.ndarray | None:
    """The relation of row j to the rows ``index``, if it is a combination of them."""
    answer = np.linalg.lstsq(position[index].T, position[j], rcond=1e-10)[0]
    left = np.abs(position[j] - answer @ position[index]).max()
    if left > _SAME * np.abs(position[j]).max():
        return None
    trial = np.zeros(targets)
    trial[index] = -np.where(np.abs(answer) > 1e-7, answer, 0.0)
    trial[j] = 1.0
    return trial
