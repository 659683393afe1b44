"""Assets of the group ``reports``: fit of a state, what selection lost, its run manifest, and the
table of all states.

Belongs here: bringing stored figures together. Does not belong here: measures of fit
(``pipeline/reports/fit.py``) and of selection (``pipeline/reports/selection_report.py``), or plots
(``pipeline/reports/plots.py``).
"""

from collections.abc import Mapping, Sequence
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
)
from pipeline.assets.records import CELLS, UNITS, target_variables
from pipeline.assets.sources import GEOGRAPHY
from pipeline.assets.targets import KEY, NATIONAL, RECONCILED
from pipeline.assets.weights import (
    DENSE,
    SELECTED_RECORDS,
    WEIGHTS,
    inputs_of,
    pair_indices,
    problem_of,
)
from pipeline.manifest import build_manifest, write_manifest
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import load_catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.states import state_of

GROUP = "reports"
FIT, MANIFEST, NATIONAL_REPORT, NATIONAL_FIT = (
    "fit_report",
    "run_manifest",
    "national_report",
    "national_fit",
)
SELECTION = "selection_report"
_CODE = ("pipeline/reports", "pipeline/assets/reports.py")


def build_report_assets(
    profile: Profile,
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition,
    facts: Mapping[str, Any],
    upstream: Sequence[dg.AssetsDefinition],
) -> list[dg.AssetsDefinition]:
    """The assets of the group; ``upstream`` are all others, which the manifest lists."""
    of_state = [_fit(profile, environment, partitions), _selection(profile, partitions)]
    return [
        *of_state,
        _manifest(environment, partitions, facts, upstream),
        _national_fit(profile),
        _national(profile),
    ]


def _fit(
    profile: Profile, environment: RunEnvironment, partitions: dg.PartitionsDefinition
) -> dg.AssetsDefinition:
    @dg.asset(
        name=FIT,
        group_name=GROUP,
        kinds={"polars", "parquet"},
        partitions_def=partitions,
        ins=inputs_of(RECONCILED, UNITS, GEOGRAPHY, DENSE, WEIGHTS),
        code_version=code_version(*_CODE),
        description=(
            "Every target of the state with its fitted value, before and after selection, and the"
            " reason where it was not fitted."
        ),
        check_specs=[
            *check_specs(
                FIT,
                {"every_target_accounted_for": "A target without a fitted value gives a reason."},
            ),
            *check_specs(
                FIT,
                {
                    "share_inside_margin": (
                        "At least 95 % of the finest level's targets with a published margin lie"
                        " inside it."
                    )
                },
                blocking=False,
            ),
        ],
    )
    @permanent
    def fit_report(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline.reports.fit import summary_by, weight_summary, worst_targets
        from pipeline.reports.plots import error_curves, fit_scatter
        from pipeline.reports.truth import truth_totals

        state = context.partition_key
        weights = frames[WEIGHTS]
        fit = _refit(frames, profile, state)
        against_truth = {}
        if profile.synthetic:
            truth = truth_totals(
                environment.data, target_variables(load_catalog(), profile), state_of(state).fips
            )
            fit = fit.join(truth, on=list(KEY), how="left", maintain_order="left")
            against_truth = {
                "error_against_truth": dg.MetadataValue.md(
                    markdown_table(summary_by(fit.with_columns(value="truth"), "fitted"))
                )
            }
        levels = summary_by(fit, "fitted")
        silent = fit.filter(pl.col("fitted").is_null() & (pl.col("not_fitted_reason") == ""))
        finest = levels.filter(pl.col("level") == profile.finest_level)
        share = finest["share_inside_margin"][0] if finest.height else None
        shown = fit.filter(pl.col("fitted").is_not_null())
        families = summary_by(fit, "fitted", ("level", "family"))
        reasons = (
            fit.filter(pl.col("not_fitted_reason") != "")
            .group_by("variable", "domain", "not_fitted_reason")
            .len("targets")
            .sort("variable", "domain", "not_fitted_reason")
        )
        return dg.MaterializeResult(
            value=fit,
            metadata=frame_metadata(
                fit,
                fit_by_level=dg.MetadataValue.md(markdown_table(levels)),
                dense_fit_by_level=dg.MetadataValue.md(
                    markdown_table(summary_by(fit, "fitted_dense"))
                ),
                fit_by_family=dg.MetadataValue.md(markdown_table(families, limit=80)),
                worst_targets=dg.MetadataValue.md(markdown_table(worst_targets(fit), limit=20)),
                not_fitted=dg.MetadataValue.md(markdown_table(reasons, limit=100)),
                weights=dg.MetadataValue.json(weight_summary(weights)),
                **against_truth,
                plot=inline_png(
                    fit_scatter(shown, f"Fit of {state}", synthetic=profile.synthetic),
                    f"Fit of {state}",
                ),
                plot_errors=inline_png(
                    error_curves(shown, f"Errors of {state}", synthetic=profile.synthetic),
                    f"Errors of {state}",
                ),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="every_target_accounted_for",
                    passed=silent.is_empty(),
                    metadata={"silent": silent.height},
                ),
                dg.AssetCheckResult(
                    check_name="share_inside_margin",
                    passed=share is None or share >= 0.95,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={
                        "share": "no margin is published at this level" if share is None else share
                    },
                ),
            ],
        )

    return fit_report


