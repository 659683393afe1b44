"""Learn which records to keep: weights and hard concrete gates trained together, then calibrated on
exactly the records kept.

    minimise over (v, a)   E_z (1/m) sum_j ((sum_i a_ij e^{v_i} z_i - b_j) / s_j)^2  +  lambda sum_i
    P(z_i > 0) z_i hard concrete with log odds a_i (``common/gates.py``), s_j the standard error or
    |b_j|

Louizos, Welling and Kingma (arXiv 1712.01312); one draw of all gates a step, Adam on v and a. With
``records=k`` lambda is not given: the count sum_i P(z_i > 0) is held on a course that falls
geometrically from all records to k, by moving all log odds by one number. Newton's method finds it
at every step, so that no lambda needs to be tuned; the lambda that this amounts to is reported.
Weights set out from the dense calibration, divided by the chance that their gate is open, so that
training begins at the dense solution. The k records of the largest expected contribution e^{v} E z
are kept and calibrated (``flat/select/refit.py``), from their initial weights: what the gates learn
is which records, and the refit from initial weights has the same fit with more even weights.

What it cannot do: the optimum is local and hangs on the seed; draws are keyed on the position of a
record, so another order of the records is another draw. Without the refit the fit is that of a
noisy gradient method.

Belongs here: the training and the choice. Does not belong here: the distribution of gates, the
refit.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from scipy import sparse

from calibration_core.common.gates import HardConcrete, TemperatureSchedule, logistic_noise
from calibration_core.common.settings import Kind, Number, Rule, Switch, Word, check
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.methods._usable import usable
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning
from calibration_core.flat.select.cell_allocation import check_budget
from calibration_core.flat.select.refit import (
    QUIETLY,
    concluded,
    kept_count,
    learned,
    refit,
    relative_loss,
)
from calibration_core.flat.solve.compromise import residual_scale
from calibration_core.flat.solve.exact import ExactSettings

# Adam's memories: the second is short because the gradients of gates change their size by orders of
# magnitude while they close.
_BETAS = (0.9, 0.99)
_TELL_EVERY = 50
_ANNEALED = TemperatureSchedule()
_STANDARD = HardConcrete()


@dataclass(frozen=True)
class Settings:
    """Settings of the gates.

    Attributes
    ----------
    records : k, the number of records to keep, exactly; or
    sparsity : the share of records to leave out, in [0, 1): k is records x (1 - sparsity), rounded.
    penalty : lambda on the expected number of open gates, instead of a number of records; those
        whose gate is open at the end are kept. One of the three must be given.
    refit : calibrate the records kept; False returns their learned weights.
    epochs : gradient steps.
    anneal : share of the epochs over which the expected count and the temperature fall; the rest is
        spent at their ends.
    weight_rate, gate_rate : Adam's rates for log weights and for log odds.
    temperature, gates : the schedule of temperatures, and the distribution with its stretch.
    settled : share of the k records that may change over the last tenth of the epochs for the
        choice to count as converged.
    seed : of the draws.
    device : "cpu", or a torch device such as "cuda". On a GPU sums are rounded in another order.
    exact : settings of the refit.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "records": Number(least=1, whole=True, none=True),
        "sparsity": Number(least=0, below=1, none=True),
        "penalty": Number(above=0, none=True),
        "refit": Switch(),
        "epochs": Number(least=10, whole=True),
        "anneal": Number(above=0, most=1),
        "weight_rate": Number(above=0, most=1),
        "gate_rate": Number(above=0, most=1),
        "temperature": Kind(TemperatureSchedule),
        "gates": Kind(HardConcrete),
        "settled": Number(least=0, below=1),
        "seed": Number(least=0, whole=True),
        "device": Word(),
        "exact": Kind(ExactSettings),
    }

    records: int | None = None
    sparsity: float | None = None
    penalty: float | None = None
    refit: bool = True
    epochs: int = 2000
    anneal: float = 0.6
    weight_rate: float = 0.02
    gate_rate: float = 0.2
    temperature: TemperatureSchedule = _ANNEALED
    gates: HardConcrete = _STANDARD
    settled: float = 0.02
    seed: int = 0
    device: str = "cpu"
    exact: ExactSettings = QUIETLY

    def __post_init__(self) -> None:
        check(self)
        check_budget(self.records, self.sparsity)
        if self.penalty is not None and (self.records is not None or self.sparsity is not None):
            raise SettingsError(
                "A penalty and a number of records were given",
                expected="one of them",
                remedy="Give records to keep exactly so many",
            )


