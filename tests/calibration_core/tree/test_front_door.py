"""The front door of the tree wing: what it names, what it loads, and that five calls lead from a
list of areas to weights of exactly k pairs.

Belongs here: ``calibration_core.tree`` as a user imports it. Does not belong here: what each step
does (the other tests of this folder).
"""

import inspect
import subprocess
import sys

import numpy as np
import pytest

from calibration_core import tree as door


def test_every_name_is_found_and_no_other():
    for name in door.__all__:
        assert getattr(door, name).__name__ == name
    assert sorted(door.__all__) == sorted(door._PUBLIC)
    assert set(door.__all__) <= set(dir(door))
    with pytest.raises(AttributeError, match="no attribute 'reconciles'"):
        door.reconciles  # noqa: B018


def test_a_name_is_no_folder_of_the_package():
    # A folder of the same name would be found instead of it once anything in it is loaded.
    code = (
        "import calibration_core.tree.reconcile.levels, calibration_core.tree.select.joint\n"
        "import calibration_core.tree.rivals, calibration_core.tree.solve.newton\n"
        "import calibration_core.tree as t, types\n"
        "print([n for n in t.__all__ if isinstance(getattr(t, n), types.ModuleType)])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_looking_at_the_door_loads_neither_torch_nor_loops():
    code = (
        "import sys\n"
        "from calibration_core.tree import GeographyTree, make_targets, reconcile_tree\n"
        "print(sorted({'torch', 'numba'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", door.__all__)
def test_every_name_is_explained(name):
    thing = getattr(door, name)
    words = inspect.getdoc(thing) or ""
    assert len(words.split()) >= 4
    if inspect.isfunction(thing):
        said = [p for p in inspect.signature(thing).parameters if p not in words]
        assert not said, f"{name} does not explain {said}"


def test_from_a_list_of_areas_to_weights_of_forty_pairs():
    rng = np.random.default_rng(3)
    persons, income = 1 + rng.poisson(1.5, 200), rng.lognormal(10.8, 0.7, 200)
    design = np.column_stack([np.ones(200), persons])
    # County estimates add up to 1,060 households and 2,530 persons, the state says less.
    estimates = [np.array([[1040.0, 2500.0]]), np.array([[610.0, 1450.0], [450.0, 1080.0]])]
    errors = [np.array([[5.0, 10.0]]), np.array([[15.0, 40.0], [12.0, 35.0]])]

    tree = door.GeographyTree.from_leaves(["state", "county"], [["44", "44"], ["44001", "44003"]])
    agreed = door.reconcile_tree(tree, estimates, [error**2 for error in errors])
    targets = door.make_targets(tree, [design, design], agreed.values, errors)
    share = np.array([[0.58], [0.42]])
    problem = door.PoolProblem(tree, targets, np.full(200, 5.2), np.zeros(200, dtype=int), share)
    dense = door.calibrate_tree(problem, door.TreeNewtonSettings(share=(1.0, 1.0)))
    known = {"cell": np.minimum(persons, 5), "order": income, "attributes": income[:, None]}
    pool = door.Pool(tree, targets, dense.weights, **known)
    bounds = door.TreeNewtonSettings(ratio_bounds=(0.05, 10.0))
    settings = door.JointSettings(door.SelectionSettings(pairs=40, seed=1, floor=10), bounds)
    chosen = door.select_jointly(pool, settings)
    refined = door.refine_pairs(pool, chosen, settings)

    assert np.allclose(agreed.values[1].sum(axis=0), agreed.values[0])
    assert dense.converged and refined.result.converged
    assert chosen.leaf.size == 40 == len({*zip(chosen.leaf, chosen.record, strict=True)})
    totals = door.pair_totals(
        tree, targets.designs, chosen.leaf, chosen.record, refined.result.weights
    )
    for total, value, scale in zip(totals, targets.values, errors, strict=True):
        assert (np.abs(total - value) < 0.1 * scale).all()
    said = door.tree_conflicts(problem, dense).summary()
    assert "No level contradicts another" in said
    loss = door.selection_loss(
        pool, chosen.leaf, chosen.record, refined.result.weights, continuous=income[:, None]
    )
    assert 0 < loss.overall.selected.ess[0] <= 40
