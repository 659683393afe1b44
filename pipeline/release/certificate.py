"""The certificate of a release: what was checked, whether it holds, with numbers.

Most checks are made anew from the tables that are released, and believe no run. What tables cannot
tell (whether a solver converged) is taken from Dagster's records of the runs that made them
(``recorded.py``).

Belongs here: those checks. Does not belong here: whether tables belong to each other
(``belonging.py``), or comparison with another release (``gate.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipeline.io_manager import read_facts
from pipeline.release.contents import (
    BYSTANDERS,
    FIT,
    NATIONAL_FIT,
    NATIONAL_REPORT,
    RECORD_TABLES,
    TableSet,
    relative_path,
)
from pipeline.reports.fit import summary_by
from pipeline.vocabulary import (
    EVIDENCE,
    LEVEL_RANK,
    NATION,
    POPULATION,
    STATE,
    VARIABLE_KEY,
    WEIGHTS,
    is_variable,
)

RECOMPUTED, RECORDED = "recomputed", "recorded"
# Sums of some ten thousand products in another order: a few units in the last place each.
ROUNDING = 1e-9
# The same as the check of the asset `weights`: half a percent off is a fault of a state's total.
POPULATION_TOLERANCE = 0.005
# The same as the check of the asset `fit_report`, and with the same reason.
SHARE_INSIDE = 0.95


@dataclass(frozen=True)
class Check:
    """One check. ``state``: postal code, "" for the nation; ``passed``: None where it cannot be
    told; ``blocking``: a release is refused where it fails; ``how``: recomputed from the released
    tables or recorded by the run; ``numbers``: what was found.
    """

    name: str
    state: str
    passed: bool | None
    blocking: bool
    how: str
    words: str
    numbers: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """For JSON."""
        numbers = {name: _plain(value) for name, value in self.numbers.items()}
        return {**self.__dict__, "numbers": numbers}

    @property
    def refuses(self) -> bool:
        """Whether a release with it is refused."""
        return self.blocking and self.passed is False


def _plain(value: Any) -> Any:
    bad = isinstance(value, float) and not math.isfinite(value)
    return None if bad else value


def checks_of_state(tables: TableSet, state: str) -> list[Check]:
    """Every check of one state that its tables can tell."""
    weights, fit = tables.table(WEIGHTS, state), tables.table(FIT, state)
    households = tables.table(RECORD_TABLES[0], state)
    persons = tables.table(RECORD_TABLES[1], state)
    facts = read_facts(tables.root / relative_path(WEIGHTS, state))
    return [
        _exactly_k(state, weights, facts),
        _sound_weights(state, weights),
        _records_present(state, weights, households, persons),
        _figures_follow(state, weights, households, fit),
        _population_met(state, fit),
        _levels_add_up(state, fit),
        _accounted(state, fit),
        _inside(state, fit),
        _bystanders(state, tables.table(BYSTANDERS, state)),
    ]


def _exactly_k(state: str, weights: pl.DataFrame, facts: dict[str, Any]) -> Check:
    asked = facts.get("pairs")
    return Check(
        "exactly_k",
        state,
        weights.height == asked,
        True,
        RECOMPUTED,
        "The number of pairs is the budget.",
        {"pairs": weights.height, "budget": asked},
    )


def _sound_weights(state: str, weights: pl.DataFrame) -> Check:
    w = weights["weight"]
    bad = int((~(w.is_finite() & (w > 0))).fill_null(True).sum())
    twice = weights.height - weights.select("household_id", "tract", "county").n_unique()
    return Check(
        "weights_sound",
        state,
        not bad and not twice and weights.height > 0,
        True,
        RECOMPUTED,
        "Every weight is finite and above zero, and no pair stands twice.",
        {
            "not_above_zero": bad,
            "pairs_twice": twice,
            "sum": w.sum(),
            "smallest": w.min(),
            "largest": w.max(),
        },
    )


def _records_present(
    state: str, weights: pl.DataFrame, households: pl.DataFrame, persons: pl.DataFrame
) -> Check:
    weighted = weights.select("household_id").unique()
    without = weighted.join(households, on="household_id", how="anti").height
    without_persons = weighted.join(persons, on="household_id", how="anti").height
    idle = households.join(weighted, on="household_id", how="anti").height
    return Check(
        "records_present",
        state,
        not (without or without_persons or idle),
        True,
        RECOMPUTED,
        "Every weighted household is there with its persons, and no other is.",
        {
            "households": weighted.height,
            "without_record": without,
            "without_persons": without_persons,
            "without_weight": idle,
        },
    )


def _figures_follow(
    state: str, weights: pl.DataFrame, households: pl.DataFrame, fit: pl.DataFrame
) -> Check:
    joined = weights.join(households, on="household_id", how="inner")
    made = float((joined["weight"] * joined["persons"]).sum())
    told = fit.filter((pl.col("level") == STATE) & is_variable(POPULATION))["fitted"].to_list()
    stated = told[0] if told and told[0] is not None else None
    error = abs(made / stated - 1) if stated else None
    return Check(
        "figures_follow_from_weights",
        state,
        None if error is None else error <= ROUNDING,
        True,
        RECOMPUTED,
        "Weights times persons of the released records give the fitted population.",
        {"weights_times_persons": made, "fitted": stated, "relative_error": error},
    )


def _population_met(state: str, fit: pl.DataFrame) -> Check:
    row = fit.filter(
        (pl.col("level") == STATE) & is_variable(POPULATION) & pl.col("fitted").is_not_null()
    )
    error = abs(row["fitted"][0] / row["value"][0] - 1) if row.height else None
    return Check(
        "population_met",
        state,
        None if error is None else error <= POPULATION_TOLERANCE,
        False,
        RECOMPUTED,
        f"The population is within {100 * POPULATION_TOLERANCE:g} % of its target.",
        {"relative_error": error, "tolerance": POPULATION_TOLERANCE},
    )


def _levels_add_up(state: str, fit: pl.DataFrame) -> Check:
    """Fitted figures of one variable at two levels are sums of the same weights. Levels are
    compared where every area of the finer one has a figure.
    """
    fitted = fit.filter((pl.col("role") != EVIDENCE) & pl.col("fitted").is_not_null())
    areas = {level: part["geoid"].n_unique() for (level,), part in fitted.group_by("level")}
    sums = fitted.group_by("level", *VARIABLE_KEY).agg(
        pl.col("fitted").sum(), pl.col("fitted").abs().sum().alias("size"), pl.len().alias("areas")
    )
    whole = sums.filter(pl.col("areas") == pl.col("level").replace_strict(areas, default=0))
    by_variable = whole.group_by(VARIABLE_KEY).agg(
        (pl.col("fitted").max() - pl.col("fitted").min()).alias("apart"),
        pl.col("size").max(),
        pl.len().alias("levels"),
    )
    compared = by_variable.filter(pl.col("levels") > 1)
    worst = (compared["apart"] / compared["size"].clip(1.0)).max() if compared.height else None
    found = worst if isinstance(worst, float) else None
    return Check(
        "levels_add_up",
        state,
        None if found is None else found <= ROUNDING,
        True,
        RECOMPUTED,
        "Fitted figures of tracts and counties add up to the state's.",
        {"variables": compared.height, "largest_relative_difference": found},
    )


def _accounted(state: str, fit: pl.DataFrame) -> Check:
    silent = fit.filter(pl.col("fitted").is_null() & (pl.col("not_fitted_reason") == "")).height
    return Check(
        "every_target_accounted_for",
        state,
        not silent,
        True,
        RECOMPUTED,
        "A target without a fitted value gives a reason.",
        {"targets": fit.height, "without_reason": silent},
    )


def _inside(state: str, fit: pl.DataFrame) -> Check:
    levels = sorted(fit["level"].unique(), key=lambda level: LEVEL_RANK.get(level, 0))
    rows = {row["level"]: row for row in summary_by(fit, "fitted").to_dicts()}
    share = rows[levels[-1]]["share_inside_margin"] if levels else None
    measures = ("fitted", "share_inside_margin", "median_are", "worst_are")
    numbers = {
        f"{level}_{name}": row[name]
        for level, row in rows.items()
        for name in measures
        if row[name] is not None
    }
    return Check(
        "fit_inside_margins",
        state,
        None if share is None else share >= SHARE_INSIDE,
        False,
        RECOMPUTED,
        f"At least {100 * SHARE_INSIDE:g} % of the finest level's targets with a margin are met"
        " within it.",
        numbers,
    )


def _bystanders(state: str, report: pl.DataFrame) -> Check:
    bent = report.filter(pl.col("bent").fill_null("") != "")
    moved = report["beyond_selected"].abs().max()
    return Check(
        "untold_figures_stay",
        state,
        bent.is_empty(),
        False,
        RECOMPUTED,
        "No figure without a target is moved further than the profile allows.",
        {
            "figures": report.height,
            "bent": bent.height,
            "bent_figures": [f"{v}/{d}" for v, d in bent.select(VARIABLE_KEY).iter_rows()],
            "furthest_in_standard_errors": moved,
        },
    )


def checks_of_nation(tables: TableSet) -> list[Check]:
    """Checks of the national tables against those of the states."""
    fit, report = tables.table(NATIONAL_FIT), tables.table(NATIONAL_REPORT)
    return [_nation_adds_up(tables, fit), _states_listed(tables, report)]


def _nation_adds_up(tables: TableSet, fit: pl.DataFrame) -> Check:
    parts = [
        tables.table(FIT, state)
        .filter((pl.col("level") == STATE) & pl.col("fitted").is_not_null())
        .select(*VARIABLE_KEY, pl.col("fitted").alias("part"))
        for state in tables.states
    ]
    sums = pl.concat(parts).group_by(VARIABLE_KEY).agg(pl.col("part").sum())
    stated = fit.filter((pl.col("level") == NATION) & pl.col("fitted").is_not_null())
    both = stated.join(sums, on=VARIABLE_KEY, how="left")
    errors = (both["fitted"] - both["part"]).abs() / both["fitted"].abs().clip(1.0)
    worst = errors.max() if both.height else 0.0
    missing = both["part"].null_count()
    found = float(worst) if isinstance(worst, float) else None
    return Check(
        "nation_adds_up",
        "",
        not missing and (found or 0.0) <= ROUNDING,
        True,
        RECOMPUTED,
        "The nation's fitted figures are the sums of the states'.",
        {"figures": stated.height, "without_states": missing, "largest_relative_error": found},
    )


def _states_listed(tables: TableSet, report: pl.DataFrame) -> Check:
    listed = sorted(report["state"].unique().to_list())
    return Check(
        "national_report_lists_states",
        "",
        listed == sorted(tables.states),
        True,
        RECOMPUTED,
        "The national report lists exactly the states of the release.",
        {"listed": listed, "released": sorted(tables.states)},
    )


def of_one_making(manifests: dict[str, dict[str, Any]]) -> Check:
    """Whether all states were made by the same code from the same specs with the same seed."""
    differing = {
        name: sorted({str(manifest.get(name)) for manifest in manifests.values()})
        for name in ("code_sha256", "specs_sha256", "seed", "geocal")
    }
    more = {name: values for name, values in differing.items() if len(values) > 1}
    return Check(
        "states_of_one_making",
        "",
        not more,
        False,
        RECOMPUTED,
        "All states were made by the same code from the same specs.",
        {"differing": more} if more else {name: v[0] for name, v in differing.items() if v},
    )


def certificate(checks: Iterable[Check]) -> dict[str, Any]:
    """The document: counts, then every check once, those of the nation first."""
    listed = sorted(once(checks), key=lambda c: (c.state, c.how, c.name))
    return {
        "passed": sum(c.passed is True for c in listed),
        "failed": [f"{c.name} {c.state}".strip() for c in listed if c.passed is False],
        "not_told": [f"{c.name} {c.state}".strip() for c in listed if c.passed is None],
        "checks": [c.row() for c in listed],
    }


def once(checks: Iterable[Check]) -> list[Check]:
    """Each check once: every state's manifest leads to the runs of tables that all share."""
    return list({(c.name, c.state, c.how): c for c in checks}.values())


def refusing(checks: Iterable[Check]) -> Iterator[Check]:
    """Those that keep a release from being made."""
    return (check for check in checks if check.refuses)
