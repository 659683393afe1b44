"""The seed paper's method over pairs: records at random across the cells of each leaf, then
iterative proportional fitting of its counts.

The paper's ("Sparse Calibration for Microdata Synthesis", section 9), within each leaf:
* a cell with dense weight gets max(1, int(share x k)) records, share its part of the leaf's dense
  weight, drawn at random within it;
* a drawn record weighs the mass of its cell over the number drawn from it;
* weights are fitted to the leaf's categorical targets by proportional fitting, one target after
  another, sweep after sweep.

Ours, because the paper's rule misses k and knows one area only:
* the counts are brought to exactly k: cells furthest below share x k get one more each as far as
  they have records, cells furthest above lose one each, their last if need be. The mass of a cell
  without a record goes to the others in proportion;
* rows of counts (persons of a household) are fitted by generalised iterative scaling (Darroch and
  Ratcliff, Annals of Mathematical
  Statistics 43, 1972, 1470-1480), which for rows of zeros and ones is proportional fitting:  w_i <-
  w_i (b / a.w)^(a_i / max a);
* each sweep ends by scaling the leaf to its dense total, which published margins rarely add up to.

What the rule would have drawn, the mass moved, targets no drawn record can meet, and leaves whose
margins were not met are warnings. Levels above the leaf, amounts and rows with negative entries are
not fitted: the paper's method has nothing for them. There is no gradient refit, and ``refine`` of
the task is not used.

Belongs here: this method. Does not belong here: draws by dense weight, refits over the tree.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from calibration_core.common.counts import split_units
from calibration_core.common.warnings import CalibrationWarning
from calibration_core.errors import SettingsError
from calibration_core.sampling.rounding import largest_remainders
from calibration_core.tree.rivals.refit import side_by_side
from calibration_core.tree.rivals.task import PairOutcome, PairTask

# Leaves fitted together: their weights stay in a core's cache.
_LEAVES_AT_A_TIME = 64
# No fitted weight falls below this share of its starting weight: a target of zero would else take
# records out, and k would not hold.
_LEAST_RATIO = 1e-6


@dataclass(frozen=True)
class Settings:
    """Attributes: ``sweeps`` most sweeps over the targets; ``settled`` largest relative change of a
    weight over a sweep at which a leaf is done; ``tolerance`` relative error under which a margin
    counts as met.
    """

    sweeps: int = 200
    settled: float = 1e-7
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        if self.sweeps < 1 or not 0 < self.settled < 1 or not 0 < self.tolerance < 1:
            raise SettingsError(
                f"sweeps is {self.sweeps}, settled {self.settled:g}, tolerance {self.tolerance:g}",
                expected="at least 1, and between 0 and 1 for both others",
            )


_STANDARD = Settings()


def run(task: PairTask, settings: Settings = _STANDARD) -> PairOutcome:
    """Draw across cells, fit the leaves' categorical margins."""
    began = time.perf_counter()
    kinds = task.pool.cells
    chosen: list[np.ndarray] = []
    weights: list[np.ndarray] = []
    by_rule, lost_cells, lost_mass = 0, 0, 0.0
    off = 0
    for leaf, count in enumerate(task.pairs_per_area):
        dense = task.pool.table[leaf]
        mass = np.bincount(task.pool.cell, weights=dense, minlength=kinds)
        room = np.bincount(task.pool.cell[dense > 0], minlength=kinds)
        paper, exact = cell_counts(mass, room, int(count))
        by_rule, off = by_rule + int(paper.sum()), off + int(paper.sum() != count)
        generator = np.random.default_rng([task.seed, leaf])
        per_cell = [
            generator.choice(
                np.flatnonzero((task.pool.cell == c) & (dense > 0)),
                size=int(exact[c]),
                replace=False,
            )
            for c in np.flatnonzero(exact)
        ]
        drawn = np.sort(np.concatenate([np.empty(0, dtype=np.int64), *per_cell]))
        without = (mass > 0) & (exact == 0)
        lost_cells, lost_mass = (
            lost_cells + int(without.sum()),
            lost_mass + float(mass[without].sum()),
        )
        chosen.append(drawn)
        weights.append((mass / np.maximum(exact, 1))[task.pool.cell[drawn]])
    leaves, record, starting = side_by_side(task, chosen, weights)
    selected = time.perf_counter()
    fit = _fit_leaves(task, record, starting, settings)
    warnings = []
    if by_rule != task.pairs:
        total = float(task.pool.table.sum())
        text = (
            f"The paper's rule would have drawn {by_rule:,} pairs for a k of {task.pairs:,}"
            f" ({by_rule / task.pairs - 1:+.1%}), and another number in {off:,} leaves; brought to"
            f" k, {lost_cells:,} cells of leaves have no pair and {lost_mass / total:.2%} of the"
            " weight moved to other cells."
        )
        warnings.append(CalibrationWarning("budget_missed_by_rule", text, size=float(by_rule)))
    if fit.unsupported:
        text = (
            f"{fit.unsupported:,} categorical targets of leaves cannot be met: no drawn record"
            " contributes."
        )
        warnings.append(CalibrationWarning("unsupported_target", text, size=fit.unsupported))
    if fit.missed:
        text = (
            f"{fit.missed:,} of {fit.targets:,} categorical targets of leaves that a drawn record"
            f" contributes to are missed by more than {settings.tolerance:g}."
        )
        warnings.append(CalibrationWarning("targets_missed", text, size=fit.missed))
    if fit.floored:
        text = (
            f"{fit.floored:,} pairs stand at {_LEAST_RATIO:g} of their starting weight, the least"
            " allowed."
        )
        warnings.append(CalibrationWarning("negligible_weights", text, size=fit.floored))
    met = not (fit.missed or fit.unsupported)
    status = (
        "every categorical target of the leaves is met"
        if met
        else f"{fit.missed + fit.unsupported:,} categorical targets of the leaves are missed"
    )
    return PairOutcome(
        "cross_category",
        leaves,
        record,
        starting,
        fit.weights,
        selected - began,
        time.perf_counter() - selected,
        met,
        status,
        tuple(warnings),
    )


