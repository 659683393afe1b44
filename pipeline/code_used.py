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
import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

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
    "pipeline.code_used",
    "pipeline.errors",
    "pipeline.io_manager",
    "pipeline.settings",
    "pipeline.step_words",
    "pipeline.stored",
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


@dataclass(frozen=True)
class _Own:
    """A symbol's own code: its digest, what it names (``refs``, see ``_refs``), YAML ``files``."""

    digest: str
    refs: tuple[tuple[str, ...], ...]
    files: tuple[str, ...]


@dataclass(frozen=True)
class _Module:
    """``imports``: by the name here, modules (``*``) and names of modules of ours."""

    symbols: Mapping[str, _Own]
    imports: Mapping[str, tuple[Symbol, ...]]


@dataclass
class _Memory:
    """Modules taken apart before, by the digest of their text."""

    known: dict[str, Any] = field(default_factory=dict)
    fresh: bool = False


_memory = _Memory()


def read_memory(path: Path) -> None:
    """Know again what an earlier process took apart; a file that is torn or not there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(found, dict) and found.get("by") == _by():
        _memory.known.update(found.get("modules", {}))


def write_memory(path: Path) -> None:
    """Keep what was taken apart for later processes, where anything is new and ``path`` may be
    written."""
    if _memory.fresh and path.parent.parent.is_dir():
        with contextlib.suppress(OSError):
            path.parent.mkdir(exist_ok=True)
            text = json.dumps({"by": _by(), "modules": _memory.known})
            path.write_text(text, encoding="utf-8")
            _memory.fresh = False


@cache
def _by() -> str:
    """Another Python, or another version of this module, may take the same text apart in another
    way."""
    own = Path(__file__).read_bytes() + sys.version.encode()
    return hashlib.sha256(own).hexdigest()


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
        return _Used("", frozenset((at, each) for each in module.symbols), frozenset())
    own = module.symbols.get(name)
    if own is None:
        return _Used("", frozenset(), frozenset())
    found = {each for ref in own.refs for each in _meant(module, at, ref)}
    return _Used(own.digest, frozenset(found - {symbol}), frozenset(own.files))


def _meant(module: _Module, at: str, ref: tuple[str, ...]) -> set[Symbol]:
    """The symbols of ours that a reference means."""
    kind, name = ref[0], ref[1]
    if kind == "text":
        return {(each, "*") for each in _below(name)} if _exists(name) else set()
    if kind == "local":
        return {(at, name)}
    targets = module.imports.get(name, ())
    if kind == "member":
        return {s for where, what in targets if what == "*" for s in _member(where, ref[2])}
    whole = {(each, "*") for where, what in targets if what == "*" for each in _below(where)}
    names = {s for where, what in targets if what != "*" for s in _member(where, what)}
    return names | (whole if kind == "whole" else set())


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
    text = _file(name).read_bytes()
    key = hashlib.sha256(text).hexdigest()
    known = _memory.known.get(key)
    if known is None:
        module = _taken_apart(text.decode("utf-8"))
        _memory.fresh = True
        _memory.known[key] = [
            {n: [own.digest, own.refs, own.files] for n, own in module.symbols.items()},
            dict(module.imports),
        ]
        return module
    symbols, imports = known
    return _Module(
        {
            n: _Own(digest, tuple(map(tuple, refs)), tuple(files))
            for n, (digest, refs, files) in symbols.items()
        },
        {n: tuple((where, what) for where, what in each) for n, each in imports.items()},
    )


def _taken_apart(text: str) -> _Module:
    tree = ast.parse(text)
    imports: dict[str, set[Symbol]] = {}
    for node in _statements(tree.body):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            _note_imports(imports, node)
        elif isinstance(node, _DEFINED):
            _without_docstring(node)
    bodies: dict[str, list[ast.stmt]] = {}
    for statement in tree.body:
        if not isinstance(statement, (ast.Import, ast.ImportFrom)):
            for symbol in _defines(statement):
                bodies.setdefault(symbol, []).append(statement)
    here = {name: tuple(sorted(each)) for name, each in sorted(imports.items())}
    symbols = {name: _own(name, body, bodies, here) for name, body in bodies.items()}
    return _Module(symbols, here)


def _own(name: str, body: list[ast.stmt], symbols: Container[str], imports: Container[str]) -> _Own:
    nodes: list[ast.AST] = []
    dumped = "".join(_dumped(statement, nodes) for statement in body)
    # `steps` in `steps.fit_of` is no use of the whole module.
    asked = {id(node.value) for node in nodes if isinstance(node, ast.Attribute)}
    refs: set[tuple[str, ...]] = set()
    files: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            files |= {node.value} if re.fullmatch(r"[\w/]+\.yaml", node.value) else set()
            refs |= _in_text(node.value, symbols, imports)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            refs |= {("member", node.value.id, node.attr)} if node.value.id in imports else set()
        elif isinstance(node, ast.Name):
            refs |= _name(node.id, symbols, imports, "name" if id(node) in asked else "whole")
    digest = hashlib.sha256(f"{name}\n{dumped}".encode()).hexdigest()
    return _Own(digest, tuple(sorted(refs)), tuple(sorted(files)))


def _statements(body: Sequence[Any]) -> Iterator[Any]:
    """Statements, and what holds statements, at any depth; imports and definitions are such."""
    for node in body:
        yield node
        for name in ("body", "orelse", "finalbody", "handlers", "cases"):
            yield from _statements(getattr(node, name, ()))


def _dumped(value: Any, nodes: list[ast.AST]) -> str:
    """All of a syntax tree but where it stands, in one walk that also notes the ``nodes``."""
    if isinstance(value, ast.AST):
        kind = type(value)
        nodes.append(value)
        held = [f"{name}={_dumped(getattr(value, name, None), nodes)}" for name in kind._fields]
        return f"{kind.__name__}({', '.join(held)})"
    if isinstance(value, list):
        return f"[{', '.join([_dumped(each, nodes) for each in value])}]"
    return repr(value)


def _name(
    name: str, symbols: Container[str], imports: Container[str], kind: str
) -> set[tuple[str, ...]]:
    if name in symbols:
        return {("local", name)}
    return {(kind, name)} if name in imports else set()


def _in_text(text: str, symbols: Container[str], imports: Container[str]) -> set[tuple[str, ...]]:
    """A type in quotes; or modules that are loaded by their names."""
    if text.isidentifier():
        return _name(text, symbols, imports, "name")
    named = text.rstrip(".")
    ours = re.fullmatch(r"\w+(\.\w+)+", named) and named.split(".")[0] in OURS
    return {("text", named)} if ours else set()


def _note_imports(imports: dict[str, set[Symbol]], node: ast.AST) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name.split(".")[0] in OURS:
                imports.setdefault(alias.asname or alias.name, set()).add((alias.name, "*"))
    elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] in OURS:
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            target = (whole, "*") if _exists(whole) else (node.module, alias.name)
            imports.setdefault(alias.asname or alias.name, set()).add(target)


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


def _without_docstring(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) -> None:
    first = node.body[0]
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        node.body = node.body[1:] or [ast.Pass()]
