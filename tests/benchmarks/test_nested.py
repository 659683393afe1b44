"""The nation in one file: what the nested benchmark invents, solves and prints, on a small case."""

import json

import numpy as np
import pytest

from benchmarks import areas, nested, nested_adam, nested_selection
from benchmarks.nested_nation import Size, make_nation, measure_of
from calibration_core.tree.select.settings import DESIGNS

SMALL = Size(records=1800, national=14, state=8, district=4, states=3, districts=9)
SMALL_ARGUMENTS = [
    f"--{name}={value}"
    for name, value in (
        ("records", 1800),
        ("national", 14),
        ("state", 8),
        ("district", 4),
        ("states", 3),
        ("districts", 9),
    )
]


def test_the_nation_is_what_was_asked_for():
    nation = make_nation(SMALL, 3)
    problem = nation.problem
    assert problem.tree.sizes == (1, 3, 9) and problem.targets.count == 14 + 3 * 8 + 9 * 4
    assert set(problem.leaf) == set(range(9)) and problem.leaf.size == 1800
    assert (problem.targets.designs[0][:, :8] == problem.targets.designs[1]).all()
    assert nation.amount.sum() == 7 and set(np.unique(problem.targets.designs[0][:, 0])) <= set(
        range(12)
    )
    again = make_nation(SMALL, 3)
    assert (again.problem.targets.values[2] == problem.targets.values[2]).all()
    assert not (make_nation(SMALL, 4).problem.targets.values[2] == problem.targets.values[2]).any()
    # Levels contradict one another by about their noise.
    states = problem.tree.sum_to_parent(problem.targets.values[2], 2)
    apart = np.abs(states / problem.targets.values[1][:, :4] - 1.0)
    assert 0.001 < np.median(apart) < 0.2


def test_figures_follow_their_definitions():
    nation = make_nation(SMALL, 0)
    problem = nation.problem
    measure = measure_of(nation)
    exact = measure("exact", problem.targets.values, problem.prior_weight, 1.0)
    assert exact.loss == exact.capped == exact.median == 0 and exact.within_1 == 1
    double = measure(
        "double",
        [v + np.maximum(np.abs(v), 1.0) for v in problem.targets.values],
        problem.prior_weight,
        1.0,
    )
    assert (
        double.capped
        == double.capped_counts
        == double.capped_amounts
        == pytest.approx(1.0)
        == double.median
    )
    assert measure(
        "far", [9.0 * (v + 1.0) for v in problem.targets.values], problem.prior_weight, 1.0
    ).capped == pytest.approx(1.0)
    # Counts and amounts weigh the same in all.
    only = [np.where(nation.amount[: v.shape[1]], 2.0 * v + 1.0, v) for v in problem.targets.values]
    assert measure("amounts", only, problem.prior_weight, 1.0).capped == pytest.approx(0.5)
    totals = nested.totals_of(problem, problem.prior_weight)
    flat = nested_adam.flat_matrix(problem) @ problem.prior_weight
    np.testing.assert_allclose(np.concatenate([t.ravel() for t in totals]), flat, rtol=1e-12)
    for depth, design in enumerate(problem.targets.designs):
        leaves = np.zeros((9, design.shape[1]))
        np.add.at(leaves, problem.leaf, problem.prior_weight[:, None] * design)
        np.testing.assert_allclose(
            totals[depth], problem.tree.sum_leaves(leaves, depth), rtol=1e-12
        )


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("exchanges", [0.0, 8.0])
def test_exactly_k_records_are_kept(exchanges, design):
    nation = make_nation(SMALL, 0)
    dense = nation.problem.prior_weight * np.exp(
        0.3 * np.random.default_rng(1).standard_normal(1800)
    )
    kept = nested_selection.select(nation, dense, 301, 5, exchanges, design)
    assert kept.problem.leaf.size == 301 and (kept.exchanged > 0) == (exchanges > 0)
    assert (kept.problem.prior_weight > 0).all() and set(kept.problem.leaf) == set(range(9))
    again = nested_selection.select(nation, dense, 301, 5, exchanges, design)
    assert (again.problem.prior_weight == kept.problem.prior_weight).all()
    # A pool rounds the weights it chooses by to one part in 8,192.
    np.testing.assert_allclose(
        np.bincount(kept.problem.leaf, kept.problem.prior_weight),
        np.bincount(nation.problem.leaf, dense),
        rtol=1 / 8192,
    )
    drawn = {tuple(row) for row in kept.problem.targets.designs[0]}
    assert drawn <= {tuple(row) for row in nation.problem.targets.designs[0]}


def test_engine_and_adam_side_by_side(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert nested.main([*SMALL_ARGUMENTS, "--keep=400", "--adam-epochs=150", f"--json={out}"]) == 0
    found = json.loads(out.read_text())
    rows = {
        row["name"].split(",")[0] + "," + row["name"].split(",")[-1]: row
        for row in found["figures"]
    }
    start, dense, adam = (
        rows["initial weights,initial weights"],
        rows["engine, dense"],
        next(r for r in found["figures"] if r["name"].startswith("Adam")),
    )
    refitted = next(r for r in found["figures"] if r["name"] == "engine, selected, refitted")
    assert dense["loss"] < 0.05 * start["loss"] and dense["loss"] <= 1.05 * adam["loss"]
    assert dense["records"] == 1800 and refitted["records"] == 400
    assert (
        adam["extrapolated"] == pytest.approx(adam["seconds"] * 10)
        and "extrapolated" in adam["note"]
        and "as it stands after 150" in adam["note"]
    )
    text = capsys.readouterr().out
    assert "engine dense over Adam" in text and "peak memory" in text
    assert nested.main([*SMALL_ARGUMENTS, "--keep=400", "--adam-epochs=0"]) == 0
    assert "Adam" not in capsys.readouterr().out


def test_every_area_from_one_file(tmp_path, capsys):
    out = tmp_path / "out.json"
    assert areas.main(["--areas=4", "--records=3000", "--targets=23", f"--json={out}"]) == 0
    figures = json.loads(out.read_text())["figures"]
    assert figures["within"] == 1.0 and figures["worst"] <= 0.005 and figures["converged"]
    assert figures["record_sum"] - 1.0 <= 1e-12 and figures["national_drift"] <= 1e-12
    assert figures["largest_ratio"] > 1.0 and figures["untargeted_median"] < 0.5
    assert "targets within 0.5 %" in capsys.readouterr().out


def test_the_invented_file_adds_up():
    file = areas.invent(4, 2000, 23, 0.05, 1)
    problem = file.problem
    np.testing.assert_allclose(
        problem.values.sum(axis=0), problem.national_weight @ problem.design, rtol=1e-10
    )
    np.testing.assert_allclose(
        file.truth.sum(axis=0), problem.national_weight @ file.untargeted, rtol=1e-10
    )
    # A record is in one bin only.
    assert ((problem.design[:, :10] != 0).sum(axis=1) == 1).all()
