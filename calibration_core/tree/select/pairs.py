"""Selection: exactly k (record, area) pairs out of a dense solution, cells and totals kept as
nearly as so few pairs can.

The steps, each a function here and a module of its own:

1. ``allocate_pairs``: how many pairs each area gets, summing to k exactly
   (``sampling/allocation``);
2. ``draw_pairs``: a few candidates for each pair, in proportion to dense weight along the list
   sorted by cell and by an ordering variable (``sampling/candidates``). Then the count of every
   cell in every area, rounded down or up, and so the counts of every category of every class of
   cells (``sampling/within_cells``). Then the draw of so many, balanced on the totals of all
   variables (the cube method, ``sampling/cube``; or systematic, or Sampford's);
3. ``exchange_pairs``: exchanges that bring each area's totals nearer to the dense ones
   (``exchange.py``);
4. what was lost (``lost.py``).

Starting weights are Horvitz-Thompson: dense weight / inclusion probability, scaled so that each
area keeps its dense total; an exchanged pair takes over the weight of the one it replaces. Random
numbers of an area come from (seed, number of the area), so that it is drawn the same whatever other
areas there are.

Belongs here: the order of these steps, their settings and the result. Does not belong here: any of
the steps, or rounds of refitting and exchanging (``joint.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError
from calibration_core.sampling.allocation import Allocation, allocation_of
from calibration_core.sampling.area_sizes import AreaSize, area_size, pair_ceiling
from calibration_core.sampling.candidates import AreaCandidates, first_phase
from calibration_core.sampling.cube import CubeBalance, draw_cube
from calibration_core.sampling.sampford import draw_sampford
from calibration_core.sampling.systematic import draw_systematic
from calibration_core.sampling.within_cells import each_cell_an_area, round_cells
from calibration_core.tree.select.balance import Balance
from calibration_core.tree.select.exchange import ChosenPairs, ExchangeResult, exchange
from calibration_core.tree.select.lost import LostCells, lost_cells
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import SelectionSettings


@dataclass(frozen=True, eq=False)
class Selection:
    """Pairs chosen, sorted by leaf then record.

    Attributes
    ----------
    leaf, record : (k,) int64.
    weight : (k,) float64 starting weights: Horvitz-Thompson, scaled so that each area keeps its
        dense total.
    probability : (k,) float64 inclusion probability of the pair in the draw, before any exchange.
    allocation : how many pairs each leaf has, and how that came about.
    candidates : what was drawn from; exchanges choose among them.
    lost : cells with dense weight that have no pair.
    exchanges : (leaves,) int64 pairs that gave their place to another, exchanges of all rounds
        added up.
    drawn_error, error : (leaves,) float64 root mean square error of an area's totals against the
        dense ones, in scales, as drawn and after the exchanges that followed the draw.
    rounding_misses : categories of classes, over all areas, whose count the controlled rounding
        could not keep within one of what is expected.
    rounds : rounds of refitting and exchanging made.
    stopped : areas whose exchanges ended at the limit asked, added up over the draw's and each
        round's.
    rescued, without_support : targets (depth, area, variable) given a pair back, and left without
        one, by ``support.ensure_support``.
    """

    leaf: np.ndarray
    record: np.ndarray
    weight: np.ndarray
    probability: np.ndarray
    allocation: Allocation
    candidates: AreaCandidates
    lost: LostCells
    exchanges: np.ndarray
    drawn_error: np.ndarray
    error: np.ndarray
    rounding_misses: int = 0
    rounds: int = 0
    stopped: int = 0
    rescued: tuple[tuple[int, int, int], ...] = ()
    without_support: tuple[tuple[int, int, int], ...] = ()

    @property
    def certain(self) -> np.ndarray:
        """(k,) bool: pairs of inclusion probability one; exchanges leave them alone."""
        return self.probability >= 1.0

    @property
    def pairs_per_area(self) -> np.ndarray:
        """(leaves,) int64 pairs in each leaf, summing to k."""
        return self.allocation.pairs_per_area


@one_thread()
def select_pairs(
    pool: Pool,
    settings: SelectionSettings,
    *,
    balance: Balance | None = None,
    pairs_per_area: np.ndarray | None = None,
) -> Selection:
    """Choose exactly ``settings.pairs`` pairs.

    Parameters
    ----------
    balance : totals to keep; without it the draw is systematic or Sampford's (a cube has nothing to
        balance), and there are no exchanges.
    pairs_per_area : (leaves,) int64 pairs each leaf gets, summing to k; default: by
        ``settings.rule``.

    Raises
    ------
    ProblemError : shapes disagree.
    BudgetError : k below the number of areas with weight or above the number of pairs with positive
        weight.
    """
    allocation = allocate_pairs(pool, settings, pairs_per_area)
    drawn = draw_pairs(pool, allocation, settings, balance)
    if balance is None:
        return drawn
    exchanged, result = exchange_pairs(pool, drawn, drawn.weight, balance, settings)
    live = np.maximum(np.isfinite(balance.scales).sum(axis=1), 1)
    return replace(
        exchanged,
        drawn_error=np.sqrt(result.before / live),
        error=np.sqrt(result.after / live),
        lost=lost_cells(pool, exchanged.leaf, exchanged.record),
    )


def allocate_pairs(
    pool: Pool, settings: SelectionSettings, pairs_per_area: np.ndarray | None = None
) -> Allocation:
    """How many pairs each leaf gets: at least ``settings.floor`` where k allows it, and no more
    than it has households; or as given.

    Raises ProblemError or BudgetError as ``select_pairs``, SettingsError for the rule "neyman"
    without a target at the finest level.
    """
    names = pool.tree.leaves
    if pairs_per_area is not None:
        given = np.asarray(pairs_per_area)
        if given.shape != (pool.leaves,) or int(given.sum()) != settings.pairs:
            raise ProblemError(
                f"pairs_per_area {given.shape} sums to {int(given.sum()):,}",
                expected=f"one per leaf, {settings.pairs:,} in all",
            )
        size = AreaSize("given", given.astype(np.float64))
        return allocation_of(size, settings.pairs, np.minimum(given, pool.usable), names=names)
    design, scales = pool.targets.designs[-1], pool.targets.scales[-1]
    size = area_size(
        settings.rule, pool.weights, power=settings.power, design=design, scales=scales
    )
    ceiling = pair_ceiling(pool.weights, settings.pairs)
    return allocation_of(size, settings.pairs, ceiling, floor=settings.floor, names=names)


def draw_pairs(
    pool: Pool, allocation: Allocation, settings: SelectionSettings, balance: Balance | None = None
) -> Selection:
    """The draw, before any exchange: errors and exchanges are zero."""
    counts, seed = allocation.pairs_per_area, settings.seed
    candidates = first_phase(pool.weights, counts, pool.path, seed, settings.candidates)
    drawn_from, misses = round_cells(candidates, pool.cell, pool.classes, seed)
    chosen = np.flatnonzero(_draw(pool, drawn_from, settings, balance))
    leaf, record = drawn_from.place[chosen], drawn_from.record[chosen]
    # Overall probabilities, and weights, are those of the candidates before cells were rounded:
    # rounding keeps them on average.
    place = candidates.find(leaf, record)
    probability = candidates.probability[place] * candidates.first_phase_probability[place]
    weight = candidates.weight[place]
    kept = np.bincount(leaf, weight, minlength=pool.leaves)
    weight = weight * (pool.totals / np.where(kept > 0, kept, 1.0))[leaf]
    nothing = np.zeros(pool.leaves)
    return Selection(
        leaf,
        record,
        weight,
        probability,
        allocation,
        candidates,
        lost_cells(pool, leaf, record),
        np.zeros(pool.leaves, dtype=np.int64),
        nothing,
        nothing,
        rounding_misses=misses,
    )


def _draw(
    pool: Pool, candidates: AreaCandidates, settings: SelectionSettings, balance: Balance | None
) -> np.ndarray:
    """(m,) bool: the candidates drawn. With classes of cells, probabilities sum to a whole number
    in every cell, which the draw holds.
    """
    if settings.design == "sampford":
        if not pool.classes:
            return draw_sampford(candidates, settings.seed)
        by_cell, order = each_cell_an_area(candidates, pool.cell)
        drawn = np.zeros(order.size, dtype=bool)
        drawn[order] = draw_sampford(by_cell, settings.seed)
        return drawn
    if settings.design == "systematic" or balance is None:
        return draw_systematic(candidates, pool.cell, pool.order, settings.seed)
    kept = CubeBalance(balance.rows, balance.scales)
    return draw_cube(candidates, kept, pool.cell, settings.seed, settings.threads)


def exchange_pairs(
    pool: Pool,
    selection: Selection,
    weights: np.ndarray,
    balance: Balance,
    settings: SelectionSettings,
) -> tuple[Selection, ExchangeResult]:
    """Exchange the selection's pairs at ``weights`` (k,); starting weights and probabilities stay
    with their places. What was lost is not counted anew."""
    offsets = np.concatenate([[0], np.cumsum(selection.pairs_per_area)])
    pairs = ChosenPairs(offsets, selection.record, weights, selection.certain)
    result = exchange(pairs, selection.candidates, pool.cell, balance, settings.exchange_settings)
    order = np.lexsort((result.record, selection.leaf))
    changed = replace(
        selection,
        record=result.record[order],
        weight=selection.weight[order],
        probability=selection.probability[order],
        exchanges=selection.exchanges + result.exchanges,
        stopped=selection.stopped + result.stopped,
    )
    return changed, result
