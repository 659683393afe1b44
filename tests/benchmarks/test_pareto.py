"""The comparison of sparse methods: what it measures, prints and writes."""

import json

import numpy as np
import pytest

from benchmarks import pareto
from benchmarks.paper_population import paper_population
from calibration_core import calibrate


@pytest.mark.parametrize(
    ("scenario", "targets"), [("simple", 20), ("joint", 70), ("continuous", 22), ("complex", 72)]
)
def test_the_papers_population_has_its_targets_and_its_own_totals(scenario, targets):
    problem = paper_population(scenario)
    assert problem.size == (targets, 5000)
    assert (problem.start == 1).all()
    assert np.allclose(problem.matrix.totals(np.ones(5000)), problem.targets)
    state = [
        problem.targets[j]
        for j, name in enumerate(problem.target_names)
        if name.startswith("state: ")
    ]
    assert sum(state) == 5000
    assert state[0] / 5000 == pytest.approx(0.12 / 0.54, abs=0.02)
    assert np.median(problem.matrix.row(problem.target_names.index("income"))) == pytest.approx(
        np.exp(10.5), rel=0.05
    )


def test_every_scenario_is_the_same_people():
    simple, complex_ = paper_population("simple"), paper_population("complex")
    assert (
        simple.matrix.row(simple.target_names.index("income"))
        == complex_.matrix.row(complex_.target_names.index("income"))
    ).all()
    assert not np.array_equal(paper_population(seed=1).targets, paper_population(seed=2).targets)


def test_the_papers_loss_is_its_formula():
    result = calibrate(
        paper_population("simple", records=200), "cross_category", records=50, refit="none"
    )
    b = result.problem.targets
    assert pareto.paper_loss(result) == pytest.approx((((result.fitted - b) / (b + 1)) ** 2).sum())


def test_a_run_prints_a_row_a_method_and_writes_figures(tmp_path, capsys):
    pareto.main(
        [
            "--scenario",
            "simple",
            "--records",
            "400",
            "--sparsity",
            "0.8",
            "--seeds",
            "2",
            "--methods",
            "cross_category",
            "hybrid",
            "--out",
            str(tmp_path),
        ]
    )
    printed = capsys.readouterr().out
    content = json.loads((tmp_path / "pareto.json").read_text())
    assert [row["method"] for row in content["summary"]] == [
        "cross_category, IPF (paper)",
        "cross_category, raking",
        "hybrid",
    ]
    assert all(row["method"] in printed for row in content["summary"])
    assert len(content["points"]) == 6
    assert all(point["kept"] == point["asked"] == 80 for point in content["points"])
    by_method = {row["method"]: row for row in content["summary"]}
    assert by_method["hybrid"]["loss"] < 1e-15 < by_method["cross_category, IPF (paper)"]["loss"]
    for name in ("pareto_paper.png", "pareto_paper_ess.png"):
        picture = (tmp_path / name).read_bytes()
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 100_000


def test_a_method_that_is_not_there_is_named_and_left_out(monkeypatch, capsys):
    monkeypatch.setitem(pareto.METHODS, "imagined", ("no_such_method", {}))
    assert "imagined" not in pareto.available()
    pareto.main(
        [
            "--scenario",
            "simple",
            "--records",
            "200",
            "--sparsity",
            "0.5",
            "--seeds",
            "1",
            "--methods",
            "hybrid",
        ]
    )
    assert "left out: imagined" in capsys.readouterr().out
