"""Adam on the invented nation, for comparison with the engine on the same loss.

Belongs here: the nation as one flat matrix, the training. Does not belong here: Adam itself
(``calibration_core``), the table (``nested.py``).
"""

from __future__ import annotations

import time

import numpy as np
import torch
from scipy import sparse

from calibration_core.common.distances import Raking
from calibration_core.common.losses import Square
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.solve.descent import DescentSettings, RecordObjective, adam, check_device
from calibration_core.flat.solve.dual_losses import Prior
from calibration_core.flat.solve.losses import TargetLoss
from calibration_core.tree.problem import PairProblem


def flat_matrix(problem: PairProblem) -> sparse.csr_array:
    """(targets of all levels, top first; records): the same for methods that know no tree."""
    blocks = []
    for depth, design in enumerate(problem.targets.designs):
        rows = sparse.csr_array(design)
        area, width = problem.tree.ancestor_of_leaves(depth)[problem.leaf], design.shape[1]
        index = np.repeat(area * width, np.diff(rows.indptr)) + rows.indices
        blocks.append(
            sparse.csr_array(
                (rows.data, index.astype(np.int32), rows.indptr),
                shape=(design.shape[0], problem.tree.sizes[depth] * width),
            )
        )
    return sparse.hstack(blocks, format="csr").T


def train(
    problem: PairProblem, epochs: int, device: str, report
) -> tuple[np.ndarray, float, list[tuple[float, float]]]:
    """Weights after so many epochs of Adam, seconds of the epochs alone, and (seconds, loss) after
    each.
    """

    def flat(arrays):
        return np.concatenate([a.ravel() for a in arrays])

    target, scale = flat(problem.targets.values), flat(problem.targets.scales)
    loss = TargetLoss(Square(), target, scale, np.full(target.size, 0.5))
    records, free = problem.prior_weight.size, np.inf
    limits = (np.full(records, -free), np.full(records, free))
    objective = RecordObjective(
        DesignMatrix(flat_matrix(problem)),
        loss,
        Prior(0.0, problem.prior_weight, Raking(), None),
        limits,
        check_device(device),
        torch.float64,
        even=False,
    )
    trace: list[tuple[float, float]] = []
    began = time.perf_counter()

    def after(value: float) -> None:
        trace.append((time.perf_counter() - began, value))
        report()

    # An improvement of zero asked for: no early stop.
    ended = adam(
        objective, objective.start, DescentSettings(epochs, improvement=0.0), after, lambda _: False
    )
    return ended.weights, time.perf_counter() - began, trace
