"""The jobs: which assets run together.

Belongs here: jobs and their names. Does not belong here: assets, or what starts a job
(``pipeline/automation``).

Three jobs cover the graph, because a run has one partition or none: ``national_inputs`` (no
partition), ``states`` (one partition per run; backfill it for all), ``national_outputs`` (no
partition, reads every state).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition as AssetJob,
    )

NATIONAL_INPUTS = "national_inputs"
STATES = "states"
NATIONAL_OUTPUTS = "national_outputs"
PRODUCTION_TAG = "geocal/production"


def build_jobs(
    assets: Sequence[dg.AssetsDefinition], owners: Sequence[str] = ()
) -> dict[str, AssetJob]:
    """The jobs by name. An unpartitioned asset with a partitioned ancestor belongs to
    ``national_outputs``; one without, to ``national_inputs``.
    """
    partitioned = {
        key for asset in assets for key in asset.keys if asset.partitions_def is not None
    }
    parents = {key: set(asset.asset_deps[key]) for asset in assets for key in asset.keys}

    def below_a_state(key: dg.AssetKey) -> bool:
        return key in partitioned or any(below_a_state(parent) for parent in parents.get(key, ()))

    inputs = [key for key in parents if not below_a_state(key)]
    outputs = [key for key in parents if key not in partitioned and below_a_state(key)]
    members = {NATIONAL_INPUTS: inputs, STATES: sorted(partitioned), NATIONAL_OUTPUTS: outputs}
    described = {
        NATIONAL_INPUTS: (
            "Read every national publication and build the nation's and states' targets."
        ),
        STATES: (
            "Everything of one state, from its files to its weights and report. One run per state;"
            " backfill for several."
        ),
        NATIONAL_OUTPUTS: "Tables of the nation made from all states that have weights.",
    }
    return {
        name: dg.define_asset_job(
            name,
            selection=dg.AssetSelection.assets(*sorted(keys)),
            description=described[name],
            owners=list(owners) or None,
        )
        for name, keys in members.items()
        if keys
    }
