"""What a sparse solution keeps of the dense one: totals, scales and soft targets, against loops and
in a refit.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.common.digits import CHOICE_BITS
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import make_targets
from calibration_core.tree.select.anchors import anchored
from calibration_core.tree.select.balance import balance_of, totals_and_errors, unique_columns
from calibration_core.tree.select.joint import refine_pairs
from calibration_core.tree.select.pairs import select_pairs
from tests.calibration_core.state_case import joint, make_state

# What a scale is rounded to.
ROUNDED = 2.0**-CHOICE_BITS


@pytest.fixture(scope="module")
def case():
    return make_state()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(0, 2**31))
def test_totals_and_standard_errors_are_those_of_cochran(seed):
    rng = np.random.default_rng(seed)
    leaves, records = int(rng.integers(1, 8)), int(rng.integers(2, 30))
    dense = rng.gamma(0.5, 10.0, (leaves, records)) * (rng.random((leaves, records)) < 0.7)
    rows = np.column_stack(
        [np.ones(records), 1e6 + rng.random(records), rng.lognormal(0, 2, records)]
    )
    per_leaf = rng.integers(0, 9, leaves)
    totals, errors = totals_and_errors(dense, rows, per_leaf)
    for t in range(leaves):
        weight = dense[t].sum()
        for v in range(3):
            assert totals[t, v] == pytest.approx(
                sum(dense[t, i] * rows[i, v] for i in range(records))
            )
            mean = totals[t, v] / weight if weight else 0.0
            variance = (
                sum(dense[t, i] * (rows[i, v] - mean) ** 2 for i in range(records)) / weight
                if weight
                else 0.0
            )
            # What hardly varies beside its size counts as not varying.
            if variance <= 1e-10 * mean**2:
                assert errors[t, v] <= 1e-5 * weight * mean
            else:
                assert errors[t, v] == pytest.approx(
                    weight * np.sqrt(variance / max(per_leaf[t], 1)), rel=1e-4
                )
    assert (errors[:, 0] == 0).all()


def test_blocks_of_areas_change_nothing(case, monkeypatch):
    whole = totals_and_errors(case.dense, case.attributes, np.full(7, 9))
    monkeypatch.setattr("calibration_core.common.area_weights._AREAS", 2)
    for a, b in zip(
        whole, totals_and_errors(case.dense, case.attributes, np.full(7, 9)), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-10)


def test_columns_are_taken_once():
    rng = np.random.default_rng(0)
    a = rng.random((20, 3))
    b = np.column_stack([a[:, 1], rng.random(20)])
    assert unique_columns(a, b, a, b[:, [1, 1]]).tolist() == b[:, [1]].tolist()
    assert unique_columns(a).shape == (20, 0)


def test_balance_has_the_finest_targets_first_then_all_else_that_is_known(case):
    balance = balance_of(case, np.full(7, 20))
    assert balance.rows.tolist() == case.attributes.tolist()
    np.testing.assert_allclose(balance.goals, case.dense @ case.attributes, rtol=1e-8)
    np.testing.assert_allclose(balance.scales[:, :6], case.targets.scales[2], rtol=ROUNDED)
    errors = totals_and_errors(case.dense, case.attributes, np.full(7, 20))[1]
    np.testing.assert_allclose(balance.scales[:, 6:], errors[:, 6:], rtol=ROUNDED)
    assert balance.shared is None
    # A variable that nobody has in an area is left out there.
    dense = case.dense.copy()
    dense[2, case.attributes[:, 7] > 0] = 0.0
    without = balance_of(replace(case, dense=dense), np.full(7, 20))
    assert (
        np.isinf(without.scales[2, 7]) and np.isfinite(without.scales[[0, 1, 3, 4, 5, 6], 7]).all()
    )


def test_totals_that_few_pairs_stand_for_are_shared(case):
    """Seven state targets, and seven for each county. With 12 pairs in the first county (2.5 a
    target are 17.5) its totals are shared by its tracts; the second county, and the state, have
    enough.
    """
    per_leaf = np.array([4, 4, 4, 9, 9, 9, 9])
    shared = balance_of(case, per_leaf).shared
    assert shared.rows.tolist() == case.targets.designs[1].tolist()
    assert (
        (shared.slot[:3] == shared.slot[0]).all()
        and len(set(shared.slot[0])) == 7
        and (shared.slot[0] >= 0).all()
        and (shared.slot[3:] == -1).all()
    )
    goals = case.tree.sum_leaves(case.dense @ case.attributes[:, :7], 1)[0]
    errors = totals_and_errors(case.dense, case.attributes[:, :7], per_leaf)[1]
    np.testing.assert_allclose(shared.goals[shared.slot[0]], goals, rtol=1e-8)
    np.testing.assert_allclose(
        shared.scales[shared.slot[0]],
        np.maximum(case.targets.scales[1][0], 0.1 * np.sqrt((errors[:3] ** 2).sum(axis=0))),
        rtol=ROUNDED,
    )
    # With one pair a tract state and counties are shared, in slots of their own.
    shared = balance_of(case, np.ones(7, dtype=int)).shared
    assert shared.rows.shape == (160, 14) and (shared.slot >= 0).all()
    assert (shared.slot[:, :7] == shared.slot[0, :7]).all() and len(set(shared.slot.ravel())) == 21
    # What has no target is not shared.
    scales = [case.targets.scales[0].copy(), *case.targets.scales[1:]]
    scales[0][0, 4:] = np.inf
    few = make_targets(case.tree, case.targets.designs, case.targets.values, scales)
    shared = balance_of(replace(case, targets=few), np.ones(7, dtype=int)).shared
    assert (
        (shared.slot[:, 4:7] == -1).all()
        and (shared.slot[:, :4] >= 0).all()
        and (shared.slot[:, 7:] >= 0).all()
    )


def test_soft_targets_are_dense_totals_beside_the_given_ones(case):
    soft = anchored(case, np.full(7, 30), 0.5)
    for depth in range(3):
        own = case.targets.designs[depth].shape[1]
        for name in ("designs", "values", "scales"):
            assert (
                getattr(soft, name)[depth][:, :own].tolist()
                == getattr(case.targets, name)[depth].tolist()
            )
    assert soft.designs[2].shape[1] == 6 and soft.count == case.targets.count + 2 * 3
    errors = totals_and_errors(case.dense, case.attributes, np.full(7, 30))[1]
    mean_weight = case.dense.sum() / 210
    for depth in (0, 1):
        assert soft.designs[depth][:, 7:].tolist() == case.attributes[:, 7:].tolist()
        np.testing.assert_allclose(
            soft.values[depth][:, 7:],
            case.tree.sum_leaves(case.dense @ case.attributes[:, 7:], depth),
            rtol=1e-10,
        )
        spread = np.sqrt(case.tree.sum_leaves(errors[:, 7:] ** 2, depth))
        scale = soft.scales[depth][:, 7:]
        weights = case.dense.sum(axis=0)
        for v in (0, 1):
            x = case.attributes[:, 7 + v]
            lump = mean_weight * (weights @ x) / weights[x > 0].sum()
            np.testing.assert_allclose(
                scale[:, v], np.maximum(0.5 * spread[:, v], 0.5 * lump), rtol=1e-9
            )
    assert anchored(case, np.full(7, 30), 0.0) is case.targets


def test_totals_without_a_target_come_out_at_the_dense_ones(case):
    """Refitted from a draw that was not balanced at all, the totals of state and counties that
    nothing asks for are near the dense ones where they are anchored. Without anchors they are far
    from them; targets are met either way.
    """
    drawn = select_pairs(replace(case, classes=()), joint(280, design="systematic").selection)
    goals = [case.tree.sum_leaves(case.dense @ case.attributes[:, 7:], depth) for depth in (0, 1)]
    errors, fits = [], []
    for strength in (0.0, 1e-3):
        fit = refine_pairs(case, drawn, joint(280, anchor_strength=strength))
        assert fit.result.converged and fit.anchored == (6 if strength else 0)
        weights = np.zeros(case.dense.shape)
        weights[drawn.leaf, drawn.record] = fit.result.weights
        totals = [case.tree.sum_leaves(weights @ case.attributes[:, 7:], depth) for depth in (0, 1)]
        errors.append(
            np.concatenate([np.abs(t / g - 1).ravel() for t, g in zip(totals, goals, strict=True)])
        )
        fits.append(fit.result)
        # Only what the caller asked for is in the result.
        for depth, design in enumerate(case.targets.designs):
            assert (
                fit.result.fitted[depth].shape
                == fit.result.residuals[depth].shape
                == case.targets.values[depth].shape
            )
            np.testing.assert_allclose(
                fit.result.fitted[depth],
                case.tree.sum_leaves(weights @ design, depth),
                rtol=1e-9,
                atol=1e-9,
            )
    assert errors[1].max() < 0.01 and np.median(errors[0]) > 0.05
    for fit in fits:
        assert np.abs(fit.residuals[0] / case.targets.scales[0]).max() < 2.0


def test_a_tree_of_one_level_has_nothing_to_anchor(case):
    tree = GeographyTree.from_leaves(["tract"], [list(case.tree.leaves)])
    flat = make_targets(
        tree, case.targets.designs[2:], case.targets.values[2:], case.targets.scales[2:]
    )
    assert anchored(replace(case, tree=tree, targets=flat), np.full(7, 9), 0.5) is flat
