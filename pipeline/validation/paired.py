"""Paired differences between methods: is the reference better than chance would have it?

For a method m, the reference h and a figure e (an error, say), d = e_m - e_h of the same state,
group, budget and seed; positive means that m is worse where e is an error. Two kinds of rows:

* ``scope`` "all": the units are cells, a cell being a state and a group. d is averaged over the
  seeds of a cell (and, where ``pairs_per_area`` is None, over its budgets). The interval is
  Student's t over those cell means, n - 1 degrees of freedom: how far the difference would hold on
  another cell like these. Seeds of one cell share its targets and its dense solution, so they are
  no units of their own here. Cells of one state share its records, which the interval does not know
  of. With a single cell the units are seeds, as below.
* ``scope`` "cell": one state and group; the units are seeds (d averaged over budgets where
  ``pairs_per_area`` is None): how far the difference would hold on another draw.

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

import numpy as np
from scipy import stats

from pipeline.validation.runs import Run

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
    level, figure, pairs_per_area, units, unpaired, difference, low, high, reference_lower (units in
    which the reference has the lower figure), ratio, ratio_low, ratio_high, ratio_units. Empty
    where the reference was not run.
    """
    runs = [run for run in runs if not run.failure]
    budgets = sorted({r.pairs_per_area for r in runs if r.pairs_per_area is not None})
    methods = [name for name in dict.fromkeys(run.method for run in runs) if name != reference]
    rows = []
    for sample in ("outside", "inside"):
        of = _figures(runs, sample)
        for level, figure in sorted({key[1:] for key in of}, key=_all_levels_first):
            base = of.get((reference, level, figure), {})
            for method in methods if base else ():
                mine = _beside(of.get((method, level, figure), {}), base)
                said = {"method": method, "reference": reference, "sample": sample}
                said |= {"level": level, "figure": figure}
                for budget in (None, *budgets):
                    rows += _rows(mine, base, {**said, "pairs_per_area": budget})
    return rows


def _all_levels_first(key: tuple[str, str]) -> tuple[bool, str, int]:
    level, figure = key
    return level != "all", level, FIGURES.index(figure)


def _figures(runs: Sequence[Run], sample: str) -> dict[tuple[str, str, str], dict[Draw, float]]:
    """By (method, level, figure), then by (state, group, budget, seed); dense under budget -1 and
    seed -1.
    """
    found: dict[tuple[str, str, str], dict[Draw, float]] = {}
    for run in runs:
        draw = (
            run.postal,
            run.group,
            -1 if run.pairs_per_area is None else run.pairs_per_area,
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


def _rows(mine: dict[Draw, float], base: dict[Draw, float], said: dict) -> list[dict]:
    """Rows of one comparison: over all cells, and for the errors of withheld targets cell by cell.

    ``said``: what is compared; its ``pairs_per_area`` limits the draws, None takes all budgets.
    """
    budget = said["pairs_per_area"]
    draws = [d for d in sorted(base.keys() | mine.keys()) if budget is None or d[2] == budget]
    both = [draw for draw in draws if draw in base and draw in mine]
    cells = sorted({draw[:2] for draw in both})
    if not cells:
        return []
    each = said["sample"] == "outside" and said["figure"] in CELL_FIGURES
    rows = []
    if len(cells) > 1:
        units = [[draw for draw in both if draw[:2] == cell] for cell in cells]
        measured = {"unpaired": len(draws) - len(both), **_compare(mine, base, units)}
        rows.append(
            {"scope": "all", "state": None, "group": None, **said, "unit": "cells", **measured}
        )
    for cell in cells if each or len(cells) == 1 else ():
        of_cell = [draw for draw in draws if draw[:2] == cell]
        row = {"state": cell[0], "group": cell[1], **said, "unit": "seeds"}
        row |= _of_cell(mine, base, of_cell)
        rows += [{"scope": "cell", **row}] if each else []
        rows += [{"scope": "all", **row}] if len(cells) == 1 else []
    return rows


def _of_cell(mine: dict[Draw, float], base: dict[Draw, float], draws: Sequence[Draw]) -> dict:
    """The comparison within one cell: its seeds are the units."""
    both = [draw for draw in draws if draw in base and draw in mine]
    seeds = sorted({draw[3] for draw in both})
    units = [[draw for draw in both if draw[3] == seed] for seed in seeds]
    return {"unpaired": len(draws) - len(both), **_compare(mine, base, units)}


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
