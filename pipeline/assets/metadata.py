"""What the UI shows beside the tables of the groups ``targets``, ``candidates``, ``weights`` and
``reports``.

Belongs here: from the result of a step to metadata and check results. Does not belong here: assets,
the figures themselves (``pipeline/reports``), or what any table is shown with (``common.py``).

Charts and numerics are imported where they are used: definitions must load quickly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from pipeline.assets.common import frame_metadata, inline_picture, markdown_table
from pipeline.specs.profiles import Profile
from pipeline.vocabulary import CALIBRATE, EVIDENCE, VARIABLE_KEY

if TYPE_CHECKING:
    from calibration_core.tree.select.joint import RefinedPairs
    from calibration_core.tree.select.loss_report import SelectionLoss
    from calibration_core.tree.select.pairs import Selection
    from calibration_core.tree.solve.newton import TreeNewtonResult
    from pipeline.targets.reconcile import Reconciled
    from pipeline.weights.candidates import Candidates
    from pipeline.weights.cells import Cells
    from pipeline.weights.problem import SolvableState
    from pipeline.weights.table import StoredWeights

PREVIEW_COLUMNS = 6


def table_of(frame: pl.DataFrame, limit: int = 12) -> dg.MetadataValue:
    """A frame as a Markdown table, or ``none``."""
    return dg.MetadataValue.md(markdown_table(frame, limit=limit) if frame.height else "none")


def list_of(lines: Iterable[object], otherwise: str = "none") -> dg.MetadataValue:
    """Lines as a Markdown list, or ``otherwise`` where there are none."""
    return dg.MetadataValue.md("\n".join(f"* {text}" for text in lines) or otherwise)


def of_targets(
    frame: pl.DataFrame, title: str, profile: Profile, notes: Iterable[Any] = ()
) -> dict[str, Any]:
    """Targets by level, role and status, as a table and as bars."""
    from pipeline.reports.plots import bars

    by_status = ("level", "role", "status")
    counts = frame.group_by(by_status).len("targets").sort(by_status)
    label = pl.col("level") + " · " + pl.col("role")
    roles = frame.group_by(label=label).len("targets").sort("label")
    chart = bars(roles, "label", "targets", title, "targets", synthetic=profile.synthetic)
    levels = dg.MetadataValue.md(markdown_table(counts, limit=60))
    plot = inline_picture(chart, title)
    return frame_metadata(frame, notes=notes, targets_by_level=levels, plot=plot)


def of_reconciliation(reconciled: Reconciled) -> dict[str, Any]:
    """What a reconciliation moved: every published value changed by more than two of its standard
    errors, and agreement by variable."""
    agreement = reconciled.agreement.sort("chi_square", descending=True)
    tables = {
        "largest_moves": (reconciled.adjustments, 30),
        "categories": (reconciled.categories, 120),
        "agreement": (agreement, 30),
    }
    return {
        "moved_more_than_two_standard_errors": reconciled.adjustments.height,
        "above_their_whole": reconciled.above_whole,
        **({"tracts_of_water": ", ".join(reconciled.water)} if reconciled.water else {}),
        **{k: dg.MetadataValue.md(markdown_table(v, limit=n)) for k, (v, n) in tables.items()},
    }


def of_evidence(reconciled: Reconciled) -> dict[str, Any]:
    """How many figures are held to the survey's own estimates, or why none is."""
    if reconciled.no_evidence:
        return {"held_to_the_survey": f"none: {reconciled.no_evidence}"}
    return {"held_to_the_survey": reconciled.frame.filter(pl.col("role") == EVIDENCE).height}


def of_gaps(gaps: pl.DataFrame, state: str, profile: Profile) -> dict[str, Any]:
    """Concept gaps: which variables do not calibrate, and why; the concept errors of the others."""
    from pipeline.reports.plots import bars

    title = f"Concept gaps of {state} before calibration"
    label = pl.col("variable") + " · " + pl.col("domain")
    finite = gaps.filter(pl.col("gap").is_finite())
    named = finite.select(name=label, gap=pl.col("gap").abs())
    chart = bars(named, "name", "gap", title, "absolute relative gap", synthetic=profile.synthetic)
    wide = gaps.filter(pl.col("role") != CALIBRATE).select(*VARIABLE_KEY, "role", "gap", "reason")
    erring = gaps.filter(pl.col("concept_error") > 0).sort("concept_error", descending=True)
    measured = ("gap", "gap_standard_error", "treatment", "concept_error")
    return frame_metadata(
        gaps,
        concept_errors=dg.MetadataValue.md(
            markdown_table(erring.select(*VARIABLE_KEY, *measured), limit=100)
        ),
        not_calibrating=dg.MetadataValue.md(markdown_table(wide, limit=100)),
        calibrating=gaps.height - wide.height,
        plot=inline_picture(chart, title),
    )


