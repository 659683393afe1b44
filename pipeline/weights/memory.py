"""How much memory a state's weights need, before they are solved for.

    need = process and tables + what units add + factors of the leaves + what is kept for speed

A factor of the dense solution keeps of each leaf a triangle of its own p variables and their
coupling with the w distinct columns above, p (8 p + c w) bytes, c being 8, or 4 where couplings are
kept in single precision. That of a refit has more variables, every measured one, but keeps no
coupling; where a leaf has fewer pairs than variables, its triangle is of its pairs.

Belongs here: that sum, and the refusal of a state beyond the budget. Does not belong here: what is
kept for speed (``calibration_core/common/memory.py``), the peak that was reached (the manifest).
"""

from __future__ import annotations

from dataclasses import dataclass

from calibration_core.common.memory import kept_bytes
from calibration_core.tree.solve.blocks import coupling_bytes
from pipeline.errors import MemoryBudgetError
from pipeline.settings import MEMORY_VARIABLE
from pipeline.weights.problem import SolvableState, columns_without_target
from pipeline.weights.settings import pairs_of

# Python, Dagster, polars, torch and compiled loops of a run before its first table, and what a step
# uses of blocks at once. Measured: the sample's DE peaks at 0.8 GB with 2 MB of units.
_PROCESS = 800_000_000
# Copies of its own tables that a step holds at once: as read, joined, and on their way to disk.
_COPIES = 3


@dataclass(frozen=True)
class Need:
    """Bytes: ``process``, ``tables``, ``contributions``, ``factors``, ``kept``."""

    process: int
    tables: int
    contributions: int
    factors: int
    kept: int

    @property
    def total(self) -> int:
        return self.process + self.tables + self.contributions + self.factors + self.kept

    def words(self) -> str:
        """The parts in GB, largest first."""
        parts = {
            "process": self.process,
            "tables": self.tables,
            "what units add": self.contributions,
            "factors of areas": self.factors,
            "kept for speed": self.kept,
        }
        listed = sorted(parts.items(), key=lambda item: -item[1])
        return ", ".join(f"{name} {size / 2**30:.1f}" for name, size in listed)


def need_of(state: SolvableState) -> Need:
    """What the dense solution, the selection and the refit of a state need at the most."""
    problem = state.problem
    frames = (state.targets, state.units, state.areas, state.pools)
    tables = sum(int(frame.estimated_size()) for frame in frames if frame is not None)
    store = problem.contributions.store
    leaves, above = len(problem.tree.leaves), problem.contributions.shape[1]
    own = problem.targets.designs[-1].shape[1]
    beside = own + columns_without_target(state).size
    pairs = -(-pairs_of(state.profile, leaves) // max(leaves, 1))
    dense = leaves * own * own * 8 + coupling_bytes(leaves, own, above)
    factors = max(dense, leaves * min(beside, pairs) ** 2 * 8)
    contributions = store.small.nbytes + store.large.nbytes
    # Pools serve the dense solution, the rest of what is kept the selection and the refit.
    rows = kept_bytes("records") + kept_bytes("pairs") + kept_bytes("weights")
    kept = max(kept_bytes("pools") + kept_bytes("records"), rows)
    return Need(_PROCESS, _COPIES * tables, contributions, factors, kept)


def require_memory(state: SolvableState, budget: int | None) -> Need:
    """Raise MemoryBudgetError if the state needs more than ``budget`` bytes; None: no limit."""
    need = need_of(state)
    if budget is not None and need.total > budget:
        raise MemoryBudgetError(
            f"{state.postal} needs about {need.total / 2**30:.1f} GB: {need.words()}",
            where=f"{len(state.leaves):,} areas, {state.units.height:,} units",
            expected=f"at most {budget / 2**30:.1f} GB ({MEMORY_VARIABLE})",
            remedy=(
                f"Give the run more ({MEMORY_VARIABLE}), run it where there is more, or take fewer"
                " units (the records of one year in place of five)"
            ),
        )
    return need
