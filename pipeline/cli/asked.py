"""What a command line asks for: profile, folders, states and pairs, refused before any work.

Belongs here: turning options into a profile, an environment, states and a budget. Does not belong
here: how options are declared (``cli/options.py``), or the checks of work itself.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ProfileError
from pipeline.partitions import order_states, parse_states
from pipeline.settings import DATA_VARIABLE, RunEnvironment, run_environment
from pipeline.sources.settled import settle
from pipeline.specs import catalog
from pipeline.specs.profiles import Profile


@dataclass(frozen=True)
class Asked:
    """A profile, settled by the files at hand, where its files and results lie, and the states
    chosen, in the order they run."""

    profile: Profile
    environment: RunEnvironment
    states: tuple[str, ...]


def asked_for(
    profile: str | None, states: str | None, data: Path | None, output: Path | None
) -> Asked:
    """Everything the four options name.

    Raises ProfileError for an unknown profile or state, and for a profile of real files without a
    data folder or with the generator's own; SpecError if a file that the profile needs is faulty.
    """
    environment = run_environment(profile, data, output)
    specs = catalog.load_catalog()
    loaded = specs.profile(environment.profile)
    chosen = tuple(_states(states, loaded))
    if loaded.synthetic:
        if data is not None:
            raise ProfileError(
                f"Profile {loaded.id} is synthetic and makes its own files",
                where=f"--data {data}",
                expected="no data folder",
                remedy=(
                    "Leave --data out, or name a profile of real files with --profile (`geocal"
                    " profiles` lists them)"
                ),
            )
        return Asked(loaded, environment.generated(), chosen)
    _require_published_files(environment, loaded)
    return Asked(settle(specs, loaded, environment.data), environment, chosen)


def _require_published_files(environment: RunEnvironment, loaded: Profile) -> None:
    folder = environment.data
    expected = "a folder of raw files as published"
    if not folder.is_dir():
        named = "what --data names is no folder" if folder.exists() else "there is no data folder"
        raise ProfileError(
            f"Profile {loaded.id} reads real files, and {named}",
            where=str(folder),
            expected=expected,
            remedy=(
                f"Pass --data DIR (or set {DATA_VARIABLE}); `geocal check --profile"
                f" {loaded.id} --data DIR` then says which files are wanted"
            ),
        )
    if not os.access(folder, os.R_OK | os.X_OK):
        raise ProfileError(
            f"Profile {loaded.id} reads real files, and the folder may not be read",
            where=str(folder),
            expected=expected,
            remedy="Change its permissions, or pass --data with another folder",
        )
    from pipeline.sample.generate import STAMP

    if (folder / STAMP).exists():
        raise ProfileError(
            f"Profile {loaded.id} reads real files, and the folder holds SYNTHETIC files",
            where=str(folder / STAMP),
            expected=f"{expected}, without the stamp of the sample generator",
            remedy=(
                f"Pass --data DIR (or set {DATA_VARIABLE}) with the published files; the"
                " made-up ones are read by `geocal run --profile sample`"
            ),
        )


def _states(states: str | None, loaded: Profile) -> list[str]:
    if states is not None and not states.replace(",", " ").strip():
        there = ", ".join(order_states(loaded.states))
        raise ProfileError(
            "No state is named",
            where=f"--states {shlex.quote(states)}",
            expected=f"states of profile {loaded.id}: {there}",
            remedy="Name one or more, separated by commas, or leave --states out for all of them",
        )
    return parse_states(states, loaded.states, loaded.id)


def one_state(text: str, loaded: Profile) -> str:
    """The argument STATE as a postal code. Raises ProfileError unless it is one of the profile."""
    there, asked = order_states(loaded.states), text.strip().upper()
    if asked not in there:
        one = asked and "," not in asked
        raise ProfileError(
            f"Profile {loaded.id} has no state {asked}"
            if one
            else f"One state is expected, not {text!r}",
            where="the argument STATE",
            expected=f"one state of this profile: {', '.join(there)}",
            remedy="Name one of them; for several, show one after the other",
        )
    return asked
