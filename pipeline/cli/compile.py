"""The command ``geocal compile``.

Belongs here: what it says. Does not belong here: what is compiled (``pipeline/warm.py``).
"""

from __future__ import annotations

from pipeline.cli.progress import Waiting
from pipeline.cli.terminal import Terminal


def compile_now(terminal: Terminal) -> None:
    """Compile every loop that a run or a validation calls, and say how long that took."""
    with Waiting(terminal, "loading") as waiting:
        from pipeline.warm import compile_loops

        done = compile_loops(waiting)
    if done.functions:
        terminal.note(f"{done.functions} loops compiled; the whole took {done.seconds:.0f} s.")
    else:
        terminal.note(f"Every loop was compiled already ({done.seconds:.0f} s to see that).")
