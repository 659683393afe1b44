"""Assets of the group ``candidates``: record tables, the gap between records and targets, and the
candidates for weights.

Belongs here: which tables go into which step, what is checked before writing, and metadata. Does
not belong here: how records are made (``pipeline/records``) or the steps (``pipeline/steps.py``).
"""

import dagster as dg
import polars as pl

from pipeline.assets import metadata
from pipeline.assets.common import check_specs, frame_metadata, permanent, permanent_tables
from pipeline.assets.names import (
    AREAS,
    CANDIDATES_GROUP,
    CELLS,
    CONCEPT_GAPS,
    DONOR_HOUSEHOLDS,
    DONOR_PERSONS,
    GEOGRAPHY,
    HOUSEHOLDS,
    NATIONAL_TARGETS,
    PERSONS,
    POOLS,
    RECONCILED,
    RECORD_ALIGNMENT,
    RECORD_DONATION,
    RECORDS,
    REPLICATES,
    STATE_TARGETS,
    SURVEY_ESTIMATES,
    UNITS,
    inputs_of,
)
from pipeline.invariants import require_no_rows
from pipeline.io_manager import Table
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile
from pipeline.vocabulary import CALIBRATE

_KINDS = {"polars", "parquet"}
_NEAR_DONORS = "near_donors"


