"""Making a release: gather what belongs together, check it, compare it with the last one, store it.

Nothing is written before everything is known: a refused release changes nothing.

Belongs here: the order of these steps, and what they refuse. Does not belong here: any one of them
(``belonging.py``, ``certificate.py``, ``diff.py``, ``gate.py``, ``store.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pipeline.errors import StoreError
from pipeline.io_manager import file_digest
from pipeline.manifest import read_manifest
from pipeline.release import certificate as checked
from pipeline.release.belonging import Belonging, Mismatch
from pipeline.release.certificate import Check
from pipeline.release.contents import (
    CERTIFICATE,
    CODEBOOK,
    NATIONAL_TABLES,
    STATE_TABLES,
    Place,
    TableSet,
    as_json,
    codebook_document,
    manifest_path,
    relative_path,
    working_output,
)
from pipeline.release.diff import Difference, compare
from pipeline.release.figures import figures
from pipeline.release.gate import Verdict, judge
from pipeline.release.recorded import national_checks, recorded_checks, recorded_runs
from pipeline.release.store import Release, ReleaseStore, content_id
from pipeline.settings import RunEnvironment
from pipeline.specs.profiles import Profile
from pipeline.specs.release_gate import Approval, ReleaseGate
from pipeline.versions import geocal_version

NATION = "nation"
_NAMED = 6


@dataclass(frozen=True)
class Wish:
    """What is asked for: the states, whether those that do not belong may be left out
    (``partial``), thresholds and approvals, the name to pin the release under, and whether only to
    judge (``dry_run``).
    """

    states: tuple[str, ...]
    gate: ReleaseGate
    approvals: tuple[Approval, ...] = ()
    partial: bool = False
    pin: str | None = None
    dry_run: bool = False


@dataclass(frozen=True)
class Gathered:
    """What would be released.

    ``tables``: of the states that belong; ``nation``: whether the national tables do; ``absent``:
    states of the profile without a result; ``left_out``: what was left out, with the reason;
    ``checks``: the certificate; ``digests``: SHA-256 of each table as it was checked, by path.
    """

    tables: TableSet
    nation: bool
    absent: tuple[str, ...]
    left_out: dict[str, str]
    checks: list[Check]
    digests: dict[str, str]


@dataclass(frozen=True)
class Made:
    """The outcome: ``release`` is None where the gate refused; ``new`` is false where the same
    content was released before; ``before`` is the release compared with.
    """

    release: Release | None
    new: bool
    before: Release | None
    gathered: Gathered
    difference: Difference | None
    verdict: Verdict


Say = Callable[[str], None]


def make_release(
    environment: RunEnvironment, profile: Profile, store: ReleaseStore, wish: Wish, say: Say
) -> Made:
    """Release the stored result.

    Raises StoreError where tables do not belong to each other, a blocking check fails, or
    ``latest`` is of another profile; nothing is changed then, nor where the gate refuses.
    """
    before = _latest(store, environment.profile)
    found = gather(environment, profile, wish, say)
    say("comparing with the last release")
    now = datetime.now(UTC)
    difference = compare(before.tables, found.tables) if before is not None else None
    totals = (
        difference.totals
        if difference is not None and not difference.states_new
        else figures(found.tables).rename({"figure": "b"})
    )
    verdict = judge(wish.gate, totals, difference, wish.approvals, now.date())
    if verdict.refused or wish.dry_run:
        return Made(None, False, before, found, difference, verdict)
    say("writing the release")
    with store.one_writer():
        _require_still(store, before)
        content = _Content(found)
        if wish.pin is not None:
            store.require_name(wish.pin, content.id)
        release, new = _stored(environment, profile, store, content, verdict, before, now)
        if wish.pin is not None:
            store.pin(wish.pin, release.id)
        if before is None or before.id != release.id:
            store.point(release.id)
    return Made(release, new, before, found, difference, verdict)


def _latest(store: ReleaseStore, profile: str) -> Release | None:
    name = store.latest()
    if name is None:
        return None
    latest = store.load(name)
    if latest.document["profile"] != profile:
        raise StoreError(
            f"The folder holds releases of profile {latest.document['profile']}",
            where=str(store.folder),
            expected=f"releases of profile {profile}, or none",
            remedy="Name another folder with --to, one for each profile",
        )
    return latest


def _require_still(store: ReleaseStore, before: Release | None) -> None:
    """Another may have released since the comparison, which would then go unjudged."""
    if store.latest() != (before.id if before is not None else None):
        raise StoreError(
            f"Another release was made meanwhile: latest is {store.latest()}",
            where=str(store.folder),
            expected=f"{before.id if before is not None else 'none'}, which this was compared with",
            remedy="Release again: it is then compared with the new one",
        )


def gather(environment: RunEnvironment, profile: Profile, wish: Wish, say: Say) -> Gathered:
    """The states and national tables that belong together, with their certificate.

    Raises StoreError where something does not belong and ``wish.partial`` does not allow to leave
    it out, where no state is left, or where a blocking check of what is left fails.
    """
    belonging = Belonging(environment)
    there = working_output(environment, wish.states).states
    absent = tuple(s for s in profile.states if s in wish.states and s not in there)
    left_out: dict[str, str] = {}
    kept = []
    for state in there:
        say(f"checking what the tables of {state} were made from")
        wrong = belonging.of_state(state)
        if not wrong:
            kept.append(state)
        elif not wish.partial:
            raise _not_belonging(environment, f"The tables of {state}", wrong, state)
        else:
            left_out[state] = _words(wrong)
    if not kept:
        raise _nothing(environment, absent, left_out)
    nation = _nation_belongs(environment, belonging, kept, wish.partial, left_out)
    tables = TableSet(f"the output of {environment.profile}", environment.root, tuple(kept))
    checks = _checks(environment, tables, nation, belonging, say)
    _refuse_failing(environment, checks)
    digests = {
        relative_path(asset, state): belonging.file_digest(f"{asset}[{state}]")
        for state in kept
        for asset in STATE_TABLES
    } | {relative_path(name): belonging.file_digest(name) for name in NATIONAL_TABLES if nation}
    return Gathered(tables, nation, absent, left_out, checks, digests)


def _nation_belongs(
    environment: RunEnvironment,
    belonging: Belonging,
    kept: Sequence[str],
    partial: bool,
    left_out: dict[str, str],
) -> bool:
    wrong = belonging.of_nation(kept)
    if wrong and not partial:
        raise _not_belonging(environment, "The national tables", wrong, None)
    if wrong:
        left_out[NATION] = _words(wrong)
    return not wrong


def _checks(
    environment: RunEnvironment, tables: TableSet, nation: bool, belonging: Belonging, say: Say
) -> list[Check]:
    manifests = {state: read_manifest(environment, state) for state in tables.states}
    checks = [checked.of_one_making(manifests)]
    with recorded_runs(environment) as instance:
        for state, manifest in manifests.items():
            say(f"checking the figures of {state}")
            checks += checked.checks_of_state(tables, state)
            checks += recorded_checks(instance, state, manifest)
        if nation:
            checks += checked.checks_of_nation(tables)
            digests = {name: belonging.digest(name) for name in NATIONAL_TABLES}
            checks += national_checks(instance, digests)
    return checked.once(checks)


def _refuse_failing(environment: RunEnvironment, checks: Iterable[Check]) -> None:
    failing = list(checked.refusing(checks))
    if not failing:
        return
    said = "; ".join(f"{c.name} {c.state}".strip() + f": {c.words}" for c in failing[:_NAMED])
    raise StoreError(
        f"{len(failing)} checks fail that block a release: {said}",
        where=str(environment.root),
        expected="no failing check that blocks",
        remedy="Run the states named again, or find out why; `geocal show STATE` says more",
    )


class _Content:
    """What a release is named after: tables as they were checked, and the codebook."""

    def __init__(self, found: Gathered) -> None:
        self.found = found
        self.codebook = as_json(codebook_document())
        self.digests = {CODEBOOK: file_digest(self.codebook), **found.digests}
        self.id = content_id(self.digests)


def _stored(
    environment: RunEnvironment,
    profile: Profile,
    store: ReleaseStore,
    content: _Content,
    verdict: Verdict,
    before: Release | None,
    now: datetime,
) -> tuple[Release, bool]:
    if content.id in store.ids():
        return _same(store.load(content.id)), False
    found, digests = content.found, content.digests
    files: dict[str, Place | bytes] = {path: environment.root / path for path in found.digests}
    files |= {CODEBOOK: content.codebook, CERTIFICATE: as_json(checked.certificate(found.checks))}
    for state in found.tables.states:
        files[manifest_path(state)] = (environment.manifests / f"{state}.json").read_bytes()
    entries = [_entry(path, files[path], digests.get(path)) for path in sorted(files)]
    manifests = {s: read_manifest(environment, s) for s in found.tables.states}
    document = {
        "id": content.id,
        "profile": environment.profile,
        "title": profile.title,
        "synthetic": profile.synthetic,
        "target_year": profile.target_year,
        "created": now.isoformat(timespec="microseconds"),
        "states": list(found.tables.states),
        "states_missing": list(found.absent),
        "left_out": found.left_out,
        "national_tables": found.nation,
        "parents": [before.id] if before is not None else [],
        "versions": _versions(manifests),
        "gate": verdict.document(),
        "files": entries,
    }
    return store.write(files, document), True


def _same(release: Release) -> Release:
    """A release of the same content, which must be whole. Raises StoreError if it is damaged."""
    damaged = release.damaged()
    if damaged:
        raise StoreError(
            f"The same content was released before, and {', '.join(damaged[:_NAMED])} of it is"
            " damaged",
            where=str(release.folder),
            expected="the files that its release.json lists",
            remedy="Restore them from a copy, or remove the release's folder and release again",
        )
    return release


def _entry(path: str, source: Place | bytes, digest: str | None) -> dict[str, Any]:
    """A file as release.json lists it, with the digest it was checked with, where it was."""
    if isinstance(source, bytes):
        return {"path": path, "bytes": len(source), "sha256": digest or file_digest(source)}
    return {"path": path, "bytes": source.stat().st_size, "sha256": digest}


def _versions(manifests: dict[str, dict[str, Any]]) -> dict[str, Any]:
    names = ("geocal", "code_sha256", "specs_sha256", "seed", "python")
    made = {
        name: sorted({str(manifest[name]) for manifest in manifests.values() if name in manifest})
        for name in names
    }
    packages: dict[str, set[str]] = {}
    for manifest in manifests.values():
        for name, version in manifest.get("packages", {}).items():
            packages.setdefault(name, set()).add(version)
    return {
        **made,
        "packages": {name: sorted(found) for name, found in sorted(packages.items())},
        "released_by": geocal_version(),
    }


def _words(wrong: Sequence[Mismatch]) -> str:
    said = "; ".join(m.words() for m in wrong[:_NAMED])
    return said + (f"; {len(wrong) - _NAMED} more" if len(wrong) > _NAMED else "")


def _not_belonging(
    environment: RunEnvironment, what: str, wrong: Sequence[Mismatch], state: str | None
) -> StoreError:
    states = f" --states {state}" if state else ""
    return StoreError(
        f"{what} do not belong together: {_words(wrong)}",
        where=str(environment.root),
        expected="tables that were made from the files stored now, each by its SHA-256",
        remedy=(
            f"Run `geocal run --profile {environment.profile}{states}` with the same --output, or"
            " release with --partial, which leaves them out and names them"
        ),
    )


def _nothing(
    environment: RunEnvironment, absent: Sequence[str], left_out: dict[str, str]
) -> StoreError:
    said = [f"{', '.join(absent)} not run"] if absent else []
    said += [f"{state}: {why}" for state, why in left_out.items()]
    return StoreError(
        f"There is nothing to release ({'; '.join(said)})",
        where=str(environment.root),
        expected="at least one state with a whole result",
        remedy=f"Run `geocal run --profile {environment.profile}` with the same --output",
    )
