"""How far records, weighted as the survey weighted them, are from the targets before any
calibration.

Belongs here: measuring the gap, deciding which targets calibrate, and passing their model error on.
Does not belong here: record totals (``pipeline/records/survey_estimates.py``), how much of a gap is
concept (``concept_error.py``), or the declared reasons of a target file (``build.py``).

Rule: in design-weighted totals each record has its own weight, so that persons add up to what the
survey says. They are first scaled by one number, so that they agree with the target for total
persons: growth of the population since the survey is no difference of concept. What remains, gap =
(scaled record total - target) / |target|, compares concepts (a tax return against a unit rebuilt
from survey persons; income as asked against income as assessed). Beyond the limit the target is
kept for validation only. Tables made from the very questions the records answer have no difference
of concept; there the gap is sampling and change over time, and a wider limit applies. A gap that
cannot be measured because cells are withheld counts as too wide, unless concepts are the same.

Of a target that calibrates, what exceeds sampling is its **concept error**. Areas below the state
inherit the state's, relative to their own value, since records do not say where in the state they
live. Tables of the same concept have none; a restated one has that of its factor.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import polars as pl

from pipeline.errors import TargetError
from pipeline.ordered_sums import sum_in_order
from pipeline.targets.concept_error import concept_errors
from pipeline.vocabulary import (
    CALIBRATE,
    DROPPED,
    LEVEL_RANK,
    NATION,
    POPULATION,
    VALIDATION,
    VARIABLE_KEY,
    is_variable,
    levels_below,
)

GAP_SCHEMA: dict[str, pl.DataType] = {
    "variable": pl.String(),
    "domain": pl.String(),
    "unit": pl.String(),
    "record_total": pl.Float64(),
    "target": pl.Float64(),
    "target_level": pl.String(),
    "gap": pl.Float64(),
    "gap_standard_error": pl.Float64(),
    "treatment": pl.String(),
    "concept_error": pl.Float64(),
    "limit": pl.Float64(),
    "role": pl.String(),
    "reason": pl.String(),
}


def state_targets(targets: pl.DataFrame, state_fips: str) -> pl.DataFrame:
    """One figure a variable for the state: its own row, else the sum of its counties, else of its
    tracts; rows that calibrate come first.

    Columns variable, domain, unit, family, target (null if cells of the level used are withheld),
    target_level, treatment, stated (the relative concept error that the file states, or null),
    role, reason.
    """
    own = targets.filter(
        pl.col("level").is_in(levels_below(NATION)) & pl.col("geoid").str.starts_with(state_fips)
    )
    # Sorted first, so that floating-point sums do not depend on row order.
    summed = (
        own.sort("level", "geoid", *VARIABLE_KEY)
        .group_by("level", *VARIABLE_KEY, "unit", maintain_order=True)
        .agg(
            target=pl.when(pl.col("published_value").is_null().any())
            .then(None)
            .otherwise(sum_in_order("published_value", "geoid")),
            family=pl.col("family").first(),
            treatment=pl.col("treatment").drop_nulls().sort().first().fill_null("fitted"),
            stated=pl.when(pl.col("concept_error").is_null().any())
            .then(None)
            .otherwise(sum_in_order("concept_error", "geoid")),
            declared=pl.col("role").mode().sort().first(),
            why=pl.col("reason").filter(pl.col("role") != CALIBRATE).sort().first(),
        )
    )
    ranked = summed.with_columns(
        rank=pl.col("level").replace_strict(LEVEL_RANK, return_dtype=pl.Int64),
        held=pl.col("target").is_null(),
        spare=pl.col("declared") != CALIBRATE,
    )
    best = ranked.sort("spare", "held", "rank").group_by(*VARIABLE_KEY, maintain_order=True).first()
    return best.select(
        *VARIABLE_KEY,
        "unit",
        "family",
        "target",
        pl.col("level").alias("target_level"),
        "treatment",
        (pl.col("stated") / pl.col("target").abs()).fill_nan(0.0).alias("stated"),
        pl.col("declared").alias("role"),
        pl.col("why").fill_null("").alias("reason"),
    ).sort(VARIABLE_KEY)


def concept_gaps(
    design_totals: pl.DataFrame,
    targets: pl.DataFrame,
    limit: float,
    *,
    state_fips: str,
    same_concept: Collection[tuple[str, str]] = (),
    same_concept_limit: float | None = None,
    aligned: Collection[tuple[str, str]] = (),
) -> pl.DataFrame:
    """Gap of every variable of one state, with the role that follows.

    Parameters
    ----------
    design_totals : variable, domain, total and, where known, standard_error: record totals in
        target-year dollars, each record with its own design weight; total null (or the row absent)
        where the records hold no value at all.
    targets : target rows (``build.TARGET_SCHEMA``) of the state, any levels.
    limit, same_concept_limit : widest relative gap that still calibrates, in general and for
        ``same_concept`` variables.
    aligned : variables that the records were aligned with: each is a family of its own.

    Returns GAP_SCHEMA sorted by variable and domain; ``role`` calibrate, validation or dropped;
    ``reason`` in words; ``concept_error`` relative to the target, null where it does not calibrate.
    Raises TargetError if total persons is missing from either side, since nothing can then be
    scaled.
    """
    if "standard_error" not in design_totals.columns:
        unknown = pl.lit(None, pl.Float64).alias("standard_error")
        design_totals = design_totals.with_columns(unknown)
    own = design_totals.select(*VARIABLE_KEY, "total", "standard_error")
    figures = state_targets(targets, state_fips).join(own, on=VARIABLE_KEY, how="left")
    base = figures.filter(is_variable(POPULATION))
    if base.height != 1 or not base["total"][0] or not base["target"][0]:
        raise TargetError(
            "Total persons is not known both from records and from targets, so gaps cannot be"
            " scaled",
            where=f"state {state_fips}, variable persons/total",
            expected="one design-weighted total and one published population above zero",
            remedy="Keep the population estimates among the profile's targets",
        )
    growth = base["target"][0] / base["total"][0]
    same = pl.DataFrame(
        sorted(same_concept), schema={"variable": pl.String, "domain": pl.String}, orient="row"
    ).with_columns(same=pl.lit(True))
    wide = limit if same_concept_limit is None else same_concept_limit
    measured = (
        figures.join(same, on=VARIABLE_KEY, how="left")
        .with_columns(pl.col("same").fill_null(False))
        .with_columns(
            record_total=pl.col("total") * growth,
            limit=pl.when("same").then(pl.lit(wide)).otherwise(pl.lit(limit)),
        )
        .with_columns(
            gap=pl.when(pl.col("target") == 0)
            .then(pl.when(pl.col("record_total") == 0).then(0.0).otherwise(float("inf")))
            .otherwise((pl.col("record_total") - pl.col("target")) / pl.col("target").abs()),
            gap_standard_error=pl.when(pl.col("target") != 0).then(
                pl.col("standard_error") * growth / pl.col("target").abs()
            ),
        )
    )
    rows = [_decide(row) for row in measured.iter_rows(named=True)]
    decided = pl.DataFrame(rows, schema={**GAP_SCHEMA, "family": pl.String(), "same": pl.Boolean()})
    return _with_concept_errors(decided, aligned).select(list(GAP_SCHEMA)).sort(VARIABLE_KEY)


def _with_concept_errors(gaps: pl.DataFrame, aligned: Collection[tuple[str, str]]) -> pl.DataFrame:
    """``gaps`` (with family and same) with the concept error of what calibrates: as the file states
    it, none of the same concept, else as its family of gaps shows; of ``aligned`` variables, as
    their own gap does."""
    calibrates = pl.col("role") == CALIBRATE
    open_ = calibrates & ~pl.col("same") & pl.col("concept_error").is_null()
    open_ &= pl.col("gap").is_finite().fill_null(False)
    asked = gaps.filter(open_).sort(VARIABLE_KEY)
    names = asked.select(*VARIABLE_KEY, pl.col("family").fill_null("")).iter_rows()
    own = set(aligned)
    families = [f"{v}/{d}" if (v, d) in own else family for v, d, family in names]
    found = concept_errors(
        asked["gap"].to_numpy(),
        asked["gap_standard_error"].fill_null(0.0).to_numpy(),
        np.array(families),
    )
    measured = asked.select(VARIABLE_KEY).with_columns(measured=pl.Series(found, dtype=pl.Float64))
    stated = pl.when(pl.col("same")).then(0.0).otherwise("concept_error")
    return gaps.join(measured, on=VARIABLE_KEY, how="left").with_columns(
        concept_error=pl.when(calibrates).then(pl.coalesce(stated, "measured"))
    )


def _decide(row: dict) -> dict:
    role, reason, gap = row["role"], row["reason"], row["gap"]
    if row["role"] == CALIBRATE:
        if row["record_total"] is None:
            role, reason = DROPPED, "the records of this profile hold no value for it"
        elif row["record_total"] == 0 and row["target"]:
            role, reason = DROPPED, "no record of the state counts for it"
        elif gap is None and not row["same"]:
            role, reason = (
                VALIDATION,
                (
                    "withheld cells leave no figure for the state, so the gap between records and"
                    " publication cannot be measured"
                ),
            )
        elif gap is not None and abs(gap) > row["limit"]:
            side = "above" if gap > 0 else "below"
            size = (
                f"{abs(gap):.0%} {side} the published figure"
                if gap != float("inf")
                else "above a published zero"
            )
            role = VALIDATION
            reason = (
                f"concept gap too wide: design-weighted records are {size}"
                f" ({row['record_total']:,.0f} against {row['target']:,.0f} {row['unit']}), the"
                f" limit is {row['limit']:.0%}"
            )
    named = {name: row.get(name) for name in (*GAP_SCHEMA, "family", "same")}
    return named | {"concept_error": row["stated"], "role": role, "reason": reason}


def apply_gaps(targets: pl.DataFrame, gaps: pl.DataFrame, state_fips: str) -> pl.DataFrame:
    """Target rows of the state with the role, reason and concept error of ``gaps``; rows of other
    areas (the nation, other states) are left as they are.

    A row without a concept error of its own gets the state's relative one, times its own value.
    """
    decided = gaps.select(
        *VARIABLE_KEY,
        pl.col("role").alias("new_role"),
        pl.col("reason").alias("new_reason"),
        pl.col("concept_error").alias("relative"),
    )
    inside = pl.col("level").is_in(levels_below(NATION)) & pl.col("geoid").str.starts_with(
        state_fips
    )
    other = (pl.col("new_role") != CALIBRATE).fill_null(False)
    changes = inside & other & (pl.col("role") == CALIBRATE)
    inherited = pl.when(inside).then(pl.col("relative") * pl.col("published_value").abs())
    joined = targets.join(decided, on=VARIABLE_KEY, how="left", maintain_order="left")
    return joined.with_columns(
        concept_error=pl.coalesce("concept_error", inherited),
        role=pl.when(changes).then("new_role").otherwise("role"),
        reason=pl.when(changes).then("new_reason").otherwise("reason"),
    ).drop("new_role", "new_reason", "relative")
