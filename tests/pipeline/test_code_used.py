"""The code behind a table: what counts, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import code_used as module
from pipeline.errors import InvariantError

STEPS = '''"""A module."""
from pipeline import weigh
from pipeline.shown import draw
from pipeline.types import State

LIMIT = 3


def solve(state: State) -> int:
    """Solve."""
    draw(state)
    return weigh.weight(LIMIT)


def unused() -> int:
    return 1
'''
WEIGH = """from pipeline.sums import total as add
from pipeline import extra


def weight(limit: int) -> int:
    return add([limit])


def other() -> int:
    return 2


def every() -> object:
    return load(extra)
"""
FILES = {
    "pipeline/__init__.py": "",
    "pipeline/steps.py": STEPS,
    "pipeline/weigh.py": WEIGH,
    "pipeline/sums.py": "def total(xs):\n    return sum(xs)\n",
    "pipeline/types.py": "class State:\n    size = 1\n\n    def half(self):\n        return 2\n",
    "pipeline/shown.py": "def draw(x):\n    return 1\n",
    "pipeline/extra.py": "def hidden():\n    return 1\n",
    "pipeline/readers/__init__.py": "",
    "pipeline/readers/csv.py": "def read():\n    return 1\n",
    "pipeline/registry.py": 'IN = ("pipeline.readers",)\n\n\ndef find():\n    return IN\n',
    "pipeline/rules.py": 'PLACE = "rules.yaml"\n\n\ndef rules():\n    return PLACE\n',
}


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(module, "PROJECT_ROOT", tmp_path)
    monkeypatch.setattr(module, "SHOWN", ("pipeline.shown",))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for each in (module._code_used, module._names_used, module._module):
        each.cache_clear()


def digests(*roots: tuple[str, str]) -> dict[str, str]:
    forget()
    return module.code_used(roots).parts


def edited(project: Path, name: str, old: str, new: str) -> None:
    path = project / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


SOLVE = ("pipeline.steps", "solve")


def test_the_files_used_are_found_through_names(project):
    assert set(digests(SOLVE)) == {
        "pipeline/steps.py",
        "pipeline/sums.py",
        "pipeline/types.py",
        "pipeline/weigh.py",
    }


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("pipeline/steps.py", '"""Solve."""', '"""Solve it well."""', id="docstring"),
        pytest.param("pipeline/steps.py", "LIMIT = 3", "LIMIT = 3  # see there", id="comment"),
        pytest.param("pipeline/steps.py", "return 1", "return 5", id="a function not used"),
        pytest.param("pipeline/weigh.py", "return 2", "return 5", id="one beside those used"),
        pytest.param("pipeline/shown.py", "return 1", "return 5", id="what only shows"),
    ],
)
def test_what_does_not_count(project, name, old, new):
    before = digests(SOLVE)
    edited(project, name, old, new)
    assert digests(SOLVE) == before


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        pytest.param("pipeline/steps.py", "LIMIT = 3", "LIMIT = 4", id="a constant"),
        pytest.param("pipeline/sums.py", "sum(xs)", "max(xs)", id="through two modules"),
        pytest.param("pipeline/types.py", "return 2", "return 3", id="a method of a type"),
        pytest.param("pipeline/weigh.py", "add([limit])", "add([1])", id="the function itself"),
        pytest.param("pipeline/sums.py", "def total", "print(1)\n\n\ndef total", id="a statement"),
    ],
)
def test_what_counts_is_seen_and_named(project, name, old, new):
    before = digests(SOLVE)
    edited(project, name, old, new)
    after = digests(SOLVE)
    assert {place for place in before if before[place] != after[place]} == {name}


def test_a_module_handed_on_or_named_in_text_counts_whole(project):
    every, find = ("pipeline.weigh", "every"), ("pipeline.registry", "find")
    before = digests(every, find)
    edited(project, "pipeline/extra.py", "return 1", "return 2")
    edited(project, "pipeline/readers/csv.py", "return 1", "return 2")
    after = digests(every, find)
    changed = {place for place in before if before[place] != after[place]}
    assert changed == {"pipeline/extra.py", "pipeline/readers/csv.py"}


def test_files_that_the_code_names(project):
    forget()
    assert module.code_used([("pipeline.rules", "rules")]).files == ("rules.yaml",)


def test_a_function_that_is_not_there_is_named(project):
    with pytest.raises(InvariantError, match="There is no 'gone'"):
        digests(("pipeline.steps", "gone"))


def test_the_assets_code_is_found_as_far_as_the_solver_and_the_readers():
    dense = module.code_used([("pipeline.assets.weights", "_dense")]).parts
    assert "calibration_core/tree/solve/newton.py" in dense
    assert not any(place.startswith("pipeline/sources/readers") for place in dense)
    source = module.code_used([("pipeline.assets.sources", "_published")])
    assert any(place.startswith("pipeline/sources/readers") for place in source.parts)
    assert "known_totals.yaml" in source.files
