"""When tau stops falling: what a solution says of itself, and the rules that read it.

The smaller tau, the nearer the fit to the targets, and the more of their errors it fits. With
scales that are standard errors, residuals r of the finest level's n targets, in scales, say which.
Near the optimum they answer the targets linearly, with the Hessian K + tau I of the dual:

    r = tau (K + tau I)^-1 b + const ,     p = sum over the finest level of (K (K + tau I)^-1)_jj ,

p the number of parameters that the fit spends on them (Wahba, Spline Models for Observational Data,
1990, sections 4.3 and 4.7; Hastie and Tibshirani, Generalized Additive Models, 1990, section 3.5).

* ``share``: the first tau at which enough targets lie within their margins. No account is taken of
  p: that 99 % lie within a margin of 90 % says that errors are fitted too.
* ``discrepancy``: the first at which sum r^2 <= n - p, what errors of one scale leave where p
  parameters were spent (Morozov's principle, Soviet Mathematics Doklady 7 (1966) 414-417, as
  Wahba corrects it for p).
* ``risk``: the one at which (sum r^2 + 2 p) / n - 1 is smallest, the mean squared error of the
  totals against what targets estimate, in scales, without bias (Mallows, Technometrics 15 (1973)
  661-675; Stein, Annals of Statistics 9 (1981) 1135-1151). It ends one step after its smallest and
  goes back.

Levels above the finest are left out of r, n and p: their scales may be tighter than their errors.
p is a trace, estimated from products with random signs (Hutchinson, Communications in Statistics
19 (1990) 433-450), exactly where targets are few. The signs are the same in every run.

Belongs here: p, and the rules. Does not belong here: the path itself (``newton.py``).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch

from calibration_core.tree.result import PathPoint, TreeNewtonSettings
from calibration_core.tree.solve.dual import Dual, Levels, State
from calibration_core.tree.solve.small_matrices import FactorisationError

# Products the trace is estimated from: with 16,500 targets they tell p to 0.3 %; and the most
# targets that are taken one by one.
_PROBES, _ONE_BY_ONE = 8, 64


def path_point(dual: Dual, y: Levels, state: State, tau: float) -> PathPoint:
    """What the solution at ``tau`` says of itself; p is NaN where the rule does not ask for it."""
    met = tuple(hit / n if n else 1.0 for hit, n in dual.met(state))
    used = dual.used[-1]
    off = (state.fitted[-1] - dual.target[-1]) * dual.asked[-1]
    targets = int(used.sum())
    squares = float((off[used] ** 2).sum())
    asked = dual.settings.stop != "share"
    spent = effective_parameters(dual, y, state, tau) if asked else math.nan
    return PathPoint(tau, met, targets, squares, spent)


def effective_parameters(dual: Dual, y: Levels, state: State, tau: float) -> float:
    """p of the finest level; NaN where the curvature is not finite."""
    try:
        factor = dual.factorise(y, state, tau)
    except FactorisationError:
        return math.nan
    used, left, parts = dual.used[-1], 0.0, 0
    count, every = int(used.sum()), int(used.sum()) <= _ONE_BY_ONE
    for probe in _one_by_one(used) if every else _signs(used):
        side = [torch.zeros_like(a) for a in y[:-1]]
        left += float((probe * factor.solve([*side, probe])[-1]).sum())
        parts += 1
    mean = left if every else left / max(parts, 1)
    return count - dual.strength(tau) * mean


def _one_by_one(used: torch.Tensor) -> Iterator[torch.Tensor]:
    for area, variable in used.nonzero().tolist():
        probe = torch.zeros(used.shape, dtype=torch.float64, device=used.device)
        probe[area, variable] = 1.0
        yield probe


def _signs(used: torch.Tensor) -> Iterator[torch.Tensor]:
    random = np.random.default_rng(0)
    for _ in range(_PROBES):
        signs = 2.0 * random.integers(0, 2, tuple(used.shape)) - 1.0
        yield torch.as_tensor(signs, device=used.device) * used


def ended_at(points: Sequence[PathPoint], settings: TreeNewtonSettings) -> int | None:
    """Which of ``points`` the path ends at by the rule of ``settings``; None where it goes on."""
    last = points[-1]
    if settings.stop == "discrepancy":
        return len(points) - 1 if last.squares <= last.targets - last.parameters else None
    if settings.stop == "risk":
        rises = len(points) > 1 and last.risk >= points[-2].risk
        return len(points) - 2 if rises else None
    asked = settings.share
    reached = bool(asked) and all(a >= b for a, b in zip(last.inside, asked, strict=True))
    return len(points) - 1 if reached else None
