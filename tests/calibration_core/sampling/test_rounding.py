"""Controlled rounding: floors and ceilings of cells, rows, columns and categories; means; known
tables; moved mass.
"""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.errors import ProblemError
from calibration_core.sampling.moved_mass import moved_mass
from calibration_core.sampling.rounding import largest_remainders, round_areas, round_balanced

LABELS = np.array(list(itertools.product(range(3), range(2), range(2), range(3))))


def classes(number=4):
    return [np.array([LABELS[:, c] == v for v in np.unique(LABELS[:, c])]) for c in range(number)]


def table(seed, areas, cells, most=12):
    """Expected counts with many small, some zero and some whole entries; each row sums to a whole
    number.
    """
    rng = np.random.default_rng(seed)
    total = rng.integers(0, most, (areas, 1))
    expected = rng.dirichlet(np.full(cells, 0.4), size=areas) * (rng.random((areas, cells)) < 0.8)
    expected = (
        expected
        / np.where(
            expected.sum(axis=1, keepdims=True) > 0, expected.sum(axis=1, keepdims=True), 1.0
        )
        * total
    )
    expected[rng.random(areas) < 0.2] = np.eye(cells)[0] * 3
    return expected


def within(expected, counts):
    return ((counts >= np.floor(expected + 1e-9)) & (counts <= np.ceil(expected - 1e-9))).all()


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 10))
def test_nested_categories_hold(seed, areas):
    expected = table(seed, areas, 12)
    nested = np.zeros((6, 12), dtype=bool)
    for i in range(4):
        nested[i, 3 * i : 3 * i + 3] = True
    nested[4] = nested[0] | nested[1]
    nested[5, :2] = True
    counts = round_areas(expected, [nested], seed).counts
    assert within(expected, counts)
    assert counts.sum(axis=1).tolist() == np.rint(expected.sum(axis=1)).astype(int).tolist()
    assert within(expected @ nested.T, counts @ nested.T)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4))
def test_two_classes_are_never_missed(seed, areas):
    expected = table(seed, areas, 36)
    rounded = round_areas(expected, classes(2), seed)
    assert within(expected, rounded.counts)
    assert (rounded.counts.sum(axis=1) == np.rint(expected.sum(axis=1))).all()
    for members in classes(2):
        assert within(expected @ members.T, rounded.counts @ members.T)
    assert rounded.misses == ()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_of_four_classes_the_first_two_hold_and_the_others_misses_are_told(seed, areas):
    expected = table(seed, areas, 36)
    rounded = round_areas(expected, classes(), seed)
    assert within(expected, rounded.counts)
    assert (rounded.counts.sum(axis=1) == np.rint(expected.sum(axis=1))).all()
    outside = {}
    for f, members in enumerate(classes()):
        sums, got = expected @ members.T, rounded.counts @ members.T
        far = np.maximum(np.floor(sums + 1e-9) - got, got - np.ceil(sums - 1e-9))
        outside |= {(int(t), f, int(c)): int(far[t, c]) for t, c in np.argwhere(far > 0)}
    assert {(m.area, m.cell_class, m.category): m.by for m in rounded.misses} == outside
    assert not any(f < 2 for _, f, _ in outside)


@pytest.mark.parametrize(
    "draw",
    [
        pytest.param(lambda e, s: round_areas(e, [], s).counts, id="no class"),
        pytest.param(lambda e, s: round_areas(e, classes(2), s).counts, id="two classes"),
        pytest.param(lambda e, s: round_areas(e, classes(4), s).counts, id="four classes"),
    ],
)
def test_counts_have_their_expected_mean(draw):
    expected = table(5, 3, 36, most=9)
    expected[2] *= 0
    expected[2, :10] = 0.5
    runs = 1200
    mean = sum(draw(expected, seed) for seed in range(runs)) / runs
    fraction = expected - np.floor(expected)
    error = np.sqrt(fraction * (1 - fraction) / runs)
    assert (np.abs(mean - expected) <= 4.5 * error + 1e-9).all()


