"""Assets of the group ``candidates``: record tables, the gap between records and targets, and the
candidates for weights.

Belongs here: which tables go into which call, what is checked before writing, and metadata. Does
not belong here: how records are made (``pipeline/records``) or candidates built
(``pipeline/weights/candidates.py``).
"""

from typing import Any

import dagster as dg
import polars as pl

from pipeline.assets.common import (
    check_specs,
    code_version,
    frame_metadata,
    inline_png,
    markdown_table,
    permanent,
    permanent_tables,
    require_no_rows,
)
from pipeline.assets.sources import DONOR_PERSONS, GEOGRAPHY, HOUSEHOLDS, PERSONS
from pipeline.assets.targets import CONCEPT_GAPS, NATIONAL, RECONCILED, STATE
from pipeline.io_manager import Table
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.states import state_of
from pipeline.specs.variables import Variable

GROUP = "candidates"
RECORDS = ("record_persons", "record_households", "record_tax_units")
UNITS, AREAS, CELLS = "candidate_units", "candidate_areas", "candidate_cells"
_KINDS = {"polars", "parquet"}
_RECORDS_CODE = ("pipeline/records", "data_specs/factors", "data_specs/profiles")
_CANDIDATES_CODE = (
    "pipeline/records/expressions.py",
    "pipeline/weights/candidates.py",
    "pipeline/weights/cells.py",
    "data_specs/variables",
    "data_specs/cross_categories",
    "data_specs/profiles",
)


