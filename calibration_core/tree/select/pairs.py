"""Selection: exactly k (record, area) pairs out of a dense solution, cells and totals kept as
nearly as so few pairs can.

The steps, each a module of its own:

1. how many pairs each area gets (``sampling/allocation.py``), summing to k exactly;
2. a few candidates for each pair, in proportion to dense weight along the list sorted by cell and
   by an ordering variable (``sampling/candidates.py``);
3. the count of every cell in every area: its expected count rounded down or up, and so are the
   counts of every category of every class of cells (controlled rounding, ``sampling/rounding.py``);
4. the draw of so many, balanced on the totals of all variables (the cube method,
   ``sampling/cube.py``; or systematic, or Sampford's);
5. exchanges that bring each area's totals nearer to the dense ones (``tree/select/exchange.py``).

Starting weights are Horvitz-Thompson: dense weight / inclusion probability, scaled so that each
area keeps its dense total; an exchanged pair takes over the weight of the one it replaces. Random
numbers of an area come from (seed, number of the area), so that it is drawn the same whatever other
areas there are.

Belongs here: the order of these steps, their settings and the result. Does not belong here: any of
the steps, or rounds of refitting and exchanging (``tree/select/joint.py``).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numba
import numpy as np

from calibration_core.common.threads import map_blocks
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.sampling.allocation import RULES, Allocation, allocation_of, pair_ceiling
from calibration_core.sampling.candidates import Candidates, first_phase
from calibration_core.sampling.cube import draw_cube
from calibration_core.sampling.moved_mass import moved_mass
from calibration_core.sampling.rounding import round_areas
from calibration_core.sampling.sampford import draw_sampford
from calibration_core.sampling.systematic import capped, draw_systematic
from calibration_core.tree.select.exchange import ExchangeSettings, Shared, exchange

DESIGNS = ("cube", "systematic", "sampford")
# Sums of probabilities this near a whole number are whole; probabilities below the second are none.
_WHOLE, _NEVER = 1e-6, 1e-12


@dataclass(frozen=True)
class SelectionSettings:
    """How pairs are chosen.

    Attributes
    ----------
    budget : k, pairs in all.
    seed : >= 0, of every random number.
    floor : fewest pairs an area, where the budget allows it.
    rule, power : how the rest is shared out (``allocation.allocation_of``): "equal", "population"
        (dense total to ``power``), "effective", "neyman".
    design : of the draw: "cube", "systematic" or "sampford".
    candidates : for each pair to be drawn.
    exchanges : most exchanges for each place of an area; 0 makes none, and every pair keeps its
        inclusion probability.
    cell_penalty : cost, in squared scales, of a cell's count moving by one in an exchange; inf
        exchanges within cells only.
    rounds : how often refitting and exchanging are repeated after the draw
        (``tree/select/joint.py``).
    threads : areas are shared out among so many; results do not depend on it.
    """

    budget: int
    seed: int
    floor: int = 20
    rule: str = "population"
    power: float = 0.25
    design: str = "cube"
    candidates: int = 16
    exchanges: float = 8.0
    cell_penalty: float = 1.0
    rounds: int = 3
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in (
            ("budget", 1),
            ("seed", 0),
            ("floor", 1),
            ("power", 0),
            ("candidates", 1),
            ("exchanges", 0),
            ("cell_penalty", 0),
            ("rounds", 0),
            ("threads", 1),
        ):
            found = getattr(self, name)
            if not found >= least:
                raise SettingsError(
                    f"The {name} of the selection is {found}",
                    expected=f"{least} or more",
                    remedy=f"Give a {name} of at least {least}",
                )
        for name, allowed in (
            ("design", DESIGNS),
            ("rule", tuple(r for r in RULES if r != "given")),
        ):
            if getattr(self, name) not in allowed:
                raise SettingsError(
                    f"The {name} of the selection is {getattr(self, name)!r}",
                    expected=f"one of {', '.join(allowed)}",
                    remedy="Correct the name",
                )

    @property
    def exchange_settings(self) -> ExchangeSettings:
        """Of one pass of exchanges."""
        return ExchangeSettings(self.exchanges, self.cell_penalty, self.threads)


@dataclass(frozen=True, eq=False)
class Selection:
    """Pairs chosen, sorted by leaf then record.

    Attributes
    ----------
    leaf, record : (k,) int64.
    weight : (k,) float64 starting weights: Horvitz-Thompson, scaled so that each area keeps its
        dense total.
    probability : (k,) float64 inclusion probability of the pair in the draw, before any exchange.
    per_leaf : (leaves,) int64 pairs in each leaf, summing to k.
    allocation : how ``per_leaf`` came about.
    candidates : what was drawn from; exchanges choose among them.
    exchanges : (leaves,) int64 pairs that gave their place to another, exchanges of all rounds
        added up.
    drawn_error, error : (leaves,) float64 root mean square error of an area's totals against the
        dense ones, in scales, as drawn and after the exchanges that followed the draw.
    categories_lost : number of (leaf, category) with dense weight that have no pair.
    mass_lost : share of the dense weight in those; ``moved`` (moves, 3) int64 names them: leaf,
        category, and the category that carries its mass instead (the nearest with a pair),
        ``moved_mass`` (moves,) float64 how much each.
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
    per_leaf: np.ndarray
    allocation: Allocation
    candidates: Candidates
    exchanges: np.ndarray
    drawn_error: np.ndarray
    error: np.ndarray
    categories_lost: int
    mass_lost: float
    moved: np.ndarray
    moved_mass: np.ndarray
    rounding_misses: int = 0
    rounds: int = 0
    stopped: int = 0
    rescued: tuple[tuple[int, int, int], ...] = ()
    without_support: tuple[tuple[int, int, int], ...] = ()

    @property
    def certain(self) -> np.ndarray:
        """(k,) bool: pairs of inclusion probability one; exchanges leave them alone."""
        return self.probability >= 1.0


