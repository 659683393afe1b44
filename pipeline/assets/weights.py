"""Assets of the group ``weights``: dense calibration, selection of exactly k pairs, refinement, and
the records that were chosen.

Belongs here: which tables go into which call, hard rules before anything is written, checks and
metadata. Does not belong here: the steps themselves (``pipeline/weights/calibrate.py``) or numerics
(``calibration_core``).
"""

from collections.abc import Iterable
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
    require,
    require_no_rows,
)
from pipeline.assets.records import AREAS, CELLS, RECORDS, UNITS, areas_of
from pipeline.assets.sources import GEOGRAPHY
from pipeline.assets.targets import RECONCILED
from pipeline.io_manager import Table
from pipeline.specs.profiles import Profile

GROUP = "weights"
DENSE, SELECTED, WEIGHTS = "dense_weights", "selected_pairs", "weights"
SELECTED_RECORDS = ("selected_persons", "selected_households")
_KINDS = {"polars", "parquet"}
_CODE = ("pipeline/weights", "calibration_core", "data_specs/profiles")


class BudgetConfig(dg.Config):
    """Run configuration of ``selected_pairs``. ``pairs``: k, the number of pairs of the whole
    state; null takes the profile's budget an area.
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


def inputs_of(*names: str) -> dict[str, dg.AssetIn]:
    return {name: dg.AssetIn(name) for name in names}


def problem_of(
    frames: dict[str, pl.DataFrame], profile: Profile, state: str
) -> tuple[Any, pl.DataFrame]:
    """The state's problem as arrays, and its areas in the targets' vintage."""
    from pipeline.weights.calibrate import build_problem

    areas = areas_of(frames[GEOGRAPHY], state, profile.geography.vintage)
    return build_problem(frames[RECONCILED], frames[UNITS], areas, profile), areas


def _solver_metadata(result: Any) -> dict[str, Any]:
    return {
        "solver": result.summary(),
        "tau": result.tau,
        "steps": result.iterations,
        "solver_warnings": dg.MetadataValue.md(
            "\n".join(f"* {text}" for text in result.warnings) or "none"
        ),
    }


def _fit_metadata(fit: pl.DataFrame, column: str, title: str, profile: Profile) -> dict[str, Any]:
    """Fit by level, the worst targets as a table, and two plots."""
    from pipeline.reports.fit import summary_by, worst_targets
    from pipeline.reports.plots import error_curves, fit_scatter

    shown = fit.filter(pl.col(column).is_not_null() & pl.col("value").is_not_null()).select(
        "level", "value", fitted=pl.col(column)
    )
    return {
        "fit_by_level": dg.MetadataValue.md(markdown_table(summary_by(fit, column))),
        "worst_targets": dg.MetadataValue.md(markdown_table(worst_targets(fit, column), limit=20)),
        "plot": inline_png(fit_scatter(shown, title, synthetic=profile.synthetic), title),
        "plot_errors": inline_png(
            error_curves(shown, title, synthetic=profile.synthetic), f"{title}, errors"
        ),
    }


def _dense(profile: Profile, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        name=DENSE,
        group_name=GROUP,
        kinds={*_KINDS, "pytorch"},
        partitions_def=partitions,
        ins=inputs_of(RECONCILED, UNITS, AREAS, GEOGRAPHY),
        code_version=code_version(*_CODE),
        description=(
            f"Calibrated weight of every unit in every {profile.finest_level}: a row a unit, a"
            " column an area."
        ),
        check_specs=check_specs(DENSE, {"converged": "The solver met its tolerance."}),
    )
    @permanent
    def dense_weights(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        import numpy as np

        from pipeline.reports.fit import fitted_targets
        from pipeline.weights.calibrate import dense_calibration

        state = context.partition_key
        problem, _ = problem_of(frames, profile, state)
        result = dense_calibration(problem, frames[UNITS], frames[AREAS], profile)
        require(
            bool(np.isfinite(result.weights).all() and (result.weights >= 0).all()),
            "A dense weight is negative or not finite",
            where=f"{DENSE} of {state}",
            expected="finite weights of at least zero",
            remedy="Nothing was written; report this with the profile and the state",
        )
        table = pl.DataFrame(
            {
                "household_id": frames[UNITS]["household_id"],
                **{area: result.weights[i] for i, area in enumerate(problem.tree.leaves)},
            }
        )
        fit = fitted_targets(frames[RECONCILED], problem, {"fitted_dense": result.fitted})
        metadata = frame_metadata(
            table.select(table.columns[:6]),
            ess=result.effective_sample_size,
            **_solver_metadata(result),
            **_fit_metadata(fit, "fitted_dense", f"Dense fit of {state}", profile),
        )
        check = dg.AssetCheckResult(
            check_name="converged",
            passed=bool(result.converged),
            metadata={"status": result.status},
        )
        return dg.MaterializeResult(value=table, metadata=metadata, check_results=[check])

    return dense_weights


def _dense_array(problem: Any, frames: dict[str, pl.DataFrame], state: str) -> Any:
    """The stored dense weights, (areas, units), after making sure that they belong to these areas
    and units.
    """
    require(
        set(problem.tree.leaves) <= set(frames[DENSE].columns)
        and frames[DENSE]["household_id"].equals(frames[UNITS]["household_id"]),
        "The stored dense weights were made for other areas or other households",
        where=f"{DENSE} of {state}",
        expected="dense weights of the present geography and candidates",
        remedy=f"Materialise {DENSE} of {state} again",
    )
    return frames[DENSE].select(problem.tree.leaves).to_numpy().T


def _names_of(problem: Any, places: Iterable[tuple[int, int, int]]) -> list[str]:
    """Targets named from (depth, area, variable): ``tract 44007000101 persons age_80_84``."""
    return [
        f"{problem.tree.levels[d]} {problem.tree.geoids[d][a]} {' '.join(problem.keys[d][v])}"
        for d, a, v in places
    ]


def _selected(profile: Profile, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        name=SELECTED,
        group_name=GROUP,
        kinds=_KINDS,
        partitions_def=partitions,
        ins=inputs_of(RECONCILED, UNITS, CELLS, GEOGRAPHY, DENSE),
        code_version=code_version(*_CODE),
        description=(
            "Exactly k (household, area) pairs: a balanced draw by cross-category cells in"
            " proportion to dense weight, then exchanges; with starting weights."
        ),
        check_specs=check_specs(SELECTED, {"exactly_k": "The number of pairs is the budget."}),
    )
    @permanent
    def selected_pairs(
        context: dg.AssetExecutionContext, config: BudgetConfig, **frames: pl.DataFrame
    ):
        from pipeline.reports.plots import histogram
        from pipeline.weights.calibrate import budget_of, selection

        state = context.partition_key
        problem, _ = problem_of(frames, profile, state)
        dense = _dense_array(problem, frames, state)
        budget = budget_of(profile, len(problem.tree.leaves), config.pairs)
        drawn = selection(
            problem, dense, frames[UNITS], frames[CELLS], profile, budget, progress=context.log.info
        )
        table = pl.DataFrame(
            {
                "household_id": frames[UNITS]["household_id"].gather(drawn.record),
                "area": [problem.tree.leaves[i] for i in drawn.leaf],
                "dense_weight": dense[drawn.leaf, drawn.record],
                "probability": drawn.probability,
                "starting_weight": drawn.weight,
            }
        )
        require(
            table.height == budget,
            f"{table.height:,} pairs were drawn",
            where=f"{SELECTED} of {state}",
            expected=f"exactly {budget:,}",
            remedy="Nothing was written; report this with the profile and the state",
        )
        require_no_rows(
            table.filter(pl.struct("household_id", "area").is_duplicated()),
            "are drawn twice",
            table=SELECTED,
            columns=["household_id", "area"],
            remedy="Report this with the profile and the state",
        )
        title = f"Starting weights of {state}"
        return dg.MaterializeResult(
            value=Table(table, {"budget": budget, "candidate_pairs": int((dense > 0).sum())}),
            metadata=frame_metadata(
                table,
                k=budget,
                areas_without_records=int((drawn.per_leaf == 0).sum()),
                cells_lost=drawn.categories_lost,
                cell_counts_off=drawn.rounding_misses,
                exchanges=int(drawn.exchanges.sum()),
                rounds=drawn.rounds,
                error_as_drawn=float(drawn.drawn_error.mean()),
                error_after_exchanges=float(drawn.error.mean()),
                allocation=dg.MetadataValue.md(
                    "\n".join(f"* {text}" for text in drawn.allocation.warnings)
                    or f"{drawn.allocation.rule}: every area within its bounds"
                ),
                targets_given_a_pair_back=len(drawn.rescued),
                targets_without_a_pair=dg.MetadataValue.json(
                    _names_of(problem, drawn.without_support)
                ),
                dense_weight_lost=drawn.mass_lost,
                plot=inline_png(
                    histogram(
                        table,
                        "starting_weight",
                        title,
                        "households per pair",
                        synthetic=profile.synthetic,
                    ),
                    title,
                ),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="exactly_k", passed=table.height == budget, metadata={"k": budget}
                )
            ],
        )

    return selected_pairs


def _weights(profile: Profile, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        name=WEIGHTS,
        group_name=GROUP,
        kinds={*_KINDS, "pytorch"},
        partitions_def=partitions,
        ins=inputs_of(RECONCILED, UNITS, AREAS, GEOGRAPHY, DENSE, SELECTED),
        code_version=code_version(*_CODE),
        description=(
            "The product: household_id, tract, county, state, weight. Exactly k pairs, refined so"
            " that their totals meet the targets."
        ),
        check_specs=[
            *check_specs(WEIGHTS, {"converged": "The solver met its tolerance."}),
            *check_specs(
                WEIGHTS,
                {"population_met": "The state's total population is within 0.5 % of its target."},
                blocking=False,
            ),
        ],
    )
    @permanent
    def weights(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline.reports.fit import fitted_targets, weight_summary
        from pipeline.reports.plots import histogram
        from pipeline.weights.calibrate import refine, require_sound_weights, weights_table
        from pipeline.weights.candidates import candidate_pairs

        state = context.partition_key
        problem, areas = problem_of(frames, profile, state)
        pairs = _pairs(problem, frames[SELECTED], frames[UNITS])
        fit_of_pairs = refine(
            problem, pairs, _dense_array(problem, frames, state), frames[UNITS], profile
        )
        result = fit_of_pairs.result
        table = weights_table(
            problem, pairs, result.weights, frames[UNITS], areas, state, profile.finest_level
        )
        require_sound_weights(table, frames[SELECTED].height, state)
        fit = fitted_targets(frames[RECONCILED], problem, {"fitted": result.fitted})
        summary = weight_summary(table)
        title = f"Weights of {state}"
        metadata = frame_metadata(
            table,
            **summary,
            **_solver_metadata(result),
            anchors=fit_of_pairs.anchored,
            starting_weights_limited=fit_of_pairs.limited,
            areas_with_smaller_weights=dg.MetadataValue.json(
                [problem.tree.leaves[t] for t in fit_of_pairs.relaxed_areas]
            ),
            **_fit_metadata(fit, "fitted", f"Fit of the selected pairs of {state}", profile),
            plot_weights=inline_png(
                histogram(
                    table, "weight", title, "households per pair", synthetic=profile.synthetic
                ),
                title,
            ),
        )
        checks = [
            dg.AssetCheckResult(
                check_name="converged",
                passed=bool(result.converged),
                metadata={"status": result.status},
            ),
            _population_check(fit),
        ]
        facts = {
            "candidate_pairs": candidate_pairs(frames[UNITS], frames[AREAS]),
            "budget": frames[SELECTED].height,
        }
        return dg.MaterializeResult(
            value=Table(table, facts), metadata=metadata, check_results=checks
        )

    return weights


def pair_indices(
    problem: Any, pairs: pl.DataFrame, units: pl.DataFrame, table: str
) -> pl.DataFrame:
    """``pairs`` (household_id, area, ...) with ``leaf`` and ``record``, their places in the
    problem, sorted by both.

    Raises InvariantError if a pair names an area or a household that is no candidate (the table is
    older than the candidates).
    """
    leaves = pl.DataFrame({"area": problem.tree.leaves}, schema={"area": pl.String}).with_row_index(
        "leaf"
    )
    records = units.select("household_id").with_row_index("record")
    indexed = (
        pairs.join(leaves, on="area", how="left")
        .join(records, on="household_id", how="left")
        .sort("leaf", "record")
    )
    lost = indexed.filter(pl.col("leaf").is_null() | pl.col("record").is_null())
    remedy = f"{table} is older than the candidates: materialise it again"
    require_no_rows(
        lost,
        "name an area or a household that is no candidate",
        table=table,
        columns=["household_id", "area"],
        remedy=remedy,
    )
    return indexed.with_columns(pl.col("leaf", "record").cast(pl.Int64))


def _pairs(problem: Any, selected: pl.DataFrame, units: pl.DataFrame) -> Any:
    """The stored pairs as a PairProblem, starting weights as the prior."""
    from calibration_core.tree.problem import PairProblem

    indexed = pair_indices(problem, selected, units, SELECTED)
    # Writable copies: torch warns of arrays it could write to and must not.
    leaf, record, prior = (
        indexed[name].to_numpy(writable=True) for name in ("leaf", "record", "starting_weight")
    )
    return PairProblem(problem.tree, problem.targets, leaf, record, prior)


def _population_check(fit: pl.DataFrame) -> dg.AssetCheckResult:
    row = fit.filter(
        (pl.col("level") == "state")
        & (pl.col("variable") == "persons")
        & (pl.col("domain") == "total")
        & pl.col("fitted").is_not_null()
    )
    error = abs(row["fitted"][0] / row["value"][0] - 1) if row.height else None
    return dg.AssetCheckResult(
        check_name="population_met",
        passed=error is not None and error <= 0.005,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={
            "relative_error": "the state has no population target" if error is None else error
        },
    )


def _selected_records(partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.multi_asset(
        can_subset=True,
        name="selected_records",
        partitions_def=partitions,
        ins=inputs_of(WEIGHTS, *RECORDS[:2]),
        outs={
            name: dg.AssetOut(
                is_required=False,
                group_name=GROUP,
                kinds=_KINDS,
                code_version=code_version("pipeline/assets/weights.py"),
                description=f"The {what} that have a weight, once each.",
            )
            for name, what in zip(
                SELECTED_RECORDS, ("persons of the households", "households"), strict=True
            )
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
            results.append(
                dg.MaterializeResult(asset_key=name, value=table, metadata=frame_metadata(table))
            )
        return results

    return selected_records
