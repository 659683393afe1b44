"""A profile with choices, settled by the files at hand.

Belongs here: which option of each choice the nation and every state take, and why. Does not belong
here: what an option changes (``specs/profiles.py``), or which file lies where (``presence.py``).

Only whether a file is there decides. A file that is there and faulty stops the run: nothing else is
read in its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.sources.presence import missing_files
from pipeline.specs.catalog import Catalog
from pipeline.specs.profiles import Choice, Option, Profile


@dataclass(frozen=True)
class Taken:
    """One choice made. ``postal``: the state, or None for the nation; ``passed_by``: for each
    better option, its name and the files it lacks; ``lacking``: files that the option taken itself
    lacks, so that the run will stop at them.
    """

    postal: str | None
    need: str
    option: Option
    passed_by: tuple[tuple[str, tuple[str, ...]], ...]
    lacking: tuple[str, ...] = ()

    @property
    def costs(self) -> str:
        return self.option.costs if self.passed_by else ""


@dataclass(frozen=True)
class Settled:
    """``profile``: all that nation and states take together (``Profile.of`` gives each one's);
    ``taken``: every choice made, those of the nation first.
    """

    profile: Profile
    taken: tuple[Taken, ...]

    def of_state(self, postal: str) -> tuple[Taken, ...]:
        """Choices that the state's weights rest on, the nation's among them."""
        return tuple(each for each in self.taken if each.postal in (None, postal))


def settle(catalog: Catalog, profile: Profile, data: Path) -> Settled:
    """``profile`` with an option of each choice, by the files in ``data``; as it is where it has no
    choices.
    """
    if not profile.choices:
        return Settled(profile, ())
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
    return Settled(profile.settled(of), tuple(taken))


def _choose(catalog: Catalog, choice: Choice, data: Path, postal: str | None) -> Taken:
    passed: list[tuple[str, tuple[str, ...]]] = []
    for option in choice.options:
        lacking = tuple(_lacking(catalog, option, data, postal))
        if not lacking:
            return Taken(postal, choice.need, option, tuple(passed))
        passed.append((option.name, lacking))
    return Taken(postal, choice.need, choice.options[0], (), passed[0][1])


def _lacking(catalog: Catalog, option: Option, data: Path, postal: str | None) -> Iterable[str]:
    states = None if postal is None else [postal]
    for source, vintages in option.sources.items():
        for vintage in vintages:
            for file in missing_files(catalog.sources[source], vintage, data, states):
                path = file.path
                yield path.relative_to(data).as_posix() if path.is_relative_to(data) else str(path)
