"""What a long asset says while it works: steps of a solver, rounds of a selection, compiling.

Belongs here: turning what the numerics report into a few words, not too often. Does not belong
here: who reads them (Dagster's event log, and through it the UI and ``geocal run``).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Any

# Each line is an event in Dagster's store, which takes some 25 ms: one in a second costs a fortieth
# of the work, and a reader follows no more.
SECONDS_BETWEEN = 1.0


class StepWords:
    """Called with each step; passes on the first one, and then at most one in a second.

    say : called with a few words, for example an asset's ``context.log.info``.
    """

    def __init__(self, say: Callable[[str], Any], every: float = SECONDS_BETWEEN) -> None:
        self._say, self._every = say, every
        self._steps = 0
        self._last = -every

    def __call__(self, step: Any) -> None:
        """A sentence, or a step of a tree solver (tau, loss and gradient of ``tree/result.py``)."""
        self._steps += 1
        now = time.monotonic()
        if now - self._last >= self._every:
            self._last = now
            self._say(step if isinstance(step, str) else self._solver_step(step))

    def _solver_step(self, step: Any) -> str:
        return (
            f"step {self._steps}, tau {step.tau:g}: loss {step.loss:,.6g},"
            f" largest gradient {step.gradient:.1e}"
        )


@contextlib.contextmanager
def step_words(say: Callable[[str], Any]) -> Iterator[StepWords]:
    """A ``StepWords``; meanwhile every loop that has to be compiled first is named too."""
    from numba.core import event

    class Compiling(event.Listener):
        """Names each compiled function of this project, not the parts numba makes of it."""

        def __init__(self) -> None:
            self.inside = 0

        def on_start(self, event: Any) -> None:
            function = event.data["dispatcher"].py_func
            if not self.inside:
                say(
                    f"compiling {function.__name__}, once on this machine"
                    " (`geocal compile` does it beforehand)"
                )
            self.inside += 1

        def on_end(self, event: Any) -> None:
            self.inside -= 1

    with event.install_listener("numba:compile", Compiling()):
        yield StepWords(say)
