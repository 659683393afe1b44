"""The page on selection: its example is true, and what it shows and links to is there.

Belongs here: docs/selection.md. Does not belong here: pages on methods (``test_docs_methods.py``,
whose comparison is used).
"""

import re
from pathlib import Path

from tests.test_docs_methods import run_page, same_output, wrapped

PAGE = Path(__file__).resolve().parents[1] / "docs" / "selection.md"


def test_the_example_prints_what_the_page_shows():
    printed = [(example, output) for example, output in run_page(PAGE) if example.shown is not None]
    assert printed, "the page shows an example"
    for example, output in printed:
        assert same_output(output, example.shown), f"line {example.line} prints\n{wrapped(output)}"


def test_links_pictures_and_modules_are_there():
    text = PAGE.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s#]+)", text):
        assert (PAGE.parent / target).exists(), target
    core = PAGE.parents[1] / "calibration_core"
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", text)
    assert named and all((core / name).exists() for name in named), named
