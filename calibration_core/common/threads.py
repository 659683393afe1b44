"""Linear algebra that gives the same bits for any number of threads.

BLAS, LAPACK and torch share a single product or sum out among their threads, and where they cut
it decides its last bits. A draw of records looks at such bits: with one thread and with two, 1,272
of 1,800 chosen pairs were the same. So every numeric front door runs inside ``one_thread``, in
which linear algebra has one thread, and what is worth sharing out is cut into blocks here. Blocks
depend on the problem alone, threads of our own take whole blocks, and what comes out of them is
added in the order of the blocks.

It costs nothing: sharing out a small product takes longer in waiting than it gains. A problem of
100,000 records x 126 targets took twice as long with two threads of BLAS as with one, and the dense
weights of Rhode Island six times as long beside other work on the same cores.

What still depends on the processor is which instructions BLAS, torch, numpy and numba choose.

Belongs here: those two loops and the limit. Does not belong here: what is computed on a block.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any, TypeVar

# SciPy has a BLAS of its own; a controller knows only libraries that are loaded when it is made.
import scipy.linalg  # noqa: F401
from threadpoolctl import ThreadpoolController

__all__ = ["map_blocks", "one_thread", "stream_blocks", "workers"]

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def _take_control() -> None:
    """Let this thread set the limits of BLAS: threadpoolctl lets one thread alone, the first, and
    ignores the others in silence; here the last to leave may be another than the first to enter.
    """
    for kind in {type(library) for library in _controller().lib_controllers}:
        clear = getattr(kind, "clear_controlling_thread", None)
        if clear is not None:
            clear(force=True)


def _torch() -> ModuleType | None:
    """torch where it is loaded whole; importing it takes seconds, and much here does without."""
    found = sys.modules.get("torch")
    return found if hasattr(found, "set_num_threads") else None


class _Limit:
    """What holds while anybody is inside ``one_thread``; limits of BLAS are those of the process,
    torch's those of a thread.
    """

    def __init__(self) -> None:
        self.lock, self.mine = threading.Lock(), threading.local()
        self.inside, self.workers, self.torch = 0, 1, 0
        self.blas: Any = None

    @property
    def depth(self) -> int:
        """How often this thread is inside."""
        return getattr(self.mine, "depth", 0)

    def enter(self) -> None:
        with self.lock:
            if not self.depth:
                self.inside += 1
                if self.inside == 1:
                    self.workers = _threads_found()
                    _take_control()
                    self.blas = _controller().limit(limits=1, user_api="blas")
            torch = _torch()
            if torch is not None and torch.get_num_threads() != 1:
                self.torch = self.torch or torch.get_num_threads()
                torch.set_num_threads(1)
        self.mine.depth = self.depth + 1

    def leave(self) -> None:
        self.mine.depth -= 1
        if self.depth:
            return
        with self.lock:
            torch = _torch()
            if self.torch and torch is not None:
                torch.set_num_threads(self.torch)
            self.inside -= 1
            if not self.inside:
                _take_control()
                self.blas.restore_original_limits()
                _take_control()
                self.blas, self.torch = None, 0


_LIMIT = _Limit()


def _threads_found() -> int:
    """The fewest threads that BLAS or torch have now."""
    # A BLAS built without threads, as some solvers bring their own, says nothing of the process.
    found = [
        lib["num_threads"]
        for lib in _controller().info()
        if lib["user_api"] == "blas" and lib.get("threading_layer") != "disabled"
    ]
    torch = _torch()
    if torch is not None:
        found.append(torch.get_num_threads())
    return max(1, min(found, default=1))


def workers() -> int:
    """Threads of our own: what BLAS and torch had outside ``one_thread`` (all cores, or what
    OMP_NUM_THREADS and its like say).
    """
    return _LIMIT.workers if _LIMIT.inside else _threads_found()


@contextmanager
def one_thread() -> Iterator[None]:
    """Inside, numpy, SciPy and torch compute with one thread each; afterwards as before.

    Also a decorator: ``@one_thread()``. May be nested, and entered by several threads at once.
    """
    _LIMIT.enter()
    try:
        yield
    finally:
        _LIMIT.leave()


def _begin_worker() -> None:
    """A thread of our own stays inside as long as it lives."""
    _LIMIT.mine.depth = 1
    # Where BLAS takes its threads from OpenMP each thread has a limit of its own.
    _controller().limit(limits=1, user_api="blas")
    torch = _torch()
    if torch is not None:
        torch.set_num_threads(1)


def map_blocks(function: Callable[[Item], Answer], items: Sequence[Item]) -> list[Answer]:
    """``function`` of every item, in order, computed by ``workers()`` threads with a linear algebra
    of one thread each. A call from within such a thread computes in that thread.
    """
    with one_thread():
        count = 1 if threading.current_thread().name.startswith(_NAME) else workers()
        if count == 1 or len(items) <= 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(count, _NAME, _begin_worker) as pool:
            return list(pool.map(function, items))


def stream_blocks(function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
    """Like ``map_blocks``, for answers that are too large to be kept: they are handed out in order,
    and no more than one for each thread is worked on ahead of the one asked for.
    """
    with one_thread():
        count = 1 if threading.current_thread().name.startswith(_NAME) else workers()
        if count == 1:
            yield from map(function, items)
            return
        rest = iter(items)
        with ThreadPoolExecutor(count, _NAME, _begin_worker) as pool:
            ahead = deque(pool.submit(function, item) for item in itertools.islice(rest, count))
            while ahead:
                answer = ahead.popleft().result()
                ahead.extend(pool.submit(function, item) for item in itertools.islice(rest, 1))
                yield answer


_NAME = "geocal-block"
