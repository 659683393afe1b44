"""Which code a function rests on, symbol by symbol, and a digest of it.

A table is stale when code that makes it changed, and only then: a digest of the whole package would
make every table stale for a word in a help text. From one function on, every name of ours that it
uses is followed: functions, classes (whole), constants, in whichever module they stand. Comments
and docstrings do not count, nor does code that only shows a result (``SHOWN``).

What cannot be followed counts whole: a module handed on as a value, modules named in a string
(``"pipeline.sources.readers"``, as a registry loads them), statements of a module outside any
definition. So the digest may change without need, and does not stay when something it follows
changed.

Belongs here: from a function's name to the code it uses. Does not belong here: what else a table is
made from (``currency/making.py``), or running anything.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from pipeline.errors import InvariantError
from pipeline.stored import digest_of

PROJECT_ROOT = Path(__file__).resolve().parents[1]
OURS = ("pipeline", "calibration_core")
# What is shown beside a table and not stored in it; errors' words; the store and the running of
# things, whose own tests say that tables come out as they went in.
SHOWN = (
    "pipeline.assets.metadata",
    "pipeline.assets.common",
    "pipeline.reports.bystander_plot",
    "pipeline.reports.chart_style",
    "pipeline.reports.loss_plots",
    "pipeline.reports.loss_points",
    "pipeline.reports.plots",
    "pipeline.errors",
    "pipeline.io_manager",
    "pipeline.settings",
    "pipeline.step_words",
    "calibration_core.errors",
)
_DEFINED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
Symbol = tuple[str, str]
"""Module and name in it; "" is what stands outside any definition, "*" the whole module."""


@dataclass(frozen=True)
class CodeUsed:
    """``parts``: digest of what is used of each file, by its path in the project; ``files``: names
    of YAML files that this code names."""

    parts: dict[str, str]
    files: tuple[str, ...]

    @property
    def digest(self) -> str:
        """Over all parts."""
        return digest_of(self.parts)


@dataclass
class _Module:
    path: Path
    symbols: dict[str, list[ast.stmt]] = field(default_factory=dict)
    imports: dict[str, set[Symbol]] = field(default_factory=dict)


def code_used(roots: Iterable[Symbol]) -> CodeUsed:
    """What functions, by module and name, rest on. Raises InvariantError where there is no such
    function.
    """
    return _code_used(tuple(sorted(set(roots))))


@cache
def _code_used(roots: tuple[Symbol, ...]) -> CodeUsed:
    for module, name in roots:
        known = _module(module)
        if module not in SHOWN and (known is None or name not in known.symbols):
            raise InvariantError(
                f"There is no {name!r} in {module!r}, whose code a table's version is made of",
                where=module,
                expected="a function at the top of a module of ours",
                remedy="Report this: an asset's function cannot be found in its module",
            )
    reached: dict[str, set[str]] = {}
    waiting = list(roots)
    while waiting:
        symbol = waiting.pop()
        if symbol[1] in reached.setdefault(symbol[0], set()):
            continue
        reached[symbol[0]].add(symbol[1])
        waiting += _names_used(symbol).symbols
        waiting.append((symbol[0], ""))
    used = {at: [_names_used((at, n)) for n in sorted(reached[at])] for at in sorted(reached)}
    parts = {
        _relative(at): hashlib.sha256("".join(u.digest for u in each).encode()).hexdigest()[:12]
        for at, each in used.items()
        if any(u.digest for u in each)
    }
    files = {file for each in used.values() for u in each for file in u.files}
    return CodeUsed(parts, tuple(sorted(files)))


@dataclass(frozen=True)
class _Used:
    digest: str
    symbols: frozenset[Symbol]
    files: frozenset[str]


@cache
def _names_used(symbol: Symbol) -> _Used:
    """Digest of a symbol's own code, and the symbols and YAML files that it names."""
    at, name = symbol
    module = _module(at)
    if module is None:
        return _Used("", frozenset(), frozenset())
    if name == "*":
        every = frozenset((at, each) for each in module.symbols)
        return _Used("", every, frozenset())
    body = module.symbols.get(name, [])
    found: set[Symbol] = set()
    files: set[str] = set()
    for statement in body:
        nodes = list(ast.walk(statement))
        # `steps` in `steps.fit_of` is no use of the whole module.
        asked = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                files |= {node.value} if re.fullmatch(r"[\w/]+\.yaml", node.value) else set()
                found |= _named_in_text(module, at, node.value)
            else:
                found |= _named(module, at, node, whole=id(node) not in asked)
    text = "".join(ast.dump(statement) for statement in body)
    digest = hashlib.sha256(f"{name}\n{text}".encode()).hexdigest() if body else ""
    return _Used(digest, frozenset(found - {symbol}), frozenset(files))


