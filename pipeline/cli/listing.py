"""The commands ``geocal profiles`` and ``geocal show``.

Belongs here: the table of profiles, and showing a state's document. Does not belong here: what a
profile is (``specs/profiles.py``) or what a result says (``reports/show.py``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from calibration_core.errors import GeocalError
from pipeline.cli.asked import one_state
from pipeline.cli.progress import Waiting
from pipeline.cli.terminal import Terminal
from pipeline.errors import ProfileError, SpecError
from pipeline.partitions import order_states
from pipeline.settings import run_environment
from pipeline.specs import catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.states import STATES

# Below this many columns six columns fold their words to bits.
NARROW = 100


def list_profiles(terminal: Terminal, as_json: bool) -> None:
    """Every profile, a faulty one with its reason; the others work all the same."""
    profiles = catalog.load_catalog().profiles
    found: dict[str, Profile | GeocalError] = {}
    for name in profiles:
        try:
            found[name] = profiles[name]
        except (SpecError, ProfileError) as error:
            found[name] = error
    if as_json:
        terminal.text(json.dumps([_row(name, item) for name, item in found.items()], indent=2))
        return
    _print(terminal, found)
    for name, item in found.items():
        if isinstance(item, GeocalError):
            terminal.error(f"Profile {name} is faulty. {item}")
        else:
            for source, vintages in item.sources.items():
                terminal.detail(f"{name} reads {source} {', '.join(vintages)}")


def _print(terminal: Terminal, found: dict[str, Profile | GeocalError]) -> None:
    """A row per profile; on a narrow terminal all but the name stands in one column."""
    wide = terminal.width >= NARROW
    columns = ("profile", "what it is", "states", "year", "finest level", "files")
    table = Table(*(columns if wide else columns[:2]), expand=not wide)
    for name, item in found.items():
        if isinstance(item, GeocalError):
            cells = ["[red]FAULTY[/red]: see below", "", "", "", ""]
        else:
            whole = len(item.states) == len(STATES)
            states = "all, and DC" if whole else ", ".join(order_states(item.states))
            files = "made (SYNTHETIC)" if item.synthetic else "--data DIR"
            year = str(item.target_year)
            cells = [escape(item.title), states, year, item.finest_level, files]
        if not wide:
            cells = ["\n".join([cells[0], "; ".join(filter(None, cells[1:]))]).strip()]
        table.add_row(escape(name), *cells)
    terminal.result(table)


def _row(name: str, item: Profile | GeocalError) -> dict[str, Any]:
    if isinstance(item, GeocalError):
        return {"id": name, "fault": str(item)}
    return {
        "id": name,
        "title": item.title,
        "synthetic": item.synthetic,
        "states": list(item.states),
        "target_year": item.target_year,
        "levels": list(item.levels),
        "fault": None,
    }


def show_state(
    terminal: Terminal,
    state: str,
    profile: str | None,
    output: Path | None,
    as_json: bool,
    bystanders: bool = False,
) -> None:
    """The last result of one state, or its bystander report alone, as tables or as JSON."""
    environment = run_environment(profile, None, output)
    with Waiting(terminal, "reading the last result"):
        postal = one_state(state, catalog.load_catalog().profile(environment.profile))
        from pipeline.reports.show import bystander_document, state_report
        from pipeline.reports.show_bystanders import print_all
        from pipeline.reports.show_tables import print_state

        terminal.detail(f"Reading {environment.root}")
        wanted = bystander_document if bystanders else state_report
        report = wanted(environment, postal)
    if as_json:
        terminal.text(json.dumps(report, indent=2))
    elif bystanders:
        print_all(report, terminal, every=terminal.verbose)
    else:
        print_state(report, terminal, every=terminal.verbose)