def build_record_assets(
    profile: Profile, partitions: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Record tables, ``concept_gaps`` and the three candidate tables of the profile."""
    catalog = load_catalog()
    return [
        _records(catalog, profile, partitions),
        _concept_gaps(catalog, profile, partitions),
        _candidates(catalog, profile, partitions),
    ]


def target_variables(catalog: Catalog, profile: Profile) -> list[Variable]:
    """Variables that some target of the profile states and that records can express, sorted by
    name.
    """
    keys = {
        (item.variable, item.domain) for spec in catalog.specs_of(profile) for item in spec.items
    }
    return [catalog.variables[key] for key in sorted(keys) if catalog.variables[key].expressible]


def _record_inputs() -> dict[str, dg.AssetIn]:
    return {name: dg.AssetIn(name) for name in RECORDS}


def _records(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    contents = (
        "persons with amounts of the target year",
        "households and group-quarters persons, with the attributes their persons imply",
        "tax units under the target year's rules",
    )
    ins = {PERSONS: dg.AssetIn(PERSONS), HOUSEHOLDS: dg.AssetIn(HOUSEHOLDS)}
    if profile.records.donor is not None:
        ins[DONOR_PERSONS] = dg.AssetIn(DONOR_PERSONS)

    @dg.multi_asset(
        can_subset=True,
        name="records",
        partitions_def=partitions,
        ins=ins,
        outs={
            name: dg.AssetOut(
                is_required=False,
                group_name=GROUP,
                kinds=_KINDS,
                code_version=code_version(*_RECORDS_CODE),
                description=f"Records of the state: {content}.",
            )
            for name, content in zip(RECORDS, contents, strict=True)
        },
    )
    @permanent_tables
    def records(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline.records.assemble import assemble_records

        made = assemble_records(
            catalog, profile, frames[PERSONS], frames[HOUSEHOLDS], frames.get(DONOR_PERSONS)
        )
        ids = made.households.select("household_id")
        remedy = "This is a fault of the record builder; report it with the household named"
        for name, table in made.tables.items():
            require_no_rows(
                table.join(ids, on="household_id", how="anti"),
                "belong to no household",
                table=name,
                columns=["household_id"],
                remedy=remedy,
            )
        uprated = (
            dg.MetadataValue.md(markdown_table(made.uprated))
            if made.uprated.height
            else "none: records and targets are of one year"
        )
        return tuple(
            dg.MaterializeResult(
                asset_key=name,
                value=Table(table, {"notes": list(made.notes)}),
                metadata=frame_metadata(table, notes=made.notes, uprated=uprated),
            )
            for name, table in zip(RECORDS, made.tables.values(), strict=True)
        )

    return records


def _gap_plot(gaps: pl.DataFrame, state: str, synthetic: bool) -> dg.MetadataValue:
    from pipeline.reports.plots import bars

    title = f"Concept gaps of {state} before calibration"
    named = gaps.filter(pl.col("gap").is_finite()).select(
        name=pl.col("variable") + " · " + pl.col("domain"), gap=pl.col("gap").abs()
    )
    return inline_png(
        bars(named, "name", "gap", title, "absolute relative gap", synthetic=synthetic), title
    )


def _concept_gaps(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    @dg.asset(
        name=CONCEPT_GAPS,
        group_name=GROUP,
        kinds=_KINDS,
        partitions_def=partitions,
        ins={STATE: dg.AssetIn(STATE), NATIONAL: dg.AssetIn(NATIONAL), **_record_inputs()},
        code_version=code_version(
            "pipeline/targets/concept_gap.py",
            "pipeline/records/design_totals.py",
            *_CANDIDATES_CODE,
        ),
        description=(
            "How far design-weighted records are from each target before calibration, and which"
            " targets are therefore kept for validation only."
        ),
        check_specs=check_specs(
            CONCEPT_GAPS,
            {
                "most_targets_calibrate": (
                    "At least half of the variables of the targets are kept for calibration."
                )
            },
        ),
    )
    @permanent
    def concept_gaps(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline.records.design_totals import design_totals
        from pipeline.targets.concept_gap import concept_gaps as gaps_of

        fips = state_of(context.partition_key).fips
        totals, notes = design_totals(_tables(frames), target_variables(catalog, profile))
        own = frames[NATIONAL].filter((pl.col("level") == "state") & (pl.col("geoid") == fips))
        gaps = gaps_of(
            totals,
            pl.concat([own, frames[STATE]]),
            profile.concept_gap_limit,
            state_fips=fips,
            same_concept=catalog.same_concept(profile),
            same_concept_limit=profile.same_concept_gap_limit,
        )
        calibrating = gaps.filter(pl.col("role") == "calibrate").height
        wide = gaps.filter(pl.col("role") != "calibrate").select(
            "variable", "domain", "role", "gap", "reason"
        )
        return dg.MaterializeResult(
            value=gaps,
            metadata=frame_metadata(
                gaps,
                notes=notes,
                not_calibrating=dg.MetadataValue.md(markdown_table(wide, limit=100)),
                calibrating=calibrating,
                plot=_gap_plot(gaps, context.partition_key, profile.synthetic),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="most_targets_calibrate",
                    passed=2 * calibrating >= gaps.height,
                    metadata={"calibrating": calibrating, "variables": gaps.height},
                )
            ],
        )

    return concept_gaps


def _tables(frames: dict[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    return {name.removeprefix("record_"): frames[name] for name in RECORDS}


def areas_of(geography: pl.DataFrame, postal: str, vintage: str) -> pl.DataFrame:
    """The state's tracts in one vintage of the geography table."""
    return geography.filter(
        (pl.col("state_fips") == state_of(postal).fips) & (pl.col("vintage") == vintage)
    )


def _cell_metadata(cells: Any) -> dict[str, Any]:
    """How many cells there were and are, and every one that was joined to others; thin ones that no
    step could help are named.
    """
    thin = cells.table.filter("thin").select("label", "records", "weight")
    return {
        "cells_before": cells.before,
        "cells_after": cells.table.height,
        "cells_collapsed": dg.MetadataValue.md(
            markdown_table(cells.collapsed, limit=200) if cells.collapsed.height else "none"
        ),
        "cells_still_thin": dg.MetadataValue.md(
            markdown_table(thin, limit=100) if thin.height else "none"
        ),
    }


def _candidates(
    catalog: Catalog, profile: Profile, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    contents = {
        UNITS: (
            "Units of the state that may get weight: prior weight, cross-category cell, and what"
            " each adds to every variable"
        ),
        AREAS: f"Where a unit of each PUMA may lie: its prior share in each {profile.finest_level}",
        CELLS: (
            "Cross-category cells of the units after thin ones were collapsed: records, design"
            " weight, and the value of every class"
        ),
    }

    @dg.multi_asset(
        can_subset=True,
        name="candidates",
        partitions_def=partitions,
        ins={
            RECONCILED: dg.AssetIn(RECONCILED),
            GEOGRAPHY: dg.AssetIn(GEOGRAPHY),
            **_record_inputs(),
        },
        outs={
            name: dg.AssetOut(
                is_required=False,
                group_name=GROUP,
                kinds=_KINDS,
                code_version=code_version(*_CANDIDATES_CODE),
                description=f"{content}.",
            )
            for name, content in contents.items()
        },
    )
    @permanent_tables
    def candidates(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline.specs.cross_categories import load_cross_categories
        from pipeline.weights.candidates import build_candidates, candidate_pairs

        state = context.partition_key
        made = build_candidates(
            _tables(frames),
            target_variables(catalog, profile),
            frames[RECONCILED],
            areas_of(frames[GEOGRAPHY], state, profile.geography.vintage),
            areas_of(frames[GEOGRAPHY], state, profile.geography.puma_link_vintage),
            load_cross_categories(profile.cross_categories),
            finest_level=profile.finest_level,
            elsewhere_share=profile.candidates.elsewhere_share,
        )
        inexpressible = [
            f"{item.variable}/{item.domain}: {item.reason}" for item in made.inexpressible
        ]
        pairs = candidate_pairs(made.units, made.areas)
        facts = {"notes": list(made.notes), "candidate_pairs": pairs}
        more: dict[str, Any] = {
            "candidate_pairs": pairs,
            "inexpressible": dg.MetadataValue.json(inexpressible),
        }
        cells = _cell_metadata(made.cells)
        shown = made.units.select(made.units.columns[:8])
        results = [
            dg.MaterializeResult(
                asset_key=UNITS,
                value=Table(made.units, facts),
                metadata=frame_metadata(shown, notes=made.notes, **more, **cells),
            ),
            dg.MaterializeResult(
                asset_key=AREAS,
                value=Table(made.areas, facts),
                metadata=frame_metadata(made.areas, notes=made.notes),
            ),
            dg.MaterializeResult(
                asset_key=CELLS,
                value=Table(made.cells.table, facts),
                metadata=frame_metadata(made.cells.table, notes=made.cells.notes, **cells),
            ),
        ]
        return results

    return candidates
