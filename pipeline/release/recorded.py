"""What Dagster recorded of checks in the runs that made the released tables.

A check's newest record may be of another run, or of another state: records are taken from the very
run that the manifest names for a table, and of nothing else.

Belongs here: reading those records. Does not belong here: checks that tables can tell
(``certificate.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from pipeline.manifest import latest_record
from pipeline.release.certificate import RECORDED, Check
from pipeline.release.contents import NATIONAL_TABLES
from pipeline.settings import RunEnvironment

CONVERGED = "converged"


@contextlib.contextmanager
def recorded_runs(environment: RunEnvironment) -> Iterator[dg.DagsterInstance | None]:
    """The profile's Dagster instance, as it stands; None where there is none."""
    home = environment.dagster_home
    if not (home / "dagster.yaml").exists():
        yield None
        return
    with dg.DagsterInstance.from_config(str(home)) as instance:
        yield instance


def recorded_checks(
    instance: dg.DagsterInstance | None, state: str, manifest: Mapping[str, Any]
) -> list[Check]:
    """Checks of the runs that made the tables of a state, by its manifest; those of tables that
    all states share have no state. Whether the solver converged is always among them, if only as
    not told.
    """
    tables = manifest.get("tables", {})
    own, shared = dict[str, str](), dict[str, str]()
    for asset, entry in tables.items():
        of_the_state = f"state={state}" in (entry.get("path") or "")
        (own if of_the_state else shared)[asset] = entry.get("run_id") or ""
    found = [*_of_runs(instance, "", shared), *_of_runs(instance, state, own)]
    if not any(check.name.endswith(f".{CONVERGED}") for check in found):
        words = "Dagster has no record of the run that made the weights."
        found.append(Check(f"weights.{CONVERGED}", state, None, True, RECORDED, words))
    return found


def national_checks(instance: dg.DagsterInstance | None, digests: Mapping[str, str]) -> list[Check]:
    """Checks of the runs that made the national tables; ``digests``: by table, as stored now."""
    run_of = {}
    for asset in NATIONAL_TABLES if instance is not None else ():
        record = latest_record(instance, dg.AssetKey(asset), None) if instance else None
        made = record.asset_materialization if record is not None else None
        value = made.metadata.get("sha256") if made is not None else None
        if record is not None and value is not None and value.value == digests.get(asset):
            run_of[asset] = record.run_id
    return _of_runs(instance, "", run_of)


def _of_runs(
    instance: dg.DagsterInstance | None, state: str, run_of: Mapping[str, str]
) -> list[Check]:
    if instance is None:
        return []
    found: dict[str, Check] = {}
    for run_id in sorted(set(filter(None, run_of.values()))):
        records = instance.get_records_for_run(
            run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        ).records
        for record in records:
            event = record.event_log_entry.dagster_event
            said = event.asset_check_evaluation_data if event is not None else None
            if said is None:
                continue
            asset = said.asset_key.to_user_string()
            # In some versions of Dagster a check knows its partition.
            partition = getattr(said, "partition", None)
            of_another = state and partition and partition != state
            if run_of.get(asset) == run_id and not of_another:
                found[f"{asset}.{said.check_name}"] = _check(asset, state, said)
    return [found[name] for name in sorted(found)]


def _check(asset: str, state: str, said: Any) -> Check:
    numbers = {
        name: value.value
        for name, value in said.metadata.items()
        if isinstance(value.value, int | float | str) and len(str(value.value)) < 200
    }
    return Check(
        name=f"{asset}.{said.check_name}",
        state=state,
        passed=bool(said.passed),
        blocking=said.severity is dg.AssetCheckSeverity.ERROR,
        how=RECORDED,
        words=said.description or "As the run recorded it.",
        numbers=numbers,
    )
