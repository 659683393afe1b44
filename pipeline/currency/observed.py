"""Versions of raw files, told to Dagster where they are others than it knows.

Belongs here: from the files of a state or the nation to observations. Does not belong here: the
nodes (``assets/raw_files.py``), digests of files (``raw.py``), when to look (``definitions.py``).
"""

from __future__ import annotations

from collections.abc import Iterable

import dagster as dg
from dagster._core.definitions.data_version import DATA_VERSION_TAG, extract_data_version_from_entry

from pipeline.assets.raw_files import raw_key, raw_sources
from pipeline.currency.making import Makings
from pipeline.currency.raw import files_of, relative
from pipeline.specs.sources import SourceSpec
from pipeline.stored import digest_of


def raw_version(makings: Makings, spec: SourceSpec, state: str | None) -> str:
    """Digest of the content of a source's files: of a state's, or of those of the nation (None)."""
    profile, data = makings.profile.of(state), makings.environment.data
    source, records = spec.id, profile.records
    vintages = list(profile.sources.get(source, ()))
    if source == records.source:
        vintages = [*vintages, records.vintage]
    if records.donor is not None and source == records.donor.source:
        vintages = [*vintages, records.donor.vintage]
    files = files_of(spec, vintages, data, None if state is None else [state])
    return digest_of({relative(path, data): makings.raw.of(path) for path in files})


def observations(
    instance: dg.DagsterInstance, makings: Makings, states: Iterable[str | None]
) -> list[dg.AssetObservation]:
    """What is new about the files of ``states``, and of the nation where None is among them."""
    found = []
    for state in states:
        for spec in raw_sources(makings.profile):
            if (spec.coverage == "state") == (state is None) or makings.profile.synthetic:
                continue
            version, key = raw_version(makings, spec, state), raw_key(spec.id)
            if version != _known(instance, key, state):
                tags = {DATA_VERSION_TAG: version}
                found.append(dg.AssetObservation(key, partition=state, tags=tags))
    return found


def _known(instance: dg.DagsterInstance, key: dg.AssetKey, state: str | None) -> str | None:
    record = instance.get_latest_data_version_record(key, True, state)
    version = extract_data_version_from_entry(record.event_log_entry) if record else None
    return version.value if version else None
