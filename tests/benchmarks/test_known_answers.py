"""Cases made by hand (met, missed, impossible, damaged) and the shared folder of other software's
answers.
"""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.case_files import CaseError, read_case
from benchmarks.known_answers import main, relative_differences, run_case

X = np.array([[1.0, 1.0, 1.0, 1.0], [0.0, 1.0, 2.0, 4.0]])
D = np.array([10.0, 10.0, 20.0, 5.0])


def linear_answer(x=X, d=D, targets=(50.0, 90.0)):
    """GREG in closed form."""
    return d * (1 + x.T @ np.linalg.solve(x * d @ x.T, np.asarray(targets) - x @ d))


def write(folder: Path, name: str, *, columns=None, drop=(), table=None, **content) -> Path:
    """A case of four records; ``columns`` adds columns to the table, ``drop`` leaves keys of the
    JSON out.
    """
    data = {"d": D, "w": linear_answer(), "one": X[0], "x": X[1], **(columns or {})}
    body = {
        "name": name,
        "distance": "linear",
        "bounds": None,
        "csv": f"{name}.csv",
        "columns": {"weight": "d", "expected": "w", "constraints": ["one", "x"]},
        "targets": {"one": 50.0, "x": 90.0},
        "compare_rtol": 1e-9,
        **content,
    }
    (folder / f"{name}.json").write_text(
        json.dumps({k: v for k, v in body.items() if k not in drop})
    )
    rows = [",".join(data)] + [
        ",".join("" if v is None else str(v) for v in row)
        for row in zip(*data.values(), strict=True)
    ]
    (folder / f"{name}.csv").write_text(table if table is not None else "\n".join(rows) + "\n")
    return folder / f"{name}.json"


