"""The run manifest: what a state's weights were made from, by which code, in how many seconds.

Belongs here: gathering facts from stored tables and from Dagster's own records into one JSON
document. Does not belong here: measures of fit (``pipeline/reports``).

Document (``manifests/<STATE>.json``):

* ``profile, synthetic, state, created`` (UTC), ``seed, specs_sha256, code_sha256, geocal, python,
  platform, packages``;
* ``choices``: what the profile took for the state by the files at hand: ``need, option, costs``
  and ``without``, files that better options lack; ``specs_in_place_of_ours``: files and entries of
  a team's own specs that replace ours;
* ``inputs``: raw files with ``file, member, bytes, sha256`` and the tables read from them;
* ``transcriptions``: sources and vintages that were not read in their publisher's own form, and
  why;
* ``tables``: by asset ``path`` (relative to the profile's folder), ``sha256, rows, bytes, run_id,
  materialized`` (UTC), ``seconds``;
* ``seconds_by_asset, seconds_total, peak_memory_mb``;
* ``bystanders``, added by the asset: what calibration did to every measured variable, told or not
  (``docs/bystanders.md``); ``manifest_code``, added too: digest of the code that writes this.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from pipeline.errors import StoreError
from pipeline.io_manager import read_facts, write_atomic
from pipeline.processor import processor_facts
from pipeline.settings import RunEnvironment
from pipeline.versions import geocal_version, package_versions

PACKAGES = (
    "dagster",
    "polars",
    "numpy",
    "scipy",
    "torch",
    "numba",
    "dataframely",
    "pydantic",
    "fastexcel",
    "altair",
    "vl-convert-python",
)


def latest_record(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None
) -> dg.EventLogRecord | None:
    """Dagster's newest materialisation of an asset (of one partition), or None."""
    selected = dg.AssetRecordsFilter(
        asset_key=key, asset_partitions=[partition] if partition else None
    )
    records = instance.fetch_materializations(selected, limit=1).records
    return records[0] if records else None


def table_entries(
    instance: dg.DagsterInstance, assets: Mapping[dg.AssetKey, bool], state: str
) -> dict[str, dict[str, Any]]:
    """What Dagster recorded of each asset's last materialisation for ``state``.

    assets : asset key -> whether it is partitioned by state. Assets never materialised are left
        out.
    """
    seconds: dict[str, dict[str, float]] = {}
    entries: dict[str, dict[str, Any]] = {}
    for key, partitioned in sorted(assets.items()):
        record = latest_record(instance, key, state if partitioned else None)
        if record is None or record.asset_materialization is None:
            continue
        values = {
            name: value.value
            for name, value in record.asset_materialization.metadata.items()
            if name in _KEPT
        }
        step = record.event_log_entry.step_key
        if record.run_id not in seconds:
            seconds[record.run_id] = {
                s.step_key: s.end_time - s.start_time
                for s in instance.get_run_step_stats(record.run_id)
                if s.start_time and s.end_time
            }
        taken = seconds[record.run_id].get(step or "")
        entries[key.to_user_string()] = {
            "sha256": values.get("sha256"),
            "rows": values.get("dagster/row_count"),
            "bytes": values.get("bytes"),
            "peak_memory_mb": values.get("peak_memory_mb"),
            "run_id": record.run_id,
            "step": step,
            "materialized": (
                datetime.fromtimestamp(record.timestamp, UTC).isoformat(timespec="seconds")
            ),
            "seconds": None if taken is None else round(taken, 3),
        }
    return entries


_KEPT = {"sha256", "dagster/row_count", "bytes", "peak_memory_mb"}


