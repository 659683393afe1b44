"""Assets of the group ``weights``: dense calibration, selection of exactly k pairs, refinement, and
the records that were chosen.

Belongs here: which tables go into which step, checks and metadata. Does not belong here: the steps
themselves (``pipeline/steps.py``) or the hard rules of their tables (``weights/table.py``).
"""

import dagster as dg
import polars as pl

from pipeline.assets import metadata
from pipeline.assets.common import check_specs, frame_metadata, permanent, permanent_tables
from pipeline.assets.names import (
    AREAS,
    CELLS,
    DENSE,
    GEOGRAPHY,
    OF_THE_STATE,
    POOLS,
    RECONCILED,
    RECORDS,
    SELECTED,
    SELECTED_RECORDS,
    UNITS,
    WEIGHTS,
    WEIGHTS_GROUP,
    inputs_of,
)
from pipeline.invariants import require_no_rows
from pipeline.io_manager import Table
from pipeline.settings import memory_budget
from pipeline.specs.profiles import Profile
from pipeline.step_words import step_words
from pipeline.vocabulary import POPULATION, STATE, is_variable

_KINDS = {"polars", "parquet"}
# A state's total is the sum of tens of thousands of fitted figures; half a percent off is a fault.
POPULATION_TOLERANCE = 0.005
# Steps that fill memory and cores: an instance may limit how many run at a time.
SOLVER_POOL = "solver"
CONVERGED = "The solver met its tolerance."


class BudgetConfig(dg.Config):
    """Run configuration of ``selected_pairs``.

    ``pairs``: k, the number of pairs of the whole state; null takes the profile's pairs per area.
    """

    pairs: int | None = None


