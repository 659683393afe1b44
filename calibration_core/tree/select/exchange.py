"""Better pairs for the same k: exchanges within each area that bring weighted totals nearer to what
they should be.

A draw with given inclusion probabilities leaves each area with a sampling error that no refit of
sixty weights removes. Here a drawn pair gives its place, and its weight, to a candidate of the same
area while that lowers

    sum_v ((sum_a w_a x_{r(a) v} - T_v) / s_v)^2  +  kappa^2 sum_c (n_c - m_c)^2

over the places a of the area (``sampling/exchange.py``). Here w_a is the weight of the place, r(a)
the record in it, T_v the goal and s_v its scale. Of cell c, n_c is the number of drawn pairs, and
m_c what it was before the first exchange. Neither k, nor the weights of the places, nor so the
area's total weight ever change; a fixed place (a certainty unit) keeps its record. Weights are
rounded first: the last bits of a refit must not decide which pair is chosen.

Candidates are themselves a sample drawn with probability proportional to dense weight
(``sampling/candidates.py``), so that a record the dense solution thinks unlikely is unlikely to
come in. A place of a large area is compared with the candidates beside it in the list alone
(``sampling/exchange_blocks.py``): so the work is linear in k, and no more is held than a block
needs.

References: exchange algorithms for balanced samples go back to Yates, Philosophical Transactions A
241 (1948) 345-371 (rejective balancing) and, for designs, Fedorov, Theory of Optimal Experiments
(1972); Williamson, Birkin and Rees, Environment and Planning A 30 (1998) 785-816 exchange
households against small-area tables.

Areas are independent of each other, and each is worked on by one thread in a fixed order, so that
results do not depend on how many there are. (Where areas are fewer than threads, blocks are
prepared ahead by several threads; the exchanges themselves stay in order.) Where few pairs stand
for many targets above the areas (a state of three counties), the errors of those totals are part of
the sum (``balance.Shared``): then one area follows another, each seeing what those before it left,
for some sweeps.

Belongs here: areas, their errors, sweeps. Does not belong here: the loop over exchanges
(``sampling/exchange.py``), which candidates meet which places (``sampling/exchange_blocks.py``),
the first draw, how goals are made (``balance.py``), refitting.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from calibration_core.common.columns import Columns, Design, mean_size, of_one_store, side_by_side
from calibration_core.common.digits import PLACE_BITS, SUM_BITS, rounded, to_choose_by
from calibration_core.common.threads import one_thread, stream_blocks
from calibration_core.errors import ProblemError
from calibration_core.sampling.candidates import AreaCandidates
from calibration_core.sampling.exchange import (
    Entrants,
    Places,
    Products,
    columns_of,
    columns_of_store,
    exchange_some,
    products_of,
)
from calibration_core.sampling.exchange_blocks import Block, in_sweeps
from calibration_core.tree.select.balance import Balance, Shared
from calibration_core.tree.select.settings import ExchangeSettings

# Most sweeps over areas that share errors; a sweep without an exchange ends them.
_SWEEPS = 4
# Places whose rows are looked at together.
_TOGETHER = 1024


@dataclass(frozen=True, eq=False)
class ChosenPairs:
    """Pairs to be exchanged.

    Attributes
    ----------
    offsets : (areas + 1,) int64: places of area t are offsets[t] to offsets[t + 1].
    record : (k,) int64 record in each place, each once per area.
    weight : (k,) float64 > 0 weight of each place.
    fixed : (k,) bool: places that keep their record.

    Raises ProblemError if shapes disagree or a weight is not usable.
    """

    offsets: np.ndarray
    record: np.ndarray
    weight: np.ndarray
    fixed: np.ndarray

    def __post_init__(self) -> None:
        shape = (int(self.offsets[-1]),)
        if not self.record.shape == self.weight.shape == self.fixed.shape == shape:
            raise ProblemError(
                f"{self.record.shape} records, {self.weight.shape} weights, {self.fixed.shape}"
                " fixed",
                expected=f"{shape} each",
            )
        if not (np.isfinite(self.weight).all() and (self.weight > 0).all()):
            raise ProblemError(
                "The weight of a place is not positive and finite",
                expected="positive, finite weights",
            )


@dataclass(frozen=True, eq=False)
class ExchangeResult:
    """Attributes: ``record`` (k,) int64 record in each place; ``exchanges`` (areas,) int64 how many
    were made. ``before``, ``after`` (areas,) float64 sum of squares of the area's own totals'
    errors in scales, without shared ones and the penalty on cells. ``stopped`` areas whose limit
    was reached; ``shared_before``, ``shared_after``: the sum of squares of shared totals' errors, 0
    without any.
    """

    record: np.ndarray
    exchanges: np.ndarray
    before: np.ndarray
    after: np.ndarray
    stopped: int
    shared_before: float = 0.0
    shared_after: float = 0.0


@one_thread()
def exchange(
    pairs: ChosenPairs,
    candidates: AreaCandidates,
    cell: np.ndarray,
    balance: Balance,
    settings: ExchangeSettings,
) -> ExchangeResult:
    """Exchange drawn records for candidates, area by area.

    Parameters
    ----------
    candidates : the records that may come in. Records in a place need not be among them.
    cell : (records,) int64 >= 0.

    Raises ProblemError if shapes disagree.
    """
    areas = pairs.offsets.size - 1
    wanted = (areas, balance.rows.shape[1])
    if balance.goals.shape != wanted or candidates.areas != areas:
        raise ProblemError(
            f"goals {balance.goals.shape}, candidates of {candidates.areas} areas",
            expected=f"{wanted} and {areas}",
        )
    if cell.shape != (balance.rows.shape[0],):
        raise ProblemError(f"cell is {cell.shape}", expected=f"({balance.rows.shape[0]},)")
    state = _State(pairs, candidates, cell, balance, settings)
    return state.swept() if balance.shared is not None else state.once()


class _State:
    """The pairs as they stand; ``before``, ``after``, ``made`` and ``stopped`` by area."""

    def __init__(
        self,
        pairs: ChosenPairs,
        candidates: AreaCandidates,
        cell: np.ndarray,
        balance: Balance,
        settings: ExchangeSettings,
    ) -> None:
        self.pairs, self.candidates, self.cell = pairs, candidates, np.array(cell, dtype=np.int64)
        self.balance, self.settings = balance, settings
        self.size = _sizes(balance.rows)
        self.kinds = int(self.cell.max(initial=0)) + 1
        self.weight = self._rounded_by_area(pairs.weight)
        self.record = pairs.record.astype(np.int64, copy=True)
        areas = pairs.offsets.size - 1
        self.before, self.after = np.zeros(areas), np.zeros(areas)
        self.made, self.stopped = np.zeros(areas, dtype=np.int64), np.zeros(areas, dtype=bool)
        shared = balance.shared
        self.shared_error = np.zeros(0) if shared is None else self._shared_errors(shared)

    def once(self) -> ExchangeResult:
        """Areas by themselves, shared out among threads."""
        areas = range(self.pairs.offsets.size - 1)
        threads = min(self.settings.threads, len(areas))
        self._each_area(partial(self._area, ahead=threads < self.settings.threads), threads, areas)
        return self._result(self.before.copy(), 0.0)

    def swept(self) -> ExchangeResult:
        """One area after another where they share errors, since each changes what the next one
        sees; the others are shared out among threads.
        """
        first = float(self.shared_error @ self.shared_error)
        before, areas = self.before, range(self.pairs.offsets.size - 1)
        sharing = [t for t in areas if self._slots(t).size]
        alone = [t for t in areas if not self._slots(t).size]
        threads = min(self.settings.threads, len(alone))
        for sweep in range(_SWEEPS):
            so_far, again = int(self.made.sum()), sweep > 0
            self._each_area(partial(self._area, ahead=threads <= 1, again=again), threads, alone)
            self._each_area(partial(self._area, ahead=True, again=again), 1, sharing)
            before = self.before.copy() if sweep == 0 else before
            if int(self.made.sum()) == so_far:
                break
        return self._result(before, first)

    @staticmethod
    def _each_area(work: Callable[[int], None], threads: int, areas: Sequence[int]) -> None:
        if threads <= 1:
            for t in areas:
                work(t)
            return
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, areas))

    def _result(self, before: np.ndarray, shared_before: float) -> ExchangeResult:
        left = float(self.shared_error @ self.shared_error)
        stopped = int(self.stopped.sum())
        return ExchangeResult(
            self.record, self.made, before, self.after, stopped, shared_before, left
        )

    def _area(self, t: int, ahead: bool = False, again: bool = False) -> None:
        """Exchanges of one area; ``ahead`` prepares its blocks in threads of its own, ``again``
        makes its last sweep alone."""
        here = slice(int(self.pairs.offsets[t]), int(self.pairs.offsets[t + 1]))
        record, weight = self.record[here], self.weight[here]
        if not record.size:
            return
        used = np.flatnonzero(np.isfinite(self.balance.scales[t]))
        slots = self._slots(t)
        error = np.empty(used.size + slots.size)
        goals = self.balance.goals[t, used] / self.balance.scales[t, used]
        error[: used.size] = self._area_totals(t, used, record, weight) - goals
        error[used.size :] = self.shared_error[slots]
        self.before[t] = error[: used.size] @ error[: used.size]
        entering = self.candidates.record[
            self.candidates.offsets[t] : self.candidates.offsets[t + 1]
        ]
        moved = self._moved(record, self.pairs.record[here])
        limit = int(min(self.settings.limit * record.size, np.iinfo(np.int64).max // 2))
        inside = np.zeros(self.cell.size, dtype=np.bool_)
        inside[record] = True

        def prepared(block: Block) -> tuple[Block, Places, Entrants, Products]:
            # Nothing here depends on what other blocks of the sweep exchange.
            held, coming = record[block.places], entering[block.candidates]
            rows, columns = self._rows(t, used, held), self._columns(t, used, coming)
            fixed = self.pairs.fixed[here][block.places]
            places = Places(weight[block.places], fixed, held, rows, self.cell[held], error, moved)
            entrants = Entrants(coming, columns, self.cell[coming])
            return block, places, entrants, products_of(rows, columns)

        made, penalty = 0, float(self.settings.cell_penalty)
        sweeps = list(in_sweeps(self._listed(record), self._listed(entering)))
        for sweep in sweeps[-1:] if again else sweeps:
            ready = (stream_blocks if ahead and len(sweep.blocks) > 1 else map)(
                prepared, sweep.blocks
            )
            for block, places, entrants, products in ready:
                mine = inside[entrants.unit]
                inside[record[block.places]] = False
                left = limit - made
                made += exchange_some(places, entrants, products, mine, penalty, left, sweep.least)
                record[block.places] = places.unit
                inside[places.unit] = True
        self.made[t] += made
        self.after[t] = error[: used.size] @ error[: used.size]
        self.shared_error[slots] = error[used.size :]
        self.stopped[t] = made == limit > 0

    def _listed(self, record: np.ndarray) -> np.ndarray:
        """(records here,) int64: their order in the list that blocks are cut from."""
        return np.lexsort((record, self.size[record], self.cell[record]))

    def _area_totals(
        self, t: int, used: np.ndarray, record: np.ndarray, weight: np.ndarray
    ) -> np.ndarray:
        """(used,) weighted totals in scales, some places after others."""
        total = np.zeros(used.size)
        for begin in range(0, record.size, _TOGETHER):
            part = slice(begin, begin + _TOGETHER)
            total += _totals(weight[part], self._rows(t, used, record[part])[:, : used.size])
        return total

    def _rows(self, t: int, used: np.ndarray, record: np.ndarray) -> np.ndarray:
        """(records here, live) contributions in scales: the area's own variables, then shared."""
        return np.ascontiguousarray(self._columns(t, used, record).T)

    def _columns(self, t: int, used: np.ndarray, record: np.ndarray) -> np.ndarray:
        """The same, a row per variable."""
        own, unit = self.balance.rows, 1.0 / self.balance.scales[t, used]
        shared = self.balance.shared
        if shared is None:
            return _columns_of(own, record, used, unit)
        columns = np.flatnonzero(shared.slot[t] >= 0)
        above = 1.0 / shared.scales[shared.slot[t, columns]]
        if of_one_store([own, shared.rows]):
            both = side_by_side(own[:, used], shared.rows[:, columns])
            return _columns_of(
                both, record, np.arange(len(unit) + len(above)), np.append(unit, above)
            )
        return np.concatenate(
            [_columns_of(own, record, used, unit), _columns_of(shared.rows, record, columns, above)]
        )

    def _rounded_by_area(self, weight: np.ndarray) -> np.ndarray:
        parts = np.split(weight, self.pairs.offsets[1:-1])
        return np.concatenate([to_choose_by(part, PLACE_BITS) for part in parts])

    def _slots(self, t: int) -> np.ndarray:
        shared = self.balance.shared
        if shared is None:
            return np.zeros(0, dtype=np.int64)
        return shared.slot[t][shared.slot[t] >= 0]

    def _moved(self, record: np.ndarray, original: np.ndarray) -> np.ndarray:
        """Counts of cells against those before the first exchange, in whatever sweep."""
        now = np.bincount(self.cell[record], minlength=self.kinds)
        return (now - np.bincount(self.cell[original], minlength=self.kinds)).astype(np.float64)

    def _shared_errors(self, shared: Shared) -> np.ndarray:
        """(totals,) errors in scales of the pairs as they are given."""
        totals = np.zeros(shared.goals.size)
        for t in range(self.pairs.offsets.size - 1):
            here = slice(self.pairs.offsets[t], self.pairs.offsets[t + 1])
            has = shared.slot[t] >= 0
            part = _totals(self.weight[here], shared.rows[self.record[here]][:, has])
            totals[shared.slot[t][has]] += part
        return rounded((totals - shared.goals) / shared.scales, SUM_BITS)


def _columns_of(
    rows: Design, record: np.ndarray, variable: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """``columns_of``, of an array or Columns."""
    if not isinstance(rows, Columns):
        return columns_of(rows, record, variable, unit)
    store = rows.store
    return columns_of_store(store.small, store.large, rows.places[variable], record, unit)


def _sizes(rows: Design) -> np.ndarray:
    """(records,) sums of squares of rows (records, variables) in units of what records add on
    average, with few digits: an order of records that their numbers do not decide."""
    typical = rounded(mean_size(rows), SUM_BITS)
    unit = np.where(typical > 0, typical, 1.0)
    size = np.zeros(rows.shape[0])
    for v in range(rows.shape[1]):
        size += (rows[:, v] / unit[v]) ** 2
    return to_choose_by(size)


def _totals(weight: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(variables,) weighted totals, record after record: the same bits on every processor."""
    return np.add.reduce(weight[:, None] * rows, axis=0)
