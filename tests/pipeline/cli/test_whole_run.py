"""A real run of a small state in a terminal of 80 columns, and its result looked at there."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import polars as pl
import pytest

from pipeline.specs.codebook import load_codebook
from pipeline.vocabulary import POPULATION, is_variable
from tests.pipeline.cli.in_a_terminal import Seen, program, run_in_terminal
from tests.pipeline.codebook_faults import faults_of
from tests.pipeline.faults import SAMPLE, small_sample

PROJECT_ROOT = Path(__file__).resolve().parents[3]
COMMAND = "tests.pipeline.cli.small_profile"
COLUMNS = 80


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    small_sample(folder / "raw")
    return folder


def command(folder: Path, *arguments: str) -> list[str]:
    places = ("--profile", "sample_files", "--output", str(folder / "output"))
    return program(COMMAND, *arguments, *places)


@pytest.fixture(scope="module")
def seen(folder) -> Seen:
    options = ("--states", "RI", "--data", str(folder / "raw"), "--log-file", str(folder / "log"))
    return run_in_terminal(command(folder, "run", *options), columns=COLUMNS)


@pytest.fixture(scope="module")
def shown(folder, seen) -> list[str]:
    assert seen.status == 0
    page = run_in_terminal(command(folder, "show", "RI"), columns=COLUMNS)
    assert page.status == 0
    return page.screen(COLUMNS)


def test_the_steps_of_solver_and_selection_are_seen_while_they_work(seen):
    assert seen.status == 0, seen.screen(COLUMNS)
    for words in (
        r"dense_weights \d+ s: step \d+, tau",
        r"selected_pairs \d+ s: (drew|compiling)",
        r"weights \d+ s: step \d+, tau",
        r"\d+ of \d+ assets",
    ):
        assert re.search(words, seen.text), words


def test_the_end_is_the_fit_and_where_the_results_are(seen, folder):
    left = seen.screen(COLUMNS)
    text = " ".join(line.strip() for line in left)
    assert re.search(r"nation +\d+ assets in", text) and re.search(r"RI +\d+ assets in", text)
    assert "fit of 390 pairs" in text and "median error" in text
    assert str(folder / "output" / "sample_files") in "".join(left).replace(" ", "")
    assert not any("of 18 assets" in line or "⠋" in line for line in left)


def test_the_log_has_every_asset_and_what_it_said(seen, folder):
    log = (folder / "log").read_text()
    for asset in ("geography", "dense_weights", "selected_pairs", "weights", "run_manifest"):
        assert re.search(rf" {asset} +\d+\.\d s", log), asset
    assert re.search(r"dense_weights +step \d+, tau", log)
    assert "exit status 0" in log and "\x1b" not in log


def test_every_line_fits_and_no_word_of_a_table_is_cut(shown):
    assert max(map(len, shown)) <= COLUMNS
    assert [line for line in shown if "…" in line] == []


@pytest.mark.parametrize(
    "words",
    [
        "nation +state +county +tract",
        r"fitted targets +0 of [\d,]+ +\d+ +\d+ +\d+",
        r"inside that margin +(\d+\.\d % +){2,3}\d+\.\d %",
        "Worst targets",
        "Not fitted",
        "What selection lost",
        "Seconds by asset: ",
    ],
)
def test_the_page_reads_at_eighty_columns(shown, words):
    assert any(re.search(words, line) for line in shown), words


def test_the_codebook_tells_of_every_stored_table_what_stands_in_it(folder, seen):
    assert seen.status == 0
    book, root = load_codebook(), folder / "output" / "sample_files"
    tables = [path for path in sorted(root.rglob("*.parquet")) if path.parent.name != "truth"]
    assert len(tables) > 20
    assert [fault for path in tables for fault in faults_of(book, path)] == []


def test_dense_weights_are_written_as_rows_that_give_what_the_report_says(folder, seen):
    assert seen.status == 0
    out, data = folder / "dense", ("--data", str(folder / "raw"))
    written = run_in_terminal(command(folder, "dense", "RI", str(out), *data), columns=COLUMNS)
    assert written.status == 0, written.screen(COLUMNS)
    rows = pl.read_parquet(out / "*.parquet")
    assert rows.columns == ["household_id", "area", "weight"]
    root = folder / "output" / "sample_files"
    units, fit = (
        pl.read_parquet(root / name / "state=RI" / "*.parquet")
        for name in ("candidate_units", "fit_report")
    )
    persons = (
        rows.join(units, on="household_id")
        .group_by(geoid="area")
        .agg(found=(pl.col("weight") * pl.col("persons|total")).sum())
    )
    stated = fit.filter((pl.col("level") == "tract") & is_variable(POPULATION))
    both = stated.join(persons, on="geoid")
    assert both.height == persons.height > 3
    assert both["found"].to_list() == pytest.approx(both["fitted_dense"].to_list(), rel=1e-9)
    again = run_in_terminal(command(folder, "dense", "RI", str(out), *data), columns=COLUMNS)
    assert again.status == 1 and "There is something of that name" in again.text


def test_the_result_is_released_with_what_the_run_recorded(folder, seen, tmp_path):
    assert seen.status == 0
    # 390 pairs meet less than the gate asks of a first release.
    approvals = tmp_path / "approvals.yaml"
    approvals.write_text(
        "approvals:\n- {figure: '*', what: [missed], largest: 2.0, reason: a test of few pairs,"
        " approved_by: tests, expires: 2999-01-01}\n"
    )
    options = ("--to", str(tmp_path / "shelf"), "--approvals", str(approvals))
    made = run_in_terminal(command(folder, "release", *options), columns=COLUMNS)
    assert made.status == 0, made.screen(COLUMNS)
    latest = tmp_path / "shelf" / "latest"
    checks = json.loads((latest / "certificate.json").read_bytes())
    recorded = {c["name"]: c["passed"] for c in checks["checks"] if c["how"] == "recorded"}
    assert recorded["weights.converged"] is recorded["dense_weights.converged"] is True
    assert not [name for name in checks["not_told"] if "converged" in name]
    book = json.loads((latest / "codebook.json").read_bytes())["tables"]
    for path in sorted(latest.glob("*/**/*.parquet")):
        told = book[path.stem]
        unknown = set(pl.read_parquet_schema(path)) - set(told["columns"])
        patterns = told.get("patterns", {})
        assert all(any(re.fullmatch(p, name) for p in patterns) for name in unknown), unknown
    same = run_in_terminal(command(folder, "diff", *options[:2]), columns=COLUMNS)
    assert "Every figure, target and weight is the same" in " ".join(same.screen(COLUMNS))
    picture = tmp_path / "fit.png"
    drawn = run_in_terminal(command(folder, "map", "RI", str(picture)), columns=COLUMNS)
    assert drawn.status == 0 and picture.stat().st_size > 10_000


def told(folder: Path, *arguments: str) -> list[dict]:
    """What a command prints as JSON, into a pipe."""
    line = command(folder, *arguments, *data(folder), "--json")
    done = subprocess.run(line, capture_output=True, text=True, check=True, cwd=PROJECT_ROOT)
    return json.loads(done.stdout)


def data(folder: Path) -> tuple[str, str]:
    return "--data", str(folder / "raw")


def test_a_state_that_was_just_run_is_current_and_its_neighbour_was_never_run(folder, seen):
    assert seen.status == 0
    rows = told(folder, "status")
    assert [(row["name"], row["standing"]) for row in rows] == [
        ("nation", "current"),
        ("RI", "current"),
        ("DE", "never run"),
    ]
    assert [row["stale"] for row in rows[:2]] == [[], []]


def test_a_second_run_makes_nothing_and_says_so(folder, seen):
    assert seen.status == 0
    root = folder / "output" / "sample_files"
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")}
    again = run_in_terminal(
        command(folder, "run", "--states", "RI", *data(folder)), columns=COLUMNS
    )
    assert again.status == 0
    assert "RI      current, nothing to do" in again.text
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.parquet")} == before


def test_why_names_the_raw_file_that_changed_and_a_run_goes_as_far_as_it_must(folder, seen):
    assert seen.status == 0
    path = folder / "raw" / SAMPLE.s1901
    before = path.read_bytes()
    try:
        # A blank line at the end: another file, and the same figures.
        path.write_bytes(before + b"\n")
        found = {row["asset"]: row["causes"] for row in told(folder, "why", "RI")}
        assert [cause["what"] for cause in found["acs5_s1901_counties"]] == [SAMPLE.s1901]
        assert found["state_targets"] == []
        again = run_in_terminal(
            command(folder, "run", "--states", "RI", *data(folder)), columns=COLUMNS
        )
        assert again.status == 0 and "acs5_s1901_counties" in again.text
        assert not re.search(r"(state_targets|dense_weights) +\d+\.\d s", again.text)
    finally:
        path.write_bytes(before)
