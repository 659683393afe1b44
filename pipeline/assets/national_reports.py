"""Assets of the group ``reports`` over all states: the nation's targets, and a table of all states.

Belongs here: bringing the states' stored figures together. Does not belong here: how they are added
up (``pipeline/reports/national.py``), or reports of one state (``reports.py``).
"""

from collections.abc import Container, Mapping

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
    FIT,
    NATIONAL_FIT,
    NATIONAL_REPORT,
    NATIONAL_TARGETS,
    REPORTS_GROUP,
    WEIGHTS,
)
from pipeline.assets.reports import ACCOUNTED, accounted
from pipeline.settings import RunEnvironment
from pipeline.specs.profiles import Profile
from pipeline.specs.states import state_of
from pipeline.stored import table_name, tables_of

# A failed state must not keep the report of the others from being made.
_TOLERANT = {"allow_missing_partitions": True}
NOT_RUN = "it has not been run"
ONE_MAKING = {
    "states_of_one_making": "Every state that has weights was made from the national tables that"
    " there are now, and its report from its weights; others are left out, and named."
}


def build_national_reports(
    profile: Profile, environment: RunEnvironment
) -> list[dg.AssetsDefinition]:
    """``national_fit`` and ``national_report``."""
    return [_national_fit(profile, environment), _national(profile, environment)]


def left_out(profile: Profile, environment: RunEnvironment, read: Container[str]) -> dict[str, str]:
    """States whose weights are no part of the nation's tables, and why: they have none, or a table
    behind them is not the one that lies there now, so that sums would mix two makings. ``read``:
    states whose tables could be read.
    """
    tables = tables_of(environment.root)
    found = {}
    for state in profile.states:
        names = [table_name(asset, state) for asset in (FIT, WEIGHTS)]
        there = any(tables.path(name).exists() for name in names)
        why = tables.broken_link(*names) if there else NOT_RUN
        if why or state not in read:
            found[state] = why or "a table cannot be read"
    return found


def _of_one_making(out: Mapping[str, str]) -> dg.AssetCheckResult:
    """The check ``states_of_one_making``: a state that was never run is absent, and no mix."""
    mixed = {state: why for state, why in out.items() if why != NOT_RUN}
    return dg.AssetCheckResult(
        check_name="states_of_one_making",
        passed=not mixed,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"left_out": "none", **mixed},
    )


def _national_fit(profile: Profile, environment: RunEnvironment) -> dg.AssetsDefinition:
    @dg.asset(
        name=NATIONAL_FIT,
        group_name=REPORTS_GROUP,
        kinds={"polars", "parquet"},
        ins={
            NATIONAL_TARGETS: dg.AssetIn(NATIONAL_TARGETS),
            FIT: dg.AssetIn(FIT, metadata=_TOLERANT),
        },
        description=(
            "The nation's targets with the sum of what the states' weights give; a target is fitted"
            " once every state it sums over has weights."
        ),
        check_specs=[
            *check_specs(NATIONAL_FIT, ACCOUNTED),
            *check_specs(NATIONAL_FIT, ONE_MAKING, blocking=False),
        ],
    )
    @permanent
    def national_fit(
        context: dg.AssetExecutionContext,
        national_targets: pl.DataFrame,
        fit_report: dict[str, pl.DataFrame],
    ):
        from pipeline.reports.fit import summary_by
        from pipeline.reports.national import national_fits

        out = left_out(profile, environment, fit_report)
        states = sorted(set(fit_report) - set(out))
        fits = {state_of(state).fips: fit_report[state] for state in states}
        fit = national_fits(national_targets, fits)
        levels = dg.MetadataValue.md(markdown_table(summary_by(fit, "fitted")))
        return dg.MaterializeResult(
            value=fit,
            metadata=frame_metadata(
                fit, fit_by_level=levels, states=states, left_out=out or "none"
            ),
            check_results=[accounted(fit), _of_one_making(out)],
        )

    return national_fit


def _national(profile: Profile, environment: RunEnvironment) -> dg.AssetsDefinition:
    every = {"every_state_present": "Every state of the profile has weights."}

    @dg.asset(
        name=NATIONAL_REPORT,
        group_name=REPORTS_GROUP,
        kinds={"polars", "parquet"},
        ins={name: dg.AssetIn(name, metadata=_TOLERANT) for name in (FIT, WEIGHTS)},
        description=(
            "Fit by level and weight figures of every state that has weights, a row per state and"
            " level."
        ),
        check_specs=check_specs(NATIONAL_REPORT, every, blocking=False),
    )
    @permanent
    def national_report(
        context: dg.AssetExecutionContext,
        fit_report: dict[str, pl.DataFrame],
        weights: dict[str, pl.DataFrame],
    ):
        from pipeline.reports.national import states_table

        # A failed state may have weights of an earlier run and no report, or the reverse: only
        # whole states count, made from the national tables that there are now.
        out = left_out(profile, environment, set(fit_report) & set(weights))
        states = sorted(set(profile.states) - set(out))
        absent = sorted(set(profile.states) - set(states))
        table = states_table({state: (fit_report[state], weights[state]) for state in states})
        return dg.MaterializeResult(
            value=table,
            metadata=frame_metadata(
                table,
                states=states,
                absent=absent,
                left_out=out or "none",
                table=dg.MetadataValue.md(markdown_table(table, limit=250)),
                plot=_plot(table, profile),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="every_state_present",
                    passed=not absent,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={
                        "absent": absent or "none",
                        **{s: out[s] for s in absent if s in out},
                    },
                )
            ],
        )

    return national_report


def _plot(table: pl.DataFrame, profile: Profile) -> dg.MetadataValue:
    from pipeline.reports.plots import bars

    title = "Median absolute relative error by state and level"
    label = pl.col("state") + " · " + pl.col("level")
    named = table.select(name=label, median=pl.col("median_are")).drop_nulls()
    words = "median absolute relative error"
    chart = bars(named, "name", "median", title, words, synthetic=profile.synthetic)
    return inline_picture(chart, title)
