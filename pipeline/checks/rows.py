"""Checks within a row: parts of a whole, a count beside its own percentage, ratios in a band,
classes of one area.

``table`` has a row per area and class and a column per published column (``results.wide``),
``frame`` a row per cell. Belongs here: those four. Does not belong here: areas against each other
(``areas.py``).
"""

from __future__ import annotations

import polars as pl

from pipeline.checks.results import AREA, MOST_SHOWN, Measured, judged_rows, named
from pipeline.specs.checks import MedianRule, PercentRule, RatioRule, StrataRule, SumRule, spelt_out
from pipeline.specs.states import OUTLYING_AREAS
from pipeline.vocabulary import NATION

OUTLYING = [area.fips for area in OUTLYING_AREAS]
Found = tuple[int, list[Measured]]
_NOTHING: Found = (0, [])
# A percentage is rounded to one decimal: below this share the base that it implies says nothing.
LEAST_PERCENT = 2.0


def _of(table: pl.DataFrame, *columns: str) -> pl.LazyFrame:
    """The areas and classes, with some of the published columns."""
    return table.lazy().select(*AREA, *dict.fromkeys(columns))


def sums(table: pl.DataFrame, rule: SumRule) -> Found:
    """``whole`` against the sum of its parts; where a part is withheld the rest may fall short."""
    if not {rule.whole, *rule.names} <= set(table.columns):
        return _NOTHING
    short = pl.any_horizontal(pl.col(rule.names).is_null()) | pl.lit(rule.at_most)
    gap = pl.col("parts") - pl.col(rule.whole)
    made = (
        _of(table, rule.whole, *rule.names)
        .filter(pl.col(rule.whole).is_not_null())
        .with_columns(parts=pl.sum_horizontal(rule.names))
        .with_columns(
            number=pl.when(short).then(gap.clip(0)).otherwise(gap.abs()),
            threshold=rule.slack + rule.share * pl.col(rule.whole).abs(),
        )
    )
    label = f"{rule.whole} of {', '.join(rule.parts[:4])}{' ...' if len(rule.parts) > 4 else ''}"
    judged, worst = judged_rows(made)
    return judged, [
        Measured.of(
            row,
            rule.whole,
            f"{named(row)}, {label}",
            f"parts add up to {row['parts']:,.0f}, the whole is {row[rule.whole]:,.0f}",
        )
        for row in worst
    ]


def percents(table: pl.DataFrame, rule: PercentRule) -> Found:
    """Counts beside their own percentages."""
    judged, found = 0, []
    names = {name: rule.percent.format(name) for name in rule.names}
    less = [name for name in (rule.without,) if name in table.columns]
    if rule.base not in table.columns:
        return _NOTHING
    for count, percent in names.items():
        if count not in table.columns or percent not in table.columns:
            continue
        stated = _of(table, rule.base, count, percent, *less).filter(
            pl.col(count).is_not_null() & pl.col(percent).is_not_null() & (pl.col(rule.base) > 0)
        )
        made = (
            _direct(stated, rule, count, percent)
            if rule.low is None
            else _implied(stated, rule, count, percent, *less)
        )
        more, worst = judged_rows(made)
        judged += more
        found += [
            Measured.of(
                row,
                count,
                f"{named(row)}, {count}",
                f"{row[count]:,.0f} of {row[rule.base]:,.0f} ({rule.base}) beside"
                f" {row[percent]:g} percent",
            )
            for row in worst
        ]
    return judged, found


def _direct(table: pl.LazyFrame, rule: PercentRule, count: str, percent: str) -> pl.LazyFrame:
    share = 100 * pl.col(count) / pl.col(rule.base)
    threshold = rule.points + 100 * rule.rounding / pl.col(rule.base)
    return table.with_columns(number=(share - pl.col(percent)).abs(), threshold=threshold)


def _implied(
    table: pl.LazyFrame, rule: PercentRule, count: str, percent: str, without: str | None = None
) -> pl.LazyFrame:
    """How far the implied base, over the published one, lies outside the band: 1 at its edge."""
    base = 100 * pl.col(count) / pl.col(percent)
    least = pl.col(rule.base)
    if without is not None:
        least = (least - pl.col(without).fill_null(0)).clip(0)
    usable = table.filter((pl.col(percent) >= LEAST_PERCENT) & (pl.col(count) >= rule.at_least))
    under = (rule.low or 0.0) * least / base.clip(1.0)
    over = base / pl.col(rule.base) / (rule.high or float("inf"))
    return usable.with_columns(number=pl.max_horizontal(over, under), threshold=pl.lit(1.0))


