"""Assets of the group ``reports`` of one state: fit, what selection lost, its run manifest.

Belongs here: bringing stored figures together. Does not belong here: the steps that make them
(``pipeline/steps.py``), what is shown (``metadata.py``), the bystander report (``bystanders.py``),
or reports over all states (``national_reports.py``).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
import polars as pl

from pipeline.assets import metadata
from pipeline.assets.bystanders import build_bystanders
from pipeline.assets.common import check_specs, permanent
from pipeline.assets.names import (
    BYSTANDERS,
    CELLS,
    DENSE,
    FIT,
    MANIFEST,
    OF_THE_STATE,
    REPORTS_GROUP,
    SELECTED_RECORDS,
    SELECTION_REPORT,
    WEIGHTS,
    inputs_of,
)
from pipeline.assets.weights import solvable
from pipeline.code_used import code_used
from pipeline.manifest import build_manifest, write_manifest
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import load_catalog
from pipeline.specs.profiles import Profile
from pipeline.vocabulary import TARGET_KEY

_KINDS = {"polars", "parquet"}
# A published 90 % margin holds nine in ten by what it is; weights that hold fewer than 95 in 100 of
# the targets they were made for are worth a look.
SHARE_INSIDE = 0.95
ACCOUNTED = {"every_target_accounted_for": "A target without a fitted value gives a reason."}


def build_state_reports(
    profile: Profile,
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition,
    facts: Mapping[str, Any],
    upstream: Sequence[dg.AssetsDefinition],
) -> list[dg.AssetsDefinition]:
    """The reports of each state; ``upstream`` are all assets before, which the manifest lists."""
    return [
        _fit(profile, environment, partitions),
        _selection(profile, partitions),
        build_bystanders(profile, partitions),
        _manifest(profile, environment, partitions, facts, upstream),
    ]


def accounted(fit: pl.DataFrame) -> dg.AssetCheckResult:
    """The check ``every_target_accounted_for``."""
    silent = fit.filter(pl.col("fitted").is_null() & (pl.col("not_fitted_reason") == "")).height
    name = "every_target_accounted_for"
    return dg.AssetCheckResult(
        check_name=name, passed=not silent, metadata={"without_reason": silent}
    )


def _fit(
    profile: Profile, environment: RunEnvironment, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    inside = (
        f"At least {100 * SHARE_INSIDE:g} % of the finest level's targets with a published margin"
        " lie inside it."
    )

    @dg.asset(
        name=FIT,
        group_name=REPORTS_GROUP,
        kinds=_KINDS,
        partitions_def=partitions,
        ins=inputs_of(*OF_THE_STATE, DENSE, WEIGHTS),
        description=(
            "Every target of the state with its fitted value, before and after selection, and the"
            " reason where it was not fitted."
        ),
        check_specs=[
            *check_specs(FIT, ACCOUNTED, partitions=partitions),
            *check_specs(
                FIT, {"share_inside_margin": inside}, blocking=False, partitions=partitions
            ),
        ],
    )
    @permanent
    def fit_report(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps

        state = solvable(profile, context.partition_key, frames)
        fit = steps.fit_of_stored(state, frames[DENSE], frames[WEIGHTS])
        if profile.synthetic:
            truth = steps.truth_of(load_catalog(), profile, state.postal, environment.data)
            fit = fit.join(truth, on=TARGET_KEY, how="left", maintain_order="left")
        return dg.MaterializeResult(
            value=fit,
            metadata=metadata.of_fit_report(state, fit, frames[WEIGHTS]),
            check_results=[accounted(fit), _share_inside(fit, state.profile.finest_level)],
        )

    return fit_report


def _share_inside(fit: pl.DataFrame, level: str) -> dg.AssetCheckResult:
    from pipeline.reports.fit import summary_by

    finest = summary_by(fit.filter(pl.col("level") == level), "fitted")
    share = finest["share_inside_margin"][0] if finest.height else None
    found = "no margin is published at this level" if share is None else share
    return dg.AssetCheckResult(
        check_name="share_inside_margin",
        passed=share is None or share >= SHARE_INSIDE,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"share": found},
    )


def _selection(profile: Profile, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        name=SELECTION_REPORT,
        group_name=REPORTS_GROUP,
        kinds=_KINDS,
        partitions_def=partitions,
        ins=inputs_of(*OF_THE_STATE, CELLS, DENSE, WEIGHTS),
        description=(
            "What was lost between dense and selected weights: cells, incomes, correlations, sample"
            " sizes, and targets that nobody fitted."
        ),
    )
    @permanent
    def selection_report(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps

        state = solvable(profile, context.partition_key, frames)
        table, loss, stored = steps.loss_of_stored(
            load_catalog(), state, frames[DENSE], frames[WEIGHTS]
        )
        return dg.MaterializeResult(
            value=table, metadata=metadata.of_loss(state, table, loss, stored)
        )

    return selection_report


def _manifest(
    profile: Profile,
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition,
    facts: Mapping[str, Any],
    upstream: Sequence[dg.AssetsDefinition],
) -> dg.AssetsDefinition:
    partitioned = {
        key: asset.partitions_def is not None for asset in upstream for key in asset.keys
    } | {dg.AssetKey(name): True for name in (FIT, SELECTION_REPORT, BYSTANDERS)}

    @dg.asset(
        name=MANIFEST,
        group_name=REPORTS_GROUP,
        kinds={"json"},
        partitions_def=partitions,
        deps=[FIT, SELECTION_REPORT, BYSTANDERS, *SELECTED_RECORDS],
        description=(
            "What the state's tables were made from, by which code, in how many seconds: a JSON"
            " file below manifests/."
        ),
    )
    @permanent
    def run_manifest(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        state = context.partition_key
        from pipeline.reports.show import bystander_document, bystanders

        choices = [taken.row() for taken in profile.made(state)]
        code = code_used([(__name__, _manifest.__name__)]).digest
        overrides = load_catalog().overrides()
        manifest = build_manifest(
            context.instance, environment, partitioned, state, facts, choices, overrides
        )
        manifest["manifest_code"] = code
        # A manifest is made of what there is; a report of older weights does not belong to it.
        found = bystanders(environment, state)
        whole = not found["missing"]
        manifest["bystanders"] = bystander_document(environment, state) if whole else found
        write_manifest(environment, state, manifest)
        short = {
            name: manifest[name]
            for name in (
                "created",
                "seed",
                "specs_sha256",
                "code_sha256",
                "geocal",
                "seconds_total",
                "peak_memory_mb",
                "seconds_by_asset",
            )
        }
        return dg.MaterializeResult(
            metadata={
                "path": dg.MetadataValue.path(str(environment.manifests / f"{state}.json")),
                "manifest": dg.MetadataValue.json(short),
                "raw_files": len(manifest["inputs"]),
            }
        )

    return run_manifest
