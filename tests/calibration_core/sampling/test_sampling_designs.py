"""What each design promises beyond exactly k: inclusion probabilities, joint ones where they are
known, balance.
"""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.sampling.candidates import AreaCandidates, first_phase, list_path
from calibration_core.sampling.cube import CubeBalance, cube, draw_cube
from calibration_core.sampling.flight import new_flight, settle
from calibration_core.sampling.sampford import draw_sampford
from calibration_core.sampling.systematic import draw_systematic

PROBABILITY = np.array([0.9, 0.75, 0.6, 0.35, 0.25, 0.1, 0.05, 1.0, 0.5, 0.5])
CELL = np.array([0, 0, 1, 1, 1, 2, 2, 2, 0, 1])
ORDER = np.array([3.0, 1, 2, 5, 4, 7, 9, 8, 6, 0])


def replicates(
    probability: np.ndarray, rounds: int, weight: np.ndarray | None = None
) -> AreaCandidates:
    """The same area ``rounds`` times, each with its own number and so its own random numbers."""
    n = probability.size
    tiled = np.tile(probability, rounds)
    weight = 1 / tiled if weight is None else np.tile(weight, rounds)
    k = round(float(probability.sum()))
    return AreaCandidates(
        np.arange(rounds + 1) * n,
        np.tile(np.arange(n), rounds),
        tiled,
        weight,
        np.ones(tiled.size),
        np.full(rounds, k),
        np.arange(rounds, dtype=np.int64),
    )


def assert_as_often(drawn: np.ndarray, probability: np.ndarray) -> None:
    """Each unit's count is within 4.5 standard errors of its expectation, and their squares
    together are no larger than chance makes them.
    """
    rounds = drawn.shape[0]
    free = probability < 1
    z = (drawn.mean(axis=0) - probability)[free] / np.sqrt(
        probability * (1 - probability) / rounds
    )[free]
    assert np.abs(z).max() < 4.5
    assert (z**2).mean() < 1 + 4.5 * np.sqrt(2 / z.size)
    assert drawn[:, ~free].all()


@pytest.mark.parametrize("variables", [0, 1, 3, None])
def test_the_cube_draws_each_unit_with_exactly_its_probability(variables):
    rows = np.random.default_rng(1).lognormal(0, 1, (10, 4))
    balance = CubeBalance(rows, variables=variables)
    drawn = draw_cube(replicates(PROBABILITY, 20_000), balance, CELL, 5).reshape(-1, 10)
    assert_as_often(drawn, PROBABILITY)


@pytest.mark.parametrize(
    "levels", [[], [CELL], [np.arange(10), CELL, CELL // 2]], ids=["area", "cells", "nested"]
)
def test_the_cube_of_one_list_draws_each_unit_with_exactly_its_probability(levels):
    rows = np.random.default_rng(1).lognormal(0, 1, (10, 3)) / PROBABILITY[:, None]
    drawn = np.array(
        [cube(PROBABILITY, rows, levels, np.random.default_rng([4, i])) for i in range(4000)]
    )
    assert (drawn.sum(axis=1) == 5).all()
    assert_as_often(drawn, PROBABILITY)


def test_systematic_draws_each_unit_with_exactly_its_probability():
    assert_as_often(
        draw_systematic(replicates(PROBABILITY, 20_000), CELL, ORDER, 3).reshape(-1, 10),
        PROBABILITY,
    )


def test_sampford_draws_each_sample_with_its_probability():
    """All 20 samples against P(s) proportional to prod p / (1 - p) times sum (1 - p) (Sampford
    1967).
    """
    p = np.array([0.95, 0.7, 0.55, 0.4, 0.25, 0.15])
    rounds = 60_000
    drawn = draw_sampford(replicates(p, rounds), 2).reshape(-1, 6)
    assert (drawn.sum(axis=1) == 3).all()
    samples = [list(s) for s in combinations(range(6), 3)]
    chance = np.array([np.prod(p[s] / (1 - p[s])) * (1 - p[s]).sum() for s in samples])
    chance /= chance.sum()
    code = drawn @ (1 << np.arange(6))
    found = np.array([(code == sum(1 << i for i in s)).sum() for s in samples])
    statistic = ((found - rounds * chance) ** 2 / (rounds * chance)).sum()
    assert statistic < 19 + 4.5 * np.sqrt(2 * 19), "chi-square with 19 degrees of freedom"
    assert_as_often(drawn, p)


def test_sampford_of_sixty_among_hundreds_neither_rejects_nor_overflows():
    rng = np.random.default_rng(0)
    p = rng.gamma(1.0, 1.0, 480)
    p *= 60 / p.sum()
    assert p.max() < 1
    drawn = draw_sampford(replicates(p, 3000), 2).reshape(-1, 480)
    assert (drawn.sum(axis=1) == 60).all()
    assert_as_often(drawn, p)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 300), st.integers(0, 12), st.integers(1, 8))
