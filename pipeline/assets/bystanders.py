"""The asset ``bystander_report``: what calibration did to figures, told or untold.

Belongs here: which tables go into it, its check and what is shown. Does not belong here: the report
(``pipeline/reports/bystanders.py``) or other reports (``reports.py``).
"""

from typing import Any

import dagster as dg
import polars as pl

from pipeline.assets.common import (
    check_specs,
    frame_metadata,
    inline_picture,
    markdown_table,
    permanent,
)
from pipeline.assets.names import (
    BYSTANDERS,
    DENSE,
    OF_THE_STATE,
    RECORDS,
    REPORTS_GROUP,
    SURVEY_ESTIMATES,
    WEIGHTS,
    inputs_of,
)
from pipeline.assets.weights import solvable
from pipeline.io_manager import Table
from pipeline.specs.catalog import load_catalog
from pipeline.specs.profiles import Profile

CHECK = "untold_figures_stay"


def build_bystanders(profile: Profile, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    """The asset for this profile; its check blocks where the profile's method says so."""
    rule = profile.method.bystanders
    words = (
        "No figure without a target is moved more than"
        f" {rule.limit:g} standard errors of the survey beyond what an official figure asks for."
    )

    @dg.asset(
        name=BYSTANDERS,
        group_name=REPORTS_GROUP,
        kinds={"polars", "parquet"},
        partitions_def=partitions,
        ins=inputs_of(*OF_THE_STATE, *RECORDS, SURVEY_ESTIMATES, DENSE, WEIGHTS),
        description=(
            "Every measured variable of the state, told or not: the survey's estimate with its"
            " standard error, prior, dense and selected totals, the official figure where there is"
            " one, the move in standard errors, and the targets that pull it."
        ),
        check_specs=check_specs(
            BYSTANDERS, {CHECK: words}, blocking=rule.blocking, partitions=partitions
        ),
    )
    @permanent
    def bystander_report(context: dg.AssetExecutionContext, **frames: pl.DataFrame):
        from pipeline import steps
        from pipeline.weights.table import stored_weights

        state = solvable(profile, context.partition_key, frames)
        records = {name.removeprefix("record_"): frames[name] for name in RECORDS}
        stored = stored_weights(state, frames[DENSE], frames[WEIGHTS])
        report = steps.bystanders(load_catalog(), state, records, frames[SURVEY_ESTIMATES], stored)
        facts = {"limit": rule.limit, "least_records": rule.least_records}
        return dg.MaterializeResult(
            value=Table(report, facts),
            metadata=_shown(report, state.postal, profile),
            check_results=[_check(report, profile)],
        )

    return bystander_report


def _shown(report: pl.DataFrame, postal: str, profile: Profile) -> dict[str, Any]:
    """Counts, the bent figures with what pulls them, every standard figure, and the chart."""
    from pipeline.reports.bystander_plot import move_dots
    from pipeline.reports.show_bystanders import furthest

    title = f"Untold figures of {postal}"
    rule, synthetic = profile.method.bystanders, profile.synthetic
    figures = [name for name in report.columns if name != "pulls"]
    listed = report.filter(pl.col("heading") != "").select(figures)
    chart = move_dots(report, title, rule.limit, synthetic=synthetic)
    statuses = report.group_by("status").len("figures").sort("status")
    return {
        **frame_metadata(report.select(figures)),
        "statuses": dg.MetadataValue.md(markdown_table(statuses)),
        "furthest": dg.MetadataValue.md(markdown_table(_with_pulls(furthest(report)), limit=40)),
        "standard_figures": dg.MetadataValue.md(markdown_table(listed, limit=len(listed))),
        "plot": inline_picture(chart, title),
    }


def _with_pulls(rows: pl.DataFrame) -> pl.DataFrame:
    """What a reader wants of a bent figure, pulls in words."""
    from pipeline.reports.show_bystanders import pulled_by

    words = [pulled_by(row, sources=True) for row in rows.iter_rows(named=True)]
    columns = ("label", "survey", "standard_error", "dense", "selected", "official")
    return rows.select(*columns, "moved_dense", "moved_selected", "bent").with_columns(
        pulled_by=pl.Series(words, dtype=pl.String)
    )


def _check(report: pl.DataFrame, profile: Profile) -> dg.AssetCheckResult:
    """Fails where a figure is bent, and names the figures and the targets that pull."""
    from pipeline.reports.show_bystanders import furthest

    rule = profile.method.bystanders
    judged = furthest(report)
    bent = judged.filter(pl.col("bent") != "")
    severity = dg.AssetCheckSeverity.ERROR if rule.blocking else dg.AssetCheckSeverity.WARN
    return dg.AssetCheckResult(
        check_name=CHECK,
        passed=bent.is_empty(),
        severity=severity,
        metadata={
            "judged": judged.height,
            "bent": bent.height,
            "limit": rule.limit,
            "bent_and_pulled_by": dg.MetadataValue.md(markdown_table(_with_pulls(bent), limit=200)),
        },
    )
