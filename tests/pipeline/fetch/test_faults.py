"""A publisher on this machine plays every fault: nothing wrong takes a file's place, and a second
run ends right.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from benchmarks import fetch_faults
from benchmarks.fetch_faults import FAULTS, HALF, TABLE, Fault, try_fault, wanted_of
from benchmarks.loopback import cut, whole
from pipeline.fetch.record import RECORD

ROOT = Path(__file__).resolve().parents[3]
BY_NAME = {fault.name: fault for fault in FAULTS}
# What the first run makes of each; all others bring the file.
REFUSED = {
    "sent on to a log-in page",
    "web page, named text/html",
    "web page, named text/csv",
    "403 to programs",
    "API: no key",
}
FAILED = {
    "cut off again and again",
    "archive damaged",
    "archive of another state",
    "sent round in a circle",
    "another type: PDF",
    "nothing: 0 bytes",
    "404",
    "429, Retry-After an hour",
    "503 again and again",
    "API: unknown variable",
}
NEW_SECOND = {"changed at the publisher"}
FAILS_SECOND = {"changed, and cut off then"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict:
    """Both runs of each fault, and the folder after them; tried once for all tests."""
    done = {}
    for number, fault in enumerate(FAULTS):
        folder = tmp_path_factory.mktemp(f"fault{number}")
        done[fault.name] = (*try_fault(fault, folder), folder)
    return done


@pytest.mark.parametrize("name", BY_NAME)
def test_the_first_run_brings_the_file_or_says_why_not(runs, name):
    first, _, _ = runs[name]
    expected = "refused" if name in REFUSED else "failed" if name in FAILED else "fetched"
    assert first.outcome.result == expected, first.message
    assert (first.content is None) == (expected != "fetched")
    if expected != "fetched":
        for words in ("Where: ", "Expected: ", "What to do: "):
            assert words in first.message
        assert first.message in " ".join(first.said.split("\n"))


@pytest.mark.parametrize("name", BY_NAME)
def test_the_second_run_ends_right(runs, name):
    """The whole file lies there, nothing partial beside it, and the record tells its digest."""
    first, second, folder = runs[name]
    if name == "API: no key":
        assert second.outcome.result == "refused"
        return
    if name in FAILS_SECOND:
        assert second.outcome.result == "failed"
        assert second.content == first.content == TABLE.content
        assert "What was there before is kept" in second.message
        return
    new = name in REFUSED | FAILED | NEW_SECOND
    assert second.outcome.result == ("fetched" if new else "current"), second.message
    wanted = wanted_of(BY_NAME[name].source, folder)
    entry = json.loads((folder / RECORD).read_text())["files"][second.outcome.path]
    assert entry["sha256"] == hashlib.sha256(second.content).hexdigest()
    assert entry["stamp"]["address"] == wanted.file.url
    assert entry["bytes"] == len(second.content) == second.outcome.bytes
    assert [p.name for p in wanted.path.parent.iterdir()] == [wanted.path.name]
    assert json.loads((folder / RECORD).read_text())["partial"] == {}


def test_what_broke_off_goes_on_where_it_ended(runs):
    """In the same run and in the next, and only the missing bytes are asked for."""
    first, _, _ = runs["cut off in the middle, once"]
    assert first.asked == ("whole", f"from byte {HALF:,}")
    assert first.content == TABLE.content
    first, second, _ = runs["cut off again and again"]
    assert second.asked == (f"from byte {HALF:,}",)
    assert second.content == TABLE.content
    assert "goes on where it broke off" in first.message


@pytest.mark.parametrize(
    "name",
    ["cut off, and cannot continue", "cut off, and no ETag or date", "changed while it came"],
)
def test_where_it_cannot_go_on_it_begins_anew(runs, name):
    first, _, _ = runs[name]
    assert first.outcome.result == "fetched"
    assert first.content in (TABLE.content, TABLE.content + b"050,44,999,SYNTHETIC,1,2\n")


def test_a_long_file_over_a_bad_line_comes_though_it_breaks_off_often(tmp_path):
    """More breaks than attempts: each attempt brings something, so none is in vain."""
    pieces = [cut(TABLE, 2000)] * 15
    first, _ = try_fault(Fault("often", (*pieces, whole(TABLE)), None), tmp_path)
    assert first.outcome.result == "fetched"
    assert len(first.asked) == 16
    assert first.content == TABLE.content


@pytest.mark.parametrize(
    "name", [fault.name for fault in FAULTS if "Retry-After" in fault.name and "once" in fault.name]
)
def test_a_wait_that_the_publisher_names_is_kept(tmp_path, name, monkeypatch):
    waited = []
    original = fetch_faults.fetch_files
    monkeypatch.setattr(
        fetch_faults, "fetch_files", lambda *a, **k: original(*a, **k, sleep=waited.append)
    )
    first, _ = try_fault(BY_NAME[name], tmp_path)
    assert first.outcome.result == "fetched"
    assert len(waited) == 1
    assert 0.9 <= waited[0] <= 2.1


def test_a_long_wait_is_left_to_the_user(runs):
    first, _, _ = runs["429, Retry-After an hour"]
    assert first.asked == ("whole",)
    assert "come back in 3,600 s" in first.message


def test_a_refusal_names_address_name_and_folder(runs):
    first, _, folder = runs["403 to programs"]
    url = wanted_of("pep_counties", folder).file.url
    assert f"Where: U.S. Census Bureau, {url}." in first.message
    assert "save the file as co-est2024-alldata.csv in DATA/pep" in first.message
    first, _, _ = runs["API: no key"]
    assert "Set CENSUS_API_KEY to a key" in first.message


def test_a_refusal_is_not_tried_again(runs):
    assert all(len(runs[name][0].asked) <= 2 for name in REFUSED)
    assert runs["403 to programs"][0].asked == ("whole",)


@pytest.mark.parametrize("name", BY_NAME)
def test_each_row_of_the_document_is_what_is_seen(runs, name):
    page = (ROOT / "docs" / "fetching.md").read_text(encoding="utf-8")
    first, second, _ = runs[name]
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {name} |")]
    assert line == fetch_faults.row(BY_NAME[name], first, second)
