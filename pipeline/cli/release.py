"""The commands ``geocal release``, ``releases``, ``diff`` and ``clean``.

Belongs here: what their options ask for, what is said, and the exit status. Does not belong here:
options as they are declared (``release_commands.py``), or the work (``pipeline/release``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli import FAILED
from pipeline.cli.progress import Waiting
from pipeline.cli.terminal import Terminal
from pipeline.errors import StoreError

if TYPE_CHECKING:
    from pipeline.release.contents import TableSet
    from pipeline.release.make import Made
    from pipeline.release.store import ReleaseStore
    from pipeline.settings import RunEnvironment
    from pipeline.specs.profiles import Profile

CURRENT = "current"
_REFUSALS = 20


@dataclass(frozen=True)
class ReleaseOptions:
    """The options of ``geocal release`` as they were given."""

    profile: str | None
    states: str | None
    output: Path | None
    to: str | None
    partial: bool
    pin: str | None
    approvals: Path | None
    gate: Path | None
    dry_run: bool
    as_json: bool


def make(terminal: Terminal, wanted: ReleaseOptions) -> int:
    """Make a release, or say why not; returns the exit status."""
    with Waiting(terminal, "reading the specifications") as waiting:
        environment, profile = _asked(wanted.profile, wanted.output)
        from pipeline.partitions import parse_states
        from pipeline.release.make import Wish, make_release
        from pipeline.specs.release_gate import GATE_FILE, load_approvals, load_gate

        wish = Wish(
            tuple(parse_states(wanted.states, profile.states, profile.id)),
            load_gate(wanted.gate or GATE_FILE),
            load_approvals(wanted.approvals),
            wanted.partial,
            wanted.pin,
            wanted.dry_run,
        )
        made = make_release(environment, profile, store_of(environment, wanted.to), wish, waiting)
    if wanted.as_json:
        terminal.text(json.dumps(_document(made), indent=2))
    else:
        _say(terminal, made, wanted.dry_run)
    return FAILED if made.verdict.refused else 0


def _document(made: Made) -> dict[str, Any]:
    from pipeline.release.certificate import certificate

    release, found = made.release, made.gathered
    return {
        "release": release.id if release else None,
        "folder": str(release.folder) if release else None,
        "new": made.new,
        "before": made.before.id if made.before else None,
        "states": list(found.tables.states),
        "states_missing": list(found.absent),
        "left_out": found.left_out,
        "gate": made.verdict.document(),
        "certificate": certificate(found.checks),
    }


def _say(terminal: Terminal, made: Made, dry_run: bool) -> None:
    from pipeline.release.certificate import certificate
    from pipeline.release.show_diff import verdict_lines

    found = made.gathered
    checks = certificate(found.checks)
    for place, why in found.left_out.items():
        terminal.error(f"Left out, {place}: {why}")
    if found.absent:
        terminal.note(f"Not run, so not in it: {', '.join(found.absent)}")
    compared = f"compared with {made.before.id}" if made.before else "nothing to compare with"
    terminal.note(
        f"{len(found.tables.states)} states, {checks['passed']} of {len(found.checks)} checks pass;"
        f" {compared}."
    )
    recomputed = {c.name for c in found.checks if c.how == "recomputed"}
    for name in checks["failed"]:
        # A run's own record of a check that was made anew says nothing more.
        if name.split()[0].partition(".")[2] in recomputed:
            continue
        terminal.result(f"Note: check {name} fails, which blocks nothing", markup=False)
    for name in checks["not_told"]:
        terminal.detail(f"check {name} could not be told", markup=False)
    limit = None if terminal.verbose else _REFUSALS
    for line in verdict_lines(made.verdict, limit):
        say = terminal.error if line.startswith("REFUSED") else terminal.result
        say(line, **({} if line.startswith("REFUSED") else {"markup": False}))
    if made.verdict.refused:
        terminal.error(_what_to_do(made))
    elif made.release is None:
        terminal.result("The gate lets it pass; nothing was written (--dry-run).")
    elif dry_run or not made.new:
        terminal.result(f"Release {made.release.id} has this content already; it is latest now.")
        terminal.note(str(made.release.folder), markup=False)
    else:
        terminal.result(f"Release {made.release.id}, {made.release.bytes / 1e6:,.1f} MB")
        terminal.note(str(made.release.folder), markup=False)


def _what_to_do(made: Made) -> str:
    return str(
        StoreError(
            f"The release is refused: {len(made.verdict.refused)} changes are too large, and"
            " nobody approved them",
            where=str(made.gathered.tables.root),
            expected="changes within data_specs/release_gate.yaml, or approved in a file",
            remedy=(
                "`geocal diff latest current` shows all that moved. If it is right, write what is"
                " approved, why, by whom and until when into a YAML file and pass it with"
                " --approvals (docs/releases.md)"
            ),
        )
    )


def show(
    terminal: Terminal,
    profile: str | None,
    output: Path | None,
    to: str | None,
    verify: bool,
    as_json: bool,
) -> int:
    """List the releases; with ``verify`` read every file of each. Returns the exit status."""
    environment, _ = _asked(profile, output)
    from pipeline.release.show_diff import print_releases

    store = store_of(environment, to)
    releases, latest, pins = store.all(), store.latest(), store.pins()
    with Waiting(terminal, "reading every file"):
        damaged = {each.id: each.damaged() for each in releases} if verify else {}
    if as_json:
        rows = [
            {
                **{k: v for k, v in each.document.items() if k not in ("files", "gate")},
                "bytes": each.bytes,
                "latest": each.id == latest,
                "pins": [name for name, held in pins.items() if held == each.id],
                **({"damaged": damaged[each.id]} if verify else {}),
            }
            for each in releases
        ]
        terminal.text(json.dumps(rows, indent=2))
    elif not releases:
        terminal.result(f"No release in {store.folder}", markup=False)
    else:
        print_releases(releases, latest, pins, terminal)
    for name, paths in damaged.items():
        for path in paths:
            terminal.error(f"Release {name} is damaged: {path}")
    return FAILED if any(damaged.values()) else 0


def diff(
    terminal: Terminal,
    a: str,
    b: str,
    profile: str | None,
    output: Path | None,
    to: str | None,
    threshold: float | None,
    as_json: bool,
) -> None:
    """Compare two releases, folders, or the working output."""
    with Waiting(terminal, "reading two results"):
        environment, loaded = _asked(profile, output)
        from pipeline.release.diff import THRESHOLD, compare, document
        from pipeline.release.show_diff import print_difference

        store = store_of(environment, to)
        first, second = (_tables(name, environment, loaded, store) for name in (a, b))
        found = compare(first, second, THRESHOLD if threshold is None else threshold / 100)
    if as_json:
        terminal.text(json.dumps(document(found), indent=2))
    else:
        print_difference(found, terminal, every=terminal.verbose)


def _tables(
    name: str, environment: RunEnvironment, profile: Profile, store: ReleaseStore
) -> TableSet:
    from pipeline.release.contents import working_output
    from pipeline.release.store import DOCUMENT, ReleaseStore, place_of

    if name == CURRENT:
        return working_output(environment, tuple(profile.states))
    if "/" in name or name.startswith("."):
        folder = place_of(name)
        if (folder / DOCUMENT).exists():
            return ReleaseStore(folder.parent).load(folder.name).tables
        return _folder(folder)
    return store.find(name).tables


def _folder(folder: Any) -> TableSet:
    """A profile's folder below any output, such as ``output/rhode_island``."""
    from pipeline.release.contents import TableSet
    from pipeline.vocabulary import WEIGHTS

    weights = folder / WEIGHTS
    found = sorted(p.name for p in weights.iterdir()) if weights.exists() else []
    states = tuple(name.removeprefix("state=") for name in found if name.startswith("state="))
    if not states:
        raise StoreError(
            "The folder holds no weights of a state",
            where=str(folder),
            expected="a release, or the folder of a profile below an output",
            remedy=f"Name a release (`geocal releases`), such a folder, or {CURRENT}",
        )
    return TableSet(str(folder), folder, states)


