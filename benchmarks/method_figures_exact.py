"""Figures of docs/methods that show the exact methods: distances, bounds, margins, trimming.

Belongs here: one function per figure. Does not belong here: conflicts, results and the command
(``method_figures.py``), sparse and gradient methods (``method_figures_sparse.py``), the look
(``figure_style.py``), text.
"""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from benchmarks.figure_style import (
    BLUE,
    COLOURS,
    GREEN,
    GREY,
    HEIGHT,
    ORANGE,
    POWER,
    RED,
    WIDTH,
    colour,
    heading,
    lines,
    population,
    rule,
)
from calibration_core import CalibrationProblem, calibrate
from calibration_core.common.distances import BoundedRaking, Linear, Logit, Raking, TruncatedLinear

BOUNDS = (0.5, 2.5)


def ratios(method: str, pull: float = 1.0, bounds: tuple | None = None, **settings) -> np.ndarray:
    """Sorted w/d of one method on the invented sample."""
    return np.sort(
        calibrate(population(pull=pull).change(ratio_bounds=bounds), method, **settings).ratios
    )


def by_rank(
    series: dict[str, np.ndarray],
    title: alt.TitleParams,
    *,
    log=False,
    domain=None,
    colours=COLOURS,
) -> alt.Chart:
    """Sorted ratios against the share of records."""
    pairs = {
        name: (100 * (np.arange(values.size) + 0.5) / values.size, values)
        for name, values in series.items()
    }
    scale = alt.Scale(
        type="log" if log else "linear", nice=False, **({"domain": domain} if domain else {})
    )
    return lines(
        pairs,
        alt.X("x:Q", title="records, sorted by ratio (%)", scale=alt.Scale(domain=[0, 100])),
        alt.Y("y:Q", title="ratio w/d", scale=scale),
        title,
        colours=colours,
    )


def distances() -> alt.LayerChart:
    low, high = BOUNDS
    u = np.linspace(-2.2, 2.2, 221)
    curves = {
        "linear": Linear(),
        "truncated_linear": TruncatedLinear(low, high),
        "raking, ipf, entropy": Raking(),
        "raking_bounded": BoundedRaking(low, high),
        "logit": Logit(low, high),
    }
    series = {name: (u, np.minimum(curve.ratio(u), 5.0)) for name, curve in curves.items()}
    series["raking, ipf, entropy"] = (u[u < np.log(4.2)], np.exp(u[u < np.log(4.2)]))
    chart = lines(
        series,
        alt.X(
            "x:Q",
            title="u, the record's combined multiplier (no unit)",
            scale=alt.Scale(domain=[-2.2, 2.2], nice=False),
        ),
        alt.Y("y:Q", title="ratio w/d = G(u)", scale=alt.Scale(domain=[-1.2, 4.2], nice=False)),
        heading(
            "How each distance turns multipliers into weights",
            f"Bounds are {low} and {high}. All curves touch at u = 0, with slope one.",
        ),
    )
    return rule(low) + rule(high) + rule(0.0, dash=(1, 0)) + chart


def ipf() -> alt.LayerChart:
    """Two margins of 12 classes: one pair hardly associated, one almost the same variable."""
    series = {}
    for label, noise in (("weak", 6.0), ("strong", 0.55)):
        rng = np.random.default_rng(3)
        first = rng.integers(0, 12, 4000)
        second = np.clip(np.round(first + noise * rng.normal(size=4000)), 0, 11).astype(int)
        matrix = np.stack(
            [*(first == c for c in range(12)), *(second == c for c in range(12))]
        ).astype(float)
        true = np.exp(0.25 * rng.normal(size=12)[first] + 0.25 * rng.normal(size=12)[second])
        names = [f"{m}: {c}" for m in ("first", "second") for c in range(12)]
        problem = CalibrationProblem(matrix, matrix @ true, np.ones(4000), target_names=names)
        for method in ("ipf", "raking"):
            trace: list[float] = []
            calibrate(problem, method, progress=lambda _, error, trace=trace: trace.append(error))
            kept = np.maximum(trace, 1e-12)
            series[f"{method}, {label} association"] = (np.arange(1, kept.size + 1), kept)
    return lines(
        series,
        alt.X(
            "x:Q",
            title="sweep (ipf) or Newton step (raking)",
            scale=alt.Scale(type="log", nice=False),
        ),
        alt.Y(
            "y:Q",
            title="largest relative error of a target",
            axis=alt.Axis(labelExpr=POWER, values=[1, 1e-3, 1e-6, 1e-9, 1e-12]),
            scale=alt.Scale(type="log", domain=[1e-12, 3], nice=False),
        ),
        heading(
            "IPF slows down where margins nearly repeat each other",
            "Two margins of 12 classes, 4,000 records. Both methods end at the same weights.",
        ),
        colours=(BLUE, GREEN, ORANGE, RED),
    )


