"""What ``data_specs/checks.yaml`` says: named checks of files that have the right form.

Belongs here: the models of a check's rules, thresholds and evidence, and their loader. Does not
belong here: computing a check (``pipeline/checks``), known totals (``known_totals.py``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.specs.sql import SqlExpression
from pipeline.vocabulary import Level

FILE = "checks.yaml"
_RANGE = re.compile(r"(?P<head>.*?)(?P<first>\d+)(?P<tail>\D*)\.\.(?P<last>\d+)")


def spelt_out(columns: tuple[str, ...]) -> tuple[str, ...]:
    """``B01001_003..025`` as the columns between, both included; other names as they are."""
    found: list[str] = []
    for column in columns:
        match = _RANGE.fullmatch(column)
        if match is None:
            found.append(column)
            continue
        # 003..025 is padded, 0..100 is not.
        length = len(match["last"])
        width = length if len(match["first"]) >= length else 0
        first = int(match["first"][-length:])
        head = match["head"] + match["first"][:-length]
        found += [
            f"{head}{n:0{width}d}{match['tail']}" for n in range(first, int(match["last"]) + 1)
        ]
    return tuple(found)


class Columns(SpecModel):
    """A sum of columns of a source (of one ``stratum``), or its number of areas' figures."""

    source: str
    columns: tuple[str, ...] = Field(min_length=1)
    stratum: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        return spelt_out(self.columns)


class SumRule(SpecModel):
    """In every row ``whole`` is the sum of ``parts``; the gap may be ``slack`` and ``share`` of the
    whole. ``at_most``: parts may fall short of the whole.
    """

    sources: tuple[str, ...] = Field(min_length=1)
    whole: str
    parts: tuple[str, ...] = Field(min_length=1)
    slack: float = Field(default=0.5, ge=0)
    share: float = Field(default=0.0, ge=0)
    at_most: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return spelt_out(self.parts)


class StrataRule(SpecModel):
    """Of each column that ``columns`` matches, the classes ``parts`` add up to the class
    ``whole``; the gap may be ``slack`` for each class and ``share`` of the whole. ``each``: the
    rule holds with every one of these in place of {}.
    """

    sources: tuple[str, ...]
    whole: str
    parts: tuple[str, ...]
    each: tuple[str, ...] = ("",)
    columns: str
    slack: float = Field(ge=0)
    share: float = Field(default=0.0, ge=0)


class PercentRule(SpecModel):
    """The percentage published beside a count is that count over ``base``, within ``points`` and
    what ``rounding`` of the count makes of the base.

    Where the base is not published, the base that both imply is between ``low`` (of what is left
    ``without`` another column, such as group quarters) and ``high`` of ``base``, for counts of
    ``at_least``. ``percent``: the percentage's name, ``{}`` being the count's.
    """

    sources: tuple[str, ...]
    base: str
    columns: tuple[str, ...]
    percent: str = "{}P"
    points: float = Field(default=0.052, gt=0)
    rounding: float = 0.0
    without: str | None = None
    at_least: float = 0.0
    low: float | None = None
    high: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return spelt_out(self.columns)


class RatioRule(SpecModel):
    """At each of ``levels`` ``numerator`` over ``denominator`` is between ``low`` and ``high``,
    where the denominator is ``at_least`` so much. ``of_nation``: as a share of the nation's own."""

    sources: tuple[str, ...]
    numerator: tuple[str, ...]
    denominator: tuple[str, ...]
    low: float
    high: float
    levels: tuple[str, ...]
    at_least: float = 0.0
    of_nation: bool = False
    strata: tuple[str, ...] = ("", "0")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError("low must be below high")
        return self


class AreaRule(SpecModel):
    """Parts at ``levels`` add up to the row of each ``above``, of columns that ``columns`` matches
    and ``but`` does not; ``outlying`` areas (Puerto Rico) are parts or not.

    The gap may be ``slack`` times the root of the number of parts, and ``share`` of the whole. What
    is missing is excused by withheld parts: by so many returns each where ``withheld`` says so (of
    an amount, ten times the state's mean for each return), else wholly.
    """

    sources: tuple[str, ...]
    vintages: tuple[str, ...] = ()
    but_vintages: tuple[str, ...] = ()
    outlying: bool = True
    levels: tuple[str, ...]
    above: Literal["nation", "state"]
    columns: str = ".*"
    but: str = "-"
    slack: float = 0.5
    share: float = 0.0
    withheld: float | None = None


