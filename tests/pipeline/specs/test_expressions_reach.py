"""What an expression of a specification can reach: the columns of one table, and nothing else."""

from __future__ import annotations

import polars as pl
import pytest
from pydantic import TypeAdapter, ValidationError

from pipeline.specs.variables import SqlExpression

CHECKED = TypeAdapter(SqlExpression)


@pytest.mark.parametrize(
    "text",
    [
        "age IN (SELECT * FROM read_csv('{file}'))",
        "EXISTS (select 1 from read_parquet('{file}'))",
        "(SELECT max(a) FROM read_ndjson('https://example.org/a'))",
        "age > 1 OR (VALUES (1))",
        "read_csv('{file}')",
        "age > 0; DROP TABLE persons",
        "pg_read_file('{file}')",
        "getenv('HOME')",
        "load_extension('a')",
    ],
)
def test_files_addresses_and_the_machine_are_out_of_reach(text, tmp_path, monkeypatch):
    file = tmp_path / "secret.csv"
    file.write_text("word\nhidden\n")
    opened = []
    for name in ("scan_csv", "read_csv", "scan_parquet", "scan_ndjson"):
        monkeypatch.setattr(pl, name, lambda *a, **k: opened.append(a))
    with pytest.raises(ValidationError) as caught:
        CHECKED.validate_python(text.format(file=file))
    assert "hidden" not in str(caught.value) and not opened


@pytest.mark.parametrize(
    "text",
    [
        "age >= 18 AND relationship = 'spouse'",
        "CASE WHEN tenure = 'rented, from a relative' THEN 1 ELSE 0 END",
        "with_children = 1",
        "a = 'select from'",
        "COALESCE(usd_wages, 0) > 0",
    ],
)
def test_expressions_over_columns_are_taken(text):
    assert CHECKED.validate_python(text) == text
