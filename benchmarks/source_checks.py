"""How far real files are from the thresholds of the named checks: the evidence for them.

    python -m benchmarks.source_checks --data DIR

Every publication whose files lie in the folder is read, each vintage of it and every state there
is, and checked by itself, beside its nearest other vintage, and beside the other publications; then
every survey file. A row per check and table: how many figures were judged, the furthest as a share
of its threshold (above 1 it would fail), and where it is. ``docs/source_checks.md`` quotes it.

Belongs here: that table. Does not belong here: a check, or a threshold
(``data_specs/checks.yaml``).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from calibration_core.errors import GeocalError
from pipeline.checks import run
from pipeline.checks.of_profile import other_vintage
from pipeline.checks.results import CheckResult
from pipeline.sources.base import resolve_files
from pipeline.sources.registry import UNFORESEEN, read_microdata, read_source
from pipeline.specs.sources import SourceSpec, load_sources
from pipeline.specs.states import STATES

PUMAS_OF_2010 = 2021


def present(spec: SourceSpec, vintage: str, data: Path) -> list[str] | None:
    """The states whose files are there; of a nationwide source an empty list where it is, or None
    where nothing is."""
    if spec.coverage == "nation":
        files = resolve_files(spec, vintage, data, None)
        return [] if files and all(file.exists for file in files) else None
    states = []
    for state in STATES:
        files = resolve_files(spec, vintage, data, [state.postal])
        if files and all(file.exists for file in files):
            states.append(state.postal)
    return states or None


def results(data: Path) -> Iterator[CheckResult]:
    """Every check of every file."""
    specs = load_sources()
    tables: dict[tuple[str, str], pl.DataFrame] = {}
    for source, spec in specs.items():
        for vintage in spec.vintages if spec.kind == "published" else ():
            states = present(spec, vintage, data)
            if states is None:
                continue
            try:
                frame = read_source(spec, vintage, data, states or None).frame
            except (GeocalError, *UNFORESEEN) as error:
                print(f"not read: {source} {vintage}: {str(error)[:120]}")
                continue
            tables[source, vintage] = frame
            older = other_vintage(spec, (), vintage, data, states)
            yield from run.within(source, vintage, frame, older)
    yield from run.between(tables, [])
    yield from _of_surveys(specs, tables, data)


def _of_surveys(
    specs: dict[str, SourceSpec], tables: dict[tuple[str, str], pl.DataFrame], data: Path
) -> Iterator[CheckResult]:
    for source in ("acs_pums_1yr",):
        spec = specs[source]
        for vintage in spec.vintages:
            census = "2010" if int(vintage) <= PUMAS_OF_2010 else "2020"
            for postal in present(spec, vintage, data) or []:
                fips = next(state.fips for state in STATES if state.postal == postal)
                tracts = read_source(specs["tract_puma"], census, data, [postal]).frame
                survey = read_microdata(spec, vintage, data, [postal])
                name = f"{source} {postal}"
                yield from run.of_survey(survey, name, vintage, fips, tables, tracts)


def as_markdown(found: Sequence[CheckResult]) -> str:
    """A row per check and table, the furthest first within a check."""
    lines = [
        "| check | table | judged | furthest, of its threshold | where |",
        "|---|---|---|---|---|",
    ]
    ranked = sorted(found, key=lambda r: (r.name, -(r.worst.badness if r.worst else 0)))
    for result in ranked:
        if result.worst is None:
            continue
        table = f"{result.source} {result.vintage}".strip() or "between tables"
        size = f"{result.worst.badness:.2f}"
        lines.append(
            f"| {result.name} | {table} | {result.judged:,} | {size} | {result.worst.where}:"
            f" {result.worst.words} |"
        )
    failing = [result for result in found if not result.passed]
    lines += ["", f"{len(found)} checks, {sum(r.judged for r in found):,} figures judged."]
    lines += [f"* fails: {r.name} {r.source} {r.vintage}: {r.words}" for r in failing]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of raw files")
    asked = parser.parse_args(arguments)
    print(as_markdown(list(results(asked.data.resolve()))))


if __name__ == "__main__":
    main()