def build_record_assets(
    profile: Profile, partitions: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Record tables, ``survey_estimates``, ``concept_gaps`` and the three candidate tables of the
    profile."""
    catalog = load_catalog()
    return [
        _records(catalog, profile, partitions),
        _survey_estimates(catalog, profile, partitions),
        _concept_gaps(catalog, profile, partitions),
        _candidates(catalog, profile, partitions),
    ]


def _outs(contents: dict[str, str]) -> dict[str, dg.AssetOut]:
    """Outputs of a step that makes several tables, by name, with what each holds."""
    return {
        name: dg.AssetOut(
            is_required=False, group_name=CANDIDATES_GROUP, kinds=_KINDS, description=f"{content}."
        )
        for name, content in contents.items()
    }


def _tables(frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name.removeprefix("record_"): frames[name] for name in RECORDS}


def _records(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    contents = (
        "persons with amounts of the target year",
        "households and group-quarters persons, with the attributes their persons imply",
        "tax units under the target year's rules",
    )
    holds = {n: f"Records of the state: {c}" for n, c in zip(RECORDS, contents, strict=True)}
    donors: tuple[str, ...] = ()
    checks: list[dg.AssetCheckSpec] = []
    if profile.records.donor is not None:
        donors = (DONOR_PERSONS, DONOR_HOUSEHOLDS)
        holds[RECORD_DONATION] = (
            "What the records borrowed from the donor survey: receivers and dollars there and in"
            " the records, for each column"
        )
        words = "Receivers and dollars of donated columns are near the donors' in the nation."
        checks = check_specs(
            RECORD_DONATION, {_NEAR_DONORS: words}, blocking=False, partitions=partitions
        )
    # Records that no step aligns know nothing of targets, and have no such table.
    aligned_with: tuple[str, ...] = ()
    if profile.records.steps:
        aligned_with = (NATIONAL_TARGETS,)
        holds[RECORD_ALIGNMENT] = (
            "Totals of the records before and after each step that aligns them with administrative"
            " data, beside the published figures"
        )

    @dg.multi_asset(
        can_subset=True,
        name="records",
        partitions_def=partitions,
        ins=inputs_of(PERSONS, HOUSEHOLDS, *donors, *aligned_with),
        outs=_outs(holds),
        check_specs=checks,
    )
    @permanent_tables
    def records(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline.records.assemble import assemble_records

        made = assemble_records(
            catalog,
            profile.of(context.partition_key),
            frames[PERSONS],
            frames[HOUSEHOLDS],
            frames.get(DONOR_PERSONS),
            frames.get(NATIONAL_TARGETS),
            frames.get(DONOR_HOUSEHOLDS),
        )
        ids = made.households.select("household_id")
        uprated: str | dg.MetadataValue = "none: records and targets are of one year"
        if made.uprated.height:
            uprated = metadata.table_of(made.uprated)
        results = []
        for name, table in zip(RECORDS, made.tables.values(), strict=True):
            require_no_rows(
                table.join(ids, on="household_id", how="anti"),
                "belong to no household",
                table=name,
                columns=["household_id"],
                remedy="This is a fault of the record builder; report it with the household named",
            )
            value = Table(table, {"notes": list(made.notes)})
            shown = frame_metadata(table, notes=made.notes, uprated=uprated)
            results.append(dg.MaterializeResult(asset_key=name, value=value, metadata=shown))
        if profile.records.steps:
            shown = metadata.of_alignment(made.alignment)
            results.append(
                dg.MaterializeResult(
                    asset_key=RECORD_ALIGNMENT,
                    value=Table(made.alignment, {"notes": list(made.notes)}),
                    metadata=shown,
                )
            )
        if profile.records.donor is not None:
            results.append(_donation_result(made.donation, made.notes))
        return results

    return records


def _donation_result(table: pl.DataFrame, notes: tuple[str, ...]) -> dg.MaterializeResult:
    """``record_donation`` with its check, which warns."""
    from pipeline.records.donation_table import far_from_donors

    far = far_from_donors(table)
    judged = dg.AssetCheckResult(
        check_name=_NEAR_DONORS,
        passed=not far,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"columns": table.height, "far": metadata.list_of(far)},
    )
    return dg.MaterializeResult(
        asset_key=RECORD_DONATION,
        value=Table(table, {"notes": list(notes)}),
        metadata=metadata.of_donation(table),
        check_results=[judged],
    )


def _survey_estimates(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    @dg.asset(
        name=SURVEY_ESTIMATES,
        group_name=CANDIDATES_GROUP,
        kinds=_KINDS,
        partitions_def=partitions,
        ins=inputs_of(STATE_TARGETS, NATIONAL_TARGETS, REPLICATES, *RECORDS),
        description=(
            "What the survey itself says of the state and its PUMAs: every variable that records"
            " express, by design weights, with the standard error of 80 replicate weights; of its"
            " own year, and carried to the target year by age and sex."
        ),
    )
    @permanent
    def survey_estimates(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps

        made, notes = steps.survey_estimates(
            catalog,
            profile,
            context.partition_key,
            _tables(frames),
            frames[REPLICATES],
            frames[STATE_TARGETS],
            frames[NATIONAL_TARGETS],
        )
        return dg.MaterializeResult(
            value=Table(made, {"notes": [str(note) for note in notes]}),
            metadata=frame_metadata(made, notes=notes),
        )

    return survey_estimates


def _concept_gaps(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    words = "At least half of the variables of the targets are kept for calibration."

    @dg.asset(
        name=CONCEPT_GAPS,
        group_name=CANDIDATES_GROUP,
        kinds=_KINDS,
        partitions_def=partitions,
        ins=inputs_of(STATE_TARGETS, NATIONAL_TARGETS, SURVEY_ESTIMATES),
        description=(
            "How far design-weighted records are from each target before calibration, which"
            " targets are therefore kept for validation only, and the concept error of the others."
        ),
        check_specs=check_specs(
            CONCEPT_GAPS, {"most_targets_calibrate": words}, partitions=partitions
        ),
    )
    @permanent
    def concept_gaps(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps

        postal, estimates = context.partition_key, frames[SURVEY_ESTIMATES]
        below, national = frames[STATE_TARGETS], frames[NATIONAL_TARGETS]
        own = profile.of(postal)
        gaps = steps.concept_gaps(catalog, own, postal, estimates, below, national)
        kept = gaps.filter(pl.col("role") == CALIBRATE).height
        return dg.MaterializeResult(
            value=gaps,
            metadata=metadata.of_gaps(gaps, postal, own),
            check_results=[
                dg.AssetCheckResult(
                    check_name="most_targets_calibrate",
                    passed=2 * kept >= gaps.height,
                    metadata={"calibrating": kept, "variables": gaps.height},
                )
            ],
        )

    return concept_gaps


def _candidates(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    contents = {
        UNITS: (
            "Units of the state that may get weight: prior weight, cross-category cell, and what"
            " each adds to every variable"
        ),
        AREAS: (
            f"Where a unit of each PUMA may lie: its prior share in each {profile.finest_level},"
            " and the neighbourhood that it draws on"
        ),
        POOLS: (
            "The units that each neighbourhood draws on: those of its PUMAs, and a sample of the"
            " others with what each stands for"
        ),
        CELLS: (
            "Cross-category cells of the units after thin ones were collapsed: records, design"
            " weight, and the value of every class"
        ),
    }

    @dg.multi_asset(
        can_subset=True,
        name="candidates",
        partitions_def=partitions,
        ins=inputs_of(RECONCILED, GEOGRAPHY, *RECORDS),
        outs=_outs(contents),
    )
    @permanent_tables
    def candidates(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps
        from pipeline.weights.candidates import candidate_pairs

        made = steps.candidates(
            catalog,
            profile.of(context.partition_key),
            context.partition_key,
            _tables(frames),
            frames[RECONCILED],
            frames[GEOGRAPHY],
        )
        pairs = candidate_pairs(made.units, made.areas, made.pools)
        facts = {"notes": list(made.notes), "candidate_pairs": pairs}
        tables = {UNITS: made.units, AREAS: made.areas, POOLS: made.pools, CELLS: made.cells.table}
        shown = metadata.of_candidates(made, pairs)
        return [
            dg.MaterializeResult(asset_key=name, value=Table(table, facts), metadata=said)
            for (name, table), said in zip(tables.items(), shown, strict=True)
        ]

    return candidates
