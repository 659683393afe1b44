"""How findings name targets and write numbers, the same in every message.

Belongs here: small formatters. Does not belong here: finding anything.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration_core.flat.problem import CalibrationProblem


def number(x: float) -> str:
    """6194 -> '6,194', 6503.7 -> '6,503.7': seven significant digits, and all before the decimal
    point up to a million million.
    """
    return f"{x:,.0f}" if 1e6 <= abs(x) < 1e12 else f"{x:,.7g}"


def percent(share: float) -> str:
    """0.05 -> '5.00 %': three significant digits, no sign."""
    size = 100.0 * abs(share)
    return f"{size:#.3g} %" if 1e-3 <= size < 1e3 else f"{size:.3g} %"


def quoted(names: Sequence[str], limit: int = 4) -> str:
    """'a', 'b' and 3 more."""
    names = list(names)
    shown = [repr(str(x)) for x in names[:limit]]
    if len(names) > limit:
        return f"{', '.join(shown)} and {len(names) - limit:,} more"
    return (
        shown[0]
        if len(shown) == 1
        else f"{', '.join(shown[:-1])} and {shown[-1]}"
        if shown
        else "none"
    )


def family(problem: CalibrationProblem, rows: np.ndarray) -> str:
    """The words for some rows of one group: the margin if they are all of it, the target or targets
    otherwise.
    """
    rows = np.asarray(rows)
    names = [problem.target_names[j] for j in rows]
    group = problem.groups[int(rows[0])]
    if rows.size == 1:
        return f"target {names[0]!r}"
    if rows.size == sum(g == group for g in problem.groups):
        return repr(group) if group.lower().startswith("margin") else f"margin {group!r}"
    return f"targets {quoted(names, 3)}" if rows.size <= 3 else f"{rows.size} targets of {group!r}"


def capital(text: str) -> str:
    """The same with its first letter upper case."""
    return text[:1].upper() + text[1:]
