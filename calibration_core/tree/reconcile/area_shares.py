"""One national file reweighted to every area at once, the sum over areas of a record's weights held
at its national weight.

Every record i has a national weight W_i and a prior share p_is of it in area s. Its area weights

    w_is = W_i p_is exp(x_i.lambda_s) / sum_t p_it exp(x_i.lambda_t)

sum to W_i whatever lambda is, so that adding the areas up gives back the national file, targeted or
not, record by record. lambda, one variable per target, solves

    minimise_w  1/2 sum_sj ((sum_i w_is x_ij - b_sj) / s_sj)^2  +  tau sum_is w_is log(w_is / (W_i
    p_is))     subject to  sum_s w_is = W_i

through its smooth convex dual (divided by tau), with y = s lambda:

    F(y) = sum_i W_i log sum_s p_is exp(x_i.lambda_s)  -  sum_s b_s.lambda_s  +  tau/2 |y|^2

the likelihood of a multinomial logit of areas on records' traits (McFadden 1974), penalised. Its
gradient is (A w - b)/s + tau y, and the primal less the dual objective is half its square. F is
minimised by Newton steps (inexact: Dembo, Eisenstat and Steihaug, SIAM J. Numer. Anal. 19, 1982),
solved by conjugate gradients preconditioned with the blocks sum_i W_i pi_is x_i x_i' of the areas.

A shift of all lambda_s by the same vector moves no weight. Such shifts are eigenvectors of F's
Hessian with eigenvalue tau, known beforehand, and are solved for exactly and apart; without that
the conjugate gradients would spend their steps on them. They carry what no weights can meet: the
part of sum_s b_s that differs from the national total. It is spread over the areas in proportion to
s^2, and reported.

Belongs here: result and iteration. Does not belong here: problem and settings
(``share_problem.py``), passes over records (``share_passes.py``), trees of areas
(``tree/solve/newton.py``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from calibration_core.common.threads import one_thread
from calibration_core.common.units import units_for
from calibration_core.common.warnings import CalibrationWarning
from calibration_core.tree.reconcile.share_passes import SharePasses, conjugate_gradients
from calibration_core.tree.reconcile.share_problem import AreaSharesProblem, AreaSharesSettings

# A preconditioner is built again when one solve with it has taken more products than this.
_STALE = 15


@dataclass(frozen=True)
class ShareStep:
    """One entry of the trace: loss is 1/2 sum of squared scaled residuals; gradient the largest
    scaled gradient; products taken for it.
    """

    tau: float
    dual: float
    loss: float
    gradient: float
    length: float
    products: int


@dataclass(frozen=True, eq=False)
class AreaSharesResult:
    """Outcome. Weights are not kept, 8 bytes per pair would be many: ``weights_of`` and
    ``chunks`` compute them from the multipliers.

    Attributes
    ----------
    multipliers : (areas, variables) float64 lambda, 0 where there is no target; shifted so that
        sum_s s^2 lambda is zero.
    fitted, residuals : (areas, variables): totals, and totals minus targets (NaN where there is
        none).
    converged, status, tau, iterations, products, seconds, trace : as they were; share_met of the
        targets within ``inside`` scales.
    duality_gap : primal minus dual objective at the final tau, relative to the primal.
    divergence : sum of w log(w / (W p)).
    largest_ratio : largest w / (W p), ``at`` (record, area).
    discrepancy : (variables,) sum over areas of the targets minus the national total, which no
        weights can meet; NaN where not every area has a target.
    warnings : facts the caller should show: ``not_converged``, ``shares_not_met``,
        ``targets_do_not_add_up``.
    """

    multipliers: np.ndarray
    fitted: np.ndarray
    residuals: np.ndarray
    converged: bool
    status: str
    tau: float
    share_met: float
    iterations: int
    products: int
    trace: tuple[ShareStep, ...]
    duality_gap: float
    divergence: float
    largest_ratio: float
    at: tuple[int, int]
    discrepancy: np.ndarray
    seconds: float
    warnings: tuple[CalibrationWarning, ...]
    _problem: AreaSharesProblem = field(repr=False)

    def chunks(self, records: int = 20_000) -> Iterator[tuple[slice, np.ndarray]]:
        """Yield (records of a slice, their weights in every area: (records, areas) float64)."""
        problem = self._problem
        with np.errstate(divide="ignore"):
            prior = np.log(problem.shares)
        for begin in range(0, problem.design.shape[0], records):
            here = slice(begin, begin + records)
            u = problem.design[here] @ self.multipliers.T + prior[problem.group[here]]
            share = np.exp(u - u.max(axis=1, keepdims=True))
            yield here, share * (problem.national_weight[here] / share.sum(axis=1))[:, None]

    def weights_of(self, area: int) -> np.ndarray:
        """(records,) float64 weights of one area."""
        return np.concatenate([weights[:, area] for _, weights in self.chunks()])

    def weights(self) -> np.ndarray:
        """(records, areas) float64: all pairs at once, 8 bytes each."""
        return np.concatenate([weights for _, weights in self.chunks()])


@one_thread()
def calibrate_shares(
    problem: AreaSharesProblem,
    settings: AreaSharesSettings,
    *,
    progress: Callable[[ShareStep], None] | None = None,
) -> AreaSharesResult:
    """Share every record of a national file out among areas, so that the areas meet their targets
    and each record's weights add up to its national one.

    Parameters
    ----------
    problem : the file, what every area should add up to, and prior shares.
    settings : the path of tau and what ends it, tolerances.
    progress : called with a ``ShareStep`` after each step of Newton's method.

    Returns
    -------
    AreaSharesResult : read ``converged`` and ``warnings``; ``weights_of`` and ``chunks`` compute
        the weights.
    """
    return _Run(problem, settings, progress).solve()


@dataclass(frozen=True, eq=False)
class _State:
    fitted: torch.Tensor
    residual: torch.Tensor
    gradient: torch.Tensor
    dual: float
    potential: float

    @property
    def size(self) -> float:
        return float(self.gradient.abs().max()) if self.gradient.numel() else 0.0


class _Run:
    def __init__(self, problem: AreaSharesProblem, settings: AreaSharesSettings, progress) -> None:
        self.problem, self.settings, self.progress = problem, settings, progress
        areas = problem.values.shape[0]
        self.units = units_for(float(problem.national_weight.sum()) / areas, settings.prior_unit)
        unit = self.units.weight
        national = problem.national_weight / unit
        self.passes = SharePasses(
            problem.design, national, problem.group, problem.shares, settings.device
        )

        def send(a):
            return torch.as_tensor(a, dtype=torch.float64, device=self.passes.device)

        self.used = send(np.isfinite(problem.scales)) > 0
        self.target = send(np.where(np.isfinite(problem.scales), problem.values / unit, 0.0))
        self.inverse = send(np.where(np.isfinite(problem.scales), unit / problem.scales, 0.0))
        # Unit vectors, one per variable that every area has a target for, along which lambda
        # shifts by the same in all areas.
        everywhere = self.used.all(dim=0)
        scale = torch.where(everywhere, torch.where(self.used, 1.0 / self.inverse, 0.0), 0.0)
        self.shift = scale / torch.where(everywhere, scale.norm(dim=0), 1.0)
        self.everywhere = everywhere.cpu().numpy()
        # Across the shifts; along them y is known, see ``across``.
        self.y = torch.zeros_like(self.target)
        self.trace: list[ShareStep] = []
        # Factors of the preconditioner, none before ``factorise``: stale says so.
        self.products, self.blocks, self.stale = 0, torch.empty(0), True

    def across(self, v: torch.Tensor) -> torch.Tensor:
        """v without its part along the shifts that move no weight: of the gradient, what is left
        when y along them is -residual / tau.
        """
        return v - self.shift * (self.shift * v).sum(dim=0)

    def evaluate(self, y: torch.Tensor, tau: float) -> _State:
        fitted, potential = self.passes.evaluate(y * self.inverse)
        residual = (fitted - self.target) * self.inverse
        dual = (
            potential
            - float((self.target * self.inverse * y).sum())
            + 0.5 * self.strength(tau) * float((y * y).sum())
        )
        gradient = self.across(residual) + self.strength(tau) * y
        return _State(fitted, residual, gradient, dual, potential)

    def strength(self, tau: float) -> float:
        """tau in the solver's unit of weight."""
        return tau * self.units.strength

    def solve(self) -> AreaSharesResult:
        began, settings = time.perf_counter(), self.settings
        tau, state = settings.tau_path[0], None
        for tau in settings.tau_path:
            state = self.descend(tau, settings.path_tolerance)
            if (settings.share and self.share_met(state) >= settings.share) or len(
                self.trace
            ) >= settings.max_iterations:
                break
        state = self.descend(tau, settings.tolerance, state)
        return self.result(state, tau, time.perf_counter() - began)

    def share_met(self, state: _State) -> float:
        hit = (state.residual[self.used].abs() <= self.settings.inside).sum()
        return float(hit) / max(int(self.used.sum()), 1)

    def descend(self, tau: float, tolerance: float, state: _State | None = None) -> _State:
        """Newton steps at one tau until the largest scaled gradient is below tolerance, or no step
        lowers F.
        """
        if state is None:
            state = self.evaluate(self.y, tau)
        while state.size > tolerance and len(self.trace) < self.settings.max_iterations:
            direction, products = self.direction(state, tau)
            slope = float((state.gradient * direction).sum())
            length, trial = 1.0, None
            while length > 1e-6 and slope < 0:
                trial = self.evaluate(self.y + length * direction, tau)
                small = 1e-13 * max(1.0, abs(state.dual))
                if (
                    np.isfinite(trial.dual)
                    and trial.dual <= state.dual + 1e-4 * length * slope + small
                ):
                    break
                length, trial = 0.5 * length, None
            if trial is None:
                self.evaluate(self.y, tau)  # the shares kept are again those of y
                break
            stuck = trial.size >= state.size and trial.dual >= state.dual
            self.y, state = self.y + length * direction, trial
            self.record(tau, state, length, products)
            if stuck and not self.stale:
                break
        return state

    def direction(self, state: _State, tau: float) -> tuple[torch.Tensor, int]:
        """-(H + tau) ^ -1 gradient across the shifts, inexactly, and the products it took."""
        strength = self.strength(tau)
        if self.stale:
            self.factorise(strength)

        def product(v):
            return self.across(self.passes.curve(v * self.inverse) * self.inverse) + strength * v

        def solve(v):
            return self.across(torch.cholesky_solve(v[..., None], self.blocks)[..., 0])

        found, products = conjugate_gradients(
            product, solve, -state.gradient, self.settings.forcing, self.settings.max_products
        )
        self.products += products
        self.stale = products > _STALE
        return found, products

    def factorise(self, strength: float) -> None:
        """Cholesky factors of the areas' own blocks, in units of the scales; rounding of single
        precision is added to the diagonal.
        """
        scale = self.passes.unit * self.inverse
        block = self.passes.own_curvature() * scale[:, :, None] * scale[:, None, :]
        diagonal = torch.diagonal(block, dim1=-2, dim2=-1)
        diagonal += strength + 1e-6 * diagonal
        for more in (0.0, 1e-4, 1e-2):
            block.diagonal(dim1=-2, dim2=-1).mul_(1.0 + more)
            factor, info = torch.linalg.cholesky_ex(block)
            if not bool(info.any()):
                break
        else:
            factor = torch.diag_embed(diagonal.sqrt())
        self.blocks, self.stale = factor, False

    def record(self, tau: float, state: _State, length: float, products: int) -> None:
        step = ShareStep(
            tau,
            state.dual * self.units.weight,
            0.5 * float((state.residual**2).sum()),
            state.size,
            length,
            products,
        )
        self.trace.append(step)
        if self.progress is not None:
            self.progress(step)

    def result(self, state: _State, tau: float, seconds: float) -> AreaSharesResult:
        settings, problem, unit = self.settings, self.problem, self.units.weight
        multipliers = self.y * self.inverse
        divergence = float((state.fitted * multipliers).sum()) - state.potential
        primal = 0.5 * float((state.residual**2).sum()) + self.strength(tau) * divergence
        gap = 0.5 * float((state.gradient**2).sum()) / max(abs(primal), 1e-300)
        ratio, record, area = self.passes.largest_ratio(multipliers)
        converged = state.size <= settings.tolerance
        national = problem.national_weight @ problem.design
        discrepancy = np.where(
            self.everywhere,
            np.where(np.isfinite(problem.scales), problem.values, 0.0).sum(axis=0) - national,
            np.nan,
        )
        steps = len(self.trace)
        return AreaSharesResult(
            multipliers=multipliers.cpu().numpy(),
            fitted=state.fitted.cpu().numpy() * unit,
            residuals=torch.where(self.used, unit * (state.fitted - self.target), torch.nan)
            .cpu()
            .numpy(),
            converged=converged,
            status="converged" if converged else "stopped before convergence",
            tau=tau,
            share_met=self.share_met(state),
            iterations=steps,
            products=self.products,
            trace=tuple(self.trace),
            duality_gap=gap,
            divergence=divergence * unit,
            largest_ratio=ratio,
            at=(record, area),
            discrepancy=discrepancy,
            seconds=seconds,
            warnings=tuple(self.warnings(state, converged, discrepancy, national)),
            _problem=problem,
        )

    def warnings(
        self, state: _State, converged: bool, discrepancy: np.ndarray, national: np.ndarray
    ) -> Iterator[CalibrationWarning]:
        settings = self.settings
        if not converged:
            yield CalibrationWarning(
                "not_converged",
                f"The solver stopped after {len(self.trace)} steps with a largest scaled gradient"
                f" of {state.size:.2e}; the tolerance is {settings.tolerance:.0e}.",
                size=state.size,
            )
        if settings.share and self.share_met(state) < settings.share:
            share = self.share_met(state)
            yield CalibrationWarning(
                "shares_not_met",
                f"{share:.4f} of the targets are within {settings.inside:g} scales"
                f" at the smallest tau; {settings.share:g} was asked.",
                size=share,
            )
        off = np.abs(np.nan_to_num(discrepancy))
        scale = np.where(np.isfinite(self.problem.scales), self.problem.scales, 0.0).sum(axis=0)
        apart = np.flatnonzero(off > 1e-9 * np.abs(national) + 1e-3 * scale)
        if apart.size:
            worst = int(apart[np.argmax(off[apart] / np.maximum(scale[apart], 1e-300))])
            yield CalibrationWarning(
                "targets_do_not_add_up",
                f"Targets of {apart.size} variables do not add up over areas to the national file's"
                f" total, which no weights can meet; variable {worst} by {discrepancy[worst]:+.6g}"
                f" on {national[worst]:.6g}.",
                tuple(f"variable {j}" for j in apart),
                float(abs(discrepancy[worst])),
            )
