"""The command ``geocal sources``: the data dictionary on a terminal, or as JSON.

Belongs here: how the list and one source look. Does not belong here: what a source is and what it
is used for (``specs/dictionary.py``), or the page docs/sources.md (``docs/make_dictionary.py``).
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Column, Table

from pipeline.cli.progress import Waiting
from pipeline.cli.terminal import Terminal
from pipeline.errors import SpecError
from pipeline.specs.catalog import load_catalog
from pipeline.specs.dictionary import SourceEntry, source_entries

# Below this many columns the list keeps two of its five.
NARROW = 100


def show_sources(terminal: Terminal, name: str | None, as_json: bool) -> None:
    """All sources, a row each, or all of one. Raises SpecError for a name that is none."""
    with Waiting(terminal, "reading the specifications"):
        entries = source_entries(load_catalog())
    if name is not None and name not in entries:
        near = difflib.get_close_matches(name, entries, n=3)
        raise SpecError(
            f"There is no source {name!r}",
            where="the argument NAME",
            expected=" or ".join(near) or "an id that `geocal sources` lists",
            remedy="Run `geocal sources` without a name to see all",
        )
    if as_json:
        chosen = entries.values() if name is None else [entries[name]]
        terminal.text(json.dumps([_document(entry) for entry in chosen], indent=2))
    elif name is None:
        _print_list(terminal, entries)
    else:
        _print_one(terminal, entries[name])


def _document(entry: SourceEntry) -> dict[str, Any]:
    """One source as JSON."""
    spec = entry.spec
    return {
        "id": spec.id,
        "title": spec.title,
        "publisher": spec.publisher,
        "licence": spec.licence,
        "documentation": spec.documentation,
        "levels": list(spec.levels),
        "coverage": spec.coverage,
        "kind": spec.kind,
        "vintages": {
            year: {
                "title": special.title,
                "publishers_form": special.publishers_form,
                "notes": list(special.notes),
            }
            for year, special in sorted(spec.vintages.items())
        },
        "files": [asdict(file) for file in entry.files],
        "columns": [asdict(column) for column in entry.columns],
        "uses": [asdict(use) for use in entry.uses],
        "factors": list(entry.factors),
        "profiles": {name: list(years) for name, years in entry.profiles.items()},
        "caveats": list(spec.caveats),
    }


def _print_list(terminal: Terminal, entries: dict[str, SourceEntry]) -> None:
    wide = terminal.width >= NARROW
    heads = ("source", "what it is", "levels", "vintages", "used for")
    table = Table(*(heads if wide else heads[:2]), expand=not wide)
    for name, entry in entries.items():
        spec = entry.spec
        cells = [
            escape(spec.title),
            ", ".join(spec.levels),
            _years(sorted(spec.vintages)),
            entry.used_for,
        ]
        table.add_row(name, *(cells if wide else ["\n".join([cells[0], "; ".join(cells[1:])])]))
    terminal.result(table)
    terminal.note("`geocal sources NAME` shows files, columns, units and uses of one.")


def _years(years: list[str]) -> str:
    """2018, 2019, 2020, 2022 as "2018 to 2020, 2022"."""
    runs: list[list[int]] = []
    for year in map(int, years):
        if runs and year == runs[-1][-1] + 1:
            runs[-1].append(year)
        else:
            runs.append([year])
    said = (f"{r[0]} to {r[-1]}" if len(r) > 2 else ", ".join(map(str, r)) for r in runs)
    return ", ".join(said)


def _print_one(terminal: Terminal, entry: SourceEntry) -> None:
    spec = entry.spec
    terminal.result(f"[bold]{spec.id}[/bold]: {escape(spec.title)}")
    for head, text in (
        ("publisher", spec.publisher),
        ("licence", spec.licence),
        ("documentation", spec.documentation),
        ("levels", ", ".join(spec.levels)),
        ("used for", entry.used_for),
        ("profiles", ", ".join(f"{p} ({', '.join(y)})" for p, y in entry.profiles.items())),
        ("carries", ", ".join(entry.factors)),
    ):
        if text:
            terminal.result(f"{head:<14} {text}", markup=False)
    for caveat in spec.caveats:
        terminal.result(f"* {caveat}", markup=False)
    years = ((y, v.title, " ".join(v.notes)) for y, v in sorted(spec.vintages.items()))
    _table(terminal, ("vintage", "of", "notes"), years)
    for file in entry.files:
        how = f"by hand: {file.by_hand}" if file.by_hand else "fetched"
        optional = ", optional" if file.optional else ""
        terminal.result(f"\n{' or '.join(file.paths)}{optional}", markup=False)
        terminal.result(f"  {file.address}  ({how})", markup=False)
    _table(
        terminal,
        ("column", "unit", "what it is", "variables"),
        ((c.name, c.unit, c.description, str(c.variables or "")) for c in entry.columns),
    )
    _table(
        terminal,
        ("variable", "from columns", "level", "how", "target file"),
        (
            (f"{u.variable}/{u.domain}", u.columns, ", ".join(u.levels), u.treatment, u.target)
            for u in entry.uses
        ),
    )
    notes = {text: None for use in entry.uses for text in (use.why, use.note) if text}
    for note in notes:
        terminal.detail(f"* {note}", markup=False)


def _table(terminal: Terminal, heads: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table(*(Column(head, overflow="fold") for head in heads))
    for row in rows:
        table.add_row(*map(escape, row))
    if table.row_count:
        terminal.result("")
        terminal.result(table)
