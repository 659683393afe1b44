"""What a solver needs from records: the argument u of each pair, fitted totals, curvature blocks; in two forms.

Multipliers come per level, top first, in the problem's own units; u of a pair is the sum over levels of its design row
times its area's multipliers, and its weight is q G(u) (``link.py``). Both forms answer in torch float64 on the chosen device.

Belongs here: passes over records. Does not belong here: the linear solve (``arrow.py``) or the iteration (``tree_newton.py``).
"""

from __future__ import annotations

import numpy as np
import torch

from calibration_core.arrow import ArrowMatrix
from calibration_core.geography import GeographyTree
from calibration_core.problem import PairProblem, PoolProblem


class _TreeBlocks:
    """Shared bookkeeping: designs as tensors, leaf-to-ancestor indices, scaling of columns by 1 / scale."""

    def __init__(self, tree: GeographyTree, designs: tuple[np.ndarray, ...], scales: tuple[np.ndarray, ...], device: str) -> None:
        self.tree, self.device = tree, torch.device(device)
        self.designs = [torch.as_tensor(d, dtype=torch.float64, device=self.device) for d in designs]
        self.inverse = [torch.as_tensor(np.where(np.isfinite(s), 1.0 / s, 0.0), dtype=torch.float64, device=self.device) for s in scales]
        self.ancestor = [torch.as_tensor(tree.ancestor_of_leaves(d), device=self.device) for d in range(len(tree.levels))]
        self.widths = tuple(d.shape[1] for d in reversed(designs[:-1]))
        self.upper = torch.cat([*reversed(self.designs[:-1])], dim=1) if len(designs) > 1 else None

    def _chain(self, per_level: list[torch.Tensor]) -> torch.Tensor:
        """Rows of each chain of ancestors side by side, nearest first, one row per node just above the leaves: (nodes, pa)."""
        rows, index = [], torch.arange(self.tree.sizes[-2], device=self.device)
        for depth in range(len(per_level) - 2, -1, -1):
            rows.append(per_level[depth][index])
            if depth:
                index = torch.as_tensor(self.tree.parents[depth], device=self.device)[index]
        return torch.cat(rows, dim=1)

    def _up(self, leaf_totals: torch.Tensor, depth: int) -> torch.Tensor:
        total = torch.zeros((self.tree.sizes[depth], leaf_totals.shape[1]), dtype=torch.float64, device=self.device)
        return total.index_add_(0, self.ancestor[depth], leaf_totals)

    def _scaled(self, leaf: torch.Tensor, cross: torch.Tensor | None, border: torch.Tensor | None) -> ArrowMatrix:
        inv = self.inverse[-1]
        leaf = leaf * inv[:, :, None] * inv[:, None, :]
        if self.upper is None or cross is None or border is None:
            return ArrowMatrix(leaf, torch.zeros((leaf.shape[0], leaf.shape[1], 0), dtype=torch.float64), torch.zeros(0), ())
        chain = self._chain(self.inverse)
        parent = torch.as_tensor(self.tree.parents[-1], device=self.device)
        cross = cross * inv[:, :, None] * chain[parent][:, None, :]
        border = border * chain[:, :, None] * chain[:, None, :]
        return ArrowMatrix(leaf, cross, border, self.widths)