def test_two_halves_in_each_of_two_classes_have_two_answers():
    """Four cells of a half, two rows and two columns of one each."""
    cells = np.arange(4)
    crossed = [cells // 2 == np.arange(2)[:, None], cells % 2 == np.arange(2)[:, None]]
    answers = {
        tuple(round_areas(np.full((1, 4), 0.5), crossed, seed).counts[0].tolist())
        for seed in range(40)
    }
    assert answers == {(1, 0, 0, 1), (0, 1, 1, 0)}


def test_three_by_three_thirds_give_every_permutation():
    """Rows and columns of thirds sum to one: a rounding is a permutation matrix."""
    cells = np.arange(9)
    crossed = [cells // 3 == np.arange(3)[:, None], cells % 3 == np.arange(3)[:, None]]
    answers = set()
    for seed in range(200):
        counts = round_areas(np.full((1, 9), 1 / 3), crossed, seed).counts
        answers.add(tuple(counts.reshape(3, 3).argmax(axis=1).tolist()))
    assert answers == set(itertools.permutations(range(3)))


def test_three_classes_that_no_rounding_can_hold():
    """Four cells of a half on alternate corners of a cube: each of three classes has sums of one,
    so every pair of cells differs from it in a class.

    Cells 000, 011, 101, 110: any two agree in exactly one class, so one class is always missed;
    with the first two held, it is the third.
    """
    corners = np.array([[0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]])
    three = [np.array([corners[:, c] == v for v in (0, 1)]) for c in range(3)]
    chosen = set()
    for seed in range(30):
        rounded = round_areas(np.full((1, 4), 0.5), three, seed)
        assert rounded.counts.sum() == 2
        assert [(m.cell_class, m.by) for m in rounded.misses] == [(2, 1), (2, 1)]
        assert rounded.landed == 1
        chosen.add(tuple(rounded.counts[0].tolist()))
    assert chosen == {(1, 0, 0, 1), (0, 1, 1, 0)}


def test_whole_numbers_stay():
    whole = np.array([[3.0, 0.0, 2.0], [0.0, 7.0, 1.0]])
    assert round_areas(whole, [], 1).counts.tolist() == whole.tolist()
    assert round_areas(whole, [np.eye(3, dtype=bool)] * 3, 1).counts.tolist() == whole.tolist()


def test_an_area_is_rounded_the_same_whatever_others_there_are():
    expected = table(2, 5, 36)
    together = round_areas(expected, classes(), 11).counts
    alone = round_areas(expected[[3, 1]], classes(), 11, index=np.array([3, 1])).counts
    assert alone.tolist() == together[[3, 1]].tolist()
    assert together.tolist() != round_areas(expected, classes(), 12).counts.tolist()


def test_fractions_that_are_whole_but_for_rounding_errors():
    expected = np.array([[0.1] * 10, [0.7, 0.2, 0.1] + [0.0] * 7, [1 - 1e-15, 1e-15] + [0.0] * 8])
    counts = round_areas(expected, [], 4).counts
    assert counts.sum(axis=1).tolist() == [1, 1, 1]
    assert counts[2, 0] == 1


@pytest.mark.parametrize(
    ("expected", "members", "words"),
    [
        pytest.param([[0.5, 0.2]], None, "sum to 0.7", id="row not whole"),
        pytest.param([[1.5, -0.5]], None, "negative", id="negative"),
        pytest.param([[0.5, np.nan]], None, "not finite", id="not finite"),
        pytest.param(
            [[0.5, 0.5, 1.0]],
            [[True, True, False], [False, True, True]],
            "overlap",
            id="not nested",
        ),
        pytest.param(
            [[0.5, 0.5]], [[True, True, False]], "class of shape", id="class of other cells"
        ),
    ],
)
def test_impossible_tables_are_refused(expected, members, words):
    with pytest.raises(ProblemError, match=words):
        round_areas(np.array(expected), [] if members is None else [np.array(members)], 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 40))
def test_a_balanced_rounding_takes_each_share_to_a_neighbour(seed, cells):
    rng = np.random.default_rng(seed)
    share = rng.gamma(0.5, 3.0, cells)
    share *= np.ceil(share.sum()) / share.sum()
    counts = round_balanced(share, rng.random((cells, 3)), rng)
    assert counts.sum() == round(share.sum())
    assert within(share, counts)


def test_a_balanced_rounding_has_its_expected_mean_and_keeps_margins():
    share = np.tile([0.5, 1.25, 0.25, 2.0], 6)
    profile = np.tile([1.0, 2.0, 4.0, 1.0], 6)[:, None]
    drawn = np.array(
        [round_balanced(share, profile, np.random.default_rng([7, i])) for i in range(1500)]
    )
    fraction = share - np.floor(share)
    error = np.sqrt(fraction * (1 - fraction) / len(drawn))
    assert (np.abs(drawn.mean(axis=0) - share) <= 4.5 * error + 1e-9).all()
    plain = (fraction * (1 - fraction) * profile[:, 0] ** 2).sum()
    assert (drawn @ profile[:, 0]).var() < 0.2 * plain


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 12))
def test_largest_remainders_leave_no_count_that_another_could_better(seed, areas):
    """Within the bounds, no count can give one to another and both, taken together by the largest
    distance, come nearer their shares."""
    rng = np.random.default_rng(seed)
    share = rng.gamma(1.0, 4.0, areas)
    low = rng.integers(0, 3, areas)
    high = low + rng.integers(0, 9, areas)
    total = int(rng.integers(low.sum(), high.sum() + 1))
    for start in (None, rng.integers(0, 12, areas)):
        whole = largest_remainders(share, total, low, high, start)
        assert whole.sum() == total and (whole >= low).all() and (whole <= high).all()
        if start is None:
            for a in np.flatnonzero(whole > low):
                for b in np.flatnonzero(whole < high):
                    assert share[b] - whole[b] <= share[a] - whole[a] + 1 + 1e-6


