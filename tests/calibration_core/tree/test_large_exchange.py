"""Exchanges of areas that are cut into blocks: never worse, near what comparing every place with
every candidate gives, and the same for any number of threads and any order.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from calibration_core.sampling.exchange import Entrants, Places, exchange_places
from calibration_core.sampling.exchange_blocks import WHOLE, in_sweeps
from calibration_core.tree.select.settings import ExchangeSettings
from tests.calibration_core.tree.exchange_case import PENALTIES, Case, make_large, value_of

LARGE = 1  # which area of ``make_large`` is cut


def whole(case: Case, t: int, penalty: float) -> np.ndarray:
    """Records after exchanges in one block."""
    record, candidate = case.record[case.places(t)].copy(), case.candidates(t)
    rows = np.ascontiguousarray(case.rows / case.scales[t])
    weight = case.weight[case.places(t)]
    places = Places(
        weight,
        case.fixed[case.places(t)],
        record,
        rows[record],
        case.cell[record],
        weight @ rows[record] - case.goals[t] / case.scales[t],
        np.zeros(int(case.cell.max()) + 1),
    )
    entrants = Entrants(candidate, np.ascontiguousarray(rows[candidate].T), case.cell[candidate])
    exchange_places(places, entrants, penalty, 8 * record.size)
    return record


@pytest.mark.parametrize("penalty", PENALTIES)
def test_never_worse_and_nothing_fixed_or_counted_changes(penalty):
    case = make_large(1)
    result = case(ExchangeSettings(8.0, penalty))
    assert result.stopped == 0
    for t in range(case.areas):
        first, last = case.record[case.places(t)], result.record[case.places(t)]
        fixed = case.fixed[case.places(t)]
        assert np.unique(last).size == last.size
        assert np.isin(last, np.union1d(first, case.candidates(t))).all()
        assert (last[fixed] == first[fixed]).all()
        start, end = (value_of(case, t, r, penalty, first) for r in (first, last))
        assert end <= start
        assert result.before[t] == pytest.approx(start, rel=1e-9)
        assert result.after[t] == pytest.approx(value_of(case, t, last, 0.0, first), abs=1e-9)
        if penalty == np.inf:
            assert (np.bincount(case.cell[first]) == np.bincount(case.cell[last])).all()
    assert result.after[LARGE] < 0.05 * result.before[LARGE]


def test_a_large_area_keeps_to_the_limit():
    case = make_large(2)
    held = case(ExchangeSettings(0.05))
    assert held.exchanges[LARGE] == int(0.05 * 260) and held.stopped == 1


@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_error_left_is_near_that_of_comparing_all_with_all(penalty):
    """Measured: 1.0 to 1.3 times, in root mean squares over areas and variables."""
    left, best = [], []
    for seed in range(5):
        case = make_large(seed)
        first = case.record[case.places(LARGE)]
        blocks = case(ExchangeSettings(8.0, penalty)).record[case.places(LARGE)]
        for found, record in ((left, blocks), (best, whole(case, LARGE, penalty))):
            found.append(value_of(case, LARGE, record, 0.0, first) / 12)
    assert np.sqrt(np.mean(left)) <= 1.5 * np.sqrt(np.mean(best))


@pytest.mark.parametrize("penalty", PENALTIES)
def test_threads_and_other_areas_change_nothing(penalty):
    case = make_large(3)
    one, three = (case(ExchangeSettings(8.0, penalty, threads)) for threads in (1, 3))
    alone = [case.take([LARGE])(ExchangeSettings(8.0, penalty, threads)) for threads in (1, 3)]
    assert one.record.tolist() == three.record.tolist()
    assert one.after.tolist() == three.after.tolist()
    for other in alone:
        assert other.record.tolist() == one.record[case.places(LARGE)].tolist()
        assert other.after.tolist() == one.after[[LARGE]].tolist()


def test_the_order_of_records_and_of_places_changes_nothing():
    case = make_large(4)
    # No two records are of one size, nor two exchanges worth the same.
    case = replace(case, rows=case.rows + 0.01 * np.random.default_rng(1).random(case.rows.shape))
    rng = np.random.default_rng(5)
    number = rng.permutation(case.cell.size)
    ends = case.place_offsets
    swap = np.concatenate([a + rng.permutation(b - a) for a, b in pairwise(ends)])
    rows, cell = np.empty_like(case.rows), np.empty_like(case.cell)
    rows[number], cell[number] = case.rows, case.cell
    other = replace(
        case,
        record=number[case.record[swap]],
        weight=case.weight[swap],
        fixed=case.fixed[swap],
        candidate=np.concatenate([np.sort(number[case.candidates(t)]) for t in range(3)]),
        rows=rows,
        cell=cell,
    )
    plain, renumbered = case(ExchangeSettings()), other(ExchangeSettings())
    assert renumbered.record.tolist() == number[plain.record[swap]].tolist()


@pytest.mark.parametrize("count", [1, WHOLE, WHOLE + 1, 1000])
def test_every_sweep_holds_every_place_and_candidate_once(count):
    rng = np.random.default_rng(count)
    places, candidates = rng.permutation(count), rng.permutation(16 * count)
    sweeps = list(in_sweeps(places, candidates))
    for sweep in sweeps:
        for name, all_ in (("places", places), ("candidates", candidates)):
            parts = [getattr(block, name) for block in sweep.blocks]
            assert sorted(np.concatenate(parts)) == sorted(all_)
        largest = max(block.places.size * block.candidates.size for block in sweep.blocks)
        assert largest <= 16 * WHOLE**2
    if count <= WHOLE:
        assert len(sweeps) == len(sweeps[0].blocks) == 1
    # Comparisons of a sweep grow with the places, not with their square.
    compared = sum(b.places.size * b.candidates.size for s in sweeps for b in s.blocks)
    assert compared <= len(sweeps) * count * 16 * WHOLE


def test_blocks_are_stretches_of_the_list():
    """Places of a block follow each other on the ring, and its candidates are those beside them."""
    for sweep in in_sweeps(np.arange(600), np.arange(9600)):
        for block in sweep.blocks:
            assert set(np.diff(block.places)) <= {1, 1 - 600}
            assert set(np.diff(block.candidates)) <= {1, 1 - 9600}
            assert abs(16 * block.places[0] - block.candidates[0]) <= 16
