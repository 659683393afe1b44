"""The look that the figures of docs/methods share, and the invented population most of them are
drawn from.

Belongs here: colours, titles, lines, reference lines, rendering; the population. Does not belong
here: figures.
"""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl
import vl_convert

from benchmarks.small_png import small_png
from calibration_core import CalibrationProblem

WIDTH, HEIGHT = 520, 300
BLUE, ORANGE, GREEN, GREY, RED, VIOLET = (
    "#2f6db3",
    "#d0741c",
    "#2a8c6e",
    "#8a8a8a",
    "#b3262e",
    "#7a4fa3",
)
COLOURS = (BLUE, ORANGE, GREEN, VIOLET, RED, GREY)
INSIDE = alt.Legend(orient="top-right")
# Powers of ten as people write them: one where the exponent is none.
POWER = "datum.value == 1 ? '1' : format(datum.value, '.0e')"


def population(records: int = 600, pull: float = 1.0, seed: int = 7) -> CalibrationProblem:
    """An invented sample: sex, age and region margins and total income. ``pull`` is how far the
    targets lie from the sample.
    """
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=records)
    sex, region = rng.integers(0, 2, records), rng.integers(0, 3, records)
    age = np.digitize(0.6 * latent + rng.normal(size=records), [-0.8, 0.2, 1.0])
    income = np.round(np.exp(10 + 0.5 * latent + 0.6 * rng.normal(size=records)))
    matrix = np.stack(
        [
            *(sex == c for c in range(2)),
            *(age == c for c in range(4)),
            *(region == c for c in range(3)),
            income,
        ]
    ).astype(np.float64)
    names = [
        "sex: women",
        "sex: men",
        "age: 0-17",
        "age: 18-39",
        "age: 40-64",
        "age: 65+",
        "region: north",
        "region: middle",
        "region: south",
        "income",
    ]
    design = rng.gamma(4.0, 25.0, records)
    true = design * np.exp(pull * (0.8 * latent - 0.4 * sex + 0.3 * (region == 2)))
    true *= design.sum() / true.sum()
    return CalibrationProblem(matrix, matrix @ true, design, target_names=names)


def inflated() -> CalibrationProblem:
    """Margins only, the sex margin 5 % too high."""
    base = population(pull=0.5).take_targets(np.arange(9))
    goal = base.targets.copy()
    goal[[0, 1]] *= 1.05
    return base.change(targets=goal)


def render(chart: alt.TopLevelMixin) -> bytes:
    """The chart as PNG bytes."""
    styled = (
        chart.configure(background="white", padding=14, font="sans-serif")
        .configure_view(stroke=None)
        .configure_axis(
            gridColor="#ececec",
            domainColor="#888888",
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            titlePadding=8,
        )
        .configure_legend(
            labelFontSize=12,
            titleFontSize=12,
            titleFontWeight="normal",
            labelLimit=320,
            symbolStrokeWidth=3,
        )
        .configure_title(
            anchor="start", fontSize=15, subtitleFontSize=12, subtitleColor="#555555", offset=12
        )
        .configure_header(labelFontSize=12, titleFontSize=12, labelFontWeight="normal")
    )
    return small_png(vl_convert.vegalite_to_png(vl_spec=styled.to_json(), scale=1.6))


def heading(text: str, *below: str) -> alt.TitleParams:
    return alt.TitleParams(text, subtitle=list(below))


def colour(names: list[str], colours=COLOURS, legend: alt.Legend | None = None) -> alt.Color:
    """One colour a name, in the order given, in the legend too."""
    more = {} if legend is None else {"legend": legend}
    return alt.Color(
        "what:N",
        title=None,
        sort=names,
        **more,
        scale=alt.Scale(domain=names, range=list(colours[: len(names)])),
    )


def long(series: dict[str, tuple], x: str = "x", y: str = "y") -> pl.DataFrame:
    """Series of (x values, y values) as one table with columns what, x, y."""
    parts = [
        pl.DataFrame(
            {
                "what": [name] * len(a),
                x: np.asarray(a, dtype=np.float64),
                y: np.asarray(b, dtype=np.float64),
            }
        )
        for name, (a, b) in series.items()
    ]
    return pl.concat(parts)


def lines(
    series: dict[str, tuple],
    x: alt.X,
    y: alt.Y,
    title: alt.TitleParams,
    *,
    colours=COLOURS,
    point=False,
    legend=None,
) -> alt.Chart:
    """Lines of several series, one colour each."""
    mark = {"strokeWidth": 2.2, "point": {"size": 45} if point else False}
    return (
        alt.Chart(long(series), title=title, width=WIDTH, height=HEIGHT)
        .mark_line(**mark)
        .encode(x=x, y=y, color=colour(list(series), colours, legend))
    )


def rule(value: float, axis: str = "y", dash=(4, 4)) -> alt.Chart:
    """A dashed reference line."""
    return (
        alt.Chart(pl.DataFrame({"at": [value]}))
        .mark_rule(color="#555555", strokeDash=list(dash))
        .encode(**{axis: "at:Q"})
    )
