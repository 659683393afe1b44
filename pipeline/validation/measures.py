"""Measures of fit and of weights, the same for every method: from pairs and weights to a row of
figures per level.

For targets t, fitted f, published 90 % margins m (the margin's standard error times 1.645):

* absolute relative error ARE = |f - t| / |t|; targets below one person, household or return, or
  1,000 dollars, have none and are counted (``zero_targets``);
* inside the margin: |f - t| <= m, of the targets with a published margin;
* capped loss: sum_j omega_j min(|f_j - t_j| / max(|t_j|, 1), 1) / sum_j omega_j, omega_j
  proportional to max(|t_j|, 1)^0.5 within each of two bases (counts, dollar amounts) that get the
  same total;
* denominator-degenerate targets: |t| below the largest contribution a single record makes at its
  initial weight (its prior weight in that area): one household more or less is more than the whole
  target. Counted and named, and means are given with and without them;
* against the truth, where it is known: the ARE of f to the true total.

Effective sample size (sum w)^2 / sum w^2 (Kish), design effect k / ESS, extremes, share of the top
1 % (``pipeline/reports/fit.py``).

Belongs here: figures from arrays and frames. Does not belong here: which targets are withheld
(``holdout.py``), loops (``compare.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy import sparse

from calibration_core.common.columns import Design
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PoolProblem
from pipeline.reports.fit import smallest, weight_summary
from pipeline.targets.standard_errors import MARGIN_90
from pipeline.vocabulary import TARGET_KEY, USD
from pipeline.weights.problem import StateProblem

ALL_LEVELS = "all"
CAP = 1.0


@dataclass(frozen=True, eq=False)
class TargetSet:
    """Targets to measure against, in the order of ``frame``: levels from the top, then areas, then
    variables.

    Attributes
    ----------
    tree : of the state.
    designs : per level, (records, variables) float64.
    places : per level, (targets of the level, 2) int64: area and variable of each.
    frame : level, geoid, variable, domain, family, unit, value, margin_standard_error, contribution
        (largest of a single record at its prior weight, in the target's unit), zero, degenerate,
        truth (null where not known); one row per target.
    """

    tree: GeographyTree
    designs: tuple[Design, ...]
    places: tuple[np.ndarray, ...]
    frame: pl.DataFrame

    def fitted(self, leaf: np.ndarray, record: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(targets,) float64: weighted totals of pairs. ``leaf``, ``record`` (pairs,) int64,
        ``weight`` (pairs,) float64.
        """
        pieces = []
        for depth, (design, place) in enumerate(zip(self.designs, self.places, strict=True)):
            area = self.tree.ancestor_of_leaves(depth)[leaf]
            shape = (self.tree.sizes[depth], design.shape[0])
            totals = sparse.csr_matrix((weight, (area, record)), shape=shape) @ design
            pieces.append(totals[place[:, 0], place[:, 1]])
        return np.concatenate(pieces) if pieces else np.zeros(0)


def target_set(
    problem: StateProblem,
    targets: pl.DataFrame,
    use: Sequence[np.ndarray],
    pool: PoolProblem,
    truth: pl.DataFrame | None = None,
) -> TargetSet:
    """The targets of ``problem`` that ``use`` marks (per level, (areas, variables) bool), with
    their rows in ``targets``.

    ``pool`` gives the initial weights of records; ``truth`` has level, geoid, variable, domain,
    truth.
    """
    designs, places, rows, contributions = [], [], [], []
    for depth, (row, chosen) in enumerate(zip(problem.grid.rows, use, strict=True)):
        columns = np.flatnonzero(chosen.any(axis=0))
        design = problem.targets.designs[depth][:, columns]
        place = np.argwhere(chosen[:, columns]).astype(np.int64)
        designs.append(design)
        places.append(place)
        rows.append(row[:, columns][place[:, 0], place[:, 1]])
        contributions.append(_largest_contribution(pool, depth, design)[place[:, 0], place[:, 1]])
    frame = targets[np.concatenate(rows)].select(
        *TARGET_KEY, "family", "unit", "value", "margin_standard_error"
    )
    frame = frame.with_columns(
        contribution=pl.Series(np.concatenate(contributions), dtype=pl.Float64)
    ).with_columns(zero=pl.col("value").abs() < smallest())
    frame = frame.with_columns(
        degenerate=~pl.col("zero") & (pl.col("value").abs() < pl.col("contribution"))
    )
    if truth is None:
        frame = frame.with_columns(truth=pl.lit(None, pl.Float64))
    else:
        frame = frame.join(
            truth.select(*TARGET_KEY, "truth"), on=TARGET_KEY, how="left", maintain_order="left"
        )
    return TargetSet(problem.tree, tuple(designs), tuple(places), frame)


def _largest_contribution(pool: PoolProblem, depth: int, design: Design) -> np.ndarray:
    """(areas, variables): max over records of |contribution| times the record's prior weight in the
    area. A record's prior is the same in all areas up to its group's share, so the largest of each
    group, times that share, is enough.
    """
    size = pool.leaf_prior.shape[1]
    weighted = np.abs(np.asarray(design)) * pool.record_prior[:, None]
    of_group = np.zeros((size, design.shape[1]))
    np.maximum.at(of_group, pool.group, weighted)
    share = pool.tree.sum_leaves(pool.leaf_prior, depth)
    return np.stack(
        [
            (share[area][:, None] * of_group).max(axis=0, initial=0.0)
            for area in range(share.shape[0])
        ]
    )


def error_rows(targets: TargetSet, fitted: np.ndarray, by_family: bool = False) -> list[dict]:
    """A dictionary of figures for each level and for all of them (``level`` "all"); with
    ``by_family`` also for each family of each level.
    """
    frame = targets.frame
    level, family = frame["level"].to_numpy(), frame["family"].to_numpy()
    columns = _Columns.of(frame)
    rows = []
    for name in (*dict.fromkeys(level), ALL_LEVELS):
        here = np.ones(level.size, dtype=bool) if name == ALL_LEVELS else level == name
        rows.append({"level": name, "family": None, **_figures(columns, fitted, here)})
        if by_family:
            rows += [
                {
                    "level": name,
                    "family": each,
                    **_figures(columns, fitted, here & (family == each)),
                }
                for each in sorted(set(family[here]))
            ]
    return rows


@dataclass(frozen=True, eq=False)
class _Columns:
    value: np.ndarray
    margin: np.ndarray
    zero: np.ndarray
    degenerate: np.ndarray
    amount: np.ndarray
    truth: np.ndarray

    @classmethod
    def of(cls, frame: pl.DataFrame) -> _Columns:
        margin = frame["margin_standard_error"].fill_null(np.nan).to_numpy()
        # A controlled figure has a margin of zero, which says nothing of its error.
        margin = MARGIN_90 * np.where(margin > 0, margin, np.nan)
        return cls(
            frame["value"].to_numpy(),
            margin,
            frame["zero"].to_numpy(),
            frame["degenerate"].to_numpy(),
            (frame["unit"] == USD).to_numpy(),
            frame["truth"].fill_null(np.nan).to_numpy(),
        )


def _figures(columns: _Columns, fitted: np.ndarray, here: np.ndarray) -> dict:
    value, f = columns.value[here], fitted[here]
    error, zero, degenerate = np.abs(f - value), columns.zero[here], columns.degenerate[here]
    are = error[~zero] / np.abs(value[~zero])
    sound = error[~zero & ~degenerate] / np.abs(value[~zero & ~degenerate])
    margin = columns.margin[here]
    known = np.isfinite(margin)
    figures = {
        "targets": int(value.size),
        "zero_targets": int(zero.sum()),
        "degenerate_targets": int(degenerate.sum()),
        "mean_are": _mean(are),
        "median_are": _median(are),
        "worst_are": float(are.max()) if are.size else None,
        "mean_are_without_degenerate": _mean(sound),
        "median_are_without_degenerate": _median(sound),
        **{
            f"share_within_{percent}pct": _mean((are <= percent / 100).astype(np.float64))
            for percent in (1, 5, 10)
        },
        "with_published_margin": int(known.sum()),
        "share_inside_margin": _mean((error <= margin)[known].astype(np.float64)),
        "capped_loss": capped_loss(value, f, columns.amount[here]),
    }
    truth = columns.truth[here]
    scored = np.isfinite(truth) & ~zero & (np.abs(truth) > 0)
    if np.isfinite(columns.truth).any():
        against = np.abs(f - truth)[scored] / np.abs(truth[scored])
        figures |= {
            "with_truth": int(scored.sum()),
            "mean_are_truth": _mean(against),
            "median_are_truth": _median(against),
        }
    return figures


def capped_loss(value: np.ndarray, fitted: np.ndarray, amount: np.ndarray) -> float | None:
    """The capped loss of the module's docstring; ``amount`` marks dollar targets. None without
    targets.
    """
    if not value.size:
        return None
    size = np.maximum(np.abs(value), 1.0)
    weight = np.sqrt(size)
    for basis in (amount, ~amount):
        if basis.any():
            weight[basis] /= weight[basis].sum()
    return float((weight * np.minimum(np.abs(fitted - value) / size, CAP)).sum() / weight.sum())


def weight_figures(record: np.ndarray, weight: np.ndarray) -> dict[str, float | int]:
    """``weight_summary`` of pairs: pairs, records, sum_of_weights, ess, design_effect, smallest and
    largest weight and shares.
    """
    return weight_summary(pl.DataFrame({"household_id": record, "weight": weight}))


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if values.size else None
