"""The pages on methods: complete, their links whole, their examples true.

Each page is run from top to bottom: ``python`` blocks in one namespace, in order. A ``text`` block
directly after a ``python`` block is what that block prints. It is compared word by word, with
seconds left out; numbers that are not integers may differ in their last digit. ``text unchecked``
is shown and not compared (what depends on the machine).

    python -m tests.test_docs_methods --write [PAGE ...]      writes what the examples print into
    the pages

Belongs here: these checks, and the writing of outputs. Does not belong here: figures
(``benchmarks/method_figures.py``).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import sys
import textwrap
from pathlib import Path

import pytest

from calibration_core.flat.api import METHODS, settings_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "methods").glob("*.md"))
LARGEST_PNG = 80_000
LONGEST_EXAMPLE = 15
WIDTH = 100

_BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.M | re.S)
_STEPS = re.compile(r"\bin\s+[\d,]+\s+steps\b")
_SECONDS = re.compile(r"\b[\d.]+(?:e-?\d+)? s\b")
_NUMBER = re.compile(r"[-+]?[\d,]*\.?\d+(?:e[-+]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Example:
    """One python block of a page, and the span and text of the output shown below it, if one is."""

    code: str
    line: int
    shown: str | None
    checked: bool
    span: tuple[int, int]


def examples(text: str) -> list[Example]:
    """The python blocks of a page with their outputs."""
    blocks = list(_BLOCK.finditer(text))
    out = []
    for block, after in zip(blocks, [*blocks[1:], None], strict=True):
        if block[1] != "python":
            continue
        paired = (
            after is not None
            and after[1] == "text"
            and not text[block.end() : after.start()].strip()
        )
        shown, checked, span = (
            (after[3], "unchecked" not in after[2], after.span(3))
            if paired
            else (None, True, (0, 0))
        )
        out.append(Example(block[3], text[: block.start()].count("\n") + 2, shown, checked, span))
    return out


def run_page(path: Path) -> list[tuple[Example, str]]:
    """Run the examples of a page; each with what it printed."""
    namespace: dict = {"__name__": "page"}
    out = []
    for example in examples(path.read_text(encoding="utf-8")):
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile("\n" * (example.line - 1) + example.code, str(path), "exec"), namespace)
        out.append((example, printed.getvalue()))
    return out


def same_output(printed: str, shown: str) -> bool:
    """Word by word; seconds and counts of solver steps, which a last bit can change, are left out,
    other integers are equal, other numbers agree to a unit of the digits shown and rounding noise.
    """
    left, right = (
        _STEPS.sub("STEPS", _SECONDS.sub("SECONDS", part)).split() for part in (printed, shown)
    )
    return len(left) == len(right) and all(
        _same_word(a, b) for a, b in zip(left, right, strict=True)
    )


def _same_word(a: str, b: str) -> bool:
    if a == b:
        return True
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    pairs = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
    return all(_same_number(x.replace(",", ""), y.replace(",", "")) for x, y in pairs)


def _same_number(a: str, b: str) -> bool:
    if a == b:
        return True
    if "." not in a + b and "e" not in a + b:
        return False
    x, y = float(a), float(b)
    mantissa, _, exponent = b.partition("e")
    unit = 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
    # Below 1e-9 a number is what rounding left over, and differs from machine to machine.
    return abs(x - y) <= 1.5 * unit or max(abs(x), abs(y)) < 1e-9


def wrapped(printed: str) -> str:
    """Long lines folded, with a hanging indent, so that messages can be read."""
    lines = []
    for line in printed.rstrip("\n").split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        lines += textwrap.wrap(
            line,
            WIDTH,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
            drop_whitespace=True,
        ) or [""]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def write_outputs(path: Path) -> int:
    """Replace the outputs shown on a page by what its examples print; the number of outputs that
    changed.
    """
    text, changed = path.read_text(encoding="utf-8"), 0
    for example, printed in reversed(run_page(path)):
        if example.shown is not None and not same_output(printed, example.shown):
            text = text[: example.span[0]] + wrapped(printed) + text[example.span[1] :]
            changed += 1
    path.write_text(text, encoding="utf-8")
    return changed


def page_of(name: str) -> Path:
    return ROOT / "docs" / "methods" / f"{name}.md"


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_a_page_that_names_all_its_settings(method):
    text = page_of(method).read_text(encoding="utf-8")
    missing = [f.name for f in dataclasses.fields(settings_of(method)) if f"`{f.name}`" not in text]
    assert not missing
    assert f"({method}.md)" in page_of("README").read_text(encoding="utf-8"), (
        "the index links to the page"
    )
    for heading in (
        "## Formula",
        "## Reference",
        "## When to use it",
        "## When it fails",
        "## Example",
        "## Settings",
    ):
        assert heading in text


def test_every_warning_code_is_explained():
    source = "".join(
        path.read_text(encoding="utf-8") for path in (ROOT / "calibration_core").glob("**/*.py")
    )
    codes = set(re.findall(r'(?:CalibrationWarning|_named)\(\s*(?:\w+, )?"([a-z_]+)"', source))
    # Those of a loop over (areas, code, words).
    codes |= set(re.findall(r'\(self\.\w+, "([a-z_]+)", "', source))
    text = page_of("result").read_text(encoding="utf-8")
    listed = set(
        re.findall(r"`([a-z_]+)`", text[text.index("## Warning codes") :].split("## Reference")[0])
    )
    assert codes == listed - {"size"}


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_examples_print_what_the_page_shows(path):
    for example, printed in run_page(path):
        assert example.code.count("\n") <= LONGEST_EXAMPLE, (
            f"{path.name}:{example.line} is longer than {LONGEST_EXAMPLE} lines"
        )
        if example.shown is None:
            assert not printed, f"{path.name}:{example.line} prints, and the page does not show it"
        elif example.checked:
            assert same_output(printed, example.shown), (
                f"{path.name}:{example.line} prints\n{wrapped(printed)}"
            )


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere(path):
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s#]+)", text):
        if not target.startswith("http"):
            assert (path.parent / target).resolve().exists(), f"{path.name} links to {target}"
    pictures = re.findall(r"!\[([^\]]+)\]\(([^)]+\.png)\)", text)
    assert path.stem == "README" or pictures, (
        "a page shows a figure, with a text for those who cannot see it"
    )
    for _, name in pictures:
        content = (path.parent / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) < LARGEST_PNG


def test_figures_are_all_shown_and_all_drawn():
    from benchmarks.method_figures import FIGURES

    shown = {
        Path(name).stem
        for path in PAGES
        for name in re.findall(r"\(([^)]+\.png)\)", path.read_text(encoding="utf-8"))
    }
    assert (
        shown
        == set(FIGURES)
        == {path.stem for path in (ROOT / "docs" / "images" / "methods").glob("*.png")}
    )


def test_a_figure_is_drawn_the_same_twice():
    from benchmarks.method_figures import FIGURES, render

    assert render(FIGURES["distances"]()) == render(FIGURES["distances"]())


def test_the_comparison_of_outputs_can_fail():
    assert same_output(
        "met 10 of 10 in 0.31 s, error 3.1e-16", "met 10 of\n 10 in 2 s, error 8e-16"
    )
    assert same_output("0.1234", "0.1235")
    assert not same_output("met 9 of 10", "met 10 of 10")
    assert not same_output("0.1234", "0.1244")
    assert not same_output("two words", "two")


def main(arguments: list[str]) -> None:
    wanted = set(arguments)
    for path in PAGES:
        if not wanted or path.stem in wanted:
            print(f"{path.name}: {write_outputs(path)} outputs changed")


if __name__ == "__main__":
    if "--write" not in sys.argv:
        sys.exit("python -m tests.test_docs_methods --write [PAGE ...]")
    main([a for a in sys.argv[1:] if a != "--write"])
