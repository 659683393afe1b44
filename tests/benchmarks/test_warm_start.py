"""Every start of the comparison ends at the same weights, and a stored one takes fewer steps."""

import numpy as np

from benchmarks.warm_start import distance, problems, solved, table_of
from calibration_core.tree import TreeNewtonSettings
from tests.calibration_core.tree.hierarchy_case import HIERARCHIES, random_pool

SETTINGS = TreeNewtonSettings(tau_path=(1.0, 0.3, 0.1), tolerance=1e-9, prior_unit=1.0)


def test_stored_multipliers_save_steps_and_move_nothing():
    problem = random_pool(1, HIERARCHIES[4], records=40)
    for name, first, then in problems(problem):
        before, _ = solved(first, SETTINGS, None, 1)
        path, _ = solved(then, SETTINGS, None, 1)
        warm, _ = solved(then, SETTINGS, before.multipliers, 1)
        at, _ = solved(
            then,
            TreeNewtonSettings(tau_path=(0.1,), tolerance=1e-9, prior_unit=1.0),
            before.multipliers,
            1,
        )
        assert path.converged, name
        assert at.converged, name
        assert distance(at, path) <= 1e-6
        assert distance(warm, path) <= 1e-6
        assert at.iterations <= path.iterations
        assert name != "the same again" or at.iterations == 0


def test_problems_differ_where_they_say():
    problem = random_pool(2, HIERARCHIES[4], records=40)
    found = {name: (first, then) for name, first, then in problems(problem)}
    assert found["the same again"][0] is found["the same again"][1]
    first, then = found["new prior"]
    assert not np.array_equal(first.record_prior, then.record_prior)
    first, then = found["one target more"]
    assert np.isinf(first.targets.scales[-1]).sum() > np.isinf(then.targets.scales[-1]).sum()
    rows = table_of(problem, SETTINGS, 1).row_count
    assert rows == 3 * len(found)
