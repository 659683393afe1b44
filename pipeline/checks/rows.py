"""Checks within a row: parts of a whole, a count beside its own percentage, ratios in a band,
classes of one area.

A withheld figure is NaN in the arrays of ``SourceCells``. Belongs here: those four. Does not belong
here: areas against each other (``areas.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import reduce

import numpy as np
import polars as pl

from pipeline.checks.results import MOST_SHOWN, Measured, SourceCells, named, worst_rows
from pipeline.specs.checks import MedianRule, PercentRule, RatioRule, StrataRule, SumRule, spelt_out
from pipeline.specs.states import OUTLYING_AREAS
from pipeline.vocabulary import NATION

OUTLYING = [area.fips for area in OUTLYING_AREAS]
Found = tuple[int, list[Measured]]
_NOTHING: Found = (0, [])
# What has no base, or is withheld, gives no number, and is left out by name.
_unknown_is_nan = np.errstate(divide="ignore", invalid="ignore")
# A percentage is rounded to one decimal: below this share the base that it implies says nothing.
LEAST_PERCENT = 2.0


def sums(cells: SourceCells, rule: SumRule) -> Found:
    """``whole`` against the sum of its parts; where a part is withheld the rest may fall short."""
    if not {rule.whole, *rule.names} <= cells.columns:
        return _NOTHING
    whole, parts = cells.figures(rule.whole), [cells.figures(name) for name in rule.names]
    total = _total(np.nan_to_num(part) for part in parts)
    short = np.logical_or.reduce([np.isnan(part) for part in parts]) | rule.at_most
    gap = total - whole
    number = np.where(short, gap.clip(0), np.abs(gap))
    threshold = rule.slack + rule.share * np.abs(whole)
    judged, worst = cells.worst(~np.isnan(whole), number, threshold, whole=whole, parts=total)
    label = f"{rule.whole} of {', '.join(rule.parts[:4])}{' ...' if len(rule.parts) > 4 else ''}"
    return judged, [
        Measured.of(
            row,
            rule.whole,
            f"{named(row)}, {label}",
            f"parts add up to {row['parts']:,.0f}, the whole is {row['whole']:,.0f}",
        )
        for row in worst
    ]


def _total(parts: Iterable[np.ndarray]) -> np.ndarray:
    """The sum in the order given, so that it is the same to the last bit each time."""
    return reduce(np.add, parts)


@_unknown_is_nan
def percents(cells: SourceCells, rule: PercentRule) -> Found:
    """Counts beside their own percentages."""
    judged, found = 0, []
    if rule.base not in cells.columns:
        return _NOTHING
    base = cells.figures(rule.base)
    for name in rule.names:
        beside = rule.percent.format(name)
        if not {name, beside} <= cells.columns:
            continue
        count, percent = cells.figures(name), cells.figures(beside)
        stated = ~np.isnan(count) & ~np.isnan(percent) & (base > 0)
        threshold: np.ndarray | float = 1.0
        if rule.low is None:
            number = np.abs(100 * count / base - percent)
            threshold = rule.points + 100 * rule.rounding / base
        else:
            stated &= (percent >= LEAST_PERCENT) & (count >= rule.at_least)
            number = _implied(cells, rule, base, 100 * count / percent)
        shown = {"count": count, "percent": percent, "base": base}
        more, worst = cells.worst(stated, number, threshold, **shown)
        judged += more
        found += [
            Measured.of(
                row,
                name,
                f"{named(row)}, {name}",
                f"{row['count']:,.0f} of {row['base']:,.0f} ({rule.base}) beside"
                f" {row['percent']:g} percent",
            )
            for row in worst
        ]
    return judged, found


def _implied(
    cells: SourceCells, rule: PercentRule, base: np.ndarray, implied: np.ndarray
) -> np.ndarray:
    """How far the implied base, over the published one, lies outside the band: 1 at its edge."""
    least = base
    if rule.without in cells.columns:
        least = (base - np.nan_to_num(cells.figures(rule.without))).clip(0)
    under = (rule.low or 0.0) * least / implied.clip(1.0)
    return np.maximum(implied / base / (rule.high or math.inf), under)


@_unknown_is_nan
def ratios(cells: SourceCells, rule: RatioRule, vintage: str = "") -> Found:
    """A ratio of sums of columns in a band: 1 at its edge."""
    top = tuple(n.replace("{year}", vintage) for n in spelt_out(rule.numerator))
    below = tuple(n.replace("{year}", vintage) for n in spelt_out(rule.denominator))
    if not {*top, *below} <= cells.columns:
        return _NOTHING
    above = _total(map(cells.figures, top))
    under = _total(map(cells.figures, below)) if below else np.ones_like(above)
    # What is usual in the states is not so in the outlying areas.
    usual = cells.where("stratum", rule.strata) & ~cells.where("state", OUTLYING)
    usual &= ~np.isnan(above) & (under > max(0.0, rule.at_least))
    ratio = above / under
    if rule.of_nation:
        nation = ratio[usual & cells.where("level", [NATION])]
        ratio = ratio / (nation[0] if nation.size else math.nan)
    here = usual & cells.where("level", rule.levels) & ~np.isnan(ratio)
    outside = _outside(ratio, rule.low, rule.high)
    judged, worst = cells.worst(here, outside, 1.0, ratio=ratio)
    label = f"{'+'.join(rule.numerator)} / {'+'.join(rule.denominator)}"
    return judged, [
        Measured.of(
            row,
            rule.numerator[0],
            f"{named(row)}, {label}",
            f"{row['ratio']:,.4g}, expected {rule.low:g} to {rule.high:g}",
        )
        for row in worst
    ]


def _outside(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """1 at the edges of a band, more outside; below zero counts as far outside."""
    over = value / high if high > 0 else np.zeros_like(value)
    if low > 0:
        return np.maximum(over, np.where(value > 0, low / value.clip(1e-12), math.inf))
    return np.maximum(over, np.where(value < low, math.inf, 0.0))


def medians(cells: SourceCells, rule: MedianRule) -> Found:
    """How many points the middle household is outside the class of the printed median."""
    names = spelt_out(rule.classes)
    if not {rule.median, *names} <= cells.columns:
        return _NOTHING
    median, shares = cells.figures(rule.median), [cells.figures(name) for name in names]
    uppers, lowers = (*rule.bounds, math.inf), (-math.inf, *rule.bounds)
    below, within = np.zeros_like(median), np.zeros_like(median)
    for share, low, upper in zip(shares, lowers, uppers, strict=True):
        below += np.where(median > upper, share, 0.0)
        within += np.where((median > low) & (median <= upper), share, 0.0)
    known = ~np.isnan(_total([median, *shares]))
    outside = np.maximum(below - 50, 50 - below - within).clip(0)
    shown = {"median": median, "below": below, "within": within}
    judged, worst = cells.worst(known, outside, rule.points, **shown)
    return judged, [
        Measured.of(
            row,
            rule.median,
            f"{named(row)}, {rule.median}",
            f"{row['below']:.1f} % are in classes below {row['median']:,.0f}, and"
            f" {row['within']:.1f} % in its own",
        )
        for row in worst
    ]


def strata(frame: pl.DataFrame, rule: StrataRule) -> Found:
    """Classes of each column against its total class."""
    made = (
        frame.lazy()
        .filter(pl.col("column").str.contains(f"^(?:{rule.columns})$"))
        .join(_classes(rule).lazy(), on="stratum", maintain_order="left")
        .group_by("each", "level", "geoid", "column")
        .agg(
            whole=pl.col("estimate").filter("own").first(),
            parts=pl.col("estimate").filter(~pl.col("own")).sum(),
            short=pl.col("estimate").filter(~pl.col("own")).is_null().any(),
            classes=(~pl.col("own")).sum(),
            size=pl.col("estimate").filter(~pl.col("own")).abs().sum(),
        )
        .filter(pl.col("whole").is_not_null() & (pl.col("classes") > 1))
        .with_columns(gap=pl.col("parts") - pl.col("whole"), stratum=pl.lit(""))
        .with_columns(
            number=pl.when(~pl.col("short"))
            .then(pl.col("gap").abs())
            .when(pl.col("size") == pl.col("parts"))
            .then(pl.col("gap").clip(0))
            .otherwise(0.0),
            threshold=rule.slack * pl.col("classes") + rule.share * pl.col("whole").abs(),
        )
        .collect()
    )
    return made.height, [
        Measured.of(
            row,
            row["column"],
            f"{named(row)}, {row['column']}",
            f"classes add up to {row['parts']:,.0f}, all classes are {row['whole']:,.0f}",
        )
        for row in worst_rows(made, MOST_SHOWN * len(rule.each))
    ]


def _classes(rule: StrataRule) -> pl.DataFrame:
    """``stratum`` of each class, ``each`` place in the rule that it serves, and whether it is the
    total class (``own``)."""
    rows = []
    for place, each in enumerate(rule.each):
        whole = rule.whole.replace("{}", each)
        parts = spelt_out(tuple(part.replace("{}", each) for part in rule.parts))
        rows += [(place, name, name == whole) for name in dict.fromkeys((whole, *parts))]
    schema = {"each": pl.UInt32, "stratum": pl.String, "own": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row")
