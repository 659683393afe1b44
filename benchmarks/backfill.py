"""A backfill of made-up states through daemon, PostgreSQL and workers of Celery, and a second one
after one state's input changed.

    python -m benchmarks.backfill --states 51 --workers 2
    python -m benchmarks.backfill --states 12 --workers 1

prints seconds in all, seconds of work and overhead for each state, memory of each process and
states an hour. Then one income in one state's microdata is changed; ``geocal status`` says what is
stale, ``geocal backfill`` makes that, and the tables of all other states are compared byte by byte.
The figures are SYNTHETIC states' (``generate_state.py``); only the times are real.

Belongs here: the order of events and the figures. Does not belong here: the processes
(``services.py``), or what happens when one is killed (``kills.py``).
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import polars as pl

from benchmarks.generate_state import generate
from benchmarks.generated_folder import PROFILE
from benchmarks.generated_settings import facts, size_of
from benchmarks.machine import this_machine
from benchmarks.services import Launcher, Services, environment_of
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.run_history import PARTITION_TAG
from pipeline.settings import RunEnvironment

_SEED = 20240711
# What a made-up state's person gains: the smallest change that the survey's figures show.
_GAIN = 10


@dataclass(frozen=True)
class Ran:
    """One run: its job, state, result, and when it was launched, began and ended (seconds of the
    epoch); ``work``: seconds of its steps together; ``steps``: how many succeeded."""

    job: str
    state: str
    status: str
    launched: float
    began: float
    ended: float
    work: float
    steps: int


def make_states(folder: Path, states: Sequence[str], tracts: int, pumas: int, pairs: int) -> None:
    """Made-up states of equal size in ``folder``, unless they are there."""
    if (folder / "specs").is_dir():
        return
    sizes = [size_of(postal, tracts=tracts, pumas=pumas, seed=_SEED) for postal in states]
    with (folder.parent / "generated.log").open("a") as log:
        before, sys.stdout = sys.stdout, log
        try:
            generate(sizes, folder, pairs)
        finally:
            sys.stdout = before


def runs_since(instance: dg.DagsterInstance, since: float) -> list[Ran]:
    """Runs that were created after a moment (seconds of the epoch), oldest first."""
    found = []
    for record in reversed(instance.get_run_records()):
        if record.create_timestamp.timestamp() < since:
            continue
        run = record.dagster_run
        stats = instance.get_run_stats(run.run_id)
        steps = instance.get_run_step_stats(run.run_id)
        spans = [s.end_time - s.start_time for s in steps if s.start_time and s.end_time]
        found.append(
            Ran(
                run.job_name,
                run.tags.get(PARTITION_TAG, ""),
                run.status.value,
                getattr(stats, "launch_time", None) or 0.0,
                getattr(stats, "start_time", None) or 0.0,
                getattr(stats, "end_time", None) or 0.0,
                sum(spans),
                len(spans),
            )
        )
    return found


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of every table and manifest below ``root``, by its path."""
    found = {}
    for path in sorted([*root.rglob("*.parquet"), *root.glob("manifests/*.json")]):
        with path.open("rb") as file:
            name = path.relative_to(root).as_posix()
            found[name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def state_of(name: str) -> str:
    """The state whose table or manifest a path is; "" of the nation's."""
    if name.startswith("manifests/"):
        return Path(name).stem
    return name.partition("state=")[2].partition("/")[0]


def change_one_income(data: Path, state: str) -> Path:
    """Give one earner of a state's microdata more, in wages and in total; returns the file."""
    path = data / "acs_pums" / "2022_1yr" / f"csv_p{state.lower()}.zip"
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    for name, content in members.items():
        if not name.endswith(".csv"):
            continue
        frame = pl.read_csv(io.BytesIO(content), infer_schema=False)
        wages = frame["WAGP"].cast(pl.Int64, strict=False).fill_null(0)
        at = pl.int_range(pl.len()) == int((wages > 20_000).arg_max() or 0)
        more = [
            pl.when(at)
            .then((pl.col(c).cast(pl.Int64, strict=False) + _GAIN).cast(pl.String))
            .otherwise(pl.col(c))
            .alias(c)
            for c in ("WAGP", "PERNP", "PINCP")
            if c in frame.columns
        ]
        members[name] = frame.with_columns(more).write_csv().encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def backfill(services: Services, states: Sequence[str], log: Path, *more: str) -> tuple[float, int]:
    """Seconds and exit status of ``geocal backfill`` over ``states``."""
    began = time.perf_counter()
    with log.open("ab") as file:
        process = services.geocal(
            "backfill", "--states", ",".join(states), *more, stdout=file, stderr=subprocess.STDOUT
        )
        status = process.wait()
    return time.perf_counter() - began, status


def stale_states(services: Services) -> tuple[dict[str, str], float]:
    """What ``geocal status`` says is not current, by state or nation, with why; and its seconds."""
    began = time.perf_counter()
    process = services.geocal("status", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    said, wrong = process.communicate()
    if process.returncode:
        raise RuntimeError(wrong.decode())
    rows = json.loads(said)
    found = {r["name"]: f"{r['standing']}: {r['why']}" for r in rows if r["standing"] != "current"}
    return found, time.perf_counter() - began


def report(runs: Sequence[Ran], seconds: float, workers: int) -> None:
    """The figures of one backfill."""
    states = [run for run in runs if run.job == STATES]
    if not states:
        print("no state ran")
        return
    first, last = min(r.launched for r in states), max(r.ended for r in states)
    span, made = last - first, [r for r in states if r.status == "SUCCESS"]
    work = sum(r.work for r in states)
    in_runs = sum(r.ended - r.launched for r in states)
    other = {r.job: r.ended - r.launched for r in runs if r.job != STATES}

    def each(seconds: float) -> str:
        return f"{seconds / len(states):.1f}"

    rows = [
        ("states made, of runs of states", f"{len(made)} of {len(states)}"),
        ("seconds in all, from the command to its end", f"{seconds:.0f}"),
        (f"  {NATIONAL_INPUTS}, {NATIONAL_OUTPUTS}", _both(other)),
        ("  states, from the first launch to the last end", f"{span:.0f}"),
        ("work of a state, seconds of its steps: mean", each(work)),
        ("  least, median, most", _spread([r.work for r in states])),
        ("overhead of a state: workers x span less work", each(workers * span - work)),
        ("  of it within its run, launch to end", each(in_runs - work)),
        ("  of it before the first step", f"{_mean([r.began - r.launched for r in states]):.1f}"),
        ("  of it between runs", each(workers * span - in_runs)),
        ("states an hour", f"{3600 * len(made) / span:.0f}"),
    ]
    for what, figure in rows:
        print(f"  {what:<52} {figure:>20}")


def _both(other: dict[str, float]) -> str:
    return ", ".join(f"{other[j]:.0f}" for j in (NATIONAL_INPUTS, NATIONAL_OUTPUTS) if j in other)


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else 0.0


def _spread(values: Sequence[float]) -> str:
    return f"{min(values):.1f}, {statistics.median(values):.1f}, {max(values):.1f}"


def changed_input(services: Services, instance: dg.DagsterInstance, state: str, log: Path) -> bool:
    """Change one state's microdata, make what is stale, compare; whether all is as it must be."""
    root = services.environment.root
    before, (stale, _) = digests(root), stale_states(services)
    print(f"\nBefore the change {len(stale)} of all are not current: {stale or 'none'}")
    path = change_one_income(services.environment.data, state)
    stale, took = stale_states(services)
    print(f"One income in {path.name} changed. `geocal status` ({took:.0f} s) then names:")
    for name, why in stale.items():
        print(f"  {name}: {why}")
    asked, began = [name for name in stale if name != "nation"], time.time()
    seconds, status = backfill(services, asked, log)
    runs = runs_since(instance, began)
    print(f"`geocal backfill --states {','.join(asked)}`: {seconds:.0f} s, exit status {status}")
    for run in runs:
        print(f"  ran {run.job} {run.state}: {run.steps} steps, {run.ended - run.launched:.0f} s")
    after = digests(root)
    moved = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    others = sorted({state_of(name) for name in moved} - {state, ""})
    kept = {state_of(name) for name in before} - {"", state} - set(others)
    own = sum(state_of(name) == state for name in moved)
    print(
        f"Files that changed: {own} of {state}, {sum(not state_of(n) for n in moved)} of the nation"
    )
    print(f"States whose files all keep their bytes: {len(kept)}; whose do not: {others or 'none'}")
    left, _ = stale_states(services)
    print(f"Not current afterwards: {left or 'none'}")
    return not status and not others and asked == [state] and not left


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backfill", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--states", type=int, default=51, help="how many, by their codes")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--launcher", choices=("celery", "processes"), default="celery")
    parser.add_argument("--tracts", type=int, default=16, help="of each state")
    parser.add_argument("--pumas", type=int, default=2, help="of each state")
    parser.add_argument("--pairs", type=int, default=40, help="pairs per tract")
    parser.add_argument("--change", default="RI", help="the state whose input changes; '' for none")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    parser.add_argument("--data", type=Path, help="made-up states of an earlier call, copied")
    parser.add_argument("--redis", type=int, default=5, help="first of two numbers of Redis")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="geocal_backfill_") as temporary:
        return _measured(asked, asked.folder or Path(temporary))