def cell_counts(mass: np.ndarray, room: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Records per cell of one leaf: what the paper's rule says, and the same brought to exactly
    ``count``.

    Parameters
    ----------
    mass : (cells,) float64 >= 0 dense weight.
    room : (cells,) int64 records of positive dense weight, summing to at least ``count``.

    Returns
    -------
    rule, exact : (cells,) int64. The rule knows no room; ``exact`` keeps to it, and ties go to the
        earlier cell.
    """
    here = mass > 0
    if not here.any():
        return np.zeros(mass.size, dtype=np.int64), np.zeros(mass.size, dtype=np.int64)
    wanted = mass / mass.sum() * count
    rule = np.where(here, np.maximum(1, np.floor(wanted + 1e-9)), 0).astype(np.int64)
    exact = largest_remainders(wanted, count, np.zeros(mass.size, np.int64), room, start=rule)
    return rule, exact


def count_rows(design: np.ndarray) -> np.ndarray:
    """Indices of the columns of (records, variables) that are categories or counts
    (``common/counts.py``).
    """
    return np.flatnonzero(split_units(np.array(design, dtype=np.float64)).counts)


@dataclass(frozen=True, eq=False)
class _Fit:
    weights: np.ndarray
    targets: int
    missed: int
    unsupported: int
    floored: int


def _fit_leaves(
    task: PairTask, record: np.ndarray, starting: np.ndarray, settings: Settings
) -> _Fit:
    """Sweep the leaves a span at a time; pairs are padded to the longest leaf of the span with
    weight zero.
    """
    targets, totals = task.pool.targets, task.pool.totals
    own = np.asarray(targets.designs[-1])
    rows = count_rows(own)
    design, goals = own[:, rows], targets.values[-1][:, rows]
    used = np.isfinite(targets.scales[-1][:, rows])
    begin = np.concatenate([[0], np.cumsum(task.pairs_per_area)])
    out = starting.copy()
    counts = np.zeros(4, dtype=np.int64)
    for first in range(0, task.pairs_per_area.size, _LEAVES_AT_A_TIME):
        span = np.arange(first, min(first + _LEAVES_AT_A_TIME, task.pairs_per_area.size))
        slot = np.arange(int(task.pairs_per_area[span].max(initial=0)))
        here = slot[None, :] < task.pairs_per_area[span][:, None]
        if not here.any():
            continue
        pairs = np.where(here, begin[span][:, None] + slot[None, :], 0)
        start = np.where(here, starting[pairs], 0.0)
        # (targets, leaves, pairs): a target of all leaves is one block.
        x = np.ascontiguousarray((design[record[pairs]] * here[:, :, None]).transpose(2, 0, 1))
        weights, *found = _sweep(start, x, goals[span].T, used[span].T, totals[span], settings)
        out[pairs[here]] = weights[here]
        counts += found
    return _Fit(out, *(int(c) for c in counts))


def _sweep(
    start, x, goals, used, totals, settings: Settings
) -> tuple[np.ndarray, int, int, int, int]:
    """Fitted weights (leaves, pairs), targets that can be met, those missed, targets without a
    record, weights at the least ratio.
    """
    most = x.max(axis=2)
    live = used & (most > 0)
    power = x / np.where(most > 0, most, 1.0)[:, :, None]
    weights, least = start.copy(), start * _LEAST_RATIO
    for _ in range(settings.sweeps):
        before = weights
        for j in np.flatnonzero(live.any(axis=1)):
            total = (weights * x[j]).sum(axis=1)
            ratio = np.where(live[j], np.maximum(goals[j], 0.0), total) / np.where(
                total > 0, total, 1.0
            )
            weights = np.maximum(
                weights * np.where(total > 0, ratio, 1.0)[:, None] ** power[j], least
            )
        weights = weights * (totals / np.where(totals > 0, weights.sum(axis=1), 1.0))[:, None]
        if (np.abs(weights - before) <= settings.settled * before).all():
            break
    fitted = np.einsum("jlp,lp->jl", x, weights)
    missed = live & (np.abs(fitted - goals) > settings.tolerance * np.maximum(np.abs(goals), 1.0))
    bare = used & (most <= 0) & (goals > 0)
    return (
        weights,
        int(live.sum()),
        int(missed.sum()),
        int(bare.sum()),
        int(((start > 0) & (weights <= 1.5 * least)).sum()),
    )
