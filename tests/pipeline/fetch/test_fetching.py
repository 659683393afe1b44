"""What becomes of a file that is there, that somebody placed, or that two programs want."""

from __future__ import annotations

import json
import time

import filelock
import pytest

from benchmarks.fetch_faults import PAGE, QUICK, TABLE, wanted_of
from benchmarks.loopback import says, whole
from pipeline.errors import StoreError
from pipeline.fetch.fetching import LOCK, PART, fetch_files
from pipeline.fetch.network import MIRROR_VARIABLE
from pipeline.fetch.record import RECORD
from tests.pipeline.fetch.conftest import Silent


def record(folder) -> dict:
    return json.loads((folder / RECORD).read_text())


def place(wanted, content: bytes) -> None:
    wanted.path.parent.mkdir(parents=True, exist_ok=True)
    wanted.path.write_bytes(content)


def test_a_file_placed_by_hand_is_checked_noted_and_never_asked_for(
    fetch, publisher, wanted, tmp_path
):
    place(wanted, TABLE.content)
    for _ in range(2):
        outcome = fetch(wanted, whole(TABLE))
        assert (outcome.result, outcome.bytes) == ("placed by hand", len(TABLE.content))
    assert publisher.asked == []
    entry = record(tmp_path)["files"][outcome.path]
    assert entry["origin"] == "by hand"
    assert len(entry["sha256"]) == 64


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(PAGE.encode(), "it is a web page", id="a page saved under its name"),
        pytest.param(b"", "it is empty", id="nothing"),
        pytest.param(b"%PDF-1.4\n", "no .csv file", id="another type"),
    ],
)
def test_a_wrong_file_placed_by_hand_is_named_and_left(
    fetch, publisher, wanted, tmp_path, content, words
):
    place(wanted, content)
    outcome = fetch(wanted, whole(TABLE))
    assert outcome.result == "failed"
    assert words in outcome.message
    assert "Move it away" in outcome.message
    assert wanted.path.read_bytes() == content
    assert publisher.asked == []
    assert not (tmp_path / RECORD).exists()


def test_a_fetched_file_that_somebody_changed_is_theirs(fetch, publisher, wanted):
    assert fetch(wanted, whole(TABLE)).result == "fetched"
    place(wanted, TABLE.content + b"050,44,999,SYNTHETIC,1,2\n")
    publisher.asked.clear()
    outcome = fetch(wanted)
    assert outcome.result == "placed by hand"
    assert "changed since it was noted" in outcome.message
    assert publisher.asked == []


def test_other_usual_names_count(fetch, publisher, tmp_path):
    """A file under any name that the reader finds is there."""
    wanted = wanted_of("svi_counties", tmp_path)
    other = wanted.path.with_name("SVI2022_US_COUNTY.csv")
    other.parent.mkdir(parents=True)
    other.write_bytes(TABLE.content)
    outcome = fetch(wanted_of("svi_counties", tmp_path))
    assert outcome.result == "placed by hand"
    assert outcome.path.endswith(other.name)
    assert publisher.asked == []


def test_again_asks_for_the_whole_file(fetch, publisher, wanted):
    fetch(wanted, whole(TABLE))
    publisher.asked.clear()
    outcome = fetch(wanted, again=True)
    assert (outcome.result, outcome.message) == ("current", "asked for anew; nothing has changed")
    assert not {"If-None-Match", "If-Modified-Since", "Range"} & set(publisher.asked[0][1])


def test_an_address_that_changed_is_asked_without_a_condition(fetch, publisher, wanted, tmp_path):
    fetch(wanted, whole(TABLE))
    contents = record(tmp_path)
    (entry,) = contents["files"].values()
    entry["stamp"]["address"] = "https://www2.census.gov/older.csv"
    (tmp_path / RECORD).write_text(json.dumps(contents))
    publisher.asked.clear()
    assert fetch(wanted).result == "current"
    assert "If-None-Match" not in publisher.asked[0][1]


def test_a_carriers_file_cannot_be_asked_for(fetch, publisher, tmp_path):
    """And the official file is not to be saved under its name."""
    outcome = fetch(wanted_of("ssa_oasdi_states", tmp_path))
    assert outcome.result == "refused"
    assert "Tables 2 and 3 of the publisher's workbook" in outcome.message
    assert "Save the file described there as 2024 - Beneficiaries.csv" in outcome.message
    assert publisher.asked == []


