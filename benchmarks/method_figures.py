"""Every figure of docs/methods, drawn from invented problems; the same pixels each time.

    python -m benchmarks.method_figures [--out docs/images/methods] [--only NAME ...]

Belongs here: figures of conflicts, results and the hierarchy, the table of all figures, and the
command. Does not belong here: figures of the exact methods (``method_figures_exact.py``), of the
sparse and gradient ones (``method_figures_sparse.py``), the look (``figure_style.py``), text.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import altair as alt
import numpy as np
import polars as pl

from benchmarks import method_figures_sparse as sparse_figures
from benchmarks.figure_style import (
    BLUE,
    HEIGHT,
    ORANGE,
    WIDTH,
    colour,
    heading,
    inflated,
    lines,
    population,
    render,
    rule,
)
from benchmarks.method_figures_exact import (
    distances,
    entropy,
    ipf,
    linear,
    logit,
    raking,
    raking_bounded,
    relaxed_entropy,
    trim,
    truncated_linear,
)
from benchmarks.nation_population import tract_list
from benchmarks.nation_problem import one_state
from calibration_core import calibrate
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree

OUT = Path("docs/images/methods")


def conflicts() -> alt.LayerChart:
    problem = inflated()
    names = list(problem.target_names)
    order = {"least_squares": "least squares (the default)", "minimax": "minimax"}
    frames = []
    for option, label in order.items():
        result = calibrate(problem, "raking", compromise=option)
        frames.append(
            pl.DataFrame(
                {
                    "what": [label] * len(names),
                    "target": names,
                    "error": 100 * result.residuals / problem.targets,
                }
            )
        )
    frame = pl.concat(frames)
    labels = list(order.values())
    dots = (
        alt.Chart(
            frame,
            width=WIDTH,
            height=HEIGHT,
            title=heading(
                "The sex margin asks for 5 % more people than the others",
                "Where each target ends up under the two compromises.",
            ),
        )
        .mark_point(size=90, filled=True, opacity=1)
        .encode(
            x=alt.X(
                "error:Q",
                title="fitted against target (%)",
                scale=alt.Scale(domain=[-5.2, 5.2], nice=False),
            ),
            y=alt.Y("target:N", title=None, sort=names),
            color=colour(labels, (BLUE, ORANGE)),
            shape=alt.Shape(
                "what:N",
                title=None,
                sort=labels,
                scale=alt.Scale(domain=labels, range=["circle", "diamond"]),
            ),
        )
    )
    return rule(0.0, axis="x", dash=(1, 0)) + dots


def result() -> alt.LayerChart:
    series: dict[str, tuple] = {method: ([], []) for method in ("linear", "raking")}
    design = population().start
    alone = design.sum() ** 2 / (design**2).sum()
    for pull in np.linspace(0.0, 2.0, 21):
        problem = population(pull=pull)
        for method, (x, y) in series.items():
            x.append(pull)
            y.append(calibrate(problem, method).effective_sample_size)
    return lines(
        series,
        alt.X(
            "x:Q", title="how far the targets lie from the sample (strength of the tilt, no unit)"
        ),
        alt.Y("y:Q", title="effective sample size (records)", scale=alt.Scale(domain=[0, 600])),
        heading(
            "Calibration costs effective sample size",
            f"600 records. The design weights alone leave {alone:.0f}; targets further away leave"
            " less.",
        ),
        colours=(ORANGE, BLUE),
    )


def hierarchy() -> alt.Chart:
    """The discrepancy rule: what a weaker prior gains, on an invented state of 60 tracts."""
    problem, _ = one_state(tract_list(None, None, 60, 4), 400, 4)
    scales = problem.targets.scales
    shares: dict[str, list[float]] = {level: [] for level in problem.tree.levels}
    path = [3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001]
    for tau in path:
        result = calibrate_tree(
            problem, TreeNewtonSettings(tau_path=(tau,), tolerance=1e-6, prior_unit=1.0)
        )
        for level, residual, scale in zip(
            problem.tree.levels, result.residuals, scales, strict=True
        ):
            shares[level].append(100 * float((np.abs(residual / scale) <= 1.645).mean()))
    return lines(
        {level: (np.array(path), np.array(values)) for level, values in shares.items()},
        alt.X(
            "x:Q",
            title="tau, the strength of the prior (falling to the right)",
            scale=alt.Scale(type="log", reverse=True, nice=False),
        ),
        alt.Y("y:Q", title="targets within 1.645 scales (%)", scale=alt.Scale(domain=[0, 100])),
        heading(
            "How far tau has to fall",
            "an invented state, 60 tracts, 400 households: what is still outside past the bend is"
            " contradiction between levels",
        ),
    )


_HERE = (
    distances,
    ipf,
    linear,
    truncated_linear,
    logit,
    raking,
    raking_bounded,
    entropy,
    relaxed_entropy,
    trim,
    conflicts,
    result,
    hierarchy,
)
FIGURES = {figure.__name__: figure for figure in _HERE} | sparse_figures.FIGURES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of the PNG files")
    parser.add_argument(
        "--only",
        nargs="*",
        default=sorted(FIGURES),
        choices=sorted(FIGURES),
        help="draw only these",
    )
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    for name in chosen.only:
        content = render(FIGURES[name]())
        (chosen.out / f"{name}.png").write_bytes(content)
        print(f"{name}.png  {len(content) / 1000:.0f} kB")


if __name__ == "__main__":
    main()
