"""What may be removed below a profile's folder: neither current nor released.

Three things and no other: releases beyond the newest, unless ``latest`` or a pin names them; files
and folders under temporary names that a killed process left; Dagster's record of runs that ended
long ago and made no table that is stored now. Tables themselves are never removed.

Belongs here: finding these, and removing them. Does not belong here: how releases are stored
(``store.py``).
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg

from pipeline.release.contents import Place
from pipeline.release.recorded import recorded_runs
from pipeline.release.store import MAKING, ReleaseStore
from pipeline.settings import RunEnvironment

KEEP = 5
HISTORY_DAYS = 90
TEMPORARY_HOURS = 1.0
"""Writing one table takes seconds, and a release minutes; what is older was left behind."""

RELEASE, TEMPORARY, HISTORY = KINDS = ("release", "temporary file", "run history")

# What `write_atomic` and the generator of the sample write before they rename it.
_TEMPORARY = re.compile(r"\..+\.([0-9a-f]{32}\.tmp|[0-9]+\.part)")
_PER_HOUR = 3600
_BATCH = 200


@dataclass(frozen=True)
class Removable:
    """One thing that may be removed: of which kind, what, why, how large; ``place``: a file or
    folder, None for a run.
    """

    kind: str
    name: str
    why: str
    bytes: int
    place: Place | None = None


@dataclass(frozen=True)
class Rules:
    """``keep`` newest releases; ``history_days``: how long runs are kept; ``temporary_hours``: how
    old a temporary file is before it counts as left behind.
    """

    keep: int = KEEP
    history_days: int = HISTORY_DAYS
    temporary_hours: float = TEMPORARY_HOURS


def removable(environment: RunEnvironment, store: ReleaseStore, rules: Rules) -> list[Removable]:
    """Everything that may go, releases first; nothing is changed."""
    found = [*_releases(store, rules), *_temporary(environment, store, rules)]
    with recorded_runs(environment) as instance:
        if instance is not None:
            found += _runs(environment, instance, rules)
    return found


def remove(environment: RunEnvironment, store: ReleaseStore, found: list[Removable]) -> int:
    """Remove what ``removable`` found; the bytes that are free then. What became ``latest`` or
    pinned meanwhile stays. Raises StoreError while a release is written.
    """
    freed = 0
    with store.one_writer() if store.folder.exists() else contextlib.nullcontext():
        held = {store.latest(), *store.pins().values()}
        for each in found:
            if each.kind == RELEASE and each.name not in held:
                store.remove(each.name)
                freed += each.bytes
            elif each.kind == TEMPORARY and each.place is not None:
                _unlink(each.place)
                freed += each.bytes
    runs = [each for each in found if each.kind == HISTORY]
    if runs:
        with recorded_runs(environment) as instance:
            for each in runs if instance is not None else ():
                _remove_run(environment, instance, each.name)
                freed += each.bytes
    return freed


def _releases(store: ReleaseStore, rules: Rules) -> Iterator[Removable]:
    releases = store.all()
    held = {store.latest(), *store.pins().values()}
    newest = {each.id for each in releases[-rules.keep :]} if rules.keep else set()
    for each in releases:
        if each.id not in held | newest:
            made = str(each.document["created"])[:10]
            why = f"of {made}, neither latest nor pinned nor among the newest {rules.keep}"
            yield Removable(RELEASE, each.id, why, each.bytes, each.folder)


def _temporary(
    environment: RunEnvironment, store: ReleaseStore, rules: Rules
) -> Iterator[Removable]:
    before = time.time() - rules.temporary_hours * _PER_HOUR
    why = f"left by a process that was killed more than {rules.temporary_hours:g} h ago"
    folders = {environment.root} if isinstance(environment.root, Path) else set()
    if store.on_disk and not Path(str(store.folder)).is_relative_to(environment.root):
        folders.add(Path(str(store.folder)))
    for folder in sorted(folders):
        for path in sorted(_left_behind(folder, environment.dagster_home)):
            with contextlib.suppress(FileNotFoundError):
                if path.lstat().st_mtime < before:
                    yield Removable(TEMPORARY, str(path), why, _size(path), path)


def _left_behind(folder: Path, besides: Path) -> Iterator[Path]:
    """Temporary files and unfinished releases below ``folder``; what lies in one is not named."""
    if not folder.is_dir():
        return
    for path in folder.iterdir():
        if path.name.startswith(MAKING) or (path.is_file() and _TEMPORARY.fullmatch(path.name)):
            yield path
        elif path.is_dir() and not path.is_symlink() and path != besides:
            yield from _left_behind(path, besides)


def _runs(
    environment: RunEnvironment, instance: dg.DagsterInstance, rules: Rules
) -> Iterator[Removable]:
    before = datetime.now(UTC) - timedelta(days=rules.history_days)
    ended = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    records = instance.get_run_records(dg.RunsFilter(statuses=ended, created_before=before))
    if not records:
        return
    kept = _runs_of_manifests(environment) | _runs_of_tables(instance)
    for record in records:
        run = record.dagster_run
        if run.run_id not in kept:
            day = record.create_timestamp.date().isoformat()
            why = f"{run.job_name}, {run.status.value.lower()}, of {day}; no table of it is stored"
            size = sum(_size(path) for path in _files_of(environment, run.run_id))
            yield Removable(HISTORY, run.run_id, why, size)


def _runs_of_manifests(environment: RunEnvironment) -> set[str]:
    """Runs that the manifests of the states name: records of what is stored now."""
    found: set[str] = set()
    for path in sorted(environment.manifests.glob("*.json")):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            tables = json.loads(path.read_bytes()).get("tables", {})
            found |= {entry.get("run_id") for entry in tables.values()}
    return found - {None}


def _runs_of_tables(instance: dg.DagsterInstance) -> set[str]:
    """Runs of the newest materialisation of each asset, and of each of its partitions."""
    found: set[str] = set()
    for key in instance.all_asset_keys():
        found |= {r.run_id for r in instance.fetch_materializations(key, limit=1).records}
        newest = instance.get_latest_storage_id_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION
        )
        ids = sorted(newest.values())
        for start in range(0, len(ids), _BATCH):
            chosen = dg.AssetRecordsFilter(asset_key=key, storage_ids=ids[start : start + _BATCH])
            made = instance.fetch_materializations(chosen, limit=_BATCH).records
            found |= {record.run_id for record in made}
    return found


def _files_of(environment: RunEnvironment, run_id: str) -> list[Path]:
    """What Dagster keeps of a run in files of its own: events (SQLite) and caught output."""
    home = environment.dagster_home
    places = [home / "history" / "runs" / f"{run_id}.db", home / "storage" / run_id]
    return [place for place in places if place.exists()]


def _remove_run(environment: RunEnvironment, instance: Any, run_id: str) -> None:
    instance.delete_run(run_id)
    for place in _files_of(environment, run_id):
        _unlink(place)


def _unlink(place: Place) -> None:
    path = Path(str(place))
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(p.lstat().st_size for p in path.rglob("*") if p.is_file())
    return path.lstat().st_size
