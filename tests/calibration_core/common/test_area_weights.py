"""Weights read block by block say what the table says."""

from __future__ import annotations

import numpy as np
import pytest

from calibration_core.common import memory
from calibration_core.common.area_weights import Block, RoundedWeights, TableWeights, weights_of
from calibration_core.common.digits import to_choose_by
from calibration_core.errors import ProblemError


class _Parts(TableWeights):
    """A table in two blocks, of areas that do not stand beside each other and of some records."""

    def __init__(self, table: np.ndarray) -> None:
        super().__init__(table)
        self.block_areas = [np.arange(0, self.areas, 2), np.arange(1, self.areas, 2)]

    def block_record(self, number: int) -> np.ndarray:
        return np.flatnonzero(self.table()[self.block_areas[number]].any(axis=0))

    def read(self, number: int) -> Block:
        area, record = self.block_areas[number], self.block_record(number)
        return Block(area, record, self.table()[np.ix_(area, record)])


@pytest.fixture(params=[TableWeights, _Parts])
def case(request):
    rng = np.random.default_rng(3)
    table = rng.lognormal(size=(7, 11))
    table[::2, 6:] = 0.0
    table[1::2, :3] = 0.0
    return table, request.param(table)


def test_every_way_to_read_says_what_the_table_says(case):
    table, weights = case
    np.testing.assert_allclose(weights.totals(), table.sum(axis=1))
    np.testing.assert_allclose(weights.by_record(), table.sum(axis=0))
    leaf, record = (a.ravel() for a in np.indices(table.shape))
    assert (weights.at(leaf, record) == table.ravel()).all()
    record, own = weights.of(3)
    assert (own == table[3, record]).all() and own.sum() == pytest.approx(table[3].sum())
    double = weights.each(lambda block: 2.0 * block.weight.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(double[:, 0], 2.0 * table.sum(axis=1))


def test_rounded_weights_are_rounded_once_or_each_time(case, monkeypatch):
    table, weights = case
    for budget in (memory.DEFAULT, 1):
        monkeypatch.setattr(memory, "_budget", budget)
        rounded = RoundedWeights(weights)
        for _ in range(2):
            found = np.zeros(table.shape)
            for number in range(len(rounded.block_areas)):
                block = rounded.read(number)
                found[np.ix_(block.area, block.record)] = block.weight
            assert (found == to_choose_by(table)).all()


def test_unsound_weights_are_refused():
    for bad in (-1.0, np.nan, np.inf):
        with pytest.raises(ProblemError, match="negative or not finite"):
            TableWeights(np.array([[1.0, bad]])).check()
    with pytest.raises(ProblemError, match="table"):
        weights_of(np.ones(3))
