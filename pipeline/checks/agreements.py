"""Checks of two files against each other: figures of one area in two sources or two vintages, the
names that files give one county, and the areas that each has.

Belongs here: those comparisons. Does not belong here: checks within one file (``rows.py``,
``areas.py``), the survey's records (``survey.py``).
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

import polars as pl

from pipeline.checks.results import Measured, worst_rows
from pipeline.checks.rows import Found
from pipeline.specs.checks import AgreeRule, Columns, VintageRule
from pipeline.vocabulary import COUNTY, GEOID_LENGTH, LEVEL_RANK, NATION, TRACT

Tables = Mapping[tuple[str, str], pl.DataFrame]
_KINDS = re.compile(
    r"\b(county|parish|borough|census area|municipality|city and borough|municipio|city|town"
    r"|planning region|and)\b"
)
_NOT_LETTERS = re.compile(r"[^a-z]+")
# A name is judged where this many files give one; with two nobody says which is right, and both
# are shown.
LEAST_NAMES = 2


def by_area(frame: pl.DataFrame, what: Columns, vintage: str, level: str) -> pl.DataFrame:
    """``geoid, figure`` at ``level``: the level's own rows, else the finest below, added up. An
    area with a withheld part is left out."""
    names = [name.replace("{year}", vintage) for name in what.names]
    rows = frame.filter(pl.col("column").is_in(names) & (pl.col("stratum") == what.stratum))
    order = sorted(
        (x for x in set(rows["level"]) if x in LEVEL_RANK and LEVEL_RANK[x] >= LEVEL_RANK[level]),
        key=LEVEL_RANK.__getitem__,
    )
    if not order:
        return pl.DataFrame(schema={"geoid": pl.String, "figure": pl.Float64})
    length = GEOID_LENGTH[level]
    own = rows.filter(pl.col("level") == order[0])
    return (
        own.group_by(geoid=pl.col("geoid").str.slice(0, length))
        .agg(
            figure=pl.col("estimate").sum(),
            missing=pl.col("estimate").is_null().any(),
            columns=pl.col("column").n_unique(),
        )
        .filter(~pl.col("missing") & (pl.col("columns") == len(set(names))))
        .select("geoid", "figure")
    )


def agree(tables: Tables, rule: AgreeRule, states: Sequence[str]) -> Found:
    """Every pair of vintages near enough, at the areas of ``states`` (FIPS; none: all)."""
    judged, found = 0, []
    for left_vintage, right_vintage in _pairs(tables, rule):
        left = _of(tables, rule.left, left_vintage, rule.level, rule.left_over)
        right = _of(tables, rule.right, right_vintage, rule.level, rule.right_over)
        both = left.join(right, on="geoid", suffix="_right").filter(
            pl.col("figure_right") > max(rule.at_least, 0.0)
        )
        # What is usual is told by all areas, what fails by those asked for.
        made = _judged(_banded(both, rule), rule, states)
        judged += made.height
        found += [
            Measured.of(
                row,
                rule.left.columns[0],
                f"{rule.level} {row['geoid'] or 'US'}, {rule.id}",
                f"{rule.left.source} {left_vintage} has {row['figure']:,.4g},"
                f" {rule.right.source} {right_vintage} {row['figure_right']:,.4g}: ratio"
                f" {row['ratio']:.4g}, expected {row['low']:.4g} to {row['high']:.4g}",
            )
            for row in worst_rows(made)
        ]
    return judged, found


def _judged(
    made: pl.DataFrame, rule: AgreeRule | VintageRule, states: Sequence[str]
) -> pl.DataFrame:
    """Areas that the rule judges: those of ``states`` (none: all), without its exceptions."""
    kept = made.filter(~pl.col("geoid").is_in(list(rule.but_areas)))
    if not states or rule.level == NATION:
        return kept
    return kept.filter(pl.col("geoid").str.slice(0, 2).is_in(list(states)))


def _pairs(tables: Tables, rule: AgreeRule) -> list[tuple[str, str]]:
    left = [v for s, v in tables if s == rule.left.source]
    right = [v for s, v in tables if s == rule.right.source]
    return sorted((a, b) for a in left for b in right if abs(int(a) - int(b)) <= rule.years_apart)


def _of(
    tables: Tables, what: Columns, vintage: str, level: str, over: tuple[str, ...]
) -> pl.DataFrame:
    """The figure, or its share of ``over`` in the same file."""
    frame = tables[what.source, vintage]
    own = by_area(frame, what, vintage, level)
    if not over:
        return own
    whole = by_area(frame, what.model_copy(update={"columns": over}), vintage, level)
    both = own.join(whole, on="geoid", suffix="_whole").filter(pl.col("figure_whole") > 0)
    return both.select("geoid", figure=pl.col("figure") / pl.col("figure_whole"))


def _banded(both: pl.DataFrame, rule: AgreeRule) -> pl.DataFrame:
    """Ratios with their band: the rule's, and around the median area's where ``spread`` says so."""
    made = both.with_columns(ratio=pl.col("figure") / pl.col("figure_right"))
    low, high = pl.lit(rule.low), pl.lit(rule.high)
    if rule.spread is not None and made.height >= SPREAD_AREAS:
        middle = pl.col("ratio").median()
        low = pl.max_horizontal(low, middle / rule.spread)
        high = pl.min_horizontal(high, middle * rule.spread)
    made = made.with_columns(low=low, high=high)
    return made.with_columns(
        number=pl.max_horizontal(
            pl.col("ratio") / pl.col("high"), pl.col("low") / pl.col("ratio").clip(1e-12)
        ),
        threshold=pl.lit(1.0 + 1e-9),
    )


# Of fewer areas the median is no measure of what is usual.
SPREAD_AREAS = 3


def vintages(
    new: pl.DataFrame,
    old: pl.DataFrame,
    rule: VintageRule,
    of: tuple[str, str],
    states: Sequence[str] = (),
) -> Found:
    """Growth by area over the median area's growth. ``of``: the vintages, newer first."""
    years = max(1, abs(int(of[0]) - int(of[1])))
    times = rule.start + rule.per_year * years
    judged, found = 0, []
    for column in rule.columns:
        what = Columns(source="-", columns=(column,), stratum=rule.stratum)
        both_of = ((new, of[0]), (old, of[1]))
        pair = [by_area(frame, what, vintage, rule.level) for frame, vintage in both_of]
        both = (
            pair[0]
            .join(pair[1], on="geoid", suffix="_old")
            .filter((pl.col("figure_old") >= rule.at_least) & (pl.col("figure") > 0))
            .with_columns(ratio=pl.col("figure") / pl.col("figure_old"))
        )
        if both.height < SPREAD_AREAS:
            continue
        made = both.with_columns(usual=pl.col("ratio").median()).with_columns(
            number=(pl.col("ratio") / pl.col("usual")).log().abs(),
            threshold=pl.lit(math.log(times)),
        )
        made = _judged(made, rule, states)
        judged += made.height
        found += [
            Measured.of(
                row,
                column,
                f"{rule.level} {row['geoid']}, {column}",
                f"{row['figure']:,.4g} in {of[0]} for {row['figure_old']:,.4g} in {of[1]},"
                f" {row['ratio']:.3g} times, where the median area has {row['usual']:.3g}",
            )
            for row in worst_rows(made)
        ]
    return judged, found


