"""A profile with choices, settled by the files at hand.

Belongs here: which option of each choice the nation and every state take, and why. Does not belong
here: what an option changes (``specs/profiles.py``), or which file lies where (``presence.py``).

Only whether a file is there decides. A file that is there and faulty stops the run: nothing else is
read in its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pipeline.sources.base import resolve_files
from pipeline.sources.presence import missing_files
from pipeline.specs.catalog import Catalog
from pipeline.specs.profiles import Choice, Option, Profile, Taken


def settle(catalog: Catalog, profile: Profile, data: Path) -> Profile:
    """``profile`` with an option of each choice, by the files in ``data``; as it is where it has no
    choices. ``Profile.of`` then gives what each state takes, ``Profile.made`` every choice.
    """
    if not profile.choices:
        return profile
    national = {
        c.need: _choose(catalog, c, data, None) for c in profile.choices if c.by == "nation"
    }
    taken = list(national.values())
    of: dict[str | None, Profile] = {None: profile.taking(t.option for t in taken)}
    for postal in profile.states:
        made = [
            national.get(choice.need) or _choose(catalog, choice, data, postal)
            for choice in profile.choices
        ]
        of[postal] = profile.taking(each.option for each in made)
        taken += [each for each in made if each.postal == postal]
    return profile.settled(of, taken)


def _choose(catalog: Catalog, choice: Choice, data: Path, postal: str | None) -> Taken:
    passed: list[tuple[str, tuple[str, ...]]] = []
    for option in choice.options:
        # One archive may hold several files of a source.
        lacking = tuple(dict.fromkeys(_lacking(catalog, option, data, postal)))
        if not lacking:
            return Taken(postal, choice.need, option, tuple(passed))
        passed.append((option.name, lacking))
    begun = [_begun(catalog, option, data, postal) for option in choice.options]
    at = begun.index(True) if any(begun) else 0
    return Taken(postal, choice.need, choice.options[at], (), passed[at][1])


def _begun(catalog: Catalog, option: Option, data: Path, postal: str | None) -> bool:
    """Whether a state's own file of the option is there, though not all that it needs."""
    own = [(s, v) for s, vintages in option.sources.items() for v in vintages]
    return postal is not None and any(
        file.exists
        for source, vintage in own
        if catalog.sources[source].coverage == "state"
        for file in resolve_files(catalog.sources[source], vintage, data, [postal])
    )


def _lacking(catalog: Catalog, option: Option, data: Path, postal: str | None) -> Iterable[str]:
    states = None if postal is None else [postal]
    for source, vintages in option.sources.items():
        for vintage in vintages:
            for file in missing_files(catalog.sources[source], vintage, data, states):
                path = file.path
                yield path.relative_to(data).as_posix() if path.is_relative_to(data) else str(path)
