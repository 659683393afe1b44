"""Which columns of a file to read: required ones, renamed ones, and the traits that betray another
vintage.

Belongs here: matching a header with a spec, and the errors about it. Does not belong here: values
of cells (``cells.py``).
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence

import polars as pl

from pipeline.errors import SourceLayoutError, SourceValueError
from pipeline.sources.base import ReadRequest, SourceFile, SourceNote
from pipeline.sources.files import FileProvenance
from pipeline.sources.tables.cells import AREA, Measure
from pipeline.sources.tables.column_lists import compare_columns
from pipeline.sources.tables.text import REPEAT_MARK, ROW, repeated_columns
from pipeline.specs.layouts import Fingerprint, Layout
from pipeline.specs.sources import ColumnSpec


def apply_renames(request: ReadRequest, frame: pl.DataFrame) -> pl.DataFrame:
    """Columns under the names the spec uses: capitals where case is ignored, and the vintage's
    renames. Raises SourceLayoutError if two become one.
    """
    names = {
        name: _upper(name) if request.layout.ignore_case and not name.startswith("__") else name
        for name in frame.columns
    }
    renames = {
        (old.upper() if request.layout.ignore_case else old): new
        for old, new in request.special.renames.items()
    }
    names = {old: renames.get(new, new) for old, new in names.items()}
    held: dict[str, str] = {}
    for old, new in names.items():
        if new in held:
            raise SourceLayoutError(
                f"Columns {held[new]} and {old} of the header are both read as {new}",
                where=f"{', '.join(file.path.name for file in request.files[:3])}, header",
                expected="each column once",
                remedy=(
                    "Download the table again; if the publisher now gives both names, take the old"
                    " one out of `renames` in the source's YAML"
                ),
            )
        held[new] = old
    return frame.rename(names)


def _upper(name: str) -> str:
    """Capitals, but for the mark of a column that the header gives more than once."""
    base, mark, count = name.partition(REPEAT_MARK)
    return base.upper() + mark + count


def need(frame: pl.DataFrame, names: Iterable[str], provenance: FileProvenance) -> None:
    """Raise SourceLayoutError naming the first absent column, and the nearest names
    that are there.
    """
    for name in names:
        if name not in frame.columns:
            raise _absent(name, frame.columns, provenance, "")


def _nearest(name: str, present: Iterable[str]) -> list[str]:
    """Up to three names of the file that look like ``name``."""
    return difflib.get_close_matches(name, sorted(set(present)), n=3, cutoff=0.6)


def _absent(
    name: str, present: Sequence[str], provenance: FileProvenance, description: str
) -> SourceLayoutError:
    shown = [column for column in present if not column.startswith("__")]
    near = _nearest(name, shown)
    hint = (
        f"; the nearest names there are {', '.join(near)}"
        if near
        else f"; the file has {len(shown)} columns: {', '.join(shown[:6])} ..."
    )
    return SourceLayoutError(
        f"Column {name} is missing{hint}",
        where=(
            f"{provenance.path}{' member ' + provenance.member if provenance.member else ''},"
            " header"
        ),
        expected=f"column {name}" + (f" ({description})" if description else ""),
        remedy=(
            "Check that this is the right publication and vintage; if the publisher renamed the"
            " column, add it under `renames` of that vintage in the source's YAML"
        ),
    )


def part_splitter(layout: Layout) -> Callable[[str], tuple[str, str]]:
    """A function column -> (published name, ``E``, ``M`` or "")."""
    marks = "|".join(map(re.escape, (layout.estimate_mark, layout.margin_mark)))
    part = f"(?P<part>{marks})"
    if layout.parts == "suffix":
        # Annotations (EA, MA) end in A and never match; percentages (PE, PM) keep their P and are
        # read only if declared so.
        pattern = re.compile(rf"^(?P<a>.*\d)(?P<b>P?){part}$")
    elif layout.parts == "infix":
        pattern = re.compile(rf"^(?P<a>[A-Z0-9]+_){part}(?P<b>\d+)$")
    elif layout.parts == "prefix":
        return _prefix_splitter(layout)
    else:
        return lambda column: (column, "E")

    def split(column: str) -> tuple[str, str]:
        match = pattern.match(column)
        if match is None:
            return column, ""
        return match["a"] + match["b"], "E" if match["part"] == layout.estimate_mark else "M"

    return split


def _prefix_splitter(layout: Layout) -> Callable[[str], tuple[str, str]]:
    """Of E_AGE65 and M_AGE65, and of the percentage beside them: EP_AGE65 is AGE65_P."""
    marks = {layout.estimate_mark: ("E", ""), layout.margin_mark: ("M", "")}
    marks |= {f"{mark.rstrip('_')}P_": (part, "_P") for mark, (part, _) in [*marks.items()]}

    def split(column: str) -> tuple[str, str]:
        for mark, (part, ending) in marks.items():
            if column.startswith(mark) and len(column) > len(mark):
                return column.removeprefix(mark) + ending, part
        return column, ""

    return split


def _as_in_file(column: str, layout: Layout) -> str:
    """The published name as the file's header writes its estimate: DP05_0001 is DP05_0001E,
    B19001_001 is B19001_E001.
    """
    if layout.parts == "suffix":
        return column + layout.estimate_mark
    if layout.parts == "infix":
        return re.sub(r"_(\d+)$", rf"_{layout.estimate_mark}\1", column)
    return layout.estimate_mark + column if layout.parts == "prefix" else column


def choose_measures(
    request: ReadRequest,
    file: SourceFile,
    frame: pl.DataFrame,
    provenance: FileProvenance,
    taken: Iterable[str] = (),
) -> tuple[list[Measure], list[SourceNote]]:
    """The declared columns that the file has, in the file's order, and a note of how many columns
    were left unread.

    ``taken`` are columns that identify the area. Raises SourceLayoutError for an absent required
    column, for a column given twice, and when nothing declared is there.
    """
    split = part_splitter(request.layout)
    specs = [
        c for c in request.spec.columns_of(request.vintage, file.role) if _belongs(c, file, request)
    ]
    present: dict[str, dict[str, str]] = {}
    skip = set(taken) | set(AREA)
    for name in frame.columns:
        base, part = split(name)
        if part and name not in skip and REPEAT_MARK not in name:
            present.setdefault(base, {})[part] = name
    for spec in specs:
        if spec.required and not any(
            "E" in parts and spec.matches(base, request.vintage) for base, parts in present.items()
        ):
            wanted = _as_in_file(spec.label.replace("{year}", request.vintage), request.layout)
            # The nearest name is looked for among estimates: the margin of the same column would be
            # nearer and no help.
            raise _absent(
                wanted,
                sorted(parts["E"] for parts in present.values() if "E" in parts) or frame.columns,
                provenance,
                spec.description,
            )
    measures = []
    for base, parts in present.items():
        first = next((s for s in specs if s.matches(base, request.vintage)), None)
        if first is not None and "E" in parts and first.type not in ("code", "text"):
            measures.append(Measure(first.rename or base, parts["E"], parts.get("M"), first))
    _refuse_repeats(frame, measures, provenance)
    if not measures:
        raise SourceLayoutError(
            "None of the declared columns is in the file; it has"
            f" {', '.join(list(present)[:6]) or 'no columns'} ...",
            where=f"{provenance.path}, header",
            expected=f"columns such as {', '.join(s.label for s in specs[:4])}",
            remedy="Check that this is the right publication and table",
        )
    used = {name for m in measures for name in (m.estimate, m.margin) if name} | skip
    unread = [
        name for name in frame.columns if name not in used and not name.startswith("__blank_")
    ]
    notes = (
        [
            SourceNote(
                "columns_not_read",
                len(unread),
                f"{provenance.label}: {len(unread)} of {len(frame.columns) - len(AREA)} columns are"
                f" not declared in the spec: {', '.join(unread[:5])} ...",
            )
        ]
        if unread
        else []
    )
    return measures, notes


def _belongs(spec: ColumnSpec, file: SourceFile, request: ReadRequest) -> bool:
    """Where a publication is one file per table, a column is looked for in the file of its own
    table only.
    """
    if file.table is None:
        return True
    text = (spec.name or spec.pattern or "").upper()
    owners = [table for table in request.spec.tables if text.startswith(table.upper() + "_")]
    return not owners or file.table in owners


def _refuse_repeats(
    frame: pl.DataFrame, measures: Sequence[Measure], provenance: FileProvenance
) -> None:
    repeats = repeated_columns(frame)
    for measure in measures:
        for name in (measure.estimate, measure.margin):
            if name in repeats:
                raise SourceLayoutError(
                    f"Column {name} stands in the header {repeats[name]} times",
                    where=provenance.path,
                    expected="each column once",
                    remedy="Request or download the table again",
                )


def refuse_duplicates(areas: pl.DataFrame, provenance: FileProvenance) -> None:
    """Raise SourceValueError if two rows are the same area (and stratum), naming the GEOID and both
    rows.
    """
    repeated = areas.filter(pl.struct("level", "geoid", "stratum").is_duplicated())
    if repeated.is_empty():
        return
    first = repeated.sort("level", "geoid", "stratum", ROW).row(0, named=True)
    same = repeated.filter(
        (pl.col("level") == first["level"])
        & (pl.col("geoid") == first["geoid"])
        & (pl.col("stratum") == first["stratum"])
    )
    rows = same[ROW].sort().to_list()
    stratum = f", class {first['stratum']}" if first["stratum"] else ""
    raise SourceValueError(
        f"GEOID {first['geoid'] or 'of the nation'} ({first['name']}{stratum}) stands in rows"
        f" {' and '.join(map(str, rows))}; {repeated.height} rows in all are not unique",
        where=f"{provenance.label}, rows {', '.join(map(str, rows))}",
        expected="each area once" + (" per class" if first["stratum"] else ""),
        remedy=(
            "Remove the repeated download or the joined file, and use the publisher's file as it is"
        ),
    )


def checked_measures(
    request: ReadRequest,
    file: SourceFile,
    frame: pl.DataFrame,
    areas: pl.DataFrame,
    provenance: FileProvenance,
    taken: Iterable[str] = (),
) -> tuple[list[Measure], list[SourceNote]]:
    """``choose_measures`` with the vintage's traits looked at first, because another vintage
    explains missing columns.

    A file that looks like no vintage at all is first searched for a renamed column, the likelier
    fault.
    """
    refuse_wrong_vintage(request, frame, areas, provenance, only_if_another_fits=True)
    measures, notes = choose_measures(request, file, frame, provenance, taken)
    refuse_wrong_vintage(request, frame, areas, provenance)
    return measures, [*notes, *compare_columns(request, frame.columns, provenance)]


def refuse_wrong_vintage(
    request: ReadRequest,
    frame: pl.DataFrame,
    areas: pl.DataFrame,
    provenance: FileProvenance,
    *,
    only_if_another_fits: bool = False,
) -> None:
    """Raise SourceLayoutError if the file has the traits of another vintage than the one asked for.

    ``frame`` has the file's columns; ``areas`` the GEOIDs of the same rows. Nothing is raised where
    a trait cannot be judged.
    """
    own = _mismatches(request.special.fingerprint, frame, areas, request)
    if not own:
        return
    others = [
        year
        for year, special in sorted(request.spec.vintages.items())
        if year != request.vintage
        and special.fingerprint != Fingerprint()
        and not _mismatches(special.fingerprint, frame, areas, request)
    ]
    if only_if_another_fits and not others:
        return
    found = (
        f"The file looks like vintage {' or '.join(others)}, not {request.vintage}"
        if others
        else f"The file does not look like vintage {request.vintage}"
    )
    raise SourceLayoutError(
        f"{found}: {'; '.join(own)}",
        where=provenance.path,
        expected=f"{request.spec.title}, {request.vintage}",
        remedy=(
            "Put the file of the right year at that path, or ask for the vintage the file holds; if"
            " the publisher renamed a column, add it under `renames` of the vintage asked for"
        ),
    )


def _is_absent(name: str, names: Iterable[str]) -> str:
    near = _nearest(name, names)
    return f"column {name} is absent" + (f" (near it: {', '.join(near)})" if near else "")


def _mismatches(
    traits: Fingerprint, frame: pl.DataFrame, areas: pl.DataFrame, request: ReadRequest
) -> list[str]:
    split = part_splitter(request.layout)
    names = {split(name)[0] if request.layout.parts != "plain" else name for name in frame.columns}
    found = [_is_absent(name, names) for name in traits.has_columns if name not in names]
    found += [f"column {name} is present" for name in traits.lacks_columns if name in names]
    geoids = set(areas["geoid"].to_list())
    covered = {geoid[:2] for geoid in geoids if len(geoid) >= 5}
    found += [
        f"area {geoid} is absent"
        for geoid in traits.has_areas
        if geoid[:2] in covered and geoid not in geoids
    ]
    found += [f"area {geoid} is present" for geoid in traits.lacks_areas if geoid in geoids]
    for left, right in (*traits.equal_columns, *traits.unequal_columns):
        pair = [
            name
            for wanted in (left, right)
            for name in frame.columns
            if split(name) == (wanted, "E")
        ]
        if len(pair) < 2:
            continue
        unequal = frame.filter(
            pl.col(pair[0]).cast(pl.Float64, strict=False)
            != pl.col(pair[1]).cast(pl.Float64, strict=False)
        ).height
        # The majority decides: a few faulty cells are an error of those cells, not the mark of
        # another year.
        differ = 2 * unequal > frame.height
        if differ and (left, right) in traits.equal_columns:
            found.append(
                f"{left} and {right} differ in {unequal} of {frame.height} areas, so the numbering"
                " is another year's"
            )
        if not differ and (left, right) in traits.unequal_columns:
            found.append(
                f"{left} and {right} agree in"
                f" {'all' if not unequal else f'{frame.height - unequal} of'} {frame.height} areas,"
                " so the numbering is another year's"
            )
    return found


def refuse_year(found: set[str], request: ReadRequest, where: str, what: str) -> None:
    """Raise SourceLayoutError unless ``found``, the years that titles or footers print, is exactly
    the vintage.
    """
    if found != {request.vintage}:
        printed = " and ".join(sorted(found)) if found else "no year"
        raise SourceLayoutError(
            f"The {what} prints {printed}, and vintage {request.vintage} was asked for",
            where=where,
            expected=f"{what} of {request.vintage}",
            remedy=(
                "Put the file of the right year at that path, or ask for the vintage the file holds"
            ),
        )