@dataclass(frozen=True, eq=False)
class _Trained:
    chosen: np.ndarray
    contribution: np.ndarray
    open_probability: np.ndarray
    trace: tuple[float, ...]
    changed: int
    penalty: float


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Train, choose, refit. Raises ProblemError if k exceeds the records of positive initial
    weight, SettingsError for a missing device.
    """
    began = time.perf_counter()
    problem, warnings = usable(problem)
    index = np.flatnonzero(problem.start > 0)
    k = (
        None
        if settings.penalty is not None
        else kept_count(problem, settings.records, settings.sparsity, index.size)
    )
    dense = refit(problem, index, problem.start, exact_settings=settings.exact)
    trained = _train(problem, index, dense.weights[index], k, settings, progress)
    chosen = index[trained.chosen]
    if chosen.size == 0:
        raise ProblemError(
            f"No gate stayed open under a penalty of {settings.penalty:g}",
            expected="at least one record kept",
            remedy="Lower the penalty, or give records=k",
        )
    weights = np.zeros(problem.matrix.records)
    weights[index] = trained.contribution
    weights[np.setdiff1d(np.arange(weights.size), chosen)] = 0.0
    outside = int(
        (trained.open_probability.sum() - trained.open_probability[trained.chosen].sum()).round()
    )
    settled = trained.changed <= settings.settled * chosen.size
    if not settled:
        text = (
            f"{trained.changed} of the {chosen.size:,} records kept changed over the last tenth of"
            f" {settings.epochs:,} epochs: give it more"
        )
        warnings.append(
            CalibrationWarning("selection_not_settled", text, size=float(trained.changed))
        )
    result = CalibrationResult(
        problem=problem,
        method="hard_concrete",
        settings=settings,
        weights=weights,
        converged=settled,
        status=(
            f"{chosen.size:,} of {problem.matrix.records:,} records kept,"
            f" {'the choice is settled' if settled else 'the choice still changed'}"
        ),
        iterations=settings.epochs,
        loss_trace=trained.trace,
        tolerance=max(settings.exact.tolerance, LEAST_TOLERANCE),
        warnings=tuple(warnings),
        details={
            "selected": chosen,
            "expected_count": float(trained.open_probability.sum()),
            "expected_open_outside": outside,
            "penalty": trained.penalty,
            "changed_last_tenth": trained.changed,
            "learned_loss": relative_loss(problem, weights),
            "dense_loss": relative_loss(problem, dense.weights),
            "selection_seconds": time.perf_counter() - began,
        },
    )
    result = (
        concluded(result, refit(problem, chosen, problem.start, exact_settings=settings.exact))
        if settings.refit
        else learned(result, chosen)
    )
    return replace(result, seconds=time.perf_counter() - began)


class _Products:
    """A w / s and A' r / s: SciPy's serial products on a CPU (the same bits for any number of
    threads), torch's on a GPU.
    """

    def __init__(
        self, problem: CalibrationProblem, usable: np.ndarray, device: torch.device
    ) -> None:
        scale = residual_scale(problem)
        by_record = sparse.csr_array(problem.matrix.by_record[usable]) @ sparse.diags_array(
            1.0 / scale
        )
        self.device, self.goal = device, torch.as_tensor(problem.targets / scale, device=device)
        self.by_record, self.by_target = sparse.csr_array(by_record), sparse.csr_array(by_record.T)
        if device.type != "cpu":
            self.by_record, self.by_target = (
                _on_device(x, device) for x in (self.by_record, self.by_target)
            )

    def totals(self, weights: torch.Tensor) -> torch.Tensor:
        return (
            torch.from_numpy(self.by_target @ weights.numpy())
            if self.device.type == "cpu"
            else self.by_target @ weights
        )

    def spread(self, residuals: torch.Tensor) -> torch.Tensor:
        return (
            torch.from_numpy(self.by_record @ residuals.numpy())
            if self.device.type == "cpu"
            else self.by_record @ residuals
        )


def loss_and_slopes(
    products, log_weights: torch.Tensor, gate: torch.Tensor, gate_slope: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The relative square loss of one draw of gates, its slopes in the log weights and, through
    ``gate_slope`` = dz/da, in the log odds.
    """
    weights = torch.exp(log_weights)
    residual = products.totals(weights * gate) - products.goal
    m = residual.numel()
    slope = products.spread(residual * (2.0 / m))
    return residual.square().sum() / m, slope * weights * gate, slope * weights * gate_slope


