"""The report of what levels could not agree on: what it finds, what it says, and what it leaves
out.
"""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest

from calibration_core.errors import ProblemError
from calibration_core.tree.conflicts import TreeConflicts, tree_conflicts
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree

NAMES = [["persons", "income"], ["persons", "homes"], ["persons", "homes", "rent"]]
SETTINGS = TreeNewtonSettings(tau_path=(1.0, 0.01), tolerance=1e-8)


def consistent(seed: int = 0) -> PoolProblem:
    """State, three counties, nine tracts; every target is that of the prior, so nothing contradicts
    anything.
    """
    rng = np.random.default_rng(seed)
    tree = GeographyTree.from_leaves(
        ["state", "county", "tract"],
        [
            ["44"] * 9,
            [f"4400{i // 3}" for i in range(9)],
            [f"4400{i // 3}{i % 3}" for i in range(9)],
        ],
    )
    persons, homes, income, rent = (
        np.ones(25),
        rng.integers(0, 2, 25).astype(float),
        rng.lognormal(3.0, 0.5, 25),
        rng.lognormal(1.0, 0.5, 25),
    )
    designs = [
        np.column_stack(c) for c in ((persons, income), (persons, homes), (persons, homes, rent))
    ]
    leaf_prior, record_prior = np.full((9, 1), 1.0), np.full(25, 4.0)
    values = [
        tree.sum_leaves(leaf_prior * record_prior, d) @ design for d, design in enumerate(designs)
    ]
    return PoolProblem(
        tree,
        make_targets(tree, designs, values, [0.02 * v for v in values]),
        record_prior,
        np.zeros(25, dtype=np.int64),
        leaf_prior,
    )


def changed(
    problem: PoolProblem, depth: int, area, variable: int, factor: float, scale: float | None = None
) -> PoolProblem:
    values, scales = (
        [v.copy() for v in problem.targets.values],
        [s.copy() for s in problem.targets.scales],
    )
    values[depth][area, variable] *= factor
    if scale is not None:
        scales[depth][area, variable] = scale
    return replace(
        problem, targets=replace(problem.targets, values=tuple(values), scales=tuple(scales))
    )


def report(problem, **options) -> TreeConflicts:
    return tree_conflicts(problem, calibrate_tree(problem, SETTINGS), names=NAMES, **options)


def test_levels_that_agree_say_so():
    found = report(consistent())
    assert found.disagreements == ()
    assert found.compared == 3 + 3 + 1
    assert [level.beyond for level in found.levels] == [0, 0, 0]
    assert (
        "No level contradicts another: of 7 sums none differs by more than 1.645 errors."
        in found.summary()
    )


def test_tracts_that_add_up_to_more_than_their_county_are_named_with_area_variable_and_size():
    """County 44001's tracts are 20 % above it and known far better, so the weights follow them."""
    problem = changed(consistent(), 2, slice(3, 6), 0, 1.2, 1.0)
    found = report(problem)
    worst = found.disagreements[0]
    assert (worst.variable, worst.upper, worst.lower, worst.area) == (
        "persons",
        "county",
        "tract",
        "44001",
    )
    assert worst.area_percent == pytest.approx(20.0)
    assert worst.area_difference == pytest.approx(60.0)
    assert worst.area_errors == pytest.approx(60.0 / np.sqrt(6.0**2 + 3.0))
    assert (worst.areas, worst.beyond, worst.incomplete) == (3, 1, 0)
    assert worst.percent == pytest.approx(60.0 / 900.0 * 100)
    assert worst.follows == "tract"
    assert 0.75 < worst.position < 1.05
    text = found.summary()
    assert (
        "county 44001 'persons': the tract targets inside add up to 20.0 % more than its own, 9.6"
        " errors; the weights follow the tract level" in text
    )
    assert "above its own target)" in text
    assert "1 of 3 county-level areas differ beyond error, +6.67 % in all." in text


def test_the_weights_may_follow_the_upper_level_or_neither():
    strong = report(
        changed(changed(consistent(), 2, slice(3, 6), 0, 1.2), 1, 1, 0, 1.0, 0.1)
    ).disagreements[0]
    assert strong.follows == "county"
    assert "the weights follow the county level" in strong.words()
    even = report(
        changed(changed(consistent(), 2, slice(3, 6), 0, 1.2, 5.0), 1, 1, 0, 1.0, 8.0)
    ).disagreements[0]
    assert even.follows == "between"
    assert "the weights lie between the two" in even.words()
    assert dataclasses.replace(even, position=-2.0).follows == "neither"


