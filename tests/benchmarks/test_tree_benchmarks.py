"""The benchmarks of other people's problems on small cases: what they read, what they solve, what
they print.
"""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

from benchmarks import areas, knox, knox_files, nested, nested_adam, nested_selection
from benchmarks.nested_nation import Size, make_nation, measure_of
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.select.settings import DESIGNS
from calibration_core.tree.solve.blocks import match_columns
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from calibration_core.tree.solve.pair_blocks import PairBlocks
from calibration_core.tree.solve.pool_blocks import PoolBlocks
from tests.calibration_core.other_solvers import assert_same_problem

CONSTRAINTS = ("population", "households", "employed", "alone")


# ---------------------------------------------------------------- a small PUMA


def write_puma(folder: Path, *, change=None, drop=()) -> dict[str, list[list]]:
    """Files of PUMA 12: 9 households, two tracts of two block groups, written in an order that is
    not sorted.
    """
    rng = np.random.default_rng(0)
    design = np.stack(
        [rng.integers(1, 5, 9), np.ones(9), rng.integers(0, 3, 9), rng.integers(0, 2, 9)], axis=1
    ).astype(float)
    weight = rng.integers(5, 40, 9)
    groups, tracts = ["20", "11", "12", "21"], ["2", "1"]
    share = weight[:, None] * rng.dirichlet(np.ones(4), 9)
    cg2 = np.round(share.T @ design)
    cg1 = np.array([cg2[[0, 3]].sum(axis=0), cg2[[1, 2]].sum(axis=0)])
    tables = {
        "cind": [
            ["SERIALNO", *CONSTRAINTS],
            *([f"h{i}", *row[:3], str(row[3] > 0)] for i, row in enumerate(design)),
        ],
        "cg1": [["GEOID", *CONSTRAINTS], *([t, *row] for t, row in zip(tracts, cg1, strict=True))],
        "cg2": [["GEOID", *CONSTRAINTS], *([g, *row] for g, row in zip(groups, cg2, strict=True))],
        "sg1": [["GEOID", *CONSTRAINTS], *([t, *(3.0 + rng.random(4))] for t in tracts)],
        "sg2": [["GEOID", *CONSTRAINTS], *([g, *(4.0 + rng.random(4))] for g in groups)],
        "wt": [["", "0"], *([i, w] for i, w in enumerate(weight))],
    }
    if change is not None:
        change(tables)
    for name, rows in tables.items():
        if name not in drop:
            with gzip.open(folder / f"{name}_12.csv.gz", "wt") as out:
                out.write("\n".join(",".join(str(v) for v in row) for row in rows) + "\n")
    return tables


def dense_minimum(tables) -> float:
    """Least F of the docstring of ``benchmarks.knox``, every pair and every total written out, by
    SciPy.
    """

    def number(name):
        return np.array(
            [
                [float(str(v).replace("True", "1").replace("False", "0")) for v in row[1:]]
                for row in tables[name][1:]
            ]
        )

    design, weight, cg1, cg2, sg1, sg2 = (
        number("cind"),
        number("wt")[:, 0],
        number("cg1"),
        number("cg2"),
        number("sg1"),
        number("sg2"),
    )
    total, count = weight.sum(), len(weight)
    tract_of = np.array(
        [[row[0] for row in tables["cg1"][1:]].index(g[0][:-1]) for g in tables["cg2"][1:]]
    )
    x = []
    for member in (np.ones((1, 4)), np.eye(2)[:, tract_of], np.eye(4)):
        x += [np.kron(design[:, j], member[a]) for a in range(len(member)) for j in range(4)]
    x = np.array(x).T
    y = np.concatenate([cg2.sum(axis=0), cg1.ravel(), cg2.ravel()]) / total
    error = np.concatenate([0.1 * np.sqrt((sg2**2).sum(axis=0)), sg1.ravel(), sg2.ravel()])
    v = error**2 * count / total**2
    q = np.repeat(weight, 4) / (4 * total)

    def value_and_gradient(multiplier):
        p = q * np.exp(-x @ multiplier)
        return (
            y @ multiplier + np.log(p.sum()) + 0.5 * multiplier @ (v * multiplier),
            y - p @ x / p.sum() + v * multiplier,
        )

    return optimize.minimize(
        value_and_gradient,
        np.zeros(len(y)),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-9, "maxiter": 5000},
    ).fun


def test_a_small_puma_is_solved_to_its_dense_minimum(tmp_path, capsys):
    tables = write_puma(tmp_path)
    assert knox.main([str(tmp_path), "12", "--json", str(tmp_path / "out.json")]) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    figures = found["figures"]
    assert_same_problem(figures["objective"], dense_minimum(tables), scale=1.0)
    assert (
        figures["converged"]
        and figures["areas"] == [1, 2, 4]
        and figures["targets"] == 28
        and figures["pairs"] == 36
    )
    assert figures["expected_objective"] is None and figures["largest_difference"] is None
    assert found["machine"]["threads"] >= 1
    out = capsys.readouterr().out
    assert "dual objective" in out and "cores" in out


