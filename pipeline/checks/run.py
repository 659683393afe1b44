"""Every named check that a profile's files allow: which rules are of which file, exceptions of the
profile, and stopping where a blocking one fails.

Belongs here: choosing rules and gathering results. Does not belong here: what a check measures (the
modules beside), reading files, Dagster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from pipeline.checks import agreements, areas, rows, survey
from pipeline.checks.agreements import Tables
from pipeline.checks.results import CheckResult, Measured, SourceCells, Tally
from pipeline.checks.rows import Found
from pipeline.errors import CheckError
from pipeline.sources.microdata.schema import Microdata
from pipeline.specs.checks import Check, load_checks
from pipeline.specs.profiles import AcceptedCheck
from pipeline.vocabulary import COUNTY, NATION, STATE, TRACT

NAMES_FIT, COUNTY_NAMES, SAME_AREAS = (
    "names_fit_codes",
    "county_names_agree",
    "areas_are_those_listed",
)
AGREE, VINTAGES = "sources_agree", "vintages_agree"
SURVEY, POSSIBLE, PUMAS = "survey_agrees", "persons_possible", "pumas_fit_counties"
COUNTY_ESTIMATES = "pep_counties"
OF_SURVEYS = (SURVEY, POSSIBLE, PUMAS)
NATIONAL, BELOW = (NATION, STATE), (COUNTY, TRACT)
Accepted = Sequence[AcceptedCheck]


def names_within(source: str) -> list[str]:
    """The checks that a file of ``source`` undergoes by itself, in the order of the file."""
    return [
        name
        for name, check in load_checks().items()
        if name == NAMES_FIT or any(source in rule.sources for rule in _rules(check))
    ]


def compares_vintages(source: str) -> bool:
    """Whether a check puts a file of ``source`` beside another vintage of it."""
    checks = load_checks().values()
    return any(source in rule.sources for check in checks for rule in check.vintages)


def _rules(check: Check) -> list:
    kinds = (check.sums, check.strata, check.percents, check.ratios, check.areas)
    more = (check.margins, check.medians, check.vintages)
    return [rule for kind in (*kinds, *more) for rule in kind]


def within(
    source: str,
    vintage: str,
    frame: pl.DataFrame,
    older: Mapping[str, pl.DataFrame] | None = None,
    states: Sequence[str] = (),
    accepted: Accepted = (),
    made_up: bool = False,
) -> list[CheckResult]:
    """The checks of one table: by itself, and beside ``older`` (or newer) vintages of it."""
    found, cells = [], SourceCells(frame)
    for name in names_within(source):
        check = load_checks(made_up=made_up)[name]
        tally = Tally()
        for judged, measured in _of_table(name, check, source, vintage, cells):
            tally.add(judged, measured)
        for rule in check.vintages:
            for other, old in (older or {}).items() if source in rule.sources else ():
                newer, of = (
                    ((frame, old), (vintage, other))
                    if vintage > other
                    else ((old, frame), (other, vintage))
                )
                tally.add(*agreements.vintages(*newer, rule, of, states))
        found.append(_result(name, check, source, vintage, tally, accepted))
    return found


def _of_table(
    name: str, check: Check, source: str, vintage: str, cells: SourceCells
) -> Iterable[Found]:
    """Each rule of the check that is of this source and vintage."""
    frame = cells.frame
    if name == NAMES_FIT:
        yield areas.names_fit(frame)
    yield from (rows.sums(cells, rule) for rule in check.sums if source in rule.sources)
    yield from (rows.percents(cells, rule) for rule in check.percents if source in rule.sources)
    yield from (rows.strata(frame, rule) for rule in check.strata if source in rule.sources)
    yield from (rows.ratios(cells, r, vintage) for r in check.ratios if source in r.sources)
    yield from (rows.medians(cells, rule) for rule in check.medians if source in rule.sources)
    yield from (areas.margins(frame, rule) for rule in check.margins if source in rule.sources)
    for rule in check.areas:
        of_vintage = not rule.vintages or vintage in rule.vintages
        if source in rule.sources and of_vintage and vintage not in rule.but_vintages:
            yield areas.areas(frame, rule)


def between(
    tables: Tables,
    states: Sequence[str],
    levels: Sequence[str] = (*NATIONAL, *BELOW),
    lists: Mapping[str, frozenset[str]] | None = None,
    accepted: Accepted = (),
    made_up: bool = False,
) -> list[CheckResult]:
    """The checks of tables against each other at ``levels``, for ``states`` (FIPS codes)."""
    checks = load_checks(made_up=made_up)
    agree = Tally()
    for rule in checks[AGREE].agreements:
        if rule.level in levels:
            agree.add(*agreements.agree(tables, rule, states))
    found = [_result(AGREE, checks[AGREE], "", "", agree, accepted)]
    if COUNTY in levels:
        names = Tally()
        names.add(*agreements.county_names(tables, states))
        found.append(_result(COUNTY_NAMES, checks[COUNTY_NAMES], "", "", names, accepted))
        same = Tally()
        same.add(*agreements.same_areas(tables, lists or {}, states))
        found.append(_result(SAME_AREAS, checks[SAME_AREAS], "", "", same, accepted))
    return found


def of_survey(
    records: Microdata,
    source: str,
    vintage: str,
    fips: str,
    tables: Tables,
    geography: pl.DataFrame | None = None,
    accepted: Accepted = (),
    made_up: bool = False,
) -> list[CheckResult]:
    """The checks of a survey's records of one state, beside published ``tables``.

    ``geography``: tracts of the PUMAs' vintage.
    """
    checks = load_checks(made_up=made_up)
    shares, possible, pumas = Tally(), Tally(), Tally()
    for rule in checks[SURVEY].survey:
        shares.add(*survey.shares(records, rule, tables, fips, vintage))
    for amount in checks[SURVEY].amounts:
        shares.add(*survey.amounts(records, amount, tables, fips, vintage))
    for impossible in checks[POSSIBLE].impossible:
        possible.add(*survey.impossible(records, impossible, fips))
    counties = _county_population(tables, vintage)
    if geography is not None and counties:
        limit = checks[PUMAS].threshold
        pumas.add(*survey.pumas_fit_counties(records, geography, counties, fips, limit))
    by_name = {SURVEY: shares, POSSIBLE: possible, PUMAS: pumas}
    return [
        _result(name, checks[name], source, vintage, tally, accepted)
        for name, tally in by_name.items()
    ]


def _county_population(tables: Tables, year: str) -> dict[str, float]:
    """Persons by county in the survey's year, from the newest estimates that state it."""
    column = f"POPESTIMATE{year}"
    for (source, _), frame in sorted(tables.items(), reverse=True):
        if source == COUNTY_ESTIMATES and column in set(frame["column"]):
            own = frame.filter((pl.col("level") == COUNTY) & (pl.col("column") == column))
            return dict(own.drop_nulls("estimate").select("geoid", "estimate").iter_rows())
    return {}


