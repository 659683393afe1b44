"""Figures of another year that only say how a state's total is shared among its areas.

Belongs here: which target rows are scaled to their state's own figure of the target year, and the
error they then have. Does not belong here: carrying a figure by a factor (``carry.py``), or
reconciling what is left (``reconcile.py``).

A county table of five years, or of another year, misses the target year mostly by what moved in the
whole state: persons of 65 and over grew by 6 % in the two years from the middle of 2014-2018 to
2018. Left to reconciliation, that common difference goes where the margins are widest: to the few
areas whose figures the table does not control. It is taken out first, area by area in proportion.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from pipeline.ordered_sums import sum_in_order
from pipeline.specs.catalog import Catalog
from pipeline.specs.profiles import Profile
from pipeline.vocabulary import POPULATION, STATE, VARIABLE_KEY, levels_below

SHARE_RULE = "share of the state"
"""What ``carry_rule`` says of a scaled row, after the rule it was carried by."""
Place = tuple[str, str, str]
"""Level, variable, domain."""


@dataclass(frozen=True)
class ShareRule:
    """``own``: the relative error of carrying that the rows have; ``share``: the one of their
    shares; ``any_year``: whether a state's figure that was carried itself counts.
    """

    own: float
    share: float
    any_year: bool = False


def share_rules(catalog: Catalog, profile: Profile) -> dict[Place, ShareRule]:
    """The rules of all items below the state whose data year is not the target year and whose
    carry rule states an error of shares.
    """
    rules: dict[Place, ShareRule] = {}
    below = levels_below(STATE, profile.levels)
    for spec in catalog.specs_of(profile, below):
        vintage = catalog.vintage_of(spec, profile)
        data_year = catalog.data_year(spec, vintage, profile)
        for item in spec.items_of(vintage):
            years = profile.target_year - data_year - item.years_ahead
            carry = catalog.carry_of(spec, item, profile)
            share = carry.share_error(years)
            if share is None or not years:
                continue
            for level in set(below) & set(spec.levels):
                rules[level, item.variable, item.domain] = ShareRule(
                    carry.error(years), share, carry.shares_of == "any"
                )
    return rules


def scaled_to_state(
    targets: pl.DataFrame, state: pl.DataFrame, rules: Mapping[Place, ShareRule]
) -> pl.DataFrame:
    """Target rows of one state, those with a rule scaled to the state's figure.

    Parameters
    ----------
    targets : rows of the levels below the state (``build.TARGET_SCHEMA``).
    state : the state's rows. A figure counts where it is not carried, restated it may be; where the
        rule takes any year, every figure does.
    rules : by level, variable, domain.

    A row becomes k times itself, k = state / sum of the level's areas; its variance
    k^2 (s^2 - (own x)^2 + (share x)^2), x the value and s its standard error.

    Where areas of the level are withheld the others do not add up to the state. Withheld for being
    small, they have between nothing and their share f of the level's persons; the middle is left to
    them, k = (1 - f / 2) state / sum of the others. Nothing is scaled if f exceeds the error of
    shares, or the level has no persons.
    """
    if not rules or state.is_empty():
        return targets
    place = ["level", *VARIABLE_KEY]
    stated = pl.DataFrame(
        [(*key, rule.own, rule.share, rule.any_year) for key, rule in sorted(rules.items())],
        schema={
            **dict.fromkeys(place, pl.String),
            "_own": pl.Float64,
            "_share": pl.Float64,
            "_any": pl.Boolean,
        },
        orient="row",
    )
    rule = pl.col("carry_rule")
    current = (rule == "none") | rule.str.starts_with("restated by")
    known = state.filter(pl.col("value").is_not_null())
    figures = known.select(*VARIABLE_KEY, _state="value", _current=current)
    totals = (
        targets.sort("geoid")
        .group_by(place, maintain_order=True)
        .agg(_sum=sum_in_order("value", "geoid"))
        .filter(pl.col("_sum") > 0)
        .join(_persons_withheld(targets, place), on=place, how="left")
        .with_columns(pl.col("_withheld").fill_null(0.0))
    )
    known_part = 1.0 - pl.col("_withheld") / 2.0
    scales = (
        totals.join(stated, on=place)
        .join(figures, on=VARIABLE_KEY)
        .filter(pl.col("_current") | pl.col("_any"))
        .filter(pl.col("_withheld") <= pl.col("_share"))
        .select(*place, "_own", "_share", _k=pl.col("_state") * known_part / pl.col("_sum"))
        .filter(pl.col("_k") > 0)
    )
    rows = targets.join(scales, on=place, how="left", maintain_order="left")
    scaled, k, x = pl.col("_k").is_not_null(), pl.col("_k"), pl.col("value")
    sampling = (pl.col("standard_error") ** 2 - (pl.col("_own") * x) ** 2).clip(lower_bound=0.0)
    error = k * (sampling + (pl.col("_share") * x) ** 2).sqrt()
    changed = {
        "value": x * k,
        "published_value": pl.col("published_value") * k,
        "standard_error": error,
        "published_standard_error": error,
        "margin_standard_error": pl.col("margin_standard_error") * k,
        "concept_error": pl.col("concept_error") * k,
        "carry_factor": pl.col("carry_factor") * k,
        "carry_rule": pl.when(rule == "none")
        .then(pl.lit(SHARE_RULE))
        .otherwise(rule + " * " + SHARE_RULE),
    }
    return rows.with_columns(
        **{name: pl.when(scaled).then(new).otherwise(name) for name, new in changed.items()}
    ).select(targets.columns)


def _persons_withheld(targets: pl.DataFrame, place: list[str]) -> pl.DataFrame:
    """The share of a level's persons that live where a figure is withheld, by level and variable;
    infinite where the level's persons are not all known."""
    is_persons = (pl.col("variable") == POPULATION[0]) & (pl.col("domain") == POPULATION[1])
    persons = targets.filter(is_persons).select("level", "geoid", _persons="value")
    known = pl.when(pl.col("_persons").is_null().any()).then(None)
    all_persons = (
        persons.sort("geoid")
        .group_by("level", maintain_order=True)
        .agg(_all=known.otherwise(sum_in_order("_persons", "geoid")))
    )
    return (
        targets.filter(pl.col("value").is_null())
        .join(persons, on=["level", "geoid"], how="left")
        .sort("geoid")
        .group_by(place, maintain_order=True)
        .agg(_held=known.otherwise(sum_in_order("_persons", "geoid")))
        .join(all_persons, on="level", how="left")
        .select(*place, _withheld=(pl.col("_held") / pl.col("_all")).fill_null(float("inf")))
    )
