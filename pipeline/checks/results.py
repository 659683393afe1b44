"""What a check says: a number, its threshold, and where the worst of it is.

Belongs here: the result of one check of one source, making it from measured rows, and tables with a
column per published column. Does not belong here: what is measured (the modules beside).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import polars as pl

AREA = ("level", "geoid", "stratum")
_TIES = (*AREA, "column", "each")
SHOWN = 5
# Failing rows of one rule that are kept.
MOST_SHOWN = 200


@dataclass(frozen=True)
class Measured:
    """One thing that was measured: in units of ``allowed`` times ``number`` / ``threshold``.

    ``where`` names the area and column, ``words`` what was found, ``geoid`` and ``column`` serve
    exceptions.
    """

    number: float
    threshold: float
    geoid: str
    column: str
    where: str
    words: str

    @classmethod
    def of(cls, row: Mapping[str, Any], column: str, where: str, words: str) -> Measured:
        """Of a row with ``number``, ``threshold`` and ``geoid``."""
        return cls(row["number"], row["threshold"], row["geoid"], column, where, words)

    @property
    def badness(self) -> float:
        """How many thresholds the number is; above 1 it fails."""
        if self.threshold > 0:
            return self.number / self.threshold
        return float("inf") if self.number > 0 else 0.0


@dataclass(frozen=True)
class CheckResult:
    """One named check of one source and vintage. ``judged``: how many figures were looked at;
    ``failing``: what is over its threshold, worst first; ``accepted``: those that the profile
    accepts, by reason.
    """

    name: str
    source: str
    vintage: str
    title: str
    unit: str
    blocking: bool
    judged: int
    worst: Measured | None
    failing: tuple[Measured, ...] = ()
    accepted: Mapping[str, int] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        return not self.failing

    @property
    def words(self) -> str:
        """One sentence for a person."""
        taken = "".join(f"; {n} accepted: {why}" for why, n in self.accepted.items())
        if self.worst is None:
            return f"{self.judged:,} compared{taken}"
        if self.passed:
            return f"{self.judged:,} compared, the furthest {self.worst.words}{taken}"
        shown = "; ".join(f"{m.where}: {m.words}" for m in self.failing[:SHOWN])
        more = len(self.failing) - SHOWN
        rest = f"; and {more:,} more" if more > 0 else ""
        return f"{len(self.failing):,} of {self.judged:,} fail: {shown}{rest}{taken}"


@dataclass
class Tally:
    """Measured things of one check of one source, gathered rule by rule. Only what fails, and the
    worst that passes, is kept."""

    judged: int = 0
    worst: Measured | None = None
    failing: list[Measured] = field(default_factory=list)

    def add(self, judged: int, found: Iterable[Measured]) -> None:
        self.judged += judged
        for each in found:
            if self.worst is None or each.badness > self.worst.badness:
                self.worst = each
            if each.badness > 1:
                self.failing.append(each)


@dataclass(frozen=True)
class SourceCells:
    """A source's table for the checks within a row, which share one pivot of it."""

    frame: pl.DataFrame

    @cached_property
    def wide(self) -> pl.DataFrame:
        """A row per area and class, and a column per published column."""
        return wide(self.frame)


def wide(frame: pl.DataFrame) -> pl.DataFrame:
    """A row per area and class, and a column per published column; sorted by area and class."""
    # Codes of a categorical are compared several times faster than names.
    some = frame.select(*AREA, pl.col("column").cast(pl.Categorical), "estimate")
    return some.pivot(
        on="column", index=list(AREA), values="estimate", aggregate_function="first"
    ).sort(AREA)


def named(row: Mapping[str, Any]) -> str:
    """An area and class in words."""
    stratum = f", class {row['stratum']}" if row["stratum"] else ""
    return f"{row['level']} {row['geoid'] or 'US'}{stratum}"


def worst_rows(frame: pl.DataFrame, keep: int = MOST_SHOWN) -> list[dict[str, Any]]:
    """Rows with ``number`` and ``threshold``, worst first: all that fail (up to ``keep``), or the
    worst that passes. Of those alike the first by area, column and class that is judged."""
    return judged_rows(frame.lazy(), keep)[1]


def judged_rows(made: pl.LazyFrame, keep: int = MOST_SHOWN) -> tuple[int, list[dict[str, Any]]]:
    """How many rows there are, and ``worst_rows`` of them."""
    columns = made.collect_schema().names()
    ties = [column for column in _TIES if column in columns]
    over = pl.when(pl.col("number") > 0).then(pl.lit(float("inf"))).otherwise(0.0)
    shares = pl.when(pl.col("threshold") > 0).then(pl.col("number") / pl.col("threshold"))
    bad = pl.col("_bad")
    ranked = (
        made.with_columns(_bad=shares.otherwise(over), _judged=pl.len())
        .filter((bad > 1) | (bad == bad.max()))
        .sort("_bad", *ties, descending=[True] + [False] * len(ties))
        .head(keep)
        .collect()
        .to_dicts()
    )
    failing = [row for row in ranked if row["_bad"] > 1]
    return (ranked[0]["_judged"] if ranked else 0), failing or ranked[:1]
