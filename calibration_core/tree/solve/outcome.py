"""What a tree solve came to, in the problem's own units, with every warning that belongs to it.

Belongs here: the result from where the iteration ended, the facts a caller must know. Does not
belong here: the iteration (``newton.py``), the result's class (``tree/result.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration_core.common.area_weights import AreaWeights
from calibration_core.common.warnings import CalibrationWarning, few_names
from calibration_core.tree.multiplier_weights import MultiplierWeights
from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.result import PathPoint, Step, TreeNewtonResult, TreeNewtonSettings
from calibration_core.tree.solve.arrow import inner
from calibration_core.tree.solve.dual import Dual, Levels, State

# A factor between targets and what prior weights give them that calls for a word: samples are
# raised by less from one record to the next, and thousands against persons are more.
FAR_APART = 30.0
# Targets that a warning names.
_NAMED = 20


@dataclass(frozen=True, eq=False)
class Outcome:
    """Where the iteration ended: tau, multipliers and state; the path there, and what it took."""

    tau: float
    y: Levels
    state: State
    converged: bool
    path_met: bool
    path: tuple[PathPoint, ...]
    steps: int
    factorisations: int
    trace: tuple[Step, ...]


def result_of(dual: Dual, outcome: Outcome, seconds: float) -> TreeNewtonResult:
    """The result, in the problem's units."""
    state, unit, y = outcome.state, dual.units.weight, outcome.y
    columns = [u * unit for u in dual.blocks.column_units]
    fitted = tuple(f.cpu().numpy() * u for f, u in zip(state.fitted, columns, strict=True))
    used = [u.cpu().numpy() for u in dual.used]
    residuals = tuple(
        np.where(u, f - b, np.nan)
        for f, b, u in zip(fitted, dual.problem.targets.values, used, strict=True)
    )
    divergence = dual.divergence(y, state)
    strength = dual.strength(outcome.tau)
    primal = 0.5 * inner(state.scaled, state.scaled) + strength * divergence
    # Primal plus tau F collapses to half the squared gradient; written so, it does not suffer
    # cancellation.
    gap = 0.5 * inner(state.gradient, state.gradient) / max(abs(primal), 1e-300)
    down = dual.scaled_down(y)
    rates = tuple(a.cpu().numpy() / u for a, u in zip(down, dual.blocks.column_units, strict=True))
    # Multipliers count in scales as they were asked for.
    multipliers = tuple(
        (a * i).cpu().numpy() * unit / np.where(u, asked.cpu().numpy(), 1.0)
        for a, i, asked, u in zip(y, dual.inverse, dual.asked, used, strict=True)
    )
    return TreeNewtonResult(
        weights=_weights_of(dual, down, rates, state),
        multipliers=multipliers,
        rates=rates,
        fitted=fitted,
        residuals=residuals,
        converged=outcome.converged,
        status="converged" if outcome.converged else "stopped before convergence",
        path_met=outcome.path_met,
        path=outcome.path,
        tau=outcome.tau,
        prior_unit=dual.units.prior,
        iterations=outcome.steps,
        factorisations=outcome.factorisations,
        trace=outcome.trace,
        duality_gap=float(gap),
        divergence=float(divergence) * unit,
        seconds=seconds,
        warnings=tuple(_warnings(dual, outcome, residuals)),
    )


def _weights_of(
    dual: Dual, down: Levels, rates: tuple[np.ndarray, ...], state: State
) -> np.ndarray | AreaWeights:
    """Weights in the problem's units; block by block where leaves have neighbourhoods."""
    problem, link = dual.problem, dual.link_at(state.shift)
    if isinstance(problem, PoolProblem) and problem.neighbourhoods is not None:
        return MultiplierWeights(problem, rates, link)
    weights = dual.blocks.weights(down, link)
    if dual.settings.hold_total:
        weights *= dual.total / weights.sum()
    return weights * dual.units.weight