def test_levels_share_the_loss_and_name_their_largest_residual():
    problem = changed(consistent(), 2, slice(3, 6), 0, 1.2, 1.0)
    result = calibrate_tree(problem, SETTINGS)
    found = tree_conflicts(problem, result, names=NAMES)
    assert sum(level.share_of_loss for level in found.levels) == pytest.approx(1.0)
    scaled = [r / s for r, s in zip(result.residuals, problem.targets.scales, strict=True)]
    for level, r in zip(found.levels, scaled, strict=True):
        assert level.targets == r.size
        assert level.beyond == int((np.abs(r) > 1.645).sum())
        assert level.largest == pytest.approx(np.abs(r).max())
    county = found.levels[1]
    assert (county.area, county.variable) == ("county 44001", "persons")
    assert county.percent == pytest.approx(
        100 * result.residuals[1][1, 0] / problem.targets.values[1][1, 0]
    )
    assert county.words().startswith("county: ")


def test_a_variable_is_compared_with_the_nearest_level_below_that_has_it():
    """Persons of the counties are not targets here: the state's are compared with the tracts'."""
    problem = consistent()
    scales = [s.copy() for s in problem.targets.scales]
    scales[1][:, 0] = np.inf
    problem = changed(
        replace(problem, targets=replace(problem.targets, scales=tuple(scales))), 0, 0, 0, 0.8
    )
    worst = report(problem).disagreements[0]
    assert (worst.upper, worst.lower, worst.variable) == ("state", "tract", "persons")
    assert worst.area_percent == pytest.approx(25.0)


def test_areas_with_a_missing_part_are_counted_and_not_compared():
    problem = consistent()
    scales = [s.copy() for s in problem.targets.scales]
    scales[2][0, 0] = np.inf
    problem = changed(
        replace(problem, targets=replace(problem.targets, scales=tuple(scales))),
        2,
        slice(3, 6),
        0,
        1.2,
    )
    found = report(problem)
    assert found.disagreements[0].incomplete == 1
    assert found.disagreements[0].areas == 2
    assert found.compared == 6


def test_variables_of_one_level_are_counted_as_such():
    """Income is the state's alone, rent the tracts'."""
    assert report(consistent()).single == 1 + 9


def test_the_list_is_short_and_says_what_it_leaves_out():
    rng = np.random.default_rng(3)
    tree = GeographyTree.from_leaves(
        ["county", "tract"], [["a", "a", "b", "b"], ["1", "2", "3", "4"]]
    )
    design = rng.integers(0, 2, size=(40, 30)).astype(float)
    tracts = np.full((4, 1), 1.0) * design.sum(axis=0)
    counties = tree.sum_leaves(tracts, 0) * rng.uniform(1.3, 2.0, size=30)
    targets = make_targets(
        tree, [design, design], [counties, tracts], [0.01 * counties, 0.01 * tracts]
    )
    problem = PoolProblem(tree, targets, np.ones(40), np.zeros(40, dtype=np.int64), np.ones((4, 1)))
    found = tree_conflicts(
        problem,
        calibrate_tree(problem, replace(SETTINGS, tau_path=(1.0,), max_iterations=30)),
        most=5,
    )
    assert len(found.disagreements) == 5
    assert found.further == 25
    assert [d.excess for d in found.disagreements] == sorted(
        (d.excess for d in found.disagreements), reverse=True
    )
    assert "25 more variables disagree" in found.summary()
    assert found.disagreements[0].variable.startswith("variable ")


def test_pairs_give_the_report_of_the_pool():
    problem = changed(consistent(), 2, slice(3, 6), 0, 1.2, 1.0)
    leaf, record = np.nonzero(problem.prior() > 0)
    pairs = PairProblem(problem.tree, problem.targets, leaf, record, problem.prior()[leaf, record])
    assert report(pairs).summary() == report(problem).summary()


def test_a_target_of_zero_is_told_in_units():
    problem = changed(consistent(), 1, 1, 1, 0.0, 1.0)
    worst = report(problem).disagreements[0]
    assert np.isnan(worst.area_percent)
    assert f"add up to {worst.area_difference:,.6g} more than its own" in worst.words()


def test_one_level_has_nothing_to_compare():
    full = consistent()
    tree = GeographyTree.from_leaves(["tract"], [full.tree.leaves])
    t = full.targets
    problem = replace(
        full, tree=tree, targets=make_targets(tree, t.designs[2:], t.values[2:], t.scales[2:])
    )
    assert (
        "No variable has targets at two levels"
        in tree_conflicts(problem, calibrate_tree(problem, SETTINGS)).summary()
    )


def test_names_and_totals_that_do_not_fit_are_refused():
    problem = consistent()
    result = calibrate_tree(problem, SETTINGS)
    with pytest.raises(ProblemError, match="names of variables"):
        tree_conflicts(problem, result, names=[["a"], ["b"], ["c"]])
    with pytest.raises(ProblemError, match="Fitted totals"):
        tree_conflicts(problem, replace(result, fitted=result.fitted[:2]))
