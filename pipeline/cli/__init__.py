"""The command ``geocal``: run a profile, list profiles, show a result, check files, validate, UI.

Belongs here: the entry point and what ends it. Does not belong here: commands (``cli/app.py``), or
anything that takes long to import: Ctrl-C is answered in words from the first moment.

Exit status: 0 success; 1 the work failed or cannot be done, its reason on standard error; 2 wrong
usage; 130 interrupted by Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator

from pipeline import interrupts

FAILED, USAGE, INTERRUPTED = 1, 2, 130
_own_process = threading.Event()


def main() -> None:
    """Run the command that ``sys.argv`` names and end the process with its exit status."""
    _own_process.set()
    # A killed process would leave the terminal without its cursor; an interrupted one puts it back.
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _interrupt)
        interrupts.watch()
    try:
        from pipeline.cli.app import call

        status = call(sys.argv[1:])
        if sys.stdout is not None:
            sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        status = INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output has seen enough (`geocal show RI | head`). Python would complain
        # once more while it ends and flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = FAILED
    raise SystemExit(status)


@contextlib.contextmanager
def staying() -> Iterator[None]:
    """What is made within stays until the command ends: libraries, definitions. Where the process
    is the command's own, nobody looks for garbage among it, which would take seconds.
    """
    if not _own_process.is_set():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def stop_if_asked() -> None:
    """Raise KeyboardInterrupt once more where somebody asked for it and it was swallowed: libraries
    catch everything around some of their imports.
    """
    if interrupts.asked():
        raise KeyboardInterrupt


def _interrupt(signum: int, frame: object) -> None:
    raise KeyboardInterrupt
