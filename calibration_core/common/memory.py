"""How much memory may be taken by what is kept for speed alone.

Products of a neighbourhood's columns, rows of pairs, rounded weights: each can be made again, and
whether it is kept changes no bit of any result. Together they take a quarter of the budget of the
process, so that whoever has more memory is served faster and whoever has less still is.

Belongs here: the budget, and how it is shared out. Does not belong here: what a problem needs
whatever is kept, which its caller adds up, or the process's own peak.
"""

from __future__ import annotations

from calibration_core.errors import SettingsError

DEFAULT = 8 * 2**30
"""Bytes of a machine that runs the largest state: California with 9,129 tracts."""

# Shares of the budget. Of 8 GB these are 1.07, 0.43, 0.54 and 0.43 GB: Rhode Island (250 tracts,
# 5,000 households, 300 variables) keeps all it can use in half of each.
_SHARES = {"pools": 1 / 8, "records": 1 / 20, "pairs": 1 / 16, "weights": 1 / 20}

_budget = DEFAULT


def set_budget(size: int | None) -> None:
    """Set the budget of this process in bytes; None for the default. Raises SettingsError if it is
    not positive.
    """
    global _budget
    if size is not None and size <= 0:
        raise SettingsError(f"A memory budget of {size} bytes", expected="more than zero")
    _budget = DEFAULT if size is None else int(size)


def budget() -> int:
    """The budget in bytes."""
    return _budget


def kept_bytes(part: str) -> int:
    """How much ``part`` may keep: "pools", "records", "pairs" or "weights"."""
    return int(_SHARES[part] * _budget)


def kept_in_all() -> int:
    """How much all parts may keep together."""
    return int(sum(_SHARES.values()) * _budget)