def linear() -> alt.LayerChart:
    problem = population(pull=1.5)
    a, b = (calibrate(problem, method).ratios for method in ("linear", "raking"))
    sign = np.where(a < 0, "negative under linear", "positive under both")
    frame = pl.DataFrame({"what": sign, "x": b, "y": a})
    order = ["positive under both", "negative under linear"]
    dots = (
        alt.Chart(
            frame,
            width=WIDTH,
            height=HEIGHT,
            title=heading(
                "Linear weights may turn negative",
                f"{int((a < 0).sum())} of 600 records do here. Raking meets the same targets with"
                " positive weights.",
            ),
        )
        .mark_circle(size=34, opacity=0.65)
        .encode(
            x=alt.X(
                "x:Q",
                title="ratio w/d under raking (log scale)",
                scale=alt.Scale(type="log", domain=[0.15, 15], nice=False),
                axis=alt.Axis(values=[0.2, 0.5, 1, 2, 5, 10]),
            ),
            y=alt.Y("y:Q", title="ratio w/d under linear"),
            color=colour(order, (BLUE, RED)),
        )
    )
    return rule(0.0, dash=(1, 0)) + dots


def truncated_linear() -> alt.LayerChart:
    low, high = BOUNDS
    free, held = ratios("linear", 1.0), ratios("truncated_linear", 1.0, BOUNDS)
    on = (int((held <= low + 1e-9).sum()), int((held >= high - 1e-9).sum()))
    title = heading(
        "Truncated linear puts weights on the bounds",
        f"Of 600 records, {on[0]} sit on {low} and {on[1]} on {high}; those between move to keep"
        " the totals.",
    )
    return rule(low) + rule(high) + by_rank({"linear": free, "truncated_linear": held}, title)


def logit() -> alt.LayerChart:
    low, high = BOUNDS
    series = {
        "truncated_linear": ratios("truncated_linear", 1.0, BOUNDS),
        "logit": ratios("logit", 1.0, BOUNDS),
    }
    title = heading(
        "Logit bends where truncated linear breaks",
        f"Same targets, bounds {low} and {high}. Under logit no weight sits on a bound.",
    )
    return (
        rule(low) + rule(high) + by_rank(series, title, colours=(ORANGE, BLUE), domain=[0.3, 2.7])
    )


def raking() -> alt.HConcatChart:
    """The two ends of the sorted ratios, each on its own axis: in the middle the methods hardly
    differ.
    """
    series = {
        "linear": ratios("linear", 1.5),
        "raking": ratios("raking", 1.5),
        "logit, bounds 0.1 and 6": ratios("logit", 1.5, (0.1, 6.0)),
    }
    rank = np.arange(1, 61)
    panels = []
    for title, part in (
        ("the 60 smallest ratios", slice(0, 60)),
        ("the 60 largest ratios", slice(-60, None)),
    ):
        pairs = {
            name: (rank if part.start == 0 else rank + 540, values[part])
            for name, values in series.items()
        }
        x = alt.X(
            "x:Q", title="record, in order of its ratio", scale=alt.Scale(zero=False, nice=False)
        )
        panel = lines(
            pairs,
            x,
            alt.Y("y:Q", title="ratio w/d", scale=alt.Scale(zero=True)),
            alt.TitleParams(title, fontSize=12),
            colours=(ORANGE, BLUE, GREEN),
        )
        panels.append(panel.properties(width=290))
    tail = (
        f"Same targets, 600 records. The largest ratio is {series['linear'][-1]:.1f} under linear,"
        f" {series['raking'][-1]:.1f} under raking."
    )
    return alt.hconcat(
        *panels,
        title=heading("Raking: no negative weight, but a longer upper tail", tail),
        spacing=30,
    )


