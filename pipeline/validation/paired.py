"""Paired differences between methods: is the reference better than chance would have it?

For a method m, the reference h and a figure e (an error, say), d = e_m - e_h of the same state,
group, budget and seed; positive means that m is worse where e is an error. Two kinds of rows:

* ``scope`` "all": the units are cells, a cell being a state and a group. d is averaged over the
  seeds (and, where ``pairs`` is None, the budgets) of a cell, and the interval is Student's t over
  those cell means, n - 1 degrees of freedom: how far the difference would hold on another cell like
  these. Seeds of one cell share its targets and its dense solution, so they are no units of their
  own here. Cells of one state share its records, which the interval does not know of. With a single
  cell the units are seeds, as below.
* ``scope`` "cell": one state and group; the units are seeds (d averaged over budgets where
  ``pairs`` is None): how far the difference would hold on another draw.

    interval = mean(d) -+ t(0.975, n - 1) sd(d) / sqrt(n)

``ratio`` is exp(mean log(e_m / e_h)) over the same units with the interval taken on the log, which
weighs cells alike whatever their size of error; units where either is not above zero are left out
of it and counted (``ratio_units``). With one unit there is no interval. Dense has no budget and no
seed; its one result stands beside every draw. Draws without a counterpart (a failed run) are
counted in ``unpaired``.

Belongs here: those statistics. Does not belong here: running methods, or printing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

if TYPE_CHECKING:
    from pipeline.validation.compare import Run

LEVEL = 0.95
_LARGEST_LOG = 700.0
FIGURES = (
    "mean_are",
    "median_are",
    "mean_are_without_degenerate",
    "share_inside_margin",
    "capped_loss",
    "mean_are_truth",
    "median_are_truth",
)
CELL_FIGURES = ("mean_are", "median_are", "mean_are_without_degenerate")
Draw = tuple[str, str, int, int]


def paired_differences(runs: Iterable[Run], reference: str) -> list[dict]:
    """Rows for every method but the reference: scope, state, group, method, reference, sample,
    level, figure, pairs, units, unpaired, difference, low, high, reference_lower (units in which
    the reference has the lower figure), ratio, ratio_low, ratio_high, ratio_units. Empty where the
    reference was not run.
    """
    runs = [run for run in runs if not run.failure]
    budgets = sorted({run.pairs for run in runs if run.pairs is not None})
    methods = [name for name in dict.fromkeys(run.method for run in runs) if name != reference]
    rows = []
    for sample in ("outside", "inside"):
        of = _figures(runs, sample)
        for level, figure in sorted(
            {key[1:] for key in of},
            key=lambda key: (key[0] != "all", key[0], FIGURES.index(key[1])),
        ):
            base = of.get((reference, level, figure), {})
            for method in methods if base else ():
                mine = _beside(of.get((method, level, figure), {}), base)
                for pairs in (None, *budgets):
                    rows += _rows(
                        mine,
                        base,
                        pairs,
                        sample == "outside" and figure in CELL_FIGURES,
                        sample,
                        level,
                        figure,
                        method,
                        reference,
                    )
    return rows


def _figures(runs: Sequence[Run], sample: str) -> dict[tuple[str, str, str], dict[Draw, float]]:
    """By (method, level, figure), then by (state, group, budget, seed); dense under budget -1 and
    seed -1.
    """
    found: dict[tuple[str, str, str], dict[Draw, float]] = {}
    for run in runs:
        draw = (
            run.postal,
            run.group,
            -1 if run.pairs is None else run.pairs,
            -1 if run.seed is None else run.seed,
        )
        for row in getattr(run, sample):
            if row["family"] is None:
                for figure in FIGURES:
                    if row.get(figure) is not None:
                        found.setdefault((run.method, row["level"], figure), {})[draw] = row[figure]
    return found


def _beside(mine: dict[Draw, float], base: dict[Draw, float]) -> dict[Draw, float]:
    """``mine``, with a result that has no budget repeated at every draw of ``base`` of its state
    and group.
    """
    single = {draw[:2]: value for draw, value in mine.items() if draw[2] < 0}
    return {draw: single[draw[:2]] for draw in base if draw[:2] in single} if single else mine


def _rows(
    mine,
    base,
    pairs: int | None,
    cells_too: bool,
    sample: str,
    level: str,
    figure: str,
    method: str,
    reference: str,
) -> list[dict]:
    draws = [
        draw for draw in sorted(base.keys() | mine.keys()) if pairs is None or draw[2] == pairs
    ]
    both = [draw for draw in draws if draw in base and draw in mine]
    cells = sorted({draw[:2] for draw in both})
    if not cells:
        return []
    said = {
        "method": method,
        "reference": reference,
        "sample": sample,
        "level": level,
        "figure": figure,
        "pairs": pairs,
    }
    rows = []
    if len(cells) > 1:
        units = [[draw for draw in both if draw[:2] == cell] for cell in cells]
        rows.append(
            {
                "scope": "all",
                "state": None,
                "group": None,
                **said,
                "unit": "cells",
                "unpaired": len(draws) - len(both),
                **_compare(mine, base, units),
            }
        )
    for cell in cells if cells_too or len(cells) == 1 else ():
        here = [draw for draw in both if draw[:2] == cell]
        units = [
            [draw for draw in here if draw[3] == seed]
            for seed in sorted({draw[3] for draw in here})
        ]
        lost = sum(draw[:2] == cell for draw in draws) - len(here)
        row = {
            "state": cell[0],
            "group": cell[1],
            **said,
            "unit": "seeds",
            "unpaired": lost,
            **_compare(mine, base, units),
        }
        rows += [{"scope": "cell", **row}] if cells_too else []
        rows += [{"scope": "all", **row}] if len(cells) == 1 else []
    return rows


def _compare(mine: dict[Draw, float], base: dict[Draw, float], units: list[list[Draw]]) -> dict:
    pair = np.array(
        [[np.mean([values[draw] for draw in unit]) for values in (mine, base)] for unit in units]
    )
    difference = pair[:, 0] - pair[:, 1]
    low, high = t_interval(difference)
    sound = (pair > 0).all(axis=1)
    logs = np.log(pair[sound, 0] / pair[sound, 1])
    # Two units can give an interval of the log that no number holds: then there is none.
    ratio_low, ratio_high = (
        None if end is None or end > _LARGEST_LOG else float(np.exp(end))
        for end in t_interval(logs)
    )
    return {
        "units": len(units),
        "difference": float(difference.mean()),
        "low": low,
        "high": high,
        "reference_lower": int((difference > 0).sum()),
        "ratio": float(np.exp(logs.mean())) if logs.size else None,
        "ratio_low": ratio_low,
        "ratio_high": ratio_high,
        "ratio_units": int(sound.sum()),
    }


def t_interval(values: np.ndarray) -> tuple[float | None, float | None]:
    """Student's t interval of the mean at LEVEL; (None, None) for fewer than two values."""
    if values.size < 2:
        return None, None
    half = float(
        stats.t.ppf(0.5 + LEVEL / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size)
    )
    return float(values.mean()) - half, float(values.mean()) + half
