"""The API reference is what the docstrings say, whole, and the same wherever it is made.

Belongs here: docs/api. Does not belong here: other pages (``test_docs_*.py``).
"""

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_SPEC = importlib.util.spec_from_file_location("make_api", ROOT / "docs" / "make_api.py")
make_api = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(make_api)


def test_the_pages_are_current():
    assert make_api.stale() == [], "run: make docs"


def test_a_page_edited_missing_or_too_many_is_found(tmp_path):
    folder = tmp_path / "api"
    shutil.copytree(make_api.FOLDER, folder)
    page = folder / "errors.md"
    page.write_text(page.read_text(encoding="utf-8") + "more\n", encoding="utf-8")
    (folder / "calibration.md").unlink()
    (folder / "other.md").write_text("", encoding="utf-8")
    assert make_api.stale(folder) == ["calibration.md", "errors.md", "other.md"]


@pytest.mark.parametrize("page, package", [row[:2] for row in make_api.PACKAGES])
def test_every_public_name_has_its_words(page, package):
    text = (make_api.FOLDER / f"{page}.md").read_text(encoding="utf-8")
    module = importlib.import_module(package)
    for name in make_api.public(module):
        head, _, rest = text.partition(f"\n## {name}\n")
        assert head and rest, f"{name} is on the page"
        words = rest.partition("\n## ")[0].split("```")[-1]
        assert len(words.split()) >= 5, f"{name} is explained"


def test_every_command_and_option_is_there():
    from typer.main import get_command

    text = (make_api.FOLDER / f"{make_api.COMMANDS}.md").read_text(encoding="utf-8")
    root = get_command(make_api.application())
    assert len(root.commands) > 5
    for name, command in root.commands.items():
        part = text.partition(f"\n## geocal {name}\n")[2].partition("\n## ")[0]
        shown = [o for p in command.params for o in p.opts if o.startswith("--")]
        missing = [o for o in shown if o not in part and not _hidden(command, o)]
        assert not missing, f"geocal {name}: {missing}"


def _hidden(command, option: str) -> bool:
    return any(option in p.opts and getattr(p, "hidden", False) for p in command.params)


def test_another_machine_writes_the_same_bytes():
    """Hash seed, locale, time zone, terminal width, environment of geocal: nothing of it shows."""
    other = {
        **os.environ,
        "PYTHONHASHSEED": "7",
        "LC_ALL": "C",
        "TZ": "Asia/Tokyo",
        "COLUMNS": "40",
        "GEOCAL_PROFILE": "rhode_island",
        "GEOCAL_OUTPUT": "/nowhere",
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, str(ROOT / "docs" / "make_api.py"), "--check"]
    run = subprocess.run(command, env=other, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    "text, lines",
    [
        ("One ``word``.", ["One `word`.", ""]),
        ("Head.\n\n    a = b\n    c", ["Head.", "", "```text", "a = b", "c", "```", ""]),
        ("* one\n  two\n* three", ["* one two", "* three", ""]),
        (
            "Head.\n\nParameters\n----------\na, b : one\n    two\n",
            ["Head.", "", "**Parameters**", "", "* `a`, `b`: one two", ""],
        ),
        (
            "Head.\n\nParameters\n----------\na : one of\n\n    * two\n      lines\n    * three\n",
            ["Head.", "", "**Parameters**", "", "* `a`: one of", "  * two lines", "  * three", ""],
        ),
    ],
)
def test_docstrings_become_markdown(text, lines):
    assert make_api.docstring(text) == lines
