"""The pages docs/sources.md and docs/codebook.md, written from data_specs; the same bytes anywhere.

    python docs/make_dictionary.py            write both
    python docs/make_dictionary.py --check    exit 1 and name the pages that are not current

Belongs here: Markdown. Does not belong here: what a source or a column is
(``pipeline/specs/dictionary.py``, ``pipeline/specs/codebook.py``).
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.specs.catalog import load_catalog
from pipeline.specs.codebook import Codebook, OutputColumn, OutputTable, load_codebook
from pipeline.specs.dictionary import SourceEntry, Use, source_entries

FOLDER = Path(__file__).resolve().parent
WIDTH = 100
NOTE = "Written by `make docs` from `data_specs`; do not edit."
# Domains in one cell of a table; a longer cell cannot be read.
PER_CELL = 12
SOURCES_HEAD = """\
# Sources

{note} `geocal sources` lists the same
on a terminal, and `geocal sources NAME` shows one of them.

Each publication that geocal can read, with its files, vintages, columns, units, and what each is
used for. Addresses are those that `geocal fetch` asks for ([fetching](fetching.md)); which reader
was tried on which file stands in [readers](readers.md). Units are those after reading: thousands
are multiplied out. A column in slashes is a regular expression that names several.

*How* says what a figure may claim of records: fitted, restated by a factor, or only observed
([honest targets](honest_targets.md)). Each run measures the gap to the records and the concept
error that follows, in its table `concept_gaps` ([codebook](codebook.md)).
"""
CODEBOOK_HEAD = """\
# Codebook

{note}