def _result(
    name: str, check: Check, source: str, vintage: str, tally: Tally, accepted: Accepted
) -> CheckResult:
    ranked = sorted(tally.failing, key=lambda m: (-m.badness, m.geoid, m.column))
    taken: Counter[str] = Counter()
    failing: list[Measured] = []
    for each in ranked:
        entry = next((a for a in accepted if a.covers(name, source, each.geoid, each.column)), None)
        if entry is None:
            failing.append(each)
        else:
            taken[entry.reason] += 1
    return CheckResult(
        name,
        source,
        vintage,
        check.title,
        check.unit,
        check.blocking,
        tally.judged,
        tally.worst,
        tuple(failing),
        dict(taken),
    )


def refuse_failed(results: Iterable[CheckResult], where: str) -> None:
    """Raise CheckError for the first blocking check that failed."""
    for result in results:
        if result.blocking and not result.passed:
            raise failure(result, where)


def failure(result: CheckResult, where: str) -> CheckError:
    """The check as an error: what was found, where, what was expected, what to do."""
    source = f"{result.source} {result.vintage}".strip()
    first = result.failing[0]
    return CheckError(
        f"Check {result.name} fails: {result.words}",
        where=", ".join(part for part in (where, source) if part),
        expected=f"{result.title}: at most {first.threshold:,.4g} ({result.unit})",
        remedy=(
            "Compare the figures with the publisher's page and download the file again; if they"
            " are right, name the check, the areas and a reason under `accepted_checks` of the"
            " profile"
        ),
    )
