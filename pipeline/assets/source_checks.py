"""Named checks of what files say, as Dagster asset checks.

Belongs here: which asset carries which checks, and a result of ``pipeline/checks`` as Dagster shows
it. Does not belong here: computing a check, or the assets themselves.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from pipeline.assets.common import check_spec
from pipeline.assets.names import NATIONAL_TARGETS, PERSONS, STATE_TARGETS
from pipeline.specs.checks import load_checks

if TYPE_CHECKING:
    import polars as pl

    from pipeline.checks.results import CheckResult
    from pipeline.sources.microdata.schema import Microdata
    from pipeline.specs.profiles import Profile


def specs(
    asset: str, names: Iterable[str], partitions: dg.PartitionsDefinition | None = None
) -> list[dg.AssetCheckSpec]:
    """A spec for each named check of ``asset``, with what it asks and what was measured."""
    checks = load_checks()
    return [
        check_spec(
            name,
            asset,
            f"{checks[name].title}. {checks[name].evidence}",
            blocking=checks[name].blocking,
            partitions=partitions,
        )
        for name in names
    ]


def of_source(source: str, partitions: dg.PartitionsDefinition | None) -> list[dg.AssetCheckSpec]:
    """What a publication's own asset carries."""
    from pipeline.checks.run import names_within

    return specs(source, names_within(source), partitions)


def of_national_targets() -> list[dg.AssetCheckSpec]:
    from pipeline.checks.run import AGREE

    return specs(NATIONAL_TARGETS, [AGREE])


def of_state_targets(partitions: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    from pipeline.checks.run import AGREE, COUNTY_NAMES

    return specs(STATE_TARGETS, [AGREE, COUNTY_NAMES], partitions)


def of_survey(partitions: dg.PartitionsDefinition) -> list[dg.AssetCheckSpec]:
    from pipeline.checks.run import OF_SURVEYS

    return specs(PERSONS, OF_SURVEYS, partitions)


def shown(results: Sequence["CheckResult"], names: Iterable[str]) -> list[dg.AssetCheckResult]:
    """One result for each of ``names``, over all the vintages that ``results`` has."""
    return [_shown(name, [result for result in results if result.name == name]) for name in names]


def _shown(name: str, results: Sequence["CheckResult"]) -> dg.AssetCheckResult:
    check = load_checks()[name]
    metadata: dict[str, Any] = {"judged": sum(result.judged for result in results)}
    for result in results:
        metadata[result.vintage or "found"] = result.words
    worst = max((r.worst for r in results if r.worst), key=lambda m: m.badness, default=None)
    if worst is not None:
        metadata |= {"number": worst.number, "threshold": worst.threshold, "where": worst.where}
    return dg.AssetCheckResult(
        check_name=name,
        passed=all(result.passed for result in results),
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        metadata={**metadata, "unit": check.unit},
    )


def results_of_source(
    source: str, frame: "pl.DataFrame", profile: "Profile", data: Path, states: Sequence[str]
) -> list[dg.AssetCheckResult]:
    """The checks of a publication's table, all its vintages, and beside another vintage."""
    from pipeline.checks.of_profile import checks_of_source
    from pipeline.checks.run import names_within

    return shown(checks_of_source(profile, source, frame, data, states), names_within(source))


def results_between(
    names: Sequence[str], profile: "Profile", data: Path, tables: Any, levels: Any, states: Any
) -> list[dg.AssetCheckResult]:
    """The checks of tables against each other at ``levels``; ``states``: postal codes."""
    from pipeline.checks.of_profile import witnesses
    from pipeline.checks.run import between
    from pipeline.specs.known_totals import holds_made_up
    from pipeline.specs.states import state_of

    taken, made_up = profile.accepted_checks, holds_made_up(data)
    both = {**witnesses(profile, data, states), **tables} if states else tables
    fips = [state_of(postal).fips for postal in states]
    found = between(both, fips, levels, accepted=taken, made_up=made_up)
    return shown(found, names)


def results_of_survey(
    survey: "Microdata", profile: "Profile", data: Path, postal: str
) -> list[dg.AssetCheckResult]:
    """The checks of a state's records beside the tables that speak of them."""
    from pipeline.checks.of_profile import checks_of_survey
    from pipeline.checks.run import OF_SURVEYS

    return shown(checks_of_survey(profile, survey, data, postal), OF_SURVEYS)