def test_an_optional_file_that_is_not_there_is_no_failure(fetch, tmp_path):
    from dataclasses import replace

    wanted = wanted_of("pep_counties", tmp_path)
    optional = replace(wanted, file=replace(wanted.file, optional=True))
    assert fetch(wanted, says(404)).result == "failed"
    outcome = fetch(optional, says(404))
    assert (outcome.result, outcome.ready) == ("not offered", True)
    assert fetch(wanted_of("acs5_tables_download", tmp_path)).result == "not offered"


def test_two_at_once_are_refused(fetch, wanted, tmp_path):
    with (
        filelock.FileLock(tmp_path / LOCK),
        pytest.raises(StoreError, match="Another `geocal fetch` works"),
    ):
        fetch(wanted, whole(TABLE))
    assert fetch(wanted, whole(TABLE)).result == "fetched"


def test_a_record_that_is_none_is_named_and_kept(fetch, wanted, tmp_path):
    (tmp_path / RECORD).write_text("{")
    with pytest.raises(StoreError, match=r"record of fetched files cannot be read.*fetched\.json"):
        fetch(wanted, whole(TABLE))
    assert (tmp_path / RECORD).read_text() == "{"


def test_an_interrupted_download_goes_on(publisher, wanted, tmp_path, fetch):
    """Ctrl-C in the middle leaves the partial file and what it is part of."""

    class Interrupts(Silent):
        def moved(self, have, total) -> None:
            if have > 5_000:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(wanted, whole(TABLE, pieces=20, pause=0.01), listener=Interrupts())
    part = wanted.path.with_name(wanted.path.name + PART)
    assert part.exists()
    assert not wanted.path.exists()
    publisher.asked.clear()
    assert fetch(wanted).result == "fetched"
    assert int(publisher.asked[0][1]["Range"][6:-1]) > 5_000
    assert wanted.path.read_bytes() == TABLE.content
    assert not part.exists()


def test_a_partial_file_of_another_address_is_not_continued(fetch, publisher, wanted, tmp_path):
    place(wanted, b"x")
    wanted.path.rename(wanted.path.with_name(wanted.path.name + PART))
    assert fetch(wanted, whole(TABLE)).result == "fetched"
    assert "Range" not in publisher.asked[0][1]
    assert wanted.path.read_bytes() == TABLE.content


def test_requests_to_one_host_keep_a_pause(publisher, tmp_path):
    settings = QUICK.model_copy(update={"pause_seconds": 0.3})
    both = [wanted_of(source, tmp_path) for source in ("pep_counties", "pep_age_sex")]
    publisher.other = whole(TABLE)
    environ = {MIRROR_VARIABLE: publisher.address}
    started = time.monotonic()
    outcomes = fetch_files(both, tmp_path, settings, Silent(), environ=environ)
    assert [outcome.result for outcome in outcomes] == ["fetched"] * 2
    assert time.monotonic() - started >= 0.3


def test_one_files_failure_stops_no_other(publisher, tmp_path):
    both = [wanted_of(source, tmp_path) for source in ("pep_counties", "pep_age_sex")]
    publisher.other = whole(TABLE)
    publisher.answers[f"/{both[0].file.url.split('://')[1]}"] = [says(404)]
    environ = {MIRROR_VARIABLE: publisher.address}
    outcomes = fetch_files(both, tmp_path, QUICK, Silent(), environ=environ)
    assert [outcome.result for outcome in outcomes] == ["failed", "fetched"]


def test_an_archive_is_read_where_it_lies(fetch, tmp_path):
    """PUMS come zipped; the reader opens the member, so nothing is unpacked."""
    from benchmarks.fetch_faults import ARCHIVE

    wanted = wanted_of("acs_pums_1yr", tmp_path)
    assert fetch(wanted, whole(ARCHIVE)).result == "fetched"
    assert wanted.path.name == "csv_pri.zip"
    assert wanted.members[0] == "psam_p44.csv"
    assert [p.name for p in wanted.path.parent.iterdir()] == ["csv_pri.zip"]
