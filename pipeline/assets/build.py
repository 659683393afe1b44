"""All assets of a profile, in one list.

Belongs here: the order of the groups. Does not belong here: any asset.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from pipeline.assets.national_reports import build_national_reports
from pipeline.assets.operated import build_gate, operated
from pipeline.assets.records import build_record_assets
from pipeline.assets.reports import build_state_reports
from pipeline.assets.sources import build_source_assets
from pipeline.assets.targets import build_target_assets
from pipeline.assets.weights import build_weight_assets
from pipeline.settings import RunEnvironment
from pipeline.specs.profiles import Profile


def build_assets(
    profile: Profile,
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition,
    facts: Mapping[str, Any],
) -> list[dg.AssetsDefinition]:
    """Assets of every group for ``profile``; ``facts`` are the run's constants, for
    the manifest.
    """
    made = [
        *build_source_assets(profile, environment, partitions),
        *build_target_assets(profile, environment, partitions),
        *build_record_assets(profile, partitions),
        *build_weight_assets(profile, partitions),
    ]
    of_state = build_state_reports(profile, environment, partitions, facts, made)
    nation = build_national_reports(profile, environment)
    return operated([*made, build_gate(made), *of_state, *nation], profile)