def _named(module: _Module, at: str, node: ast.AST, whole: bool) -> set[Symbol]:
    """Symbols of ours that one node names; ``whole``: a module that it names is handed on."""
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        targets = module.imports.get(node.value.id, set())
        return {
            found for where, name in targets if name == "*" for found in _member(where, node.attr)
        }
    if not isinstance(node, ast.Name):
        return set()
    handed_on = {
        (each, "*")
        for where, what in (module.imports.get(node.id, set()) if whole else ())
        if what == "*"
        for each in _below(where)
    }
    return _called(module, at, node.id) | handed_on


def _called(module: _Module, at: str, name: str) -> set[Symbol]:
    if name in module.symbols:
        return {(at, name)}
    found = module.imports.get(name, set())
    return {each for where, what in found if what != "*" for each in _member(where, what)}


def _member(where: str, name: str) -> set[Symbol]:
    """A name of a module, followed to where it is defined; a module below it counts whole."""
    module = _module(where)
    if module is not None and name in module.symbols:
        return {(where, name)}
    if module is not None and name in module.imports:
        return {s for at, what in module.imports[name] for s in _followed(at, what, where)}
    return {(f"{where}.{name}", "*")} if _exists(f"{where}.{name}") else set()


def _followed(at: str, what: str, whence: str) -> set[Symbol]:
    if what == "*":
        return {(at, "*")}
    return _member(at, what) if at != whence else set()


def _named_in_text(module: _Module, at: str, text: str) -> set[Symbol]:
    """A type in quotes; or modules that are loaded by their names."""
    if text.isidentifier():
        return _called(module, at, text)
    named = text.rstrip(".")
    if named.split(".")[0] in OURS and "." in named and _exists(named):
        return {(each, "*") for each in _below(named)}
    return set()


def _below(name: str) -> Iterator[str]:
    folder = PROJECT_ROOT.joinpath(*name.split("."))
    if not folder.is_dir():
        yield name
        return
    for path in sorted(folder.rglob("*.py")):
        yield ".".join(path.relative_to(PROJECT_ROOT).with_suffix("").parts)


def _file(name: str) -> Path:
    path = PROJECT_ROOT.joinpath(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _exists(name: str) -> bool:
    return name.split(".")[0] in OURS and _file(name).is_file()


def _relative(name: str) -> str:
    return _file(name).relative_to(PROJECT_ROOT).as_posix()


@cache
def _module(name: str) -> _Module | None:
    """A module of ours, taken apart; None for others' and for what only shows."""
    if name in SHOWN or not _exists(name):
        return None
    path = _file(name)
    module = _Module(path)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        _note_imports(module, node)
    for statement in tree.body:
        if not isinstance(statement, (ast.Import, ast.ImportFrom)):
            _without_docstrings(statement)
            for symbol in _defines(statement):
                module.symbols.setdefault(symbol, []).append(statement)
    return module


def _note_imports(module: _Module, node: ast.AST) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] in OURS:
                module.imports.setdefault(alias.asname or alias.name, set()).add((alias.name, "*"))
    elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            target = (whole, "*") if _exists(whole) else (node.module, alias.name)
            module.imports.setdefault(alias.asname or alias.name, set()).add(target)


def _defines(statement: ast.stmt) -> list[str]:
    """Names that a statement at the top of a module makes; "" where it does something else."""
    if isinstance(statement, _DEFINED):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        names = [n.id for t in statement.targets for n in ast.walk(t) if isinstance(n, ast.Name)]
        return names or [""]
    if isinstance(statement, (ast.AnnAssign, ast.AugAssign)):
        return [statement.target.id] if isinstance(statement.target, ast.Name) else [""]
    text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    imports = isinstance(statement, ast.If) and all(
        isinstance(each, (ast.Import, ast.ImportFrom)) for each in statement.body
    )
    return [] if text or imports or isinstance(statement, ast.Pass) else [""]


def _without_docstrings(statement: ast.stmt) -> None:
    for node in ast.walk(statement):
        if not isinstance(node, _DEFINED) or not node.body:
            continue
        first = node.body[0]
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            node.body = node.body[1:] or [ast.Pass()]
