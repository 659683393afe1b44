"""Pages whose examples are run: README, "You have had this problem", and what they print.

Belongs here: pages outside docs/methods. Does not belong here: how a page is run and compared
(``test_docs_methods.py``), the page on selection (``test_docs_selection.py``).
"""

from pathlib import Path

import pytest

from tests.test_docs_methods import LONGEST_EXAMPLE, run_page, same_output, wrapped

ROOT = Path(__file__).resolve().parents[1]
PROBLEMS = ROOT / "docs" / "you_have_had_this_problem.md"
README = ROOT / "README.md"
LIBRARY = "## The calibration library on its own"


@pytest.fixture(scope="module")
def ran():
    return run_page(PROBLEMS)


def test_examples_print_what_the_page_shows(ran):
    assert len([e for e, _ in ran if e.shown is not None and e.checked]) >= 10
    for example, printed in ran:
        assert example.code.count("\n") <= LONGEST_EXAMPLE, f"line {example.line} is long"
        if example.shown is None:
            assert not printed, f"line {example.line} prints, and the page does not show it"
        elif example.checked:
            assert same_output(printed, example.shown), f"line {example.line}\n{wrapped(printed)}"


def test_the_library_does_what_the_readme_shows(tmp_path):
    """Readers of the output have tests of their own (``tests/pipeline/test_output_readers.py``)."""
    text = README.read_text(encoding="utf-8")
    page = tmp_path / "library.md"
    page.write_text(text[text.index(LIBRARY) :], encoding="utf-8")
    found = [(example, printed) for example, printed in run_page(page) if example.shown]
    assert found
    for example, printed in found:
        assert same_output(printed, example.shown), wrapped(printed)


def test_the_readme_can_be_read_at_one_sitting():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 270


def test_every_problem_is_in_the_list_at_the_top_and_has_a_figure():
    text = PROBLEMS.read_text(encoding="utf-8")
    top, *parts = text.split("\n## ")
    assert len(parts) >= 12
    for part in parts:
        title = part.split("\n")[0]
        assert f"{title.split('. ', 1)[1]}](" in top, title
        assert any(character.isdigit() for character in part.split("\n", 1)[1]), title
        assert "```python" in part or "`geocal " in part or "python -m benchmarks" in part, title
