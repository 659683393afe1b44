"""The command line: what it prints, its exit statuses, and the messages of wrong use."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from calibration_core.errors import GeocalError
from pipeline.cli import serve
from pipeline.cli.terminal import Verbosity, opened
from pipeline.sample.generate import STAMP
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import load_catalog
from pipeline.specs.checks import load_checks
from pipeline.versions import geocal_version


def test_run_prints_progress_a_fit_and_succeeds(invoke, toy, tmp_path):
    status, out, err = invoke("run", "--output", str(tmp_path))
    assert status == 0, err
    assert "SYNTHETIC" in out
    assert out.index("nation ") < out.index("RI ") < out.index("DE ") < out.index("fit of RI, DE")
    assert str(tmp_path / "sample") in out


def test_a_failed_state_is_named_and_the_status_is_one(invoke, toy, tmp_path):
    toy["broken"] = ("DE",)
    status, out, err = invoke("run", "--output", str(tmp_path))
    assert status == 1
    assert "FAILED DE, asset weights: The zip archive cannot be opened." in err
    assert "What to do: Download it again." in err
    assert "Traceback" not in err
    assert "fit of RI" in out


def test_a_failed_nation_says_which_states_did_not_start(invoke, toy, tmp_path):
    toy["nation_broken"] = True
    status, _, err = invoke("run", "--output", str(tmp_path))
    assert status == 1
    assert "irs/22in55cmcsv.csv" in err
    assert "Not started: RI, DE" in err


def test_traceback_is_shown_when_asked_for(invoke, toy, tmp_path):
    toy["broken"] = ("DE",)
    assert "Stack Trace" in invoke("run", "--output", str(tmp_path), "--traceback")[2]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(
            ["run", "--profile", "atlantis"], "There is no profile 'atlantis'", id="unknown profile"
        ),
        pytest.param(
            ["run", "--states", "WY"], "Profile sample has no state WY", id="state not in profile"
        ),
        pytest.param(
            ["run", "--profile", "rhode_island"],
            "there is no data folder",
            id="real files without a folder",
        ),
        pytest.param(
            ["check", "--profile", "rhode_island", "--data", "nowhere"],
            "there is no data folder",
            id="folder that is not there",
        ),
        pytest.param(
            ["show", "RI"], "has not been run in profile sample", id="nothing materialised"
        ),
        pytest.param(
            ["show", "Rhode Island"],
            "Profile sample has no state RHODE ISLAND. Where: the argument STATE",
            id="a name for a code",
        ),
        pytest.param(
            ["show", "RI,DE"],
            "One state is expected, not 'RI,DE'. Where: the argument STATE",
            id="two states to show",
        ),
        pytest.param(
            ["show", ""],
            "One state is expected, not ''. Where: the argument STATE",
            id="no state to show",
        ),
        pytest.param(
            ["run", "--states", ""],
            "No state is named. Where: --states ''. Expected: states of profile sample: RI, DE",
            id="no state to run",
        ),
        pytest.param(["check", "--states", " , "], "No state is named", id="no state to check"),
        pytest.param(["run", "--output", "taken"], "cannot be written", id="run into a file"),
        pytest.param(["env", "--output", "taken"], "cannot be written", id="env of a file"),
        pytest.param(["ui", "--output", "taken"], "cannot be written", id="ui of a file"),
        pytest.param(["check", "--output", "taken"], "cannot be written", id="check into a file"),
        pytest.param(
            ["run", "--profile", "rhode_island", "--data", "made_up"],
            "the folder holds SYNTHETIC files",
            id="run of made-up files as real",
        ),
        pytest.param(
            ["check", "--profile", "rhode_island", "--data", "made_up"],
            "the folder holds SYNTHETIC files",
            id="check of made-up files as real",
        ),
    ],
)
def test_wrong_use_is_answered_in_words_without_a_traceback(
    invoke, tmp_path, monkeypatch, arguments, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file where a folder should be")
    (tmp_path / "made_up").mkdir()
    (tmp_path / "made_up" / STAMP).write_text("{}")
    status, out, err = invoke(*arguments)
    assert (status, out) == (1, ""), "refused before anything is said to have begun"
    assert said in err
    assert "What to do" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("pairs", ["0", "-5", "many"])
def test_a_number_of_pairs_that_is_none_is_wrong_usage(invoke, toy, tmp_path, pairs):
    status, out, err = invoke("run", "--output", str(tmp_path), "--pairs", pairs)
    assert (status, out) == (2, "")
    assert "--pairs" in err


def test_ctrl_c_says_where_it_came_and_the_status_is_130(invoke, toy, tmp_path):
    class CtrlC:
        def __contains__(self, state: str) -> bool:
            if state == "RI":
                os.kill(os.getpid(), signal.SIGINT)
            return False

    toy["broken"] = CtrlC()
    status, out, err = invoke("run", "--output", str(tmp_path))
    assert status == 130
    assert (
        err.strip()
        == "Interrupted during RI, asset weights. Not started: DE. What was made before is kept."
    )
    assert "INTERRUPTED" in out and "national_report" not in out


def test_the_version_is_the_installed_one(invoke):
    assert invoke("--version") == (0, f"geocal {geocal_version()}\n", "")


def test_profiles_in_words_and_as_json(invoke):
    status, out, _ = invoke("profiles")
    assert status == 0
    assert "rhode_island" in out and "made (SYNTHETIC)" in out
    listed = json.loads(invoke("profiles", "--json")[1])
    keys = {"id", "title", "synthetic", "states", "target_year", "levels", "fault"}
    assert set(listed[0]) == keys
    assert [p["synthetic"] for p in listed if p["id"] == "sample"] == [True]


def test_check_reads_every_file_of_the_sample(invoke, tmp_path):
    status, out, err = invoke("check", "--output", str(tmp_path), "--json")
    assert status == 0, err
    rows = json.loads(out)
    lines = [row for row in rows if "check" not in row]
    areas = [line for line in lines if line["source"] == "areas"]
    files = [line for line in lines if line not in areas]
    assert {line["source"] for line in files} == set(load_catalog().profile("sample").sources)
    assert all(line["ok"] and line["bytes"] > 0 and len(line["sha256"]) == 64 for line in files)
    assert {line["state"]: line["ok"] for line in areas} == {"RI": True, "DE": True}
    checks = [row for row in rows if "check" in row]
    assert {row["check"] for row in checks} == set(load_checks())
    assert all(row["ok"] for row in checks) and sum(row["judged"] for row in checks) > 10_000


def test_the_table_of_check_shows_every_path_whole(invoke, tmp_path):
    data = tmp_path / "files"
    data.mkdir()
    status, out, _ = invoke(
        "check", "--profile", "rhode_island", "--data", str(data), "--output", str(tmp_path / "o")
    )
    assert status == 1
    assert "csv_pri.zip" in out and "\u2026" not in out


def test_check_goes_on_past_a_faulty_file_and_names_every_one(invoke, tmp_path):
    page = tmp_path / "irs" / "22in55cmcsv.csv"
    page.parent.mkdir()
    page.write_text("<!DOCTYPE html><html>Access denied</html>")
    status, out, err = invoke(
        "check",
        "--profile",
        "rhode_island",
        "--data",
        str(tmp_path),
        "--output",
        str(tmp_path / "o"),
    )
    assert status == 1
    assert "web page, not data" in err and "22in55cmcsv.csv" in err
    assert "csv_pri.zip" in err
    assert "0 of " in out


def test_a_real_data_folder_is_never_written_into_by_the_generator(invoke, tmp_path, monkeypatch):
    status, _, err = invoke("run", "--data", str(tmp_path))
    assert status == 1
    assert "makes its own files" in err
    monkeypatch.setenv("GEOCAL_DATA", str(tmp_path / "real"))
    assert invoke("check", "--output", str(tmp_path / "o"))[0] == 0
    assert not (tmp_path / "real").exists()


def test_env_prints_shell_lines_for_dg(invoke, tmp_path):
    status, out, _ = invoke("env", "--output", str(tmp_path / "a b"))
    assert status == 0
    assert f"export DAGSTER_HOME='{tmp_path}/a b/sample/dagster_home'" in out
    assert (
        "enabled: false"
        in (
            RunEnvironment("sample", tmp_path, tmp_path / "a b").dagster_home / "dagster.yaml"
        ).read_text()
    )


def test_ui_serves_on_the_local_address_only_and_ends_with_its_children(
    monkeypatch, tmp_path, invoke
):
    seen = {}

    def served(commands, variables, folder, terminal):
        record = {path.name for path in tmp_path.rglob("*.db")}
        seen.update(commands=commands, variables=variables, record=record)
        return 0

    monkeypatch.setattr(serve, "serve", served)
    status, out, _ = invoke("ui", "--output", str(tmp_path), "--port", "3456")
    assert status == 0
    # Two programs that make the same databases at the same time: one of them ends.
    assert seen["record"] == {"runs.db", "index.db", "schedules.db"}
    web, daemon = seen["commands"]
    assert web[1:5] == ["-h", "127.0.0.1", "-p", "3456"]
    assert daemon[1] == "run"
    assert seen["variables"]["GEOCAL_PROFILE"] == "sample"
    assert "http://127.0.0.1:3456" in out


def test_serving_stops_everything_when_one_program_ends(tmp_path):
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    ends = [sys.executable, "-c", "raise SystemExit(3)"]
    with opened(Verbosity()) as terminal:
        assert serve.serve([ends, sleeper], {}, tmp_path, terminal) == 3


def test_an_error_from_anywhere_becomes_its_message(invoke, monkeypatch):
    def fail(*args, **kwargs):
        raise GeocalError("The disk is full", where="output", remedy="Free some space")

    monkeypatch.setattr("pipeline.cli.asked.asked_for", fail)
    status, out, err = invoke("run")
    assert (status, out) == (1, "")
    assert err.strip() == "The disk is full. Where: output. What to do: Free some space."


def test_the_list_of_planted_errors_needs_no_folder_and_the_files_do(invoke):
    status, out, err = invoke("sample", "--break", "list")
    assert status == 0, err
    assert len(out.strip().splitlines()) == 20
    status, _, err = invoke("sample")
    assert status == 1 and "No folder is named" in err