def put_back(result: TreeNewtonResult, problem: PoolProblem, order: np.ndarray) -> TreeNewtonResult:
    """The result of ``problem.ordered()``, its leaves in the order of the problem."""

    def back(levels: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
        finest = np.empty_like(levels[-1])
        finest[order] = levels[-1]
        return (*levels[:-1], finest)

    rates, weights = back(result.rates), result.weights
    if isinstance(weights, MultiplierWeights):
        weights = MultiplierWeights(problem, rates, weights.link)
    return replace(
        result,
        weights=weights,
        rates=rates,
        multipliers=back(result.multipliers),
        fitted=back(result.fitted),
        residuals=back(result.residuals),
    )


def _warnings(dual: Dual, outcome: Outcome, residuals: tuple[np.ndarray, ...]):
    settings, state = dual.settings, outcome.state
    if not outcome.converged:
        yield CalibrationWarning(
            "not_converged",
            f"The solver stopped after {outcome.steps} steps with a largest scaled gradient of"
            f" {state.size:.2e}; the tolerance is {settings.tolerance:.0e}.",
            size=state.size,
        )
    factor = dual.units.factor
    if max(factor, 1.0 / factor) > FAR_APART:
        yield CalibrationWarning(
            "prior_far_from_targets",
            f"The typical target is {factor:.3g} times what the prior weights give it: are"
            " targets, records and weights in the same units?",
            size=factor,
        )
    yield from _widened(dual)
    if settings.stop != "share":
        yield from _path_ended(settings, outcome)
    elif settings.share and not outcome.path_met:
        reached = ", ".join(
            f"{name} {hit / max(n, 1):.4f} of {wanted:g} asked"
            for name, (hit, n), wanted in zip(
                dual.problem.tree.levels, dual.met(state), settings.share, strict=True
            )
            if wanted > 0
        )
        yield CalibrationWarning(
            "shares_not_met",
            "The share of targets met stopped rising before it reached what was asked, at tau"
            f" {outcome.tau:g}: {reached}.",
        )
    yield from _missed(dual, residuals)


def _path_ended(settings: TreeNewtonSettings, outcome: Outcome):
    if outcome.path_met or not outcome.path:
        return
    last = outcome.path[-1]
    yield CalibrationWarning(
        "path_ended",
        f"tau came to the end of its path, {outcome.tau:g}, before the rule {settings.stop!r} was"
        f" met: residuals of {last.targets:,} targets have a mean square of"
        f" {last.rms**2:.3g} scales, and {last.parameters:,.0f} parameters were spent.",
        size=outcome.tau,
    )


def _widened(dual: Dual):
    """Scales that were widened so that rounding could not decide."""
    factors = [
        np.where(u, a / np.where(u, i, 1.0), 1.0)
        for a, i, u in (
            (a.cpu().numpy(), i.cpu().numpy(), u.cpu().numpy())
            for a, i, u in zip(dual.asked, dual.inverse, dual.used, strict=True)
        )
    ]
    count = sum(int((f > 1.0).sum()) for f in factors)
    if count:
        most = max(float(f.max(initial=1.0)) for f in factors)
        names = _worst(dual, factors)
        yield CalibrationWarning(
            "scales_widened",
            f"The scales of {count:,} targets are so small, for what they contradict or for the"
            f" prior, that rounding would decide; they were widened, by up to {most:.3g} times:"
            f" {few_names(names)}.",
            names,
            most,
        )


def _missed(dual: Dual, residuals: tuple[np.ndarray, ...]):
    """Targets further off than the settings call met."""
    inside = dual.settings.inside
    errors = [
        np.abs(np.nan_to_num(r)) / np.where(np.isfinite(s), s, np.inf)
        for r, s in zip(residuals, dual.problem.targets.scales, strict=True)
    ]
    count = sum(int((e > inside).sum()) for e in errors)
    if count:
        names = _worst(dual, [np.where(e > inside, e, 0.0) for e in errors], least=0.0)
        most = max(float(e.max(initial=0.0)) for e in errors)
        yield CalibrationWarning(
            "targets_missed",
            f"{count:,} of {dual.problem.targets.count:,} targets are further off than {inside:g}"
            f" scales, the worst by {most:.3g}: {few_names(names)}.",
            names,
            most,
        )


def _worst(dual: Dual, sizes: list[np.ndarray], least: float = 1.0) -> tuple[str, ...]:
    """Names of the targets of the largest sizes above ``least``, the largest first."""
    tree, targets, found = dual.problem.tree, dual.problem.targets, []
    for depth, size in enumerate(sizes):
        flat = size.ravel()
        for k in np.argsort(-flat, kind="stable")[:_NAMED]:
            if flat[k] > least:
                area, variable = divmod(int(k), size.shape[1])
                place = f"{tree.levels[depth]} {tree.geoids[depth][area]}".rstrip()
                found.append((-flat[k], f"{place}: {targets.variable(depth, variable)}"))
    return tuple(name for _, name in sorted(found)[:_NAMED])
