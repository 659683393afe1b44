"""One fact the user must know about a result, as data: a code to test for, words to read.

Belongs here: the warning object of both wings, and what is said in the same words by both. Does
not belong here: when a warning is due (each solver), errors (``calibration_core/errors.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["CalibrationWarning", "few_names"]


@dataclass(frozen=True)
class CalibrationWarning:
    """One fact the user must know.

    Attributes
    ----------
    code : a short fixed word to test for, for example "unsupported_target",
        "margin_totals_disagree", "targets_missed".
    message : what was found, where, and what to do, in words.
    targets : names of the targets it is about.
    size : how large it is (a relative error, a count, a difference, as the message says).
    """

    code: str
    message: str
    targets: tuple[str, ...] = ()
    size: float = float("nan")

    def __str__(self) -> str:
        return f"{self.code}: {self.message}"


def few_names(names: Iterable[str], limit: int = 5) -> str:
    """The first names of a list, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
