"""The timing benchmark: its problem, its judging, and one small run without peers. No time is
asserted.
"""

import sys

import numpy as np
import pytest

from benchmarks import contender_runs, methods
from benchmarks.contenders import OURS, PEERS, Contender, installed
from benchmarks.peers.protocol import Data
from benchmarks.problems import margins_and_amounts

CONTENDER = Contender("kl", "someone", "run_none.py", "kl", "nowhere")


@pytest.mark.parametrize(
    "targets, shape", [(126, (24, 6)), (20, (3, 5)), (5, (1, 0)), (11, (2, 1)), (252, (48, 12))]
)
def test_the_shape_keeps_the_proportion_and_the_count(targets, shape):
    assert methods.shape_of(targets) == shape
    assert shape[0] * methods.LEVELS + shape[1] == targets


def test_what_runners_read_is_the_problem(tmp_path):
    problem = margins_and_amounts(300, 3, 5, 2)
    methods.write_problem(problem, 3, tmp_path / "p.npz")
    data = Data(str(tmp_path / "p.npz"), "kl")
    matrix, targets = data.dense(first_level_from=data.margins)
    rows = problem.matrix.target_major().toarray()
    np.testing.assert_array_equal(matrix.T, rows)
    np.testing.assert_array_equal(targets, problem.targets)
    np.testing.assert_array_equal(data.weights, problem.start)
    reduced, _ = data.dense()
    assert reduced.shape[1] == np.linalg.matrix_rank(rows) == 15
    assert Data(str(tmp_path / "p.npz"), "margins").dense()[0].shape[1] == 13


def test_errors_are_computed_from_the_weights_not_taken_from_the_claim():
    problem = margins_and_amounts(300, 3, 5, 2)
    report = {"seconds": 1.0, "first": 1.0, "claims": True, "memory": 1.0}
    line = methods.judge(CONTENDER, problem, 3, report, problem.start.copy(), None)
    assert line.error > 0.01 and "claims convergence" in line.remark
    wrong = methods.judge(CONTENDER, problem, 3, report, problem.start * np.nan, None)
    assert "not finite" in wrong.remark and wrong.weights is None
    failed = methods.judge(CONTENDER, problem, 3, {"error": "stopped after 3 s"}, None, None)
    assert failed.remark == "stopped after 3 s"


def test_a_contender_that_fails_hangs_or_grows_is_a_remark(tmp_path, monkeypatch):
    monkeypatch.setattr(contender_runs, "HERE", tmp_path)
    (tmp_path / "run_crash.py").write_text("raise SystemError('boom')")
    (tmp_path / "run_hang.py").write_text("import time; time.sleep(60)")
    (tmp_path / "run_grow.py").write_text("x = bytearray(400_000_000)\nimport time; time.sleep(60)")
    said = {}
    for word, limits in {"crash": (30, 1e12), "hang": (1.0, 1e12), "grow": (30, 2e8)}.items():
        c = Contender("kl", word, f"run_{word}.py", "kl", "x")
        report, weights = contender_runs.run_contender(
            c, sys.executable, tmp_path / "none.npz", tmp_path, contender_runs.Limits(*limits, 1, 1)
        )
        assert weights is None
        said[word] = report["error"]
    assert (
        "boom" in said["crash"]
        and said["hang"] == "stopped after 1 s"
        and "GB of memory" in said["grow"]
    )


def test_a_peer_that_is_not_installed_is_skipped_by_name():
    arguments = methods.parser().parse_args(["--records", "500"])
    assert installed(sys.executable, {"numpy", "no_such_module_here"}) == {"numpy"}
    assert methods._not_run(CONTENDER, set(), arguments) == "not run: nowhere is not installed"
    assert all((contender_runs.HERE / c.runner).is_file() for c in (*OURS, *PEERS))


def test_a_small_run_meets_every_target(capsys):
    command = [
        "--records",
        "500",
        "--targets",
        "20",
        "--repeat",
        "1",
        "--threads",
        "1",
        "--only",
        "kl geocal raking",
        "linear geocal linear",
        "margins geocal ipf",
    ]
    assert methods.main(command) == 0
    out = capsys.readouterr().out
    assert "500 records x 20 targets (3 margins of 5 levels, 5 amounts)" in out
    assert "geocal linear" in out and "geocal ipf" in out and "not converged" not in out
    assert "not run" not in out
