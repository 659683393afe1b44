"""A compiled loop that is kept on disk sees only its own file: what it calls, and the numbers it
uses, must stand there too."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(p for name in ("calibration_core", "pipeline") for p in (ROOT / name).rglob("*.py"))
# Names that compile what they decorate: those of common/compiled.py, and numba's own.
COMPILES = {"loop", "part", "njit", "jit", "vectorize", "guvectorize"}


def name_of(node: ast.expr) -> str:
    """Last name of ``numba.njit(cache=True)``, ``njit`` or ``loop``."""
    node = node.func if isinstance(node, ast.Call) else node
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def compiled_in(tree: ast.Module) -> list[ast.FunctionDef]:
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef)
        and {name_of(d) for d in node.decorator_list} & COMPILES
    ]


def taken_from_elsewhere(text: str) -> set[tuple[str, str]]:
    """(compiled function, name it uses) where the name was imported from this project."""
    tree = ast.parse(text)
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").split(".")[0] in {"calibration_core", "pipeline"}
        for alias in node.names
    }
    found = set()
    for function in compiled_in(tree):
        names = [n for s in function.body for n in ast.walk(s) if isinstance(n, ast.Name)]
        # A name that is assigned in the function is its own.
        own = {n.id for n in names if isinstance(n.ctx, ast.Store)}
        own |= {argument.arg for argument in function.args.args}
        found |= {(function.name, n.id) for n in names if n.id in imported - own}
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_compiled_loop_takes_nothing_from_another_file(path):
    assert taken_from_elsewhere(path.read_text(encoding="utf-8")) == set()


def test_there_are_loops_to_look_at():
    found = {p.name for p in FILES if compiled_in(ast.parse(p.read_text(encoding="utf-8")))}
    assert {"loops.py", "flight.py", "components.py", "exchange.py"} <= found


def test_a_call_and_a_number_from_elsewhere_would_be_seen():
    text = """
import numba
from calibration_core.sampling.loops import capped, CERTAIN
@numba.njit(cache=True)
def both(x):
    return capped(x, 1, x) + CERTAIN
@part
def neither(x):
    return own(x)
def python_may(x):
    return capped(x, 1, x)
"""
    assert taken_from_elsewhere(text) == {("both", "capped"), ("both", "CERTAIN")}


def test_no_loop_is_compiled_with_fast_mathematics():
    """Sums would be taken in another order on another processor."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and name_of(node) in COMPILES:
                given = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert given.get("fastmath", "False") == "False", path
                assert given.get("parallel", "False") == "False", path
