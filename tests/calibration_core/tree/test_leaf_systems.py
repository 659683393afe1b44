"""A leaf's own system in its variables and in its pairs: the same answers, whichever is smaller."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibration_core.tree import TreeNewtonSettings, calibrate_tree
from calibration_core.tree.problem import PairProblem
from calibration_core.tree.solve import leaf_systems, pair_blocks
from calibration_core.tree.solve.leaf_systems import LeafSystems, by_pairs
from calibration_core.tree.solve.pair_leaves import PairLeaves
from calibration_core.tree.solve.pair_rows import MatrixRows
from tests.calibration_core.tree.hierarchy_case import (
    HIERARCHIES,
    as_pairs,
    make_targets,
    random_pool,
)

TAU = 0.03


def _system(pairs, variables, ridge, spread=1.0, seed=0):
    """Rows, 1 / scale, slopes of three leaves, and M of each, made plainly."""
    rng = np.random.default_rng(seed)
    rows = rng.poisson(1.0, (3, pairs, variables)).astype(float)
    inverse = rng.lognormal(0.0, spread, (3, variables))
    slope = rng.lognormal(0.0, 1.0, (3, pairs))
    inverse[0, 1] = slope[2, 0] = 0.0
    scaled = rows * inverse[:, None, :] * np.sqrt(slope)[:, :, None]
    whole = ridge * np.eye(variables) + scaled.transpose(0, 2, 1) @ scaled
    return *(torch.as_tensor(a) for a in (rows, inverse, slope)), whole, scaled


def _matrix(rows, above=None):
    """Rows of the leaves' own columns, and of others above."""
    whole = rows if above is None else torch.cat([rows, torch.as_tensor(above)], dim=2)
    width = rows.shape[2]
    return MatrixRows(lambda: whole, width, slice(width, whole.shape[2]), slice(0, 0))


@pytest.mark.parametrize(("pairs", "variables"), [(4, 9), (9, 4), (6, 6)])
def test_both_forms_solve_the_system_written_out(pairs, variables):
    plain, inverse, slope, whole, scaled = _system(pairs, variables, 0.1)
    above = np.random.default_rng(2).normal(size=(3, pairs, 5))
    rows = _matrix(plain, above)
    systems = LeafSystems.of(rows, inverse, slope, 0.1)
    assert systems.by_pairs == by_pairs(pairs, variables) == (pairs < variables)
    x = np.random.default_rng(1).normal(size=(3, variables))
    found = systems.solve(rows, inverse, torch.as_tensor(x)).numpy()
    alone = np.linalg.solve(whole, x[:, :, None])
    assert np.allclose(found, alone[:, :, 0], rtol=1e-9)
    # And with what comes from above: C' M^-1 x, and M^-1 (x - C z).
    leaves = PairLeaves(torch.arange(3), systems, rows, slope, inverse)
    coupling = scaled.transpose(0, 2, 1) @ (above * np.sqrt(slope.numpy())[:, :, None])
    half, taken = leaves.reduced(torch.as_tensor(x))
    wanted = (coupling.transpose(0, 2, 1) @ alone)[:, :, 0]
    assert np.allclose(taken.numpy(), wanted, rtol=1e-8, atol=1e-9)
    z = np.random.default_rng(3).normal(size=(3, 5))
    found = leaves.finish(half, torch.as_tensor(z)).numpy()
    left = x[:, :, None] - coupling @ z[:, :, None]
    assert np.allclose(found, np.linalg.solve(whole, left)[:, :, 0], rtol=1e-8)


def test_scales_far_apart_leave_the_answer_its_digits():
    """Curvature of a billion ridges: the step still solves the system to a millionth."""
    plain, inverse, slope, whole, _ = _system(5, 12, 1e-3, spread=4.0, seed=4)
    rows = _matrix(plain)
    assert np.linalg.eigvalsh(whole).max() > 1e9 * 1e-3
    x = np.random.default_rng(5).normal(size=(3, 12))
    found = LeafSystems.of(rows, inverse, slope, 1e-3).solve(rows, inverse, torch.as_tensor(x))
    left = (whole @ found.numpy()[:, :, None])[:, :, 0] - x
    assert np.abs(left).max() <= 1e-6 * np.abs(x).max()


def _few_pairs(seed, keep=3):
    """A hierarchy whose leaves keep three pairs of twenty records, for more variables than that."""
    rng = np.random.default_rng(seed)
    base = random_pool(seed, HIERARCHIES[-1], records=20)
    more = rng.poisson(1.0, (20, 6)).astype(float)
    t, tree = base.targets, base.tree
    designs = [*t.designs[:-1], np.column_stack([t.designs[-1], more])]
    total = base.prior() @ more
    values = [*t.values[:-1], np.column_stack([t.values[-1], total * rng.uniform(0.8, 1.2)])]
    scales = [*t.scales[:-1], np.column_stack([t.scales[-1], 0.2 + 0.1 * total])]
    whole = as_pairs(replace(base, targets=make_targets(tree, designs, values, scales)))
    kept = np.concatenate(
        [np.flatnonzero(whole.leaf == leaf)[:keep] for leaf in range(len(tree.leaves))]
    )
    assert by_pairs(keep, designs[-1].shape[1])
    parts = whole.leaf[kept], whole.record[kept], whole.prior_weight[kept]
    return PairProblem(tree, whole.targets, *parts)


@pytest.mark.parametrize("bounds", [None, (0.1, 6.0)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_leaves_of_few_pairs_end_at_the_same_weights_in_either_form(bounds, seed, monkeypatch):
    problem = _few_pairs(seed)
    settings = TreeNewtonSettings(
        tau_path=(1.0, TAU), tolerance=1e-10, ratio_bounds=bounds, prior_unit=1.0
    )
    small = calibrate_tree(problem, settings)
    monkeypatch.setattr(leaf_systems, "by_pairs", lambda pairs, variables: False)
    large = calibrate_tree(problem, settings)
    assert small.converged
    assert large.converged
    assert np.abs(small.weights - large.weights).max() <= 1e-8 * large.weights.max()
    assert small.iterations <= large.iterations + 2


def test_leaves_of_few_pairs_hold_a_smaller_factor(monkeypatch):
    """What a factor keeps of a leaf has the size of its pairs."""
    problem = _few_pairs(3)
    settings = TreeNewtonSettings(tau_path=(TAU,), prior_unit=1.0)
    kept, eliminate = [], pair_blocks.eliminate_pairs

    def seen(*args):
        done = eliminate(*args)
        kept.append(done.factor.systems.lower.shape[1:])
        return done

    monkeypatch.setattr(pair_blocks, "eliminate_pairs", seen)
    assert calibrate_tree(problem, settings).converged
    assert set(kept) == {(3, 3)}
