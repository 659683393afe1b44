"""Splitting k records into whole numbers over areas, by the size of each area.

``allocation_of`` allocates and says which bounds were in force.

Belongs here: exact integer allocation. Does not belong here: sizes of areas (``area_sizes.py``),
cells within an area (``rounding.py``), or which record is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.warnings import CalibrationWarning
from calibration_core.errors import BudgetError, ProblemError
from calibration_core.sampling.area_sizes import NEYMAN_CAP, AreaSize
from calibration_core.sampling.rounding import largest_remainders


@dataclass(frozen=True, eq=False)
class Allocation:
    """Records of each area, and which bounds were in force.

    Attributes
    ----------
    pairs_per_area : (areas,) int64, summing to ``pairs``.
    rule, pairs : as asked for.
    size : (areas,) float64 measure the rule gave each area.
    floor_asked, floor_used : fewest records per area; the second is lower where the budget does not
        reach the first everywhere.
    ceiling : (areas,) int64 most records an area can have.
    at_floor : (areas,) bool: given the floor, where its share of the sizes alone would be less.
        at_ceiling : (areas,) bool: given all it can have.
    below_floor : (areas,) bool: areas with fewer than ``floor_used``, since their ceiling is lower.
    empty : (areas,) bool: no usable record, so none is given.
    capped_terms : number of (area, variable) whose share of a Neyman size was cut.
    """

    pairs_per_area: np.ndarray
    rule: str
    pairs: int
    size: np.ndarray
    floor_asked: int
    floor_used: int
    ceiling: np.ndarray
    at_floor: np.ndarray
    at_ceiling: np.ndarray
    below_floor: np.ndarray
    empty: np.ndarray
    capped_terms: int = 0

    @property
    def warnings(self) -> tuple[CalibrationWarning, ...]:
        """What was lowered, left out or cut, in words and numbers."""
        found = []
        if self.floor_used < self.floor_asked:
            text = (
                f"The budget of {self.pairs:,} does not give every area {self.floor_asked:,}"
                f" records; the floor was lowered to {self.floor_used:,}"
            )
            found.append(CalibrationWarning("floor_lowered", text, size=float(self.floor_used)))
        for areas, code, words in (
            (self.below_floor, "areas_below_floor", "fewer usable records than the floor"),
            (self.empty, "areas_without_records", "no usable record and get none"),
        ):
            count = int(areas.sum())
            if count:
                found.append(CalibrationWarning(code, f"{count:,} areas have {words}", size=count))
        if self.capped_terms:
            text = (
                f"{self.capped_terms:,} terms of the Neyman size were cut to {NEYMAN_CAP:g} times"
                " the median term"
            )
            found.append(CalibrationWarning("sizes_cut", text, size=float(self.capped_terms)))
        return tuple(found)


def allocation_of(
    measured: AreaSize,
    pairs: int,
    ceiling: np.ndarray,
    *,
    floor: int = 1,
    names: tuple[str, ...] = (),
) -> Allocation:
    """Allocate ``pairs`` records by the sizes of ``area_sizes.area_size``.

    Parameters
    ----------
    ceiling, floor, names : as ``allocate``.

    Raises ProblemError or BudgetError as ``allocate``.
    """
    size, ceiling = measured.size, np.asarray(ceiling, dtype=np.int64)
    pairs_per_area = allocate(pairs, size, floor=floor, ceiling=ceiling, names=names)
    used, empty = floor_within(pairs, floor, ceiling), ceiling < 1
    share = pairs * size / max(size.sum(), 1e-300)
    return Allocation(
        pairs_per_area,
        measured.rule,
        pairs,
        size,
        floor,
        used,
        ceiling,
        at_floor=~empty & (pairs_per_area == used) & (pairs_per_area > share),
        at_ceiling=~empty & (pairs_per_area == ceiling),
        below_floor=~empty & (ceiling < used),
        empty=empty,
        capped_terms=measured.capped_terms,
    )


def floor_within(pairs: int, floor: int, ceiling: np.ndarray) -> int:
    """The floor ``allocate`` uses: ``floor``, or the highest below it that k gives to
    every area up to its ceiling.
    """
    ceiling = np.asarray(ceiling, dtype=np.int64)
    low, high = 1, max(1, int(floor))
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(middle, ceiling).sum()) <= pairs:
            low = middle
        else:
            high = middle - 1
    return low


def allocate(
    pairs: int, size: np.ndarray, *, floor: int, ceiling: np.ndarray, names: tuple[str, ...] = ()
) -> np.ndarray:
    """Whole numbers proportional to ``size``, at least ``floor`` and at most ``ceiling`` each,
    summing to ``pairs`` exactly.

    The numbers are clip(c * size, floor, ceiling) for the one c at which they sum to k,
    then made whole by Hamilton's largest remainders; ties go to the earlier area. Areas of size
    zero rise above the floor only when all others are at their ceilings, then all alike.

    Parameters
    ----------
    pairs : k, the total to give out.
    size : (areas,) float64 >= 0, measure of each area.
    floor : smallest allocation; lowered everywhere to what k reaches (``floor_within``),
        and to the ceiling in areas whose ceiling is below it.
    ceiling : (areas,) int64 largest allocation, for example the number of usable records.

    An area without usable records (ceiling 0, size 0: nobody lives there) gets none.

    Raises
    ------
    ProblemError : sizes or ceilings are negative, not finite or of other lengths.
    BudgetError : k is below the number of areas with records, or above the sum of
        ceilings.
    """
    size, ceiling = np.asarray(size, dtype=np.float64), np.asarray(ceiling, dtype=np.int64)
    areas = size.size
    if (
        ceiling.shape != (areas,)
        or not np.isfinite(size).all()
        or (size < 0).any()
        or (ceiling < 0).any()
    ):
        raise ProblemError(
            "size and ceiling must be finite, non-negative and of one length",
            expected=f"({areas},)",
        )
    empty = np.flatnonzero((ceiling < 1) & (size > 0))
    if empty.size:
        label = names[int(empty[0])] if names else f"number {int(empty[0])}"
        raise BudgetError(
            f"{empty.size} areas have size but no usable record, first {label}",
            expected="a record with positive weight in every such area",
        )
    peopled = int((ceiling > 0).sum())
    if pairs < peopled:
        raise BudgetError(
            f"The budget k is {pairs:,} for {peopled:,} areas with records",
            expected="at least one record per area",
            remedy=f"Ask for {peopled:,} or more",
        )
    if pairs > int(ceiling.sum()):
        raise BudgetError(
            f"The budget k is {pairs:,}, but only {int(ceiling.sum()):,} pairs exist",
            expected="k no larger than the pairs",
            remedy=f"Ask for {int(ceiling.sum()):,} or fewer",
        )
    low = np.minimum(floor_within(pairs, floor, ceiling), ceiling)
    sized, others = size > 0, (size <= 0) & (ceiling > 0)
    # Areas without size stay at the floor unless the others cannot hold the rest.
    rest = pairs - int(low[~sized].sum())
    share = low.astype(np.float64)
    if rest > int(ceiling[sized].sum()):
        share[sized] = ceiling[sized]
        share[others] = _proportional(
            pairs - int(ceiling[sized].sum()), np.ones(others.sum()), low[others], ceiling[others]
        )
    else:
        share[sized] = _proportional(rest, size[sized], low[sized], ceiling[sized])
    return largest_remainders(share, pairs, low, ceiling)


def _proportional(total: int, size: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """clip(c * size, low, high) with the one c at which it sums to ``total``; sizes positive.

    The sum rises in c, linearly between the places where an area leaves its floor or meets its
    ceiling: find the stretch, then solve.
    """
    if size.size == 0:
        return low.astype(np.float64)
    # In logarithms, so that sizes however far apart do not overflow.
    log_size, log_low, log_high = np.log(size), np.log(low), np.log(high)
    knots = np.unique(np.concatenate([log_low - log_size, log_high - log_size]))
    first, last = 0, knots.size - 1
    while last - first > 1:
        middle = (first + last) // 2
        if np.exp(np.clip(knots[middle] + log_size, log_low, log_high)).sum() <= total:
            first = middle
        else:
            last = middle
    between = 0.5 * (knots[first] + knots[last]) + log_size
    rising = (between > log_low) & (between < log_high)
    answer = np.where(between <= log_low, low, high).astype(np.float64)
    if rising.any():
        part = size[rising] / size[rising].max()
        answer[rising] = part * ((total - answer[~rising].sum()) / part.sum())
    return np.clip(answer, low, high)
