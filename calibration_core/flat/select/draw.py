"""Drawing exactly k records across cells: probabilities, the draw, the starting weights, and what
the cells lost.

Two designs. ``systematic``: the cells' counts are rounded, then each cell is drawn systematically
along its records sorted by the continuous rows, from a random start conditioned on the count. With
share f + r (f whole, 0 <= r < 1) and start u, the points u, u + 1, ... below the share are f + 1
where u < r and f elsewhere. The start is drawn on that side, so over both roundings it is uniform
and the inclusion probability of every record is exactly pi_i (Madow, Annals of Mathematical
Statistics 20 (1949) 333-354; Tille, Sampling Algorithms, 2006, section 7.1). The starts of the
pools are spread evenly over their range (Latin hypercube: McKay, Beckman and Conover, Technometrics
21 (1979) 239-245), so that errors of the pools cancel; each is uniform. ``balanced``: the cube
method on records, with counts of cells within rounding and Horvitz-Thompson totals of all targets
held. Starting weights are w_i / pi_i, scaled so that each pool of cells keeps its mass.

With several draws the one whose totals are closest before any refinement is kept; then pi_i is the
design of each draw, not of the best one.

Belongs here: the draw as a whole. Does not belong here: calibration afterwards (``refit.py``),
which weights are drawn by (``methods/``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from calibration_core.common.digits import SUM_BITS, rounded
from calibration_core.flat.cells import RecordCells, categorical_rows, pool_thin, record_cells
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.select.cell_allocation import carried_mass
from calibration_core.flat.select.repair import Repairable, repair
from calibration_core.sampling.cube import cube
from calibration_core.sampling.loops import systematic_points
from calibration_core.sampling.probabilities import inclusion_probabilities
from calibration_core.sampling.rounding import round_balanced

# Entries of a table of margins by pools, and pools x margins squared, beyond which pools are
# rounded in their order alone (systematic), which balances every leading margin.
_WHOLE = 1e-9
_MARGIN_ENTRIES, _BALANCE_WORK = 4_000_000, 5e7
# A draw is better than another if its error is smaller by more than rounding.
_BETTER = 1.0 - 1e-9


@dataclass(frozen=True, eq=False)
class Draw:
    """Exactly k records.

    Attributes
    ----------
    selected : (k,) int64, ascending.
    starting : (records,) float64: starting weights, zero off the selection.
    probability : (records,) float64 inclusion probabilities of the design.
    cell, pool : (records,) int64 cell and pool of each record.
    cells, pools : their numbers.
    cells_without_record : cells with weight that got no record.
    mass_moved : share of all weight that lay in them and is carried by other records of the pool,
        or of the nearest pool.
    pools_without_record, pool_mass_moved : the same of pools.
    exchanges : made within pools after the draw.
    error : root mean square relative error of all targets with the starting weights.
    source : where the cells come from (see ``RecordCells``).
    """

    selected: np.ndarray
    starting: np.ndarray
    probability: np.ndarray
    cell: np.ndarray
    pool: np.ndarray
    cells: int
    pools: int
    cells_without_record: int
    mass_moved: float
    pools_without_record: int
    pool_mass_moved: float
    exchanges: int
    error: float
    source: str

    @property
    def details(self) -> dict:
        """Figures for ``CalibrationResult.details``."""
        names = (
            "cells",
            "pools",
            "cells_without_record",
            "mass_moved",
            "pools_without_record",
            "pool_mass_moved",
            "exchanges",
        )
        return {
            "cells_from": self.source,
            **{name: getattr(self, name) for name in names},
            "error_after_selection": self.error,
        }


def draw_records(
    problem: CalibrationProblem,
    weights: np.ndarray,
    k: int,
    seed: int,
    *,
    design: str = "systematic",
    draws: int = 1,
    thin: float = 1.0,
    sweeps: int = 0,
    totals: np.ndarray | None = None,
) -> Draw:
    """Draw exactly ``k`` records with probability proportional to ``weights``.

    Parameters
    ----------
    problem : for its matrix and cells.
    weights : (records,) >= 0; a record of weight zero is never drawn.
    k : 1 to the number of positive weights.
    seed : the draws depend on it, on the weights, and on the position of records.
    design : "systematic" or "balanced" (see above).
    draws : tentative draws, the best of which is kept.
    thin : cells expecting fewer records than this are pooled.
    sweeps : passes of exchanges within pools after the draw that is kept (``repair.py``); 0 keeps
        the probabilities of the design exact.
    totals : (targets,) what draws are judged against; default the problem's targets.

    Raises
    ------
    BudgetError : fewer than k positive weights.
    """
    return _Design(
        problem,
        np.asarray(weights, dtype=np.float64),
        k,
        thin,
        problem.targets if totals is None else totals,
    ).best(seed, design, draws, sweeps)


def relative_error(problem: CalibrationProblem, weights: np.ndarray, totals: np.ndarray) -> float:
    """Root mean square over targets of (A w - totals) / size of the target."""
    return float(
        np.sqrt((((problem.matrix.totals(weights) - totals) / problem.relative_scale) ** 2).mean())
    )


class _Design:
    def __init__(
        self,
        problem: CalibrationProblem,
        weights: np.ndarray,
        k: int,
        thin: float,
        totals: np.ndarray,
    ) -> None:
        self.problem, self.weights, self.k, self.totals = problem, weights, k, totals
        self.probability = inclusion_probabilities(weights, k)
        self.cells: RecordCells = record_cells(problem)
        self.code = self.cells.code
        self.share = np.bincount(self.code, self.probability, self.cells.count)
        self.pool_of_cell = pool_thin(self.cells, self.share, thin)
        self.pool = self.pool_of_cell[self.code]
        self.pools = int(self.pool_of_cell[-1]) + 1
        share = np.bincount(self.pool, self.probability, self.pools)
        # A sum of thousands of probabilities that is whole but for rounding is whole.
        self.pool_share = np.where(np.abs(share - np.rint(share)) <= _WHOLE, np.rint(share), share)
        self.categorical = categorical_rows(problem.matrix)
        self.order = self._sort()

    def _sort(self) -> np.ndarray:
        """Records by pool, cell, and the size of what they add to the continuous targets."""
        scale = np.where(self.categorical, 0.0, 1.0 / self.problem.relative_scale)
        # Rounded: the last bits of sums differ between processors, and equals go by their number.
        size = rounded(self.problem.matrix.exponents(scale), SUM_BITS)
        return np.lexsort((np.arange(self.weights.size), size, self.code))

    def best(self, seed: int, design: str, draws: int, sweeps: int) -> Draw:
        draw = self._systematic if design == "systematic" else self._balanced
        trials = (
            self._conclude(np.sort(draw(np.random.default_rng([seed, number]))), 0)
            for number in range(draws)
        )
        best = next(trials)
        for trial in trials:
            if trial.error < best.error * _BETTER:
                best = trial
        return self._conclude(*self._repair(best.selected, sweeps)) if sweeps else best

    def _systematic(self, generator: np.random.Generator) -> np.ndarray:
        share = self.pool_share
        counts = round_balanced(share, self._margins, generator)
        path = self.order[self.probability[self.order] > 0]
        pool, cumulative = self.pool[path], np.cumsum(self.probability[path])
        ends = np.searchsorted(pool, np.arange(self.pools), side="right")
        begins = np.concatenate([[0], ends[:-1]])
        # Uniform for each pool, evenly spread over the pools (a Latin hypercube): where one starts
        # low in its list, another starts high.
        uniform = (generator.permutation(self.pools) + generator.random(self.pools)) / self.pools
        chosen = []
        for p in np.flatnonzero(counts):
            first, last = int(begins[p]), int(ends[p])
            before = cumulative[first - 1] if first else 0.0
            # The stretch is scaled to its share exactly, so that rounding of the running sum cannot
            # gain or lose a point.
            along = cumulative[first:last] - before
            along *= share[p] / along[-1]
            whole = np.floor(share[p] + 1e-9)
            rest = min(max(share[p] - whole, 0.0), 1.0)
            start = uniform[p] * rest if counts[p] > whole else rest + uniform[p] * (1.0 - rest)
            chosen.append(path[first + systematic_points(along, start, int(counts[p]))])
        return np.concatenate(chosen)

    @cached_property
    def _margins(self) -> np.ndarray | None:
        """(pools, categorical rows): expected contribution of one record drawn in the pool; None
        where that would be large.
        """
        rows = np.flatnonzero(self.categorical)
        if rows.size == 0 or self.pools * rows.size > _MARGIN_ENTRIES:
            return None
        if self.pools * rows.size**2 > _BALANCE_WORK:
            return None
        n = self.weights.size
        member = sparse.csr_array(
            (self.probability, (self.pool, np.arange(n))), shape=(self.pools, n)
        )
        out = member @ self.problem.matrix.by_record
        out = (out.toarray() if sparse.issparse(out) else out)[:, rows]
        return out / np.where(self.pool_share > 0, self.pool_share, 1.0)[:, None]

    def _balanced(self, generator: np.random.Generator) -> np.ndarray:
        open_units = np.flatnonzero((self.probability > 0) & (self.probability < 1))
        certain = np.flatnonzero(self.probability >= 1)
        if open_units.size == 0:
            return certain
        # Random order within cells: the flight visits units in order, and a fixed one would tie
        # neighbours together.
        open_units = open_units[
            np.lexsort((generator.random(open_units.size), self.code[open_units]))
        ]
        probability = self.probability[open_units]
        probability = np.minimum(probability * ((self.k - certain.size) / probability.sum()), 1.0)
        part = self.problem.matrix.by_record[open_units]
        rows = (
            part.toarray() if self.problem.matrix.is_sparse else part
        ) / self.problem.relative_scale
        # Targets that many records carry come first: they can be held to the end.
        first = np.argsort(-self.problem.matrix.support, kind="stable")
        rows = rows[:, first] * (self.weights[open_units] / self.probability[open_units])[:, None]
        levels = [self.code[open_units], self.pool[open_units]]
        return np.concatenate([certain, open_units[cube(probability, rows, levels, generator)]])

    def _repair(self, selected: np.ndarray, sweeps: int) -> tuple[np.ndarray, int]:
        contribution = np.divide(
            self.weights,
            self.probability,
            out=np.zeros_like(self.weights),
            where=self.probability > 0,
        )
        design = Repairable(
            self.problem.matrix,
            contribution,
            self.probability,
            self.pool,
            self.totals,
            self.problem.relative_scale,
        )
        return repair(design, selected, sweeps)

    def _conclude(self, selected: np.ndarray, exchanges: int) -> Draw:
        starting = np.zeros_like(self.weights)
        starting[selected] = self.weights[selected] / self.probability[selected]
        pool_mass = np.bincount(self.pool, self.weights, self.pools)
        in_pool = np.bincount(self.pool[selected], minlength=self.pools)
        first_cell = np.searchsorted(self.pool_of_cell, np.arange(1, self.pools))
        carried, pool_moved = carried_mass(pool_mass, in_pool, self.cells.affinity[first_cell - 1])
        held = np.bincount(self.pool, starting, self.pools)
        starting *= np.divide(carried, held, out=np.zeros_like(held), where=held > 0)[self.pool]
        cell_mass = np.bincount(self.code, self.weights, self.cells.count)
        lost = (np.bincount(self.code[selected], minlength=self.cells.count) == 0) & (cell_mass > 0)
        total = float(self.weights.sum())
        return Draw(
            selected=selected,
            starting=starting,
            probability=self.probability,
            cell=self.code,
            pool=self.pool,
            cells=self.cells.count,
            pools=self.pools,
            cells_without_record=int(lost.sum()),
            mass_moved=float(cell_mass[lost].sum() / total),
            pools_without_record=int(pool_moved.sum()),
            pool_mass_moved=float(pool_mass[pool_moved].sum() / total),
            exchanges=exchanges,
            error=relative_error(self.problem, starting, self.totals),
            source=self.cells.source,
        )