class MarginRule(SpecModel):
    """Of the areas with a margin at most ``share_above`` have one over ``times`` their estimate,
    among estimates of ``at_least``; a margin is no more than ``times_root`` roots of the estimate.
    """

    sources: tuple[str, ...]
    columns: str
    but: str = "-"
    at_least: float
    times: float
    share_above: float


class AgreeRule(SpecModel):
    """``left`` over ``right`` by area of ``level``, finer parts added up: between ``low`` and
    ``high``, where right is ``at_least`` so much.

    ``years_apart``: the rule is of vintages at most so far apart. ``spread``: and no more than so
    many times the median area's own ratio away. ``left_over``, ``right_over``: shares of these
    columns are compared. ``but_areas`` really are outside, and are not judged.
    """

    id: str
    left: Columns
    right: Columns
    level: Level
    low: float
    high: float
    years_apart: int = 0
    at_least: float = 0.0
    spread: float | None = None
    left_over: tuple[str, ...] = ()
    right_over: tuple[str, ...] = ()
    but_areas: tuple[str, ...] = ()


class VintageRule(SpecModel):
    """Ratios of two vintages by area of ``level``, over the median area's: at most ``times`` or one
    over it for each year between them, where the older figure is ``at_least`` so much."""

    sources: tuple[str, ...]
    columns: tuple[str, ...]
    level: Level
    stratum: str = ""
    at_least: float
    start: float = Field(gt=1)
    per_year: float = Field(ge=0)
    but_areas: tuple[str, ...] = ()


class SurveyRule(SpecModel):
    """The survey's weighted share of ``where`` among ``over`` (``persons``, ``households``) beside
    a published share of the same year; both shares differ by at most ``points``."""

    id: str
    over: Literal["persons", "households"]
    where: SqlExpression
    among: SqlExpression = "true"
    part: tuple[str, ...]
    whole: tuple[str, ...]
    source: str
    points: float
    years_apart: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        return spelt_out(self.part)


class AmountRule(SpecModel):
    """The survey's weighted sum of ``value`` over persons, over a published amount of the same
    year, is between ``low`` and ``high``."""

    id: str
    value: str
    source: str
    column: str
    low: float
    high: float


class MedianRule(SpecModel):
    """The printed median lies in the class that the percentages of ``classes`` put it in, within
    ``points``. ``bounds``: upper bounds of all classes but the last."""

    sources: tuple[str, ...]
    median: str
    classes: tuple[str, ...]
    bounds: tuple[float, ...]
    points: float

    @model_validator(mode="after")
    def _bounds_of_classes(self) -> Self:
        if len(spelt_out(self.classes)) != len(self.bounds) + 1:
            raise ValueError("every class but the last has an upper bound")
        return self


class ImpossibleRule(SpecModel):
    """No person has ``where``, with at most ``share`` of persons as exceptions."""

    id: str
    where: SqlExpression
    share: float = 0.0


class Check(SpecModel):
    """A named check. ``unit`` of its number; ``evidence``: what was measured on real files."""

    title: str = Field(min_length=10)
    unit: str
    threshold: float = 0.0
    blocking: bool = True
    evidence: str = Field(min_length=20)
    sums: tuple[SumRule, ...] = ()
    strata: tuple[StrataRule, ...] = ()
    percents: tuple[PercentRule, ...] = ()
    ratios: tuple[RatioRule, ...] = ()
    areas: tuple[AreaRule, ...] = ()
    margins: tuple[MarginRule, ...] = ()
    agreements: tuple[AgreeRule, ...] = ()
    vintages: tuple[VintageRule, ...] = ()
    survey: tuple[SurveyRule, ...] = ()
    amounts: tuple[AmountRule, ...] = ()
    medians: tuple[MedianRule, ...] = ()
    impossible: tuple[ImpossibleRule, ...] = ()


class Loosening(SpecModel):
    """How much wider thresholds are for made-up files: added to a sum's ``slack``, a percentage's
    ``points`` and ``rounding``, the ``share`` of areas and of ``classes``; bands ``times`` wider on
    both sides; the survey's points ``survey`` times, those of ``pumas`` so many times."""

    slack: float
    points: float
    rounding: float
    share: float
    classes: float
    times: float
    survey: float
    pumas: float


