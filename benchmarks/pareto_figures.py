"""Plots of ``benchmarks.pareto`` against records kept on a log scale: loss, largest error, and the
share of records that is effective.

Belongs here: those plots. Does not belong here: their numbers (``pareto.py``), the look they share
(``figure_style.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import polars as pl

from benchmarks.figure_style import COLOURS, colour, render

_STYLE = {
    "cross_category, IPF (paper)": ("#d0741c", "circle"),
    "cross_category, raking": ("#e2ab3a", "square"),
    "hybrid": ("#2f6db3", "diamond"),
    "hard_concrete": ("#b3262e", "triangle-up"),
    "hard_concrete, refit": ("#e08a93", "triangle-down"),
    "reweighted_l1, refit": ("#7a4fa3", "cross"),
    "random, refit": ("#8a8a8a", "triangle-right"),
}
# Below this a loss is rounding: such points are spread over a band, one height a method, so that
# none hides another.
EXACT = 1e-18
_BAND = 0.75


def figures(rows: Sequence[dict]) -> dict[str, bytes]:
    """{file name: PNG}: loss and effective share on all scenarios of the paper's population; loss,
    error and share on each other problem.
    """
    names = list(dict.fromkeys(row["problem"] for row in rows))
    paper = [name for name in names if name.startswith("paper: ")]
    out = {}
    if paper:
        said = _seeds(rows, paper)
        out["pareto_paper.png"] = _grid(
            [_loss(rows, name, name.removeprefix("paper: ")) for name in paper],
            "Loss against records kept, the paper's population",
            f"Shown: {said}. In the grey band the loss is rounding; methods there are set apart"
            " only to be seen.",
        )
        out["pareto_paper_ess.png"] = _grid(
            [_share(rows, name, name.removeprefix("paper: ")) for name in paper],
            "Effective share of the records kept, the paper's population",
            f"Kish's effective sample size over records kept; {said}.",
        )
    for name in names:
        if name not in paper:
            slug = "sample" if name.startswith("SYNTHETIC") else name.replace(" ", "_")
            panels = [
                _loss(rows, name, "loss"),
                _error(rows, name, "largest relative error"),
                _share(rows, name, "effective share"),
            ]
            chart = alt.hconcat(*panels, spacing=30)
            out[f"pareto_{slug}.png"] = render(
                chart.properties(
                    title=alt.TitleParams(
                        f"{name}: against records kept", subtitle=f"Shown: {_seeds(rows, [name])}"
                    )
                )
            )
    return out


def _seeds(rows: Sequence[dict], problems: list[str]) -> str:
    seeds = max(row["seeds"] for row in rows if row["problem"] in problems)
    return "one seed" if seeds == 1 else f"medians of {seeds} seeds"


def _grid(panels: list[alt.LayerChart], title: str, subtitle: str) -> bytes:
    lines = [alt.hconcat(*panels[i : i + 2], spacing=30) for i in range(0, len(panels), 2)]
    return render(
        alt.vconcat(*lines, spacing=18).properties(title=alt.TitleParams(title, subtitle=subtitle))
    )


def _frame(rows: Sequence[dict], problem: str, value) -> tuple[pl.DataFrame, list[str]]:
    of = [row for row in rows if row["problem"] == problem]
    labels = [label for label in _STYLE if any(row["method"] == label for row in of)]
    kept = [row["kept"][len(row["kept"]) // 2] for row in of]
    return (
        pl.DataFrame(
            {
                "what": [row["method"] for row in of],
                "kept": kept,
                "y": [float(value(row)) for row in of],
            }
        ),
        labels,
    )


def _loss(rows: Sequence[dict], problem: str, title: str) -> alt.LayerChart:
    frame, labels = _frame(rows, problem, lambda row: row["loss"])
    if float(frame["y"].min()) > EXACT:
        return _log(frame, labels, title, "sum of squared relative errors")
    height = {label: EXACT * 10.0 ** (-_BAND * (i + 1)) for i, label in enumerate(labels)}
    frame = frame.with_columns(
        pl.when(pl.col("y") > EXACT)
        .then(pl.col("y"))
        .otherwise(pl.col("what").replace_strict(height, return_dtype=pl.Float64))
        .alias("y")
    )
    low = EXACT * 10.0 ** (-_BAND * (len(labels) + 1))
    band = (
        alt.Chart(pl.DataFrame({"low": [low], "high": [EXACT]}))
        .mark_rect(color="#f0f0f0")
        .encode(y=alt.Y("low:Q"), y2="high:Q")
    )
    ticks = [1.0, 1e-3, 1e-6, 1e-9, 1e-12, 1e-15, 1e-18]
    top = max(10.0, float(frame["y"].max()) * 8)
    y = alt.Y(
        "y:Q",
        title="sum of squared relative errors",
        scale=alt.Scale(type="log", domain=[low, top], nice=False),
        axis=_powers(ticks),
    )
    return alt.layer(band, *_marks(frame, labels, title, y))


def _error(rows: Sequence[dict], problem: str, title: str) -> alt.LayerChart:
    frame, labels = _frame(rows, problem, lambda row: max(row["worst_error"], 1e-12))
    return _log(frame, labels, title, "largest relative error")


def _log(frame: pl.DataFrame, labels: list[str], title: str, words: str) -> alt.LayerChart:
    low, high = float(frame["y"].min()) / 2, float(frame["y"].max()) * 2
    y = alt.Y(
        "y:Q",
        title=words,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(tickCount=5, format="~g"),
    )
    return alt.layer(*_marks(frame, labels, title, y))


def _share(rows: Sequence[dict], problem: str, title: str) -> alt.LayerChart:
    frame, labels = _frame(rows, problem, lambda row: row["effective_sample_size"] / row["asked"])
    y = alt.Y(
        "y:Q",
        title="effective share",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format=".0%", tickCount=5),
    )
    return alt.layer(*_marks(frame, labels, title, y))


def _powers(values: list[float]) -> alt.Axis:
    return alt.Axis(values=values, labelExpr="datum.value == 1 ? '1' : format(datum.value, '.0e')")


def _marks(frame: pl.DataFrame, labels: list[str], title: str, y: alt.Y) -> list[alt.Chart]:
    records = sorted(set(frame["kept"].to_list()))
    x = alt.X(
        "kept:Q",
        title="records kept",
        scale=alt.Scale(type="log", nice=False, padding=14),
        axis=alt.Axis(values=records, format=","),
    )
    palette = [_STYLE.get(label, (COLOURS[-1], "circle"))[0] for label in labels]
    shape = alt.Shape(
        "what:N",
        sort=labels,
        scale=alt.Scale(domain=labels, range=[_STYLE[label][1] for label in labels]),
        title=None,
    )
    base = alt.Chart(frame, title=title, width=300, height=240).encode(
        x=x, y=y, color=colour(labels, palette)
    )
    return [
        base.mark_line(strokeWidth=1.8, opacity=0.85),
        base.mark_point(filled=True, size=60, opacity=1).encode(shape=shape),
    ]
