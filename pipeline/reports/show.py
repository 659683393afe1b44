"""What was last materialised for a state, as one document.

Belongs here: reading stored results and summarising them. Does not belong here: computing fits
(``pipeline/reports/fit.py``) or running anything.

``docs/dagster.md`` describes the document that ``state_report`` returns and ``geocal show STATE
--json`` prints.
"""

from __future__ import annotations

import math
from typing import Any

import polars as pl

from pipeline.errors import StoreError
from pipeline.io_manager import decode, read_facts
from pipeline.manifest import read_manifest
from pipeline.reports.alignment import alignment_rows
from pipeline.reports.donation import donation_rows
from pipeline.reports.fit import summary_by, weight_summary, worst_targets
from pipeline.reports.model_error import model_errors, survey_held
from pipeline.reports.selection_report import loss_summary
from pipeline.reports.show_bystanders import summary
from pipeline.settings import RunEnvironment
from pipeline.stored import content_digest, stored_of
from pipeline.targets.moves import moved

WORST = 15
BYSTANDERS = "bystander_report"
_VERSIONS = ("geocal", "code_sha256", "specs_sha256", "python")
_OF_THE_MANIFEST = frozenset(_VERSIONS) | {
    "synthetic",
    "target_year",
    "seed",
    "tables",
    "seconds_by_asset",
    "seconds_total",
    "peak_memory_mb",
    "packages",
}


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


def require_whole(environment: RunEnvironment, state: str, manifest: dict[str, Any]) -> None:
    """Raise StoreError if the manifest lacks what the document takes from it."""
    lacking = sorted(_OF_THE_MANIFEST - set(manifest))
    if not lacking and "materialized" not in manifest["tables"].get("weights", {}):
        lacking = ["tables.weights"]
    if lacking:
        raise StoreError(
            f"The manifest of {state} lacks {', '.join(lacking)}",
            where=str(environment.manifests / f"{state}.json"),
            expected="the JSON object that a run of this version writes, whole",
            remedy=(
                f"Run `geocal run --profile {environment.profile} --states {state}` with the same"
                " --output; it writes the manifest anew"
            ),
        )


