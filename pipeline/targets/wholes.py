"""A part never exceeds its whole: persons 65 and over of a county and the county's persons.

Belongs here: which variable is part of which, and moving reconciled values as little as needed
until none is above its whole. Does not belong here: reconciling variable by variable
(``calibration_core/tree/reconcile/levels.py``), or categories that add up to their parent
(``category_step.py``).

Every domain of a count is part of the domain ``total`` of the same variable: persons of any kind
among persons, households among households, returns among returns. First the least squares of the
tree are solved again with the leaves that lie above their whole held there, until none does
(``reconciled_within_wholes``); what a leaf cannot hold then lowers the sums above it as far as
these are uncertain. Held leaves are not let go again, which with upper bounds alone is the optimum
(the argument of ``tree/reconcile/levels.py``, mirrored). Once categories are settled and levels
held, going down level by level, the areas c of one parent solve

    minimise sum (x_c - m_c)^2 / s_c   subject to   0 <= x_c <= whole_c,  sum of x_c = X ,

m and s the reconciled values and variances, X the parent's value. The answer is x_c = m_c + s_c
lambda, cut at both bounds, with the one lambda at which the sum is X.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.reconcile.levels import ReconcileResult, reconcile_tree
from pipeline.errors import TargetError
from pipeline.vocabulary import Key

TOTAL = "total"
# Sums of reconciled values agree to about 1e-9; what is above its whole by less is rounding.
ROUNDING = 1e-7
_STEPS = 200
_ROUNDS = 50


def wholes_of(keys: Sequence[Key], counted: np.ndarray) -> dict[int, int]:
    """Position of the whole by position of the part; ``counted``: (variables,) bool, counts."""
    place = {key: i for i, key in enumerate(keys)}
    return {
        i: place[variable, TOTAL]
        for i, (variable, domain) in enumerate(keys)
        if domain != TOTAL and counted[i] and (variable, TOTAL) in place
    }


def reconciled_within_wholes(
    tree: GeographyTree,
    keys: Sequence[Key],
    y: list[np.ndarray],
    v: list[np.ndarray],
    nonnegative: np.ndarray,
) -> tuple[ReconcileResult, np.ndarray]:
    """``reconcile`` of estimates ``y`` with variances ``v``, per level (areas, variables), no count
    at a leaf above its whole.

    A leaf that would lie above is made exact at its whole, in ``y`` and ``v`` in place. Returns the
    result and (leaves, variables) bool, which ones. Wholes take no part in the further rounds: they
    do not move.
    """
    result = reconcile_tree(tree, y, v, nonnegative=nonnegative)
    wholes = wholes_of(keys, nonnegative)
    parts, caps = list(wholes), list(wholes.values())
    held = np.zeros(y[-1].shape, dtype=bool)
    whole = result.values[-1][:, caps]
    known = np.isfinite(result.variances[-1][:, caps]) & np.isfinite(v[-1][:, parts])
    for _ in range(_ROUNDS):
        x = result.values[-1][:, parts]
        over = known & (x > whole * (1.0 + ROUNDING) + ROUNDING)
        if not over.any():
            break
        for leaf, column in np.argwhere(over):
            part = parts[column]
            y[-1][leaf, part], v[-1][leaf, part] = max(whole[leaf, column], 0.0), 0.0
            held[leaf, part] = True
        result = reconcile_tree(tree, y, v, nonnegative=nonnegative)
    return result, held


def hold_parts_within_wholes(
    tree: GeographyTree,
    keys: Sequence[Key],
    values: Sequence[np.ndarray],
    variances: Sequence[np.ndarray],
    counted: np.ndarray,
) -> int:
    """Move values in place, per level (areas, variables), until no part is above its whole.

    Returns how many values lay above. Values and wholes that are not known (variance inf) are left
    alone. Raises TargetError where the areas cannot hold their parent's figure.
    """
    above = 0
    wholes = wholes_of(keys, counted)
    for part, whole in wholes.items():
        for depth in range(1, len(values)):
            parent = tree.parents[depth]
            x, cap = values[depth][:, part], values[depth][:, whole]
            known = np.isfinite(variances[depth][:, part]) & np.isfinite(variances[depth][:, whole])
            over = known & (x > cap * (1.0 + ROUNDING) + ROUNDING)
            above += int(over.sum())
            total = values[depth - 1][:, part]
            apart = np.abs(np.bincount(parent, np.where(known, x, 0.0), total.size) - total)
            # Parents whose areas exceed their wholes, or which were themselves moved above.
            moved = np.zeros(total.size, dtype=bool)
            moved[parent[over]] = True
            moved |= np.isfinite(variances[depth - 1][:, part]) & (
                apart > ROUNDING * np.maximum(1.0, np.abs(total))
            )
            for area in np.flatnonzero(moved):
                own = np.flatnonzero(parent == area)
                if not known[own].all():
                    continue
                room = float(cap[own].sum())
                if total[area] > room * (1.0 + ROUNDING) + ROUNDING:
                    raise _no_room(tree, keys, depth, int(area), part, float(total[area]), room)
                spread = variances[depth][own, part]
                x[own] = _within(x[own], spread, np.maximum(cap[own], 0.0), float(total[area]))
    return above


def _within(m: np.ndarray, s: np.ndarray, cap: np.ndarray, total: float) -> np.ndarray:
    """``clip(m + s lambda, 0, cap)`` with the sum ``total``, by bisection on lambda."""
    # Exact values take no part, unless nothing else is left to move.
    s = np.where(s > 0, s, 1e-12 * max(1.0, float(s.max())))
    total = min(max(total, 0.0), float(cap.sum()))
    low, high = float((-m / s).min()), float(((cap - m) / s).max())
    for _ in range(_STEPS):
        middle = 0.5 * (low + high)
        if np.clip(m + s * middle, 0.0, cap).sum() < total:
            low = middle
        else:
            high = middle
        if middle in (low, high) and high - low <= np.spacing(max(abs(low), abs(high))):
            break
    x = np.clip(m + s * high, 0.0, cap)
    free = (x > 0) & (x < cap)
    # What bisection leaves over is rounding; it goes to the widest value that is free.
    if free.any():
        widest = np.flatnonzero(free)[np.argmax(s[free])]
        x[widest] = min(max(x[widest] + total - x.sum(), 0.0), cap[widest])
    return x


def _no_room(
    tree: GeographyTree,
    keys: Sequence[Key],
    depth: int,
    area: int,
    part: int,
    total: float,
    room: float,
) -> TargetError:
    variable, domain = keys[part]
    level, geoid = tree.levels[depth - 1], tree.geoids[depth - 1][area]
    return TargetError(
        f"{level} {geoid} has {total:,.1f} {variable} {domain}, and its areas hold only"
        f" {room:,.1f} {variable} in all",
        where=f"{level} {geoid}, {variable}/{domain} against {variable}/{TOTAL}",
        expected="a part no larger than its whole",
        remedy="Compare the two sources; one may be of another year or another area",
    )
