"""Dense weights from what determines them: the prior and a rate for every target.

At the solution of a calibration the weight of record h in leaf t is

    w_th = q_th G( sum over levels l and variables v of  x_hv rate_l[area of t, v] ) ,

G(u) = exp(u) without bounds (J.-C. Deville and C.-E. Saerndal, JASA 87, 1992). The rates of 9,129
tracts are a table of a few megabytes; their weights would be one of gigabytes, and follow from it
whenever they are needed. A rate is a price: what one more unit of its variable adds to the
logarithm of a record's weight there.

Belongs here: weights of an area from rates. Does not belong here: finding the rates
(``solve/newton.py``), how blocks are used (``common/area_weights.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from calibration_core.common.area_weights import AreaWeights, Block
from calibration_core.common.distances import Raking
from calibration_core.errors import ProblemError
from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.solve.link import Link

# Pairs of a block: 8 MB of weights.
_PAIRS = 1_000_000


class MultiplierWeights(AreaWeights):
    """Weights of a PoolProblem, made when they are read.

    Parameters
    ----------
    problem : with its prior weights, designs and neighbourhoods.
    rates : per level, (areas, variables) float64, per unit of a contribution; ``TreeNewtonResult``
        has them.
    link : G; by default the exponential.

    Raises
    ------
    ProblemError : rates of another shape than the targets, or not finite.
    """

    def __init__(
        self, problem: PoolProblem, rates: Sequence[np.ndarray], link: Link | None = None
    ) -> None:
        self.problem, self.rates, self.link = problem, tuple(rates), link or Raking()
        found = [np.shape(rate) for rate in self.rates]
        wanted = [scale.shape for scale in problem.targets.scales]
        if found != wanted or not all(np.isfinite(rate).all() for rate in self.rates):
            raise ProblemError(
                f"Rates of shapes {found}", expected=f"finite rates of shapes {wanted}"
            )
        self.areas, self.records = len(problem.tree.leaves), int(problem.record_prior.size)
        near = problem.near
        self.block_areas, self._near = [], []
        for number, leaves in enumerate(near.leaves):
            most = max(1, _PAIRS // max(near.record[number].size, 1))
            for part in np.array_split(leaves, max(1, -(-leaves.size // most))):
                if part.size:
                    self.block_areas.append(part)
                    self._near.append(number)
        self._above = [problem.tree.ancestor_of_leaves(depth) for depth in range(len(self.rates))]

    def block_record(self, number: int) -> np.ndarray:
        return self.problem.near.record[self._near[number]]

    def read(self, number: int) -> Block:
        problem, leaves, near = self.problem, self.block_areas[number], self._near[number]
        record, expansion = problem.near.record[near], problem.near.expansion[near]
        exponent = np.zeros((leaves.size, record.size))
        for above, rate, design in zip(
            self._above, self.rates, problem.targets.designs, strict=True
        ):
            area, row = np.unique(above[leaves], return_inverse=True)
            columns = np.flatnonzero(rate[area].any(axis=0))
            if columns.size:
                rows = design[np.ix_(record, columns)].astype(np.float64, copy=False)
                exponent += (rate[np.ix_(area, columns)] @ rows.T)[row]
        prior = problem.leaf_prior[leaves][:, problem.group[record]]
        prior = prior * (problem.record_prior[record] * expansion)
        ratio = self.link.ratio(torch.from_numpy(exponent)).numpy()
        return Block(leaves, record, ratio * prior)