def require_of_one_run(environment: RunEnvironment, state: str, manifest: dict[str, Any]) -> None:
    """Raise StoreError if the stored weights are not the ones that the fit report and the manifest
    speak of: the document would mix two results.
    """
    path = environment.table_path("weights", state)
    present = stored_of(path.read_bytes())
    reported = (
        read_facts(environment.table_path("fit_report", state))
        .get("inputs", {})
        .get(f"weights[{state}]")
    )
    listed = manifest["tables"].get("weights", {}).get("sha256")
    stale = [
        name
        for name, agrees in (
            ("fit_report", reported == present.content),
            ("run_manifest", listed == present.sha256),
        )
        if not agrees
    ]
    if stale:
        raise StoreError(
            f"{' and '.join(stale)} of {state} {'was' if len(stale) == 1 else 'were'} made from"
            " other weights than those stored now",
            where=str(path),
            expected="fit report, manifest and weights of one result",
            remedy=(
                "Materialise fit_report, selection_report, bystander_report, selected_persons,"
                f" selected_households, run_manifest of {state}, or run `geocal run --states"
                f" {state}`"
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
    missing = _not_there(environment, "selection_report", state)
    if missing:
        return {"missing": missing}
    return loss_summary(stored(environment, "selection_report", state))


def _not_there(environment: RunEnvironment, report: str, state: str) -> str:
    """Why a report of the state cannot be shown, and what to materialise; "" where it can."""
    path = environment.table_path(report, state)
    remedy = (
        f"materialise {report} of {state} (`dg launch --assets {report} --partition {state}`), or"
        f" run `geocal run --states {state}`"
    )
    if not path.exists():
        return f"There is no {report} of {state}: {remedy}"
    made_from = read_facts(path).get("inputs", {}).get(f"weights[{state}]")
    weights = environment.table_path("weights", state).read_bytes()
    if made_from != content_digest(weights):
        return f"{report} of {state} was made from other weights than those stored now: {remedy}"
    return ""


def bystanders(environment: RunEnvironment, state: str) -> dict[str, Any]:
    """``show_bystanders.summary`` of the state, or only ``missing``, as ``selection_loss``."""
    missing = _not_there(environment, BYSTANDERS, state)
    if missing:
        return {"missing": missing}
    facts = read_facts(environment.table_path(BYSTANDERS, state))
    rule = {name: facts[name] for name in ("limit", "least_records")}
    found = summary(stored(environment, BYSTANDERS, state), rule)
    return found | {"worst": [_finite(row) for row in found["worst"]]}


def bystander_document(environment: RunEnvironment, state: str) -> dict[str, Any]:
    """What ``geocal show STATE --bystanders --json`` prints: the summary, and every figure.

    Raises StoreError if there is no such report of the weights stored now.
    """
    found = bystanders(environment, state)
    if found["missing"]:
        raise StoreError(
            f"The bystander report of {state} cannot be shown",
            where=str(environment.table_path(BYSTANDERS, state)),
            expected="a report of the weights stored now",
            remedy=found["missing"],
        )
    report = stored(environment, BYSTANDERS, state)
    figures = [_finite(row) for row in report.iter_rows(named=True)]
    del found["worst"], found["missing"]
    facts = read_facts(environment.table_path(BYSTANDERS, state))
    whose = {"profile": environment.profile, "synthetic": facts["synthetic"], "state": state}
    return {**whose, **found, "figures": figures}


def of_transcriptions(manifest: dict[str, Any], fit: pl.DataFrame) -> list[dict[str, Any]]:
    """What was not read in its publisher's own form, with the number of targets made from it."""
    return [
        {**entry, "targets": fit.filter(source=entry["source"], vintage=entry["vintage"]).height}
        for entry in manifest.get("transcriptions", [])
    ]


def _alignment(environment: RunEnvironment, state: str) -> dict[str, Any]:
    """``record_alignment`` of the state, where its profile aligns records."""
    if not environment.table_path("record_alignment", state).exists():
        return {}
    return {"record_alignment": alignment_rows(stored(environment, "record_alignment", state))}


def _donation(environment: RunEnvironment, state: str) -> dict[str, Any]:
    """``record_donation`` of the state, where its records borrow from another survey."""
    if not environment.table_path("record_donation", state).exists():
        return {}
    rows = donation_rows(stored(environment, "record_donation", state))
    return {"record_donation": [_finite(row) for row in rows]}


def state_report(environment: RunEnvironment, state: str) -> dict[str, Any]:
    """The document described above. Raises StoreError if the state has not been run, or its tables
    are not of one result.
    """
    manifest = read_manifest(environment, state)
    require_whole(environment, state, manifest)
    fit, weights = stored(environment, "fit_report", state), stored(environment, "weights", state)
    require_of_one_run(environment, state, manifest)
    fit = with_nation(environment, fit)
    facts = read_facts(environment.table_path("weights", state))
    summary = weight_summary(weights)
    area = "tract" if weights["tract"].null_count() < weights.height else "county"
    versions = {name: manifest[name] for name in _VERSIONS}
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
        "bystanders": bystanders(environment, state),
        "levels": levels_of(fit, "fitted"),
        "dense_levels": levels_of(fit, "fitted_dense"),
        **({"truth_levels": truth_levels(fit)} if "truth" in fit.columns else {}),
        **_alignment(environment, state),
        **_donation(environment, state),
        "worst_targets": [_finite(row) for row in worst_targets(fit, count=WORST).to_dicts()],
        "not_fitted": not_fitted(fit).to_dicts(),
        "transcriptions": of_transcriptions(manifest, fit),
        "moved_by_reconciliation": moved(fit).to_dicts(),
        "model_errors": model_errors(fit).to_dicts(),
        "held_to_survey": survey_held(fit).to_dicts(),
        "seconds_by_asset": manifest["seconds_by_asset"],
        "seconds_total": manifest["seconds_total"],
        "peak_memory_mb": manifest["peak_memory_mb"],
        "materialized": manifest["tables"]["weights"]["materialized"],
        "versions": {**versions, **manifest["packages"]},
    }
