"""Figures of the gradient and sparse methods, drawn from invented problems.

Belongs here: one function a figure. Does not belong here: the command and the other figures
(``method_figures.py``), the look (``figure_style.py``).
"""

from __future__ import annotations

import altair as alt
import numpy as np
import polars as pl

from benchmarks.figure_style import (
    BLUE,
    GREEN,
    GREY,
    HEIGHT,
    INSIDE,
    ORANGE,
    POWER,
    RED,
    heading,
    inflated,
    lines,
    rule,
)
from benchmarks.problems import margins_and_amounts
from calibration_core import CalibrationProblem, calibrate

SEEDS = range(5)
FLOOR = 1e-10


def sparse_problem() -> CalibrationProblem:
    """2,000 records, 6 margins of 4 levels and 3 amounts: 27 targets, 22 of them independent."""
    return margins_and_amounts(2000, margins=6, levels=4, amounts=3)


def root_mean_square(errors: np.ndarray) -> float:
    return float(np.sqrt(np.mean(errors**2)))


def records_axis(
    title: str = "k, records kept of 2,000 (log scale)", values=(15, 20, 30, 50, 100, 200, 400, 800)
) -> alt.X:
    scale = alt.Scale(type="log", domain=[min(values), max(values)], nice=False)
    return alt.X("x:Q", title=title, scale=scale, axis=alt.Axis(values=list(values), format=",d"))


def error_axis(
    low: float = FLOOR,
    high: float = 1.0,
    title: str = "root mean square relative error (log scale)",
) -> alt.Y:
    ticks = [10.0**e for e in range(int(np.log10(low)), 1, 2)]
    return alt.Y(
        "y:Q",
        title=title,
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        axis=alt.Axis(values=ticks, labelExpr=POWER),
    )


def gradient() -> alt.Chart:
    """The excess of the loss over its minimum, which the dual reaches to rounding."""
    problem = inflated()
    runs = {
        name: calibrate(problem, "gradient", optimizer=name) for name in ("dual", "lbfgs", "adam")
    }
    least = min(run.details["objective"] for run in runs.values())
    series = {}
    for name, run in runs.items():
        excess = np.minimum.accumulate(np.asarray(run.loss_trace) / least - 1.0)
        kept = excess > FLOOR
        kept[: int(kept.sum()) + 1] = True  # with the first step below the floor, drawn on it
        series[name] = (np.arange(1, kept.sum() + 1), np.maximum(excess[kept], FLOOR))
    x = alt.X(
        "x:Q",
        title="step (log scale)",
        scale=alt.Scale(type="log", domain=[1, 1000], nice=False),
        axis=alt.Axis(values=[1, 3, 10, 30, 100, 300, 1000], format=",d"),
    )
    y = error_axis(high=100.0, title="loss above its minimum, relative (log scale)")
    title = heading(
        "Second order needs few steps",
        "600 records, 9 conflicting targets: the sex margin is 5 % too high. The best loss so far;"
        " below 1e-10 it is drawn there.",
    )
    return lines(series, x, y, title, colours=(BLUE, GREEN, ORANGE))


def cross_category() -> alt.Chart:
    problem = sparse_problem()
    amounts = np.array([name.startswith("amount") for name in problem.target_names])
    ks = (15, 20, 30, 50, 100, 200, 400, 800)
    series: dict[str, tuple] = {
        name: ([], [])
        for name in (
            "after the draw",
            "IPF refit: amounts",
            "IPF refit: margins",
            "raking refit: all targets",
        )
    }
    for k in ks:
        found: dict[str, list[float]] = {name: [] for name in series}
        for seed in SEEDS:
            error = {
                refit: (
                    calibrate(
                        problem, "cross_category", records=k, seed=seed, refit=refit
                    ).relative_errors
                )
                for refit in ("none", "ipf", "raking")
            }
            found["after the draw"].append(root_mean_square(error["none"]))
            found["IPF refit: amounts"].append(root_mean_square(error["ipf"][amounts]))
            found["IPF refit: margins"].append(root_mean_square(error["ipf"][~amounts]))
            found["raking refit: all targets"].append(root_mean_square(error["raking"]))
        for name, values in found.items():
            series[name][0].append(k)
            series[name][1].append(max(float(np.median(values)), FLOOR))
    title = heading(
        "Cross-category selection: IPF leaves the amounts where the draw put them",
        "27 targets: 24 in margins, 3 amounts. Median of 5 seeds; errors below 1e-10 are drawn"
        " there.",
    )
    return lines(
        series, records_axis(), error_axis(), title, colours=(RED, ORANGE, GREEN, BLUE), point=True
    )


