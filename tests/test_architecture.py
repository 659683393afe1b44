"""The rooms of the house: what may import what, and how big a module may grow."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CORE = sorted((ROOT / "calibration_core").glob("**/*.py"))
ALL = sorted(
    p for folder in ("calibration_core", "pipeline") for p in (ROOT / folder).glob("**/*.py")
)
CORE_MAY_IMPORT = {
    "__future__",
    "calibration_core",
    "collections",
    "concurrent",
    "dataclasses",
    "contextlib",
    "numba",
    "numpy",
    "scipy",
    "threadpoolctl",
    "time",
    "torch",
    "typing",
    "math",
    "difflib",
    "functools",
    "importlib",
    "itertools",
}


def imported(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {
        alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    return names | {
        node.module.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
    }


@pytest.mark.parametrize("path", CORE, ids=lambda p: p.name)
def test_the_core_knows_arrays_only(path):
    assert imported(path) <= CORE_MAY_IMPORT
    opened = [
        n
        for n in ast.walk(ast.parse(path.read_text()))
        if isinstance(n, ast.Call)
        and isinstance(n.func, ast.Name)
        and n.func.id in {"open", "print"}
    ]
    assert not opened


@pytest.mark.parametrize(
    "path", [p for p in ALL if p.read_text().strip()], ids=lambda p: str(p.relative_to(ROOT))
)
def test_every_module_says_what_belongs_in_it(path):
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    assert "elong" in text, "the first docstring says what belongs here and what does not"
    assert len(path.read_text().splitlines()) <= 400


@pytest.mark.parametrize(
    "path", [p for p in ALL if "pipeline" in p.parts], ids=lambda p: str(p.relative_to(ROOT))
)
def test_nothing_reaches_back_up(path):
    """Readers and specs know nothing of assets, definitions or the command line."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = {
        n.module
        for n in ast.walk(tree)
        if isinstance(n, ast.ImportFrom) and n.module and n.module.startswith("pipeline.")
    }
    below = path.relative_to(ROOT).parts[1]
    if below in {"specs", "sources", "records", "targets", "weights", "sample"}:
        assert not {
            m
            for m in modules
            if m.split(".")[1] in {"assets", "definitions", "cli", "jobs", "runs", "io_manager"}
        }
        assert "dagster" not in imported(path)
