"""Which targets pull against which in a compromise, read from its multipliers.

In a compromise y_j is proportional to how hard target j pulls its total up (y_j > 0: the fitted
total lies below the target) or down. Where targets contradict one another A'y tends to zero, so
that sum_up y_j f_j = -sum_down y_j f_j for every fitted f: the two sides speak of the same weighted
sum of records, and ask for

    D_up = sum_up y_j b_j / sum_up y_j f_j   and   D_down = sum_down y_j b_j / sum_down y_j f_j

times what it is. D_up / D_down - 1 is the size of the disagreement: 5 % for a margin that is
inflated by 5 %.

Belongs here: words on multipliers. Does not belong here: linear programs, solving.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from calibration_core.flat.conflicts.wording import capital, family, percent
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning

# Margins with less than this share of the strongest one's pull on their side are not named; within
# a margin, targets likewise.
_NAMED = 0.1
# One side with less than this share of the other's pull: it is the bounds (or the sign) of weights
# that resist.
_ONE_SIDED = 0.05
_MOST_SENTENCES = 5
_MOST_NAMES = 3


@dataclass(frozen=True)
class _Side:
    """Targets of one group that pull the same way: their rows, pull (sum |y_j f_j|) and mean
    relative miss (signed, fitted over target).
    """

    rows: np.ndarray
    pull: float
    miss: float


def explain(result: CalibrationResult) -> tuple[CalibrationWarning, ...]:
    """One finding (code ``tension``) for each separate conflict in ``result``, the largest first;
    none without multipliers or misses.

    ``targets`` are the names of all targets that pull noticeably, those that pull up first;
    ``size`` is D_up / D_down - 1, for a conflict with bounds the largest relative miss.
    """
    y = result.multipliers
    if y is None:
        return ()
    problem, missed = result.problem, ~result.targets_met
    pull = np.where(
        missed, np.abs(y) * np.maximum(np.abs(result.fitted), np.abs(problem.targets)), 0.0
    )
    if not pull.any() or not np.isfinite(pull).all():
        return ()
    # A target pulls towards itself; multipliers that push the other way belong to targets that are
    # held, not missed.
    up = (y > 0) & (pull > 0) & (result.residuals < 0)
    down = (y < 0) & (pull > 0) & (result.residuals > 0)
    groups = {g: k for k, g in enumerate(dict.fromkeys(problem.groups))}
    member = np.array([groups[g] for g in problem.groups])
    part = _parts(problem, member, len(groups), up | down)
    found = []
    for label in np.unique(part[up | down]):
        here = part == label
        finding = _sentence(result, y, member, pull, up & here, down & here)
        found += [finding] if finding is not None else []
    found.sort(key=lambda pair: -pair[0])
    return tuple(finding for _, finding in found[:_MOST_SENTENCES])


def _parts(
    problem: CalibrationProblem, member: np.ndarray, groups: int, pulling: np.ndarray
) -> np.ndarray:
    """(targets,) labels: groups that pull and share records, directly or through others, have the
    same.
    """
    x = sparse.csr_array(problem.matrix.by_record)
    rows = np.flatnonzero(pulling)
    touch = sparse.csr_array(
        (np.ones(rows.size), (rows, member[rows])), shape=(member.size, groups)
    )
    shared = abs(x) @ touch
    _, label = connected_components(shared.T @ shared, directed=False)
    return label[member]


def _sentence(
    result: CalibrationResult,
    y: np.ndarray,
    member: np.ndarray,
    pull: np.ndarray,
    up: np.ndarray,
    down: np.ndarray,
):
    problem = result.problem
    ups, downs = _sides(result, member, pull, up), _sides(result, member, pull, down)
    strength = sum(s.pull for s in ups), sum(s.pull for s in downs)
    total = max(strength)
    if total == 0:
        return None
    named = tuple(problem.target_names[j] for s in ups + downs for j in s.rows)
    if min(strength) < _ONE_SIDED * total:
        side, way = (ups, "up") if strength[0] >= strength[1] else (downs, "down")
        miss = max(abs(s.miss) for s in side)
        limits = problem.limits
        stuck = int(
            (
                (result.weights <= limits[0] * (1 + 1e-6))
                | (result.weights >= limits[1] * (1 - 1e-6))
            )[problem.start > 0].sum()
        )
        against = (
            f"the bounds, on which {stuck:,} weights lie"
            if problem.bounded
            else "the limit that weights are not negative"
        )
        text = (
            f"{capital(_list(problem, side))} {'pull' if len(side) > 1 else 'pulls'} {way} against"
            f" {against}"
        )
        return total, CalibrationWarning("tension", text, named, miss)
    demand = [float(y[s] @ problem.targets[s]) / float(y[s] @ result.fitted[s]) for s in (up, down)]
    apart = demand[0] / demand[1] - 1.0 if demand[1] > 0 and demand[0] > 0 else float("nan")
    size = f" by {percent(apart)}" if np.isfinite(apart) else ""
    verb = "pull" if len(ups) > 1 else "pulls"
    text = (
        f"{capital(_list(problem, ups))} {verb} up against {_list(problem, downs)}: they"
        f" disagree{size}"
    )
    return total, CalibrationWarning("tension", text, named, abs(apart))


def _sides(
    result: CalibrationResult, member: np.ndarray, pull: np.ndarray, chosen: np.ndarray
) -> list[_Side]:
    """The groups of one side that pull noticeably, strongest first."""
    out = []
    for k in np.unique(member[chosen]):
        rows = np.flatnonzero(chosen & (member == k))
        rows = rows[pull[rows] >= _NAMED * pull[rows].max()]
        b, f = result.problem.targets[rows], result.fitted[rows]
        share = (f.sum() - b.sum()) / abs(b.sum()) if b.sum() != 0 else float("nan")
        out.append(_Side(rows, float(pull[rows].sum()), float(share)))
    strongest = max((s.pull for s in out), default=0.0)
    return sorted((s for s in out if s.pull >= _NAMED * strongest), key=lambda s: -s.pull)


def _list(problem: CalibrationProblem, sides: list[_Side]) -> str:
    words = []
    for s in sides[:_MOST_NAMES]:
        off = (
            f" (fitted {percent(s.miss)} {'below' if s.miss < 0 else 'above'})"
            if np.isfinite(s.miss)
            else ""
        )
        words.append(family(problem, s.rows) + off)
    if len(sides) > _MOST_NAMES:
        words.append(f"{len(sides) - _MOST_NAMES} others")
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