class PoolBlocks(_TreeBlocks):
    """Passes over a shared pool: weights are a (leaves, records) matrix."""

    def __init__(self, problem: PoolProblem, device: str = "cpu") -> None:
        super().__init__(problem.tree, problem.targets.designs, problem.targets.scales, device)
        self.prior = torch.as_tensor(problem.prior(), dtype=torch.float64, device=self.device)
        self._single, self._column = self._distinct_columns(problem.targets.designs)

    def _distinct_columns(self, designs: tuple[np.ndarray, ...]) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        """Columns above the leaves that the leaves do not have themselves (in single precision), and where each upper column is found.

        A variable with targets at several levels has the same column at each, and its curvature need be computed once.
        """
        if self.upper is None:
            return None, None
        place = {column.tobytes(): i for i, column in enumerate(designs[-1].T)}
        width, extra, index = designs[-1].shape[1], [], []
        for column in np.concatenate([d.T for d in reversed(designs[:-1])]):
            key = column.tobytes()
            if key not in place:
                place[key] = width + len(extra)
                extra.append(column)
            index.append(place[key])
        matrix = np.array(extra).reshape(len(extra), designs[-1].shape[0]).T
        single = torch.as_tensor(matrix, dtype=torch.float32, device=self.device).contiguous()
        return single, torch.as_tensor(index, dtype=torch.int64, device=self.device)

    def exponent(self, multipliers: list[torch.Tensor]) -> torch.Tensor:
        """u of every pair, (leaves, records)."""
        exponent = multipliers[-1] @ self.designs[-1].T
        if self.upper is not None:
            nearest = self._chain(multipliers) @ self.upper.T
            exponent += nearest[torch.as_tensor(self.tree.parents[-1], device=self.device)]
        return exponent

    def fitted(self, weights: torch.Tensor) -> list[torch.Tensor]:
        """Totals per level, top first."""
        answers = []
        for depth, design in enumerate(self.designs):
            if depth == len(self.designs) - 1:
                answers.append(weights @ design)
            else:
                total = torch.zeros((self.tree.sizes[depth], weights.shape[1]), dtype=torch.float64, device=self.device)
                answers.append(total.index_add_(0, self.ancestor[depth], weights) @ design)
        return answers

    def curvature(self, weights: torch.Tensor) -> ArrowMatrix:
        """Blocks of A diag(v) A' with rows divided by their scales; v is the slope dw/du of each pair."""
        own, leaves = self.designs[-1], weights.shape[0]
        width = own.shape[1]
        extra = self._single.shape[1] if self._single is not None else 0
        # The coupling with levels above is summed in single precision: it only steers the steps, while the gradient, which
        # decides where they end, and the leaf and border blocks, which keep the matrix definite, are in double.
        product = torch.empty((leaves, width, width + extra), dtype=torch.float64, device=self.device)
        weighted = torch.empty_like(own)
        for t in range(leaves):
            torch.mul(own, weights[t][:, None], out=weighted)
            product[t, :, :width] = weighted.T @ own
            if extra:
                product[t, :, width:] = weighted.to(torch.float32).T @ self._single
        if self.upper is None:
            return self._scaled(product, None, None)
        nodes = torch.zeros((self.tree.sizes[-2], weights.shape[1]), dtype=torch.float64, device=self.device)
        nodes.index_add_(0, torch.as_tensor(self.tree.parents[-1], device=self.device), weights)
        border = torch.stack([(self.upper * node[:, None]).T @ self.upper for node in nodes])
        return self._scaled(product[:, :, :width], product[:, :, self._column], border)


class PairBlocks(_TreeBlocks):
    """Passes over written-out pairs, padded to the longest leaf so that every leaf is one row of a batch."""

    def __init__(self, problem: PairProblem, device: str = "cpu") -> None:
        super().__init__(problem.tree, problem.targets.designs, problem.targets.scales, device)
        leaves = len(problem.tree.leaves)
        counts = np.bincount(problem.leaf, minlength=leaves)
        longest = int(counts.max(initial=1))
        slot = np.arange(problem.leaf.size) - np.repeat(np.cumsum(counts) - counts, counts)
        record = np.zeros((leaves, longest), dtype=np.int64)
        prior = np.zeros((leaves, longest))
        record[problem.leaf, slot], prior[problem.leaf, slot] = problem.record, problem.prior_weight
        self.position = (torch.as_tensor(problem.leaf, device=self.device), torch.as_tensor(slot, device=self.device))
        index = torch.as_tensor(record, device=self.device)
        self.prior = torch.as_tensor(prior, dtype=torch.float64, device=self.device)
        self.own = self.designs[-1][index]
        self.above = self.upper[index] if self.upper is not None else None

    def exponent(self, multipliers: list[torch.Tensor]) -> torch.Tensor:
        """u of every slot, (leaves, longest leaf); zero-weight padding included."""
        exponent = torch.einsum("tkp,tp->tk", self.own, multipliers[-1])
        if self.above is not None:
            chain = self._chain(multipliers)[torch.as_tensor(self.tree.parents[-1], device=self.device)]
            exponent = exponent + torch.einsum("tkp,tp->tk", self.above, chain)
        return exponent

    def fitted(self, weights: torch.Tensor) -> list[torch.Tensor]:
        answers = [torch.einsum("tkp,tk->tp", self.own, weights)]
        if self.above is not None:
            above = torch.einsum("tkp,tk->tp", self.above, weights)
            start = 0
            for step, width in enumerate(self.widths):
                answers.append(self._up(above[:, start : start + width], len(self.designs) - 2 - step))
                start += width
        return answers[::-1]

    def curvature(self, weights: torch.Tensor) -> ArrowMatrix:
        weighted = self.own * weights[:, :, None]
        leaf = weighted.transpose(1, 2) @ self.own
        if self.above is None:
            return self._scaled(leaf, None, None)
        cross = weighted.transpose(1, 2) @ self.above
        parent = torch.as_tensor(self.tree.parents[-1], device=self.device)
        border = torch.zeros((self.tree.sizes[-2], self.above.shape[2], self.above.shape[2]), dtype=torch.float64, device=self.device)
        for node in range(self.tree.sizes[-2]):
            members = parent == node
            rows = self.above[members].reshape(-1, self.above.shape[2])
            border[node] = (rows * weights[members].reshape(-1, 1)).T @ rows
        return self._scaled(leaf, cross, border)

    def unpad(self, weights: torch.Tensor) -> np.ndarray:
        """Weights in the problem's order of pairs."""
        return weights[self.position].cpu().numpy()
