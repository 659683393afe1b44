"""Splitting a budget of records into whole numbers: over areas, and over categories within an area.

Belongs here: exact integer allocation and inclusion probabilities. Does not belong here: which record is drawn
(``selection.py``).
"""

from __future__ import annotations

import numpy as np

from calibration_core.errors import BudgetError, ProblemError


def allocate(budget: int, size: np.ndarray, *, floor: int, ceiling: np.ndarray, names: tuple[str, ...] = ()) -> np.ndarray:
    """Whole numbers proportional to ``size``, at least ``floor`` and at most ``ceiling`` each, summing to ``budget`` exactly.

    Shares that would break a bound are fixed there and the rest is shared again (Hamilton's largest remainders; ties go to
    the earlier area).

    Parameters
    ----------
    budget : total to give out.
    size : (areas,) float64 >= 0, measure of each area.
    floor : smallest allocation; lowered to the ceiling in areas whose ceiling is below it.
    ceiling : (areas,) int64 largest allocation, for example the number of usable records.

    An area without usable records (ceiling 0, size 0: nobody lives there) gets none.

    Raises
    ------
    BudgetError : the budget is below the number of areas with records, or above the sum of ceilings.
    """
    size, ceiling = np.asarray(size, dtype=np.float64), np.asarray(ceiling, dtype=np.int64)
    areas = size.size
    if ceiling.shape != (areas,) or not np.isfinite(size).all() or (size < 0).any():
        raise ProblemError("size and ceiling must be finite, non-negative and of one length", expected=f"({areas},)")
    empty = np.flatnonzero((ceiling < 1) & (size > 0))
    if empty.size:
        label = names[int(empty[0])] if names else f"number {int(empty[0])}"
        raise BudgetError(f"{empty.size} areas have size but no usable record, first {label}", expected="a record with positive weight in every such area")
    peopled = int((ceiling > 0).sum())
    if budget < peopled:
        raise BudgetError(
            f"The budget k is {budget:,} for {peopled:,} areas with records", expected="at least one record an area", remedy=f"Ask for {peopled:,} or more"
        )
    if budget > int(ceiling.sum()):
        raise BudgetError(
            f"The budget k is {budget:,}, but only {int(ceiling.sum()):,} pairs exist",
            expected="k no larger than the pairs",
            remedy=f"Ask for {int(ceiling.sum()):,} or fewer",
        )
    low = np.minimum(max(1, min(floor, budget // max(peopled, 1))), ceiling)
    if int(low.sum()) > budget:
        low = np.minimum(1, ceiling)
    share = np.zeros(areas)
    fixed = np.zeros(areas, dtype=bool)
    answer = low.astype(np.float64)
    while True:
        rest = budget - answer[fixed].sum()
        free = ~fixed
        if not free.any():
            break
        weight = np.where(free, size, 0.0)
        if weight.sum() <= 0:
            weight = free.astype(np.float64)
        share = rest * weight / weight.sum()
        below, above = free & (share < low), free & (share > ceiling)
        lack, excess = (low - share)[below].sum(), (share - ceiling)[above].sum()
        if not below.any() and not above.any():
            answer[free] = share[free]
            break
        hit, bound = (below, low) if lack >= excess else (above, ceiling)
        answer[hit] = bound[hit]
        fixed |= hit
    return _largest_remainders(answer, budget, ceiling)


def _largest_remainders(share: np.ndarray, total: int, ceiling: np.ndarray) -> np.ndarray:
    whole = np.floor(share + 1e-9).astype(np.int64)
    missing = total - int(whole.sum())
    remainder = np.where(whole < ceiling, share - whole, -np.inf)
    while missing > 0:
        order = np.argsort(-remainder, kind="stable")
        take = order[: min(missing, int(np.isfinite(remainder).sum()))]
        whole[take] += 1
        missing = total - int(whole.sum())
        remainder = np.where(whole < ceiling, remainder - 1.0, -np.inf)
    while missing < 0:
        order = np.argsort(remainder, kind="stable")
        take = order[whole[order] > 1][:-missing]
        whole[take] -= 1
        missing = total - int(whole.sum())
    return whole


def inclusion_probabilities(weights: np.ndarray, count: int) -> np.ndarray:
    """Probabilities proportional to ``weights``, capped at one, that sum to ``count``.

    Records whose share exceeds one are certain; the rest share what remains (Tille 2006, section 2.10).

    Parameters
    ----------
    weights : (records,) float64 >= 0.
    count : whole number of records wanted.

    Raises
    ------
    BudgetError : fewer than ``count`` records have positive weight.
    """
    weights = np.asarray(weights, dtype=np.float64)
    positive = weights > 0
    if int(positive.sum()) < count:
        raise BudgetError(f"{int(positive.sum())} records have positive weight, {count} are wanted", expected="at least as many records as asked for")
    probability = np.zeros_like(weights)
    certain = np.zeros(weights.size, dtype=bool)
    while True:
        free = positive & ~certain
        left = count - int(certain.sum())
        probability[certain] = 1.0
        if left <= 0 or not free.any():
            probability[free] = 0.0
            return probability
        probability[free] = left * weights[free] / weights[free].sum()
        above = free & (probability >= 1.0)
        if not above.any():
            return probability
        certain |= above
