"""How wrong a figure is that was carried to another year: measured by table and lag.

    python -m benchmarks.carry_errors --data DIR

``DIR`` is the folder of official files. Each line carries the figures of one year by one rule and
compares them with the figures published for the later year: by state or county, in the whole
country. ``own`` is the error of the carried figure, ``share`` that of the area's share of its state
(what is left where the state's figure of the later year is known). Errors are relative, and one
standard error: the 68th percentile of their sizes, less the median sampling error of the two
figures in quadrature. ``mean`` is the error common to all areas. The numbers stand, with this
command, beside ``carry.relative_error`` and ``share_error`` in ``data_specs/targets``.

Belongs here: the comparison and its table. Does not belong here: the rules
(``pipeline/targets/carry.py``), or vintages that no profile reads but this page
(``benchmarks/carry_tables.py``).
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks import carry_tables
from benchmarks.carry_tables import SE, VALUE, FigureTable

SIGMA = 0.6827
"""Share of a normal distribution within one standard deviation."""
MOST_AREAS = 50.0
"""Areas with fewer units than this say nothing about a relative error."""


@dataclass(frozen=True)
class CarryError:
    """One measurement: ``lag`` in years, errors relative."""

    table: str
    item: str
    level: str
    rule: str
    lag: float
    areas: int
    mean: float
    own: float
    share: float


def spread(deviation: np.ndarray, sampling: np.ndarray) -> float:
    """One standard error of relative deviations, sampling error taken out.

    ``deviation``, ``sampling`` : (areas,) float64, relative; the second the standard error of the
    first. sqrt(max(0, q68(|deviation|)^2 - median(sampling)^2)); NaN where there is no area.
    """
    if not deviation.size:
        return float("nan")
    whole = float(np.quantile(np.abs(deviation), SIGMA)) ** 2
    return float(np.sqrt(max(0.0, whole - float(np.median(sampling)) ** 2)))


def compare(
    name: str,
    item: str,
    level: str,
    rule: str,
    lag: float,
    carried: FigureTable,
    later: FigureTable,
) -> CarryError:
    """Carried figures against those published later, over the areas that both have."""
    both = carried.join(later, on="geoid", suffix="_later").drop_nulls()
    both = both.filter((pl.col(VALUE) > MOST_AREAS) & (pl.col(f"{VALUE}_later") > MOST_AREAS))
    state = pl.col("geoid").str.slice(0, 5 if level == "tract" else 2)
    ratio = pl.col(f"{VALUE}_later").sum().over(state) / pl.col(VALUE).sum().over(state)
    sampling = (
        (pl.col(SE) / pl.col(VALUE)) ** 2 + (pl.col(f"{SE}_later") / pl.col(f"{VALUE}_later")) ** 2
    ).sqrt()
    rows = both.select(
        own=pl.col(VALUE) / pl.col(f"{VALUE}_later") - 1.0,
        share=pl.col(VALUE) * ratio / pl.col(f"{VALUE}_later") - 1.0,
        sampling=sampling,
    )
    own, share, noise = (rows[n].to_numpy() for n in ("own", "share", "sampling"))
    total = float(both[VALUE].to_numpy().sum() / both[f"{VALUE}_later"].to_numpy().sum()) - 1.0
    within = float("nan") if level == "state" else spread(share, noise)
    return CarryError(name, item, level, rule, lag, rows.height, total, spread(own, noise), within)


def measured(data: Path) -> Iterator[CarryError]:
    """Every measurement that the files under ``data`` allow; a table that is not there is left
    out by its maker.
    """
    for series in carry_tables.all_series(data):
        yield from _of_series(series)


def _of_series(series: carry_tables.Series) -> Iterable[CarryError]:
    years = sorted(series.figures)
    for position, first in enumerate(years):
        for last in years[position + 1 :]:
            if not series.wanted(first, last):
                continue
            for item in series.items(first, last):
                carried = series.carried(item, first, last)
                if carried is None:
                    continue
                later = series.figures[last][item]
                yield compare(
                    series.table, item, series.level, series.rule, last - first, carried, later
                )


def table(rows: Iterable[CarryError]) -> str:
    """The measurements as text, one line each."""
    head = (
        f"{'table':24} {'item':24} {'level':7} {'rule':26} {'lag':>4} {'areas':>6} {'mean':>8}"
        f" {'own':>7} {'share':>7}"
    )
    lines = [head]
    for r in rows:
        share = "" if np.isnan(r.share) else f"{r.share:7.1%}"
        lines.append(
            f"{r.table:24} {r.item:24} {r.level:7} {r.rule:26} {r.lag:4.0f} {r.areas:6,}"
            f" {r.mean:+8.1%} {r.own:7.1%} {share:>7}"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of official files")
    print(table(measured(parser.parse_args().data)))


if __name__ == "__main__":
    main()
