"""Refits that aim at the dense totals, and soft targets of the leaves themselves."""

from dataclasses import replace

import numpy as np
import pytest

from calibration_core.errors import ProblemError, SettingsError
from calibration_core.tree.select.anchors import anchored, toward_dense
from calibration_core.tree.select.balance import totals_and_errors
from calibration_core.tree.select.joint import refine_pairs, select_jointly
from calibration_core.tree.select.settings import JointSettings
from tests.calibration_core.state_case import joint, make_state

# Columns of the attributes without a target at the tract: wages, gains, other.
UNTOLD = np.array([6, 7, 8])


@pytest.fixture(scope="module")
def case():
    return replace(make_state(), anchors=UNTOLD)


@pytest.fixture(scope="module")
def pairs(case):
    return select_jointly(case, joint(7 * 25))


def test_leaves_get_the_dense_totals_of_the_pools_anchors_alone(case):
    counts = np.full(7, 25)
    soft = anchored(case, counts, 0.0, finest=0.5)
    totals, errors = totals_and_errors(case.dense, case.attributes[:, UNTOLD], counts)
    own = case.targets.designs[-1].shape[1]
    np.testing.assert_array_equal(soft.designs[-1][:, own:], case.attributes[:, UNTOLD])
    np.testing.assert_allclose(soft.values[-1][:, own:], totals)
    np.testing.assert_allclose(soft.scales[-1][:, own:], 0.5 * errors)
    for depth in (0, 1):
        assert soft.designs[depth].shape == case.targets.designs[depth].shape
    np.testing.assert_array_equal(soft.values[-1][:, :own], case.targets.values[-1])


def test_without_anchors_of_the_pool_leaves_get_none(case):
    none = replace(case, anchors=UNTOLD[:0])
    soft = anchored(none, np.full(7, 25), 0.0, finest=0.5)
    assert soft.designs[-1].shape == case.targets.designs[-1].shape


def test_dense_totals_stand_in_for_the_targets_of_leaves_only(case):
    aims = toward_dense(case)
    np.testing.assert_allclose(aims.values[-1], case.dense @ case.targets.designs[-1])
    for depth in (0, 1):
        np.testing.assert_array_equal(aims.values[depth], case.targets.values[depth])
    for mine, theirs in zip(aims.scales, case.targets.scales, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def errors(case, pairs, settings: JointSettings) -> tuple[float, float]:
    """Root mean square error against dense totals of tracts: of targets, in scales; of what was
    not told, in standard errors of a random draw."""
    weights = refine_pairs(case, pairs, settings).result.weights
    totals, spread = totals_and_errors(case.dense, case.attributes, np.full(7, 25))
    given = np.zeros(totals.shape)
    np.add.at(given, pairs.leaf, weights[:, None] * case.attributes[pairs.record])
    off = given - totals
    told = off[:, :6] / case.targets.scales[-1]
    untold = off[:, UNTOLD] / spread[:, UNTOLD]
    return float(np.sqrt((told**2).mean())), float(np.sqrt((untold**2).mean()))


def test_a_refit_that_aims_at_the_dense_totals_comes_nearer_to_them(case, pairs):
    plain = joint(7 * 25)
    told, _ = errors(case, pairs, plain)
    nearer, _ = errors(case, pairs, replace(plain, goals="dense"))
    assert nearer < told


def test_residuals_are_against_the_targets_whatever_the_refit_aimed_at(case, pairs):
    result = refine_pairs(case, pairs, replace(joint(7 * 25), goals="dense")).result
    for fitted, value, residual in zip(
        result.fitted, case.targets.values, result.residuals, strict=True
    ):
        np.testing.assert_allclose(residual, fitted - value)


def test_anchored_leaves_keep_what_has_no_target(case, pairs):
    loose = replace(joint(7 * 25), goals="dense")
    _, before = errors(case, pairs, loose)
    _, after = errors(case, pairs, replace(loose, anchor_finest=0.25))
    assert after < 0.8 * before


def test_goals_that_do_not_exist_are_refused():
    with pytest.raises(SettingsError, match="'prior'"):
        replace(joint(10), goals="prior")


def test_an_anchor_that_is_no_attribute_is_refused(case):
    with pytest.raises(ProblemError, match="anchors"):
        replace(case, anchors=np.array([9]))
