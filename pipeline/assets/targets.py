"""Assets of the group ``targets``: published tables in, one consistent tree of targets out.

Belongs here: which tables go into which call, what is checked before writing, and metadata. Does
not belong here: how targets are built (``pipeline/targets/build.py``) or reconciled
(``pipeline/targets/reconcile.py``).
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from pipeline.assets.common import (
    check_specs,
    code_version,
    frame_metadata,
    inline_png,
    markdown_table,
    permanent,
    require,
    require_no_rows,
)
from pipeline.assets.sources import GEOGRAPHY
from pipeline.io_manager import Table
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.states import state_of

if TYPE_CHECKING:
    from pipeline.targets.reconcile import Reconciled

GROUP = "targets"
NATIONAL, STATE, RECONCILED = "national_targets", "state_targets", "reconciled_targets"
CONCEPT_GAPS = "concept_gaps"
_CODE = (
    "pipeline/targets",
    "pipeline/specs",
    "calibration_core",
    "data_specs/targets",
    "data_specs/variables",
    "data_specs/factors",
    "data_specs/profiles",
)
CATEGORY_TOLERANCE = 1e-6
KEY = ("level", "geoid", "variable", "domain")


def build_target_assets(
    profile: Profile, partitions: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """``national_targets``, ``state_targets`` and ``reconciled_targets`` of the profile."""
    catalog = load_catalog()
    return [
        _national(catalog, profile),
        _state(catalog, profile, partitions),
        _reconciled(catalog, profile, partitions),
    ]


def by_vintage(frames: Mapping[str, pl.DataFrame]) -> dict[tuple[str, str], pl.DataFrame]:
    """Published tables by (source, vintage), from one frame a source that holds all
    its vintages.
    """
    return {
        (source, vintage): part
        for source, frame in frames.items()
        for (vintage,), part in frame.partition_by("vintage", as_dict=True).items()
    }


def needed_sources(catalog: Catalog, profile: Profile, levels: Iterable[str]) -> list[str]:
    """Ids of the publications that building targets at ``levels`` reads, carry rules included,
    sorted.
    """
    return sorted({source for source, _ in catalog.required_tables(profile, levels)})


def require_targets(frame: pl.DataFrame, table: str) -> None:
    """Hard rules of a target table: a row for each key, finite values, no negative standard error,
    a reason wherever a target does not calibrate.
    """
    require(
        frame.height > 0,
        "There is no target at all",
        where=table,
        expected="at least one target",
        remedy="Check the profile's list of targets",
    )
    remedy = "This is a fault of the target builder or of a spec; the rows named show which"
    require_no_rows(
        frame.filter(pl.struct(KEY).is_duplicated()),
        "state the same target twice",
        table=table,
        columns=KEY,
        remedy=remedy,
    )
    calibrating = frame.filter((pl.col("role") == "calibrate") & pl.col("value").is_not_null())
    require_no_rows(
        calibrating.filter(~pl.col("value").is_finite()),
        "have a value that is not finite",
        table=table,
        columns=KEY,
        remedy=remedy,
    )
    require_no_rows(
        frame.filter(pl.col("standard_error") < 0),
        "have a negative standard error",
        table=table,
        columns=KEY,
        remedy=remedy,
    )
    silent = frame.filter((pl.col("role") != "calibrate") & (pl.col("reason").fill_null("") == ""))
    require_no_rows(
        silent, "do not calibrate and give no reason", table=table, columns=KEY, remedy=remedy
    )


def _counts(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("level", "role", "status").len("targets").sort("level", "role", "status")


def _plot(frame: pl.DataFrame, title: str, synthetic: bool) -> dg.MetadataValue:
    from pipeline.reports.plots import bars

    counts = (
        frame.group_by(label=pl.col("level") + " · " + pl.col("role")).len("targets").sort("label")
    )
    return inline_png(
        bars(counts, "label", "targets", title, "targets", synthetic=synthetic), title
    )


def _metadata(
    frame: pl.DataFrame, title: str, profile: Profile, notes: Any = (), **more: Any
) -> dict[str, Any]:
    return frame_metadata(
        frame,
        notes=notes,
        targets_by_level=dg.MetadataValue.md(markdown_table(_counts(frame), limit=60)),
        plot=_plot(frame, title, profile.synthetic),
        **more,
    )


def _national(catalog: Catalog, profile: Profile) -> dg.AssetsDefinition:
    levels = ("nation", "state")
    sources = needed_sources(catalog, profile, levels)

    @dg.asset(
        name=NATIONAL,
        group_name=GROUP,
        kinds={"polars", "parquet"},
        ins={source: dg.AssetIn(source) for source in sources},
        code_version=code_version(*_CODE),
        description=(
            "Published totals of the nation and of every state, carried to the target year and"
            " reconciled: the states add up to the nation."
        ),
        check_specs=check_specs(
            NATIONAL, {"has_targets": "Nation and states have at least one target that calibrates."}
        ),
    )
    @permanent
    def national_targets(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline.targets.build import build_targets
        from pipeline.targets.reconcile import reconcile_national

        built = build_targets(catalog, profile, by_vintage(frames), levels)
        reconciled = reconcile_national(built.frame, catalog.categories.values())
        frame = reconciled.frame
        require_targets(frame, NATIONAL)
        present = set(frame.filter(pl.col("role") == "calibrate")["level"].unique())
        return dg.MaterializeResult(
            value=Table(frame, {"notes": [str(note) for note in built.notes]}),
            metadata=_metadata(
                frame,
                "Targets of the nation and the states",
                profile,
                built.notes,
                **reconciliation_metadata(reconciled),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="has_targets",
                    passed=set(levels) <= present,
                    metadata={"levels": sorted(present)},
                )
            ],
        )

    return national_targets


def _state(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    levels = [level for level in profile.levels if level not in ("nation", "state")]
    sources = needed_sources(catalog, profile, levels)

    @dg.asset(
        name=STATE,
        group_name=GROUP,
        kinds={"polars", "parquet"},
        partitions_def=partitions,
        ins={source: dg.AssetIn(source) for source in sources},
        code_version=code_version(*_CODE),
        description=(
            f"Published totals of each {' and each '.join(levels)} of the state, carried to the"
            " target year, not yet reconciled."
        ),
        check_specs=check_specs(
            STATE,
            {
                "every_level_has_targets": (
                    "Every level of the profile has at least one target that calibrates."
                )
            },
        ),
    )
    @permanent
    def state_targets(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline.targets.build import build_targets

        built = build_targets(
            catalog, profile, by_vintage(frames), levels, state_of(context.partition_key).fips
        )
        require_targets(built.frame, f"{STATE} of {context.partition_key}")
        present = set(built.frame.filter(pl.col("role") == "calibrate")["level"].unique())
        return dg.MaterializeResult(
            value=Table(built.frame, {"notes": [str(note) for note in built.notes]}),
            metadata=_metadata(
                built.frame, f"Published targets of {context.partition_key}", profile, built.notes
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="every_level_has_targets",
                    passed=set(levels) <= present,
                    metadata={"levels": sorted(present)},
                )
            ],
        )

    return state_targets


def _reconciled(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    @dg.asset(
        name=RECONCILED,
        group_name=GROUP,
        kinds={"polars", "parquet"},
        partitions_def=partitions,
        ins={
            STATE: dg.AssetIn(STATE),
            NATIONAL: dg.AssetIn(NATIONAL),
            GEOGRAPHY: dg.AssetIn(GEOGRAPHY),
            CONCEPT_GAPS: dg.AssetIn(CONCEPT_GAPS),
        },
        code_version=code_version(*_CODE),
        description=(
            "The state's targets as one consistent tree: tracts add up to counties, counties to the"
            " state, each moved by its precision; targets whose concept differs too much from what"
            " records can say are marked validation."
        ),
        check_specs=check_specs(
            RECONCILED,
            {
                "every_target_accounted_for": (
                    "Every published target is still there, with a role and a reason."
                ),
                "categories_add_up": (
                    "Children of every group applied sum to their parent in every area, and no"
                    " value is negative that must not be."
                ),
            },
        ),
    )
    @permanent
    def reconciled_targets(
        context: dg.AssetExecutionContext,
        state_targets: pl.DataFrame,
        national_targets: pl.DataFrame,
        geography: pl.DataFrame,
        concept_gaps: pl.DataFrame,
    ):
        from pipeline.targets.concept_gap import apply_gaps
        from pipeline.targets.reconcile import reconcile_state

        fips = state_of(context.partition_key).fips
        areas = geography.filter(
            (pl.col("state_fips") == fips) & (pl.col("vintage") == profile.geography.vintage)
        )
        below, above = (
            apply_gaps(table, concept_gaps, fips) for table in (state_targets, national_targets)
        )
        reconciled = reconcile_state(
            below, above, areas, profile.levels, catalog.categories.values()
        )
        frame = reconciled.frame
        require_targets(frame, f"{RECONCILED} of {context.partition_key}")
        own = above.filter((pl.col("level") == "state") & (pl.col("geoid") == fips))
        lost = pl.concat([own.select(KEY), below.select(KEY)]).join(frame, on=list(KEY), how="anti")
        return dg.MaterializeResult(
            value=frame,
            metadata=_metadata(
                frame,
                f"Reconciled targets of {context.partition_key}",
                profile,
                **reconciliation_metadata(reconciled),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="every_target_accounted_for",
                    passed=lost.is_empty(),
                    metadata={
                        "lost": lost.height,
                        "first": dg.MetadataValue.md(markdown_table(lost.select(KEY))),
                    },
                ),
                dg.AssetCheckResult(
                    check_name="categories_add_up",
                    passed=reconciled.largest_category_gap < CATEGORY_TOLERANCE
                    and reconciled.converged,
                    metadata={
                        "largest_gap": reconciled.largest_category_gap,
                        "nonnegativity_settled": reconciled.converged,
                    },
                ),
            ],
        )

    return reconciled_targets


def reconciliation_metadata(reconciled: "Reconciled") -> dict[str, Any]:
    """What a reconciliation moved: every published value changed by more than two of its standard
    errors, and agreement by variable.
    """
    return {
        "moved_more_than_two_standard_errors": reconciled.adjustments.height,
        "largest_moves": dg.MetadataValue.md(markdown_table(reconciled.adjustments, limit=30)),
        "categories": dg.MetadataValue.md(markdown_table(reconciled.categories, limit=120)),
        "agreement": dg.MetadataValue.md(
            markdown_table(reconciled.agreement.sort("chi_square", descending=True), limit=30)
        ),
    }
