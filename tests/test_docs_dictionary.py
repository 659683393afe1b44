"""docs/sources.md and docs/codebook.md are what data_specs say, whole, wherever they are made."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.specs.catalog import load_catalog
from pipeline.specs.codebook import load_codebook
from pipeline.specs.dictionary import source_entries

ROOT = Path(__file__).resolve().parents[1]
_SPEC = importlib.util.spec_from_file_location("make_dictionary", ROOT / "docs/make_dictionary.py")
make_dictionary = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make_dictionary)
ENTRIES = source_entries(load_catalog())
SOURCES = (ROOT / "docs" / "sources.md").read_text(encoding="utf-8")
CODEBOOK = (ROOT / "docs" / "codebook.md").read_text(encoding="utf-8")


def test_the_pages_are_current():
    assert make_dictionary.stale() == [], "run: make docs"


def test_a_page_edited_or_missing_is_found(tmp_path):
    shutil.copy(ROOT / "docs" / "sources.md", tmp_path)
    assert make_dictionary.stale(tmp_path) == ["codebook.md"]
    page = tmp_path / "sources.md"
    page.write_text(SOURCES.replace("persons", "people", 1), encoding="utf-8")
    assert make_dictionary.stale(tmp_path) == ["sources.md", "codebook.md"]


def test_another_machine_writes_the_same_bytes():
    other = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "COLUMNS": "40",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(ROOT / "docs" / "make_dictionary.py"), "--check"]
    run = subprocess.run(command, env=other, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def section(name: str) -> str:
    return SOURCES.partition(f"\n## {name}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("name", ENTRIES)
def test_a_source_is_there_with_all_that_is_known_of_it(name):
    entry, text = ENTRIES[name], section(name)
    words = " ".join(text.split())
    for said in (entry.spec.publisher, entry.spec.licence, entry.spec.documentation):
        assert " ".join(said.split()) in words
    for year in entry.spec.vintages:
        assert f"\n| {year} |" in text
    for column in entry.columns:
        begin = f"| {make_dictionary.code(column.name)}"
        rows = [line for line in text.splitlines() if line.startswith(begin)]
        assert any(column.unit in row and column.description[:20] in row for row in rows)
    for use in entry.uses:
        assert f"`{use.domain}`: " in text
        assert use.target in text
        for note in (use.why, use.note):
            assert " ".join(note.split()) in words
    for profile in entry.profiles:
        assert profile in text


def test_every_column_that_a_target_reads_is_declared_and_counted():
    """A variable without a column here would be used and not explained."""
    for name, entry in ENTRIES.items():
        if not entry.uses or entry.spec.reader == "ssa_oasdi_zip":
            continue
        made = {(use.variable, use.domain) for use in entry.uses}
        counted = sum(column.variables for column in entry.columns)
        assert counted >= len(made), name


@pytest.mark.parametrize("table", load_codebook().tables, ids=lambda t: t.names[0])
def test_a_table_of_the_codebook_is_there_with_every_column(table):
    text = CODEBOOK.partition(f"\n### {', '.join(table.names)}\n")[2].partition("\n### ")[0]
    for column in (*table.columns, *table.own, *table.sometimes):
        assert f"| `{column}`" in text


def test_every_code_is_there_with_its_label():
    for name, labels in load_codebook().codes.items():
        text = CODEBOOK.partition(f"\n### Codes of {name}\n")[2].partition("\n### ")[0]
        for value, label in labels.items():
            assert f"| {f'`{value}`' if value != '' else 'empty'} | {label} |" in text
