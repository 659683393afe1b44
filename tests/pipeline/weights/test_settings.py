"""What a run adds to the numbers of the profile: k, seed, levels, the published margin."""

import numpy as np

from calibration_core.tree.select.weight_limits import WeightLimits
from pipeline.targets.standard_errors import MARGIN_90
from pipeline.weights.problem import state_seed
from pipeline.weights.settings import dense_settings, joint_settings, pairs_of, refine_settings
from tests.pipeline.weights.toy_state import solvable, tables, targets


def test_settings_of_selection_are_the_profiles(profile):
    method = profile.method
    limits = method.limits.model_copy(update={"smallest": 4.0, "largest_share": 0.12})
    changes = {"design": "sampford", "rounds": 7, "cell_penalty": np.inf}
    selection = method.selection.model_copy(update=changes)
    method = method.model_copy(update={"limits": limits, "selection": selection})
    records = tables()
    state = solvable(records, targets(records), profile.model_copy(update={"method": method}))
    settings = joint_settings(state, 77)
    assert settings.limits == WeightLimits(smallest=4.0, largest_share=0.12)
    chosen = settings.selection
    assert (chosen.design, chosen.rounds, chosen.cell_penalty) == ("sampford", 7, np.inf)
    assert chosen.pairs == 77
    assert chosen.seed == state_seed(profile.seed, "44", "selection")
    assert chosen.floor == profile.budget.minimum_pairs
    assert settings.refine == refine_settings(state)
    assert settings.inside == MARGIN_90


def test_shares_are_asked_of_every_level(profile):
    records = tables()
    state = solvable(records, targets(records), profile)
    assert dense_settings(state).share == (0.0, 0.0, 0.995)
    assert refine_settings(state).share == (0.97, 0.97, 0.999)
    assert dense_settings(state).inside == refine_settings(state).inside == MARGIN_90


def test_k_is_pairs_per_area_times_areas_unless_asked_otherwise(profile):
    assert pairs_of(profile, 7) == 7 * profile.budget.pairs_per_area
    assert pairs_of(profile, 7, 123) == 123
