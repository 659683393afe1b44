"""What the tree solver is told and what it answers: settings, entries of its trace and its path,
the result.

Belongs here: those frozen objects. Does not belong here: the problem (``problem.py``), the
iteration (``tree/solve/newton.py``).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from calibration_core.common.warnings import CalibrationWarning
from calibration_core.common.weight_shape import effective_sample_size
from calibration_core.errors import SettingsError

if TYPE_CHECKING:  # it loads what an import of the settings must not
    from calibration_core.common.area_weights import AreaWeights, Block

STOPS = ("share", "discrepancy", "risk")


@dataclass(frozen=True)
class TreeNewtonSettings:
    """Knobs of the solver.

    Attributes
    ----------
    tau_path : decreasing prior strengths to follow.
    approach : stronger ones to pass through before, roughly; the rule that ends the path does not
        look at them. None: ten times the first tau where written-out pairs start cold, for there a
        first step far from the prior is long and crooked, and else none.
    inside : a target counts as met when |fit - target| <= inside * scale; 1.645 is the 90 % margin.
    share : per level (top first), the share of targets to be met before tau stops falling; 0 asks
        nothing of that level.
    stop : the rule that ends the path (``solve/stopping.py``): "share", as asked in ``share``;
        "discrepancy", where residuals of the finest level are what errors of one scale leave; or
        "risk", where the estimated error of its totals is smallest.
    least_gain : smallest rise of the share met (targets of all levels with a share asked) for which
        tau goes on falling; of the rule "share" alone.
    ratio_bounds : smallest and largest w / q, or None for none. Bounds that a PairProblem has for
        each pair stand in their place.
    hold_total : keep the sum of weights at the sum of the prior exactly: F has N log(sum q exp(u) /
        N) in place of sum q H(u), and its Hessian one rank less (penalised maximum entropy of Leyk,
        Nagle and Buttenfield, Geographical Analysis 45, 2013). Not with bounds.
    tolerance : largest scaled gradient |a_j.w - b_j + tau s_j y_j| / s_j at the final tau.
    path_tolerance : the same at earlier tau.
    max_iterations : Newton and chord steps in all.
    chord_rate : a factorisation is reused while a step cuts the gradient norm to below this
        fraction.
    longest_step : largest rise of any log weight allowed in one step.
    prior_unit : the weight that tau is meant for: the prior term of the objective is tau /
        prior_unit times the divergence. None: a thousandth of the mean prior weight of a leaf, so
        that the unit in which weights are written does not matter; 1 for tau as it stands.
    """

    tau_path: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    approach: tuple[float, ...] | None = None
    inside: float = 1.645
    stop: str = "share"
    share: tuple[float, ...] = ()
    least_gain: float = 0.001
    ratio_bounds: tuple[float, float] | None = None
    hold_total: bool = False
    tolerance: float = 1e-6
    path_tolerance: float = 1e-2
    max_iterations: int = 400
    chord_rate: float = 0.4
    longest_step: float = 5.0
    device: str = "cpu"
    prior_unit: float | None = None

    def __post_init__(self) -> None:
        path = (*(self.approach or ()), *self.tau_path)
        if (
            not self.tau_path
            or any(t <= 0 for t in path)
            or any(a <= b for a, b in itertools.pairwise(path))
        ):
            raise SettingsError(
                f"approach and tau_path are {path}",
                expected="positive numbers, strictly decreasing",
            )
        if self.stop not in STOPS:
            raise SettingsError(
                f"The rule that ends the path is {self.stop!r}",
                expected=f"one of {', '.join(STOPS)}",
                remedy="Correct the name of `stop`",
            )
        if not 0 < self.chord_rate < 1:
            raise SettingsError(f"chord_rate is {self.chord_rate}", expected="between 0 and 1")
        if self.ratio_bounds is not None:
            low, high = self.ratio_bounds
            if not 0 <= low < 1 < high < float("inf"):
                raise SettingsError(
                    f"ratio_bounds are {low} and {high}",
                    expected="0 <= low < 1 < high, both finite, as shares of the prior weight",
                )
        if self.hold_total and self.ratio_bounds is not None:
            raise SettingsError(
                "hold_total was asked for together with ratio_bounds",
                expected="one of the two",
                remedy="Make the total a target instead",
            )
        if (
            self.tolerance <= 0
            or self.path_tolerance <= 0
            or self.max_iterations < 1
            or self.longest_step <= 0
            or self.inside <= 0
            or (self.prior_unit is not None and not 0 < self.prior_unit < float("inf"))
        ):
            raise SettingsError(
                "A tolerance, limit or step is not positive", expected="positive numbers"
            )


@dataclass(frozen=True)
class Step:
    """One entry of the trace: kind is newton (a new factorisation) or chord (an earlier one); loss
    is 1/2 sum of squared scaled residuals; gradient is the largest scaled gradient.
    """

    tau: float
    kind: str
    dual: float
    loss: float
    gradient: float


@dataclass(frozen=True)
class PathPoint:
    """What the solution at one tau says of itself (``solve/stopping.py``).

    Attributes
    ----------
    tau : the prior strength.
    inside : per level, the share of targets within ``inside`` scales; 1 where there is none.
    targets : n, of the finest level.
    squares : sum of their squared residuals, in scales.
    parameters : p, the number of parameters that the fit spends on them; NaN where the rule does
        not ask for it.
    """

    tau: float
    inside: tuple[float, ...]
    targets: int
    squares: float
    parameters: float

    @property
    def rms(self) -> float:
        """Root mean square of the finest level's residuals, in scales."""
        return math.sqrt(self.squares / max(self.targets, 1))

    @property
    def variance(self) -> float:
        """sum r^2 / (n - p): one where scales are the errors of the targets and nothing more."""
        left = self.targets - self.parameters
        return self.squares / left if left > 0 else math.nan

    @property
    def risk(self) -> float:
        """(sum r^2 + 2 p) / n - 1: the estimated mean squared error of totals, in scales."""
        return (self.squares + 2.0 * self.parameters) / max(self.targets, 1) - 1.0


