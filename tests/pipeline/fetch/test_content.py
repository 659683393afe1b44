"""Whether bytes are what a file's name says, on small contents and on publishers' files."""

from __future__ import annotations

import io
import zipfile

import pytest

from benchmarks.fetch_faults import zipped
from pipeline.fetch.content import fault_of
from pipeline.sources.base import files_to_have
from pipeline.specs.sources import load_sources

ROWS = b"A,B,C\n1,2,3\n"


def _encrypted() -> bytes:
    """An archive whose member says that it needs a password."""
    content = bytearray(zipped("a.csv"))
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + at] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        pytest.param("a.csv", ROWS, id="text"),
        pytest.param("a.csv", ROWS + b"4,5,6", id="no last end of line"),
        pytest.param("a.csv", b"\xef\xbb\xbf" + ROWS, id="byte order mark"),
        pytest.param("a.csv", b'"A title\nof two lines",,\n' + ROWS, id="title above the header"),
        pytest.param("a.csv", ROWS + b'"A note\nof two lines",,', id="note below"),
        pytest.param("a.csv", "A,B\nDo\u00f1a Ana,1\n".encode("latin-1"), id="Latin-1"),
        pytest.param("a.dat", b"GEO_ID|B19001_E001\n1|2\n", id="pipes"),
        pytest.param("a.json", b'[["A"],["1"]]', id="answer of the API"),
        pytest.param("a.zip", zipped("in/P_A.CSV"), id="archive"),
        pytest.param("a.xlsx", zipped("xl/workbook.xml"), id="workbook"),
        pytest.param("a.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", id="old workbook"),
    ],
)
def test_what_a_publisher_has_is_taken(tmp_path, name, content):
    path = tmp_path / "partial"
    path.write_bytes(content)
    members = ["p_a.csv", "other.csv"] if name.endswith(".zip") else []
    assert fault_of(path, name, members) is None


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        pytest.param("a.csv", b"", "cut", id="nothing"),
        pytest.param("a.csv", b" \n<!DOCTYPE html>", "page", id="web page"),
        pytest.param("a.zip", b"<html>", "page", id="web page for an archive"),
        pytest.param("a.csv", zipped("a.csv"), "type", id="archive for a text"),
        pytest.param("a.csv", b"A,B\n1,\x00\n", "type", id="zero bytes"),
        pytest.param("a.csv", b"Service unavailable\n", "type", id="a sentence"),
        pytest.param("a.csv", ROWS + b"4,5", "cut", id="last row not whole"),
        pytest.param("a.json", b'[["A"],["1"', "cut", id="answer cut off"),
        pytest.param("a.json", b"error: unknown variable", "type", id="words for an answer"),
        pytest.param("a.json", b'{"error": "no"}', "type", id="no table"),
        pytest.param("a.json", b'[["A"]]', "type", id="header alone"),
        pytest.param("a.zip", ROWS, "type", id="text for an archive"),
        pytest.param("a.zip", zipped("p_a.csv")[:-30], "cut", id="archive cut off"),
        pytest.param("a.zip", zipped("other.txt"), "type", id="other member"),
        pytest.param("a.zip", _encrypted(), "cut", id="archive with a password"),
        pytest.param("a.xlsx", zipped("word/document.xml"), "type", id="no workbook"),
    ],
)
def test_what_it_should_not_be_is_told(tmp_path, name, content, kind):
    path = tmp_path / "partial"
    path.write_bytes(content)
    members = ["p_a.csv"] if name.endswith(".zip") else []
    assert fault_of(path, name, members).kind == kind


def test_every_publishers_file_at_hand_passes(realdata):
    """Those that the specs point to, with the members that they name."""
    looked = 0
    for spec in load_sources().values():
        for vintage in spec.vintages:
            for file in files_to_have(spec, vintage, realdata, ["RI", "NY", "GA"]):
                if file.exists:
                    looked += 1
                    assert fault_of(file.path, file.path.name, file.members) is None, file.path
    assert looked > 60


def test_a_member_that_is_damaged_is_found_though_the_directory_is_whole(tmp_path):
    path = tmp_path / "a.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("p_a.csv", ROWS)
    path.write_bytes(buffer.getvalue().replace(b"1,2,3", b"1,2,4", 1))
    assert "p_a.csv of the archive is damaged" in fault_of(path, "a.zip").words
