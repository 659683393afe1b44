"""Leaves of written-out pairs, eliminated from the arrow: their own systems, and what they leave to
the levels above.

With A the rows of a leaf's pairs in its own columns times 1 / scale, C those in the columns above
and v the pairs' slopes, its coupling is A' diag(v) C. It is not kept: the pairs' rows say what it
makes of a vector in less time than it takes to read it.

Belongs here: that elimination. Does not belong here: rows (``pair_rows.py``, ``listed_rows.py``),
the leaves' own systems (``leaf_systems.py``), the levels above (``arrow.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from calibration_core.tree.solve.arrow import Eliminated
from calibration_core.tree.solve.leaf_systems import LeafSystems
from calibration_core.tree.solve.pair_rows import Nodes, PairRows


@dataclass(frozen=True, eq=False)
class PairLeaves:
    """What is kept of some leaves (an ``arrow.LeafFactor``).

    Attributes
    ----------
    leaves : (leaves,) int64 which.
    systems : their own systems M, factorised.
    rows : of their pairs.
    slope : (leaves, pairs) float64 v.
    inverse : (leaves, p) 1 / scale.
    """

    leaves: torch.Tensor
    systems: LeafSystems
    rows: PairRows
    slope: torch.Tensor
    inverse: torch.Tensor

    def reduced(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = self.rows.loaded()
        first = self.systems.solve(rows, self.inverse, x[self.leaves])
        return first, rows.above_totals(self.slope * rows.own_u(self.inverse * first))

    def finish(self, half: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
        if not above.shape[1]:
            return half
        rows = self.rows.loaded()
        carried = rows.own_totals(self.slope * rows.above_u(above[self.leaves])) * self.inverse
        return half - self.systems.solve(rows, self.inverse, carried)


def eliminate_pairs(
    blocks,
    leaves: torch.Tensor,
    rows: PairRows,
    here: PairRows,
    slope: torch.Tensor,
    nodes: Nodes,
    ridge: float,
) -> Eliminated:
    """Factorise and eliminate some leaves.

    Parameters
    ----------
    blocks : the TreeBlocks they belong to.
    leaves : (leaves,) int64 which.
    rows, slope : of their pairs; slopes (leaves, pairs) float64. ``here`` are the rows at hand.
    nodes : stretches of leaves with one parent.
    """
    inverse = blocks.inverse[-1][leaves]
    systems = LeafSystems.of(here, inverse, slope, ridge)
    taken = here.taken(systems, inverse, slope, nodes) if blocks.deep else []
    return Eliminated(PairLeaves(leaves, systems, rows, slope, inverse), taken)