What stands in every table below `output/<profile>/`: [tables](#tables) with their columns, and
[labels of codes](#codes). Tables kept by state have the column `state` as the name of their folder.
A column may be empty (null) only where the last column of its table says so.
"""


def wrapped(text: str, first: str = "", rest: str = "") -> list[str]:
    """``text`` folded to the width of the pages."""
    return textwrap.wrap(
        " ".join(text.split()),
        WIDTH,
        initial_indent=first,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def item(text: str) -> list[str]:
    """An item of a list."""
    return wrapped(text, "* ", "  ")


def code(text: str) -> str:
    """``text`` as code in a cell of a table."""
    return f"`{text}`".replace("|", "\\|")


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    """A table, or nothing where there are no rows."""
    lines = ["| " + " | ".join(" ".join(cell.split()) for cell in row) + " |" for row in rows]
    heads = list(heads)
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|", *lines, ""] if lines else []


def sources_page(entries: dict[str, SourceEntry]) -> str:
    """docs/sources.md."""
    lines = [SOURCES_HEAD.format(note=NOTE), "## Overview", ""]
    lines += table(
        ("source", "what", "levels", "vintages", "used for"),
        (
            (
                f"[`{name}`](#{name})",
                entry.spec.title,
                ", ".join(entry.spec.levels),
                ", ".join(sorted(entry.spec.vintages)),
                entry.used_for,
            )
            for name, entry in entries.items()
        ),
    )
    for name, entry in entries.items():
        lines += [f"## {name}", "", *_facts(entry), *_files(entry), *_vintages(entry)]
        lines += [*_columns(entry), *_uses(entry), *_marks(entry)]
    return "\n".join(lines).rstrip() + "\n"


def _facts(entry: SourceEntry) -> list[str]:
    spec = entry.spec
    period = spec.layout.period_years
    scope = "one set of files per state" if spec.coverage == "state" else "one file of the nation"
    facts = [
        f"{spec.title}.",
        f"Publisher: {spec.publisher}.",
        f"Licence: {spec.licence}",
        f"Documentation: <{spec.documentation}>",
        f"{scope[0].upper()}{scope[1:]}, read by `{spec.reader}`"
        + (f"; of {period} years, of which the vintage is the last." if period > 1 else "."),
    ]
    if entry.profiles:
        read = (f"{name} ({', '.join(years)})" for name, years in entry.profiles.items())
        facts.append(f"Profiles that read it: {', '.join(read)}.")
    if entry.factors:
        facts.append(f"Carries figures of other years: {', '.join(map(code, entry.factors))}.")
    facts += spec.caveats
    return [line for fact in facts for line in item(fact)] + [""]


def _files(entry: SourceEntry) -> list[str]:
    return table(
        ("role", "path below the data folder", "address", ""),
        (
            (
                file.role,
                "<br>".join(map(code, file.paths)),
                code(file.address) + (f" for {', '.join(file.tables)}" if file.tables else ""),
                ("optional; " if file.optional else "")
                + (f"by hand: {file.by_hand}" if file.by_hand else "fetched"),
            )
            for file in entry.files
        ),
    )


def _vintages(entry: SourceEntry) -> list[str]:
    return table(
        ("vintage", "of", "notes"),
        (
            (
                year,
                special.title or year,
                " ".join(special.notes)
                + ("" if special.publishers_form else " Not in the publisher's form."),
            )
            for year, special in sorted(entry.spec.vintages.items())
        ),
    )


def _columns(entry: SourceEntry) -> list[str]:
    return table(
        ("column", "unit", "what it is", "variables"),
        (
            (
                code(column.name)
                + (f" ({column.role})" if column.role not in ("", "table") else ""),
                column.unit
                + (f", printed in {column.published_in}" if column.published_in else ""),
                column.description + ("" if column.required else " (optional)"),
                str(column.variables or ""),
            )
            for column in entry.columns
        ),
    )


def _uses(entry: SourceEntry) -> list[str]:
    """Variables by measure, target file and treatment; domains with the columns they come from."""
    groups: dict[tuple[str, ...], list[Use]] = {}
    for use in entry.uses:
        where = f"{use.target}, {', '.join(use.levels)}"
        groups.setdefault((use.variable, where, use.unit, use.treatment), []).append(use)
    rows = []
    for (variable, where, unit, how), uses in groups.items():
        for at in range(0, len(uses), PER_CELL):
            part = uses[at : at + PER_CELL]
            made = "<br>".join(f"{code(use.domain)}: {code(use.columns)}" for use in part)
            rows.append((code(variable), made, where, unit, how))
    lines = table(("variable", "domain: columns", "target file, levels", "unit", "how"), rows)
    notes: dict[str, list[str]] = {}
    for use in entry.uses:
        for text in dict.fromkeys((use.why, use.note)):
            if text:
                notes.setdefault(text, []).append(f"{use.variable}/{use.domain}")
    for text, names in notes.items():
        shown = [code(name) for name in dict.fromkeys(names)]
        more = f" and {len(shown) - 4} more" if len(shown) > 4 else ""
        lines += item(f"{', '.join(shown[:4])}{more}: {text}")
    return [*lines, ""] if notes else lines


def _marks(entry: SourceEntry) -> list[str]:
    return table(
        ("mark", "in", "means"),
        (
            (
                code(mark.code) if mark.code else "blank",
                mark.applies_to,
                f"{mark.status}: {mark.meaning}",
            )
            for mark in entry.spec.suppression
        ),
    )


def codebook_page(book: Codebook) -> str:
    """docs/codebook.md."""
    lines = [CODEBOOK_HEAD.format(note=NOTE), "## Tables", ""]
    for each in book.tables:
        lines += [f"### {', '.join(each.names)}", "", *wrapped(f"{each.title}."), ""]
        lines += [*wrapped(f"Key: {', '.join(map(code, each.key))}. {each.notes}"), ""]
        if each.includes:
            lines += [*wrapped(f"All columns of `{each.includes}`, and:"), ""]
        lines += table(
            ("column", "type", "unit or codes", "what it is", "empty where"), _of(book, each)
        )
    lines += ["## Codes", ""]
    for name, labels in book.codes.items():
        lines += [f"### Codes of {name}", ""]
        lines += table(
            ("code", "label"),
            (
                (code(str(value)) if value != "" else "empty", label)
                for value, label in labels.items()
            ),
        )
    return "\n".join(lines).rstrip() + "\n"


def _of(book: Codebook, each: OutputTable) -> Iterator[tuple[str, ...]]:
    for name in each.columns:
        yield _row(each, name, book.columns[name])
    for name, column in each.own.items():
        yield _row(each, name, column)
    for name in each.sometimes:
        yield _row(each, f"{name} (some profiles)", book.columns[name])
    for pattern, column in each.patterns.items():
        yield _row(each, f"/{pattern}/", column)


def _row(each: OutputTable, name: str, column: OutputColumn) -> tuple[str, ...]:
    shown, _, after = name.partition(" (")
    label = code(shown) + (f" ({after}" if after else "")
    codes = f"[{column.codes}](#codes-of-{column.codes})" if column.codes else ""
    return label, column.type, column.unit or codes, column.meaning, column.null_where


def pages() -> dict[str, str]:
    """Both pages by name."""
    return {
        "sources.md": sources_page(source_entries(load_catalog())),
        "codebook.md": codebook_page(load_codebook()),
    }


def stale(folder: Path = FOLDER) -> list[str]:
    """Names of the pages in ``folder`` that are missing or not what they should be."""
    return [
        name
        for name, text in pages().items()
        if not (folder / name).exists() or (folder / name).read_text(encoding="utf-8") != text
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--check", action="store_true", help="only say which pages are not current")
    if parser.parse_args().check:
        old = stale()
        print("\n".join(old) or "current")
        return 1 if old else 0
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
