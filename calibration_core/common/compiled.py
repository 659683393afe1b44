"""How loops are compiled: ``loop`` those that Python calls, ``part`` those that only a loop of the
same file calls.

Loops are kept on disk, and work without the interpreter's lock. No fast mathematics: sums are taken
in the order written, and products are not fused with sums, so that the same numbers give the same
bits on every processor. Parts go into the loops that call them; without a way in from Python they
take an eighth less time to compile.

A kept loop does not see changes of a compiled function, or of a number, in another file: what is
compiled together stands together (tests/test_compiled_loops.py).

Belongs here: those two decorators. Does not belong here: a loop.
"""

from __future__ import annotations

from typing import Any

import numba

loop = numba.njit(cache=True, nogil=True)
# Options that numba has, and its published types lack.
_NO_WAY_IN: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
part = numba.njit(nogil=True, **_NO_WAY_IN)
