"""Records over areas: exact sums, bounds and their report, proportionality, and the sizes areas are
given.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.errors import BudgetError, ProblemError, SettingsError
from calibration_core.sampling.allocation import allocate, allocation_of, floor_within
from calibration_core.sampling.area_sizes import (
    AreaSize,
    area_size,
    effective_size,
    neyman_size,
    pair_ceiling,
    population_size,
)

SIZES = st.one_of(st.just(0.0), st.sampled_from([1.0, 2.0, 5e-324, 1e300]), st.floats(1e-6, 1e6))


@st.composite
def areas(draw):
    """Sizes with zeros, ties and extremes; ceilings with zeros (where the size is zero too)."""
    count = draw(st.integers(1, 12))
    size = np.array(draw(st.lists(SIZES, min_size=count, max_size=count)))
    ceiling = np.array(draw(st.lists(st.integers(0, 60), min_size=count, max_size=count)))
    ceiling = np.where(size > 0, np.maximum(ceiling, 1), ceiling)
    if ceiling.sum() == 0:
        ceiling[0] = 3
    budget = draw(st.integers(int((ceiling > 0).sum()), int(ceiling.sum())))
    return budget, size, ceiling, draw(st.integers(0, 80))


@settings(max_examples=200, deadline=None)
@given(areas())
def test_sums_are_exact_and_bounds_hold_from_the_smallest_budget_to_all_pairs(case):
    budget, size, ceiling, floor = case
    share = allocate(budget, size, floor=floor, ceiling=ceiling)
    used = floor_within(budget, floor, ceiling)
    assert share.sum() == budget
    assert (share <= ceiling).all()
    assert (share >= np.minimum(used, ceiling)).all()
    assert used == max(1, floor) or np.minimum(used + 1, ceiling).sum() > budget
    assert share.dtype == np.int64


@settings(max_examples=100, deadline=None)
@given(areas())
def test_larger_areas_never_get_fewer_and_free_areas_are_proportional(case):
    budget, size, ceiling, floor = case
    share = allocate(budget, size, floor=floor, ceiling=ceiling)
    low = np.minimum(floor_within(budget, floor, ceiling), ceiling)
    for a in range(size.size):
        for b in range(size.size):
            if size[a] > size[b] and share[a] < ceiling[a]:
                assert share[a] >= share[b] or share[b] == low[b]
    free = (share > low + 1) & (share < ceiling - 1) & (size > 0)
    if free.sum() > 1:
        # Before rounding they are c * size: one c fits all to within one record.
        assert (
            max(np.log(share[free] - 1) - np.log(size[free]))
            <= min(np.log(share[free] + 1) - np.log(size[free])) + 1e-9
        )


@settings(max_examples=60, deadline=None)
@given(areas())
def test_the_unit_of_size_does_not_matter(case):
    budget, size, ceiling, floor = case
    size = np.clip(size, 0, 1e200)
    size[(size > 0) & (size < 1e-200)] = 1e-200
    assert (
        allocate(budget, size, floor=floor, ceiling=ceiling).tolist()
        == allocate(budget, size * 2.0**10, floor=floor, ceiling=ceiling).tolist()
    )


def test_ties_go_to_the_earlier_area():
    assert allocate(5, np.ones(3), floor=1, ceiling=np.full(3, 9)).tolist() == [2, 2, 1]


def test_known_allocations():
    assert allocate(
        100, np.array([1.0, 2.0, 7.0]), floor=15, ceiling=np.full(3, 1000)
    ).tolist() == [15, 19, 66]
    assert allocate(
        100, np.array([1.0, 2.0, 7.0]), floor=1, ceiling=np.array([1000, 1000, 40])
    ).tolist() == [20, 40, 40]
    # A zero size stays at the floor, until the others are full.
    assert allocate(20, np.array([0.0, 1.0, 1.0]), floor=2, ceiling=np.full(3, 10)).tolist() == [
        2,
        9,
        9,
    ]
    assert allocate(26, np.array([0.0, 1.0, 1.0]), floor=2, ceiling=np.full(3, 10)).tolist() == [
        6,
        10,
        10,
    ]
    # The floor comes down no further than it must: 5 records of the first area leave 9 and 9.
    assert floor_within(23, 20, np.array([5, 40, 40])) == 9
    assert allocate(
        23, np.array([1.0, 1.0, 1.0]), floor=20, ceiling=np.array([5, 40, 40])
    ).tolist() == [5, 9, 9]


def test_what_was_lowered_and_left_out_is_told():
    dense = np.vstack(
        [np.full(40, 10.0), np.full(40, 5.0), np.r_[np.ones(3), np.zeros(37)], np.zeros(40)]
    )
    measured = area_size("population", dense, power=1.0)
    made = allocation_of(measured, 33, pair_ceiling(dense, 33), floor=20)
    assert made.pairs_per_area.tolist() == [15, 15, 3, 0]
    assert (made.floor_asked, made.floor_used) == (20, 15)
    assert made.at_floor.tolist() == [False, True, False, False]
    assert made.at_ceiling.tolist() == [False, False, True, False]
    assert made.below_floor.tolist() == [False, False, True, False]
    assert made.empty.tolist() == [False, False, False, True]
    assert [w for w in made.warnings if "lowered to 15" in w.message] and [
        w for w in made.warnings if w.message.startswith("1 areas have no usable record")
    ]
    plenty = area_size("population", np.ones((2, 40)))
    assert allocation_of(plenty, 40, np.full(2, 40), floor=20).warnings == ()


def test_a_size_can_be_given():
    made = allocation_of(AreaSize("given", np.array([1.0, 2.0, 3.0])), 12, np.full(3, 20))
    assert made.pairs_per_area.tolist() == [2, 4, 6]
    assert not made.at_floor.any() and not made.at_ceiling.any()


def test_a_hamlet_is_not_split_unless_the_budget_asks_for_it():
    dense = np.array([[0.5, 1.5, 1.0] + [0.05] * 37, [30.0] * 40])
    assert pair_ceiling(dense, 30).tolist() == [4, 40]
    assert pair_ceiling(dense, 80).tolist() == [40, 40]


def test_sizes_in_closed_form():
    dense = np.array([[4.0, 4.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]])
    assert population_size(dense, 0.5).tolist() == pytest.approx([3.0, 6**0.5, 0.0])
    assert population_size(dense, 0.0).tolist() == [1.0, 1.0, 0.0]
    assert effective_size(dense).tolist() == pytest.approx([81 / 33, 3.0, 0.0])
    design = np.array([[1.0, 0.0], [0.0, 5.0], [0.0, 0.0]])
    scales = np.array([[2.0, np.inf], [1.0, 10.0], [1.0, 1.0]])
    # Area 0: variance 4/9 * 5/9, W 9, s 2. Area 1: variances 2/9 and 50/9, W 6, s 1 and 10.
    size, cut = neyman_size(dense, design, scales, cap=1e9)
    assert size.tolist() == pytest.approx(
        [(81 * 20 / 81 / 4) ** 0.5, (36 * 2 / 9 + 36 * 50 / 9 / 100) ** 0.5, 0.0]
    )
    assert cut == 0


def test_neyman_allocation_has_the_least_error_of_all_rules():
    """Expected squared error in scales of simple draws, sum_t size_t^2 / n_t: no other rule, and no
    exchange of ten records, does better.
    """
    rng = np.random.default_rng(5)
    dense, design = (
        rng.gamma(0.5, 2.0, (12, 60)) * rng.gamma(1.0, 5.0, (12, 1)),
        rng.gamma(0.5, 1.0, (60, 4)),
    )
    scales = rng.gamma(2.0, 3.0, (12, 4))
    size, _ = neyman_size(dense, design, scales)
    ceiling = np.full(12, 10**6)
    found = {
        rule: allocation_of(
            area_size(rule, dense, design=design, scales=scales), 50000, ceiling
        ).pairs_per_area
        for rule in ("equal", "population", "effective", "neyman")
    }
    error = {rule: float((size**2 / counts).sum()) for rule, counts in found.items()}
    assert min(error, key=error.get) == "neyman"
    best = found["neyman"]
    for a, b in ((0, 1), (5, 2), (3, 9)):
        other = best.copy()
        other[a] += 10
        other[b] -= 10
        assert (size**2 / other).sum() > (size**2 / best).sum()


def test_one_impossible_target_does_not_take_everything():
    rng = np.random.default_rng(1)
    dense, design = rng.random((6, 50)) + 0.5, rng.random((50, 3))
    scales = np.ones((6, 3))
    plain, none = neyman_size(dense, design, scales)
    scales[2, 1] = 1e-9
    size, cut = neyman_size(dense, design, scales)
    assert none == 0 and cut == 1
    assert plain[2] < size[2] <= 10 * plain[2]
    assert np.delete(size, 2).tolist() == pytest.approx(np.delete(plain, 2).tolist())


def test_a_constant_variable_is_no_difficulty():
    rng = np.random.default_rng(2)
    dense = rng.random((4, 30)) + 0.1
    assert neyman_size(dense, np.full((30, 1), 1e6), np.full((4, 1), 1e-3))[
        0
    ].tolist() == pytest.approx(dense.sum(axis=1).tolist())


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        pytest.param(
            lambda: allocate(1, np.ones(2), floor=1, ceiling=np.ones(2)),
            BudgetError,
            "k is 1 for 2 areas",
            id="too few",
        ),
        pytest.param(
            lambda: allocate(3, np.ones(2), floor=1, ceiling=np.ones(2)),
            BudgetError,
            "only 2 pairs exist",
            id="too many",
        ),
        pytest.param(
            lambda: allocate(3, np.ones(2), floor=1, ceiling=np.array([0, 9]), names=("a", "b")),
            BudgetError,
            "first a",
            id="size, no record",
        ),
        pytest.param(
            lambda: allocate(3, np.array([1.0, np.nan]), floor=1, ceiling=np.ones(2)),
            ProblemError,
            "finite",
            id="not finite",
        ),
        pytest.param(
            lambda: area_size("best", np.ones((2, 2))), SettingsError, "'best'", id="no such rule"
        ),
        pytest.param(
            lambda: area_size("neyman", np.ones((2, 2))),
            SettingsError,
            "no targets",
            id="neyman without targets",
        ),
        pytest.param(
            lambda: area_size("equal", -np.ones((2, 2))),
            ProblemError,
            "negative",
            id="negative weights",
        ),
        pytest.param(
            lambda: neyman_size(np.ones((2, 3)), np.ones((3, 1)), np.ones((1, 1))),
            ProblemError,
            "scales",
            id="scales of other areas",
        ),
    ],
)
def test_impossible_requests_are_refused(call, error, words):
    with pytest.raises(error, match=words):
        call()
