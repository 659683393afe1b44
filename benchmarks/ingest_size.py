"""Seconds and memory of reading files of the nation's size, in the publishers' formats.

    python -m benchmarks.ingest_size                       3 million persons, 84,414 tracts
    python -m benchmarks.ingest_size --persons 60000 --tracts 2000
    python -m benchmarks.ingest_size --keep DIR            write the files there, and leave them

Files are made in a temporary folder (about 4 GB at full size). Each kind is then read whole, state
after state, by the readers that a run uses, in a process of its own; its peak memory is that of the
largest state. ``docs/readers.md`` quotes the table.

Belongs here: timing the readers. Does not belong here: making the files (``ingest_files.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks import ingest_files
from benchmarks.machine import peak_memory, this_machine
from pipeline.sources.registry import read_microdata, read_source
from pipeline.specs.known_totals import FILE as KNOWN_TOTALS
from pipeline.specs.sources import load_source
from pipeline.specs.states import STATES

LIMIT_GB = 6.0
THREADS = "2"
# What is read: a source and vintage, of every state by itself or of the nation at once.
KINDS = {
    "PUMS, persons and housing of 51 states": ("acs_pums_1yr", "2022", "each"),
    "PUMS, one state from the nation's archive": ("acs_pums_1yr", "2022", "nation"),
    "DP02 to DP05, answers of the API by state": ("acs5_profile_tracts", "2022", "each"),
    "B19001, summary file of the nation, by state": ("acs5_detailed_tracts", "2022", "some"),
    "SVI by state": ("svi_tracts", "2022", "each"),
    "tracts and PUMAs": ("tract_puma", "2020", "once"),
}
# The summary file of the nation is read anew for each state; these tell the time of one.
SOME = ("CA", "TX", "RI")


@dataclass(frozen=True)
class Read:
    """One kind of file: records or cells read, seconds, and the largest memory in GB."""

    what: str
    files: int
    megabytes: float
    reads: int
    rows: int
    seconds: float
    slowest: float
    peak_gb: float


def read_kind(what: str, folder: Path) -> Read:
    """Read one kind in this process."""
    source, vintage, how = KINDS[what]
    spec = load_source(source)
    folder = folder / "nation" if how == "nation" else folder
    files = _files(folder, source)
    rows, longest, started = 0, 0.0, time.perf_counter()
    asked = {"some": list(SOME), "nation": ["TX"], "once": [None]}.get(
        how, [state.postal for state in STATES]
    )
    for postal in asked:
        begun = time.perf_counter()
        states = None if postal is None else [postal]
        if spec.kind == "microdata":
            rows += read_microdata(spec, vintage, folder, states).persons.height
        else:
            rows += read_source(spec, vintage, folder, states).frame.height
        longest = max(longest, time.perf_counter() - begun)
    size = sum(path.stat().st_size for path in files) / 1e6
    taken = time.perf_counter() - started
    return Read(what, len(files), size, len(asked), rows, taken, longest, peak_memory())


def _files(folder: Path, source: str) -> list[Path]:
    patterns = {
        "acs_pums_1yr": "acs_pums/**/csv_*.zip",
        "acs5_profile_tracts": "acs_tables/*_tracts/acs5_*.json",
        "acs5_detailed_tracts": "acs_tables/table_based/*.dat",
        "svi_tracts": "acs_tables/svi_tracts_*/*.csv",
        "tract_puma": "geo/*.txt",
    }
    return sorted(folder.glob(patterns[source]))


def in_process_of_its_own(what: str, folder: Path) -> Read:
    """The same in a new process, so that memory is of this kind alone."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.ingest_size",
        "--read",
        what,
        "--keep",
        str(folder),
    ]
    environ = os.environ | {"POLARS_MAX_THREADS": THREADS}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{what}: {done.stderr[-3000:]}")
    return Read(**json.loads(done.stdout))


def prepare(folder: Path, persons: int, tracts: int) -> None:
    """Write what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    # Made-up figures know no published totals.
    (folder / KNOWN_TOTALS).write_text("{}\n", encoding="utf-8")
    nation = folder / "nation"
    nation.mkdir(exist_ok=True)
    (nation / KNOWN_TOTALS).write_text("{}\n", encoding="utf-8")
    if not (folder / "acs_pums").exists():
        ingest_files.write_pums(folder, persons)
    if not (folder / "geo").exists():
        ingest_files.write_tract_tables(folder, tracts)


def table(reads: list[Read]) -> str:
    """The table of docs/readers.md."""
    lines = [
        "| what | files, MB | reads | rows | s | slowest read, s | peak GB |",
        "|---" * 7 + "|",
    ]
    for read in reads:
        lines.append(
            f"| {read.what} | {read.files}, {read.megabytes:,.0f} | {read.reads} | {read.rows:,} |"
            f" {read.seconds:.0f} | {read.slowest:.1f} | {read.peak_gb:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--persons", type=int, default=ingest_files.PERSONS)
    parser.add_argument("--tracts", type=int, default=ingest_files.TRACTS)
    parser.add_argument("--keep", type=Path, help="folder for the files; default: a temporary one")
    parser.add_argument("--only", default="", help="kinds whose names hold this")
    parser.add_argument("--read", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.read:
        print(json.dumps(asdict(read_kind(options.read, options.keep))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.perf_counter()
        prepare(folder, options.persons, options.tracts)
        print(f"{this_machine()}; files made in {time.perf_counter() - started:.0f} s", flush=True)
        kinds = [what for what in KINDS if options.only in what]
        reads = [in_process_of_its_own(what, folder) for what in kinds]
    print(table(reads))
    over = [read.what for read in reads if read.peak_gb > LIMIT_GB]
    print(f"over {LIMIT_GB:g} GB: {', '.join(over) or 'none'}")
    sys.exit(1 if over else 0)


if __name__ == "__main__":
    main()