def ratios(table: pl.DataFrame, rule: RatioRule, vintage: str = "") -> Found:
    """A ratio of sums of columns in a band: 1 at its edge."""
    top = tuple(n.replace("{year}", vintage) for n in spelt_out(rule.numerator))
    below = tuple(n.replace("{year}", vintage) for n in spelt_out(rule.denominator))
    if not {*top, *below} <= set(table.columns):
        return _NOTHING
    # What is usual in the states is not so in the outlying areas.
    here = (
        pl.col("level").is_in([*rule.levels, *([NATION] if rule.of_nation else [])])
        & pl.col("stratum").is_in(rule.strata)
        & ~pl.col("geoid").str.slice(0, 2).is_in(OUTLYING)
    )
    made = (
        _of(table, *top, *below)
        .filter(here)
        .with_columns(top=_strict(top), below=_strict(below) if below else pl.lit(1.0))
        .filter(pl.col("top").is_not_null() & (pl.col("below") > max(0.0, rule.at_least)))
        .with_columns(ratio=pl.col("top") / pl.col("below"))
        .with_columns(ratio=pl.col("ratio") / _nations(rule))
        .filter(pl.col("ratio").is_not_null() & pl.col("level").is_in(rule.levels))
        .with_columns(number=_outside("ratio", rule.low, rule.high), threshold=pl.lit(1.0))
    )
    label = f"{'+'.join(rule.numerator)} / {'+'.join(rule.denominator)}"
    judged, worst = judged_rows(made)
    return judged, [
        Measured.of(
            row,
            rule.numerator[0],
            f"{named(row)}, {label}",
            f"{row['ratio']:,.4g}, expected {rule.low:g} to {rule.high:g}",
        )
        for row in worst
    ]


def _nations(rule: RatioRule) -> pl.Expr:
    """The nation's own ratio where the rule compares with it (null where it is not there)."""
    own = pl.col("ratio").filter(pl.col("level") == NATION)
    return own.first() if rule.of_nation else pl.lit(1.0)


def medians(table: pl.DataFrame, rule: MedianRule) -> Found:
    """How many points the middle household is outside the class of the printed median."""
    names = spelt_out(rule.classes)
    if not {rule.median, *names} <= set(table.columns):
        return _NOTHING
    known = _of(table, rule.median, *names).drop_nulls([rule.median, *names])
    below, within = pl.lit(0.0), pl.lit(0.0)
    for name, bound in zip(names, (*rule.bounds, float("inf")), strict=True):
        below = below + pl.when(pl.col(rule.median) > bound).then(pl.col(name)).otherwise(0.0)
    lows = (float("-inf"), *rule.bounds)
    for name, low, bound in zip(names, lows, (*rule.bounds, float("inf")), strict=True):
        inside = (pl.col(rule.median) > low) & (pl.col(rule.median) <= bound)
        within = within + pl.when(inside).then(pl.col(name)).otherwise(0.0)
    outside = pl.max_horizontal(pl.col("below") - 50, 50 - pl.col("below") - pl.col("within"), 0.0)
    made = known.with_columns(below=below, within=within).with_columns(
        number=outside, threshold=pl.lit(rule.points)
    )
    judged, worst = judged_rows(made)
    return judged, [
        Measured.of(
            row,
            rule.median,
            f"{named(row)}, {rule.median}",
            f"{row['below']:.1f} % are in classes below {row[rule.median]:,.0f}, and"
            f" {row['within']:.1f} % in its own",
        )
        for row in worst
    ]


def _strict(columns: tuple[str, ...]) -> pl.Expr:
    """The sum, null where a part is."""
    whole = pl.sum_horizontal(columns)
    return pl.when(pl.any_horizontal(pl.col(list(columns)).is_null())).then(None).otherwise(whole)


def _outside(column: str, low: float, high: float) -> pl.Expr:
    """1 at the edges of a band, more outside; below zero counts as far outside."""
    value = pl.col(column)
    over = value / high if high > 0 else pl.lit(0.0)
    under = (
        pl.when(value > 0).then(low / value.clip(1e-12)).otherwise(float("inf"))
        if low > 0
        else pl.when(value < low).then(float("inf")).otherwise(0.0)
    )
    return pl.max_horizontal(over, under)


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
    )
    judged, worst = judged_rows(made, MOST_SHOWN * len(rule.each))
    return judged, [
        Measured.of(
            row,
            row["column"],
            f"{named(row)}, {row['column']}",
            f"classes add up to {row['parts']:,.0f}, all classes are {row['whole']:,.0f}",
        )
        for row in worst
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
