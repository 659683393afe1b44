"""What a check says: a number, its threshold, and where the worst of it is.

Belongs here: the result of one check of one source, making it from measured rows, and tables with a
column per published column. Does not belong here: what is measured (the modules beside).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
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
    """A source's table (``frame``, a row per cell), and for checks within a row its figures as
    arrays: an entry per area and class, NaN where no figure is. A rule looks at a few hundred
    figures, and there are many rules: a query for each would cost more than its arithmetic.
    """

    frame: pl.DataFrame

    @cached_property
    def wide(self) -> pl.DataFrame:
        """A row per area and class, sorted by them, and a column per published column."""
        # Codes of a categorical are compared several times faster than names.
        some = self.frame.select(*AREA, pl.col("column").cast(pl.Categorical), "estimate")
        return some.pivot(
            on="column", index=list(AREA), values="estimate", aggregate_function="first"
        ).sort(AREA)

    @cached_property
    def columns(self) -> frozenset[str]:
        """Published columns that some area has."""
        return frozenset(self._places)

    def figures(self, column: str) -> np.ndarray:
        """One published column, float64 by area and class."""
        return self._figures[:, self._places[column]]

    @cached_property
    def _places(self) -> dict[str, int]:
        """Which column of ``_figures`` is which published column."""
        return {name: place for place, name in enumerate(self.wide.columns[len(AREA) :])}

    @cached_property
    def _figures(self) -> np.ndarray:
        figures = self.wide.select(pl.col(list(self._places)).cast(pl.Float64))
        return figures.to_numpy(order="fortran")

    def where(self, key: str, values: Iterable[str]) -> np.ndarray:
        """Which areas and classes have one of ``values`` of ``key`` (of ``AREA``, or ``state``)."""
        found = [self._held[key][value] for value in values if value in self._held[key]]
        return np.logical_or.reduce(found) if found else np.zeros(self.wide.height, dtype=bool)

    @cached_property
    def _held(self) -> dict[str, dict[str, np.ndarray]]:
        """By level, class and code of the state, and by value of it, where it stands."""
        keys = {
            "level": self.wide["level"],
            "stratum": self.wide["stratum"],
            "state": self.wide["geoid"].str.slice(0, 2),
        }
        return {
            key: {value: (held == value).to_numpy() for value in held.unique()}
            for key, held in keys.items()
        }

    @cached_property
    def _areas(self) -> list[tuple[str, ...]]:
        return self.wide.select(AREA).rows()

    def worst(
        self,
        judged: np.ndarray,
        number: np.ndarray,
        threshold: np.ndarray | float,
        **shown: np.ndarray,
    ) -> tuple[int, list[dict[str, Any]]]:
        """How many are ``judged`` (a mask), and as ``worst_rows`` the worst of them, with their
        area, class and what else is ``shown``."""
        at = np.flatnonzero(judged)
        if not at.size:
            return 0, []
        number, limit = number[at], np.broadcast_to(threshold, judged.shape)[at]
        over = np.where(number > 0, math.inf, 0.0)
        bad = np.divide(number, limit, out=over, where=limit > 0)
        failing = np.flatnonzero(bad > 1)
        # Areas and classes are sorted: of those alike the first comes first.
        kept = failing[np.argsort(-bad[failing], kind="stable")][:MOST_SHOWN]
        kept = kept if kept.size else np.array([np.argmax(bad)])
        columns = {"number": number, "threshold": limit}
        columns |= {name: values[at] for name, values in shown.items()}
        return at.size, [
            dict(zip(AREA, self._areas[at[one]], strict=True))
            | {name: values[one].item() for name, values in columns.items()}
            for one in kept
        ]


def named(row: Mapping[str, Any]) -> str:
    """An area and class in words."""
    stratum = f", class {row['stratum']}" if row["stratum"] else ""
    return f"{row['level']} {row['geoid'] or 'US'}{stratum}"


def worst_rows(frame: pl.DataFrame, keep: int = MOST_SHOWN) -> list[dict[str, Any]]:
    """Rows with ``number`` and ``threshold``, worst first: all that fail (up to ``keep``), or the
    worst that passes. Of those alike the first by area, column and class that is judged."""
    ties = [column for column in _TIES if column in frame.columns]
    over = pl.when(pl.col("number") > 0).then(pl.lit(float("inf"))).otherwise(0.0)
    shares = pl.when(pl.col("threshold") > 0).then(pl.col("number") / pl.col("threshold"))
    bad = pl.col("_bad")
    ranked = (
        frame.with_columns(_bad=shares.otherwise(over))
        .filter((bad > 1) | (bad == bad.max()))
        .sort("_bad", *ties, descending=[True] + [False] * len(ties))
    )
    rows = ranked.head(keep).to_dicts()
    return [row for row in rows if row["_bad"] > 1] or rows[:1]
