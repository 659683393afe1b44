"""Checks of a survey's records: weighted shares beside published ones, what no person can be, and
persons by PUMA beside the counties they lie in.

Belongs here: those three. Does not belong here: the schema of records (``sources/microdata``), gaps
between records and targets after carrying (``targets/concept_gap.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from pipeline.checks.agreements import Tables, by_area
from pipeline.checks.results import Measured
from pipeline.checks.rows import Found
from pipeline.sources.microdata.schema import Microdata
from pipeline.specs.checks import AmountRule, Columns, ImpossibleRule, SurveyRule
from pipeline.vocabulary import STATE


def shares(survey: Microdata, rule: SurveyRule, tables: Tables, fips: str, year: str) -> Found:
    """The survey's share beside the published one of the nearest year that the rule allows."""
    years = sorted((abs(int(v) - int(year)), v) for s, v in tables if s == rule.source)
    if not years or years[0][0] > rule.years_apart:
        return 0, []
    vintage = years[0][1]
    frame = tables[rule.source, vintage]
    part = _figure(frame, rule.names, vintage, fips, rule.source)
    whole = _figure(frame, rule.whole, vintage, fips, rule.source)
    units = (
        survey.persons
        if rule.over == "persons"
        else survey.households.filter(~pl.col("is_group_quarters"))
    )
    own = units.filter(pl.sql_expr(rule.among))
    total = float(own["design_weight"].sum())
    held = float(own.filter(pl.sql_expr(rule.where))["design_weight"].sum())
    if part is None or not whole or not total or _unknown(own, rule):
        return 0, []
    here, published = 100 * held / total, 100 * part / whole
    words = (
        f"{here:.2f} % of the survey's {rule.over}, {published:.2f} % in {rule.source} {vintage}"
    )
    where = f"state {fips}, {rule.id}"
    return 1, [Measured(abs(here - published), rule.points, fips, rule.id, where, words)]


def amounts(survey: Microdata, rule: AmountRule, tables: Tables, fips: str, year: str) -> Found:
    """A weighted sum of the survey over the published amount of its year: 1 at the band's edge."""
    frame = tables.get((rule.source, year))
    published = None if frame is None else _figure(frame, (rule.column,), year, fips, rule.source)
    persons = survey.persons
    held = persons.select((pl.col(rule.value).fill_null(0) * pl.col("design_weight")).sum()).item()
    if not published or not held:
        return 0, []
    ratio = float(held) / published
    words = f"{ratio:.3g} of {rule.source} {year}, expected {rule.low:g} to {rule.high:g}"
    number = max(ratio / rule.high, rule.low / max(ratio, 1e-12))
    return 1, [Measured(number, 1.0, fips, rule.id, f"state {fips}, {rule.id}", words)]


def _unknown(own: pl.DataFrame, rule: SurveyRule) -> bool:
    """Whether what the rule asks of is null in every record: not surveyed, not zero."""
    return own.select(pl.sql_expr(rule.where).is_null().all()).item()


def _figure(
    frame: pl.DataFrame, columns: tuple[str, ...], vintage: str, fips: str, source: str
) -> float | None:
    found = by_area(frame, Columns(source=source, columns=columns), vintage, STATE)
    own = found.filter(pl.col("geoid") == fips)
    return own["figure"][0] if own.height else None


def impossible(survey: Microdata, rule: ImpossibleRule, fips: str) -> Found:
    """Persons who are what nobody can be, as a share of all."""
    persons = survey.persons
    found = persons.filter(pl.sql_expr(rule.where))
    share = found.height / max(1, persons.height)
    first = "" if found.is_empty() else f", first household {found['household_id'][0]}"
    words = f"{found.height:,} of {persons.height:,} persons{first}"
    return persons.height, [
        Measured(share, rule.share, fips, rule.id, f"state {fips}, {rule.id}", words)
    ]


def pumas_fit_counties(
    survey: Microdata,
    geography: pl.DataFrame,
    counties: Mapping[str, float],
    fips: str,
    threshold: float,
) -> Found:
    """Persons by group of PUMAs that share no county with others, beside the counties' estimates.

    ``geography``: tracts of the PUMAs' vintage; ``counties``: persons by county, of the same year.
    Groups are compared as shares of the state.
    """
    own = geography.filter(pl.col("state_fips") == fips).drop_nulls("puma")
    groups = _components(own.select("puma", "county_fips").unique().sort("puma", "county_fips"))
    persons = survey.persons.drop_nulls("puma").group_by("puma").agg(pl.col("design_weight").sum())
    by_puma = dict(persons.iter_rows())
    total, published = (
        sum(by_puma.values()),
        sum(counties.get(c, 0.0) for g in groups for c in g[1]),
    )
    if not total or not published or len(groups) < 2:
        return 0, []
    found = []
    for pumas, members in groups:
        if any(county not in counties for county in members):
            continue
        share = sum(by_puma.get(p, 0.0) for p in pumas) / total
        wanted = sum(counties[c] for c in members) / published
        where = f"PUMA {', '.join(sorted(pumas)[:3])}{' ...' if len(pumas) > 3 else ''}"
        words = f"{share:.2%} of the survey's persons, {wanted:.2%} of the counties'"
        found.append(
            Measured(abs(share / wanted - 1), threshold, min(members), "puma", where, words)
        )
    return len(found), found


def _components(pairs: pl.DataFrame) -> list[tuple[set[str], set[str]]]:
    """PUMAs and counties that hang together."""
    groups: list[tuple[set[str], set[str]]] = []
    for puma, county in pairs.iter_rows():
        touching = [g for g in groups if puma in g[0] or county in g[1]]
        merged = ({puma}, {county})
        for group in touching:
            merged[0].update(group[0])
            merged[1].update(group[1])
            groups.remove(group)
        groups.append(merged)
    return groups
