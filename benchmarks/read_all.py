"""Every file of a folder: which reader takes it, how much it holds, and whether its totals are
those published.

    python -m benchmarks.read_all --data DIR [--only GLOB] [--apart] [--json]

A file is taken by the specification whose path it has, else by the one whose file name it has, else
by the first whose layout fits. A line says source, vintage and reader, cells, areas, seconds, peak
memory above that before the file was opened (Linux), and its totals beside the figure known of
elsewhere (``read_all.yaml``); or why it is not read. ``docs/readers.md`` quotes it.

Belongs here: reading single files as a run reads them, and that table. Does not belong here: which
specification fits (``read_all_match.py``), a publication's layout.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from glob import escape
from pathlib import Path
from typing import Any

import polars as pl
import yaml

from benchmarks.peers.protocol import peak, reset_peak, resident
from benchmarks.read_all_match import Candidate, by_layout, candidates, state_named
from calibration_core.errors import GeocalError
from pipeline.sources.base import ReadRequest, SourceFile
from pipeline.sources.microdata.acs_pums_codes import HOUSING_COLUMNS
from pipeline.sources.microdata.acs_pums_files import open_pums, read_state
from pipeline.sources.named import reader_called
from pipeline.sources.registry import UNFORESEEN
from pipeline.specs.addresses import fill
from pipeline.specs.sources import SourceSpec, load_sources

KNOWN = Path(__file__).with_suffix(".yaml")
LEVELS = ("tract", "zip", "county", "state", "nation", "other")
Totals = dict[str, dict[str, float]]


@dataclass(frozen=True)
class FileLine:
    """One file. ``totals`` by kind and level; ``known`` the published figure of one of them;
    ``why`` is set where the file is not read.
    """

    file: str
    source: str = ""
    reader: str = ""
    how: str = ""
    cells: int = 0
    areas: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0
    totals: Totals = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)
    why: str = ""

    @property
    def agrees(self) -> bool | None:
        """None where no figure is known, or the file is not read."""
        if not self.known or self.why:
            return None
        found = _shown(self.totals.get(self.known["kind"], {}), self.known.get("level"))
        return found is not None and abs(found - self.known["figure"]) < 0.5


def read_folder(data: Path, only: str = "*", settings: Mapping | None = None) -> list[FileLine]:
    """A line per file below ``data`` whose relative path fits ``only``, sorted by path."""
    known = settings if settings is not None else yaml.safe_load(KNOWN.read_text("utf-8"))
    specs = load_sources()
    files = sorted(path for path in data.rglob("*") if path.is_file())
    names = [path.relative_to(data).as_posix() for path in files]
    return [_line(data, name, specs, known) for name in names if fnmatch(name, only)]


def _line(
    data: Path, name: str, specs: Mapping[str, SourceSpec], settings: Mapping[str, Any]
) -> FileLine:
    placed = next((p for p in settings["placed"] if fnmatch(name, p["file"])), None)
    unread = next((u["why"] for u in settings["no_reader"] if fnmatch(name, u["file"])), None)
    known = next((dict(k) for k in settings["known"] if fnmatch(name, k["file"])), {})
    known.pop("file", None)
    if placed:
        state = state_named(placed["state"])
        tried = [
            Candidate(specs[placed["source"]], placed["vintage"], placed["role"], "placed", state)
        ]
    elif unread:
        return FileLine(name, known=known, why=unread)
    else:
        tried = candidates(name, specs) or by_layout(name, specs)
    whys = []
    for each in tried:
        if not each.known:
            whys.append(f"{each.spec.id} has no vintage {each.vintage}")
            continue
        try:
            return _read(data / name, name, each, settings, known)
        except (GeocalError, *UNFORESEEN) as error:
            whys.append(f"{each.spec.id} {each.vintage}: {_first_sentence(error)}")
    if not whys or all(each.how == "layout" for each in tried):
        whys = ["no specification has its path, its name or its layout"]
    return FileLine(name, known=known, why="; ".join(dict.fromkeys(whys)))


def _first_sentence(error: BaseException) -> str:
    return str(error).partition(". Where:")[0].splitlines()[0]


def _read(
    path: Path, name: str, each: Candidate, settings: Mapping[str, Any], known: dict
) -> FileLine:
    reset_peak()
    before, start = resident(), time.perf_counter()
    cells, areas, totals = _contents(path, each, settings)
    return FileLine(
        name,
        f"{each.spec.id} {each.vintage}",
        each.spec.reader_of(each.vintage),
        each.how,
        cells,
        areas,
        round(time.perf_counter() - start, 2),
        round(max(0, peak() - before) / 1e6, 1),
        totals,
        known,
    )


def _contents(path: Path, each: Candidate, settings: Mapping[str, Any]) -> tuple[int, int, Totals]:
    """Cells, areas and totals of one file read as its source reads it."""
    state = each.state
    members = tuple(fill(m, each.vintage, state=state, table=each.table) for m in each.members)
    file = SourceFile(each.role, path, members, state, each.table)
    if each.spec.kind == "microdata" and each.role == "housing" and state is not None:
        return _housing(path, each, state.fips)
    states = (state,) if state is not None else ()
    reader = reader_called(each.spec.reader_of(each.vintage), each.spec.id)
    table = reader.read(ReadRequest(each.spec, each.vintage, (file,), states))
    if each.spec.kind == "microdata":
        people, homes = table.persons, table.households.filter(~pl.col("is_group_quarters"))
        totals = {
            "population": {"state": float(people["design_weight"].sum())},
            "households": {"state": float(homes["design_weight"].sum())},
        }
        return people.height, people["puma"].n_unique(), totals
    if each.spec.kind == "geography":
        return table.frame.height, table.frame.height, {}
    frame = table.frame
    areas = frame.select("level", "geoid").unique().height
    return frame.height, areas, totals_of(frame, each.vintage, settings)


def _housing(path: Path, each: Candidate, fips: str) -> tuple[int, int, Totals]:
    """A housing file by itself: a run needs persons beside it."""
    period = each.spec.layout_of(each.vintage).period_years
    raws = open_pums(path, "h", int(each.vintage), fips, period, "")
    columns = read_state(raws, HOUSING_COLUMNS, (), fips)
    weight, size = columns.number("WGTP", low=0), columns.integer("NP", low=0)
    totals = {"housing_units": {"state": float(weight.sum())}}
    totals["households"] = {"state": float(weight.filter(size > 0).sum())}
    return columns.frame.height, 1, totals


def totals_of(frame: pl.DataFrame, vintage: str, settings: Mapping[str, Any]) -> Totals:
    """The sum of the first known column of each kind, by level, over all classes at once."""
    strata = [s for s in settings["strata"] if s in frame["stratum"].unique().to_list()]
    rows = frame.filter(pl.col("stratum").is_in(strata)) if strata else frame
    there = set(rows["column"].unique().to_list())
    found: Totals = {}
    for kind, names in settings["totals"].items():
        column = next((n for n in (n.replace("{year}", vintage) for n in names) if n in there), "")
        sums = rows.filter(pl.col("column") == column).group_by("level").agg(pl.sum("estimate"))
        if column:
            found[kind] = dict(sorted(sums.iter_rows()))
    return found


def _shown(by_level: Mapping[str, float], level: str | None) -> float | None:
    """At ``level`` (``county+state``: both added), else at the finest level there is."""
    if level is None:
        return next((by_level[each] for each in LEVELS if each in by_level), None)
    wanted = level.split("+")
    return sum(by_level[each] for each in wanted) if set(wanted) <= set(by_level) else None


def _words(line: FileLine) -> tuple[str, str]:
    """The totals, and the figure known of elsewhere with what it says about them."""
    if line.why:
        return f"not read: {line.why}", ""
    level = line.known.get("level")
    kinds = {kind: _shown(levels, None) for kind, levels in line.totals.items()}
    if line.known:
        kind = line.known["kind"]
        kinds[kind] = _shown(line.totals.get(kind, {}), level)
    text = ", ".join(f"{kind} {value:,.0f}" for kind, value in kinds.items() if value is not None)
    if not line.known:
        return text, ""
    verdict = "equal" if line.agrees else "DIFFERS"
    return text, f"{line.known['figure']:,} ({line.known['source']}): {verdict}"


def as_markdown(lines: Sequence[FileLine]) -> str:
    """The table, and a line that counts it."""
    head = ("file", "source", "reader", "by", "cells", "areas", "s", "MB", "totals", "known")
    rows = [head, ("---",) * len(head)]
    for x in lines:
        said, known = _words(x)
        sizes = (f"{x.cells:,}", f"{x.areas:,}", f"{x.seconds:.2f}", f"{x.peak_mb:.0f}")
        held = sizes if not x.why else ("", "", "", "")
        rows.append((x.file, x.source, x.reader, x.how, *held, said, known))
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    read = [x for x in lines if not x.why]
    compared = [x for x in read if x.agrees is not None]
    return (
        f"{table}\n\n{len(read)} of {len(lines)} files read; {len(compared)} compared with a known"
        f" figure, {sum(bool(x.agrees) for x in compared)} equal; "
        f"{sum(x.seconds for x in read):.0f} s, at most"
        f" {max((x.peak_mb for x in read), default=0):.0f} MB above the start of a file"
    )


def read_apart(data: Path, only: str = "*") -> list[FileLine]:
    """``read_folder`` with a process per file, so that one file's memory is not another's."""
    names = sorted(p.relative_to(data).as_posix() for p in data.rglob("*") if p.is_file())
    lines = []
    for name in (name for name in names if fnmatch(name, only)):
        asked = ("--data", str(data), "--only", escape(name), "--json")
        command = (sys.executable, "-m", "benchmarks.read_all", *asked)
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        own = {key: value for key, value in json.loads(said)[0].items() if key != "agrees"}
        lines.append(FileLine(**own))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of raw files")
    parser.add_argument("--only", default="*", help="files whose path fits this pattern")
    parser.add_argument("--apart", action="store_true", help="a process per file: true memory")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    asked = parser.parse_args(arguments)
    lines = (read_apart if asked.apart else read_folder)(asked.data, asked.only)
    if asked.json:
        print(json.dumps([{**asdict(x), "agrees": x.agrees} for x in lines], indent=1))
    else:
        print(as_markdown(lines))


if __name__ == "__main__":
    main()
