"""First-order minimisation over the records: Adam and L-BFGS in torch, on the CPU or a GPU.

    minimise_x  f(w(x)),   f(w) = sum_j omega_j rho(r_j) + tau sum_i (1/q_i) [w_i log(w_i/d_i) - w_i
    + d_i]

with one variable a record, so that weights keep within their limits by themselves:

    w_i = lo_i + (w0_i - lo_i) exp(c_i x_i)            no upper bound; lo = 0 gives log weights
    w_i = lo_i + (hi_i - lo_i) sigmoid(x0_i + c_i x_i)   bounded on both sides
    w_i = d_i                                          initial weight zero, or no room between the
    bounds

Adam (Kingma and Ba, ICLR 2015; c = 1, a learning rate that falls along a cosine, the best iterate
kept) and L-BFGS (Liu and Nocedal, Math. Program. 45, 1989; SciPy's routine on the host around f and
its gradient on the device, because it went on to a gap of 1e-10 where torch's own stalled at 1e-5;
c chosen so that the prior is equally curved in every x). The gradient is written out, two products
with the matrix a step. Of their own optimality both know only that steps shrink: the caller's
``done`` judges (``dual_losses.optimality_gap``).

Belongs here: the change of variables, f and its gradient in torch, the two loops. Does not belong
here: losses, priors, verdicts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy import optimize

from calibration_core.errors import SettingsError
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.solve.dual_losses import Prior
from calibration_core.flat.solve.losses import TargetLoss

# Share of the room between two bounds that a record starts away from them: the sigmoid has no slope
# on a bound.
_OFF_BOUND = 1e-3
# exp() of more overflows float32.
_EXPONENT_LIMIT = 80.0
# Adam's last step length as a share of its first.
_LAST_RATE = 0.005
_SHORTER = 0.25
# Added to the root of Adam's second moment, as a share of the largest gradient at the start.
_TINY = 1e-9
# Pairs of steps and gradient changes that L-BFGS keeps.
_HISTORY = 20


@dataclass(frozen=True, eq=False)
class Descent:
    """Where a loop ended: the variables x (to go on from), weights (records,), fitted totals
    (targets,), steps, and why it stopped, in words.
    """

    variables: torch.Tensor
    weights: np.ndarray
    fitted: np.ndarray
    iterations: int
    reason: str


@dataclass(frozen=True)
class DescentSettings:
    """Knobs of the loops.

    Attributes
    ----------
    max_iterations : steps.
    learning_rate : Adam's first step length, in log weights.
    window : steps between two looks at whether to stop.
    improvement : stop when a window lowers f by less than this share of f.
    """

    max_iterations: int = 1000
    learning_rate: float = 0.05
    window: int = 100
    improvement: float = 1e-9


def check_device(device: str) -> torch.device:
    """The torch device of that name. Raises SettingsError if this machine does not have it."""
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise SettingsError(
            f"device is {device!r}", expected="'cpu', 'cuda' or 'cuda:<number>'"
        ) from error
    if found.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            f"device is {device!r} and torch finds no CUDA device on this machine",
            remedy="Use device='cpu'",
        )
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise SettingsError(
            f"device is {device!r} and this machine has {torch.cuda.device_count()} CUDA devices",
            remedy="Number them from cuda:0",
        )
    if found.type not in ("cpu", "cuda"):
        raise SettingsError(f"device is {device!r}", expected="'cpu', 'cuda' or 'cuda:<number>'")
    return found


class RecordObjective:
    """f and its gradient in x, on a device.

    Parameters
    ----------
    matrix, loss, prior : A; b, s, omega and rho (numpy); tau >= 0, d and q.
    limits : (lo, hi) on w, each (records,), -inf and inf where there are none; lo is raised to 0.
    device, dtype : where and in what precision the products are taken.
    even : choose c so that the prior is equally curved in every x; else c = 1.
    """

    def __init__(
        self,
        matrix: DesignMatrix,
        loss: TargetLoss,
        prior: Prior,
        limits,
        device: torch.device,
        dtype: torch.dtype,
        even: bool,
    ) -> None:
        self.matrix, self.device, self.dtype = matrix, device, dtype
        self.by_record, self.by_target = (
            self._tensor_of(matrix.by_record),
            self._tensor_of(matrix.target_major()),
        )
        self.measure = self.at_hand(loss)
        self.loss = self.measure
        self.tau = prior.strength
        self.d, self.q = (
            self.put(prior.start),
            self.put(np.ones_like(prior.start) if prior.q is None else prior.q),
        )
        low, high = self.limits = np.maximum(limits[0], 0.0), limits[1]
        fixed = (prior.start == 0) | (high <= low)
        at = np.where(prior.start == 0, 0.0, np.clip(prior.start, low, high))
        self.boxed = self.put(np.isfinite(high) & ~fixed).bool()
        room = np.where(np.isfinite(high) & ~fixed, high - low, 1.0)
        share = np.clip((at - low) / room, _OFF_BOUND, 1 - _OFF_BOUND)
        self.offset = self.put(np.log(share / (1 - share)))
        self.room = self.put(
            np.where(
                fixed,
                0.0,
                np.where(
                    np.isfinite(high), room, np.maximum(at - low, _OFF_BOUND * np.maximum(at, low))
                ),
            )
        )
        self.low = self.put(np.where(fixed, at, low))
        size = prior.over_q[~fixed]
        spread = np.ones_like(prior.start)
        if even and size.size:
            spread[~fixed] = np.sqrt(size.mean() / size)
        self.spread = self.put(spread)
        self.start = torch.zeros_like(self.d)

    def put(self, array: np.ndarray) -> torch.Tensor:
        """A copy of ``array`` on the device."""
        return torch.tensor(np.ascontiguousarray(array), dtype=self.dtype, device=self.device)

    def minimise(self, loss: TargetLoss) -> None:
        """What f is made of from now on; it goes on being measured by the first loss."""
        self.loss = self.measure if loss.loss is self.measure.loss else self.at_hand(loss)

    def at_hand(self, loss: TargetLoss) -> TargetLoss:
        """``loss`` with its arrays on the device."""
        return replace(
            loss,
            targets=self.put(loss.targets),
            scale=self.put(loss.scale),
            weights=self.put(loss.weights),
        )

    def _tensor_of(self, x) -> torch.Tensor | _HostSparse:
        if isinstance(x, np.ndarray):
            return self.put(x)
        if self.device.type == "cpu":
            return _HostSparse(x.astype(np.float32 if self.dtype == torch.float32 else np.float64))
        begins, columns = (torch.tensor(i, dtype=torch.int64) for i in (x.indptr, x.indices))
        values = torch.tensor(x.data, dtype=self.dtype)
        return torch.sparse_csr_tensor(
            begins, columns, values, size=x.shape, check_invariants=True
        ).to(self.device)

    def weights(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """w and dw/dx."""
        u = self.spread * x
        share = torch.sigmoid(self.offset + u)
        above = self.room * torch.where(self.boxed, share, torch.exp(u.clip(max=_EXPONENT_LIMIT)))
        slope = above * self.spread * torch.where(self.boxed, 1.0 - share, 1.0)
        return self.low + above, slope

    def fitted(self, w: torch.Tensor) -> torch.Tensor:
        """A w."""
        return self.by_target @ w

    def value_and_gradient(
        self, x: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """f of the loss that is being minimised, its gradient in x, and f of the loss it is
        measured by.
        """
        w, slope = self.weights(x)
        fitted = self.fitted(w)
        gradient = self.by_record @ self.loss.forces(fitted)
        prior = torch.zeros((), dtype=self.dtype, device=self.device)
        if self.tau > 0:
            kept = self.d > 0
            # log(w/d) only where both are positive: a weight that has underflowed to zero no longer
            # moves anyway.
            log_ratio = torch.where(
                kept & (w > 0), torch.log(torch.where(kept & (w > 0), w / self.d, 1.0)), 0.0
            )
            prior = self.tau * ((w * log_ratio - w + self.d) / self.q).sum()
            gradient = gradient + self.tau / self.q * log_ratio
        value = self.loss.value(fitted) + prior
        measured = value if self.loss is self.measure else self.measure.value(fitted) + prior
        return value, gradient * slope, measured

    def finish(self, x: torch.Tensor, iterations: int, reason: str) -> Descent:
        """What x stands for, its totals taken in float64 whatever the precision of the loop."""
        # Rounding, of float32 above all, may put a weight on the wrong side of its bound by its
        # last digit.
        weights = np.clip(self.weights(x)[0].double().cpu().numpy(), *self.limits)
        return Descent(x, weights, self.matrix.totals(weights), iterations, reason)


class _HostSparse:
    """A sparse matrix on the CPU, multiplied by SciPy: torch's own product of one is several times
    slower and differs with its threads.
    """

    def __init__(self, matrix) -> None:
        self.matrix = matrix

    def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(self.matrix @ vector.numpy())


def adam(
    problem: RecordObjective,
    x: torch.Tensor,
    settings: DescentSettings,
    report: Callable[[float], None],
    done: Callable[[Descent], bool],
) -> Descent:
    """Adam from ``x``, keeping the best iterate. ``report`` gets f after every step; ``done`` says
    at each window whether it is solved.
    """
    first, second = torch.zeros_like(x), torch.zeros_like(x)
    value, gradient, _ = problem.value_and_gradient(x)
    # Adam's step does not depend on the size of f but for rounding: in units of the first gradient,
    # no square underflows in float32.
    unit = max(float(gradient.abs().max()), 1e-30)
    best, best_x = float(value), x
    watch, began, rate = _Watch(settings, best), 0, settings.learning_rate
    for step in range(1, settings.max_iterations + 1):
        fallen = _LAST_RATE + (1 - _LAST_RATE) * 0.5 * (
            1 + math.cos(math.pi * (step - 1) / settings.max_iterations)
        )
        first = 0.9 * first + 0.1 * (gradient / unit)
        second = 0.999 * second + 0.001 * (gradient / unit) ** 2
        age = step - began
        x = x - rate * fallen * (first / (1 - 0.9**age)) / (
            (second / (1 - 0.999**age)).sqrt() + _TINY
        )
        value, gradient, measured = problem.value_and_gradient(x)
        report(float(measured))
        if not math.isfinite(float(value)):
            return problem.finish(
                best_x,
                step,
                f"the loss became {float(value)} at step {step}; lower the learning rate",
            )
        if float(value) < best:
            best, best_x = float(value), x
        watch.see(best)
        if watch.looks and done(problem.finish(best_x, step, "")):
            return problem.finish(best_x, step, "optimal")
        if watch.looks and watch.idle:
            if rate * fallen <= _LAST_RATE * settings.learning_rate:
                break
            # The steps may only be too long for where it stands: begin again from the best point
            # with shorter ones.
            rate, began, x = rate * _SHORTER, step, best_x
            first, second = torch.zeros_like(x), torch.zeros_like(x)
            gradient = problem.value_and_gradient(x)[1]
    return problem.finish(best_x, step, watch.reason)


def lbfgs(
    problem: RecordObjective,
    x: torch.Tensor,
    settings: DescentSettings,
    report: Callable[[float], None],
    done: Callable[[Descent], bool],
) -> Descent:
    """L-BFGS from ``x``; arguments as for ``adam``. It ends where a step can no longer lower f."""
    latest: dict[float, float] = {}

    def to_torch(z):
        return torch.tensor(z, dtype=problem.dtype, device=problem.device)

    origin = x.double().cpu().numpy()
    watch = _Watch(settings, float(problem.value_and_gradient(x)[0]))
    # f is brought to about one, so that the routine's own notions of size do not depend on its
    # units.
    unit = max(abs(watch.best[0]), 1e-300)

    def value_and_gradient(z: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient, measured = problem.value_and_gradient(to_torch(z))
        latest[float(value) / unit] = float(measured)
        return float(value) / unit, gradient.double().cpu().numpy() / unit

    def after_step(intermediate_result) -> None:
        report(latest[intermediate_result.fun])
        latest.clear()
        watch.see(intermediate_result.fun * unit)
        if watch.looks and (
            done(problem.finish(to_torch(intermediate_result.x), len(watch.best) - 1, ""))
            or watch.idle
        ):
            raise StopIteration

    options = {
        "maxcor": _HISTORY,
        "maxiter": settings.max_iterations,
        "maxfun": 20 * settings.max_iterations,
        "ftol": 0.0,
        "gtol": 0.0,
    }
    found = optimize.minimize(
        value_and_gradient,
        origin,
        jac=True,
        method="L-BFGS-B",
        callback=after_step,
        options=options,
    )
    end, steps = to_torch(found.x), len(watch.best) - 1
    if done(problem.finish(end, steps, "")):
        reason = "optimal"
    elif steps >= settings.max_iterations or watch.idle:
        reason = watch.reason
    else:
        reason = "no step along the L-BFGS direction lowers the loss any further in this precision"
    return problem.finish(end, steps, reason)


class _Watch:
    """Looks, once in a window, at how fast f still falls."""

    def __init__(self, settings: DescentSettings, value: float) -> None:
        self.settings, self.best = settings, [value]

    def see(self, value: float) -> None:
        self.best.append(value)

    @property
    def looks(self) -> bool:
        """Whether this step ends a window."""
        return (len(self.best) - 1) % self.settings.window == 0 or len(
            self.best
        ) > self.settings.max_iterations

    @property
    def fall(self) -> float:
        """Share of f by which it fell over the last window."""
        before = self.best[max(0, len(self.best) - 1 - self.settings.window)]
        return (before - self.best[-1]) / max(abs(before), 1e-300)

    @property
    def idle(self) -> bool:
        return self.fall < self.settings.improvement

    @property
    def reason(self) -> str:
        steps = len(self.best) - 1
        verb = "hardly falling any more" if self.idle else "still falling"
        return (
            f"stopped after {steps:,} steps, loss {verb}: {100 * self.fall:.2g} % in the last"
            f" {min(steps, self.settings.window)} steps"
        )