@dataclass(frozen=True)
class TreeNewtonResult:
    """Outcome of a hierarchical calibration.

    Attributes
    ----------
    weights : (leaves, records) for a PoolProblem, (pairs,) for a PairProblem; float64 >= 0. Of a
        PoolProblem with neighbourhoods they are an AreaWeights, made block by block when read.
    multipliers : per level, (areas, variables), in units of 1 / scale.
    rates : per level, (areas, variables): what one unit of a contribution adds to u and so, without
        bounds, to log w / q (``multiplier_weights.py``).
    fitted, residuals : per level, (areas, variables): totals of the weights, and fitted minus
        target (NaN where no target).
    converged : gradient tolerance met at the final tau. ``status`` says so in words.
    path_met : whether the shares asked were reached or, of another rule, whether it ended the path;
        when False the smallest tau of the path was used, or the last that gained anything.
    path : what each tau on the way said of itself, those of ``approach`` left out.
    tau, iterations, factorisations, trace, seconds : as they were.
    prior_unit : as used; at the optimum a_j.w - b_j = -(tau / prior_unit) s_j y_j.
    duality_gap : primal minus dual objective at the final tau, relative to the primal.
    divergence : the distance of the weights from the prior, without tau.
    warnings : facts the caller should show: ``not_converged``, ``prior_far_from_targets``,
        ``scales_widened``, ``shares_not_met``, ``path_ended``, ``targets_missed``.
    """

    weights: np.ndarray | AreaWeights
    multipliers: tuple[np.ndarray, ...]
    rates: tuple[np.ndarray, ...]
    fitted: tuple[np.ndarray, ...]
    residuals: tuple[np.ndarray, ...]
    converged: bool
    status: str
    path_met: bool
    path: tuple[PathPoint, ...]
    tau: float
    prior_unit: float
    iterations: int
    factorisations: int
    trace: tuple[Step, ...]
    duality_gap: float
    divergence: float
    seconds: float
    warnings: tuple[CalibrationWarning, ...]

    @property
    def strength(self) -> float:
        """tau / prior_unit: what the divergence counts beside the squares."""
        return self.tau / self.prior_unit

    def warned(self, code: str) -> tuple[CalibrationWarning, ...]:
        """The warnings of one code."""
        return tuple(w for w in self.warnings if w.code == code)

    @property
    def array(self) -> np.ndarray:
        """The weights as one array, (leaves, records) or (pairs,); for problems that are small."""
        weights = self.weights
        return weights if isinstance(weights, np.ndarray) else weights.table()

    @property
    def effective_sample_size(self) -> float:
        """Kish's (sum w)^2 / sum w^2 over all pairs."""
        if not isinstance(self.weights, np.ndarray):
            total, squares = np.sum(self.weights.map(_sums), axis=0)
            return float(total**2 / squares) if squares > 0 else 0.0
        return effective_sample_size(self.weights)

    def summary(self) -> str:
        """One paragraph for people: how it ended, steps, seconds, effective sample size."""
        last = self.trace[-1] if self.trace else None
        return (
            f"{self.status}; tau {self.tau:g}, {self.iterations} steps, {self.factorisations}"
            f" factorisations, {self.seconds:.2f} s; largest scaled gradient"
            f" {last.gradient if last else float('nan'):.2e}, relative duality gap"
            f" {self.duality_gap:.2e}, ESS {self.effective_sample_size:,.0f}"
        )


def _sums(block: Block) -> tuple[float, float]:
    weight = block.weight
    return float(weight.sum()), float(np.einsum("tr,tr->", weight, weight))
