"""A file's columns against those its vintage is known to have: what is unknown, what is gone, and
the difference to another vintage.

Short because the lists are data. Belongs here: that comparison and its error. Does not belong here:
which columns are read (``columns.py``), the lists (``data_specs/columns.yaml``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pipeline.errors import SourceLayoutError
from pipeline.sources.base import ReadRequest, SourceNote
from pipeline.sources.files import FileProvenance
from pipeline.specs.columns import ColumnLists, load_column_lists
from pipeline.specs.known_totals import holds_made_up

SHOWN = 8


def compare_columns(
    request: ReadRequest, header: Iterable[str], provenance: FileProvenance
) -> list[SourceNote]:
    """Nothing where all is as listed, or the source has no list; a note with the difference to the
    nearest listed vintage where this one is not listed. Made-up files are not compared.

    Raises SourceLayoutError if a listed column is gone or a column of figures is unknown.
    """
    lists = load_column_lists().get(request.spec.id)
    if lists is None or request.data is None or holds_made_up(request.data):
        return []
    present = lists.figures(header)
    listed = lists.of(request.vintage)
    if listed is None:
        words = _difference(lists, lists.nearest(request.vintage), present)
        code = f"{provenance.label}: the columns of {request.vintage} are not listed; {words}"
        return [SourceNote("columns_not_listed", 1, code)] if words else []
    unknown = [name for name in present if name not in set(listed)]
    gone = [name for name in listed if name not in set(present)]
    if not unknown and not gone:
        return []
    said = [f"unknown: {_some(unknown)}"] * bool(unknown) + [f"gone: {_some(gone)}"] * bool(gone)
    raise SourceLayoutError(
        f"The columns are not those of {request.vintage}: {'; '.join(said)}."
        f" {_difference(lists, lists.nearest(request.vintage), present) or 'As in another year'}",
        where=f"{provenance.path}, header",
        expected=f"the {len(listed)} columns of figures listed for {request.vintage}",
        remedy=(
            "Check that this is the right publication and vintage; if the publisher changed the"
            " file, correct its list in data_specs/columns.yaml"
        ),
    )


def _difference(lists: ColumnLists, vintage: str, present: Sequence[str]) -> str:
    """Against a listed vintage, in words; nothing where there is none."""
    known = lists.of(vintage) or ()
    new = [name for name in present if name not in set(known)]
    gone = [name for name in known if name not in set(present)]
    parts = [f"new {_some(new)}"] * bool(new) + [f"gone {_some(gone)}"] * bool(gone)
    return f"Against {vintage}: {'; '.join(parts)}" if parts else ""


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