def of_alignment(table: pl.DataFrame) -> dict[str, Any]:
    """What the steps of the records changed, a table each."""
    from pipeline.reports.alignment import with_gaps

    shown = with_gaps(table)
    steps = shown["step"].unique(maintain_order=True)
    tables = {f"step_{step}": shown.filter(pl.col("step") == step).drop("step") for step in steps}
    told: dict[str, Any] = {
        k: dg.MetadataValue.md(markdown_table(v, limit=100)) for k, v in tables.items()
    }
    return frame_metadata(table, **told)


def of_donation(table: pl.DataFrame) -> dict[str, Any]:
    """What the records borrowed, a table for each item."""
    from pipeline.reports.donation import SHOWN

    told: dict[str, Any] = {
        f"item_{item}": dg.MetadataValue.md(
            markdown_table(table.filter(item=item).select(SHOWN), limit=100)
        )
        for item in table["item"].unique(maintain_order=True)
    }
    return frame_metadata(table, **told)


def of_solver(result: TreeNewtonResult) -> dict[str, Any]:
    """How a solver fared."""
    return {
        "solver": result.summary(),
        "tau": result.tau,
        "steps": result.iterations,
        "solver_warnings": list_of(result.warnings),
    }


def convergence(result: TreeNewtonResult) -> dg.AssetCheckResult:
    """The check ``converged``."""
    return dg.AssetCheckResult(
        check_name="converged", passed=bool(result.converged), metadata={"status": result.status}
    )


def of_fit(fit: pl.DataFrame, column: str, title: str, profile: Profile) -> dict[str, Any]:
    """Fit by level, the worst targets as a table, and two plots."""
    from pipeline.reports.fit import summary_by, worst_targets
    from pipeline.reports.plots import error_curves, fit_scatter

    known = pl.col(column).is_not_null() & pl.col("value").is_not_null()
    shown = fit.filter(known).select("level", "value", fitted=pl.col(column))
    scatter = fit_scatter(shown, title, synthetic=profile.synthetic)
    curves = error_curves(shown, title, synthetic=profile.synthetic)
    return {
        "fit_by_level": dg.MetadataValue.md(markdown_table(summary_by(fit, column))),
        "worst_targets": dg.MetadataValue.md(markdown_table(worst_targets(fit, column), limit=20)),
        "plot": inline_picture(scatter, title),
        "plot_errors": inline_picture(curves, f"{title}, errors"),
    }


def of_candidates(made: Candidates, pairs: int) -> tuple[dict[str, Any], ...]:
    """Of the candidate tables: units, areas, pools, cells."""
    notes, cells = made.notes, of_cells(made.cells)
    inexpressible = [f"{v.variable}/{v.domain}: {v.reason}" for v in made.inexpressible]
    more = {"candidate_pairs": pairs, "inexpressible": dg.MetadataValue.json(inexpressible)}
    first = made.units.select(made.units.columns[: PREVIEW_COLUMNS + 2])
    return (
        frame_metadata(first, notes=notes, **more, **cells),
        frame_metadata(made.areas, notes=notes),
        frame_metadata(made.pools, notes=notes),
        frame_metadata(made.cells.table, notes=made.cells.notes, **cells),
    )


def of_cells(cells: Cells) -> dict[str, Any]:
    """How many cells there were and are, and every one that was joined to others; thin ones that no
    step could help are named."""
    thin = cells.table.filter("thin").select("label", "records", "design_weight")
    return {
        "cells_before": cells.before,
        "cells_after": cells.table.height,
        "cells_collapsed": table_of(cells.collapsed, limit=200),
        "cells_still_thin": table_of(thin, limit=100),
    }


def of_selection(state: SolvableState, table: pl.DataFrame, chosen: Selection) -> dict[str, Any]:
    """What the choice of pairs did."""
    allocation = chosen.allocation
    without = [state.problem.grid.name(*place) for place in chosen.without_support]
    plot = _weights_histogram(state, table, "starting_weight", "Starting weights")
    return frame_metadata(
        table,
        k=table.height,
        areas_without_records=int((chosen.pairs_per_area == 0).sum()),
        cells_lost=chosen.lost.count,
        cell_counts_off=chosen.rounding_misses,
        exchanges=int(chosen.exchanges.sum()),
        rounds=chosen.rounds,
        error_as_drawn=float(chosen.drawn_error.mean()),
        error_after_exchanges=float(chosen.error.mean()),
        allocation=list_of(allocation.warnings, f"{allocation.rule}: every area within its bounds"),
        targets_given_a_pair_back=len(chosen.rescued),
        targets_without_a_pair=dg.MetadataValue.json(without),
        dense_weight_lost=chosen.lost.share,
        plot=plot,
    )