def test_of_equal_remainders_the_first_goes_and_rounding_makes_none_unequal():
    bounds = np.zeros(4, dtype=np.int64), np.full(4, 9)
    share = np.array([1.5, 1.5 + 1e-13, 1.5, 1.5])
    assert largest_remainders(share, 6, *bounds).tolist() == [2, 2, 1, 1]
    assert largest_remainders(share, 4, *bounds, start=np.full(4, 2)).tolist() == [1] * 4
    with pytest.raises(ProblemError, match="37 are to be shared out"):
        largest_remainders(share, 37, *bounds)


def test_mass_moves_to_the_nearest_filled_cell_of_its_area():
    affinity = np.array([[3, 2, 1, 0], [2, 3, 1, 0], [1, 1, 3, 0], [0, 0, 0, 3]])
    mass = np.array([[4.0, 1.0, 2.0, 3.0], [1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 0.0, 0.0]])
    counts = np.array([[1, 0, 0, 2], [0, 0, 0, 5], [0, 0, 0, 0]])
    moved = moved_mass(mass, counts, affinity)
    assert list(
        zip(
            moved.area.tolist(),
            moved.source.tolist(),
            moved.target.tolist(),
            moved.mass.tolist(),
            strict=True,
        )
    ) == [
        (0, 1, 0, 1.0),
        (0, 2, 0, 2.0),
        (1, 0, 3, 1.0),
        (1, 1, 3, 1.0),
        (1, 2, 3, 1.0),
        (2, 1, -1, 2.0),
    ]
    assert moved.carried.tolist() == [
        [7.0, 0.0, 0.0, 3.0],
        [0.0, 0.0, 0.0, 4.0],
        [0.0, 0.0, 0.0, 0.0],
    ]
    assert moved.share.tolist() == [0.3, 0.75, 1.0]


def test_of_equally_near_cells_the_fullest_takes_the_mass():
    moved = moved_mass(np.array([[1.0, 2.0, 5.0]]), np.array([[0, 1, 1]]), np.ones((3, 3)))
    assert moved.target.tolist() == [2]