def test_rates_and_population_are_those_of_the_weights(tmp_path):
    write_puma(tmp_path)
    case = knox_files.read_puma(tmp_path, "12")
    problem = knox.problem_of(case)
    result = calibrate_tree(problem, knox.SETTINGS)
    figures = knox.figures(case, problem, result, 1.0, 1.0)
    weights = result.weights * case.weight.sum()
    assert weights.sum() == pytest.approx(case.weight.sum(), rel=1e-12)
    by_group = weights @ case.design
    assert figures.population == pytest.approx(by_group[:, 0].sum())
    inside = np.abs(by_group - case.values[2]) < 1.645 * case.errors[2]
    assert figures.fit[2] == inside.mean()
    # GEOIDs are in order although the files are not, and go with their own rows.
    assert case.tree.geoids == (("12",), ("1", "2"), ("11", "12", "20", "21"))
    # F at l = 0 is log sum q, which is nothing.
    zero = replace(result, multipliers=tuple(np.zeros_like(y) for y in result.multipliers))
    assert abs(knox.objective(problem, zero)) <= 1e-12
    assert figures.objective < 0


def test_an_expected_allocation_is_compared(tmp_path):
    write_puma(tmp_path)
    case = knox_files.read_puma(tmp_path, "12")
    weights = calibrate_tree(knox.problem_of(case), knox.SETTINGS).weights * case.weight.sum()
    shifted = weights.T.copy()
    shifted[4, 2] += 0.25
    with gzip.open(tmp_path / "other_12_alloc.csv.gz", "wt") as out:
        # Columns in the order of the files.
        order = [2, 0, 1, 3]
        out.write(
            "20,11,12,21\n"
            + "\n".join(",".join(repr(float(row[i])) for i in order) for row in shifted)
            + "\n"
        )
    (tmp_path / "other_12.json").write_text(
        json.dumps({"expected": {"dual_objective": -1.0, "moe_fit_bg": 0.5}})
    )
    assert knox.main([str(tmp_path), "12", "--json", str(tmp_path / "out.json")]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert figures["largest_difference"] == pytest.approx(0.25, abs=1e-6)
    assert figures["expected_objective"] == -1.0 and figures["expected_fit"] == [None, None, 0.5]


def _no_error(tables):
    tables["sg2"][2][3] = 0.0


def _odd_tract(tables):
    tables["cg1"][1][0] = tables["sg1"][1][0] = "9"


def _words(tables):
    tables["cind"][3][2] = "many"


def _columns(tables):
    tables["cg1"][0][1:3] = ["households", "population"]


@pytest.mark.parametrize(
    ("change", "drop", "words"),
    [
        (_no_error, (), "11, employed"),
        (_odd_tract, (), "first 2"),
        (_words, (), "'many'"),
        (_columns, (), "columns"),
        (None, ("sg1",), "no sg1_12.csv.gz"),
    ],
)
def test_damaged_files_are_named(tmp_path, change, drop, words):
    write_puma(tmp_path, change=change, drop=drop)
    with pytest.raises(knox_files.KnoxError, match=words):
        knox_files.read_puma(tmp_path, "12")


def test_knox_county(realdata, tmp_path):
    folder = realdata.parent / "cases" / "knox"
    if not folder.is_dir():
        pytest.skip(f"the Knox County case is not at {folder}")
    assert knox.main([str(folder), "4701602", "--json", str(tmp_path / "out.json")]) == 0
    figures = json.loads((tmp_path / "out.json").read_text())["figures"]
    assert figures["objective"] == pytest.approx(figures["expected_objective"], abs=1e-9)
    assert figures["fit"][1:] == pytest.approx(figures["expected_fit"][1:], abs=1e-12)
    assert figures["population"] == pytest.approx(figures["expected_population"], rel=1e-7)
    # The file has six digits.
    assert figures["largest_difference"] <= 1e-6 * figures["largest_allocation"]


# ---------------------------------------------------------------- holding the total, and columns
# that levels share


def small_tree(shared: bool, seed: int = 0) -> PoolProblem:
    """A nation of two states and five counties; with ``shared`` columns a county's variables are
    among the state's and the nation's.
    """
    rng = np.random.default_rng(seed)
    tree = GeographyTree.from_leaves(
        ("n", "s", "c"), (["n"] * 5, ["a", "a", "b", "b", "b"], list("vwxyz"))
    )
    wide = rng.poisson(0.4, (30, 9)).astype(float)
    designs = (
        [wide[:, [3, 0, 8, 1, 2]], wide[:, [2, 7, 0]], wide[:, :4]]
        if shared
        else [rng.poisson(1.0, (30, p)).astype(float) for p in (2, 3, 4)]
    )
    prior, leaf_prior = rng.gamma(2.0, 1.0, 30), rng.dirichlet(np.ones(5), 1).T
    tilted = leaf_prior * prior * np.exp(0.4 * rng.normal(size=(5, 30)))
    values = [tree.sum_leaves(tilted @ d, depth) for depth, d in enumerate(designs)]
    values = [v * np.exp(0.1 * rng.normal(size=v.shape)) for v in values]
    scales = [0.2 * np.abs(v) + 0.3 for v in values]
    return PoolProblem(
        tree,
        make_targets(tree, designs, values, scales),
        prior,
        np.zeros(30, dtype=np.int64),
        leaf_prior,
    )


def as_pairs(problem: PoolProblem) -> PairProblem:
    prior = problem.prior()
    leaf, record = np.nonzero(prior > 0)
    return PairProblem(problem.tree, problem.targets, leaf, record, prior[leaf, record])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("tau", [1.0, 0.05])
def test_holding_the_total_minimises_the_log_partition_dual(shared, tau):
    """F(y) = N log(sum q exp(u) / N) - b'Dy + tau/2 |y|^2 for priors of any total N, against SciPy
    on the written-out matrix.
    """
    problem = small_tree(shared)
    t, tree = problem.targets, problem.tree
    prior = problem.prior().ravel()
    total = prior.sum()
    rows = [
        np.outer(tree.ancestor_of_leaves(k) == a, t.designs[k][:, j]).ravel()
        for k in range(3)
        for a in range(tree.sizes[k])
        for j in range(t.designs[k].shape[1])
    ]

    def flat(arrays):
        return np.concatenate([a.ravel() for a in arrays])

    x, b = np.array(rows).T / flat(t.scales), flat(t.values) / flat(t.scales)

    def value_and_gradient(y):
        w = prior * np.exp(x @ y)
        return (
            total * np.log(w.sum() / total) - b @ y + 0.5 * tau * y @ y,
            total * (w @ x) / w.sum() - b + tau * y,
        )

    found = optimize.minimize(
        value_and_gradient,
        np.zeros(b.size),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-10, "maxiter": 10_000},
    )
    w = prior * np.exp(x @ found.x)
    settings = TreeNewtonSettings(
        tau_path=(1.0, 0.05) if tau < 1 else (1.0,), hold_total=True, tolerance=1e-9, prior_unit=1.0
    )
    for form in (problem, as_pairs(problem)):
        result = calibrate_tree(form, settings)
        assert result.converged and result.weights.sum() == pytest.approx(total, rel=1e-12)
        assert_same_problem(result.trace[-1].dual, found.fun, scale=1.0)
        assert np.abs(result.weights.ravel() - total * w / w.sum()).max() <= 1e-6 * w.max()
        np.testing.assert_allclose(
            flat(result.multipliers), found.x, atol=1e-5 * np.abs(found.x).max()
        )


