"""Threads over blocks of records, each with a BLAS of one thread.

BLAS shares out a single product among its threads, which costs more in waiting than it gains where
products are small: 100,000 records x 126 targets took twice as long with two threads as with one,
and many times as long beside other work. Whole blocks shared out among threads have no such cost,
and because the blocks and the order in which they are added are fixed, results do not depend on how
many threads there are.

Belongs here: that loop. Does not belong here: what is computed on a block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

Item, Answer = TypeVar("Item"), TypeVar("Answer")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@cache
def workers() -> int:
    """Threads to use: what BLAS would (all cores, or what OMP_NUM_THREADS and its like say when
    numerics are first used).
    """
    found = [
        library["num_threads"] for library in _controller().info() if library["user_api"] == "blas"
    ]
    return max(1, min(found, default=1))


def map_blocks(function: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """``function`` of every item, in order, computed by ``workers()`` threads with a BLAS of one
    thread each.
    """
    count = workers()
    with _controller().limit(limits=1, user_api="blas"):
        if count == 1 or len(items) == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(count) as pool:
            return list(pool.map(function, items))