def raking_bounded() -> alt.LayerChart:
    problem = population(pull=1.0)
    high = np.array([1.9, 1.95, 2.0, 2.1, 2.2, 2.4, 2.6, 2.8, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0])
    series: dict[str, tuple] = {"on the upper bound": ([], []), "on the lower bound": ([], [])}
    for bound in high:
        result = calibrate(
            problem.change(ratio_bounds=(0.4, bound)), "raking_bounded", explain=False
        )
        if result.converged:
            for name, share in (
                ("on the upper bound", result.ratios >= bound - 1e-9),
                ("on the lower bound", result.ratios <= 0.4 + 1e-9),
            ):
                series[name][0].append(bound)
                series[name][1].append(100 * share.mean())
    title = heading(
        "The tighter the bound, the more weights sit on it",
        "Lower bound 0.4; the upper bound is moved. Left of the curves the targets cannot be met.",
    )
    return lines(
        series,
        alt.X("x:Q", title="upper bound on w/d", scale=alt.Scale(domain=[1.5, 7], nice=False)),
        alt.Y("y:Q", title="records on a bound (%)", scale=alt.Scale(domain=[0, 50])),
        title,
        colours=(ORANGE, BLUE),
        point=True,
    )


def entropy() -> alt.LayerChart:
    base = population(pull=0.0).take_targets([9])
    series: dict[str, tuple] = {"raking": ([], []), "entropy": ([], [])}
    for change in np.linspace(-0.3, 0.3, 25):
        problem = base.change(targets=base.targets * (1 + change))
        for method, (x, y) in series.items():
            x.append(100 * change)
            y.append(100 * (calibrate(problem, method).weights.sum() / problem.start.sum() - 1))
    return lines(
        series,
        alt.X(
            "x:Q",
            title="income target against the sample's total (%)",
            scale=alt.Scale(domain=[-30, 30]),
        ),
        alt.Y("y:Q", title="sum of weights against the initial sum (%)"),
        heading(
            "Entropy balancing holds the sum of weights",
            "One target, total income. Raking changes the number of people to reach it.",
        ),
        colours=(ORANGE, BLUE),
    )


def relaxed_entropy() -> alt.LayerChart:
    base = population(pull=0.5)
    goal = base.targets.copy()
    goal[[0, 1]] *= 1.05
    problem = base.change(targets=goal)
    picked = {"sex: women (5 % too high)": 0, "age: 40-64": 4, "region: north": 6}
    grid = np.logspace(-1, 5, 37)
    series: dict[str, tuple] = {name: ([], []) for name in picked}
    for value in grid:
        importance = np.ones(goal.size) * 10.0
        importance[[0, 1]] = value
        result = calibrate(problem, "relaxed_entropy", importance=importance)
        for name, j in picked.items():
            series[name][0].append(value)
            series[name][1].append(100 * result.fitted[j] / goal[j])
    chart = lines(
        series,
        alt.X(
            "x:Q",
            title="importance of the two sex targets (all others have 10; log scale)",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(values=[0.1, 1, 10, 100, 1000, 1e4, 1e5], format=","),
        ),
        alt.Y(
            "y:Q",
            title="share of the target reached (%)",
            scale=alt.Scale(zero=False, nice=False, domain=[86, 106]),
        ),
        heading(
            "Importance decides which target gives way",
            "The sex margin asks for 5 % more people than age and region do.",
        ),
    )
    return rule(100.0) + chart


def trim() -> alt.LayerChart:
    problem = population(pull=1.0)
    before = calibrate(problem, "raking")
    raked = before.weights
    cap = 450.0
    both = problem.change(initial_weights=raked, weight_bounds=(15.0, cap))
    kept, loose = calibrate(both, "trim"), calibrate(both, "trim", keep_totals=False)
    top = np.argsort(-raked)[:60]
    rank = np.arange(1, 61)
    series = {
        "before": (rank, raked[top]),
        "trimmed, totals kept": (rank, kept.weights[top]),
        "trimmed, only the sum kept": (rank, loose.weights[top]),
    }
    largest = 100 * np.nanmax(loose.relative_errors)
    held = "still hold" if kept.converged else "no longer hold"
    top = np.argsort(-raked)[:60]
    rank = np.arange(1, 61)
    series = {
        "before": (rank, raked[top]),
        "trimmed, totals kept": (rank, kept.weights[top]),
        "trimmed, only the sum kept": (rank, loose.weights[top]),
    }
    chart = lines(
        series,
        alt.X(
            "x:Q",
            title="the 60 records of largest weight, in order",
            scale=alt.Scale(domain=[1, 60], nice=False),
        ),
        alt.Y("y:Q", title="weight (persons)", scale=alt.Scale(domain=[100, 800], zero=False)),
        heading(
            f"Trimming at {cap:.0f}, with and without the totals",
            f"The dashed line is the cap. Totals {held} in the first way; in the second the worst"
            f" is off by {largest:.1f} %.",
        ),
        colours=(GREY, BLUE, ORANGE),
    )
    return rule(cap) + chart
