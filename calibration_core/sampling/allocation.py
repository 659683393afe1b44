"""Splitting a budget of records into whole numbers over areas, by the size of each area.

Sizes: the dense total to a power (``population_size``), the effective number of dense weights
(``effective_size``), or what a draw would err by (``neyman_size``). ``allocation_of`` measures,
allocates and says which bounds were in force.

Belongs here: exact integer allocation, sizes of areas, and inclusion probabilities. Does not belong
here: cells within an area (``sampling/rounding.py``), or which record is drawn
(``tree/select/pairs.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.errors import BudgetError, ProblemError, SettingsError

RULES = ("equal", "population", "effective", "neyman", "given")
NEYMAN_CAP = 100.0
_SLOP = 1e-9


@dataclass(frozen=True, eq=False)
class Allocation:
    """Records of each area, and which bounds were in force.

    Attributes
    ----------
    per_area : (areas,) int64, summing to ``budget``.
    rule, budget : as asked for.
    size : (areas,) float64 measure the rule gave each area.
    floor_asked, floor_used : fewest records an area; the second is lower where the budget does not
        reach the first everywhere.
    ceiling : (areas,) int64 most records an area can have.
    at_floor : (areas,) bool: given the floor, where its share of the sizes alone would be less.
        at_ceiling : (areas,) bool: given all it can have.
    below_floor : (areas,) bool: areas with fewer than ``floor_used``, since their ceiling is lower.
    empty : (areas,) bool: no usable record, so none is given.
    capped_terms : number of (area, variable) whose share of a Neyman size was cut.
    """

    per_area: np.ndarray
    rule: str
    budget: int
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
    def warnings(self) -> tuple[str, ...]:
        """What was lowered, left out or cut, in words and numbers."""
        found = []
        if self.floor_used < self.floor_asked:
            found.append(
                f"The budget of {self.budget:,} does not give every area {self.floor_asked:,}"
                f" records; the floor was lowered to {self.floor_used:,}"
            )
        for areas, words in (
            (self.below_floor, "areas have fewer usable records than the floor"),
            (self.empty, "areas have no usable record and get none"),
        ):
            if areas.any():
                found.append(f"{int(areas.sum()):,} {words}")
        if self.capped_terms:
            found.append(
                f"{self.capped_terms:,} terms of the Neyman size were cut to {NEYMAN_CAP:g} times"
                " the median term"
            )
        return tuple(found)


def allocation_of(
    rule: str,
    budget: int,
    dense: np.ndarray,
    *,
    design: np.ndarray | None = None,
    scales: np.ndarray | None = None,
    size: np.ndarray | None = None,
    floor: int = 1,
    ceiling: np.ndarray | None = None,
    power: float = 0.25,
    names: tuple[str, ...] = (),
) -> Allocation:
    """Measure the areas by ``rule`` and allocate ``budget`` records.

    Parameters
    ----------
    rule : "equal", "population" (dense total to ``power``; 0.25 fits best over tracts and counties
        alike), "effective" (effective number of dense weights), "neyman" (needs ``design`` and
        ``scales``), "given" (``size``, for example from a pilot's errors).
    dense : (areas, records) float64 >= 0 dense calibrated weights.
    design : (records, variables) float64 contributions.
    scales : (areas, variables) float64 > 0, inf where there is no target.
    size : (areas,) float64 >= 0 for the rule "given"; 0 in areas without a usable record.
    floor, ceiling, names : as ``allocate``; the ceiling defaults to ``pair_ceiling``.

    Raises
    ------
    SettingsError : an unknown rule, "neyman" without design and scales, or "given" without a size
        (or another with one).
    ProblemError, BudgetError : as ``allocate``.
    """
    dense = np.asarray(dense, dtype=np.float64)
    if dense.ndim != 2 or not np.isfinite(dense).all() or (dense < 0).any():
        raise ProblemError(
            "Dense weights are negative, not finite, or no table",
            expected="(areas, records) finite weights >= 0",
        )
    if rule not in RULES:
        raise SettingsError(
            f"The allocation rule is {rule!r}", expected=f"one of {', '.join(RULES)}"
        )
    if rule == "neyman" and (design is None or scales is None):
        raise SettingsError(
            "The allocation rule neyman has no targets",
            expected="design and scales",
            remedy="Pass those of the finest level",
        )
    if (rule == "given") != (size is not None):
        raise SettingsError(
            f"The allocation rule is {rule!r} with {'no' if size is None else 'a'} size",
            expected="a size for the rule 'given' and for no other",
        )
    capped = 0
    if rule == "given":
        size = np.asarray(size, dtype=np.float64)
    elif rule == "neyman":
        size, capped = neyman_size(dense, design, scales)
    elif rule == "effective":
        size = effective_size(dense)
    else:
        size = population_size(dense, 0.0 if rule == "equal" else power)
    ceiling = (
        pair_ceiling(dense, budget) if ceiling is None else np.asarray(ceiling, dtype=np.int64)
    )
    per_area = allocate(budget, size, floor=floor, ceiling=ceiling, names=names)
    used, empty = floor_within(budget, floor, ceiling), ceiling < 1
    return Allocation(
        per_area,
        rule,
        budget,
        size,
        floor,
        used,
        ceiling,
        at_floor=~empty & (per_area == used) & (per_area > budget * size / max(size.sum(), 1e-300)),
        at_ceiling=~empty & (per_area == ceiling),
        below_floor=~empty & (ceiling < used),
        empty=empty,
        capped_terms=capped,
    )


def pair_ceiling(dense: np.ndarray, budget: int) -> np.ndarray:
    """(areas,) int64 most records of each area: those with positive weight, but no more than its
    whole households where the budget allows.

    An area of five households needs no twenty records of a quarter household each; only a budget
    too large for that splits them.
    """
    usable = (dense > 0).sum(axis=1)
    whole = np.minimum(
        usable, np.maximum(1, np.floor(dense.sum(axis=1))).astype(np.int64) * (usable > 0)
    )
    return whole if int(whole.sum()) >= budget else usable


def population_size(dense: np.ndarray, power: float = 0.5) -> np.ndarray:
    """(areas,) float64: total dense weight of each area to a power: 0 equal, 1 proportional; 0
    where there is no weight.
    """
    total = np.asarray(dense, dtype=np.float64).sum(axis=1)
    return np.where(total > 0, np.maximum(total, 1e-300) ** power, 0.0)


def effective_size(dense: np.ndarray) -> np.ndarray:
    """(areas,) float64: effective number of dense weights, (sum w)^2 / sum w^2 (Kish, Survey
    Sampling, 1965); 0 where there is no weight.
    """
    dense = np.asarray(dense, dtype=np.float64)
    squares = np.einsum("tr,tr->t", dense, dense)
    return dense.sum(axis=1) ** 2 / np.where(squares > 0, squares, 1.0)


def neyman_size(
    dense: np.ndarray, design: np.ndarray, scales: np.ndarray, *, cap: float = NEYMAN_CAP
) -> tuple[np.ndarray, int]:
    """(areas,) float64 root of the squared error, in scales, of totals from one record; and the
    number of terms cut.

    With n records drawn in area t the total of variable j errs by about W_t^2 v_tj / n, where W_t
    is the dense total and v_tj the dense-weighted variance of x_j there. Records in proportion to

        size_t = sqrt(sum_j min(W_t^2 v_tj / s_tj^2, cap * median))

    make sum_tj error / s^2 least (Neyman, Journal of the Royal Statistical Society 97 (1934)
    558-606; several variables as in Bethel, Survey Methodology 15 (1989) 47-57). The median is over
    all positive terms: a target so tight that no draw could meet it counts as ``cap`` ordinary
    ones, not more. Where nothing varies the size is W_t.

    Parameters
    ----------
    dense : (areas, records) float64 >= 0. design : (records, variables) float64. scales : (areas,
        variables) float64 > 0 or inf.

    Raises ProblemError if shapes disagree.
    """
    dense, design, scales = (np.asarray(a, dtype=np.float64) for a in (dense, design, scales))
    if (
        design.ndim != 2
        or design.shape[0] != dense.shape[1]
        or scales.shape != (dense.shape[0], design.shape[1])
    ):
        raise ProblemError(
            f"dense {dense.shape}, design {design.shape}, scales {scales.shape}",
            expected="(areas, records), (records, variables), (areas, variables)",
        )
    total = dense.sum(axis=1, keepdims=True)
    # Deviations from the overall mean, so that the difference of squares below keeps its digits.
    deviation = design - design.mean(axis=0)
    mean = dense @ deviation / np.where(total > 0, total, 1.0)
    spread = np.maximum(total * (dense @ deviation**2) - (total * mean) ** 2, 0.0)
    terms = np.where(
        np.isfinite(scales), spread / np.where(np.isfinite(scales), scales, 1.0) ** 2, 0.0
    )
    # What rounding leaves of a variable that does not vary is no spread.
    terms[spread <= 1e-12 * total * (dense @ deviation**2)] = 0.0
    positive = terms[terms > 0]
    if positive.size == 0:
        return population_size(dense, 1.0), 0
    most = cap * float(np.median(positive))
    return np.sqrt(np.minimum(terms, most).sum(axis=1)), int((terms > most).sum())


def floor_within(budget: int, floor: int, ceiling: np.ndarray) -> int:
    """The floor ``allocate`` uses: ``floor``, or the highest below it that the budget gives to
    every area up to its ceiling.
    """
    ceiling = np.asarray(ceiling, dtype=np.int64)
    low, high = 1, max(1, int(floor))
    while low < high:
        middle = (low + high + 1) // 2
        if int(np.minimum(middle, ceiling).sum()) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def allocate(
    budget: int, size: np.ndarray, *, floor: int, ceiling: np.ndarray, names: tuple[str, ...] = ()
) -> np.ndarray:
    """Whole numbers proportional to ``size``, at least ``floor`` and at most ``ceiling`` each,
    summing to ``budget`` exactly.

    The numbers are clip(c * size, floor, ceiling) for the one c at which they sum to the budget,
    then made whole by Hamilton's largest remainders; ties go to the earlier area. Areas of size
    zero rise above the floor only when all others are at their ceilings, then all alike.

    Parameters
    ----------
    budget : total to give out.
    size : (areas,) float64 >= 0, measure of each area.
    floor : smallest allocation; lowered everywhere to what the budget reaches (``floor_within``),
        and to the ceiling in areas whose ceiling is below it.
    ceiling : (areas,) int64 largest allocation, for example the number of usable records.

    An area without usable records (ceiling 0, size 0: nobody lives there) gets none.

    Raises
    ------
    ProblemError : sizes or ceilings are negative, not finite or of other lengths.
    BudgetError : the budget is below the number of areas with records, or above the sum of
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
    if budget < peopled:
        raise BudgetError(
            f"The budget k is {budget:,} for {peopled:,} areas with records",
            expected="at least one record an area",
            remedy=f"Ask for {peopled:,} or more",
        )
    if budget > int(ceiling.sum()):
        raise BudgetError(
            f"The budget k is {budget:,}, but only {int(ceiling.sum()):,} pairs exist",
            expected="k no larger than the pairs",
            remedy=f"Ask for {int(ceiling.sum()):,} or fewer",
        )
    low = np.minimum(floor_within(budget, floor, ceiling), ceiling)
    sized, others = size > 0, (size <= 0) & (ceiling > 0)
    # Areas without size stay at the floor unless the others cannot hold the rest.
    rest = budget - int(low[~sized].sum())
    share = low.astype(np.float64)
    if rest > int(ceiling[sized].sum()):
        share[sized] = ceiling[sized]
        share[others] = _proportional(
            budget - int(ceiling[sized].sum()), np.ones(others.sum()), low[others], ceiling[others]
        )
    else:
        share[sized] = _proportional(rest, size[sized], low[sized], ceiling[sized])
    return _largest_remainders(share, budget, low, ceiling)


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


def _largest_remainders(
    share: np.ndarray, total: int, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Shares between ``low`` and ``high`` summing to about ``total``, made whole and exact within
    the same bounds.
    """
    whole = np.clip(np.floor(share + _SLOP * np.maximum(1.0, share)).astype(np.int64), low, high)
    while missing := total - int(whole.sum()):
        step = 1 if missing > 0 else -1
        remainder = (
            np.where(whole < high, share - whole, -np.inf)
            if step > 0
            else np.where(whole > low, whole - share, -np.inf)
        )
        # Remainders equal but for rounding errors are ties: the earlier area first.
        order = np.argsort(-np.round(remainder, 9), kind="stable")
        take = order[: min(abs(missing), int(np.isfinite(remainder).sum()))]
        whole[take] += step
    return whole


def inclusion_probabilities(weights: np.ndarray, count: int) -> np.ndarray:
    """Probabilities proportional to ``weights``, capped at one, that sum to ``count``.

    Records whose share exceeds one are certain; the rest share what remains (Tille 2006, section
    2.10).

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
        raise BudgetError(
            f"{int(positive.sum())} records have positive weight, {count} are wanted",
            expected="at least as many records as asked for",
        )
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
