"""`geocal fetch` as a shell sees it: table, JSON, exit status, and what is refused beforehand."""

from __future__ import annotations

import json

import pytest

from benchmarks.fetch_faults import QUICK, TABLE, zipped
from benchmarks.loopback import Publisher, Served, says, whole
from pipeline.fetch.network import MIRROR_VARIABLE
from pipeline.fetch.record import RECORD

JSON = Served(b'[["GEO_ID","A"],["0400000US44","7"]]', kind="application/json")
BOOK = Served(zipped("xl/workbook.xml"), kind="application/octet-stream")


def _answer(handler) -> None:
    """A file of the kind that its address says; a web page where CDC's should be."""
    path = handler.path
    if "svi.cdc.gov" in path:
        says(403, "<html>", Content_Type="text/html")(handler)
    elif path.endswith(".zip"):
        state = "50" if path.endswith("vt.zip") else "10"
        whole(Served(zipped(f"psam_{path[-7]}{state}.csv")))(handler)
    elif path.endswith(".xlsx"):
        whole(BOOK)(handler)
    else:
        whole(JSON if "api.census.gov" in path else TABLE)(handler)


@pytest.fixture
def mirror(monkeypatch):
    monkeypatch.setattr("pipeline.specs.download.load_download", lambda: QUICK)
    with Publisher(other=_answer) as publisher:
        monkeypatch.setenv(MIRROR_VARIABLE, publisher.address)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield publisher


COMMAND = ("fetch", "--profile", "counties_2018", "--states", "VT")


def test_a_profiles_files_are_fetched_and_what_is_refused_is_said(invoke, mirror, tmp_path):
    folder = tmp_path / "new" / "data"
    status, out, err = invoke(*COMMAND, "--data", str(folder))
    assert status == 1
    assert "fetched" in out
    assert "refused" in out
    assert f"SVI_2018_US_county.csv in {folder}/acs_tables/county_us" in err
    assert "save the file as" in err
    assert (folder / "acs_pums/2018_1yr/csv_pvt.zip").exists()
    assert not (folder / "acs_pums/2018_1yr/csv_pde.zip").exists()
    counts = out.strip().splitlines()[-1]
    refused, by_carrier = 2, 2
    assert f"{refused + by_carrier} refused" in counts
    for name in ("SVI_2014_US_county.csv", "SVI_2018_US_county.csv"):
        (folder / "acs_tables/county_us" / name).write_bytes(TABLE.content)
    (folder / "ssa/oasdi_states_csv").mkdir()
    for name in ("2018 - Beneficiaries.csv", "2018 - Benefits.csv"):
        (folder / "ssa/oasdi_states_csv" / name).write_bytes(TABLE.content)
    mirror.asked.clear()
    status, out, err = invoke(*COMMAND, "--data", str(folder), "--json")
    assert (status, err) == (0, "")
    rows = json.loads(out)
    assert {row["result"] for row in rows} == {"current", "placed by hand"}
    assert sum(row["result"] == "placed by hand" for row in rows) == 4
    assert not any("svi.cdc.gov" in path for path, _ in mirror.asked)
    assert all("If-None-Match" in headers for _, headers in mirror.asked)
    recorded = json.loads((folder / RECORD).read_text())["files"]
    assert sorted(recorded) == sorted(row["path"] for row in rows)


def test_a_dry_run_asks_for_nothing_and_makes_nothing(invoke, mirror, tmp_path):
    folder = tmp_path / "data"
    status, out, _ = invoke(*COMMAND, "--data", str(folder), "--dry-run")
    assert status == 0
    assert "missing  acs_pums/2018_1yr/csv_pvt.zip  https://www2.census.gov/" in out
    assert "by hand  ssa/oasdi_states_csv/2018 - Benefits.csv" in out
    assert mirror.asked == []
    assert not folder.exists()
    status, out, _ = invoke(*COMMAND, "--data", str(folder), "--dry-run", "--json")
    assert {row["there"] for row in json.loads(out)} == {False}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        pytest.param(["--profile", "sample"], "makes its own files", id="synthetic"),
        pytest.param(
            ["--profile", "counties_2018"], "there is no data folder", id="no folder named"
        ),
        pytest.param(
            ["--profile", "counties_2018", "--states", "TX", "--data", "d"],
            "has no state TX",
            id="state not in profile",
        ),
        pytest.param(
            ["--profile", "atlantis", "--data", "d"], "no profile 'atlantis'", id="profile"
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_before_a_folder_is_made(
    invoke, mirror, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    status, _, err = invoke("fetch", *arguments)
    assert status == 1
    assert words in err
    assert mirror.asked == []
    assert not (tmp_path / "d").exists()