@dataclass(frozen=True, eq=False)
class Balance:
    """What the draw and the exchanges keep.

    Attributes
    ----------
    rows : (records, variables) float64 contributions.
    goals : (leaves, variables) float64 totals to keep: those of the dense weights.
    scales : (leaves, variables) float64 > 0: what one unit of error is; inf leaves a variable out
        in that leaf.
    shared : totals that several leaves add to, which exchanges keep too; None for none.
    """

    rows: np.ndarray
    goals: np.ndarray
    scales: np.ndarray
    shared: Shared | None = None


def select_pairs(
    dense: np.ndarray,
    category: np.ndarray,
    order: np.ndarray,
    settings: SelectionSettings,
    *,
    balance: Balance | None = None,
    families: Sequence[np.ndarray] = (),
    affinity: np.ndarray | None = None,
    per_leaf: np.ndarray | None = None,
    names: tuple[str, ...] = (),
) -> Selection:
    """Choose exactly ``settings.budget`` pairs.

    Parameters
    ----------
    dense : (leaves, records) float64 >= 0 dense calibrated weights.
    category : (records,) int64 >= 0 cell of each record.
    order : (records,) float64 variable the list is sorted by within a cell, for example income.
    balance : totals to keep; without it the draw is systematic or Sampford's (a cube has nothing to
        balance), and there are no exchanges.
    families : one (categories, cells) bool for each class of cells, nested, most important first:
        counts of these are rounded too.
    affinity : (cells, cells) how near cells are to each other; default: equally near.
    per_leaf : (leaves,) int64 pairs each leaf gets, summing to the budget; default: by
        ``settings.rule``.
    names : area names for error messages.

    Raises
    ------
    ProblemError : shapes disagree, or dense weights are negative or not finite.
    BudgetError : k below the number of areas with weight or above the number of pairs with positive
        weight.
    """
    dense = np.asarray(dense)
    leaves, records = dense.shape
    if category.shape != (records,) or order.shape != (records,):
        raise ProblemError(
            f"category {category.shape} and order {order.shape}", expected=f"({records},) for both"
        )
    allocation = _allocation(dense, settings, balance, per_leaf, names)
    candidates = first_phase(
        dense, allocation.per_area, category, order, settings.seed, settings.candidates
    )
    kinds = int(category.max(initial=-1)) + 1
    misses, drawn_from = _cell_counts(candidates, category, kinds, families, settings.seed)
    drawn = _draw(drawn_from, category, order, balance, settings, bool(families))
    leaf = np.repeat(np.arange(leaves), allocation.per_area)
    chosen = np.flatnonzero(drawn)
    record = drawn_from.record[chosen]
    # Overall probabilities, and weights, are those of the candidates before cells were rounded:
    # rounding keeps them on average.
    place = _places(candidates, leaf, record)
    probability, weight = (
        candidates.probability[place] * candidates.first_phase_probability[place],
        candidates.weight[place].copy(),
    )
    total, kept = dense.sum(axis=1), np.bincount(leaf, weight, minlength=leaves)
    weight *= (total / np.where(kept > 0, kept, 1.0))[leaf]
    exchanges, before, after, stopped = (
        np.zeros(leaves, dtype=np.int64),
        np.zeros(leaves),
        np.zeros(leaves),
        0,
    )
    if balance is not None:
        offsets = np.concatenate([[0], np.cumsum(allocation.per_area)])
        result = exchange(
            offsets,
            record,
            weight,
            probability >= 1.0,
            candidates.offsets,
            candidates.record,
            balance.rows,
            balance.goals,
            balance.scales,
            category,
            settings.exchange_settings,
            balance.shared,
        )
        live = np.maximum(np.isfinite(balance.scales).sum(axis=1), 1)
        record, exchanges, stopped = result.record, result.exchanges, result.stopped
        before, after = np.sqrt(result.before / live), np.sqrt(result.after / live)
    sorting = np.lexsort((record, leaf))
    record, weight, probability = record[sorting], weight[sorting], probability[sorting]
    lost = cells_lost(dense, category, leaf, record, affinity)
    return Selection(
        leaf,
        record,
        weight,
        probability,
        allocation.per_area,
        allocation,
        candidates,
        exchanges,
        before,
        after,
        *lost,
        rounding_misses=misses,
        stopped=stopped,
    )


