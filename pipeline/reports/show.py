"""What was last materialised for a state, as one document and as tables on a terminal.

Belongs here: reading stored results and summarising them. Does not belong here: computing fits
(``pipeline/reports/fit.py``) or running anything.

``docs/dagster.md`` describes the document that ``state_report`` returns and ``geocal show STATE
--json`` prints.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import polars as pl

from pipeline.errors import StoreError
from pipeline.io_manager import decode, file_digest, read_facts
from pipeline.manifest import read_manifest
from pipeline.reports.fit import summary_by, weight_summary, worst_targets
from pipeline.reports.selection_report import INCOME, loss_summary
from pipeline.settings import RunEnvironment
from pipeline.targets.moves import moved

if TYPE_CHECKING:
    from rich.console import Console

WORST = 15
NAMES = 8


def stored(environment: RunEnvironment, asset: str, state: str | None) -> pl.DataFrame:
    """A stored table. Raises StoreError naming what to run if it is missing or damaged."""
    path = environment.table_path(asset, state)
    if not path.exists():
        states = f" --states {state}" if state else ""
        raise StoreError(
            f"There is no {asset}"
            + (f" of {state}" if state else "")
            + f" in profile {environment.profile}",
            where=str(path),
            expected="a table of an earlier run",
            remedy=(
                f"Run `geocal run --profile {environment.profile}{states}` with the same --output"
            ),
        )
    return decode(path, path.read_bytes())


def levels_of(fit: pl.DataFrame, fitted: str) -> dict[str, dict[str, Any]]:
    """``summary_by`` level as a dict, nation first."""
    return {row.pop("level"): row for row in summary_by(fit, fitted).to_dicts()}


def with_nation(environment: RunEnvironment, fit: pl.DataFrame) -> pl.DataFrame:
    """The state's targets with those of the nation above them, which are fitted once every state
    has weights (``national_fit``).
    """
    path = environment.table_path("national_fit")
    if not path.exists():
        return fit
    nation = stored(environment, "national_fit", None)
    return pl.concat(
        [nation.select([c for c in fit.columns if c in nation.columns]), fit],
        how="diagonal_relaxed",
    )


def not_fitted(fit: pl.DataFrame) -> pl.DataFrame:
    """Targets without a fitted value, grouped by name and reason: ``variable, domain, reason,
    levels, targets``.
    """
    left = fit.filter(pl.col("fitted").is_null()).rename(
        {"reason": "declared", "not_fitted_reason": "reason"}
    )
    groups = left.group_by("variable", "domain", "reason").agg(
        levels=pl.col("level").unique().sort().str.join(", "), targets=pl.len()
    )
    return groups.select("variable", "domain", "reason", "levels", "targets").sort(
        "variable", "domain", "reason"
    )


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    """The row with null for infinity and NaN, which JSON cannot say (an exact target has no
    standard error to divide by).
    """
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }


def require_of_one_run(environment: RunEnvironment, state: str, manifest: dict[str, Any]) -> None:
    """Raise StoreError if the stored weights are not the ones that the fit report and the manifest
    speak of: the document would mix two results.
    """
    path = environment.table_path("weights", state)
    present = file_digest(path.read_bytes())
    reported = (
        read_facts(environment.table_path("fit_report", state))
        .get("inputs", {})
        .get(f"weights[{state}]")
    )
    listed = manifest["tables"].get("weights", {}).get("sha256")
    stale = [
        name
        for name, digest in (("fit_report", reported), ("run_manifest", listed))
        if digest != present
    ]
    if stale:
        raise StoreError(
            f"{' and '.join(stale)} of {state} {'was' if len(stale) == 1 else 'were'} made from"
            " other weights than those stored now",
            where=str(path),
            expected="fit report, manifest and weights of one result",
            remedy=(
                "Materialise"
                f" {', '.join(('fit_report', 'selection_report', 'selected_persons', 'selected_households', 'run_manifest'))}"
                f" of {state}, or run `geocal run --states {state}`"
            ),
        )


def truth_levels(fit: pl.DataFrame) -> dict[str, dict[str, Any]]:
    """``levels_of`` against the known truth, at the levels that have it; figures about published
    values have no meaning there and are left out.
    """
    known = fit.filter(pl.col("truth").is_not_null()).with_columns(value="truth")
    return {
        level: {k: v for k, v in row.items() if k != "share_inside_published_margin"}
        for level, row in levels_of(known, "fitted").items()
    }


def selection_loss(environment: RunEnvironment, state: str) -> dict[str, Any]:
    """``loss_summary`` of the state, or only ``missing``: why there is none, and what to
    materialise. A run of an earlier version has no such table, and the rest of the document stands
    without it.
    """
    path = environment.table_path("selection_report", state)
    remedy = (
        f"materialise selection_report of {state} (`dg launch --assets selection_report --partition"
        f" {state}`), or run `geocal run --states {state}`"
    )
    if not path.exists():
        return {"missing": f"There is no selection_report of {state}: {remedy}"}
    made_from = read_facts(path).get("inputs", {}).get(f"weights[{state}]")
    if made_from != file_digest(environment.table_path("weights", state).read_bytes()):
        return {
            "missing": (
                f"selection_report of {state} was made from other weights than those stored now:"
                f" {remedy}"
            )
        }
    return loss_summary(stored(environment, "selection_report", state))


def state_report(environment: RunEnvironment, state: str) -> dict[str, Any]:
    """The document described above. Raises StoreError if the state has not been run, or its tables
    are not of one result.
    """
    manifest = read_manifest(environment, state)
    fit, weights = stored(environment, "fit_report", state), stored(environment, "weights", state)
    require_of_one_run(environment, state, manifest)
    fit = with_nation(environment, fit)
    facts = read_facts(environment.table_path("weights", state))
    summary = weight_summary(weights)
    area = "tract" if weights["tract"].null_count() < weights.height else "county"
    versions = {
        name: manifest[name] for name in ("geocal", "code_sha256", "specs_sha256", "python")
    }
    return {
        "profile": environment.profile,
        "synthetic": manifest["synthetic"],
        "state": state,
        "target_year": manifest["target_year"],
        "seed": manifest["seed"],
        "k": weights.height,
        "pairs": facts["candidate_pairs"],
        "records": summary.pop("records"),
        "areas": weights[area].n_unique(),
        "ess": summary.pop("ess"),
        "weights": {name: value for name, value in summary.items() if name != "pairs"},
        "selection_loss": selection_loss(environment, state),
        "levels": levels_of(fit, "fitted"),
        "dense_levels": levels_of(fit, "fitted_dense"),
        **({"truth_levels": truth_levels(fit)} if "truth" in fit.columns else {}),
        "worst_targets": [_finite(row) for row in worst_targets(fit, count=WORST).to_dicts()],
        "not_fitted": not_fitted(fit).to_dicts(),
        "moved_by_reconciliation": moved(fit).to_dicts(),
        "seconds_by_asset": manifest["seconds_by_asset"],
        "seconds_total": manifest["seconds_total"],
        "peak_memory_mb": manifest["peak_memory_mb"],
        "materialized": manifest["tables"]["weights"]["materialized"],
        "versions": {**versions, **manifest["packages"]},
    }


def _percent(value: float | None, digits: int = 2) -> str:
    if value is None:
        return ""
    return f"{100 * value:.{digits}f} %" if value < 10 else "> 1,000 %"


def print_fit(report: dict[str, Any], console: Console) -> None:
    """The fit table of one state: a row a level, dense beside selected, and a line on
    the weights.
    """
    from rich.table import Table

    label = " · SYNTHETIC" if report["synthetic"] else ""
    table = Table(
        title=f"{report['state']}{label}: fit of {report['k']:,} pairs", title_justify="left"
    )
    truth, dense = report.get("truth_levels", {}), report["dense_levels"]
    headings = [
        "level",
        "fitted targets",
        "inside published\nmargin",
        "before selection",
        "inside, reconciled",
        "median error",
        "mean error",
        "worst error",
        *(["median against truth"] if truth else []),
    ]
    for heading in headings:
        # Unwrapped where the break is given: a share and its number of targets belong on one line.
        table.add_column(
            heading, justify="left" if heading == "level" else "right", no_wrap="\n" in heading
        )
    for level, row in report["levels"].items():
        if not row["fitted"]:
            table.add_row(level, f"0 of {row['targets']:,}", *[""] * (len(headings) - 2))
            continue
        inside = "share_inside_published_margin"
        share = (
            f"{_percent(row[inside], 1)} of {row['with_published_margin']:,}"
            if row["with_published_margin"]
            else ""
        )
        cells = [
            level,
            f"{row['fitted']:,}",
            share,
            _percent(dense.get(level, {}).get(inside), 1),
            _percent(row["share_inside_margin"], 1),
        ]
        cells += [
            _percent(row["median_are"]),
            _percent(row["mean_are"]),
            _percent(row["worst_are"], 1),
        ]
        cells += [_percent(truth.get(level, {}).get("median_are"))] if truth else []
        table.add_row(*cells)
    console.print(table)
    console.print(
        "Inside: share of the targets with a published 90 % margin that the weights reproduce"
        " within it, around the published figure and around the reconciled target. Where the two"
        " differ, levels or sources contradict each other by more than their margins.",
        style="dim",
    )
    unfitted = sum(row["targets"] for row in report["not_fitted"])
    pairs = f" chosen from {report['pairs']:,}" if report["pairs"] else ""
    console.print(
        f"k {report['k']:,}{pairs}, {report['records']:,} records in {report['areas']:,} areas,"
        f" effective sample size {report['ess']:,.0f}; {unfitted:,} targets not fitted (each with"
        f" its reason in `geocal show {report['state']}`).",
        highlight=False,
        soft_wrap=True,
    )


def _change(value: float | None) -> str:
    """A relative difference with its sign; nothing where there is none."""
    if value is None:
        return "none"
    return f"{100 * value:+.1f} %" if abs(value) < 10 else "> 1,000 %"


def loss_lines(loss: dict[str, Any]) -> list[tuple[str, str]]:
    """What selection lost, in a few lines: (subject, figures)."""
    areas = {(row["level"], row["measure"], row["variable"]): row for row in loss["areas"]}
    finest = next(reversed([row["level"] for row in loss["areas"]]), "")

    def by_area(measure: str, form: Callable[[float], str], word: str, variable: str = "") -> str:
        row = areas.get((finest, measure, variable))
        return (
            f"; by {finest} median {form(row['median'])}, {word} {form(row['worst'])}"
            f" ({row['worst_geoid']})"
            if row and row["areas"] > 1
            else ""
        )

    cells, uncovered = (
        f"{_percent(loss['cell_distance'])} of households would change cell",
        areas.get((finest, "uncovered_share", "")),
    )
    lines = [("cells", cells + by_area("cell_distance", lambda x: _percent(x, 1), "worst"))]
    for name, rows in (("cell", loss["cells"]), ("category", loss["categories"])):
        if rows:
            lines.append(
                (
                    f"furthest {name}",
                    (
                        f"{rows[0][name]}: {_percent(rows[0]['dense'])} of households dense,"
                        f" {_percent(rows[0]['selected'])} selected"
                    ),
                )
            )
    if uncovered:
        where = (
            f"in the median {finest} {_percent(uncovered['median'], 1)}, in the worst"
            f" {_percent(uncovered['worst'], 1)} ({uncovered['worst_geoid']})"
        )
        lines.append(
            (
                "cells without a pair",
                f"{_percent(loss['uncovered_share'])} of dense weight in the state; {where}",
            )
        )
    if loss["areas_without_pairs"]:
        lines.append(
            (
                "areas without a pair",
                f"{len(loss['areas_without_pairs']):,}, first {loss['areas_without_pairs'][0]}",
            )
        )
    amounts = {row["variable"]: row for row in loss["amounts"]}
    income = amounts.get(INCOME)
    if income:
        quantiles = [name for name in income if name.startswith("quantile_")]
        percents = "/".join(name.removeprefix("quantile_") for name in quantiles)
        changes = ", ".join(_change(income[name]) for name in quantiles)
        gap = f"distribution functions at most {_percent(income['kolmogorov'])} apart" + by_area(
            "kolmogorov", lambda x: _percent(x, 1), "worst", INCOME
        )
        lines += [
            ("household income", gap),
            (
                f"its {percents} % points",
                f"{changes} (of positive incomes, selected against dense)",
            ),
        ]
    widest = max(
        (row for row in loss["amounts"] if row["kolmogorov"] is not None),
        key=lambda row: row["kolmogorov"],
        default=None,
    )
    if widest and widest["variable"] != INCOME:
        lines.append(
            (
                "furthest amount",
                f"{widest['variable'].replace('|', ' ')}: {_percent(widest['kolmogorov'])} apart",
            )
        )
    for kind, name in (("pearson", "correlations"), ("rank", "rank correlations")):
        found = loss["correlations"][kind]
        if found["rms"] is not None:
            pair = " and ".join(each.replace("|", " ") for each in found["largest_between"])
            lines.append(
                (
                    name,
                    (
                        f"off by {found['rms']:.3f} (root mean square), at most"
                        f" {found['largest']:.3f} ({pair})"
                    ),
                )
            )
    shape = loss["weights"]
    ess = (
        f"{shape['ess']['selected']:,.0f} of {shape['pairs']['selected']:,.0f} pairs (dense"
        f" {shape['ess']['dense']:,.0f}), design effect "
    )
    ess += f"{shape['design_effect']['selected']:.2f}" + by_area(
        "ess", lambda x: f"{x:,.1f}", "least"
    )
    lines.append(("effective sample size", ess))
    heavy = (
        f"{_percent(shape['largest_weight_share']['selected'])} of households (dense"
        f" {_percent(shape['largest_weight_share']['dense'])})"
    )
    lines.append(
        (
            "largest weight",
            (
                f"{heavy}; the heaviest 1 % of pairs"
                f" {_percent(shape['share_of_top_1pct']['selected'], 1)}"
            ),
        )
    )
    for row in loss["held_out"]:
        known = row["targets"] - row["next_to_zero"]
        if known:
            errors = (
                f"median error {_percent(row['median_error_dense'])} dense,"
                f" {_percent(row['median_error_selected'])} selected"
            )
            zero = (
                f" ({row['next_to_zero']:,} next to zero left out)" if row["next_to_zero"] else ""
            )
            moved_by = f"selection moved the median one by {_percent(row['median_moved'])}"
            lines.append(
                (
                    f"held out, {row['level']}",
                    f"{known:,} targets nobody fitted{zero}: {errors}; {moved_by}",
                )
            )
    return lines


def print_loss(report: dict[str, Any], console: Console) -> None:
    """The section "what selection lost", or what to materialise to have it."""
    from rich.table import Table

    label = " · SYNTHETIC" if report["synthetic"] else ""
    loss = report["selection_loss"]
    if loss["missing"]:
        console.print(
            f"What selection lost{label}: {loss['missing']}.", highlight=False, soft_wrap=True
        )
        return
    table = Table.grid(padding=(0, 2))
    for subject, figures in loss_lines(loss):
        table.add_row(f"  {subject}", figures)
    console.print(f"What selection lost, selected against dense weights{label}", style="italic")
    console.print(table, highlight=False)


def print_state(report: dict[str, Any], console: Console) -> None:
    """Everything ``geocal show`` prints: fit, worst targets, targets not fitted, weights, what
    selection lost, seconds and memory.
    """
    from rich.table import Table

    print_fit(report, console)
    worst = Table(
        "level",
        "geoid",
        "variable",
        "domain",
        "target",
        "fitted",
        "error",
        "in s.e.",
        title="Worst targets",
        title_justify="left",
    )
    for row in report["worst_targets"]:
        in_errors = "" if row["errors_in_se"] is None else f"{row['errors_in_se']:.1f}"
        worst.add_row(
            row["level"],
            row["geoid"],
            row["variable"],
            row["domain"],
            f"{row['value']:,.0f}",
            f"{row['fitted']:,.0f}",
            _percent(row["absolute_relative_error"], 1),
            in_errors,
        )
    console.print(worst)
    if report["not_fitted"]:
        table = Table("reason", "targets", "variables", title="Not fitted", title_justify="left")
        grouped = (
            pl.DataFrame(report["not_fitted"])
            .group_by("reason")
            .agg(
                pl.col("targets").sum(),
                names=pl.format("{} {}", "variable", "domain").unique().sort(),
            )
        )
        for row in grouped.sort("targets", "reason", descending=[True, False]).iter_rows(
            named=True
        ):
            names, rest = row["names"][:NAMES], len(row["names"]) - NAMES
            table.add_row(
                row["reason"],
                f"{row['targets']:,}",
                ", ".join(names) + (f" and {rest} more (--json names all)" if rest > 0 else ""),
            )
        console.print(table)
    if report["moved_by_reconciliation"]:
        moves = Table(
            "level",
            "geoid",
            "variable",
            "domain",
            "published",
            "target",
            "in s.e.",
            title="Moved by reconciliation: by more than two standard errors, or an exact figure",
            title_justify="left",
        )
        for row in report["moved_by_reconciliation"][:WORST]:
            size = row["adjustment_in_standard_errors"]
            figures = (
                f"{row['published_value']:,.0f}",
                f"{row['value']:,.0f}",
                "exact" if size is None else f"{size:+.1f}",
            )
            moves.add_row(row["level"], row["geoid"], row["variable"], row["domain"], *figures)
        console.print(moves)
        rest = len(report["moved_by_reconciliation"]) - WORST
        if rest > 0:
            console.print(f"{rest:,} more in `geocal show {report['state']} --json`.")
    weights = report["weights"]
    console.print(
        "Weights: "
        + ", ".join(
            (
                f"{name.replace('_', ' ')} {value:,.4g}"
                if value < 100
                else f"{name.replace('_', ' ')} {value:,.0f}"
            )
            for name, value in weights.items()
        ),
        highlight=False,
    )
    print_loss(report, console)
    slowest = sorted(
        ((s or 0.0, name) for name, s in report["seconds_by_asset"].items()), reverse=True
    )
    console.print(
        "Seconds by asset: " + ", ".join(f"{name} {s:.1f}" for s, name in slowest if s >= 0.05),
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        f"{report['seconds_total']:.1f} s in all; peak memory {report['peak_memory_mb'] or 0:,.0f}"
        f" MiB; materialised {report['materialized']}",
        highlight=False,
    )