def raw_inputs(
    environment: RunEnvironment, assets: Mapping[dg.AssetKey, bool], state: str
) -> list[dict[str, Any]]:
    """Every raw file behind the stored tables of ``state``, once each, with the tables that were
    read from it.
    """
    files: dict[tuple[str, str], dict[str, Any]] = {}
    for key, partitioned in sorted(assets.items()):
        name = key.to_user_string()
        path = environment.table_path(name, state if partitioned else None)
        if not path.exists():
            continue
        for item in read_facts(path).get("provenance", []):
            entry = files.setdefault((item["file"], item["member"]), {**item, "tables": []})
            entry["tables"].append(name)
    return [files[key] for key in sorted(files)]


def transcriptions(
    environment: RunEnvironment, assets: Mapping[dg.AssetKey, bool], state: str
) -> list[dict[str, str]]:
    """``source, vintage, why`` of every stored table that was made from a transcription, sorted."""
    found: list[dict[str, str]] = []
    for key, partitioned in sorted(assets.items()):
        path = environment.table_path(key.to_user_string(), state if partitioned else None)
        found += read_facts(path).get("transcriptions", []) if path.exists() else []
    return sorted(found, key=lambda entry: (entry["source"], entry["vintage"]))


def build_manifest(
    instance: dg.DagsterInstance,
    environment: RunEnvironment,
    assets: Mapping[dg.AssetKey, bool],
    state: str,
    facts: Mapping[str, Any],
    choices: Sequence[Mapping[str, Any]] = (),
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """The manifest of ``state``; ``facts`` are the run's constants (profile, synthetic, seed,
    digests), ``choices`` what the profile took for the state, ``overrides`` specs of a team's own
    in place of ours.
    """
    tables = table_entries(instance, assets, state)
    for name, entry in tables.items():
        partitioned = assets[dg.AssetKey.from_user_string(name)]
        path = environment.table_path(name, state if partitioned else None)
        entry["path"] = str(path.relative_to(environment.root)) if path.exists() else None
    # Assets that share a step (persons and households of one file) share its seconds: count the
    # step once.
    by_step = {
        (entry["run_id"], entry["step"]): entry["seconds"] or 0.0 for entry in tables.values()
    }
    peaks = [entry["peak_memory_mb"] for entry in tables.values() if entry["peak_memory_mb"]]
    return {
        **facts,
        "state": state,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "geocal": geocal_version(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor_facts(),
        "packages": package_versions(PACKAGES),
        "choices": list(choices),
        "specs_in_place_of_ours": list(overrides),
        "inputs": raw_inputs(environment, assets, state),
        "transcriptions": transcriptions(environment, assets, state),
        "tables": tables,
        "seconds_by_asset": {name: entry["seconds"] for name, entry in tables.items()},
        "seconds_total": round(sum(by_step.values()), 3),
        "peak_memory_mb": max(peaks, default=None),
    }


def write_manifest(environment: RunEnvironment, state: str, manifest: Mapping[str, Any]) -> None:
    """Write ``manifests/<STATE>.json``, replacing the previous one whole."""
    write_atomic(
        environment.manifests / f"{state}.json",
        (json.dumps(manifest, indent=2, sort_keys=False, default=str) + "\n").encode(),
    )


def read_manifest(environment: RunEnvironment, state: str) -> dict[str, Any]:
    """The manifest of ``state``. Raises StoreError if the state has not been run in this profile,
    or the file is damaged.
    """
    path = environment.manifests / f"{state}.json"
    if not path.exists():
        raise StoreError(
            f"State {state} has not been run in profile {environment.profile}",
            where=str(path),
            expected="the manifest of an earlier run",
            remedy=(
                f"Run `geocal run --profile {environment.profile} --states {state}` with the same"
                " --output"
            ),
        )
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        reason = "" if isinstance(manifest, dict) else "it is not a JSON object"
    except (OSError, ValueError) as error:
        manifest, reason = None, str(error)
    if reason:
        raise StoreError(
            f"The manifest of {state} cannot be read: {reason}",
            where=str(path),
            expected="the JSON object that a run writes, whole",
            remedy=(
                f"Run `geocal run --profile {environment.profile} --states {state}` with the same"
                " --output; it writes the manifest anew"
            ),
        )
    return manifest