def _allocation(
    dense, settings: SelectionSettings, balance: Balance | None, per_leaf: np.ndarray | None, names
) -> Allocation:
    ceiling = pair_ceiling(dense, settings.budget)
    if per_leaf is not None:
        if per_leaf.shape != (dense.shape[0],) or int(per_leaf.sum()) != settings.budget:
            raise ProblemError(
                f"per_leaf {per_leaf.shape} sums to {int(per_leaf.sum()):,}",
                expected=f"one a leaf, {settings.budget:,} in all",
            )
        size, ceiling = per_leaf.astype(np.float64), (dense > 0).sum(axis=1)
        given = allocation_of(
            "given",
            settings.budget,
            dense,
            size=size,
            floor=1,
            ceiling=np.minimum(per_leaf, ceiling),
            names=names,
        )
        return given
    design, scales = (balance.rows, balance.scales) if balance is not None else (None, None)
    rule = settings.rule
    return allocation_of(
        rule,
        settings.budget,
        dense,
        design=design,
        scales=scales,
        floor=settings.floor,
        ceiling=ceiling,
        power=settings.power,
        names=names,
    )


def _cell_counts(
    candidates: Candidates, category: np.ndarray, kinds: int, families, seed: int
) -> tuple[int, Candidates]:
    """How many categories the rounding of cells' counts missed, and candidates whose probabilities
    sum to them cell by cell.
    """
    if not families or not candidates.record.size:
        return 0, candidates
    area = np.repeat(np.arange(candidates.areas), np.diff(candidates.offsets))
    cell = area * kinds + category[candidates.record]
    expected = np.bincount(
        cell, candidates.probability, minlength=candidates.areas * kinds
    ).reshape(candidates.areas, kinds)
    # Sums of probabilities are whole to rounding of the sums; the largest entry of each row takes
    # up the rest.
    largest = expected.argmax(axis=1)
    expected[np.arange(candidates.areas), largest] += candidates.per_area - expected.sum(axis=1)
    rounding = round_areas(np.maximum(expected, 0.0), families, seed, index=candidates.area)
    return len(rounding.misses), _within_cells(candidates, cell, rounding.counts.ravel())


def _within_cells(candidates: Candidates, cell: np.ndarray, counts: np.ndarray) -> Candidates:
    """Candidates with probabilities that sum to each cell's count; those of cells with none are
    left out.
    """
    order = np.argsort(cell, kind="stable")
    bounds = np.flatnonzero(np.diff(cell[order], prepend=-1, append=-1))
    probability = np.zeros(candidates.record.size)
    _scale_cells(
        order, bounds, counts[cell[order[bounds[:-1]]]], candidates.probability, probability
    )
    keep = probability > 0
    size = np.bincount(
        np.repeat(np.arange(candidates.areas), np.diff(candidates.offsets))[keep],
        minlength=candidates.areas,
    )
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    kept = (
        values[keep]
        for values in (
            candidates.record,
            probability,
            candidates.weight,
            candidates.first_phase_probability,
        )
    )
    return Candidates(offsets, *kept, candidates.per_area, candidates.area)


