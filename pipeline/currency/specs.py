"""Which specifications a table rests on, as resolved for its state, and a digest of each.

Content counts, not text: a comment, an order of keys or a profile that is ``like`` another changes
nothing. A source's table rests on that source, the vintages read, and the files that its code
names. Targets and records rest on the profile's target files and on all variables, categories and
factors: which of these a number hangs on is not followed, so that a digest may change without need.

Belongs here: from a profile and an asset to named digests. Does not belong here: code
(``code.py``), raw files (``raw.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pipeline.specs.base import SPEC_ROOT, read_yaml
from pipeline.specs.catalog import Catalog
from pipeline.specs.profiles import Profile
from pipeline.stored import digest_of

# Of a profile: what names it, when and by whom it is run, and what it has for other states.
_NO_MATTER = {"title", "states", "choices", "schedule", "owners", "tags"}
# What is decided for a state alone: no table of the nation is made of it.
_OF_STATES = {"budget", "candidates", "cross_categories"}
# What reading a file hangs on; the rest of a profile is about what is made of it.
_OF_READING = {"accepted_checks", "geography", "records", "synthetic"}
# Resolved in the profile and in the catalog already.
_RESOLVED = {"method.yaml", "categories.yaml"}


def _not_of_nation() -> set[str]:
    return {f"profile: {key}" for key in _OF_STATES}


class SpecParts:
    """Named digests of specifications of one settled profile, each computed once."""

    def __init__(self, catalog: Catalog, profile: Profile) -> None:
        self._catalog, self._profile = catalog, profile
        self._files: dict[str, str] = {}
        # By the settled profile of a state, which the profile holds for as long as this lives.
        self._profiles: dict[int, dict[str, str]] = {}
        self._single: dict[tuple[str, str], str] = {}
        self._shared: dict[str, str] | None = None

    def of_source(self, source: str | None, state: str | None) -> dict[str, str]:
        """What reading a source rests on; None: the survey, the donor and the geography."""
        own = self._of(state)
        if source is None:
            names = {own.records.source, own.geography.source}
            names |= {own.records.donor.source} if own.records.donor else set()
        else:
            names = {source}
        profile = own.model_dump(mode="json", include=_OF_READING)
        # The nation's files are compared for the profile's states.
        if state is None:
            profile["states"] = list(self._profile.states)
        found = {"profile": digest_of(profile)}
        for name in sorted(names):
            found[f"sources/{name}.yaml"] = self._once("sources", name)
            found[f"vintages of {name}"] = digest_of(list(own.sources.get(name, ())))
        return found

    def of_weights(self, state: str | None) -> dict[str, str]:
        """What solving rests on: the profile with its method, and the cells it selects by."""
        return self._profile_parts(state) | self.of_files([self._cells(state)])

    def of_all(self, state: str | None) -> dict[str, str]:
        """What anything else rests on."""
        own = self._of(state)
        named = {f"targets/{name}.yaml": self._once("targets", name) for name in own.targets}
        # The sources behind targets: publishers' years and kinds of figures.
        named |= {f"sources/{name}.yaml": self._once("sources", name) for name in own.sources}
        cells = self.of_files([self._cells(state)]) if state else {}
        return self._profile_parts(state) | named | self._of_catalog() | cells

    def of_nation(self) -> dict[str, str]:
        """What tables over all states rest on: which states these are."""
        return self.of_all(None) | {"states": digest_of(sorted(self._profile.states))}

    def of_files(self, names: Iterable[str]) -> dict[str, str]:
        """Contents of YAML files that code names, of the project and of a team's folders."""
        found = {}
        for name in sorted({each.removeprefix("data_specs/") for each in names} - _RESOLVED):
            if name not in self._files:
                self._files[name] = digest_of(
                    [read_yaml(path, name) for path in self._places(name) if path.is_file()]
                )
            found[name] = self._files[name]
        return found

    def _cells(self, state: str | None) -> str:
        return f"cross_categories/{self._of(state).cross_categories}.yaml"

    def _once(self, kind: Literal["sources", "targets"], name: str) -> str:
        if (kind, name) not in self._single:
            held = self._catalog.sources if kind == "sources" else self._catalog.targets
            self._single[kind, name] = digest_of(held[name])
        return self._single[kind, name]

    def _places(self, name: str) -> list[Path]:
        beside = [SPEC_ROOT / "factors" / name] if "/" not in name else []
        return [folder / name for folder in self._catalog.roots.folders] + beside

    def _profile_parts(self, state: str | None) -> dict[str, str]:
        own = self._of(state)
        if id(own) not in self._profiles:
            keys = sorted(set(type(own).model_fields) - _NO_MATTER)
            found = {f"profile: {key}": digest_of(getattr(own, key)) for key in keys}
            self._profiles[id(own)] = found
        parts = self._profiles[id(own)]
        if state is not None:
            return parts
        return {name: digest for name, digest in parts.items() if name not in _not_of_nation()}

    def _of(self, state: str | None) -> Profile:
        return self._profile.of(state)

    def _of_catalog(self) -> dict[str, str]:
        if self._shared is None:
            variables = self._catalog.variables
            self._shared = {
                **{f"variable {'/'.join(key)}": digest_of(variables[key]) for key in variables},
                **{f"category {k}": digest_of(v) for k, v in self._catalog.categories.items()},
                **{f"factor {k}": digest_of(v) for k, v in self._catalog.factors.items()},
            }
        return self._shared
