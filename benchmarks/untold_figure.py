"""The picture of ``untold_columns.py``: errors at columns that weights were not told, against pairs
per tract.

Belongs here: that chart. Does not belong here: figures it draws, the look (``figure_style.py``).
"""

from __future__ import annotations

import altair as alt
import numpy as np

from benchmarks.figure_style import BLUE, GREEN, GREY, heading, lines, render, rule
from benchmarks.untold_measures import Column


def frontier_of_untold(columns: list[Column], rows: dict[str, list[float]]) -> bytes:
    """PNG bytes: the mean column, persons and households apart, each error over the PUMA's share's.

    rows : errors by column, of "PUMA", "dense" and each number of pairs per tract.
    """
    share, budgets = np.array(rows["PUMA"]), [int(name) for name in rows if name.isdigit()]
    groups = {
        "columns of persons": [i for i, c in enumerate(columns) if _persons(c)],
        "columns of households": [i for i, c in enumerate(columns) if _homes(c)],
    }
    series, dense = {}, {}
    for name, own in groups.items():
        if own:
            mean = {row: _mean(np.array(e)[own] / share[own]) for row, e in rows.items()}
            series[name] = (budgets, [mean[str(k)] for k in budgets])
            dense[f"{name}, dense"] = (budgets, [mean["dense"]] * len(budgets))
    everything = {**series, **dense}
    colours = (BLUE, GREEN)[: len(series)] * 2
    title = heading(
        "Columns that weights were not told",
        "root mean square error over tracts, the PUMA's share = 1, geometric mean of columns",
    )
    x = alt.X(
        "x:Q", title="pairs per tract", scale=alt.Scale(type="log"), axis=alt.Axis(values=budgets)
    )
    chart = lines(
        everything,
        x,
        alt.Y("y:Q", title="error over that of the PUMA's share"),
        title,
        colours=(*colours, GREY),
        point=True,
    )
    return render(alt.layer(chart, rule(1.0)))


def _mean(ratios: np.ndarray) -> float:
    return float(np.exp(np.log(np.maximum(ratios, 1e-12)).mean()))


def _homes(column: Column) -> bool:
    return not column.is_income and float(column.whole.max()) == 1.0


def _persons(column: Column) -> bool:
    return not column.is_income and not _homes(column)
