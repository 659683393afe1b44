"""From a profile to the settings of the core: of the dense calibration, the selection, the refit.

Belongs here: what a run adds to the numbers of the profile: k, the state's seed, the number of
levels, threads. Does not belong here: the numbers themselves (``data_specs/method.yaml``), their
model (``pipeline/specs/method.py``), or what they mean (the core's own classes).
"""

from __future__ import annotations

from calibration_core.common.threads import workers
from calibration_core.tree.result import TreeNewtonSettings
from calibration_core.tree.select.settings import JointSettings
from pipeline.specs.method import LevelShares
from pipeline.specs.profiles import Profile
from pipeline.targets.standard_errors import MARGIN_90
from pipeline.weights.problem import SolvableState


def pairs_of(profile: Profile, areas: int, requested: int | None = None) -> int:
    """k of a state: what was asked for, else ``pairs_per_area`` times the number of ``areas``."""
    return requested if requested is not None else profile.budget.pairs_per_area * areas


def dense_settings(state: SolvableState) -> TreeNewtonSettings:
    """How all pairs of a state are calibrated."""
    method = state.profile.method
    return method.dense.settings(inside=MARGIN_90, share=_by_level(state, method.dense_share))


def refine_settings(state: SolvableState) -> TreeNewtonSettings:
    """How the selected pairs of a state are refitted."""
    method = state.profile.method
    return method.refine.settings(inside=MARGIN_90, share=_by_level(state, method.refine_share))


def joint_settings(state: SolvableState, pairs: int) -> JointSettings:
    """Selection and refit together; ``pairs`` is k."""
    profile, method = state.profile, state.profile.method
    selection = method.selection.settings(
        pairs=pairs,
        seed=state.seed("selection"),
        floor=profile.budget.minimum_pairs,
        threads=workers(),
    )
    return JointSettings(
        selection=selection,
        refine=refine_settings(state),
        anchor_strength=method.anchor_strength,
        anchor_finest=method.anchor_finest,
        goals=method.goals,
        limits=method.limits.settings(),
        inside=MARGIN_90,
    )


def _by_level(state: SolvableState, share: LevelShares) -> tuple[float, ...]:
    """One share for each level of the state, coarsest first."""
    return (share.above,) * (len(state.problem.tree.levels) - 1) + (share.finest,)