def hybrid() -> alt.Chart:
    problem = sparse_problem()
    series: dict[str, tuple] = {name: ([], []) for name in ("after the draw", "after refinement")}
    for k in (15, 18, 20, 22, 25, 30, 50, 100, 200, 400, 800):
        runs = [calibrate(problem, "hybrid", records=k, seed=seed).details for seed in SEEDS]
        for name, field in (
            ("after the draw", "error_after_selection"),
            ("after refinement", "error_after_refinement"),
        ):
            series[name][0].append(k)
            series[name][1].append(max(float(np.median([run[field] for run in runs])), FLOOR))
    title = heading(
        "Hybrid: exact as soon as k exceeds the number of independent targets",
        "27 targets, 22 of them independent. Median of 5 seeds; errors below 1e-10 are drawn"
        " there.",
    )
    return lines(series, records_axis(), error_axis(), title, colours=(RED, BLUE), point=True)


def random_subset() -> alt.Chart:
    problem = sparse_problem()
    ways = {
        "random_subset, equal": ("random_subset", {}),
        "random_subset, by weight": ("random_subset", {"probability": "weight"}),
        "hybrid": ("hybrid", {}),
    }
    series: dict[str, tuple] = {name: ([], []) for name in ways}
    for k in (15, 20, 25, 30, 50, 100, 200, 400, 800):
        for name, (method, settings) in ways.items():
            sizes = [
                calibrate(problem, method, records=k, seed=seed, **settings).effective_sample_size
                for seed in SEEDS
            ]
            series[name][0].append(k)
            series[name][1].append(100 * float(np.median(sizes)) / k)
    y = alt.Y("y:Q", title="effective sample size (% of k)", scale=alt.Scale(domain=[0, 100]))
    title = heading(
        "What selection is for: a random draw needs very uneven weights",
        "27 targets, 22 of them independent. Median of 5 seeds, all refitted.",
    )
    return lines(series, records_axis(), y, title, colours=(GREY, ORANGE, BLUE), point=True)


