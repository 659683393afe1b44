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
    "abc",
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
    "heapq",
    "importlib",
    "itertools",
}
# Where compiled loops are kept is a folder, and the one thing of the kind that the core decides;
# threads are the machine's; whether torch is loaded is known without loading it.
MAY_ALSO_IMPORT = {
    "calibration_core/common/arrays.py": {"sys"},
    "calibration_core/common/threads.py": {"sys", "threading", "types"},
    # Threads share the record pools that are kept.
    "calibration_core/tree/solve/record_pool.py": {"threading"},
    "calibration_core/flat/html.py": {"html"},
    "calibration_core/flat/labels.py": {"sys"},  # whether pandas is loaded
    "calibration_core/__init__.py": {"pathlib"},
    "calibration_core/common/compile_cache.py": {"os", "pathlib", "stat", "sys", "tempfile"},
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
    more = MAY_ALSO_IMPORT.get(path.relative_to(ROOT).as_posix(), set())
    assert imported(path) <= CORE_MAY_IMPORT | more
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
    lines = len(path.read_text().splitlines())
    assert lines <= 400


# Layers and circles.

# Rooms of the pipeline from the foundation up: a room may import from those above it in this list,
# never from one below, and rooms of one line not from each other.
PIPELINE = (
    ("vocabulary", "errors", "versions", "step_words", "ordered_sums", "processor", "interrupts"),
    ("processes",),
    ("launcher",),
    ("invariants", "settings", "partitions", "locks", "stored", "history_files"),
    ("io_manager", "code_used", "instances"),
    ("manifest",),
    ("specs",),
    ("sources", "sample"),
    ("fetch",),
    ("checks",),
    ("records",),
    ("targets",),
    ("weights",),
    ("reports",),
    ("release",),
    ("steps",),
    ("loaded_state", "area_check"),
    ("validation", "warm"),
    ("assets",),
    ("jobs", "run_events", "run_history"),
    ("automation", "currency"),
    ("definitions",),
    ("runs",),
    ("cli",),
)
# The core knows two ways to calibrate that know nothing of each other.
# ``methods`` is the old address of one name that others import.
CORE_ROOMS = (("errors",), ("common",), ("sampling",), ("flat", "tree"), ("methods",))
# Rooms within rooms.
WITHIN = {
    "pipeline.sources": (
        ("files",),
        ("base",),
        ("named", "tables", "presence"),
        ("readers", "microdata"),
        ("known_totals",),
        ("registry", "settled"),
        ("of_profile",),
        ("acs_pums",),  # the old address of one name
    ),
    "pipeline.fetch": (("content", "network", "record", "wanted"), ("transfer",), ("fetching",)),
    "pipeline.checks": (
        ("results",),
        ("rows",),
        ("areas", "agreements"),
        ("survey",),
        ("run",),
        ("of_profile",),
    ),
    "pipeline.weights": (
        ("areas", "cells", "places"),
        ("problem",),
        ("neighbourhoods",),
        ("candidates",),
        ("settings", "table"),
        ("solve", "budget", "memory"),
    ),
    "pipeline.release": (
        ("contents",),
        ("belonging", "certificate", "figures", "store"),
        ("diff", "recorded"),
        ("gate", "retention"),
        ("make", "show_diff"),
    ),
    "pipeline.currency": (
        ("graph", "raw", "specs"),
        ("making",),
        ("judge", "observed"),
        ("plan", "remembered"),
        ("status",),
    ),
    "pipeline.automation": (
        ("progress", "watched"),
        ("history", "notices"),
        ("production", "summaries"),
        ("asked", "changed_files"),
        ("build",),
    ),
    "pipeline.validation": (
        ("families", "measures"),
        ("runs", "holdout"),
        ("paired",),
        ("compare", "report", "frontier"),
    ),
}
# Who may know Dagster: what it stores, runs, shows and finds.
KNOWS_DAGSTER = {
    *("assets", "automation", "cli", "currency", "definitions", "io_manager", "jobs", "launcher"),
    *("instances", "manifest", "partitions", "release", "run_events", "run_history", "runs"),
    "settings",
}
# Imports that are no dependency when a module is loaded, and close a circle if they are counted.
LATE = {
    ("pipeline.cli", "pipeline.cli.app"): "the entry answers Ctrl-C before it loads the commands",
    ("pipeline.specs.references", "pipeline.specs.catalog"): "the type of an argument",
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in ALL}


def statements_when_loaded(body: list[ast.stmt]):
    """Statements that run when a module is imported: not those of functions, nor for types only."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            yield from () if for_types else statements_when_loaded([*node.body, *node.orelse])
        elif isinstance(node, (ast.Try, ast.With, ast.ClassDef)):
            yield from statements_when_loaded(node.body)


def modules_imported(path: Path, when_loaded: bool) -> set[str]:
    """Modules of this project that one of its modules imports; of ``when_loaded`` only those
    without which it does not load."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), set()
    for node in statements_when_loaded(tree.body) if when_loaded else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are written out in full"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & MODULES.keys() or {node.module}
    return (found & MODULES.keys()) - {module_of(path)}


def graph(when_loaded: bool) -> dict[str, set[str]]:
    return {name: modules_imported(path, when_loaded) for name, path in MODULES.items()}


def circle(imports: dict[str, set[str]]) -> list[str]:
    """A circle of imports, or nothing."""
    done: set[str] = set()

    def from_here(name: str, way: list[str]) -> list[str]:
        if name in way:
            return [*way[way.index(name) :], name]
        if name in done:
            return []
        for further in sorted(imports[name]):
            if found := from_here(further, [*way, name]):
                return found
        done.add(name)
        return []

    return next((found for name in sorted(imports) if (found := from_here(name, []))), [])


def test_a_circle_would_be_seen():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == ["a", "b", "c", "a"]
    assert circle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_needs_itself_to_load():
    assert circle(graph(when_loaded=True)) == []


def test_no_circle_hides_in_functions_or_types():
    imports = graph(when_loaded=False)
    for (name, late), why in LATE.items():
        assert late in imports[name], f"{name} no longer imports {late} ({why}): take it out here"
        imports[name] = imports[name] - {late}
    assert circle(imports) == []


def room_of(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize(
    ("package", "layers"),
    [
        pytest.param("pipeline", PIPELINE, id="pipeline"),
        pytest.param("calibration_core", CORE_ROOMS, id="core"),
    ],
)
def test_every_room_stands_in_one_layer(package, layers):
    rooms = {room_of(name) for name in MODULES if name.startswith(f"{package}.")}
    listed = [room for layer in layers for room in layer]
    assert len(listed) == len(set(listed))
    assert rooms == set(listed)


@pytest.mark.parametrize("name", [m for m in sorted(MODULES) if "." in m])
def test_nothing_reaches_back_up(name):
    package = name.split(".")[0]
    layers = PIPELINE if package == "pipeline" else CORE_ROOMS
    height = {room: level for level, layer in enumerate(layers) for room in layer}
    own = room_of(name)
    for other in modules_imported(MODULES[name], when_loaded=False):
        if other == package or (package == "pipeline" and other.startswith("calibration_core")):
            continue
        assert other.startswith(f"{package}."), f"{name} imports {other}"
        beside = room_of(other)
        assert beside == own or height[beside] < height[own], f"{name} imports {other}"


@pytest.mark.parametrize("package", WITHIN)
def test_nothing_reaches_back_up_within_a_room(package):
    depth = package.count(".") + 1
    layers = WITHIN[package]
    height = {room: level for level, layer in enumerate(layers) for room in layer}
    inside = [name for name in MODULES if name.startswith(f"{package}.")]
    assert {name.split(".")[depth] for name in inside} == set(height)
    for name in inside:
        own = name.split(".")[depth]
        for other in modules_imported(MODULES[name], when_loaded=False) & set(inside):
            beside = other.split(".")[depth]
            assert beside == own or height[beside] < height[own], f"{name} imports {other}"


@pytest.mark.parametrize("name", [m for m in sorted(MODULES) if m.startswith("pipeline.")])
def test_only_what_runs_and_stores_knows_dagster(name):
    assert "dagster" not in imported(MODULES[name]) or room_of(name) in KNOWS_DAGSTER


@pytest.mark.parametrize("path", ALL, ids=lambda p: str(p.relative_to(ROOT)))
def test_readers_of_the_outputs_are_not_needed(path):
    """They are the extra ``read``: what is installed with geocal alone must do."""
    assert not imported(path) & {"pandas", "pyarrow", "duckdb"}
