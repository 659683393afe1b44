"""Which files of a publication are there, and what is read where they are not.

Belongs here: missing files by name, and the source that stands in for another. Does not belong
here: opening a file (``files.py``, ``registry.py``), or what follows for a profile
(``settled.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.sources.base import SourceFile, SourceNote, SourceTable, resolve_files
from pipeline.specs.sources import SourceSpec, fill, load_source
from pipeline.specs.states import states_of


def missing_files(
    spec: SourceSpec, vintage: str, data: Path, states: Iterable[str] | None = None
) -> list[SourceFile]:
    """Files of a vintage that are not there, for ``states`` or, of a nationwide source and None,
    for anybody; empty where they are, or another source stands in.

    Where every file is optional, one must be there; else all are named.
    """
    wanted = list(states) if states is not None else None
    found = resolve_files(spec, vintage, data, wanted)
    absent = [file for file in found if not file.exists]
    if not found:
        absent = [_first_path(spec, vintage, data, wanted)]
    if wanted is None and any(file.exists for file in found):
        # Excerpts of some states: who needs another's is told then.
        absent = [file for file in absent if file.state is None]
    return [] if absent and replacement(spec, vintage, data, wanted) else absent


def _first_path(spec: SourceSpec, vintage: str, data: Path, states: list[str] | None) -> SourceFile:
    file, table = spec.files_of(vintage)[0], spec.tables[0] if spec.tables else None
    state = states_of(states)[0] if states else None
    path = data / fill(file.paths[0], vintage, state=state, table=table)
    url = spec.url_of(vintage, state, file=file, table=table)
    return SourceFile(file.role, path, file.members, state, table, url=url)


def replacement(
    spec: SourceSpec, vintage: str, data: Path, states: list[str] | None
) -> SourceSpec | None:
    """The first source of ``instead`` whose tables are all there for the states, where a file of
    ``spec`` is not; else None.
    """
    if not spec.instead or all(f.exists for f in resolve_files(spec, vintage, data, states)):
        return None
    for name, tables in spec.instead.items():
        other = load_source(name)
        if vintage not in other.vintages:
            continue
        found = resolve_files(other, vintage, data, states)
        if set(tables) <= {file.table for file in found if file.exists}:
            marks = tuple(f"{table}_" for table in tables)
            columns = tuple(c for c in other.columns if c.label.lstrip("/").startswith(marks))
            only = {"tables": tables, "levels": spec.levels, "columns": columns}
            return other.model_copy(update=only)
    return None


def noted(table: SourceTable, spec: SourceSpec, other: SourceSpec) -> SourceTable:
    """What ``other`` gave, with a note that it stands in for ``spec``."""
    said = f"{other.id} was read in place of {spec.id}, whose own files are not there"
    notes = (*table.notes, SourceNote("read_instead", 1, said))
    return SourceTable(table.frame, table.provenance, notes)
