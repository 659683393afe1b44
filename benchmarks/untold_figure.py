"""The picture of ``untold_columns.py``: errors at columns that weights were not told, against pairs
per tract.

Belongs here: that chart. Does not belong here: figures it draws, the look (``figure_style.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import polars as pl

from benchmarks.figure_style import COLOURS, heading, lines, render, rule
from benchmarks.untold_measures import Column

Errors = Mapping[str, Sequence[float]]
"""By column, of "PUMA", "dense" and each number of pairs per tract."""


def frontier_of_untold(columns: Sequence[Column], runs: Mapping[str, Errors]) -> bytes:
    """PNG bytes: a line for each of ``runs``, by name, and a dashed one for its dense weights: the
    geometric mean over columns without income of errors over those of the PUMA's share. Each of
    ``runs`` has errors of one number of pairs at least.
    """
    own = [i for i, column in enumerate(columns) if not column.is_income]
    selected: dict[str, tuple] = {}
    dense: list[alt.Chart] = []
    ticks: set[int] = set()
    for (name, rows), colour in zip(runs.items(), COLOURS, strict=False):
        share = np.array(rows["PUMA"])[own]
        mean = {
            key: float(np.exp(np.log(np.maximum(np.array(e)[own] / share, 1e-12)).mean()))
            for key, e in rows.items()
        }
        budgets = sorted(int(key) for key in rows if key.isdigit())
        ticks |= set(budgets)
        selected[name] = (budgets, [mean[str(k)] for k in budgets])
        at = pl.DataFrame({"at": [mean["dense"]]})
        dense.append(alt.Chart(at).mark_rule(color=colour, strokeDash=[2, 3]).encode(y="at:Q"))
    title = heading(
        f"{len(own)} tract columns that are no targets",
        "root mean square error over tracts, geometric mean of columns;",
        "dashes: all pairs, in the colour of their line; the PUMA's share, 1",
    )
    axis, ends = alt.Axis(values=sorted(ticks)), [min(ticks), max(ticks)]
    scale = alt.Scale(type="log", domain=ends, nice=False, padding=12)
    x = alt.X("x:Q", title="pairs per tract", scale=scale, axis=axis)
    y = alt.Y("y:Q", title="error over that of the PUMA's share", scale=alt.Scale(zero=True))
    chart = lines(selected, x, y, title, colours=COLOURS, point=True)
    return render(alt.layer(chart, *dense, rule(1.0)))