def of_weights(
    state: SolvableState, table: pl.DataFrame, refined: RefinedPairs, fit: pl.DataFrame
) -> dict[str, Any]:
    """The product: its figures, how the solver fared, how well targets are met."""
    from pipeline.reports.fit import weight_summary

    smaller = [state.leaves[t] for t in refined.relaxed_areas]
    title = f"Fit of the selected pairs of {state.postal}"
    return {
        **frame_metadata(table),
        **weight_summary(table),
        **of_solver(refined.result),
        "anchors": refined.anchored,
        "starting_weights_limited": refined.limited,
        "areas_with_smaller_weights": dg.MetadataValue.json(smaller),
        **of_fit(fit, "fitted", title, state.profile),
        "plot_weights": _weights_histogram(state, table, "weight", "Weights"),
    }


def _weights_histogram(
    state: SolvableState, table: pl.DataFrame, column: str, what: str
) -> dg.MetadataValue:
    from pipeline.reports.plots import histogram

    title = f"{what} of {state.postal}"
    synthetic = state.profile.synthetic
    chart = histogram(table, column, title, "households per pair", synthetic=synthetic)
    return inline_picture(chart, title)


def of_fit_report(state: SolvableState, fit: pl.DataFrame, weights: pl.DataFrame) -> dict[str, Any]:
    """Fit by level and family, before and after selection, and against the truth where it is
    known."""
    from pipeline.reports.fit import summary_by, weight_summary, worst_targets
    from pipeline.reports.maps import fit_tiles
    from pipeline.reports.plots import error_curves, fit_scatter

    title, label = f"Fit of {state.postal}", {"synthetic": state.profile.synthetic}
    errors, shown = f"Errors of {state.postal}", fit.filter(pl.col("fitted").is_not_null())
    key = (*VARIABLE_KEY, "not_fitted_reason")
    unfitted = fit.filter(pl.col("not_fitted_reason") != "")
    tables = {
        "fit_by_level": (summary_by(fit, "fitted"), 12),
        "dense_fit_by_level": (summary_by(fit, "fitted_dense"), 12),
        "fit_by_family": (summary_by(fit, "fitted", ("level", "family")), 80),
        "worst_targets": (worst_targets(fit), 20),
        "not_fitted": (unfitted.group_by(key).len("targets").sort(key), 100),
    }
    if "truth" in fit.columns:
        against = summary_by(fit.with_columns(value="truth"), "fitted")
        tables["error_against_truth"] = (against, 12)
    return {
        **frame_metadata(fit),
        **{k: dg.MetadataValue.md(markdown_table(v, limit=n)) for k, (v, n) in tables.items()},
        "weights": dg.MetadataValue.json(weight_summary(weights)),
        "plot": inline_picture(fit_scatter(shown, title, **label), title),
        "plot_errors": inline_picture(error_curves(shown, errors, **label), errors),
        "plot_map": inline_picture(fit_tiles(fit, state.postal, **label), f"{title}, map"),
    }


def of_loss(
    state: SolvableState, table: pl.DataFrame, loss: SelectionLoss, stored: StoredWeights
) -> dict[str, Any]:
    """The tables and charts of ``selection_report``."""
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
    shown = {k: dg.MetadataValue.md(markdown_table(v, limit=60)) for k, v in tables.items()}
    facts = {"summary": loss.summary(), "pairs_without_dense_weight": loss.pairs_outside}
    return frame_metadata(table) | facts | shown | _loss_charts(state, table, stored)


def _loss_charts(
    state: SolvableState, table: pl.DataFrame, stored: StoredWeights
) -> dict[str, Any]:
    from pipeline.reports import loss_plots as plots
    from pipeline.reports import loss_points as points

    finest, synthetic = state.profile.finest_level, state.profile.synthetic
    income, note = points.income_points(state.units, stored)
    correlations, cells = points.correlation_points(table), points.cell_points(table)
    sizes = points.sample_sizes(table, finest)
    titles = {
        "income": f"Household income of {state.postal}",
        "correlations": f"Correlations of amounts of {state.postal}",
        "cells": f"Cells of {state.postal}",
        "ess": f"Effective sample size, {state.postal} by {finest}",
    }
    charts = {
        "income": plots.distribution_curves(
            income, titles["income"], "dollars per year", note=note, synthetic=synthetic
        ),
        "correlations": plots.agreement(
            correlations,
            titles["correlations"],
            "correlation",
            "correlations of two amounts",
            synthetic=synthetic,
        ),
        "cells": plots.agreement(
            cells,
            titles["cells"],
            "share of households",
            "cells",
            log=True,
            number=".2~%",
            synthetic=synthetic,
        ),
        "ess": plots.sample_sizes(sizes, titles["ess"], finest, synthetic=synthetic),
    }
    return {f"plot_{name}": inline_picture(chart, titles[name]) for name, chart in charts.items()}
