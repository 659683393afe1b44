"""Mistakes of a new user, and what can happen to files: one message each, and never a traceback.

Unknown names and wrong folders are in ``test_commands.py``, errors in options in ``test_start.py``.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.assets.common import PROJECT_ROOT
from pipeline.settings import RunEnvironment
from pipeline.specs import base
from tests.pipeline.cli.in_a_terminal import program

SENTENCES = ("Where: ", "Expected: ", "What to do: ")


def refused(result: tuple[int, str, str], *words: str, status: int = 1) -> None:
    """One message in our own form that says ``words``, and nothing before it."""
    found, out, err = result
    assert (found, out) == (status, "")
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1
    for word in (*words, *SENTENCES):
        assert word in err


@pytest.mark.parametrize(
    ("variable", "value", "arguments", "words"),
    [
        ("GEOCAL_PROFILE", "nowhere", ["run"], ["no profile 'nowhere'"]),
        ("GEOCAL_DATA", "/nowhere", ["check", "-p", "rhode_island"], ["no data folder"]),
        ("GEOCAL_OUTPUT", "taken", ["run"], ["cannot be written", "GEOCAL_OUTPUT"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_variable_is_answered_as_a_wrong_option_is(
    invoke, monkeypatch, tmp_path, variable, value, arguments, words
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").write_text("a file")
    monkeypatch.setenv(variable, value)
    refused(invoke(*arguments), *words)


def test_a_file_for_a_folder_is_called_one(invoke, tmp_path):
    file = tmp_path / "file"
    file.write_text("x")
    refused(invoke("run", "-p", "rhode_island", "-d", str(file)), "is no folder", str(file))


def test_too_few_pairs_are_refused_before_the_run(invoke, toy, tmp_path):
    result = invoke("run", "--pairs", "5", "--output", str(tmp_path))
    refused(result, "5 pairs are fewer than the 27 tracts of RI", "27 or more")
    assert not (tmp_path / "sample" / "weights").exists()


def test_a_port_in_use_is_named(invoke, tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        refused(invoke("ui", "--port", port, "-o", str(tmp_path)), f"Port {port}", "is in use")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param("{", "cannot be read", id="cut"),
        pytest.param("[]", "not a JSON object", id="a list"),
        pytest.param("{}", "lacks", id="empty"),
        pytest.param('{"tables": {}}', "lacks", id="without tables"),
    ],
)
def test_a_manifest_that_is_not_whole_says_how_to_write_it_anew(invoke, tmp_path, content, words):
    folder = RunEnvironment("sample", tmp_path, tmp_path).manifests
    folder.mkdir(parents=True)
    (folder / "RI.json").write_text(content)
    refused(invoke("show", "RI", "-o", str(tmp_path)), words, "RI.json", "geocal run")


def test_a_damaged_record_of_runs_is_named_and_the_results_are_said_to_stay(invoke, toy, tmp_path):
    home = RunEnvironment("sample", tmp_path, tmp_path).dagster_home
    (home / "history").mkdir(parents=True)
    (home / "history" / "runs.db").write_text("rubbish" * 1000)
    status, _, err = invoke("run", "-o", str(tmp_path))
    assert status == 1
    assert "Traceback" not in err and str(home) in err
    assert "record of runs" in err and "results stay" in err


def test_no_room_on_the_disk_is_one_message(tmp_path):
    """Files of at most 20 KiB stand for a full disk: Dagster's database does not fit."""
    command = " ".join(program("pipeline.cli", "run", "-s", "DE", "-o", str(tmp_path)))
    process = subprocess.run(
        ["bash", "-c", f"ulimit -f 20; {command}"], cwd=PROJECT_ROOT, capture_output=True, text=True
    )
    assert process.returncode == 1
    assert "Traceback" not in process.stdout + process.stderr
    assert "Free room on the disk" in process.stderr


def test_a_full_standard_output_is_named_on_standard_error():
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with Path("/dev/full").open("w") as full:
        process = subprocess.run(
            program("pipeline.cli", "profiles"),
            cwd=PROJECT_ROOT,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.returncode == 1
    assert "No space left on device" in process.stderr and "Traceback" not in process.stderr


@pytest.mark.parametrize("closed", ["1>&-", "2>&-", "1>&- 2>&-", "0<&-"])
def test_a_closed_stream_stops_nothing(closed):
    command = " ".join(program("pipeline.cli", "profiles"))
    process = subprocess.run(
        ["bash", "-c", f"{command} {closed}"], cwd=PROJECT_ROOT, capture_output=True, text=True
    )
    assert process.returncode == 0
    assert "Traceback" not in process.stdout + process.stderr


@pytest.mark.parametrize("arguments", [["profiles"], ["profiles", "--json"]], ids=" ".join)
def test_a_reader_that_has_seen_enough_hears_no_complaint(arguments):
    """`geocal profiles | head -1`, with a reader that is gone before the first line."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        process = subprocess.run(
            program("pipeline.cli", *arguments),
            cwd=PROJECT_ROOT,
            stdout=nobody,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stderr == ""
    assert process.returncode in (0, 1)


def test_an_error_that_nobody_foresaw_is_one_message_with_its_place(tmp_path):
    code = (
        "import sys; from unittest.mock import patch; from pipeline.cli import main\n"
        "sys.argv = ['geocal', 'profiles', *sys.argv[1:]]\n"
        "with patch('pipeline.cli.listing.list_profiles', lambda *_: 1 / 0):\n    main()\n"
    )

    def called(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, *more], cwd=PROJECT_ROOT, capture_output=True, text=True
        )

    plain = called("--log-file", str(tmp_path / "log"))
    assert plain.returncode == 1
    assert "ZeroDivisionError: division by zero" in plain.stderr
    assert "Traceback" not in plain.stderr and "--traceback" in plain.stderr
    assert "Traceback" in (tmp_path / "log").read_text()
    assert "Traceback" in called("--traceback").stderr


@pytest.fixture
def specs(monkeypatch, tmp_path) -> Iterator[Path]:
    """A copy of the specifications that this process uses."""
    root = tmp_path / "data_specs"
    shutil.copytree(base.SPEC_ROOT, root)
    from pipeline.specs import catalog

    whole = catalog.load_catalog
    monkeypatch.setattr(catalog, "load_catalog", lambda *_: whole(root))
    return root


def test_a_faulty_profile_is_listed_with_its_fault_and_stops_no_other(invoke, toy, specs, tmp_path):
    (specs / "profiles" / "foo.yaml").write_text("id: foo\nnonsense: 1\n")
    status, out, err = invoke("profiles")
    assert status == 0
    assert "rhode_island" in out and "FAULTY" in out
    assert "Profile foo is faulty" in err and "nonsense" in err
    listed = {row["id"]: row for row in json.loads(invoke("profiles", "--json")[1])}
    assert "nonsense" in listed["foo"]["fault"]
    others = [row["fault"] for name, row in listed.items() if name != "foo"]
    assert len(others) >= 4 and set(others) == {None}
    assert invoke("run", "--profile", "sample", "-o", str(tmp_path / "o"))[0] == 0
    refused(invoke("run", "--profile", "foo", "-o", str(tmp_path / "o")), "foo.yaml", "nonsense")
