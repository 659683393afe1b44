"""How the caller wrote a problem that is solved in standard form: his units and his order.

Belongs here: that record. Does not belong here: the rewriting (``standard_form.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True, eq=False)
class Origin:
    """The caller's units and order.

    Attributes
    ----------
    row : (targets,) float64: his units of the rows, in units of the standard form.
    weight : likewise of the weights.
    record, target : (records,), (targets,) his index of each record and target; None where the
        order is his.
    """

    row: np.ndarray
    weight: float
    record: np.ndarray | None = None
    target: np.ndarray | None = None

    @property
    def total(self) -> np.ndarray:
        """(targets,) the caller's total of a standard total of one."""
        return self.row * self.weight

    def take_records(self, index: np.ndarray) -> Origin:
        """The same of some records."""
        return replace(self, record=index if self.record is None else self.record[index])

    def take_targets(self, index: np.ndarray) -> Origin:
        """The same of some targets."""
        return replace(
            self, row=self.row[index], target=None if self.target is None else self.target[index]
        )
