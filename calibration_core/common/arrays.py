"""Elementary functions of numpy arrays and torch tensors: each answers in kind.

Formulas that use operators, abs() and .clip() alone need none of this; the functions here are those
that the two libraries call by different names. torch is never imported: where it has not been, no
argument can be a tensor.

Belongs here: functions of one array, element by element. Does not belong here: distances and losses
made of them.
"""

from __future__ import annotations

import sys
from typing import Any, TypeAlias

import numpy as np
from scipy import special

# A numpy array or a torch tensor of any shape. Functions of one give one of the same kind.
Array: TypeAlias = Any
# Above this log(1 + e^x) and x agree to the last bit.
_STRAIGHT = 200.0


def torch_of(array: object) -> Any:
    """torch, where ``array`` is one of its tensors; else None."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else None


def ones_like(x: Array) -> Array:
    """Ones of the shape and kind of ``x``."""
    torch = torch_of(x)
    return torch.ones_like(x) if torch else np.ones_like(x)


def exp_of_own(x: Array) -> Array:
    """exp(x), in the memory of a tensor that nobody else holds."""
    return x.exp_() if torch_of(x) else np.exp(x)


def log(x: Array) -> Array:
    """log(x); a number for a number."""
    if torch_of(x):
        return x.log()
    return float(np.log(x)) if np.ndim(x) == 0 else np.log(x)


def at_least(x: Array, floor: float) -> Array:
    """max(x, floor); a number for a number."""
    if torch_of(x):
        return x.clip(min=floor)
    return max(float(x), floor) if np.ndim(x) == 0 else np.maximum(x, floor)


def where(condition: Array, x: Array, other: float) -> Array:
    """``x`` where the condition holds, a number elsewhere."""
    torch = torch_of(x)
    return torch.where(condition, x, other) if torch else np.where(condition, x, other)


def xlogy(x: Array, y: Array) -> Array:
    """x log(y), 0 where x is 0."""
    torch = torch_of(x)
    return torch.xlogy(x, y) if torch else special.xlogy(x, y)


def logistic(x: Array) -> Array:
    """1 / (1 + e^-x)."""
    return x.sigmoid() if torch_of(x) else special.expit(x)


def softplus(x: Array) -> Array:
    """log(1 + e^x)."""
    torch = torch_of(x)
    if torch:
        return torch.nn.functional.softplus(x, threshold=_STRAIGHT)
    return np.logaddexp(0.0, x)
