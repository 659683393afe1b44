"""Where a folder of stored tables and the codebook disagree, table by table."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipeline.specs.codebook import Codebook

PLAIN = {pl.String: "text", pl.Float64: "number", pl.Boolean: "flag", pl.List: "list"}


def type_of(dtype: pl.DataType) -> str:
    """The codebook's word for a type."""
    return "integer" if dtype.is_integer() else PLAIN[dtype.base_type()]


def faults_of(book: Codebook, path: Path) -> list[str]:
    """What the codebook says wrongly, or not at all, of the table stored at ``path``."""
    name = path.stem
    table, frame = book.table(name), pl.read_parquet(path)
    said = {column: book.column(table, column) for column in frame.columns}
    found = [f"{name}.{c} is not in the codebook" for c, column in said.items() if column is None]
    found += [f"{name}.{c} is not in the table" for c in book.names_of(table) if c not in said]
    for column, entry in said.items():
        if entry is None:
            continue
        values, kind = frame[column], type_of(frame[column].dtype)
        if kind != entry.type:
            found.append(f"{name}.{column} is {kind}, not {entry.type}")
        if values.null_count() and not entry.null_where:
            found.append(f"{name}.{column} is null in {values.null_count()} rows")
        if entry.codes:
            known = set(book.codes[entry.codes])
            other = set(values.drop_nulls().unique()) - known
            found += [f"{name}.{column} has {value!r}" for value in sorted(other, key=str)]
    unique = frame.select(k for k in table.key if k in frame.columns)
    if unique.is_duplicated().any():
        found.append(f"{name}: {', '.join(table.key)} is no key")
    return found
