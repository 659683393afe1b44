"""From a profile to the settings of the core: of the dense calibration, the selection, the refit.

Belongs here: what a run adds to the numbers of the profile: k, the state's seed, the number of
levels, threads. Does not belong here: the numbers themselves (``pipeline/specs/profiles.py``) or
what they mean (the core's own settings).
"""

from __future__ import annotations

import math

from calibration_core.common.threads import workers
from calibration_core.tree.select.joint import JointSettings
from calibration_core.tree.select.pairs import SelectionSettings
from calibration_core.tree.select.weight_limits import WeightLimits
from calibration_core.tree.solve.newton import TreeNewtonSettings
from pipeline.specs.profiles import Profile
from pipeline.targets.standard_errors import MARGIN_90
from pipeline.weights.problem import SolvableState

# Tight enough that the path taken (which differs with the number of threads in its last bits)
# leaves no trace in the weights.
FINAL_TOLERANCE = 1e-8


def pairs_of(profile: Profile, areas: int, requested: int | None = None) -> int:
    """k of a state: what was asked for, else ``pairs_per_area`` times its number of
    finest areas.
    """
    return requested if requested is not None else profile.budget.pairs_per_area * areas


def dense_settings(state: SolvableState) -> TreeNewtonSettings:
    """How all pairs of a state are calibrated."""
    return TreeNewtonSettings(
        tau_path=state.profile.method.tau_path,
        share=_shares(state),
        inside=MARGIN_90,
        tolerance=FINAL_TOLERANCE,
        path_tolerance=0.5,
        max_iterations=200,
    )


def refine_settings(state: SolvableState) -> TreeNewtonSettings:
    """How the selected pairs of a state are refitted."""
    return TreeNewtonSettings(
        tau_path=state.profile.method.refine_tau_path,
        share=_shares(state, at_least=0.999, above=0.97),
        inside=MARGIN_90,
        ratio_bounds=state.profile.method.ratio_bounds,
        tolerance=FINAL_TOLERANCE,
        path_tolerance=0.5,
        max_iterations=300,
    )


def joint_settings(state: SolvableState, pairs: int) -> JointSettings:
    """Selection and refit together; ``pairs`` is k."""
    profile = state.profile
    method, limits = profile.method.selection, profile.method.weight_limits
    chosen = SelectionSettings(
        pairs,
        state.seed("selection"),
        floor=profile.budget.minimum_pairs,
        rule=method.allocation,
        power=method.power,
        design=method.design,
        candidates=method.candidates_per_pair,
        exchanges=method.exchanges,
        cell_penalty=math.inf if method.cell_penalty is None else method.cell_penalty,
        rounds=method.rounds,
        threads=workers(),
    )
    limits = WeightLimits(limits.smallest, limits.largest_share)
    refine = refine_settings(state)
    return JointSettings(chosen, refine, method.anchor_strength, limits, inside=MARGIN_90)


def _shares(state: SolvableState, at_least: float = 0.0, above: float = 0.0) -> tuple[float, ...]:
    """Share of each level's targets to be met before the prior stops being weakened: of the finest,
    the profile's; of those above, ``above``."""
    finest = max(state.profile.method.tract_target_share, at_least)
    return (above,) * (len(state.problem.tree.levels) - 1) + (finest,)