def build_weight_assets(
    profile: Profile, partitions: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """The assets of the group for this profile."""
    return [
        _dense(profile, partitions),
        _selected(profile, partitions),
        _weights(profile, partitions),
        _selected_records(partitions),
    ]


def solvable(profile: Profile, postal: str, frames: dict[str, pl.DataFrame]):
    """The state as its steps take it, from the stored tables among ``frames``."""
    from pipeline import steps

    targets, geography, units = (frames[name] for name in (RECONCILED, GEOGRAPHY, UNITS))
    candidates = units, frames[AREAS], frames[POOLS], frames.get(CELLS)
    return steps.solvable(profile.of(postal), postal, targets, geography, *candidates)


def _dense(profile: Profile, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        name=DENSE,
        group_name=WEIGHTS_GROUP,
        pool=SOLVER_POOL,
        kinds={*_KINDS, "pytorch"},
        partitions_def=partitions,
        ins=inputs_of(*OF_THE_STATE),
        description=(
            f"Calibrated weight of every unit in every {profile.finest_level}, by what determines"
            " it: a rate for each target, its price. `geocal dense` writes the weights themselves."
        ),
        check_specs=check_specs(DENSE, {"converged": CONVERGED}, partitions=partitions),
    )
    @permanent
    def dense_weights(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps
        from pipeline.weights.budget import requested_pairs, require_pairs
        from pipeline.weights.memory import require_memory

        state = solvable(profile, context.partition_key, frames)
        # The selection would refuse such a number too, but only after the dense solve.
        require_pairs(state, requested_pairs(context.run.run_config, SELECTED))
        need = require_memory(state, memory_budget())
        with step_words(context.log.info) as say:
            table, result = steps.dense_weights(state, progress=say)
        fit = steps.fit_of(state, fitted_dense=result.fitted)
        title = f"Dense fit of {state.postal}"
        shown = frame_metadata(
            table,
            ess=result.effective_sample_size,
            memory_expected_mb=round(need.total / 2**20),
            **metadata.of_solver(result),
            **metadata.of_fit(fit, "fitted_dense", title, profile),
        )
        return dg.MaterializeResult(
            value=table, metadata=shown, check_results=[metadata.convergence(result)]
        )

    return dense_weights


def _selected(profile: Profile, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        name=SELECTED,
        group_name=WEIGHTS_GROUP,
        pool=SOLVER_POOL,
        kinds=_KINDS,
        partitions_def=partitions,
        ins=inputs_of(*OF_THE_STATE, CELLS, DENSE),
        description=(
            "Exactly k (household, area) pairs: a balanced draw by cross-category cells in"
            " proportion to dense weight, then exchanges; with starting weights."
        ),
        check_specs=check_specs(
            SELECTED, {"exactly_k": "The number of pairs is the budget."}, partitions=partitions
        ),
    )
    @permanent
    def selected_pairs(
        context: dg.AssetExecutionContext, config: BudgetConfig, **frames: pl.DataFrame
    ):
        from pipeline import steps
        from pipeline.weights.candidates import candidate_pairs
        from pipeline.weights.settings import pairs_of

        state = solvable(profile, context.partition_key, frames)
        pairs = pairs_of(state.profile, len(state.leaves), config.pairs)
        with step_words(context.log.info) as say:
            table, chosen = steps.selected_pairs(state, frames[DENSE], pairs, progress=say)
        candidates = candidate_pairs(frames[UNITS], frames[AREAS], frames[POOLS])
        return dg.MaterializeResult(
            value=Table(table, {"pairs": pairs, "candidate_pairs": candidates}),
            metadata=metadata.of_selection(state, table, chosen),
            check_results=[
                dg.AssetCheckResult(
                    check_name="exactly_k", passed=table.height == pairs, metadata={"k": pairs}
                )
            ],
        )

    return selected_pairs


def _weights(profile: Profile, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    met = f"The state's total population is within {100 * POPULATION_TOLERANCE:g} % of its target."

    @dg.asset(
        name=WEIGHTS,
        group_name=WEIGHTS_GROUP,
        pool=SOLVER_POOL,
        kinds={*_KINDS, "pytorch"},
        partitions_def=partitions,
        ins=inputs_of(*OF_THE_STATE, DENSE, SELECTED),
        description=(
            "The product: household_id, tract, county, weight. Exactly k pairs, refined so"
            " that their totals meet the targets."
        ),
        check_specs=[
            *check_specs(WEIGHTS, {"converged": CONVERGED}, partitions=partitions),
            *check_specs(WEIGHTS, {"population_met": met}, blocking=False, partitions=partitions),
        ],
    )
    @permanent
    def weights(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps
        from pipeline.weights.candidates import candidate_pairs

        state = solvable(profile, context.partition_key, frames)
        with step_words(context.log.info) as say:
            table, refined = steps.refined_weights(
                state, frames[DENSE], frames[SELECTED], progress=say
            )
        fit = steps.fit_of(state, fitted=refined.result.fitted)
        pairs = candidate_pairs(frames[UNITS], frames[AREAS], frames[POOLS])
        return dg.MaterializeResult(
            value=Table(table, {"candidate_pairs": pairs, "pairs": table.height}),
            metadata=metadata.of_weights(state, table, refined, fit),
            check_results=[metadata.convergence(refined.result), _population_check(fit)],
        )

    return weights


def _population_check(fit: pl.DataFrame) -> dg.AssetCheckResult:
    stated = (pl.col("level") == STATE) & is_variable(POPULATION) & pl.col("fitted").is_not_null()
    row = fit.filter(stated)
    error = abs(row["fitted"][0] / row["value"][0] - 1) if row.height else None
    found = "the state has no population target" if error is None else error
    return dg.AssetCheckResult(
        check_name="population_met",
        passed=error is not None and error <= POPULATION_TOLERANCE,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"relative_error": found},
    )


def _selected_records(partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    contents = zip(SELECTED_RECORDS, ("persons of the households", "households"), strict=True)

    @dg.multi_asset(
        can_subset=True,
        name="selected_records",
        partitions_def=partitions,
        ins=inputs_of(WEIGHTS, *RECORDS[:2]),
        outs={
            name: dg.AssetOut(
                is_required=False,
                group_name=WEIGHTS_GROUP,
                kinds=_KINDS,
                description=f"The {what} that have a weight, once each.",
            )
            for name, what in contents
        },
    )
    @permanent_tables
    def selected_records(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        weighted = frames[WEIGHTS].select("household_id").unique()
        results = []
        for name, source in zip(SELECTED_RECORDS, RECORDS[:2], strict=True):
            table = frames[source].join(
                weighted, on="household_id", how="semi", maintain_order="left"
            )
            require_no_rows(
                weighted.join(table, on="household_id", how="anti"),
                "have a weight and no record",
                table=name,
                columns=["household_id"],
                remedy="Materialise records and weights of this state again",
            )
            shown = frame_metadata(table)
            results.append(dg.MaterializeResult(asset_key=name, value=table, metadata=shown))
        return results

    return selected_records
