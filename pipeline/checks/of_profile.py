"""The named checks of a profile's files in one go, as ``geocal check`` and validation ask for them.

Belongs here: which tables of a profile are compared with which, other vintages that lie in the data
folder, lists of tracts. Does not belong here: a check itself, Dagster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl

from calibration_core.errors import GeocalError
from pipeline.checks import run
from pipeline.checks.agreements import Tables
from pipeline.checks.results import CheckResult
from pipeline.sources.base import resolve_files
from pipeline.sources.microdata.schema import Microdata
from pipeline.sources.of_profile import read_geography
from pipeline.sources.registry import UNFORESEEN, read_microdata, read_source
from pipeline.specs.checks import load_checks
from pipeline.specs.known_totals import holds_made_up
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import SourceSpec, load_source
from pipeline.specs.states import state_of
from pipeline.vocabulary import TRACT

# Vintages whose tables are by tracts of 2010; later ones are by those of 2020.
LAST_OF_2010 = 2019


def other_vintage(
    spec: SourceSpec,
    vintages: Sequence[str],
    vintage: str,
    data: Path,
    states: Sequence[str],
    held: Mapping[str, pl.DataFrame] | None = None,
) -> dict[str, pl.DataFrame]:
    """The nearest other vintage of a publication whose files all lie in the folder, read; nothing
    where there is none, or it cannot be read. ``held``: vintages that were read before, for the
    same states."""
    near = sorted(
        (v for v in spec.vintages if v != vintage),
        key=lambda v: (v not in vintages, abs(int(v) - int(vintage)), v),
    )
    asked = list(states) if spec.coverage == "state" else None
    for other in near:
        try:
            files = resolve_files(spec, other, data, asked)
            if files and all(file.exists for file in files):
                if held is not None and other in held:
                    return {other: held[other]}
                return {other: read_source(spec, other, data, asked).frame}
        except (GeocalError, *UNFORESEEN):
            continue
    return {}


def witnesses(
    profile: Profile, data: Path, states: Sequence[str]
) -> dict[tuple[str, str], pl.DataFrame]:
    """Tables that the profile does not ask for, which lie in the folder and say what it reads once
    more: read where every file is there."""
    found = {}
    for source in WITNESSES if not holds_made_up(data) else ():
        spec = load_source(source)
        for vintage in spec.vintages if source not in profile.sources else ():
            try:
                files = resolve_files(spec, vintage, data, states)
                if files and all(file.exists for file in files):
                    found[source, vintage] = read_source(spec, vintage, data, states).frame
            except (GeocalError, *UNFORESEEN):
                continue
    return found


# Counts of 2020 once more, by tract: two tracts that are alike are told by nothing else.
WITNESSES = ("census2020_pl_tracts",)


def checks_of_source(
    profile: Profile, source: str, frame: pl.DataFrame, data: Path, states: Sequence[str]
) -> list[CheckResult]:
    """The checks of one publication's table, which holds all its vintages, for ``states`` (postal
    codes)."""
    spec, found = load_source(source), []
    fips, vintages = [state_of(postal).fips for postal in states], profile.sources.get(source, ())
    own = {vintage: frame.filter(pl.col("vintage") == vintage) for vintage in vintages}
    taken, made_up = profile.accepted_checks, holds_made_up(data)
    for vintage, table in own.items():
        older = {}
        if run.compares_vintages(source):
            older = other_vintage(spec, vintages, vintage, data, states, own)
        found += run.within(source, vintage, table, older, fips, taken, made_up)
    return found


def checks_of_survey(
    profile: Profile, survey: Microdata, data: Path, postal: str
) -> list[CheckResult]:
    """The checks of a state's records, beside those published tables of the profile that speak of
    the same."""
    of = {rule.source for rule in load_checks()[run.SURVEY].survey} | {run.COUNTY_ESTIMATES}
    tables: dict[tuple[str, str], pl.DataFrame] = {}
    for source in sorted(of & set(profile.sources)):
        spec = load_source(source)
        asked = [postal] if spec.coverage == "state" else None
        for vintage in profile.sources[source]:
            tables[source, vintage] = read_source(spec, vintage, data, asked).frame
    geography = read_geography(profile, data, [postal]).frame
    return _of_records(profile, survey, data, postal, tables, geography)


def refuse_wrong(
    profile: Profile,
    tables: Tables,
    survey: Microdata,
    geography: pl.DataFrame,
    data: Path,
    postal: str,
) -> None:
    """Raise CheckError for the first blocking check that fails of what a state is made from."""
    fips = [state_of(postal).fips]
    taken, made_up = profile.accepted_checks, holds_made_up(data)
    for (source, vintage), frame in sorted(tables.items()):
        found = run.within(source, vintage, frame, None, fips, taken, made_up)
        run.refuse_failed(found, postal)
    run.refuse_failed(run.between(tables, fips, accepted=taken, made_up=made_up), postal)
    run.refuse_failed(_of_records(profile, survey, data, postal, tables, geography), postal)


def checks_of_profile(
    profile: Profile,
    sources: Mapping[str, SourceSpec],
    data: Path,
    states: Sequence[str],
    without: Iterable[tuple[str, str]] = (),
    held: dict[tuple[str, str], pl.DataFrame] | None = None,
) -> Iterator[CheckResult]:
    """Every named check of the files of ``states``; ``without``: tables that cannot be read.

    ``held``: nationwide tables that were read and checked before, for other states; those read now
    are added.
    """
    left_out, held = set(without), {} if held is None else held
    tables: dict[tuple[str, str], pl.DataFrame] = {}
    taken, made_up = profile.accepted_checks, holds_made_up(data)
    fips = [state_of(postal).fips for postal in states]
    for source, vintages in sorted(profile.sources.items()):
        spec = sources[source]
        for vintage in vintages if spec.kind == "published" else ():
            if (source, vintage) in left_out:
                continue
            asked = list(states) if spec.coverage == "state" else None
            if asked is None and (source, vintage) in held:
                tables[source, vintage] = held[source, vintage]
                continue
            frame = read_source(spec, vintage, data, asked).frame
            tables[source, vintage] = frame
            if asked is None:
                held[source, vintage] = frame
            older = {}
            if run.compares_vintages(source):
                read = {v: tables[source, v] for v in vintages if (source, v) in tables}
                older = other_vintage(spec, vintages, vintage, data, states, read)
            yield from run.within(source, vintage, frame, older, fips, taken, made_up)
    geography = _geography(profile, data, states, left_out)
    lists = _lists(profile, geography)
    both = {**witnesses(profile, data, states), **tables}
    yield from run.between(both, fips, lists=lists, accepted=taken, made_up=made_up)
    records = profile.records
    for postal in states if (records.source, records.vintage) not in left_out else ():
        survey = read_microdata(sources[records.source], records.vintage, data, [postal])
        yield from _of_records(profile, survey, data, postal, tables, geography)


def _of_records(
    profile: Profile,
    survey: Microdata,
    data: Path,
    postal: str,
    tables: Tables,
    geography: pl.DataFrame | None,
) -> list[CheckResult]:
    """The checks of the survey's records of one state."""
    tracts = None
    if geography is not None:
        tracts = geography.filter(pl.col("vintage") == profile.geography.puma_link_vintage)
    return run.of_survey(
        survey,
        f"{profile.records.source} {postal}",
        profile.records.vintage,
        state_of(postal).fips,
        tables,
        tracts,
        profile.accepted_checks,
        holds_made_up(data),
    )


def _geography(
    profile: Profile, data: Path, states: Sequence[str], left_out: set[tuple[str, str]]
) -> pl.DataFrame | None:
    source = profile.geography.source
    if any((source, vintage) in left_out for vintage in profile.sources[source]):
        return None
    return read_geography(profile, data, list(states)).frame


def _lists(profile: Profile, geography: pl.DataFrame | None) -> dict[str, frozenset[str]]:
    """Tracts that each table of tracts should have, where its list is read: water is left out of
    some tables, so tracts of water (99xxxx) are no part of it."""
    if geography is None:
        return {}
    listed = dict(geography.group_by("vintage").agg(pl.col(TRACT)).iter_rows())
    found = {}
    for source, vintages in profile.sources.items():
        for vintage in vintages:
            census = "2010" if int(vintage) <= LAST_OF_2010 else "2020"
            tracts = (tract for tract in listed.get(census, []) if tract[5:7] != "99")
            found[f"{source} {vintage}"] = frozenset(tracts)
    return found
