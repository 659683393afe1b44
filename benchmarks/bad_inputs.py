"""Every bad input through the command line, in one run: exit status, message, and whether what was
there before stayed as it was.

    python -m benchmarks.bad_inputs [--data DIR] [--only ID ...] [--markdown]

Without --data a small SYNTHETIC sample of two states is written and read as published files are.
With --data the profile ``rhode_island`` is run on links to DIR, of which one is replaced by a
damaged copy at a time; DIR itself is never written to. The profile is run once untouched; then each
fault is made, ``geocal check`` and ``geocal run`` are called, and both are undone.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import dagster as dg
import polars as pl
from rich.console import Console
from rich.table import Table

from pipeline import cli
from pipeline.settings import RunEnvironment, ensure_instance_home
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile
from tests.pipeline.faults import (
    FAULTS,
    RHODE_ISLAND,
    SAMPLE,
    Fault,
    Layout,
    apply,
    catalog_with,
    files_profile,
    restore,
    small_sample,
)

HEADINGS = (
    "fault",
    "exit status",
    "message",
    "found by `geocal check`",
    "what was there before unchanged",
    "other states",
)
WIDTH = 100
USAGE = (
    ("unknown profile", ("--profile", "nowhere")),
    ("unknown state", ("--states", "RI,ZZ")),
    ("no data folder", ("--data", "nowhere")),
    ("a file for the data folder", ("--data", "pyproject.toml")),
    ("a variable that is not set for the data folder", ("--data", "")),
    ("a file for the output folder", ("--output", "pyproject.toml")),
    ("a log file in a folder that does not exist", ("--log-file", "nowhere/log")),
    ("quiet and verbose at once", ("--quiet", "--verbose")),
    ("an option that does not exist", ("--profil", "sample")),
)
NAMES = "usage"


@dataclass(frozen=True)
class Place:
    """One profile with its raw files (the benchmark's own copy) and its finished run."""

    profile: Profile
    catalog: Catalog
    environment: RunEnvironment
    layout: Layout

    def files(self) -> dict[Path, bytes]:
        """Every stored file but Dagster's history."""
        home = self.environment.dagster_home
        return {
            path: path.read_bytes()
            for path in self.environment.root.rglob("*")
            if path.is_file() and home not in path.parents
        }

    def command(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status of ``geocal``, its results and its complaints; folders of this machine become
        DATA and OUTPUT.
        """
        named = {
            "--profile": self.profile.id,
            "--data": str(self.environment.data),
            "--output": str(self.environment.output),
        }
        given = set(arguments)
        options = [
            part
            for option, value in named.items()
            if option not in given
            for part in (option, value)
        ]
        printed, complained = io.StringIO(), io.StringIO()
        with (
            patch("pipeline.specs.catalog.load_catalog", lambda *_: self.catalog),
            patch.object(sys, "argv", ["geocal", *arguments, *options]),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(complained),
        ):
            try:
                cli.main()
                status = 0
            except SystemExit as ended:
                status = int(ended.code or 0)
        return status, self.anonymous(printed.getvalue()), self.anonymous(complained.getvalue())

    def anonymous(self, text: str) -> str:
        words = " ".join(text.split())
        for folder, name in (
            (self.environment.data, "DATA"),
            (self.environment.output, "OUTPUT"),
            (Path.cwd(), "."),
        ):
            words = words.replace(str(folder), name)
        return words


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    fault: str
    status: str
    message: str
    by_check: str
    unchanged: str
    others: str

    def cells(self) -> tuple[str, ...]:
        return self.fault, self.status, self.message, self.by_check, self.unchanged, self.others


@contextlib.contextmanager
def place(data: Path | None) -> Iterator[Place]:
    """A folder of raw files that may be damaged, with a finished run of it."""
    with tempfile.TemporaryDirectory(prefix="geocal-bad-inputs-") as temporary:
        folder = Path(temporary).resolve()
        raw = folder / "raw"
        if data is None:
            profile, layout = files_profile(), SAMPLE
            small_sample(raw)
            catalog = catalog_with(profile)
        else:
            catalog = load_catalog()
            profile, layout = catalog.profile("rhode_island"), RHODE_ISLAND
            _link(data.resolve(), raw)
        made = Place(profile, catalog, RunEnvironment(profile.id, raw, folder / "output"), layout)
        status, _, complaint = made.command("run")
        if status:
            raise SystemExit(f"The untouched files cannot be run: {complaint}")
        yield made


def _link(data: Path, raw: Path) -> None:
    for path in sorted(data.rglob("*")):
        if path.is_file():
            link = raw / path.relative_to(data)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path)


NATIONAL_REPORTS = ("national_fit", "national_report")


def _changed(
    before: dict[Path, bytes], after: dict[Path, bytes], root: Path, finished: list[str]
) -> str:
    """``yes``, or which tables were replaced. A state that ran to its end has new files by right,
    and so has the report over all states.
    """
    differ = {
        path.relative_to(root)
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    }
    if finished:
        differ = {
            path
            for path in differ
            if path.parts[0] not in NATIONAL_REPORTS
            and not any(state in re.split(r"\W", str(path)) for state in finished)
        }
    names = sorted({path.parts[0] for path in differ})
    return f"results yes; input table replaced: {', '.join(names)}" if names else "yes"


def _same_rows(before: dict[Path, bytes], path: Path) -> bool:
    return pl.read_parquet(io.BytesIO(before[path])).equals(pl.read_parquet(path))


def run_fault(here: Place, fault: Fault) -> Row:
    """Make the fault, check, run, compare, undo."""
    before = here.files()
    damaged = apply(fault, here.environment.data, here.layout)
    try:
        if fault.pairs is not None:
            code, _, complaint = here.command("run", "--states", "RI", "--pairs", str(fault.pairs))
            status, message, check, others = (
                str(code),
                complaint.replace("FAILED ", ""),
                "not a file",
                "not asked for",
            )
            finished: list[str] = []
        else:
            found, _, _ = here.command("check")
            check = "yes" if found else "counted, no error" if fault.note else "no"
            code, text, complaint = here.command("run")
            status = str(code)
            finished = [
                state
                for state in here.profile.states
                if state != "RI" and re.search(rf"\b{state} weights \d", text)
            ]
            message = complaint.replace("FAILED ", "") if code else _notes(here, fault)
            others = ", ".join(_beside(here, before, state) for state in finished)
            others = others or (
                "not started" if "Not started" in complaint else "the profile has no other"
            )
        unchanged = (
            "a new result, as it should be"
            if fault.note
            else _changed(before, here.files(), here.environment.root, finished)
        )
    finally:
        restore(damaged)
        for path in here.files().keys() - before.keys():
            path.unlink()
        restore(before)
    return Row(fault.title, status, message, check, unchanged, others)


def _beside(here: Place, before: dict[Path, bytes], state: str) -> str:
    """Whether another state, which ran while Rhode Island failed, has the weights it had."""
    same = _same_rows(before, here.environment.table_path("weights", state))
    return f"{state} ran, {'same weights' if same else 'other weights'}"


def _notes(here: Place, fault: Fault) -> str:
    """The counted notes that the first asset of the fault has in its metadata."""
    with dg.DagsterInstance.from_config(str(ensure_instance_home(here.environment))) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(fault.assets[0]))
        records = instance.fetch_materializations(
            dg.AssetRecordsFilter(
                asset_key=dg.AssetKey(fault.assets[0]),
                asset_partitions=None if fault.national else ["RI"],
            ),
            limit=1,
        ).records
    made = records[0].asset_materialization if records else event.asset_materialization
    lines = [line.lstrip("* ") for line in str(made.metadata["notes"].value).splitlines()]
    return "; ".join(f"note {line}" for line in lines if any(words in line for words in fault.says))


def usage_rows(here: Place) -> list[Row]:
    """Names that are not known, and options that cannot be served."""
    rows = []
    for title, arguments in USAGE:
        before = here.files()
        code, _, complaint = here.command("run", *arguments)
        found, _, _ = here.command("check", *arguments)
        rows.append(
            Row(
                title,
                str(code),
                complaint,
                "yes" if found else "no",
                _changed(before, here.files(), here.environment.root, []),
                "not started",
            )
        )
    return rows


def markdown(rows: list[Row]) -> str:
    """A section per fault: what became of the run in one line, what was said as a block."""
    return "\n".join(line for row in rows for line in section(row))


def section(row: Row) -> list[str]:
    """Heading, facts and message of one fault; each answer of the message begins a line."""
    labels = ("Exit status", "Found by `geocal check`", "What was there before unchanged", "Others")
    facts = (row.status, row.by_check, row.unchanged, row.others)
    told = " ".join(f"{label}: {fact}." for label, fact in zip(labels, facts, strict=True))
    out = [f"### {row.fault[0].upper()}{row.fault[1:]}", "", *textwrap.wrap(told, WIDTH), ""]
    out.append("```text")
    for part in re.split(r" (?=Where: |Expected: |What to do: |Not started: |note )", row.message):
        out += folded(part)
    return [*out, "```", ""]


def folded(text: str) -> list[str]:
    """``text`` in lines of the pages' width, with a hanging indent."""
    return textwrap.wrap(
        text, WIDTH, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make each bad input, run it through the command line, print what is said."
    )
    parser.add_argument(
        "--data",
        type=Path,
        help=(
            "folder of real files: damage links to them and run rhode_island; default: a small"
            " SYNTHETIC sample"
        ),
    )
    parser.add_argument(
        "--only",
        nargs="+",
        metavar="ID",
        choices=[*(fault.id for fault in FAULTS), NAMES],
        help=f"faults to make (default: all); {NAMES}: names and options that cannot be served",
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the sections of docs/bad_inputs.md"
    )
    options = parser.parse_args()
    chosen = [fault for fault in FAULTS if not options.only or fault.id in options.only]
    progress, console = Console(stderr=True), Console()
    with progress.status("The run of the untouched files") as waiting, place(options.data) as here:
        rows = []
        for number, fault in enumerate(chosen, start=1):
            waiting.update(f"{number} of {len(chosen)}: {fault.title}")
            rows.append(run_fault(here, fault))
        rows += usage_rows(here) if not options.only or NAMES in options.only else []
    if options.markdown:
        console.print(markdown(rows), soft_wrap=True, markup=False, highlight=False)
        return
    table = Table(*HEADINGS, show_lines=True)
    for row in rows:
        table.add_row(*row.cells())
    console.print(table)


if __name__ == "__main__":
    main()
