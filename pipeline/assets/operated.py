"""What an operator sees at every asset beside its table: owners, tags, pages of the publishers, the
age at which it is overdue; and the gate between the nation and the states.

Belongs here: attributes that no table depends on. Does not belong here: assets that make tables,
or metadata of one making (``metadata.py``).
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any

import dagster as dg

from pipeline.assets.names import (
    DONOR_HOUSEHOLDS,
    DONOR_PERSONS,
    GATE,
    GEOGRAPHY,
    HOUSEHOLDS,
    NATIONAL_FIT,
    NATIONAL_REPORT,
    PERSONS,
    REPLICATES,
    TARGETS_GROUP,
    WEIGHTS,
)
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import SourceSpec, load_source

# What is delivered: an old one is overdue. An asset is fresh once any of its states was made.
_DELIVERED = {WEIGHTS, NATIONAL_FIT, NATIONAL_REPORT}


def operated(assets: Sequence[dg.AssetsDefinition], profile: Profile) -> list[dg.AssetsDefinition]:
    """The same assets with what the profile says of their operation.

    None gets a backfill policy: without one a backfill makes one run for each state. With
    ``BackfillPolicy.multi_run(1)`` Dagster 1.13 makes as many, but gives each a range of partitions
    in place of a partition, so that ``partition_key`` of an output is refused, and results of
    checks are stored without their state.
    """
    pages = _pages(profile)

    def described(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.to_user_string()
        fresh = timedelta(days=profile.schedule.fresh_days)
        return spec.replace_attributes(
            owners=[*spec.owners, *profile.owners],
            tags={**spec.tags, **_tags(profile)},
            metadata={**spec.metadata, **pages.get(name, {})},
            freshness_policy=dg.FreshnessPolicy.time_window(fail_window=fresh)
            if name in _DELIVERED
            else None,
        )

    return [asset.map_asset_specs(described) for asset in assets]


def _tags(profile: Profile) -> dict[str, str]:
    synthetic = {"geocal/synthetic": "true"} if profile.synthetic else {}
    return {"geocal/profile": profile.id, **synthetic, **profile.tags}


def _pages(profile: Profile) -> dict[str, dict[str, Any]]:
    """Publisher, page and addresses of files, by asset that reads a source."""
    read = {source: load_source(source) for source in profile.sources}
    found = {name: _page(spec, profile) for name, spec in read.items() if spec.kind == "published"}
    found[GEOGRAPHY] = _page(load_source(profile.geography.source), profile)
    survey = _page(load_source(profile.records.source), profile)
    found |= dict.fromkeys((PERSONS, HOUSEHOLDS, REPLICATES), survey)
    if profile.records.donor is not None:
        donor = _page(load_source(profile.records.donor.source), profile)
        found |= dict.fromkeys((DONOR_PERSONS, DONOR_HOUSEHOLDS), donor)
    return found


def _page(spec: SourceSpec, profile: Profile) -> dict[str, Any]:
    vintages = list(profile.sources[spec.id])
    files = {f"file of {v}": dg.MetadataValue.url(spec.url_of(v)) for v in vintages}
    page = dg.MetadataValue.url(spec.documentation)
    return {"publisher": spec.publisher, "vintages": vintages, "page": page, **files}


def build_gate(assets: Iterable[dg.AssetsDefinition]) -> dg.AssetsDefinition:
    """``nation_ready``: below every national input and above every table of a state.

    Without it a backfill of nation and states starts a state's first tables while the nation's are
    being made, and the others in further runs, up to five for one state. Its version never changes,
    so that no table is out of date because of it.
    """
    national = [key for asset in assets if asset.partitions_def is None for key in asset.keys]

    @dg.asset(
        name=GATE,
        group_name=TARGETS_GROUP,
        kinds={"python"},
        deps=national,
        code_version="1",
        description=(
            "Every national input of this profile was made: states may start, each in one run. It"
            " holds no table."
        ),
    )
    def nation_ready() -> dg.MaterializeResult:
        return dg.MaterializeResult(data_version=dg.DataVersion("1"))

    return nation_ready
