"""Cross-category selection: exactly k (record, area) pairs out of a dense solution.

Each area gets a whole number of pairs. Within an area records are drawn with probability proportional to their dense
weight by systematic sampling along a list sorted by category and by an ordering variable. Systematic sampling gives each
category, and each stretch of the ordering variable, its expected share rounded down or up, and the draw has exactly the
size asked for. Starting weights are Horvitz-Thompson: dense weight / inclusion probability.

Belongs here: the draw. Does not belong here: how many pairs an area gets (``allocation.py``) or refitting (``tree_newton.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.allocation import allocate, inclusion_probabilities
from calibration_core.errors import ProblemError, SettingsError


@dataclass(frozen=True)
class SelectionSettings:
    """Attributes: ``budget`` pairs in all; ``floor`` fewest pairs an area; ``power``: areas get pairs in proportion to
    their dense total to this power (0 equal, 1 proportional); ``draws`` tentative draws an area, the best balanced kept; ``seed``."""

    budget: int
    seed: int
    floor: int = 20
    power: float = 0.5
    draws: int = 1

    def __post_init__(self) -> None:
        for name, least in (("budget", 1), ("floor", 1), ("draws", 1), ("power", 0)):
            found = getattr(self, name)
            if found < least:
                raise SettingsError(f"The {name} of the selection is {found}", expected=f"{least} or more", remedy=f"Give a {name} of at least {least}")


@dataclass(frozen=True)
class Selection:
    """Pairs drawn, sorted by leaf then record.

    Attributes
    ----------
    leaf, record : (k,) int64.
    weight : (k,) float64 Horvitz-Thompson weights, dense weight / probability, scaled so that each area keeps its dense total.
    probability : (k,) float64.
    per_leaf : (leaves,) int64 pairs in each leaf, summing to k.
    categories_lost : number of (leaf, category) combinations with dense weight that received no pair.
    mass_lost : share of the dense weight in those combinations; the totals are carried by the area's other pairs.
    rescued, without_support : targets (depth, area, variable) given a pair back, and left without one, by ``support.ensure_support``.
    """

    leaf: np.ndarray
    record: np.ndarray
    weight: np.ndarray
    probability: np.ndarray
    per_leaf: np.ndarray
    categories_lost: int
    mass_lost: float
    rescued: tuple[tuple[int, int, int], ...] = ()
    without_support: tuple[tuple[int, int, int], ...] = ()


def select_pairs(
    dense: np.ndarray,
    category: np.ndarray,
    order: np.ndarray,
    settings: SelectionSettings,
    *,
    balance: np.ndarray | None = None,
    balance_scale: np.ndarray | None = None,
    names: tuple[str, ...] = (),
) -> Selection:
    """Draw exactly ``settings.budget`` pairs.

    Parameters
    ----------
    dense : (leaves, records) float64 >= 0 dense calibrated weights.
    category : (records,) int64 cross-category of each record.
    order : (records,) float64 variable the list is sorted by within a category, for example income.
    balance : (records, variables) optional design whose totals a draw should keep; with ``settings.draws`` > 1 the draw of an
        area with the smallest squared error of Horvitz-Thompson totals, in units of ``balance_scale`` (leaves, variables), is kept.
    names : area names for error messages.

    Raises
    ------
    ProblemError : shapes disagree, or dense weights are negative or not finite.
    BudgetError : k below the number of areas or above the number of pairs with positive weight.
    """
    dense = np.asarray(dense, dtype=np.float64)
    leaves, records = dense.shape
    if category.shape != (records,) or order.shape != (records,):
        raise ProblemError(f"category {category.shape} and order {order.shape}", expected=f"({records},) for both")
    if not np.isfinite(dense).all() or (dense < 0).any():
        raise ProblemError("Dense weights are negative or not finite", expected="finite weights >= 0")
    usable, total = (dense > 0).sum(axis=1), dense.sum(axis=1)
    # An area of five households needs no twenty pairs of a quarter household each; only a budget too large for that splits them.
    whole = np.minimum(usable, np.maximum(1, np.floor(total)).astype(np.int64) * (usable > 0))
    ceiling = whole if int(whole.sum()) >= settings.budget else usable
    per_leaf = allocate(settings.budget, total**settings.power * (usable > 0), floor=settings.floor, ceiling=ceiling, names=names)
    path = np.lexsort((np.arange(records), order, category))
    chosen, probabilities = [], []
    for leaf in np.flatnonzero(per_leaf):
        generator = np.random.default_rng([settings.seed, int(leaf)])
        probability = inclusion_probabilities(dense[leaf], int(per_leaf[leaf]))
        best, best_error = None, np.inf
        for _ in range(settings.draws if balance is not None else 1):
            draw = path[_systematic(probability[path], int(per_leaf[leaf]), generator)]
            if balance is None or settings.draws == 1:
                best = draw
                break
            totals = (dense[leaf][draw] / probability[draw]) @ balance[draw]
            scale = 1.0 if balance_scale is None else balance_scale[leaf]
            error = float((((totals - dense[leaf] @ balance) / scale) ** 2).sum())
            if error < best_error:
                best, best_error = draw, error
        draw = np.sort(best)
        chosen.append(draw)
        probabilities.append(probability[draw])
    leaf_index = np.repeat(np.arange(leaves), per_leaf)
    record_index = np.concatenate(chosen)
    probability = np.concatenate(probabilities)
    weight = dense[leaf_index, record_index] / probability
    kept = np.bincount(leaf_index, weights=weight, minlength=leaves)
    weight *= (dense.sum(axis=1) / np.where(kept > 0, kept, 1.0))[leaf_index]
    lost, mass = _lost(dense, category, leaf_index, record_index)
    return Selection(leaf_index, record_index, weight, probability, per_leaf, lost, mass)


def _systematic(probability: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Positions drawn by systematic sampling; exactly ``count`` since the probabilities sum to it."""
    cumulative = np.cumsum(probability)
    cumulative *= count / cumulative[-1]
    points = generator.random() + np.arange(count)
    positions = np.searchsorted(cumulative, points, side="right")
    positions = np.minimum(positions, probability.size - 1)
    return _distinct(positions, probability)


def _distinct(positions: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Rounding can hit a certainty record twice; move the second hit to the nearest unused record with weight."""
    used = np.zeros(probability.size, dtype=bool)
    answer = positions.copy()
    for i, position in enumerate(positions):
        if used[position] or probability[position] <= 0:
            spare = np.flatnonzero(~used & (probability > 0))
            position = int(spare[np.argmin(np.abs(spare - position))])
            answer[i] = position
        used[position] = True
    return answer


def _lost(dense: np.ndarray, category: np.ndarray, leaf: np.ndarray, record: np.ndarray) -> tuple[int, float]:
    """(leaf, category) combinations with dense weight but no pair, and their share of the dense weight."""
    kinds = int(category.max(initial=-1)) + 1
    membership = np.zeros((category.size, kinds))
    membership[np.arange(category.size), category] = 1.0
    mass = dense @ membership
    held = np.zeros((dense.shape[0], kinds), dtype=bool)
    held[leaf, category[record]] = True
    missing = (mass > 0) & ~held
    return int(missing.sum()), float(mass[missing].sum() / mass.sum())
