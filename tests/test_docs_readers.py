"""The page on readers names every reader and every source."""

from pathlib import Path

from pipeline.sources.named import reader_names
from pipeline.specs.sources import load_sources

PAGE = Path(__file__).resolve().parents[1] / "docs" / "readers.md"


def test_every_reader_and_source_of_files_stands_in_the_table():
    text = PAGE.read_text(encoding="utf-8")
    missing = [name for name in (*reader_names(), *load_sources()) if f"`{name}`" not in text]
    assert missing == []
