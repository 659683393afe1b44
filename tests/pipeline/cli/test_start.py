"""The start of every command: help without the heavy imports, options that all have, completion."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from pipeline.assets.common import PROJECT_ROOT
from pipeline.specs.base import SPEC_ROOT

COMMANDS = ["run", "profiles", "show", "check", "validate", "env", "ui", "compile"]
# What takes a second or more to import, or is of no use to somebody who asks for help.
HEAVY = ["dagster", "polars", "numpy", "scipy", "torch", "numba", "altair"]
IMPORTED = """
import runpy, sys
sys.argv = ["geocal", *sys.argv[1:]]
try:
    runpy.run_module("pipeline.cli", run_name="__main__")
except SystemExit as ended:
    print("status", ended.code or 0)
print("imported", *sorted({name.split(".")[0] for name in sys.modules}))
"""


def started(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that says at its end what it imported."""
    return subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def imported(process: subprocess.CompletedProcess[str]) -> set[str]:
    return set(process.stdout.splitlines()[-1].split()[1:])


def test_help_lists_the_commands_and_where_to_begin(invoke):
    status, text, _ = invoke("--help")
    assert status == 0
    for word in (*COMMANDS, "SYNTHETIC", "Exit status"):
        assert word in text


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_explains_itself_and_what_all_have(invoke, command, option):
    status, text, _ = invoke(command, option)
    assert status == 0
    for word in ("--verbose", "-v", "--quiet", "-q", "--log-file", "--traceback", "-h, --help"):
        assert word in text


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        pytest.param(["-h"], 0, id="help"),
        pytest.param(["--version"], 0, id="version"),
        *(pytest.param([command, "-h"], 0, id=command) for command in COMMANDS),
        pytest.param(["run", "--pairs", "many"], 2, id="wrong option"),
        pytest.param(["rnu"], 2, id="unknown command"),
        pytest.param(["run", "--log-file", "/no/such/folder/log"], 1, id="log file"),
    ],
)
def test_help_and_errors_in_options_wait_for_nothing_heavy(arguments, status):
    process = started(*arguments)
    assert f"status {status}" in process.stdout, process.stderr
    assert imported(process) & set(HEAVY) == set()


@pytest.mark.parametrize(
    "arguments",
    [["run", "--profile", "nowhere"], ["run", "--states", "XX"], ["profiles"], ["show", "RI"]],
    ids=" ".join,
)
def test_a_name_that_is_wrong_is_refused_without_dagster(arguments, tmp_path):
    process = started(*arguments, GEOCAL_OUTPUT=str(tmp_path))
    assert "status 1" in process.stdout or arguments == ["profiles"]
    heavy = {"torch", "numba", "altair"} | ({"dagster"} if arguments != ["show", "RI"] else set())
    assert imported(process) & heavy == set()


def test_the_module_is_the_command(tmp_path):
    process = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", "profiles"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0
    assert "rhode_island" in process.stdout


def completed(words: str, shell: str = "bash") -> list[str]:
    """What Tab offers after ``words``."""
    variables = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split(" ")) - 1)}
    process = subprocess.run(
        [sys.executable, "-m", "pipeline.cli"],
        cwd=PROJECT_ROOT,
        env={**os.environ, "_GEOCAL_COMPLETE": f"complete_{shell}", **variables},
        capture_output=True,
        text=True,
    )
    return process.stdout.split()


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param("geocal ru", ["run"], id="command"),
        pytest.param("geocal run --profile rh", ["rhode_island"], id="profile"),
        pytest.param("geocal show --profile sam", ["sample"], id="profile of show"),
        pytest.param("geocal run --states ", ["RI", "DE"], id="states of the sample"),
        pytest.param("geocal run --profile rhode_island -s ", ["RI"], id="states of a profile"),
        pytest.param("geocal run --states RI,", ["RI,DE"], id="the next state"),
        pytest.param("geocal show D", ["DE"], id="argument"),
        pytest.param("geocal run --profile nowhere -s ", [], id="unknown profile"),
    ],
)
def test_the_tab_key_completes_names(words, offered):
    assert completed(words) == offered


def test_completion_can_be_installed(invoke):
    text = invoke("--help")[1]
    assert "--install-completion" in text and "--show-completion" in text


def test_completion_imports_no_numerics():
    variables = {"COMP_WORDS": "geocal run --states ", "COMP_CWORD": "3"}
    process = started(_GEOCAL_COMPLETE="complete_bash", **variables)
    assert imported(process) & {"dagster", "polars", "numpy", "torch", "numba"} == set()