def _measured(asked: argparse.Namespace, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    launcher: Launcher = asked.launcher
    data = folder / "data"
    if asked.data is not None and not data.is_dir():
        shutil.copytree(asked.data, data)
    # The state whose input changes is among them.
    known = list(dict.fromkeys([*([asked.change] if asked.change else []), *facts().states]))
    states = sorted(known[: asked.states])
    make_states(data, states, asked.tracts, asked.pumas, asked.pairs)
    environment = RunEnvironment(PROFILE, data, folder / "output")
    services = Services(
        environment,
        folder / f"services_{int(time.time())}",
        asked.workers,
        launcher,
        asked.threads,
        asked.redis,
        specs=data / "specs",
    )
    print(f"{len(states)} SYNTHETIC states of {asked.tracts} tracts; {this_machine()}")
    words = {"celery": "workers of Celery", "processes": "processes at a time"}[launcher]
    print(f"PostgreSQL, {asked.workers} {words}, {asked.threads} threads each\n", flush=True)
    with (
        services.running(),
        environment_of(services.variables),
        dg.DagsterInstance.from_config(str(services.home)) as instance,
    ):
        log, began = folder / "backfill.log", time.time()
        seconds, status = backfill(services, states, log)
        report(runs_since(instance, began), seconds, asked.workers)
        print(f"  {'exit status of geocal backfill':<52} {status:>20}\n")
        print("  largest memory of each process, MiB")
        for role, size in sorted(services.peaks.items()):
            print(f"  {role:<52} {size:>20,.0f}", flush=True)
        good = status == 0
        if asked.change:
            good &= changed_input(services, instance, asked.change, log)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
