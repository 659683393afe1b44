"""The records of a neighbourhood, as its leaves share them, and how many neighbourhoods are kept.

Where most of the columns are zero, as those of categories are, only the others are multiplied
(``sparse_records.py``); else, and on a GPU, passes are products of whole matrices
(``dense_records.py``).

Belongs here: which of the two, prior weights, the cache. Does not belong here: those passes, or
what is done leaf by leaf (``pool_blocks.py``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch

from calibration_core.common.memory import kept_bytes
from calibration_core.common.threads import workers
from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.solve.blocks import TreeBlocks
from calibration_core.tree.solve.dense_records import DenseRecords
from calibration_core.tree.solve.sparse_records import SparseRecords, is_worth_it


class RecordPool:
    """Records of one neighbourhood.

    Attributes
    ----------
    columns : their columns, and the passes over these.
    prior : (records,) float64 prior weight with its expansion; ``group`` (records,) int64.
    plain : whether all records are of group 0.
    """

    def __init__(self, blocks: TreeBlocks, problem: PoolProblem, number: int) -> None:
        near = problem.near
        record, expansion = near.record[number], near.expansion[number]
        every = blocks.rows(slice(None) if record.size == problem.record_prior.size else record)
        self.prior = blocks.send(problem.record_prior[record] * expansion / blocks.unit)
        self.group = torch.as_tensor(problem.group[record], device=blocks.device)
        self.plain = not torch.any(self.group != 0)
        self.columns = _columns(blocks, every, int(near.leaves[number].size))

    @property
    def bytes(self) -> int:
        """What it holds at the most."""
        return self.columns.bytes + 16 * self.prior.numel()


def _columns(blocks: TreeBlocks, every: torch.Tensor, leaves: int) -> DenseRecords | SparseRecords:
    if blocks.device.type == "cpu" and is_worth_it(every.numpy(), blocks.width, leaves):
        return SparseRecords(blocks, every)
    return DenseRecords(blocks, every, leaves)


class PoolCache:
    """The RecordPools of a problem: as many as fit, and the last ones used.

    Passes go through all of them in turn, so that one put aside for another would be missed before
    the other is asked for again. What fits is kept, and the rest is made whenever it is needed.
    """

    def __init__(self, blocks: TreeBlocks, problem: PoolProblem) -> None:
        self._blocks, self._problem = blocks, problem
        self._lock, self._kept = threading.Lock(), dict[int, RecordPool]()
        self._recent, self._most = OrderedDict[int, RecordPool](), workers() + 1
        self._left = kept_bytes("pools")

    def of(self, number: int) -> RecordPool:
        """The records of a neighbourhood."""
        with self._lock:
            found = self._kept.get(number) or self._recent.get(number)
        if found is not None:
            return found
        # Not while others wait for the lock; two threads may make the same one, and one is taken.
        made = RecordPool(self._blocks, self._problem, number)
        with self._lock:
            found = self._kept.get(number) or self._recent.get(number)
            if found is not None:
                return found
            if made.bytes <= self._left:
                self._kept[number], self._left = made, self._left - made.bytes
                return made
            self._recent[number] = made
            if len(self._recent) > self._most:
                self._recent.popitem(last=False)
            return made

    def form(self) -> None:
        """Form products of the neighbourhoods that are kept, where all are: here one after another,
        with all threads, and not by the first that comes to need them.
        """
        if len(self._kept) == len(self._problem.near.leaves):
            for pool in self._kept.values():
                pool.columns.form()