def _train(problem, usable, dense, k, settings: Settings, progress) -> _Trained:
    device = _device(settings.device)
    products, gates, schedule = (
        _Products(problem, usable, device),
        settings.gates,
        settings.temperature,
    )
    n = usable.size
    generator = torch.Generator(device=device).manual_seed(int(settings.seed))
    heat = schedule.at(0.0)
    # Gates open with chances in proportion to the dense weight, nearly all of them at first;
    # weights make up for the rest.
    chance = torch.as_tensor(np.clip(0.9 * dense / dense.mean(), 0.05, 0.98), device=device)
    log_odds = gates.log_odds_of(chance, heat)
    log_weights = torch.log(
        torch.as_tensor(np.maximum(dense, 1e-12 * dense.mean()), device=device)
    ) - torch.log(gates.mean(log_odds, heat))
    first = float(chance.sum().cpu())
    adam = _Adam(log_weights, settings.weight_rate), _Adam(log_odds, settings.gate_rate)
    trace: list[float] = []
    before, price = np.empty(0, dtype=np.int64), float("nan")
    for epoch in range(settings.epochs):
        done = min(1.0, epoch / (settings.anneal * settings.epochs))
        heat = schedule.at(done)
        if k is not None and k < n:
            log_odds += _shift(gates, log_odds, heat, first * (min(k, first) / first) ** done)
        gate, gate_slope = gates.sample(log_odds, logistic_noise(n, generator, torch.float64), heat)
        loss, weight_slope, odds_slope = loss_and_slopes(products, log_weights, gate, gate_slope)
        if settings.penalty is not None:
            odds_slope = odds_slope + settings.penalty * gates.open_probability(log_odds, heat)[1]
        elif epoch == settings.epochs - 1:
            price = _implied_penalty(odds_slope, gates.open_probability(log_odds, heat)[1])
        adam[0].step(weight_slope)
        adam[1].step(odds_slope)
        trace.append(float(loss))
        if progress is not None and (epoch + 1) % _TELL_EVERY == 0:
            progress(epoch + 1, trace[-1])
        if epoch + 1 == settings.epochs - max(1, settings.epochs // 10):
            before = _choose(gates, log_weights, log_odds, heat, k)
    if k is not None and k < n:
        log_odds += _shift(gates, log_odds, heat, float(k))
    chosen = _choose(gates, log_weights, log_odds, heat, k)
    contribution = (torch.exp(log_weights) * gates.mean(log_odds, heat)).cpu().numpy()
    chances = gates.open_probability(log_odds, heat)[0].cpu().numpy()
    changed = int(np.setdiff1d(chosen, before).size)
    return _Trained(
        chosen,
        contribution,
        chances,
        tuple(trace),
        changed,
        settings.penalty if settings.penalty is not None else price,
    )


def _choose(gates: HardConcrete, log_weights, log_odds, heat: float, k: int | None) -> np.ndarray:
    """The k records of the largest expected contribution, ties to the first; or all whose gate is
    open without noise.
    """
    if k is None:
        return np.flatnonzero(gates.test_time(log_odds).cpu().numpy() > 0)
    worth = (log_weights + torch.log(gates.mean(log_odds, heat).clamp_min(1e-300))).cpu().numpy()
    return np.sort(np.argsort(-worth, kind="stable")[:k])


def _shift(gates: HardConcrete, log_odds: torch.Tensor, heat: float, count: float) -> float:
    """The number c that makes sum_i P(z_i > 0) at a + c equal ``count``: Newton's method within a
    shrinking bracket.
    """
    shift, low, high = 0.0, -math.inf, math.inf
    for _ in range(60):
        p, slope = gates.open_probability(log_odds + shift, heat)
        # numpy's sum is serial; torch's hangs on the number of threads.
        gap, rate = (float(x.cpu().numpy().sum()) for x in (p, slope))
        gap -= count
        if abs(gap) <= 1e-9 * count:
            break
        low, high = (shift, high) if gap < 0 else (low, shift)
        shift -= max(-3.0, min(3.0, gap / max(rate, 1e-12)))
        if not low < shift < high:
            shift = 0.5 * (low + high)
    return shift


def _implied_penalty(odds_slope: torch.Tensor, open_slope: torch.Tensor) -> float:
    """The lambda under which these slopes would balance best: least squares of d loss / da + lambda
    dP/da = 0.
    """
    across, square = (
        float(x.cpu().numpy().sum()) for x in (odds_slope * open_slope, open_slope.square())
    )
    return max(0.0, -across / square) if square > 0 else 0.0


class _Adam:
    """Kingma and Ba (arXiv 1412.6980), in place on one vector."""

    def __init__(self, value: torch.Tensor, rate: float) -> None:
        self.value, self.rate, self.steps = value, rate, 0
        self.mean, self.square = torch.zeros_like(value), torch.zeros_like(value)

    def step(self, slope: torch.Tensor) -> None:
        self.steps += 1
        first, second = _BETAS
        self.mean.mul_(first).add_(slope, alpha=1 - first)
        self.square.mul_(second).addcmul_(slope, slope, value=1 - second)
        size = (self.square / (1 - second**self.steps)).sqrt_().add_(1e-12)
        self.value.addcdiv_(self.mean, size, value=-self.rate / (1 - first**self.steps))


def _on_device(matrix: sparse.csr_array, device: torch.device) -> torch.Tensor:
    begins, records = (
        torch.as_tensor(np.asarray(x, dtype=np.int64)) for x in (matrix.indptr, matrix.indices)
    )
    return torch.sparse_csr_tensor(
        begins, records, torch.as_tensor(matrix.data), size=matrix.shape, check_invariants=False
    ).to(device)


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise SettingsError(
            f"device is {name!r}", expected="'cpu' or a torch device such as 'cuda'"
        ) from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise SettingsError(
            "device is 'cuda', but torch finds no GPU",
            expected="a device that is there",
            remedy="Use device='cpu'",
        )
    return device