@pytest.fixture
def light(monkeypatch, tmp_path, toy):
    """Every command with its work taken out where that lasts; ``tmp_path`` is the output folder."""
    monkeypatch.setenv("GEOCAL_OUTPUT", str(tmp_path))
    monkeypatch.setattr("pipeline.cli.serve.serve", lambda *_: 0)
    monkeypatch.setattr("pipeline.cli.validate.run_validation", lambda *_: 0)
    monkeypatch.setattr("pipeline.cli.serve._require_free", lambda port: None)

    def compiled(say):
        from pipeline.warm import Compiled

        say("compiling a loop")
        return Compiled(1, 0.5)

    monkeypatch.setattr("pipeline.warm.compile_loops", compiled)


ARGUMENTS = {
    "run": ["run"],
    "profiles": ["profiles"],
    "show": ["show", "RI"],
    "check": ["check"],
    "validate": ["validate", "--hold-out", "race"],
    "env": ["env"],
    "ui": ["ui"],
    "compile": ["compile"],
}


@pytest.mark.parametrize("command", COMMANDS)
def test_verbose_says_more_quiet_less_and_the_log_file_everything(invoke, light, tmp_path, command):
    plain = invoke(*ARGUMENTS[command])
    quiet = invoke(*ARGUMENTS[command], "--quiet")
    log = tmp_path / "log"
    more = invoke(*ARGUMENTS[command], "-v", "--log-file", str(log))
    assert plain[0] == quiet[0] == more[0]
    assert len(quiet[1]) <= len(plain[1]) and quiet[2] == plain[2]
    assert len(more[2]) > len(plain[2]), "details are on standard error"
    assert re.search(r"^geocal \S+, Python 3", more[2], re.MULTILINE)
    written = log.read_text()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in written.splitlines())
    assert f"geocal {command}" in written
    assert f"exit status {more[0]} after" in written
    for line in filter(None, (*more[1].splitlines(), *more[2].splitlines())):
        assert line.strip() in written


@pytest.mark.parametrize(
    ("command", "result"), [("run", "fit of RI, DE\n"), ("ui", ""), ("compile", "")]
)
def test_quiet_leaves_the_result_alone(invoke, light, command, result):
    assert invoke(*ARGUMENTS[command], "-q") == (0, result, "")


def test_the_log_file_is_added_to(invoke, tmp_path):
    log = tmp_path / "log"
    for _ in range(2):
        invoke("profiles", "-q", "--log-file", str(log))
    assert log.read_text().count("exit status 0") == 2


def test_the_log_file_has_the_traceback_that_is_not_shown(invoke, toy, tmp_path):
    toy["broken"] = ("DE",)
    log = tmp_path / "log"
    _, out, err = invoke("run", "--output", str(tmp_path), "--log-file", str(log))
    assert "SourceFileError" not in out + err
    assert "SourceFileError" in log.read_text()


def test_traceback_and_verbose_are_two_things(invoke, tmp_path):
    shown = invoke("show", "RI", "--output", str(tmp_path), "--traceback")
    assert shown[0] == 1
    assert "StoreError" in shown[2] and "has not been run" in shown[2]
    assert "Traceback" not in invoke("show", "RI", "--output", str(tmp_path), "-v")[2]


def test_verbose_and_quiet_exclude_each_other(invoke):
    status, out, err = invoke("profiles", "-v", "-q")
    assert (status, out) == (2, "")
    assert "exclude each other" in err


@pytest.mark.parametrize("option", ["--data", "--output", "--log-file"])
def test_an_empty_path_of_an_unset_variable_is_wrong_usage(invoke, option):
    status, out, err = invoke("check", option, "")
    assert (status, out) == (2, "")
    assert "it is empty" in err


def test_profiles_that_the_shell_offers_are_those_there_are(invoke):
    assert completed("geocal run --profile ") == sorted(
        path.stem for path in (SPEC_ROOT / "profiles").glob("*.yaml")
    )


@pytest.mark.parametrize("arguments", [("status",), ("why", "RI")])
def test_what_only_looks_makes_no_folder_where_nothing_was_run(invoke, tmp_path, arguments):
    nowhere = tmp_path / "nowhere"
    status, out, _ = invoke(*arguments, "--profile", "sample", "--output", str(nowhere))
    assert status == 0 and ("never run" in out or "would be made again" in out)
    assert not nowhere.exists()