@numba.njit(cache=True, nogil=True)
def _scale_cells(order, bounds, counts, given, scaled):
    """Probabilities of each stretch of ``order``, at most one, summing to its count, that average
    to the given ones.

    A sum of F + f, F whole, is rounded up to F + 1 with probability f. Rounded up, probabilities
    are in proportion to the given p, capped at one; rounded down, they are (p - f up) / (1 - f): at
    least zero, and one where p is one.
    """
    for c in range(bounds.size - 1):
        members = order[bounds[c] : bounds[c + 1]]
        if counts[c] <= 0:
            continue
        total = given[members].sum()
        whole = math.floor(total + _WHOLE)
        fraction = max(total - whole, 0.0)
        # Certainty units stay certain; the others share what is left.
        some = members[given[members] < 1.0]
        scaled[members] = 1.0
        certain = members.size - some.size
        part, up = given[some], np.empty(some.size)
        if counts[c] == whole and _WHOLE < fraction < 1.0 - _WHOLE:
            capped(part, min(whole + 1 - certain, some.size), up)
            for i in range(some.size):
                down = (part[i] - fraction * up[i]) / (1.0 - fraction)
                scaled[some[i]] = min(down, 1.0) if down > _NEVER else 0.0
        else:
            capped(part, min(counts[c] - certain, some.size), up)
            scaled[some] = up


def _draw(
    candidates: Candidates,
    category: np.ndarray,
    order: np.ndarray,
    balance: Balance | None,
    settings: SelectionSettings,
    by_cell: bool,
) -> np.ndarray:
    """(m,) bool: the candidates drawn; ``by_cell``: probabilities sum to a whole number in every
    cell, which the draw holds.
    """
    if settings.design == "sampford":
        return (
            _sampford_by_cell(candidates, category, settings.seed)
            if by_cell
            else draw_sampford(candidates, settings.seed)
        )
    if settings.design == "systematic" or balance is None:
        return draw_systematic(candidates, category, order, settings.seed)
    return draw_cube(
        candidates, balance.rows, balance.scales, category, settings.seed, settings.threads
    )


def _sampford_by_cell(candidates: Candidates, category: np.ndarray, seed: int) -> np.ndarray:
    """Sampford's draw with each cell of each area as an area of its own."""
    kinds = int(category.max(initial=-1)) + 1
    cell = (
        np.repeat(candidates.area, np.diff(candidates.offsets)) * kinds
        + category[candidates.record]
    )
    place = (
        np.repeat(np.arange(candidates.areas), np.diff(candidates.offsets)) * kinds
        + category[candidates.record]
    )
    order = np.argsort(place, kind="stable")
    _, first, size = np.unique(place[order], return_index=True, return_counts=True)
    values = [
        v[order]
        for v in (
            candidates.record,
            candidates.probability,
            candidates.weight,
            candidates.first_phase_probability,
        )
    ]
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    count = (
        np.rint(np.add.reduceat(values[1], first)).astype(np.int64)
        if first.size
        else np.zeros(0, dtype=np.int64)
    )
    drawn = np.zeros(order.size, dtype=bool)
    drawn[order] = draw_sampford(Candidates(offsets, *values, count, cell[order][first]), seed)
    return drawn


def _places(candidates: Candidates, leaf: np.ndarray, record: np.ndarray) -> np.ndarray:
    """Where each (leaf, record) stands among the candidates: both are sorted, so one search over
    combined keys finds all.
    """
    width = int(candidates.record.max(initial=0)) + 1
    area = np.repeat(np.arange(candidates.areas), np.diff(candidates.offsets))
    return np.searchsorted(area * width + candidates.record, leaf * width + record)


def cells_lost(
    dense: np.ndarray,
    category: np.ndarray,
    leaf: np.ndarray,
    record: np.ndarray,
    affinity: np.ndarray | None = None,
):
    """Categories with dense weight but no pair: their number, their share of the weight, and where
    their mass goes (see ``Selection``).
    """
    kinds = int(category.max(initial=-1)) + 1
    membership = np.zeros((category.size, kinds))
    membership[np.arange(category.size), category] = 1.0
    mass = map_blocks(
        lambda block: block @ membership, np.array_split(dense, max(1, dense.shape[0] // 512))
    )
    mass = np.concatenate(mass)
    counts = np.bincount(leaf * kinds + category[record], minlength=dense.shape[0] * kinds).reshape(
        dense.shape[0], kinds
    )
    moved = moved_mass(mass, counts, np.zeros((kinds, kinds)) if affinity is None else affinity)
    total = float(mass.sum())
    where = np.column_stack([moved.area, moved.source, moved.target]).astype(np.int64)
    return (
        int(moved.mass.size),
        float(moved.mass.sum()) / total if total > 0 else math.nan,
        where,
        moved.mass,
    )
