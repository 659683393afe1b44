"""Making categories add up: children of a group sum to their parent in every area, and areas keep summing to the level above.

For the areas of one level and K variables with estimates y and variances v, find x minimising sum (x - y)^2 / v subject to

    x[a, parent] = sum over children of x[a, child]            for every group and area a,
    sum over areas a inside b of x[a, k] = T[b, k]             for every area b of the level above, where T is known,

and x >= 0 where asked. Groups may cross (age by sex, age, sex): all are solved together, since settling them one after another
makes each undo the last. The correction is the minimum-norm solution of a sparse linear system in units of standard errors
(Paige and Saunders' LSQR), which does not mind redundant constraints; non-negativity is an active set.

Belongs here: this projection on arrays. Does not belong here: the sweep along the tree (``reconcile.py``), or what a group means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import lsqr

from calibration_core.errors import ProblemError

_SETTLED = 1e-9
_ROUNDS = 30


@dataclass(frozen=True)
class Group:
    """``children`` (indices of variables) partition ``parent``."""

    parent: int
    children: tuple[int, ...]


@dataclass(frozen=True)
class CategoryResult:
    """``values`` (areas, variables); ``gap_before``, ``gap_after`` (groups,): largest |parent - sum of children| over areas, relative to
    the largest parent; ``total_gap``: the same for the sums over areas; ``pinned``: values held at zero; ``converged``: all gaps below 1e-9."""

    values: np.ndarray
    gap_before: np.ndarray
    gap_after: np.ndarray
    total_gap: float
    pinned: int
    converged: bool


def reconcile_categories(
    values: np.ndarray,
    variances: np.ndarray,
    groups: Sequence[Group],
    *,
    nonnegative: np.ndarray,
    parent_area: np.ndarray | None = None,
    totals: np.ndarray | None = None,
) -> CategoryResult:
    """Project estimates on the constraints above.

    Parameters
    ----------
    values, variances : (areas, variables) float64; variance 0 marks a value that must not move.
    groups : groups whose members are all finite in every area.
    nonnegative : (variables,) bool.
    parent_area : (areas,) int64 index of each area's parent, with ``totals`` (parents, variables), NaN where a total is not held.

    Raises
    ------
    ProblemError : shapes disagree, or a group's member is not finite.
    """
    y, v = np.asarray(values, dtype=np.float64), np.asarray(variances, dtype=np.float64)
    if y.shape != v.shape or nonnegative.shape != (y.shape[1],):
        raise ProblemError(f"values {y.shape}, variances {v.shape}, nonnegative {nonnegative.shape}", expected="(areas, variables) twice and (variables,)")
    members = sorted({i for g in groups for i in (g.parent, *g.children)})
    if not np.isfinite(y[:, members]).all() or not np.isfinite(v[:, members]).all():
        raise ProblemError("A member of a group is not finite", expected="finite values and variances; leave such groups out")
    place = {k: i for i, k in enumerate(members)}
    sub, spread = y[:, members], v[:, members]
    matrix, target = _constraints(sub, groups, place, parent_area, None if totals is None else totals[:, members])
    x, pinned = sub.copy(), np.zeros(sub.shape, dtype=bool)
    before = _group_gaps(sub, groups, place)
    for _ in range(_ROUNDS):
        x = _project(np.where(pinned, 0.0, sub), np.where(pinned, 0.0, spread), matrix, target)
        floor = -1e-12 * np.maximum(1.0, np.abs(sub).max(axis=0, initial=0.0))
        negative = (x < floor) & nonnegative[members] & ~pinned & (spread > 0)
        if not negative.any():
            break
        pinned |= negative
    x = np.where(nonnegative[members], np.maximum(x, 0.0), x)
    after = _group_gaps(x, groups, place)
    residual = matrix @ x.ravel() - target
    rows = len(groups) * sub.shape[0]
    scale = max(1.0, float(np.abs(sub).max(initial=0.0)))
    total_gap = float(np.abs(residual[rows:]).max(initial=0.0)) / scale
    answer = y.copy()
    answer[:, members] = x
    return CategoryResult(answer, before, after, total_gap, int(pinned.sum()), bool(after.max(initial=0.0) < _SETTLED and total_gap < _SETTLED))


def _constraints(
    sub: np.ndarray, groups: Sequence[Group], place: dict[int, int], parent_area: np.ndarray | None, totals: np.ndarray | None
) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Rows of A x = b on x ravelled by area: groups of each area first, then sums over areas."""
    areas, width = sub.shape
    rows, columns, entries, target = [], [], [], []
    row = 0
    for area in range(areas):
        for group in groups:
            ids = [place[group.parent], *(place[c] for c in group.children)]
            rows += [row] * len(ids)
            columns += [area * width + i for i in ids]
            entries += [1.0] + [-1.0] * len(group.children)
            target.append(0.0)
            row += 1
    if totals is not None and parent_area is not None:
        for parent in range(totals.shape[0]):
            inside = np.flatnonzero(parent_area == parent)
            for k in np.flatnonzero(np.isfinite(totals[parent])):
                rows += [row] * inside.size
                columns += (inside * width + k).tolist()
                entries += [1.0] * inside.size
                target.append(float(totals[parent, k]))
                row += 1
    return sparse.csr_matrix((entries, (rows, columns)), shape=(row, areas * width)), np.array(target)


def _project(y: np.ndarray, v: np.ndarray, matrix: sparse.csr_matrix, target: np.ndarray) -> np.ndarray:
    """y plus the smallest correction, in standard errors, that meets the constraints; repeated on what rounding leaves over."""
    error = np.sqrt(v).ravel()
    scaled = matrix @ sparse.diags(error)
    size = np.sqrt(np.asarray(scaled.multiply(scaled).sum(axis=1)).ravel())
    weight = np.where(size > 0, 1.0 / np.where(size > 0, size, 1.0), 0.0)
    scaled = sparse.diags(weight) @ scaled
    x = y.ravel().copy()
    for _ in range(4):
        residual = (target - matrix @ x) * weight
        step = lsqr(scaled, residual, atol=1e-15, btol=1e-15, iter_lim=20 * sum(matrix.shape))[0]
        x += error * step
    return x.reshape(y.shape)


def _group_gaps(x: np.ndarray, groups: Sequence[Group], place: dict[int, int]) -> np.ndarray:
    gaps = []
    for group in groups:
        parent = x[:, place[group.parent]]
        children = x[:, [place[c] for c in group.children]].sum(axis=1)
        gaps.append(float(np.abs(parent - children).max(initial=0.0)) / max(1.0, float(np.abs(parent).max(initial=0.0))))
    return np.array(gaps)
