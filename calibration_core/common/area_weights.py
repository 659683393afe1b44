"""Weights of many records in many areas, read a block of areas at a time.

California has 9,129 tracts and, in a survey of five years, 750,000 households: a table of areas x
records would hold 55 GB. No tract uses more than the households of its neighbourhood, so weights
are asked for block by block, and whoever sums, draws or compares sees one block at a time. Blocks
depend on the problem alone, so that results do not depend on threads.

Belongs here: how blocks are read, a plain table of weights as blocks, weights rounded. Does not
belong here: weights made from multipliers (``tree/multiplier_weights.py``).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple, TypeVar

import numpy as np

from calibration_core.common.digits import to_choose_by
from calibration_core.common.memory import kept_bytes
from calibration_core.errors import ProblemError

Answer = TypeVar("Answer")
# Areas of a plain table that are looked at together.
_AREAS = 512


class Block(NamedTuple):
    """Attributes: ``area`` (areas here,) int64; ``record`` (records here,) int64, ascending;
    ``weight`` (areas here, records here) float64. Records that are not here have no weight in
    these areas.
    """

    area: np.ndarray
    record: np.ndarray
    weight: np.ndarray


class AreaWeights(ABC):
    """Weights >= 0 of records in areas.

    Attributes
    ----------
    areas, records : how many of each there are.
    block_areas : for each block its areas, (areas here,) int64; each area is in one block.
    """

    areas: int
    records: int
    block_areas: Sequence[np.ndarray]

    @abstractmethod
    def block_record(self, number: int) -> np.ndarray:
        """(records here,) int64, ascending: the records that a block's areas may use."""

    @abstractmethod
    def read(self, number: int) -> Block:
        """One block."""

    @property
    def shape(self) -> tuple[int, int]:
        """(areas, records)."""
        return self.areas, self.records

    @cached_property
    def place(self) -> tuple[np.ndarray, np.ndarray]:
        """(areas,) int64 twice: the block of each area, and its row there."""
        block, row = np.zeros((2, self.areas), dtype=np.int64)
        for number, area in enumerate(self.block_areas):
            block[area], row[area] = number, np.arange(area.size)
        return block, row

    @property
    def candidates(self) -> np.ndarray:
        """(areas,) int64: records of the block of each area."""
        size = np.array([self.block_record(n).size for n in range(len(self.block_areas))])
        return size[self.place[0]]

    def map(self, function: Callable[[Block], Answer]) -> list[Answer]:
        """``function`` of every block, in order; blocks are read, and worked on, by threads."""
        return _shared_out(lambda n: function(self.read(n)), len(self.block_areas))

    def each(self, function: Callable[[Block], np.ndarray]) -> np.ndarray:
        """(areas, ...) float64: ``function`` gives (areas here, ...) of every block."""
        parts = self.map(function)
        out = np.zeros((self.areas, *parts[0].shape[1:]), dtype=parts[0].dtype)
        for area, part in zip(self.block_areas, parts, strict=True):
            out[area] = part
        return out

    def totals(self) -> np.ndarray:
        """(areas,) float64: sum of the weights of each area."""
        return self.each(lambda block: block.weight.sum(axis=1))

    def by_record(self) -> np.ndarray:
        """(records,) float64: each record's weights, summed over areas."""
        total = np.zeros(self.records)
        for number, part in enumerate(self.map(lambda block: block.weight.sum(axis=0))):
            total[self.block_record(number)] += part
        return total

    def of(self, area: int) -> tuple[np.ndarray, np.ndarray]:
        """Records (n,) int64 ascending, and their weights (n,) float64, of one area."""
        block, row = self.place
        found = self.read(int(block[area]))
        return found.record, found.weight[row[area]]

    def at(self, area: np.ndarray, record: np.ndarray) -> np.ndarray:
        """(k,) float64: the weight of each pair (area, record), both (k,) int64; zero where the
        record is not one that the area may use.
        """
        block, row = self.place
        out, of_pair = np.zeros(area.size), block[area]
        order = np.argsort(of_pair, kind="stable")
        edges = np.searchsorted(of_pair[order], np.arange(len(self.block_areas) + 1))

        def look(number: int) -> None:
            here = order[edges[number] : edges[number + 1]]
            if here.size:
                found = self.read(number)
                column = np.searchsorted(found.record, record[here])
                column = np.minimum(column, found.record.size - 1)
                known = found.record[column] == record[here]
                out[here] = np.where(known, found.weight[row[area[here]], column], 0.0)

        _shared_out(look, len(self.block_areas))
        return out

    def table(self) -> np.ndarray:
        """(areas, records) float64: all weights at once, for problems that are small."""
        out = np.zeros(self.shape)
        for number in range(len(self.block_areas)):
            found = self.read(number)
            out[found.area[:, None], found.record[None, :]] = found.weight
        return out

    def check(self) -> None:
        """Raise ProblemError if a weight is negative or not finite."""

        def sound(block: Block) -> bool:
            return bool(np.isfinite(block.weight).all() and (block.weight >= 0).all())

        for number, good in enumerate(self.map(sound)):
            if not good:
                raise ProblemError(
                    "A dense weight is negative or not finite",
                    where=f"areas {self.block_areas[number][:3].tolist()} ...",
                    expected="finite weights >= 0",
                )


class TableWeights(AreaWeights):
    """A table (areas, records) of weights. Raises ProblemError if it is none."""

    def __init__(self, table: np.ndarray) -> None:
        self._table = np.asarray(table, dtype=np.float64)
        if self._table.ndim != 2:
            raise ProblemError(
                f"Dense weights are {self._table.shape}", expected="a table (areas, records)"
            )
        self.areas, self.records = self._table.shape
        self._record = np.arange(self.records)
        begins = range(0, max(self.areas, 1), _AREAS)
        self.block_areas = [np.arange(b, min(b + _AREAS, self.areas)) for b in begins]

    def block_record(self, number: int) -> np.ndarray:
        return self._record

    def read(self, number: int) -> Block:
        area = self.block_areas[number]
        rows = self._table[area[0] : area[-1] + 1] if area.size else self._table[:0]
        return Block(area, self._record, rows)

    def table(self) -> np.ndarray:
        return self._table


class RoundedWeights(AreaWeights):
    """Other weights, each area's rounded beside its largest (``digits.to_choose_by``)."""

    def __init__(self, weights: AreaWeights) -> None:
        self.weights, self.block_areas = weights, weights.block_areas
        self.areas, self.records = weights.shape
        entries = sum(
            area.size * weights.block_record(n).size for n, area in enumerate(self.block_areas)
        )
        # A state of 250 tracts is rounded once, the largest each time it is read.
        self._kept: dict[int, Block] | None = {} if entries * 8 <= kept_bytes("weights") else None

    def block_record(self, number: int) -> np.ndarray:
        return self.weights.block_record(number)

    def read(self, number: int) -> Block:
        if self._kept is not None and number in self._kept:
            return self._kept[number]
        found = self.weights.read(number)
        block = found._replace(weight=to_choose_by(found.weight))
        if self._kept is not None:
            self._kept[number] = block
        return block


def _shared_out(function: Callable[[int], Answer], count: int) -> list[Answer]:
    """``map_blocks`` over numbers; it loads linear algebra, which those who only name a rule of
    areas do without.
    """
    from calibration_core.common.threads import map_blocks

    return map_blocks(function, range(count))


def weights_of(weights: np.ndarray | AreaWeights) -> AreaWeights:
    """A table of weights as blocks; blocks as they are."""
    return weights if isinstance(weights, AreaWeights) else TableWeights(weights)