def _stored_weights(
    frames: dict[str, pl.DataFrame], problem: Any, profile: Profile
) -> tuple[Any, Any, Any, Any]:
    """Dense weights (leaves, records), and leaf, record and weight of each selected pair, from the
    stored tables.
    """
    dense = frames[DENSE].select(problem.tree.leaves).to_numpy().T
    area = pl.col("tract" if profile.finest_level == "tract" else "county")
    pairs = pair_indices(problem, frames[WEIGHTS].with_columns(area=area), frames[UNITS], WEIGHTS)
    return dense, *(pairs[name].to_numpy() for name in ("leaf", "record", "weight"))


def _refit(frames: dict[str, pl.DataFrame], profile: Profile, state: str) -> pl.DataFrame:
    """Targets with ``fitted_dense`` and ``fitted``, summed from the stored weights and not taken
    from the solver's own word.
    """
    from calibration_core.tree.totals import pair_totals, pool_totals
    from pipeline.reports.fit import fitted_targets

    problem, _ = problem_of(frames, profile, state)
    designs = problem.targets.designs
    dense, leaf, record, weight = _stored_weights(frames, problem, profile)
    fits = {
        "fitted_dense": pool_totals(problem.tree, designs, dense),
        "fitted": pair_totals(problem.tree, designs, leaf, record, weight),
    }
    return fitted_targets(frames[RECONCILED], problem, fits)


