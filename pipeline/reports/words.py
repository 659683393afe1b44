"""Numbers in words, and where a report prints itself.

Belongs here: formats that several reports share. Does not belong here: any report.
"""

from __future__ import annotations

from typing import Any, Protocol


class Printer(Protocol):
    """A rich console, or the terminal of the command line, which also keeps a log."""

    @property
    def width(self) -> int:
        """Columns that there are."""

    def print(self, what: Any, **how: Any) -> None:
        """Print one renderable."""


def percent(value: float | None, digits: int = 2) -> str:
    """A share as a percentage; nothing where there is none."""
    if value is None:
        return ""
    return f"{100 * value:.{digits}f} %" if value < 10 else "> 1,000 %"


def change(value: float | None) -> str:
    """A relative difference with its sign; ``none`` where there is none."""
    if value is None:
        return "none"
    return f"{100 * value:+.1f} %" if abs(value) < 10 else "> 1,000 %"
