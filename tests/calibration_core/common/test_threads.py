"""Linear algebra of one thread, and blocks that threads of our own take: order, limits and their
end, whatever happens inside.
"""

import threading
import time

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from calibration_core.common.threads import map_blocks, one_thread, stream_blocks, workers


def blas() -> set[int]:
    """Threads of every BLAS that has threads; one that cvxpy's solvers bring has none."""
    libraries = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    return {lib["num_threads"] for lib in libraries if lib.get("threading_layer") != "disabled"}


@pytest.fixture
def three():
    """A process whose linear algebra has three threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with threadpool_limits(3, user_api="blas"):
        yield
    torch.set_num_threads(before)


def test_inside_there_is_one_thread_and_afterwards_as_many_as_before(three):
    with one_thread():
        assert blas() == {1} and torch.get_num_threads() == 1 and workers() == 3
        with one_thread():
            pass
        assert blas() == {1} and torch.get_num_threads() == 1
    assert blas() == {3} and torch.get_num_threads() == 3 and workers() == 3


def test_an_error_inside_ends_the_limit(three):
    with pytest.raises(ZeroDivisionError), one_thread():
        map_blocks(lambda x: 1 // x, [1, 0])
    assert blas() == {3} and torch.get_num_threads() == 3


def test_answers_come_in_order_from_several_threads_of_one_thread_each(three):
    def look(item):
        time.sleep(0.01 * (item % 3))
        return item, blas(), torch.get_num_threads(), threading.get_ident()

    for found in (map_blocks(look, range(9)), list(stream_blocks(look, range(9)))):
        assert [f[0] for f in found] == list(range(9))
        assert all(f[1] == {1} and f[2] == 1 for f in found)
        assert 1 < len({f[3] for f in found}) <= 3
    assert blas() == {3} and torch.get_num_threads() == 3


def test_a_stream_works_ahead_by_no_more_than_one_answer_a_thread(three):
    begun = []

    def begin(item):
        begun.append(item)
        return item

    for number, item in enumerate(stream_blocks(begin, range(20))):
        time.sleep(0.002)
        assert item == number and len(begun) <= number + 4


def test_blocks_within_blocks_are_computed_where_they_are(three):
    def outer(item):
        inner = map_blocks(lambda k: threading.get_ident(), range(4))
        streamed = list(stream_blocks(lambda k: threading.get_ident(), range(4)))
        return {*inner, *streamed} == {threading.get_ident()}

    assert map_blocks(outer, range(4)) == [True] * 4


def test_callers_in_threads_of_their_own_do_not_end_each_others_limit(three):
    rows = np.random.default_rng(0).normal(size=(4000, 60))
    with one_thread():
        expected = rows.T @ rows
    wrong = []

    def call(seconds: float) -> None:
        with one_thread():
            time.sleep(seconds)
            if blas() != {1} or not np.array_equal(rows.T @ rows, expected):
                wrong.append(seconds)

    callers = [threading.Thread(target=call, args=(s,)) for s in (0.0, 0.05, 0.1, 0.02)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong and blas() == {3}


def test_a_decorated_function_is_inside():
    @one_thread()
    def inside() -> int:
        return torch.get_num_threads()

    assert inside() == 1
