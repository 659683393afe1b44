"""Assets of the group ``targets``: published tables in, one consistent tree of targets out.

Belongs here: which tables go into which step, checks, and metadata. Does not belong here: the steps
themselves (``pipeline/steps.py``) or the hard rules of a target table
(``pipeline/targets/hard_rules.py``).
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from pipeline.assets import metadata, source_checks
from pipeline.assets.common import check_specs, permanent
from pipeline.assets.names import (
    CONCEPT_GAPS,
    GATE,
    GEOGRAPHY,
    NATIONAL_TARGETS,
    RECONCILED,
    STATE_TARGETS,
    SURVEY_ESTIMATES,
    TARGETS_GROUP,
    inputs_of,
)
from pipeline.checks.run import AGREE, COUNTY_NAMES
from pipeline.io_manager import Table
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile
from pipeline.vocabulary import CALIBRATE, NATION, STATE, levels_below

_KINDS = {"polars", "parquet"}
# Rounding of sums of some hundred thousand persons leaves a relative gap far below this.
CATEGORY_TOLERANCE = 1e-6


def build_target_assets(
    profile: Profile, environment: RunEnvironment, partitions: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """``national_targets``, ``state_targets`` and ``reconciled_targets`` of the profile."""
    catalog = load_catalog()
    return [
        _national(catalog, profile, environment.data),
        _state(catalog, profile, partitions, environment.data),
        _reconciled(catalog, profile, partitions),
    ]


def by_vintage(frames: Mapping[str, pl.DataFrame]) -> dict[tuple[str, str], pl.DataFrame]:
    """Published tables by (source, vintage), from one frame per source that holds all its
    vintages."""
    return {
        (source, vintage): part
        for source, frame in frames.items()
        for (vintage,), part in frame.partition_by("vintage", as_dict=True).items()
    }


def needed_sources(catalog: Catalog, profile: Profile, levels: Iterable[str]) -> list[str]:
    """Ids of the publications that building targets at ``levels`` reads, carry rules included,
    sorted."""
    required = (catalog.required_tables(each, levels) for each in profile.variants)
    return sorted({source for tables in required for source, _ in tables})


def _levels_present(name: str, frame: pl.DataFrame, levels: Iterable[str]) -> dg.AssetCheckResult:
    present = set(frame.filter(pl.col("role") == CALIBRATE)["level"].unique())
    return dg.AssetCheckResult(
        check_name=name, passed=set(levels) <= present, metadata={"levels": sorted(present)}
    )


def _notes_of(built: Any) -> dict[str, list[str]]:
    return {"notes": [str(note) for note in built.notes]}


def _national(catalog: Catalog, profile: Profile, data: Path) -> dg.AssetsDefinition:
    levels = (NATION, STATE)
    stated = {"has_targets": "Nation and states have at least one target that calibrates."}

    @dg.asset(
        name=NATIONAL_TARGETS,
        group_name=TARGETS_GROUP,
        kinds=_KINDS,
        ins=inputs_of(*needed_sources(catalog, profile, levels)),
        description=(
            "Published totals of the nation and of every state, carried to the target year and"
            " reconciled: the states add up to the nation."
        ),
        check_specs=[*check_specs(NATIONAL_TARGETS, stated), *source_checks.of_national_targets()],
    )
    @permanent
    def national_targets(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps

        own, tables = profile.of(None), by_vintage(frames)
        checked = source_checks.results_between([AGREE], own, data, tables, levels, [])
        built, reconciled = steps.national_targets(catalog, own, tables)
        frame, title = reconciled.frame, "Targets of the nation and the states"
        shown = metadata.of_targets(frame, title, profile, built.notes)
        return dg.MaterializeResult(
            value=Table(frame, _notes_of(built)),
            metadata={**shown, **metadata.of_reconciliation(reconciled)},
            check_results=[_levels_present("has_targets", frame, levels), *checked],
        )

    return national_targets


def _state(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition, data: Path
) -> dg.AssetsDefinition:
    levels = levels_below(STATE, profile.levels)
    words = "Every level of the profile has at least one target that calibrates."

    @dg.asset(
        name=STATE_TARGETS,
        group_name=TARGETS_GROUP,
        kinds=_KINDS,
        partitions_def=partitions,
        ins=inputs_of(*needed_sources(catalog, profile, levels)),
        deps=[GATE],
        description=(
            f"Published totals of each {' and each '.join(levels)} of the state, carried to the"
            " target year, not yet reconciled."
        ),
        check_specs=[
            *check_specs(STATE_TARGETS, {"every_level_has_targets": words}, partitions=partitions),
            *source_checks.of_state_targets(partitions),
        ],
    )
    @permanent
    def state_targets(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps

        postal = context.partition_key
        own, tables, names = profile.of(postal), by_vintage(frames), [AGREE, COUNTY_NAMES]
        below = levels_below(STATE, own.levels)
        checked = source_checks.results_between(names, own, data, tables, below, [postal])
        built = steps.state_targets(catalog, own, tables, postal)
        title = f"Published targets of {postal}"
        return dg.MaterializeResult(
            value=Table(built.frame, _notes_of(built)),
            metadata=metadata.of_targets(built.frame, title, profile, built.notes),
            check_results=[
                _levels_present("every_level_has_targets", built.frame, below),
                *checked,
            ],
        )

    return state_targets


def _reconciled(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    checks = {
        "every_target_accounted_for": (
            "Every published target is still there, with a role and a reason."
        ),
        "categories_add_up": (
            "Children of every group applied sum to their parent in every area, and no value is"
            " negative that must not be."
        ),
    }

    @dg.asset(
        name=RECONCILED,
        group_name=TARGETS_GROUP,
        kinds=_KINDS,
        partitions_def=partitions,
        ins=inputs_of(STATE_TARGETS, NATIONAL_TARGETS, GEOGRAPHY, CONCEPT_GAPS, SURVEY_ESTIMATES),
        description=(
            "The state's targets as one consistent tree: tracts add up to counties, counties to the"
            " state, each moved by its precision; targets whose concept differs too much from what"
            " records can say are marked validation; what no target states is held, softly, to the"
            " survey's own estimate."
        ),
        check_specs=check_specs(RECONCILED, checks, partitions=partitions),
    )
    @permanent
    def reconciled_targets(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps

        postal = context.partition_key
        below, national = steps.with_gaps(
            frames[CONCEPT_GAPS], postal, frames[STATE_TARGETS], frames[NATIONAL_TARGETS]
        )
        made = steps.reconciled_targets(
            catalog,
            profile.of(postal),
            postal,
            below,
            national,
            frames[GEOGRAPHY],
            frames[SURVEY_ESTIMATES],
        )
        lost = steps.targets_lost(made.frame, postal, below, national)
        title = f"Reconciled targets of {postal}"
        shown = metadata.of_targets(made.frame, title, profile)
        return dg.MaterializeResult(
            value=made.frame,
            metadata={**shown, **metadata.of_reconciliation(made), **metadata.of_evidence(made)},
            check_results=[
                dg.AssetCheckResult(
                    check_name="every_target_accounted_for",
                    passed=lost.is_empty(),
                    metadata={"lost": lost.height, "first": metadata.table_of(lost)},
                ),
                dg.AssetCheckResult(
                    check_name="categories_add_up",
                    passed=made.largest_category_gap < CATEGORY_TOLERANCE and made.converged,
                    metadata={
                        "largest_gap": made.largest_category_gap,
                        "nonnegativity_settled": made.converged,
                    },
                ),
            ],
        )

    return reconciled_targets
