"""Sizes of areas by which a number of records is split over them, and the most each can have.

Sizes: the dense total to a power (``population_size``), the effective number of dense weights
(``effective_size``), or what a draw would err by (``neyman_size``). They are rounded to nine digits
or so, since powers and products differ in their last bits from one processor to the next.

Belongs here: measures of areas. Does not belong here: the split (``allocation.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.area_weights import AreaWeights, weights_of
from calibration_core.common.columns import Design
from calibration_core.common.digits import rounded
from calibration_core.errors import ProblemError, SettingsError

RULES = ("equal", "population", "effective", "neyman")
NEYMAN_CAP = 100.0
# Bits that sizes are rounded to: far above what processors differ in, far below what moves a pair.
_BITS = 30


@dataclass(frozen=True, eq=False)
class AreaSize:
    """Attributes: ``rule`` that measured; ``size`` (areas,) float64 >= 0; ``capped_terms`` number
    of (area, variable) whose share of a Neyman size was cut.
    """

    rule: str
    size: np.ndarray
    capped_terms: int = 0


def area_size(
    rule: str,
    dense: np.ndarray | AreaWeights,
    *,
    power: float = 0.25,
    design: Design | None = None,
    scales: np.ndarray | None = None,
) -> AreaSize:
    """Measure the areas.

    Parameters
    ----------
    rule : "equal", "population" (dense total to ``power``; 0.25 fits best over tracts and counties
        alike), "effective" (effective number of dense weights), "neyman" (needs ``design`` and
        ``scales``).
    dense : (areas, records) float64 >= 0 dense calibrated weights, a table or AreaWeights.
    design : (records, variables) float64 contributions.
    scales : (areas, variables) float64 > 0, inf where there is no target.

    Raises
    ------
    SettingsError : an unknown rule, or "neyman" without design and scales.
    ProblemError : dense weights are negative, not finite, or no table.
    """
    dense = weights_of(dense)
    dense.check()
    if rule not in RULES:
        raise SettingsError(
            f"The allocation rule is {rule!r}", expected=f"one of {', '.join(RULES)}"
        )
    if rule == "neyman":
        if design is None or scales is None or not design.size:
            raise SettingsError(
                "The allocation rule neyman has no targets",
                expected="design and scales",
                remedy="Pass those of the finest level",
            )
        size, capped = neyman_size(dense, np.asarray(design), scales)
        return AreaSize(rule, rounded(size, _BITS), capped)
    if rule == "effective":
        return AreaSize(rule, rounded(effective_size(dense), _BITS))
    size = population_size(dense, 0.0 if rule == "equal" else power)
    return AreaSize(rule, rounded(size, _BITS))


def pair_ceiling(dense: np.ndarray | AreaWeights, pairs: int) -> np.ndarray:
    """(areas,) int64 most records of each area: those with positive weight, but no more than its
    whole households where k allows.

    An area of five households needs no twenty records of a quarter household each; only a k
    too large for that splits them.
    """
    dense = weights_of(dense)
    usable = dense.each(lambda block: (block.weight > 0).sum(axis=1))
    most = np.maximum(1, np.floor(dense.totals())).astype(np.int64)
    whole = np.minimum(usable, most * (usable > 0))
    return whole if int(whole.sum()) >= pairs else usable


def population_size(dense: np.ndarray | AreaWeights, power: float = 0.5) -> np.ndarray:
    """(areas,) float64: total dense weight of each area to a power: 0 equal, 1 proportional; 0
    where there is no weight.
    """
    total = weights_of(dense).totals()
    return np.where(total > 0, np.maximum(total, 1e-300) ** power, 0.0)


def effective_size(dense: np.ndarray | AreaWeights) -> np.ndarray:
    """(areas,) float64: effective number of dense weights, (sum w)^2 / sum w^2 (Kish, Survey
    Sampling, 1965); 0 where there is no weight.
    """
    dense = weights_of(dense)
    squares = dense.each(lambda block: np.einsum("tr,tr->t", block.weight, block.weight))
    return dense.totals() ** 2 / np.where(squares > 0, squares, 1.0)


def neyman_size(
    dense: np.ndarray | AreaWeights,
    design: np.ndarray,
    scales: np.ndarray,
    *,
    cap: float = NEYMAN_CAP,
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
    dense = weights_of(dense)
    design, scales = (np.asarray(a, dtype=np.float64) for a in (design, scales))
    if (
        design.ndim != 2
        or design.shape[0] != dense.shape[1]
        or scales.shape != (dense.shape[0], design.shape[1])
    ):
        raise ProblemError(
            f"dense {dense.shape}, design {design.shape}, scales {scales.shape}",
            expected="(areas, records), (records, variables), (areas, variables)",
        )
    total = dense.totals()[:, None]
    # Deviations from the overall mean, so that the difference of squares below keeps its digits.
    deviation = design - design.mean(axis=0)
    first = dense.each(lambda block: block.weight @ deviation[block.record])
    second = dense.each(lambda block: block.weight @ deviation[block.record] ** 2)
    mean = first / np.where(total > 0, total, 1.0)
    spread = np.maximum(total * second - (total * mean) ** 2, 0.0)
    terms = np.where(
        np.isfinite(scales), spread / np.where(np.isfinite(scales), scales, 1.0) ** 2, 0.0
    )
    # What rounding leaves of a variable that does not vary is no spread.
    terms[spread <= 1e-12 * total * second] = 0.0
    positive = terms[terms > 0]
    if positive.size == 0:
        return population_size(dense, 1.0), 0
    most = cap * float(np.median(positive))
    return np.sqrt(np.minimum(terms, most).sum(axis=1)), int((terms > most).sum())
