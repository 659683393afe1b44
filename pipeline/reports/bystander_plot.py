"""The chart of the bystander report: how far untold figures moved, in standard errors.

Belongs here: that chart. Does not belong here: the look of charts (``chart_style.py``), the figures
(``bystanders.py``).
"""

from __future__ import annotations

import polars as pl

from pipeline.reports.chart_style import (
    TWO_COLOURS,
    TWO_SETS,
    WIDTH,
    as_data,
    render,
    titled,
    unvalidated,
)
from pipeline.reports.show_bystanders import furthest

SHOWN = 40
_OFFICIAL = "official figure"
_LABEL = 60


@unvalidated
def move_dots(
    report: pl.DataFrame, title: str, limit: float, *, synthetic: bool, shown: int = SHOWN
) -> bytes:
    """A row per untold or observed figure, those furthest from what was asked first: the move of
    dense weights and of selected pairs, and where an official figure lies. The bytes of a picture.

    report : BYSTANDER_SCHEMA. limit : the band drawn about zero, in standard errors.
    """
    import altair as alt

    judged = furthest(report)
    rows = judged.head(shown).with_columns(
        name=pl.when(pl.col("label").str.len_chars() > _LABEL)
        .then(pl.col("label").str.head(_LABEL - 3) + "...")
        .otherwise("label"),
        official_moved=(pl.col("official") - pl.col("survey")) / pl.col("standard_error"),
    )
    # Labels need not be unique.
    rows = rows.with_columns(
        name=pl.when(pl.col("name").is_duplicated())
        .then(pl.col("name") + " (" + pl.col("variable") + " " + pl.col("domain") + ")")
        .otherwise("name")
    )
    columns = dict(
        zip(
            ("moved_dense", "moved_selected", "official_moved"), (*TWO_SETS, _OFFICIAL), strict=True
        )
    )
    points = (
        rows.select("name", *columns)
        .rename(columns)
        .unpivot(index="name", variable_name="weights", value_name="moved")
        .drop_nulls()
    )
    bent = judged.filter(pl.col("bent") != "").height
    subtitle = (
        f"{rows.height} of {judged.height} figures without a target; {bent} beyond {limit:g}"
        " standard errors that no official figure asks for"
    )
    order = rows["name"].to_list()
    ends = points["moved"].abs().max() if points.height else None
    end = 1.08 * max(2.0 * limit, float(ends or 0.0))  # type: ignore[arg-type]
    band = (
        alt.Chart(alt.Data(values=[{"low": -limit, "high": limit}]))
        .mark_rect(color="#eef3ee")
        .encode(x="low:Q", x2="high:Q")
    )
    # Linear within five times the limit, logarithmic beyond, so that a few far ones leave room.
    scale = alt.Scale(type="symlog", constant=5 * limit, domain=[-end, end], nice=False)
    marks = [m for m in (-100, -50, -20, -10, -5, -2, 0, 2, 5, 10, 20, 50, 100) if abs(m) <= end]
    dots = (
        alt.Chart(as_data(alt, points))
        .mark_point(size=46, filled=True, opacity=0.9)
        .encode(
            x=alt.X(
                "moved:Q",
                scale=scale,
                title="against the survey's estimate, in its standard errors",
                axis=alt.Axis(values=marks),
            ),
            y=alt.Y("name:N", sort=order, title=None, axis=alt.Axis(labelLimit=360)),
            color=alt.Color(
                "weights:N",
                title=None,
                scale=alt.Scale(domain=[*TWO_SETS, _OFFICIAL], range=[*TWO_COLOURS, "#3b6fb6"]),
            ),
            shape=alt.Shape(
                "weights:N",
                title=None,
                scale=alt.Scale(
                    domain=[*TWO_SETS, _OFFICIAL], range=["circle", "circle", "diamond"]
                ),
            ),
        )
    )
    return render(
        (band + dots).properties(
            width=WIDTH, height=max(60, 16 * rows.height), title=titled(title, subtitle, synthetic)
        )
    )
