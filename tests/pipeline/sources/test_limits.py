"""Files made to do harm are refused before they are unfolded, with the limit that they break."""

from __future__ import annotations

import io
import zipfile

import pytest

from pipeline.errors import SourceFileError
from pipeline.sources import files
from pipeline.sources.files import open_zip, read_member, read_raw


def archive(content: bytes, name: str = "a.csv") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr(name, content)
    return buffer.getvalue()


def test_an_archive_that_unfolds_to_a_thousand_times_its_size_is_refused(tmp_path):
    path = tmp_path / "bomb.zip"
    path.write_bytes(archive(b"0" * (2 * files.HARMLESS_BYTES)))
    with pytest.raises(SourceFileError, match="would unfold to 134,217,728 bytes") as caught:
        read_raw(path)
    assert "200 times" in caught.value.expected


def test_a_workbook_is_held_to_the_same(tmp_path):
    path = tmp_path / "bomb.xlsx"
    path.write_bytes(archive(b" " * (2 * files.HARMLESS_BYTES), "xl/worksheets/sheet1.xml"))
    with pytest.raises(SourceFileError, match="would unfold"):
        read_raw(path)


def test_an_archive_within_the_ratio_and_too_large_in_all_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MOST_UNFOLDED_BYTES", 10)
    path = tmp_path / "large.zip"
    path.write_bytes(archive(b"tract,estimate\n"))
    with pytest.raises(SourceFileError, match="would unfold to 15 bytes"):
        read_raw(path)


def test_a_small_archive_may_fold_as_it_likes(tmp_path):
    path = tmp_path / "zeros.zip"
    path.write_bytes(archive(b"0" * 1_000_000))
    assert len(read_member(read_raw(path), "a.csv").data) == 1_000_000


def test_a_file_that_would_fill_the_memory_is_refused_unread(tmp_path):
    path = tmp_path / "huge.csv"
    with path.open("wb") as file:
        # Nothing is on disk but its size.
        file.truncate(files.MOST_FILE_BYTES + 1)
    with pytest.raises(SourceFileError, match="8,589,934,593 bytes"):
        read_raw(path)


def test_names_of_members_lead_nowhere(tmp_path):
    path = tmp_path / "inner.zip"
    path.write_bytes(archive(b"a\n1\n", "../../outside.csv"))
    with open_zip(read_raw(path)):
        pass
    assert read_member(read_raw(path), "outside.csv").data == b"a\n1\n"
    assert [p.name for p in tmp_path.rglob("*")] == ["inner.zip"]
    assert not (tmp_path.parent / "outside.csv").exists()