class CheckFile(SpecModel):
    """``checks`` by name, as wide as what was measured; ``headroom``: how many times as wide they
    are used; ``made_up``: what the SYNTHETIC sample is allowed beside.
    """

    checks: dict[str, Check]
    headroom: float = Field(ge=1)
    made_up: Loosening


@cache
def load_checks(root: Path = SPEC_ROOT, *, made_up: bool = False) -> dict[str, Check]:
    """All named checks, with the thresholds of the sample where files are made up. Raises SpecError
    for an invalid file.
    """
    found = load_yaml(root / FILE, CheckFile)
    checks = {name: _with_headroom(check, found.headroom) for name, check in found.checks.items()}
    if not made_up:
        return checks
    return {name: _loosened(check, found.made_up) for name, check in checks.items()}


def band(low: float, high: float, times: float) -> tuple[float, float]:
    """``low`` to ``high`` made ``times`` as wide about its middle: of the logarithms where both are
    above zero. A band of no width stays as it is.
    """
    if low > 0:
        reach = (high / low) ** ((times - 1) / 2)
        return low / reach, high * reach
    more = (times - 1) / 2 * (high - low)
    return low - more, high + more


def _with_headroom(check: Check, times: float) -> Check:
    """Bands and measured limits made wider; what a publisher prints twice keeps its rounding."""

    def wider(rule: RatioRule | AgreeRule | AmountRule | PercentRule) -> dict[str, float]:
        if rule.low is None or rule.high is None:
            return {}
        return dict(zip(("low", "high"), band(rule.low, rule.high, times), strict=True))

    def agree(rule: AgreeRule) -> dict[str, float | None]:
        return {**wider(rule), "spread": None if rule.spread is None else rule.spread**times}

    made = {
        "threshold": check.threshold * times,
        "percents": tuple(r.model_copy(update=wider(r)) for r in check.percents),
        "ratios": tuple(r.model_copy(update=wider(r)) for r in check.ratios),
        "agreements": tuple(r.model_copy(update=agree(r)) for r in check.agreements),
        "amounts": tuple(r.model_copy(update=wider(r)) for r in check.amounts),
        "areas": tuple(r.model_copy(update={"share": r.share * times}) for r in check.areas),
        "vintages": tuple(
            r.model_copy(update={"start": r.start**times, "per_year": r.per_year * times})
            for r in check.vintages
        ),
        "survey": tuple(r.model_copy(update={"points": r.points * times}) for r in check.survey),
    }
    return check.model_copy(update=made)


# Shares of the sample's records, of 120 in tests, are off by up to 12 points from their tables;
# codes exchanged move a share by 15 and more.
MOST_POINTS, SMALL_SAMPLE = 15.0, 13.0


def _loosened(check: Check, by: Loosening) -> Check:
    def wider(rule: RatioRule | AgreeRule | AmountRule, times: float) -> dict[str, float]:
        low = rule.low / times if rule.low > 0 else rule.low * times
        return {"low": low, "high": rule.high * times}

    def more(rules: tuple, **changes: Callable) -> tuple:
        return tuple(
            rule.model_copy(update={key: make(rule) for key, make in changes.items()})
            for rule in rules
        )

    return check.model_copy(
        update={
            "threshold": check.threshold * by.pumas,
            "sums": more(check.sums, slack=lambda r: r.slack + by.slack),
            "percents": more(
                check.percents,
                points=lambda r: r.points + by.points,
                rounding=lambda r: r.rounding + by.rounding,
            ),
            "strata": more(check.strata, share=lambda r: r.share + by.classes),
            "areas": more(
                check.areas,
                share=lambda r: r.share + by.share,
                slack=lambda r: r.slack + by.slack,
                withheld=lambda r: None,
            ),
            "ratios": tuple(r.model_copy(update=wider(r, by.times)) for r in check.ratios),
            "agreements": tuple(r.model_copy(update=wider(r, by.times)) for r in check.agreements),
            "amounts": tuple(r.model_copy(update=wider(r, by.survey)) for r in check.amounts),
            "medians": more(check.medians, points=lambda r: r.points + by.points),
            "survey": more(
                check.survey,
                points=lambda r: max(min(r.points * by.survey, MOST_POINTS), SMALL_SAMPLE),
            ),
        }
    )
