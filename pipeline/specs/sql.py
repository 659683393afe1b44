"""Expressions in specifications: text that polars parses, and that reaches nothing but columns.

Belongs here: that type and what it refuses. Does not belong here: which columns there are, or the
evaluation on records (``pipeline/records/expressions.py``).
"""

from __future__ import annotations

import re
from typing import Annotated

import polars as pl
from pydantic import AfterValidator

_TEXT = re.compile(r"'[^']*'|\"[^\"]*\"")
# In a query of its own an expression could name files and addresses, which polars opens while it
# parses.
_QUERY = re.compile(r"\b(select|from|with|table|values|pivot)\b", re.IGNORECASE)


def _parses(text: str) -> str:
    if found := _QUERY.search(_TEXT.sub("''", text)):
        raise ValueError(
            f"{text!r} holds a query ({found.group(0)}); an expression over the columns of one"
            " record table is expected"
        )
    try:
        pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{text!r} is not a SQL expression polars can parse ({error})") from error
    return text


SqlExpression = Annotated[str, AfterValidator(_parses)]
"""Text that polars parses as one SQL expression over columns; it can reach no table, file or
address."""