def _selection(profile: Profile, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    @dg.asset(
        name=SELECTION,
        group_name=GROUP,
        kinds={"polars", "parquet"},
        partitions_def=partitions,
        ins=inputs_of(RECONCILED, UNITS, CELLS, GEOGRAPHY, DENSE, WEIGHTS),
        code_version=code_version(
            *_CODE,
            "calibration_core/tree/select/loss_report.py",
            "calibration_core/common/weighted_distribution.py",
            "calibration_core/common/weight_shape.py",
        ),
        description=(
            "What was lost between dense and selected weights: cells, incomes, correlations, sample"
            " sizes, and targets that nobody fitted."
        ),
    )
    @permanent
    def selection_report(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline.reports.selection_report import held_out_rows, measured_loss

        problem, _ = problem_of(frames, profile, context.partition_key)
        stored = _stored_weights(frames, problem, profile)
        loss, table = measured_loss(problem.tree, frames[UNITS], frames[CELLS], *stored)
        table = pl.concat(
            [table, held_out_rows(frames[RECONCILED], problem.tree, frames[UNITS], *stored)]
        )
        metadata = frame_metadata(
            table, summary=loss.summary(), pairs_without_dense_weight=loss.pairs_outside
        )
        return dg.MaterializeResult(
            value=table,
            metadata={
                **metadata,
                **_selection_metadata(table, frames[UNITS], stored, profile, context.partition_key),
            },
        )

    return selection_report


def _selection_metadata(
    table: pl.DataFrame, units: pl.DataFrame, stored: tuple[Any, ...], profile: Profile, state: str
) -> dict[str, Any]:
    """The tables and charts of ``selection_report``."""
    from pipeline.reports import plots
    from pipeline.reports import selection_report as report

    tables = {
        "what_was_lost": report.weights_table(table),
        "by_area": report.by_area(table),
        "amounts": report.amounts_table(table),
        "correlations": report.correlations_table(table),
        "cells": report.cells_table(table),
        "categories": report.cells_table(table, "category_share").rename({"cell": "category"}),
        "held_out": report.held_out_errors(table),
        "held_out_by_family": report.held_out_errors(table, ("level", "family")),
    }
    finest = profile.finest_level
    income, note = report.income_points(units, *stored)
    titles = {
        name: f"{text} of {state}"
        for name, text in {
            "income": "Household income",
            "correlations": "Correlations of amounts",
        }.items()
    }
    titles |= {"cells": f"Cells of {state}", "ess": f"Effective sample size, {state} by {finest}"}
    charts = {
        "income": plots.distribution_curves(
            income, titles["income"], "dollars a year", synthetic=profile.synthetic, note=note
        ),
        "correlations": plots.agreement(
            report.correlation_points(table),
            titles["correlations"],
            "correlation",
            "correlations of two amounts",
            synthetic=profile.synthetic,
        ),
        "cells": plots.agreement(
            report.cell_points(table),
            titles["cells"],
            "share of households",
            "cells",
            synthetic=profile.synthetic,
            log=True,
            number=".2~%",
        ),
        "ess": plots.sample_sizes(
            report.sample_sizes(table, finest), titles["ess"], finest, synthetic=profile.synthetic
        ),
    }
    shown = {
        name: dg.MetadataValue.md(markdown_table(frame, limit=60)) for name, frame in tables.items()
    }
    return {
        **shown,
        **{f"plot_{name}": inline_png(chart, titles[name]) for name, chart in charts.items()},
    }


def _manifest(
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition,
    facts: Mapping[str, Any],
    upstream: Sequence[dg.AssetsDefinition],
) -> dg.AssetsDefinition:
    partitioned = {
        key: asset.partitions_def is not None for asset in upstream for key in asset.keys
    } | {dg.AssetKey(FIT): True, dg.AssetKey(SELECTION): True}

    @dg.asset(
        name=MANIFEST,
        group_name=GROUP,
        kinds={"json"},
        partitions_def=partitions,
        deps=[FIT, SELECTION, *SELECTED_RECORDS],
        code_version=code_version("pipeline/manifest.py"),
        description=(
            "What the state's tables were made from, by which code, in how many seconds: a JSON"
            " file below manifests/."
        ),
    )
    @permanent
    def run_manifest(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        state = context.partition_key
        manifest = build_manifest(context.instance, environment, partitioned, state, facts)
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


def _national_fit(profile: Profile) -> dg.AssetsDefinition:
    @dg.asset(
        name=NATIONAL_FIT,
        group_name=GROUP,
        kinds={"polars", "parquet"},
        ins={
            NATIONAL: dg.AssetIn(NATIONAL),
            FIT: dg.AssetIn(FIT, metadata={"allow_missing_partitions": True}),
        },
        code_version=code_version(*_CODE),
        description=(
            "The nation's targets with the sum of what the states' weights give; a target is fitted"
            " once every state it sums over has weights."
        ),
        check_specs=check_specs(
            NATIONAL_FIT,
            {"every_target_accounted_for": "A target without a fitted value gives a reason."},
        ),
    )
    @permanent
    def national_fit(
        context: dg.AssetExecutionContext,
        national_targets: pl.DataFrame,
        fit_report: dict[str, pl.DataFrame],
    ):
        from pipeline.reports.fit import summary_by
        from pipeline.reports.national import national_fits

        fit = national_fits(
            national_targets, {state_of(state).fips: frame for state, frame in fit_report.items()}
        )
        silent = fit.filter(pl.col("fitted").is_null() & (pl.col("not_fitted_reason") == ""))
        return dg.MaterializeResult(
            value=fit,
            metadata=frame_metadata(
                fit,
                fit_by_level=dg.MetadataValue.md(markdown_table(summary_by(fit, "fitted"))),
                states=sorted(fit_report),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="every_target_accounted_for",
                    passed=silent.is_empty(),
                    metadata={"without_reason": silent.height},
                )
            ],
        )

    return national_fit


def _national(profile: Profile) -> dg.AssetsDefinition:
    tolerant = {"allow_missing_partitions": True}

    @dg.asset(
        name=NATIONAL_REPORT,
        group_name=GROUP,
        kinds={"polars", "parquet"},
        ins={name: dg.AssetIn(name, metadata=tolerant) for name in (FIT, WEIGHTS)},
        code_version=code_version(*_CODE),
        description=(
            "Fit by level and weight figures of every state that has weights, a row a state and"
            " level."
        ),
        check_specs=check_specs(
            NATIONAL_REPORT,
            {"every_state_present": "Every state of the profile has weights."},
            blocking=False,
        ),
    )
    @permanent
    def national_report(
        context: dg.AssetExecutionContext,
        fit_report: dict[str, pl.DataFrame],
        weights: dict[str, pl.DataFrame],
    ):
        from pipeline.reports.fit import summary_by, weight_summary
        from pipeline.reports.plots import bars

        # A failed state may have weights of an earlier run and no report, or the reverse: only
        # whole states count.
        states = sorted(set(fit_report) & set(weights))
        absent = sorted(set(profile.states) - set(states))
        rows = [
            summary_by(fit_report[state], "fitted").with_columns(
                pl.lit(state).alias("state"),
                *(pl.lit(v).alias(k) for k, v in weight_summary(weights[state]).items()),
            )
            for state in states
        ]
        table = (
            pl.concat(rows, how="vertical_relaxed")
            if rows
            else pl.DataFrame(
                schema={"state": pl.String, "level": pl.String, "median_are": pl.Float64}
            )
        )
        ordered = table.select(
            "state", "level", *[name for name in table.columns if name not in ("state", "level")]
        )
        title = "Median absolute relative error by state and level"
        named = ordered.select(
            name=pl.col("state") + " · " + pl.col("level"), median=pl.col("median_are")
        ).drop_nulls()
        return dg.MaterializeResult(
            value=ordered,
            metadata=frame_metadata(
                ordered,
                states=states,
                absent=absent,
                table=dg.MetadataValue.md(markdown_table(ordered, limit=250)),
                plot=inline_png(
                    bars(
                        named,
                        "name",
                        "median",
                        title,
                        "median absolute relative error",
                        synthetic=profile.synthetic,
                    ),
                    title,
                ),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="every_state_present",
                    passed=not absent,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"absent": absent or "none"},
                )
            ],
        )

    return national_report
