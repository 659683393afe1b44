"""Hard rules of tables about to be written, and the error that names the rows which break one.

Belongs here: the two ways to state such a rule. Does not belong here: the rules themselves, which
stand where a table is made, or the schema of any table.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from pipeline.errors import InvariantError

SHOWN = 5


def require(condition: bool, found: str, *, where: str, expected: str, remedy: str) -> None:
    """Raise InvariantError, so that nothing is written, unless ``condition`` holds."""
    if not condition:
        raise InvariantError(found, where=where, expected=expected, remedy=remedy)


def require_no_rows(
    faulty: pl.DataFrame, found: str, *, table: str, columns: Iterable[str], remedy: str
) -> None:
    """Raise InvariantError naming the first five faulty rows by ``columns``, if there are any."""
    if faulty.is_empty():
        return
    first = faulty.select(list(columns)).head(SHOWN).to_dicts()
    named = "; ".join(", ".join(f"{k}={v}" for k, v in row.items()) for row in first)
    raise InvariantError(
        f"{faulty.height:,} rows {found}",
        where=f"{table}: {named}",
        expected="no such row; nothing was written",
        remedy=remedy,
    )