def store_of(environment: RunEnvironment, to: str | None) -> ReleaseStore:
    """The folder of releases: ``to``, or ``releases`` in the profile's folder."""
    from pipeline.release.store import RELEASES, ReleaseStore, place_of

    return ReleaseStore(place_of(to) if to else environment.root / RELEASES)


def _asked(profile: str | None, output: Path | None) -> tuple[RunEnvironment, Profile]:
    from pipeline.settings import run_environment
    from pipeline.specs import catalog

    environment = run_environment(profile, None, output)
    return environment, catalog.load_catalog().profile(environment.profile)


def clean(
    terminal: Terminal,
    profile: str | None,
    output: Path | None,
    to: str | None,
    keep: int,
    history_days: int,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Remove what is neither current nor released, or say what would be."""
    with Waiting(terminal, "looking for what may be removed") as waiting:
        environment, _ = _asked(profile, output)
        from pipeline.release.retention import KINDS, Rules, removable, remove

        store = store_of(environment, to)
        found = removable(environment, store, Rules(keep, history_days))
        if not dry_run and found:
            waiting("removing")
            remove(environment, store, found)
    if as_json:
        rows = [{k: v for k, v in each.__dict__.items() if k != "place"} for each in found]
        terminal.text(json.dumps({"removed": not dry_run, "found": rows}, indent=2))
        return
    for each in found:
        say = terminal.detail if each.kind == KINDS[-1] else terminal.result
        say(f"{each.kind} {each.name}: {each.why}, {each.bytes / 1e6:,.2f} MB", markup=False)
    said = "Would free" if dry_run else "Freed"
    counts = {kind: sum(each.kind == kind for each in found) for kind in KINDS}
    listed = ", ".join(f"{count:,} x {kind}" for kind, count in counts.items() if count)
    freed = sum(each.bytes for each in found) / 1e6
    words = f"{said} {freed:,.1f} MB: {listed}." if found else "There is nothing to remove."
    terminal.result(words, markup=False)
