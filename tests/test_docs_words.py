"""Every page of prose: width, length of sentences, links, commands that exist; width of YAML.

Belongs here: what holds for all Markdown files and specs. Does not belong here: examples and what
they print (``test_docs_methods.py``, ``test_docs_pages.py``), words of docstrings.
"""

import re
from pathlib import Path

import pytest
from typer.main import get_command

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("**/*.md")], key=lambda p: p.relative_to(ROOT)
)
WIDTH = 100
LONGEST_SENTENCE = 40
# One per the other: "60 pairs a tract" is "60 pairs per tract" here.
_COUNTED = (
    "bytes|cells?|columns?|draws|figures?|files?|hours|lines?|pairs?|records?|rows?|runs?|seconds"
    "|s|ms|targets?|units?|weights?"
)
_EACH = (
    "area|cell|class|column|county|draw|file|household|leaf|level|line|margin|method|minute|month"
    "|pair|person|record|row|run|second|state|step|target|tract|unit|variable|week|year"
)
_DISTRIBUTIVE = re.compile(rf"\b(?:{_COUNTED}) an? (?:{_EACH})\b")

_FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.M | re.S)
_INDENTED = re.compile(r"(?:(?<=\n\n)|\A)(?: {4}[^\n]*\n+)+")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def is_unbreakable(line: str) -> bool:
    """A row of a table, a picture, or a line without a blank to break at."""
    bare = line.strip()
    return bare.startswith(("|", "![")) or " " not in bare.removeprefix("* ").removeprefix("#")


def long_lines(text: str) -> list[str]:
    """Lines over the width that could be broken; code blocks count too."""
    return [line for line in text.split("\n") if len(line) > WIDTH and not is_unbreakable(line)]


def prose_of(text: str) -> str:
    """The page without blocks of code."""
    return _INDENTED.sub("\n", _FENCE.sub("\n", text))


def sentences(text: str) -> list[str]:
    """Sentences of the prose; a cell of a table and an item of a list begin one."""
    out = []
    for part in re.split(r"\n\s*\n|\n\s*(?:[*-]|\d+\.)\s|\n(?=\|)|\n(?=#)", prose_of(text)):
        cells = re.split(r"(?<!\\)\|", part) if part.startswith("|") else [part]
        for cell in cells:
            out += re.split(r"(?<=[.!?])\s+(?=[A-Z`*(\[])", " ".join(cell.split()))
    return out


def words(sentence: str) -> int:
    return sum(bool(re.search(r"[A-Za-z]{2}", word)) for word in sentence.split())


def commands(text: str) -> list[str]:
    """Lines of code, and inline code, that call ``geocal`` or a benchmark; continued
    lines joined.
    """
    joined = re.sub(r"\\\n\s*", " ", text)
    inline = re.findall(r"`((?:geocal|python -m benchmarks\.)[^`]*)`", joined)
    lines = re.findall(r"^(?: {4}|\$ )((?:geocal|python -m benchmarks\.)[^\n]*)", joined, re.M)
    return [" ".join(line.split("#")[0].split()) for line in [*inline, *lines]]


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_no_line_is_longer_than_the_width(path):
    assert long_lines(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "path", sorted((ROOT / "data_specs").glob("**/*.yaml")), ids=lambda p: p.name
)
def test_no_line_of_a_spec_is_longer_than_the_width(path):
    """An address cannot be broken."""
    text = path.read_text(encoding="utf-8")
    assert [line for line in text.split("\n") if len(line) > WIDTH and "://" not in line] == []


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_sentences_can_be_read_in_one_breath(path):
    text = path.read_text(encoding="utf-8")
    assert [s for s in sentences(text) if words(s) > LONGEST_SENTENCE] == []


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_a_rate_says_per(path):
    assert _DISTRIBUTIVE.findall(prose_of(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_links_lead_somewhere(path):
    text = prose_of(path.read_text(encoding="utf-8"))
    for target, anchor in re.findall(r"\]\(([^)\s#]*)#?([^)\s]*)\)", text):
        if target.startswith(("http", "mailto")):
            continue
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), f"{page_id(path)} links to {target}"
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there.read_text(encoding="utf-8")), f"{target}#{anchor}"


def anchors(text: str) -> set[str]:
    """Anchors of the headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", _FENCE.sub("\n", text), re.M)
    return {
        re.sub(r"[^\w\- ]", "", head.replace("`", "").lower()).replace(" ", "-") for head in heads
    }


@pytest.mark.parametrize("path", PAGES, ids=page_id)
def test_commands_exist_with_their_options(path):
    if path.name == "CHANGELOG.md":
        pytest.skip("commands of earlier versions")
    from pipeline.cli.app import app

    known = get_command(app).commands
    for line in commands(path.read_text(encoding="utf-8")):
        program, *rest = line.split()
        if program == "python":
            module = ROOT / (rest[1].replace(".", "/") + ".py")
            assert module.exists(), line
            offered = module.read_text(encoding="utf-8")
            missing = [o for o in rest if o.startswith("--") and o.split("=")[0] not in offered]
            assert not missing, f"{line}: no {missing}"
        elif rest and rest[0].isalpha():
            assert rest[0] in known, line
            offered = {o for p in known[rest[0]].params for o in (*p.opts, *p.secondary_opts)}
            missing = [
                o
                for o in rest[1:]
                if o.startswith("-") and o.split("=")[0] not in {*offered, "--help"}
            ]
            assert not missing, f"{line}: no {missing}"


def test_these_checks_can_fail():
    wide = "word " * 30
    assert long_lines(f"fine\n{wide}\n| {wide} |\n![{wide}](a.png)\n```\n{wide}\n```") == [wide] * 2
    text = "One two. " + "word " * 41 + ".\n\n```\n" + "word " * 50 + "\n```\n"
    found = [s for s in sentences(text) if words(s) > LONGEST_SENTENCE]
    assert [s.split().count("word") for s in found] == [41]
    assert _DISTRIBUTIVE.findall("60 pairs a tract, one file a state")
    assert not _DISTRIBUTIVE.findall("60 pairs per tract; a file of a state")
    assert commands("x `geocal show RI --json` y\n\n    geocal run  # text\n") == [
        "geocal show RI --json",
        "geocal run",
    ]
    assert anchors("## 10. A conflict of 5 %, an `error` of 30 %\n") == {
        "10-a-conflict-of-5--an-error-of-30-"
    }
