"""A PUMA of Knox County: what the benchmark reads, solves and prints, on a small case."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import optimize

from benchmarks import knox, knox_files
from calibration_core.tree.solve.newton import calibrate_tree
from tests.calibration_core.other_solvers import assert_same_problem

CONSTRAINTS = ("population", "households", "employed", "alone")


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
