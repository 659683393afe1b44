"""The settings of every method as types, so that an editor completes and checks
``calibrate(problem, "raking", tolerance=1e-8)``.

They repeat the fields of the methods' ``Settings``, which a type checker cannot see behind a name;
a test holds the two together.

Belongs here: those types. Does not belong here: defaults, rules, anything that runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, TypedDict

if TYPE_CHECKING:
    import numpy as np

    from calibration_core.common.gates import HardConcrete, TemperatureSchedule
    from calibration_core.flat.solve.exact import ExactSettings

Method = Literal[
    "ipf",
    "linear",
    "truncated_linear",
    "logit",
    "raking",
    "raking_bounded",
    "entropy",
    "relaxed_entropy",
    "gradient",
    "hard_concrete",
    "reweighted_l1",
    "random_subset",
    "cross_category",
    "hybrid",
    "trim",
]
Compromise = Literal["least_squares", "minimax"]


class ExactOptions(TypedDict, total=False):
    """Settings of ipf, linear, truncated_linear, logit, raking and raking_bounded."""

    tolerance: float
    max_iterations: int
    strict: bool
    compromise: Compromise
    minimax_slack: float
    least_kappa: float
    explain: bool


class EntropyOptions(ExactOptions, total=False):
    """Settings of entropy."""

    total: float | None


class TrimOptions(ExactOptions, total=False):
    """Settings of trim."""

    keep_totals: bool
    distance: Literal["linear", "raking"]
    spread: Literal["equal", "proportional"]
    repeat: bool


class RelaxedEntropyOptions(TypedDict, total=False):
    """Settings of relaxed_entropy."""

    importance: float | Sequence[float] | np.ndarray
    algorithm: Literal["newton", "list_balancing"]
    master: str | None
    tolerance: float
    met: float
    max_iterations: int


class GradientOptions(TypedDict, total=False):
    """Settings of gradient."""

    optimizer: Literal["dual", "lbfgs", "adam"]
    loss: Literal["square", "huber", "capped", "capped_square"]
    delta: float
    cap: float
    corner: float
    scale: Literal["relative", "standard_error", "both"]
    epsilon: float | None
    relative_size: float
    target_weights: Literal["groups", "bases"] | Sequence[float] | np.ndarray | None
    prior_strength: float | None
    tolerance: float
    max_iterations: int | None
    learning_rate: float
    improvement: float
    device: str
    precision: Literal["float64", "float32"]
    met_within: float


class _Keep(TypedDict, total=False):
    """How many records to keep."""

    records: int | None
    sparsity: float | None


class RandomSubsetOptions(_Keep, total=False):
    """Settings of random_subset."""

    probability: Literal["equal", "weight"]
    seed: int
    exact: ExactSettings


class ReweightedL1Options(_Keep, total=False):
    """Settings of reweighted_l1."""

    refit: bool
    rounds: int
    decay: float
    kappa: float
    settled: float
    exact: ExactSettings


class HardConcreteOptions(_Keep, total=False):
    """Settings of hard_concrete."""

    penalty: float | None
    refit: bool
    epochs: int
    anneal: float
    weight_rate: float
    gate_rate: float
    temperature: TemperatureSchedule
    gates: HardConcrete
    settled: float
    seed: int
    device: str
    exact: ExactSettings


class CrossCategoryOptions(_Keep, total=False):
    """Settings of cross_category."""

    seed: int
    weights: Literal["initial", "dense"]
    refit: Literal["ipf", "raking", "none"]
    thin: float
    draws: int
    tolerance: float
    max_iterations: int


class HybridOptions(_Keep, total=False):
    """Settings of hybrid."""

    seed: int
    design: Literal["balanced", "systematic"]
    draws: int
    thin: float
    repair: int
    swaps: int
    compromise: Compromise
    tolerance: float
    max_iterations: int


# The method, and what its settings are called here.
OPTIONS: dict[str, type] = {
    **dict.fromkeys(
        ("ipf", "linear", "truncated_linear", "logit", "raking", "raking_bounded"), ExactOptions
    ),
    "entropy": EntropyOptions,
    "relaxed_entropy": RelaxedEntropyOptions,
    "gradient": GradientOptions,
    "hard_concrete": HardConcreteOptions,
    "reweighted_l1": ReweightedL1Options,
    "random_subset": RandomSubsetOptions,
    "cross_category": CrossCategoryOptions,
    "hybrid": HybridOptions,
    "trim": TrimOptions,
}
