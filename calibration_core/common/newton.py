"""Rules of a damped Newton step, the same for every dual that is solved here: how far it may go,
when it is good enough, when a factorisation serves again, how the Hessian is damped.

    length      min(1, LONGEST_RISE / rise): no log ratio of a weight that then matters may rise by
                more than LONGEST_RISE, beyond which the quadratic model is worthless
    enough      F(y + t p) <= F(y) + SUFFICIENT t F'p             (Armijo, Pacific J. Math. 16, 1966)
    drowned     close to the optimum F moves less than its own rounding error; then the largest
                gradient, or the slope along p, must come down to FLATTER of what it was
    chord       a factorisation serves again while a step cuts the gradient to below a share
    damping     the Hessian's diagonal is raised by these shares of it until it is positive definite

Functions use operators that numbers, numpy arrays and torch tensors share: batches of small
problems are judged side by side.

Belongs here: the rules and their constants. Does not belong here: any F, Hessian or iteration.
"""

from __future__ import annotations

from typing import Any, TypeAlias

# A number, or a numpy array or torch tensor of one number per small problem.
Number: TypeAlias = Any

# exp(5) is a factor of 148; from there a quadratic model of an exponential has lost its sense.
LONGEST_RISE = 5.0
# A weight below exp(-5) of its start hardly counts, however far it moves down there.
NEGLIGIBLE = 5.0
# Nocedal and Wright, Numerical Optimization, 2006, section 3.1.
SUFFICIENT = 1e-4
FLATTER = 0.9
# 2^-40 of a step is none.
HALVINGS = 40
# Largest scaled gradient that is rounding alone.
ROUNDING = 2e-14
# Shares of its diagonal that a Hessian is raised by, in turn, until it is positive definite.
DAMPING = (0.0, 1e-13, 1e-11, 1e-9, 1e-7, 1e-5, 1e-3, 1e-1)
# Damping of steps that were cut short (Levenberg and Marquardt): where it begins, by what it grows
# and shrinks, where it ends and where a step is given up.
FIRST_DAMPING, DAMPING_STEP, LEAST_DAMPING, MOST_DAMPING = 1e-6, 30.0, 1e-13, 1e6
# A step cut to less than this share of its length calls for damping.
SHORT = 0.1


def step_length(rise: float, longest: float = LONGEST_RISE) -> float:
    """The longest step allowed, at most one, where a full one raises a log ratio by ``rise``."""
    return min(1.0, longest / max(rise, 1e-300))


def enough(before: Number, after: Number, gain: Number, slack: Number) -> Number:
    """Whether F fell enough: ``gain`` is the step's length times the slope of F along it, negative;
    ``slack`` what rounding may hide.
    """
    return after <= before + SUFFICIENT * gain + slack


def next_damping(length: float, damping: float) -> float:
    """The damping to begin the next factorisation with, after a step of which the share ``length``
    of the longest allowed was taken.
    """
    if length < SHORT:
        return max(FIRST_DAMPING, DAMPING_STEP * damping)
    less = damping / DAMPING_STEP
    return less if less >= LEAST_DAMPING else 0.0
