"""The unit of weight in which a solver of areas works, and for which a prior strength is meant.

A prior of strength tau stands beside squares of targets in their own errors as

    1/2 sum_j r_j^2  +  tau / prior_unit * sum_i q_i phi(w_i / q_i) ,

and q is written in some unit: households, thousands, shares. Where no ``prior_unit`` is given it is
a thousandth of what a mean area weighs, so that a problem written in another unit has the same
answer in that unit.

Belongs here: that choice. Does not belong here: units of targets and records, which solvers take
out by themselves.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# What a mean area weighs in the unit: a census tract has some 1,500 households, and the strengths
# that defaults name were chosen for tracts and households.
AREA = 1000.0


@dataclass(frozen=True)
class Units:
    """Attributes: ``weight``: a power of two, the solver's unit of weight in the problem's;
    ``prior``: the weight that tau is meant for, in the problem's unit.
    """

    weight: float
    prior: float

    @property
    def strength(self) -> float:
        """What tau is multiplied by to stand before the divergence in the solver's unit."""
        return self.weight / self.prior


def units_for(mean: float, prior_unit: float | None) -> Units:
    """Units where a mean area weighs ``mean`` >= 0, in the problem's unit."""
    typical = mean / AREA if 0 < mean < math.inf else 1.0
    return Units(2.0 ** round(math.log2(typical)), prior_unit or typical)
