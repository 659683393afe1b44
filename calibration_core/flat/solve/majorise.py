"""Losses that are capped, minimised by convex steps.

A capped loss is the smaller of a convex loss and a constant. With the targets that lie beyond the
cap left out, the convex loss is nowhere below it up to a constant, and equal where it stands;
minimising that can only lower f, and a few such steps settle (Hunter and Lange, Amer. Statist. 58,
2004, 30-37). The result is a local optimum, reached from the minimum of a robust convex loss.

Belongs here: that iteration. Does not belong here: losses (``common/losses.py``), how a convex one
is minimised (``dual_losses.py``, ``descent.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from calibration_core.flat.solve.losses import TargetLoss

# The sets of targets that count are finite in number and settle in two to five steps.
_MAJORISATIONS = 50
# Inner minimisations end this close to their minimum: an objective higher by less is not higher.
_HIGHER = 1e-9


@dataclass(frozen=True, eq=False)
class Settled:
    """Outcome of ``majorise``: the last inner answer, the convex loss it minimised, the steps, and
    whether the capped set settled.
    """

    answer: Any
    loss: TargetLoss
    steps: int
    settled: bool
    monotone: bool


def majorise(loss: TargetLoss, minimise: Callable, objective: Callable) -> Settled:
    """Minimise a loss, capped or not, by convex steps.

    Parameters
    ----------
    loss : what to minimise; a convex loss takes one step.
    minimise : (convex TargetLoss, answer before or None) -> answer, with .fitted (targets,).
    objective : answer -> f of the capped loss.
    """
    convex = replace(loss, loss=loss.loss.beginning)
    answer = minimise(convex, None)
    if loss.loss.convex is loss.loss:
        return Settled(answer, convex, 1, True, True)
    value, counted = objective(answer), None
    for step in range(_MAJORISATIONS):
        convex = loss.majoriser(answer.fitted)
        if counted is not None and np.array_equal(convex.weights, counted):
            return Settled(answer, convex, step + 1, True, True)
        counted = convex.weights
        trial = minimise(convex, answer)
        after = objective(trial)
        if after > value + _HIGHER * abs(value):
            # Only an inner minimisation that was cut short can raise f: the point before stands.
            return Settled(answer, convex, step + 1, False, False)
        answer, value = trial, after
    return Settled(answer, convex, _MAJORISATIONS, False, True)