def hard_concrete() -> alt.VConcatChart:
    """Above: 100,000 gates of even odds at three temperatures. Below: the loss while the count
    falls to k, smoothed over 25 epochs.
    """
    import torch

    from calibration_core.common.gates import HardConcrete, logistic_noise

    noise = logistic_noise(100_000, torch.Generator().manual_seed(1), torch.float64)
    panels = []
    for heat in (0.25, 2 / 3, 2.0):
        gate = HardConcrete().sample(torch.zeros_like(noise), noise, heat)[0].numpy()
        counts, edges = np.histogram(
            np.where(gate > 0, gate, -0.025), bins=np.r_[-0.05, np.linspace(0, 1, 21), 1.05][:-1]
        )
        ends = np.array([(gate == 1).mean()])
        share = 100 * counts / gate.size
        share[-1] -= 100 * ends[0]
        table = pl.DataFrame(
            {
                "x": [*(edges[:-1] + 0.025), 1.025],
                "share": [*share, 100 * ends[0]],
                "what": ["exactly 0", *["between"] * 20, "exactly 1"],
            }
        )
        first = not panels
        panel = alt.Chart(
            table,
            width=190,
            height=150,
            title=alt.TitleParams(f"temperature {heat:.2f}", fontSize=12),
        ).mark_bar(size=7)
        panels.append(
            panel.encode(
                x=alt.X(
                    "x:Q",
                    title="gate z",
                    scale=alt.Scale(domain=[-0.07, 1.07], nice=False),
                    axis=alt.Axis(values=[0, 0.5, 1]),
                ),
                y=alt.Y(
                    "share:Q",
                    title="share of draws (%)" if first else None,
                    scale=alt.Scale(domain=[0, 50]),
                ),
                color=alt.Color(
                    "what:N",
                    title=None,
                    sort=None,
                    scale=alt.Scale(
                        domain=["exactly 0", "between", "exactly 1"], range=[RED, GREY, BLUE]
                    ),
                ),
            )
        )
    series = {}
    for k in (20, 60, 200):
        loss = np.asarray(
            calibrate(sparse_problem(), "hard_concrete", records=k, refit=False).loss_trace
        )
        smooth = np.exp(np.log(loss)[: loss.size // 25 * 25].reshape(-1, 25).mean(axis=1))
        series[f"k = {k}"] = (25 * np.arange(smooth.size) + 12.5, smooth)
    x, y = (
        alt.X("x:Q", title="epoch", axis=alt.Axis(format=",d")),
        alt.Y(
            "y:Q",
            title="mean squared relative error (log scale)",
            scale=alt.Scale(type="log"),
            axis=alt.Axis(values=[1e-4, 1e-3, 1e-2, 1e-1], labelExpr=POWER),
        ),
    )
    below = lines(
        series,
        x,
        y,
        alt.TitleParams(
            "loss while the expected count falls to k (until the dashed line)", fontSize=12
        ),
        colours=(RED, ORANGE, BLUE),
    ).properties(width=660, height=200)
    title = heading(
        "Hard concrete gates",
        "The lower the temperature, the more draws are exactly 0 or 1. The log odds are 0 in all"
        " three panels.",
    )
    return alt.vconcat(
        alt.hconcat(*panels, spacing=22), rule(1200.0, axis="x") + below, title=title, spacing=24
    ).resolve_scale(color="independent")


def reweighted_l1() -> alt.HConcatChart:
    problem, k = sparse_problem(), 60
    series = {}
    for rounds in (1, 2, 5):
        weights = calibrate(problem, "reweighted_l1", records=k, rounds=rounds, refit=False).weights
        series[f"round {rounds}"] = (np.arange(1, k + 1), np.sort(weights)[::-1][:k])
    result = calibrate(problem, "reweighted_l1", records=k, refit=False)
    changes = result.details["changes"]
    x = alt.X(
        "x:Q",
        title="record kept, in order of its weight",
        scale=alt.Scale(domain=[1, k], nice=False),
    )
    left = lines(
        series,
        x,
        alt.Y("y:Q", title="weight (persons)"),
        alt.TitleParams("weights of the 60 records kept", fontSize=12),
        colours=(GREY, ORANGE, BLUE),
        legend=INSIDE,
    ).properties(width=300)
    table = pl.DataFrame({"round": np.arange(2, len(changes) + 1), "changed": changes[1:]})
    right = (
        alt.Chart(
            table, width=220, height=HEIGHT, title=alt.TitleParams("records exchanged", fontSize=12)
        )
        .mark_bar(size=26, color=BLUE)
        .encode(
            x=alt.X("round:O", title="round", axis=alt.Axis(labelAngle=0)),
            y=alt.Y(
                "changed:Q", title="records that were not kept before", axis=alt.Axis(tickMinStep=1)
            ),
        )
    )
    title = heading(
        "Reweighted L1: each round settles a little more",
        f"2,000 records, k = {k}. It ends after {len(changes)} rounds, when no record is"
        " exchanged.",
    )
    return (
        alt.hconcat(left, right, title=title, spacing=30)
        .resolve_legend(color="independent")
        .resolve_scale(color="independent")
    )


FIGURES = {
    figure.__name__: figure
    for figure in (gradient, cross_category, hybrid, random_subset, hard_concrete, reweighted_l1)
}
