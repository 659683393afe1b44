"""Every file of a profile fetched from a publisher that has the SYNTHETIC sample under the real
addresses: afterwards all of it is read, with the same cells as from the sample's own folder.
"""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest

from benchmarks.fetch_faults import QUICK
from benchmarks.loopback import Handler, Publisher, Served, says, whole
from pipeline.fetch.fetching import fetch_files
from pipeline.fetch.network import MIRROR_VARIABLE
from pipeline.fetch.wanted import wanted_files
from pipeline.sample.generate import generate_sample
from pipeline.sample.settings import small_settings
from pipeline.sources.registry import check_source, read_source
from pipeline.specs.catalog import load_catalog
from tests.pipeline.fetch.conftest import Silent

STATES = ("RI", "DE")
KEYS = ("GEO_ID", "NAME")


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    generate_sample(folder, small_settings())
    return folder


def rows_of(path: Path) -> list[list[str]]:
    """A table as the sample has it, with one header."""
    if path.suffix == ".json":
        return json.loads(path.read_text())
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    return rows[:1] + rows[2:] if path.name.endswith("-Data.csv") else rows


def answer_of_the_api(sample: Path, address: str) -> bytes:
    """The group asked for, as JSON, cut out of whichever file of the sample has it."""
    group = re.search(r"group\((\w+)\)", address)[1]
    by_state = re.search(r"in=state:(\d\d)", address)
    level = "us" if "for=us:1" in address else "state" if "for=state" in address else ""
    for path in sorted((sample / "acs_tables").rglob("*")):
        if path.suffix not in (".json", ".csv") or (level == "us") != (path.parent.name == "us"):
            continue
        rows = rows_of(path)
        taken = [i for i, n in enumerate(rows[0]) if n in KEYS or n.startswith(f"{group}_")]
        own = [row for row in rows[1:] if not by_state or f"US{by_state[1]}" in row[0]]
        if len(taken) > len(KEYS) and own:
            return json.dumps([[row[i] for i in taken] for row in [rows[0], *own]]).encode()
    raise LookupError(address)


def serve(sample: Path, catalog, profile) -> Publisher:
    """A publisher that answers every address of the profile's files from the sample."""
    files = {path.name.lower(): path for path in sample.rglob("*") if path.is_file()}

    def answer(handler: Handler) -> None:
        address = unquote(handler.path)
        name = address.rsplit("/", 1)[-1].lower()
        if "api.census.gov" in address:
            kind, content = "application/json", answer_of_the_api(sample, address)
        elif name in files:
            kind, content = "application/octet-stream", files[name].read_bytes()
        elif name.replace(".txt", ".zip") in files:
            import io
            import zipfile

            with zipfile.ZipFile(io.BytesIO(files[name.replace(".txt", ".zip")].read_bytes())) as z:
                kind, content = "text/plain", z.read(z.namelist()[0])
        else:
            says(404)(handler)
            return
        whole(Served(content, kind=kind))(handler)

    return Publisher(other=answer)


def test_what_is_fetched_is_what_is_read(sample, tmp_path):
    catalog = load_catalog()
    profile = catalog.profile("sample")
    shutil.copy(sample / "known_totals.yaml", tmp_path)
    wanted = wanted_files(catalog, profile, tmp_path, STATES)
    with serve(sample, catalog, profile) as publisher:
        environ = {MIRROR_VARIABLE: publisher.address}
        outcomes = fetch_files(wanted, tmp_path, QUICK, Silent(), environ=environ)
        assert [o for o in outcomes if not o.ready] == []
        publisher.asked.clear()
        again = fetch_files(wanted, tmp_path, QUICK, Silent(), environ=environ)
    there = [o for o in outcomes if o.result == "fetched"]
    assert len(there) > 30
    assert {o.result for o in again} <= {"current", "not offered"}
    assert len({path for path, _ in publisher.asked}) == len(publisher.asked)
    for source, vintages in profile.sources.items():
        spec = catalog.sources[source]
        for vintage in vintages:
            lines = check_source(spec, vintage, tmp_path, STATES)
            assert [line.message for line in lines if not line.ok] == []
            assert lines
            if spec.kind == "published":
                ours, theirs = (
                    read_source(spec, vintage, folder, STATES)
                    .frame.drop("row", "file", "sha256", "name")
                    .sort("geoid", "column", "stratum", "level")
                    for folder in (tmp_path, sample)
                )
                assert ours.equals(theirs), source