def test_a_case_that_is_met(tmp_path, capsys):
    write(tmp_path, "good")
    assert main([str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "1 of 1 cases met" in out and "4 x 2" in out


def test_one_weight_off_by_more_than_the_tolerance_fails_the_folder(tmp_path, capsys):
    write(tmp_path, "good")
    write(tmp_path, "off", columns={"w": linear_answer() * [1, 1 + 1e-6, 1, 1]})
    assert main([str(tmp_path)]) == 1
    assert "MISSED" in capsys.readouterr().out
    assert main([str(tmp_path), "--only", "good"]) == 0
    # The same file passes with the tolerance its difference needs: the comparison is what failed.
    write(tmp_path, "off", columns={"w": linear_answer() * [1, 1 + 1e-6, 1, 1]}, compare_rtol=2e-6)
    assert main([str(tmp_path)]) == 0


def test_an_expected_zero_is_compared_with_a_thousandth_of_the_initial_weight():
    assert relative_differences(np.array([1e-9]), np.array([0.0]), np.array([10.0]))[
        0
    ] == pytest.approx(1e-7)
    assert relative_differences(np.array([0.0]), np.array([0.0]), np.array([0.0]))[0] == 0.0
    assert relative_differences(np.array([2.0]), np.array([1.0]), np.array([1.0]))[
        0
    ] == pytest.approx(1.0)


def test_targets_that_cannot_be_met_are_honestly_not_converged(tmp_path):
    path = write(
        tmp_path,
        "impossible",
        distance="truncated_linear",
        bounds=[0.99, 1.01],
        feasible=False,
        columns={},
    )
    outcome = run_case(path)
    # The weights of the free problem are no answer here: the file says it has none.
    content = json.loads(path.read_text())
    content["columns"]["expected"] = None
    path.write_text(json.dumps(content))
    outcome = run_case(path)
    assert outcome.verdict == "met" and outcome.converged is False and outcome.target_error > 1e-3
    content["feasible"], content["bounds"] = False, [0.1, 9.0]
    path.write_text(json.dumps(content))
    assert run_case(path).verdict == "FALSE CLAIM"


def test_an_empty_column_of_answers_is_no_answer(tmp_path):
    path = write(
        tmp_path,
        "none",
        distance="logit",
        bounds=[0.99, 1.01],
        columns={"w": ["NA"] * 4},
        infeasible=True,
    )
    outcome = run_case(path)
    assert outcome.verdict == "met" and not outcome.case.has_expected and outcome.converged is False
    assert run_case(write(tmp_path, "some", columns={"w": ["NA", 1, 2, 3]})).verdict == "ERROR"


def test_expansion_factors_bound_the_weights_of_each_area_about_its_own_total(tmp_path):
    bounds = {
        "max_expansion_factor": 2,
        "min_expansion_factor": 0.5,
        "absolute_upper": 40,
        "absolute_lower": 8,
    }
    case = read_case(
        write(
            tmp_path,
            "factors",
            distance="relaxed_entropy",
            bounds=bounds,
            importance={"x": 10, "one": 1000},
        )
    )
    scaled = D * 50 / 45
    assert case.master == 0 and case.bounds_on_weights and case.importance.tolist() == [1000, 10]
    np.testing.assert_allclose(case.parts[0].low, np.maximum(0.5 * scaled, 8))
    assert case.parts[0].high.tolist() == [22, 22, 40, 11]
    plain = read_case(
        write(tmp_path, "plain", distance="relaxed_entropy", bounds=[0.5, 2], importance=100)
    )
    assert (
        not plain.bounds_on_weights
        and plain.parts[0].high.tolist() == [2] * 4
        and plain.rtol == 1e-9
    )


def test_a_false_claim_is_found_even_where_weights_agree(tmp_path, monkeypatch):
    import dataclasses

    from benchmarks import case_problems

    path = write(tmp_path, "liar", columns={"w": D}, compare_rtol=1e-9)
    honest = case_problems.calibrate
    monkeypatch.setattr(
        case_problems,
        "calibrate",
        lambda p, m, **s: dataclasses.replace(honest(p, m, **s), weights=D, converged=True),
    )
    outcome = run_case(path)
    assert outcome.difference == 0 and outcome.verdict == "FALSE CLAIM"


def test_weights_outside_the_bounds_are_found(tmp_path, monkeypatch):
    import dataclasses

    from benchmarks import case_problems

    path = write(tmp_path, "loose", distance="truncated_linear", bounds=[0.9, 1.2])
    honest = case_problems.calibrate
    monkeypatch.setattr(
        case_problems,
        "calibrate",
        lambda p, m, **s: dataclasses.replace(
            honest(p, m, **s), weights=linear_answer(), converged=True
        ),
    )
    assert run_case(path).verdict == "OUT OF BOUNDS"


@pytest.mark.parametrize(
    "bounds",
    [[None, None], [None, 9.0], ["lo", "hi"], {"lower": None, "upper": 9}, [0.01, [9, 9, None, 9]]],
)
def test_bounds_in_every_form(tmp_path, bounds):
    """None of these bind, so each answer is the free one."""
    path = write(
        tmp_path,
        "b",
        distance="truncated_linear",
        bounds=bounds,
        columns={"lo": [0.1] * 4, "hi": [5, None, 5, 5]},
    )
    outcome = run_case(path)
    assert outcome.verdict == "met", outcome.remark


def test_a_bound_on_weights_by_name_binds(tmp_path):
    path = write(
        tmp_path,
        "capped",
        distance="truncated_linear",
        bounds=[0, 11],
        bounds_on="weight",
        targets={"one": 40, "x": 60},
        drop=["compare_rtol"],
    )
    outcome = run_case(path)
    assert outcome.case.bounds_on_weights and outcome.case.parts[0].high.tolist() == [11] * 4
    assert outcome.verdict == "MISSED", "the answer without the cap is another"


def test_a_logit_without_an_upper_end_is_its_limit(tmp_path):
    """low + (1 - low) exp(u / (1 - low)): with low = 0 that is raking."""
    free = run_case(write(tmp_path, "r", distance="raking", columns={"w": D}, compare_rtol=1e9))
    assert free.converged
    from calibration_core import CalibrationProblem, calibrate

    raked = calibrate(CalibrationProblem(X, [50.0, 90.0], D), "raking").weights
    assert (
        run_case(
            write(
                tmp_path,
                "l",
                distance="logit",
                bounds=[0, None],
                columns={"w": raked},
                compare_rtol=1e-7,
            )
        ).verdict
        == "met"
    )


def test_lists_redundant_columns_scales_gzip_and_zero_weights(tmp_path):
    columns = {"twice": 2 * X[1], "q": [1.0, 1.0, 1.0, 1.0]}
    used = {"weight": "d", "expected": "w", "constraints": ["one", "x", "twice"], "q": "q"}
    path = write(tmp_path, "many", columns=columns, targets=[50, 90, 180])
    content = json.loads(path.read_text())
    content["columns"], content["csv"] = used, "many.csv.gz"
    path.write_text(json.dumps(content))
    (tmp_path / "many.csv.gz").write_bytes(gzip.compress((tmp_path / "many.csv").read_bytes()))
    (tmp_path / "many.csv").unlink()
    assert run_case(path).verdict == "met"
    # A column of zeros is no weights: the sum of equal ones that fits is what is started from.
    zero = write(
        tmp_path,
        "zero",
        columns={"d": [0, 0, 0, 0], "w": [12.5] * 4},
        targets={"one": 50, "x": 87.5},
    )
    assert run_case(zero).verdict == "met"


def test_areas_are_problems_of_their_own(tmp_path):
    columns = {
        "w": np.concatenate(
            [linear_answer(X[:, :2], D[:2], (22, 11)), linear_answer(X[:, 2:], D[2:], (26, 60))]
        ),
        "area": ["1.0", "1.0", "2.0", "2.0"],
    }
    text = "\n".join(
        [",".join(["d", "w", "one", "x", "area"])]
        + [f"{D[i]},{columns['w'][i]!r},1,{X[1, i]},{columns['area'][i]}" for i in range(4)]
    )
    text = text.replace("np.float64(", "").replace(")", "")
    targets = {"1": {"one": 22, "x": 11}, "2": {"one": 26, "x": 60}}
    path = write(tmp_path, "areas", table=text, targets=targets)
    content = json.loads(path.read_text())
    content["columns"]["geography"] = "area"
    path.write_text(json.dumps(content))
    outcome = run_case(path)
    assert outcome.verdict == "met" and len(outcome.case.parts) == 2
    content["targets"]["3"] = {"one": 1, "x": 1}
    path.write_text(json.dumps(content))
    with pytest.raises(CaseError, match="'3' has targets and no records"):
        read_case(path)


def test_a_control_that_the_source_did_not_hold_is_left_out_and_named(tmp_path):
    path = write(
        tmp_path,
        "unheld",
        populationsim=[{"worst": "x", "max_rel": 1.0}],
        columns={"w": D * 50 / D.sum()},
    )
    outcome = run_case(path)
    assert outcome.verdict == "met" and "x left out" in outcome.remark
    path = write(
        tmp_path,
        "held",
        populationsim=[{"worst": "x", "max_rel": 0.63}],
        columns={"w": D * 50 / D.sum()},
    )
    assert run_case(path).verdict == "MISSED"


DAMAGE = {
    "not JSON": (lambda p: p.write_text("{broken"), ["not JSON", "case.json"]),
    "distance": (lambda p: edit(p, distance="euclid"), ["'euclid'", "truncated_linear"]),
    "no table": (lambda p: p.with_suffix(".csv").unlink(), ["no table 'case.csv'"]),
    "missing column": (
        lambda p: edit(p, columns={"weight": "d", "expected": "w", "constraints": ["one", "y"]}),
        ["no column 'y'", "case.csv", "one, x"],
    ),
    "missing target": (lambda p: edit(p, targets={"one": 50}), ["no 'x'", "case.json"]),
    "words": (
        lambda p: p.with_suffix(".csv").write_text("d,w,one,x\n10,1,1,0\n10,1,1,many\n"),
        ["'many'", "column 'x', row 3"],
    ),
    "bounds": (lambda p: edit(p, bounds="wide"), ["'wide'", "[low, high]"]),
    "target": (lambda p: edit(p, targets={"one": 50, "x": "?"}), ["'x'", "'?'"]),
}


def edit(path: Path, **fields) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.mark.parametrize("fault", DAMAGE)
def test_damage_is_named_with_file_and_column_and_fails_the_folder(tmp_path, capsys, fault):
    path = write(tmp_path, "case")
    damage, words = DAMAGE[fault]
    damage(path)
    outcome = run_case(path)
    assert outcome.verdict == "ERROR"
    assert all(word in outcome.remark for word in words), outcome.remark
    assert main([str(tmp_path)]) == 1
    capsys.readouterr()


def test_a_folder_without_cases_is_an_error_of_usage(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    (tmp_path / "note.json").write_text("{}")
    assert main([str(tmp_path)]) == 2
    assert main([str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().out


def test_figures_are_recomputed_from_our_weights(tmp_path):
    w = linear_answer()
    raw = "treat,y\n1,7\n1,9\n0,1\n0,2\n0,3\n0,4\n"
    (tmp_path / "fig_raw.csv").write_text(raw)
    att = 8.0 - float(w @ [1, 2, 3, 4] / w.sum())
    outcome = run_case(
        write(
            tmp_path, "fig", att_y=att, ess_control=float(w.sum() ** 2 / (w**2).sum()), sum_w=50.0
        )
    )
    found = {label: (ours, theirs) for label, ours, theirs in outcome.figures}
    assert set(found) == {"att_y", "ess_control", "sum_w"}
    for ours, theirs in found.values():
        assert ours == pytest.approx(theirs, rel=1e-12)


def test_every_shared_case_is_met(realdata, capsys):
    folder = realdata.parent / "cases"
    if not folder.is_dir():
        pytest.skip(f"known answers are not at {folder}")
    assert main([str(folder)]) == 0
    out = capsys.readouterr().out
    assert "MISSED" not in out and "ERROR" not in out
