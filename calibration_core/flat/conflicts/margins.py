"""Rows that say the same thing together, and whether their targets agree: margins of one
population, duplicates, other relations.

A relation is a vector v with v'A = 0: then v.b = 0 whatever the weights, or no weights meet the
targets. ``row_structure`` gives every row in coordinates of the kept rows, so relations are found
among (targets, kept) numbers, without another pass over the records. A disagreement is believed
only if it exceeds what the rounding of v could explain, |v'A| d.

Belongs here: finding relations and their gaps. Does not belong here: words (``precheck.py``),
solvers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.flat.constraint_rows import RowStructure
from calibration_core.flat.problem import CalibrationProblem

# Relative disagreement that is still rounding; the same as the tolerance under which a target
# counts as met.
AGREES = 1e-9
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
        supports.
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
    """coefficients @ A[rows] = 0 for every record; ``gap`` is coefficients @ b[rows], ``size`` the
    largest of its terms.
    """

    rows: np.ndarray
    coefficients: np.ndarray
    gap: float
    size: float


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
    problem: CalibrationProblem, rows: RowStructure
) -> tuple[list[Disagreement], np.ndarray]:
    """Groups with the same row sum and different totals, each against the total that most of the
    alike groups have.

    Returns
    -------
    The disagreements, and (targets,) the targets with each such group rescaled to agree: what else
    disagrees shows in those.
    """
    position = coordinates(rows, problem.matrix.targets)
    groups, member = _members(problem)
    supported = np.ones(problem.matrix.targets, dtype=bool)
    supported[rows.unsupported] = False
    sums = (
        np.array([position[index].sum(axis=0) for index in member])
        * problem.relative_scale[rows.kept][None, :]
    )
    adjusted, found = np.array(problem.targets), []
    for cluster, factors in _alike(sums):
        totals = (
            np.array([problem.targets[member[g]][supported[member[g]]].sum() for g in cluster])
            / factors
        )
        size = np.array([np.abs(problem.targets[member[g]]).max() for g in cluster]) / np.abs(
            factors
        )
        best = _majority(totals, size)
        for k in np.flatnonzero(~best):
            reference = int(np.flatnonzero(best)[0])
            pair = member[cluster[reference]], member[cluster[k]]
            relation = np.zeros(problem.matrix.targets)
            relation[pair[0]] -= 1.0 / factors[reference]
            relation[pair[1]] += 1.0 / factors[k]
            if abs(totals[k] - totals[reference]) <= 10 * _noise(problem, relation):
                continue
            alike = tuple(groups[cluster[i]] for i in np.flatnonzero(best) if i != reference)
            once = all(_counts_once(problem, index) for index in pair)
            out = np.concatenate([index[~supported[index]] for index in pair])
            found.append(
                Disagreement(
                    *pair,
                    float(factors[k] / factors[reference]),
                    (float(totals[reference]), float(totals[k])),
                    out,
                    alike,
                    once,
                )
            )
            if totals[k] != 0:
                adjusted[pair[1]] *= totals[reference] / totals[k]
    return found, adjusted


def contradictions(problem: CalibrationProblem, rows: RowStructure) -> np.ndarray:
    """(dependent,) bool: dependent rows whose target differs from what the kept targets imply, by
    more than rounding.
    """
    gap = np.abs(rows.disagreement(problem.targets))
    suspect = gap > AGREES * rows.spread(problem.targets)
    for i in np.flatnonzero(suspect):
        suspect[i] = gap[i] > 10 * _noise(problem, _relation(rows, i, problem.matrix.targets))
    return suspect


def other_disagreements(
    problem: CalibrationProblem, rows: RowStructure, contradicting: np.ndarray, adjusted: np.ndarray
) -> list[Relation]:
    """Relations whose targets disagree, and still do when disagreeing margins are rescaled; each in
    as few rows as one group allows.
    """
    still = np.abs(rows.disagreement(adjusted)) > AGREES * rows.spread(adjusted)
    open_rows = np.flatnonzero(contradicting & still)
    if open_rows.size == 0:
        return []
    position = (
        coordinates(rows, problem.matrix.targets) * problem.relative_scale[rows.kept][None, :]
    )
    _, member = _members(problem)
    found = []
    for i in open_rows:
        v = _shorter(
            problem,
            _relation(rows, i, problem.matrix.targets),
            int(rows.dependent[i]),
            position,
            member,
        )
        index = np.flatnonzero(v)
        terms = v[index] * problem.targets[index]
        found.append(Relation(index, v[index], float(terms.sum()), float(np.abs(terms).max())))
    return found


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
    place = (
        np.abs(sums).argmax(axis=1) if sums.shape[1] else np.zeros(sums.shape[0], dtype=np.int64)
    )
    alive = np.flatnonzero(top > 0)
    # Ties for the largest entry break by rounding; signs and sizes are taken from a projection
    # instead.
    probe = sums @ np.random.default_rng(0).uniform(1.0, 2.0, size=sums.shape[1])
    alive = alive[np.abs(probe[alive]) > 1e-9 * np.abs(sums[alive, place[alive]])]
    unit = sums[alive] / probe[alive][:, None]
    second = unit @ np.random.default_rng(1).uniform(1.0, 2.0, size=sums.shape[1])
    order = np.argsort(second, kind="stable")
    begin = 0
    for end in range(1, order.size + 1):
        first = unit[order[begin]]
        if (
            end < order.size
            and np.abs(unit[order[end]] - first).max() <= _SAME * np.abs(first).max()
        ):
            continue
        if end - begin > 1:
            cluster = np.sort(order[begin:end])
            yield alive[cluster], probe[alive[cluster]] / probe[alive[cluster[0]]]
        begin = end


def _majority(totals: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Bool: the largest set of totals that agree; of equal sets the one that the earliest total
    belongs to.
    """
    near = np.abs(totals[:, None] - totals[None, :]) <= AGREES * np.maximum(
        size[:, None], size[None, :]
    )
    return near[int(near.sum(axis=1).argmax())]


def _relation(rows: RowStructure, i: int, targets: int) -> np.ndarray:
    v = np.zeros(targets)
    v[rows.kept] = -rows.combination[i]
    v[rows.dependent[i]] = 1.0
    return v


def _noise(problem: CalibrationProblem, v: np.ndarray) -> float:
    """|v'A| d: how far v.b may be from zero because v is rounded."""
    return float(np.abs(problem.matrix.exponents(v)) @ problem.start)


def _counts_once(problem: CalibrationProblem, index: np.ndarray) -> bool:
    v = np.zeros(problem.matrix.targets)
    v[index] = 1.0
    return bool((problem.matrix.exponents(v)[problem.start > 0] == 1.0).all())


def _shorter(
    problem: CalibrationProblem,
    v: np.ndarray,
    dependent: int,
    position: np.ndarray,
    member: list[np.ndarray],
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
            answer = np.linalg.lstsq(position[index].T, position[j], rcond=1e-10)[0]
            left = np.abs(position[j] - answer @ position[index]).max()
            if left > _SAME * np.abs(position[j]).max():
                continue
            trial = np.zeros_like(v)
            trial[index] = -np.where(np.abs(answer) > 1e-7, answer, 0.0)
            trial[j] = 1.0
            gap = trial @ problem.targets
            if (
                np.count_nonzero(trial) < np.count_nonzero(best)
                and abs(gap) > AGREES * np.abs(trial * problem.targets).max()
            ):
                best = trial
    return best