def test_the_flight_keeps_totals_until_directions_run_out(seed, units, variables, cells):
    """At its end no more units are open than constraints, and totals and counts of cells are what
    they were, to 1e-9 of their size.
    """
    rng = np.random.default_rng(seed)
    p = rng.beta(0.8, 2.0, units).clip(0.001, 0.999)
    columns = rng.standard_normal((units, variables))
    columns[:, variables // 2 :] = np.round(
        columns[:, variables // 2 :]
    )  # ties, and columns that depend on each other
    cell = rng.integers(0, cells, units)
    moved = p.copy()
    flight = new_flight(moved, columns, cell, rng.random(units))
    settle(flight, np.argsort(cell, kind="stable"), True, False)
    open_units = (moved > 0) & (moved < 1)
    assert open_units.sum() <= variables + cells
    assert ((moved >= 0) & (moved <= 1)).all()
    assert np.allclose(
        moved @ columns,
        p @ columns,
        rtol=0,
        atol=1e-9 * max(1.0, np.abs(columns).sum(axis=0).max(initial=0)),
    )
    assert np.allclose(
        np.bincount(cell, moved, cells), np.bincount(cell, p, cells), rtol=0, atol=1e-8
    )


def test_a_long_flight_does_not_drift():
    rng = np.random.default_rng(2)
    p = np.full(20_000, 0.1)
    columns = rng.standard_normal((20_000, 30)) / 30
    cell = np.sort(rng.integers(0, 500, 20_000))
    moved = p.copy()
    settle(new_flight(moved, columns, cell, rng.random(20_000)), np.arange(20_000), True, False)
    assert np.abs((moved - p) @ columns).max() < 1e-8
    assert np.abs(np.bincount(cell, moved - p)).max() < 1e-8
    assert ((moved > 0) & (moved < 1)).sum() <= 530


def test_margins_of_a_two_way_table_with_whole_margins_are_met_exactly():
    """Whole margins of two families are vertices of a transport polytope: the flight ends in one,
    whatever it draws.
    """
    row, column = np.repeat(np.arange(6), 20), np.tile(np.arange(4), 30)
    p = np.full(120, 0.2)
    one_hot = (column[:, None] == np.arange(4)).astype(float)
    for seed in range(20):
        drawn = cube(p, one_hot, [row], np.random.default_rng(seed))
        assert np.bincount(row[drawn]).tolist() == [4] * 6
        assert np.bincount(column[drawn]).tolist() == [6] * 4


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 9), st.integers(0, 40))
def test_counts_of_cells_are_rounded_to_a_neighbour(seed, cells, variables):
    rng = np.random.default_rng(seed)
    dense, cell, rows = (
        rng.gamma(0.5, 1.0, (3, 120)) + 1e-3,
        rng.integers(0, cells, 120),
        rng.standard_normal((120, variables)),
    )
    path = list_path(cell, rng.random(120))
    candidates = first_phase(dense, np.array([3, 12, 30]), path, seed)
    drawn = draw_cube(candidates, CubeBalance(rows), cell, seed)
    label = np.repeat(np.arange(3), np.diff(candidates.offsets)) * cells + cell[candidates.record]
    expected, found = (
        np.bincount(label, values, 3 * cells) for values in (candidates.probability, drawn)
    )
    assert (found >= np.floor(expected + 1e-6)).all()
    assert (found <= np.ceil(expected - 1e-6)).all()


def errors(rows: np.ndarray, candidates: AreaCandidates, drawn: np.ndarray) -> np.ndarray:
    """(areas, variables) error of Horvitz-Thompson totals against the candidates' own."""
    moved = (drawn - candidates.probability) * candidates.weight
    return np.array([candidates.sums(moved * column[candidates.record]) for column in rows.T]).T


def test_totals_right_after_a_balanced_draw_are_nearer_than_after_any_other():
    rng = np.random.default_rng(7)
    records, areas = 1500, 40
    ability = rng.standard_normal((records, 3))
    rows = np.exp(
        0.5 * (ability @ rng.standard_normal((3, 12))) + 0.3 * rng.standard_normal((records, 12))
    )
    dense, cell = rng.gamma(0.5, 1.0, (areas, records)), rng.integers(0, 5, records)
    candidates = first_phase(dense, np.full(areas, 40), list_path(cell, rows[:, 0]), 0)
    size = np.sqrt((rows**2).mean(axis=0))
    balanced = draw_cube(candidates, CubeBalance(rows), cell, 1)
    systematic, random = (
        draw_systematic(candidates, cell, rows[:, 0], 1),
        draw_sampford(candidates, 1),
    )
    ours, sorted_, plain = (
        np.sqrt(((errors(rows, candidates, drawn) / size) ** 2).mean())
        for drawn in (balanced, systematic, random)
    )
    assert ours < 0.7 * sorted_
    assert ours < 0.7 * plain


def test_a_scale_says_which_totals_count():
    """A variable held alone is held best; one whose scale is infinite is not held at all."""
    rng = np.random.default_rng(7)
    rows, dense, cell = (
        rng.lognormal(0, 1, (600, 2)),
        rng.gamma(1.0, 1.0, (60, 600)),
        np.zeros(600, dtype=np.int64),
    )
    candidates = first_phase(dense, np.full(60, 20), list_path(cell, rng.random(600)), 0)
    found = []
    for scale in ([1.0, np.inf], [np.inf, 1.0]):
        drawn = draw_cube(candidates, CubeBalance(rows, np.tile(scale, (60, 1))), cell, 1)
        found.append(np.sqrt((errors(rows, candidates, drawn) ** 2).mean(axis=0)))
    assert found[0][0] < 0.6 * found[1][0]
    assert found[1][1] < 0.6 * found[0][1]
