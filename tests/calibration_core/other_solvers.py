"""Comparing our answer with another solver's, so that the comparison holds on any processor.

Another solver stops at a tolerance of its own, and how far short of the answer that is depends on
the processor. Its weights are therefore never asked to be ours to many digits. Asked is what does
not depend on how well it solved: that our objective is not above its objective, but for rounding
and for what it gained by missing its constraints,

    f(ours) <= f(theirs) + sum_j |y_j| |residual_j of theirs| + rounding,

y our multipliers (weak duality: a constraint missed by r is worth at most |y| |r|). That both
solved the same problem is shown by the reverse: its objective and its weights are near ours, as
near as any convergence of it at all brings them.

Belongs here: the comparison. Does not belong here: problems, and how a solver is called.
"""

from __future__ import annotations

import numpy as np

# Of sums of some hundred terms in float64, relative to the size of the terms.
ROUNDING = 1e-10
# What interior-point methods reach in the objective on every processor they were tried on, with
# room; and in weights, relative to the largest: the root of it, as the objective is flat there.
OBJECTIVE, WEIGHTS = 1e-4, 1e-2


def price_of(multipliers, residuals) -> float:
    """What a solver can have gained by missing its constraints by ``residuals``, same shapes."""
    return float(np.abs(np.asarray(multipliers) * np.asarray(residuals)).sum())


def assert_no_worse(ours: float, theirs: float, *, price: float = 0.0, scale: float = 0.0) -> None:
    """Our minimum is not above theirs.

    Parameters
    ----------
    ours, theirs : objectives to be minimised, at feasible points but for what ``price`` covers.
    price : see ``price_of``.
    scale : size of the terms that the objectives are sums of, if larger than they are.
    """
    size = max(abs(ours), abs(theirs), scale)
    excess = ours - theirs - price
    assert excess <= ROUNDING * size, f"our objective is {excess / size:.2g} above theirs"


def assert_same_problem(
    ours: float,
    theirs: float,
    our_weights=None,
    their_weights=None,
    *,
    price: float = 0.0,
    scale: float = 0.0,
) -> None:
    """Ours is no worse, and theirs is near enough to be an answer to the same problem."""
    assert_no_worse(ours, theirs, price=price, scale=scale)
    size = max(abs(ours), abs(theirs), scale)
    assert theirs - ours <= OBJECTIVE * size, f"theirs is {(theirs - ours) / size:.2g} above ours"
    if our_weights is not None:
        largest = float(np.abs(our_weights).max())
        apart = float(np.abs(np.asarray(our_weights) - np.asarray(their_weights)).max())
        assert apart <= WEIGHTS * largest, f"weights are {apart / largest:.2g} apart"
