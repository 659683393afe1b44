"""What every table of a profile would be made with now: code, specifications, raw files, and what
was asked for.

A table's facts carry the digests of its making (``making``). What these are made of, file by file
and entry by entry, lies once in ``currency/parts/<digest>.json``, so that a later run can name the
file that changed; without it only the digests can be told.

Belongs here: the making of one table, and remembering its parts. Does not belong here: comparing it
with what is stored (``judge.py``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import dagster as dg

from pipeline.assets.names import (
    DENSE,
    DONOR_HOUSEHOLDS,
    DONOR_PERSONS,
    FIT,
    GEOGRAPHY,
    HOUSEHOLDS,
    MANIFEST,
    NATIONAL_FIT,
    NATIONAL_REPORT,
    PERSONS,
    RAW_FILES,
    REPLICATES,
    SELECTED,
    SELECTED_RECORDS,
    WEIGHTS,
)
from pipeline.assets.sources import published_sources
from pipeline.code_used import code_used, read_memory, write_memory
from pipeline.currency.graph import Graph, Node, Rests, graph_of
from pipeline.currency.raw import RawDigests, files_of, relative
from pipeline.currency.specs import SpecParts
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile
from pipeline.stored import digest_of
from pipeline.versions import package_versions

FOLDER = "currency"
# Libraries that decide bits of numbers.
PACKAGES = ("numba", "numpy", "polars", "scipy", "torch")


@dataclass(frozen=True)
class Making:
    """``code`` and ``specs``: digests by name; ``files``: SHA-256 of raw files by name; ``config``:
    what the run asks of the step. ``listed``: the raw files stand in the table's provenance.
    """

    code: Mapping[str, str]
    specs: Mapping[str, str]
    files: Mapping[str, str] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    listed: bool = True

    def facts(self) -> dict[str, Any]:
        """What a table says of its making."""
        own = {} if self.listed or not self.files else {"files": dict(self.files)}
        digests = {"code": digest_of(self.code), "specs": digest_of(self.specs)}
        return {**digests, "config": dict(self.config), **own}


class Makings:
    """Makings of all tables of a settled profile in one output folder."""

    def __init__(
        self,
        catalog: Catalog,
        profile: Profile,
        environment: RunEnvironment,
        assets: Iterable[Any],
        raw: RawDigests | None = None,
    ) -> None:
        self.profile, self.environment = profile, environment
        self.raw = raw or RawDigests()
        self._catalog = catalog
        self._specs = SpecParts(catalog, profile)
        # Nodes of raw files are nobody's making.
        self._assets = [each for each in assets if isinstance(each, dg.AssetsDefinition)]
        self._read = False

    @cached_property
    def graph(self) -> Graph:
        """The profile's assets."""
        return graph_of(self._assets, _particular(self.profile))

    def now(self, asset: str, state: str | None, config: Mapping[str, Any] | None = None) -> Making:
        """How the table would be made now; ``config``: what the run asks of its step."""
        self._recall()
        node = self.graph.nodes[asset]
        used = code_used(node.functions)
        # A manifest has no numbers of its own.
        code = used.parts | (_packages() if node.tabular else {})
        specs = self._specs_of(node, state) | self._specs.of_files(used.files)
        return Making(code, specs, self._files_of(node, state), config or {}, node.name != FIT)

    def version(self, asset: str) -> str:
        """What Dagster compares as the asset's code version: it changes when the code of the tables
        or the specifications of any state's do, as ``now`` has them.
        """
        self._recall()
        node = self.graph.nodes[asset]
        code = code_used(node.functions)
        specs = [
            digest_of(self._specs_of(node, state) | self._specs.of_files(code.files))
            for state in (self._examples() if node.by_state else (None,))
        ]
        return digest_of([code.parts | (_packages() if node.tabular else {}), specs])

    def _examples(self) -> Iterator[str | None]:
        """A state for each way in which the profile is settled."""
        own = {id(self.profile.of(state)): state for state in reversed(self.profile.states)}
        yield from sorted(own.values())

    def versioned(self, asset: dg.AssetsDefinition) -> dg.AssetsDefinition:
        """The same with the versions of its tables; the gate, which has none, as it is."""

        def with_version(spec: dg.AssetSpec) -> dg.AssetSpec:
            name = spec.key.to_user_string()
            known = name in self.graph.nodes
            return spec.replace_attributes(code_version=self.version(name)) if known else spec

        return asset.map_asset_specs(with_version)

    def prepare(self) -> None:
        """Take the digests of code and of files that it names now, as a run begins: what is edited
        while it goes on is not what it runs.
        """
        self._recall()
        for node in self.graph.nodes.values():
            self._specs.of_files(code_used(node.functions).files)

    def _recall(self) -> None:
        if not self._read:
            read_memory(self.code_memory)
            self._read = True

    def facts(self, asset: str, state: str | None, config: Mapping[str, Any]) -> dict[str, Any]:
        """``Making.facts`` of a table about to be stored, its parts remembered."""
        making = self.now(asset, state, config)
        self.remember(making)
        write_memory(self.code_memory)
        return making.facts()

    @property
    def code_memory(self) -> Path:
        """Where it is kept how modules were taken apart."""
        return self.environment.root / FOLDER / "code.json"

    def remember(self, making: Making) -> None:
        """Keep the parts behind the digests, for whoever asks later what changed; nothing where the
        output may not be written.
        """
        for parts in (making.code, making.specs):
            digest = digest_of(parts)
            # Written in place, by whoever comes first: a name has one content, and a torn one is
            # none.
            if parts and self.parts(digest) is None:
                path = self._parts_path(digest)
                with contextlib.suppress(OSError):
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(json.dumps(dict(parts), indent=1, sort_keys=True) + "\n")

    def parts(self, digest: str) -> dict[str, str] | None:
        """The parts behind a digest; None where nobody remembered them."""
        try:
            found = json.loads(self._parts_path(digest).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def _parts_path(self, digest: str) -> Path:
        return self.environment.root / FOLDER / "parts" / f"{digest}.json"

    def _specs_of(self, node: Node, state: str | None) -> dict[str, str]:
        parts = self._specs
        if node.rests == "source":
            return parts.of_source(node.name, state)
        if node.rests in ("survey", "geography", "donor"):
            return parts.of_source(None, state)
        if node.rests == "weights":
            return parts.of_weights(state)
        if node.rests in ("generated", "manifest"):
            return {}
        return parts.of_nation() if node.rests == "nation" else parts.of_all(state)

    def _files_of(self, node: Node, state: str | None) -> dict[str, str]:
        """Raw files that the table is read from, with SHA-256."""
        data, sources = self.environment.data, self._catalog.sources
        own = self.profile.of(state)
        found: list[Path] = []
        if node.rests == "source":
            spec = sources[node.name]
            asked = [state] if spec.coverage == "state" and state is not None else None
            vintages = (own if asked else self.profile).sources.get(node.name, ())
            found = files_of(spec, vintages, data, asked)
        elif node.rests == "geography":
            spec = sources[self.profile.geography.source]
            found = files_of(spec, self.profile.sources[spec.id], data, self.profile.states)
        elif node.rests == "survey" and state is not None:
            spec = sources[own.records.source]
            found = files_of(spec, [own.records.vintage], data, [state])
        elif node.rests == "donor" and own.records.donor is not None:
            spec = sources[own.records.donor.source]
            found = files_of(spec, [own.records.donor.vintage], data, None)
        elif node.name == FIT and self.profile.synthetic:
            # Here, because the generator loads scipy, and the code location need not.
            from pipeline.sample.generate import TRUTH

            found = [data / name for name in sorted(TRUTH.values())]
        return {relative(path, data): self.raw.of(path) for path in found}


@cache
def _packages() -> dict[str, str]:
    return {f"package {name}": digest_of(v) for name, v in package_versions(PACKAGES).items()}


def makings_of(
    profile: Profile, environment: RunEnvironment, definitions: dg.Definitions
) -> Makings:
    """Makings of the tables of ``definitions``, which were built for the settled ``profile``."""
    return Makings(load_catalog(), profile, environment, definitions.assets or ())


def _particular(profile: Profile) -> dict[str, Rests]:
    """Assets that do not rest on every specification."""
    found: dict[str, Rests] = {spec.id: "source" for spec in published_sources(profile)}
    found |= dict.fromkeys((PERSONS, HOUSEHOLDS, REPLICATES), "survey")
    found |= dict.fromkeys((DONOR_PERSONS, DONOR_HOUSEHOLDS), "donor")
    found |= dict.fromkeys((DENSE, SELECTED, WEIGHTS, *SELECTED_RECORDS), "weights")
    found |= dict.fromkeys((NATIONAL_FIT, NATIONAL_REPORT), "nation")
    return found | {GEOGRAPHY: "geography", RAW_FILES: "generated", MANIFEST: "manifest"}
