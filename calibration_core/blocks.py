"""What both forms of records share: designs as tensors, the chain of ancestors of every leaf, scales.

Multipliers come per level, top first, already divided by their scales (D y); u of a pair is the sum over levels of its design row
times its area's multipliers, and its weight is q G(u) (``link.py``). Both forms answer in torch float64 on the chosen device:

    evaluate(multipliers, link)            totals per level and sum q H(u)
    factor(multipliers, link, ridge)       Cholesky factors of the dual Hessian, an ArrowFactor
    largest_rise(multipliers, direction)   how far a step would push exponents up
    weights(multipliers, link)             the weights themselves

Belongs here: bookkeeping common to ``pool_blocks.py`` and ``pair_blocks.py``. Does not belong here: passes over records, the linear
solve (``arrow.py``), the iteration (``tree_newton.py``).
"""

from __future__ import annotations

import numpy as np
import torch

from calibration_core.geography import GeographyTree


class TreeBlocks:
    """Designs, scales and the tree's indices on one device.

    Attributes
    ----------
    designs : per level, (records, variables) float64.
    inverse : per level, (areas, variables) float64 1 / scale, 0 where there is no target.
    parents : per level, (areas,) int64 index of the parent; ``parent`` is that of the leaves.
    widths : number of variables of each level above the leaves, nearest first.
    upper : (records, sum of widths) designs above the leaves side by side, nearest first; None for a tree of one level.
    place : (sum of widths,) int64: which of the ``distinct`` columns, (records, distinct), each column of ``upper`` is. A variable with
        targets at several levels is one column; couplings with levels above are held by distinct column.
    prior_total : sum of prior weights.
    """

    def __init__(self, tree: GeographyTree, designs: tuple[np.ndarray, ...], scales: tuple[np.ndarray, ...], device: str) -> None:
        self.tree, self.device = tree, torch.device(device)
        self.designs = [self.send(d) for d in designs]
        self.inverse = [self.send(np.where(np.isfinite(s), 1.0 / s, 0.0)) for s in scales]
        self.parents = [torch.as_tensor(p, device=self.device) for p in tree.parents]
        self.parent = self.parents[-1]
        self.widths = tuple(d.shape[1] for d in reversed(designs[:-1]))
        self.upper = torch.cat([*reversed(self.designs[:-1])], dim=1) if len(designs) > 1 else None
        self.distinct, self.place = self.upper, torch.arange(sum(self.widths), device=self.device)
        self.prior_total = 0.0

    def send(self, array: np.ndarray) -> torch.Tensor:
        """An array as a float64 tensor on the device."""
        return torch.tensor(np.ascontiguousarray(array), dtype=torch.float64, device=self.device)

    def chain(self, per_level: list[torch.Tensor]) -> torch.Tensor:
        """Rows of each chain of ancestors side by side, nearest first, one row per node just above the leaves: (nodes, sum of widths)."""
        rows, index = [], torch.arange(self.tree.sizes[-2], device=self.device)
        for depth in range(len(per_level) - 2, -1, -1):
            rows.append(per_level[depth][index])
            if depth:
                index = self.parents[depth][index]
        return torch.cat(rows, dim=1)

    def gather(self, chained: torch.Tensor) -> torch.Tensor:
        """Sum what belongs to one distinct column: (nodes, sum of widths) to (nodes, distinct)."""
        total = torch.zeros((chained.shape[0], self.distinct.shape[1]), dtype=chained.dtype, device=self.device)
        return total.index_add_(1, self.place, chained)
