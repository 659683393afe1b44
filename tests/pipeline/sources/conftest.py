"""Fixtures of the reader tests: write small files in a publisher's form, and read them with the
project's own specs.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest

from pipeline.sources.registry import read_source
from pipeline.specs.known_totals import FILE
from pipeline.specs.sources import SourceSpec, load_source


@pytest.fixture
def put(tmp_path: Path) -> Callable[[Mapping[str, str | bytes]], Path]:
    """Write files below a temporary data folder of made-up files, which states no known totals, and
    return the folder.
    """
    (tmp_path / FILE).write_text("# SYNTHETIC\n{}\n")

    def write(files: Mapping[str, str | bytes]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        return tmp_path

    return write


@pytest.fixture
def read(put):
    """Write ``files`` and read them as ``source`` (an id, or a spec) of ``vintage``."""

    def call(
        source: str | SourceSpec,
        vintage: str,
        files: Mapping[str, str | bytes],
        states: list[str] | None = None,
    ):
        spec = load_source(source) if isinstance(source, str) else source
        return read_source(spec, vintage, put(files), states)

    return call


@pytest.fixture
def cell():
    """The one row of a PublishedTable with this geoid and column."""

    def find(
        frame: pl.DataFrame, geoid: str, column: str, stratum: str | None = None
    ) -> dict[str, object]:
        rows = frame.filter((pl.col("geoid") == geoid) & (pl.col("column") == column))
        rows = rows if stratum is None else rows.filter(pl.col("stratum") == stratum)
        assert rows.height == 1, f"{rows.height} rows for {geoid} {column}"
        return rows.row(0, named=True)

    return find


@pytest.fixture
def zipped():
    """Bytes of a zip archive with these members."""

    def make(members: Mapping[str, str]) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return buffer.getvalue()

    return make