@pytest.mark.parametrize("sparse", [False, True])
def test_pool_and_pairs_agree_on_columns_that_levels_share(sparse, monkeypatch):
    """Dense or sparse products of columns, distinct columns once: the same weights as without any
    sharing of work.
    """
    from calibration_core.tree.solve import pair_blocks, pool_blocks

    problem = small_tree(shared=True)
    monkeypatch.setattr(pool_blocks, "_SPARSE", 1.0 if sparse else 0.0)
    monkeypatch.setattr(pair_blocks, "_STRIP", 2)
    assert (PoolBlocks(problem)._sparse is not None) == sparse
    assert PoolBlocks(problem).extra.shape[1] == PairBlocks(as_pairs(problem)).extra.shape[1] == 2
    settings = TreeNewtonSettings(tau_path=(1.0, 0.1), tolerance=1e-10)
    pool, pairs = (
        calibrate_tree(problem, settings).weights,
        calibrate_tree(as_pairs(problem), settings).weights,
    )
    np.testing.assert_allclose(pairs, pool.ravel(), atol=1e-10 * pool.max())
    # A column that differs in its last digit is another column, and the answer hardly moves.
    t = problem.targets
    apart = [d * (1.0 + 1e-15 * k) for k, d in enumerate(t.designs)]
    other = replace(problem, targets=make_targets(problem.tree, apart, t.values, t.scales))
    assert PoolBlocks(other).extra.shape[1] > 2
    np.testing.assert_allclose(
        calibrate_tree(other, settings).weights, pool, atol=1e-9 * pool.max()
    )
    # Leaves long enough to be batches of their own give the same.
    monkeypatch.setattr(pair_blocks, "_LONG", 1)
    np.testing.assert_allclose(
        calibrate_tree(as_pairs(problem), settings).weights, pairs, atol=1e-10 * pool.max()
    )


def test_matching_columns():
    rng = np.random.default_rng(0)
    a = rng.random((50, 3))
    b = np.stack([a[:, 2], rng.random(50), -a[:, 0], a[:, 0]], axis=1)
    zeros = np.where(rng.random((50, 1)) < 0.5, 0.0, -0.0)
    c = np.concatenate([b[:, [1]], zeros, np.abs(zeros), a[:, [1]]], axis=1)
    index, first = match_columns([a, b, c])
    # Of a: 0 to 2; then b's second and third; then one column of zeros, whatever their signs.
    assert index.tolist() == [2, 3, 4, 0, 3, 5, 5, 1]
    assert first == [[0, 1, 2], [1, 2], [1]]


# ---------------------------------------------------------------- the nation of states and
# districts

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


# ---------------------------------------------------------------- areas


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