def county_names(tables: Tables, states: Sequence[str]) -> Found:
    """Each county's name in every file that gives one: those that differ from what most say."""
    said: dict[str, dict[str, str]] = {}
    for (source, vintage), frame in sorted(tables.items()):
        rows = frame.filter((pl.col("level") == COUNTY) & pl.col("name").is_not_null())
        if states:
            rows = rows.filter(pl.col("geoid").str.slice(0, 2).is_in(list(states)))
        for geoid, name in rows.select("geoid", "name").unique().sort("geoid").iter_rows():
            said.setdefault(geoid, {})[f"{source} {vintage}"] = name
    judged, wrong = 0, []
    for geoid, names in sorted(said.items()):
        if len(names) < LEAST_NAMES:
            continue
        judged += 1
        plain = {source: plain_name(name) for source, name in names.items()}
        usual, _ = Counter(plain.values()).most_common(1)[0]
        others = [s for s, name in plain.items() if not _alike(name, usual)]
        if others:
            words = "; ".join(f"{source} says {names[source]!r}" for source in others)
            first = next(name for s, name in names.items() if plain[s] == usual)
            wrong.append(
                Measured(1.0, 0.0, geoid, "name", f"county {geoid}", f"{words}, others {first!r}")
            )
    return judged, wrong


def plain_name(name: str) -> str:
    """A county's name without its state, its kind, accents, spaces and signs."""
    own = re.split(r"[,;]", name.replace("(SYNTHETIC)", ""))[0].lower()
    bare = unicodedata.normalize("NFKD", own).encode("ascii", "ignore").decode()
    return _NOT_LETTERS.sub("", _KINDS.sub(" ", bare)).replace("saint", "st")


def _alike(one: str, other: str) -> bool:
    """The same, but for a letter that a carrier lost (Dona, Do?a), or an end that was cut."""
    if one == other or (min(len(one), len(other)) > 10 and one[:10] == other[:10]):
        return True
    short, long = sorted((one, other), key=len)
    return len(short) > 2 and (
        (len(long) - len(short) <= 1 and sum(1 for c in short if c in long) >= len(short) - 1)
        and (short[:2] == long[:2] and short[-2:] == long[-2:])
    )


def same_areas(tables: Tables, lists: Mapping[str, frozenset[str]], states: Sequence[str]) -> Found:
    """The tracts of each table in ``states`` against the list of their census year, and counties
    that a table lacks.

    ``lists``: tracts by key ``source vintage`` of the table they are meant for.
    """
    judged, wrong = 0, []
    for (source, vintage), frame in sorted(tables.items()):
        tracts = lists.get(f"{source} {vintage}", frozenset())
        wanted = {TRACT: tracts, COUNTY: {geoid[:5] for geoid in tracts}}
        for level, listed in wanted.items():
            have = set(frame.filter(pl.col("level") == level)["geoid"].unique())
            for fips in states:
                own = {geoid for geoid in have if geoid[:2] == fips and geoid[5:7] != WATER}
                expected = {geoid for geoid in listed if geoid[:2] == fips}
                if not own or not expected or (level == COUNTY and fips in RENUMBERED):
                    continue
                judged += len(expected)
                gone = expected - own - RECODED - KNOWN_GONE.get(source, frozenset())
                more = own - expected if level == TRACT else set()
                wrong += [
                    Measured(1.0, 0.0, geoid, "", f"{level} {geoid}", f"{source} {vintage} {words}")
                    for group, words in ((gone, "has it not"), (more, "has it, the list not"))
                    for geoid in sorted(group)
                ]
    return judged, wrong


# Counties of these states have other codes from vintage to vintage: Connecticut, Alaska.
RENUMBERED = ("09", "02")
# Renamed with a new code in 2015 (South Dakota, Alaska), joined to its county in 2013 (Bedford).
RECODED = frozenset({"46102", "46113", "02158", "02270", "51515"})
# Tracts of water, which some tables leave out.
WATER = "99"
# Kalawao (83 persons) is in Maui in IRS data, and has no SSI of its own that is published.
KNOWN_GONE = {"irs_county": frozenset({"15005"}), "ssa_ssi_counties": frozenset({"15005"})}
