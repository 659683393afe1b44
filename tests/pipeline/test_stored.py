"""What a stored table holds, and whether tables that meet are of one making."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import StoreError
from pipeline.io_manager import encode, write_atomic
from pipeline.stored import OneMaking, StoredTables, content_digest, digest_of, stored_of

FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", "y"]})


def store(root: Path, name: str, value: int, **inputs: str) -> str:
    """A table by its name (``weights[RI]``); its content."""
    data = encode(pl.DataFrame({name: [value]}), {"inputs": inputs})
    write_atomic(StoredTables(root).path(name), data)
    return content_digest(data)


def test_content_does_not_hang_on_facts_and_does_on_everything_else():
    digest = content_digest(encode(FRAME, {"code": "1"}))
    assert content_digest(encode(FRAME, {"code": "2", "more": list(range(99))})) == digest
    others = [
        FRAME.with_columns(a=pl.Series([1, 3])),
        FRAME.rename({"a": "c"}),
        FRAME.with_columns(pl.col("a").cast(pl.Int32)),
        FRAME.reverse(),
        FRAME.select("b", "a"),
        FRAME.head(1),
    ]
    assert len({digest, *(content_digest(encode(other, {})) for other in others)}) == 7


@pytest.mark.parametrize("data", [b"", b"PAR1", b"no table at all", b"PAR1" * 40])
def test_what_is_no_table_is_said_to_be_none(data):
    with pytest.raises(StoreError, match="cannot be read"):
        stored_of(data)


def test_damage_in_the_middle_is_found_where_the_whole_is_asked_for(tmp_path):
    data = bytearray(encode(pl.DataFrame({"a": list(range(5000))}), {}))
    data[40:200] = bytes(160)
    path = StoredTables(tmp_path).path("weights[RI]")
    write_atomic(path, bytes(data))
    assert StoredTables(tmp_path).look("weights[RI]") is not None
    with pytest.raises(StoreError, match="cannot be read") as error:
        StoredTables(tmp_path, whole=True).look("weights[RI]")
    assert error.value.where == str(path)


def test_a_file_written_again_is_looked_at_again(tmp_path):
    tables = StoredTables(tmp_path)
    assert tables.look("nation") is None
    first = store(tmp_path, "nation", 1)
    assert tables.look("nation").content == first
    assert tables.look("nation").content != store(tmp_path, "nation", 2)
    assert tables.look("nation").content == StoredTables(tmp_path).look("nation").content


def test_a_file_written_just_now_is_not_remembered(tmp_path):
    store(tmp_path, "nation", 1)
    tables = StoredTables(tmp_path)
    tables.look("nation")
    written = tables.path("nation").stat().st_ctime_ns
    assert tables.entries(written) == {}
    assert list(tables.entries(written + 3_000_000_000)) == ["nation/nation.parquet"]


@pytest.fixture
def chain(tmp_path) -> Path:
    """nation -> targets[RI] -> units[RI]; targets and units -> weights[RI]."""
    nation = store(tmp_path, "nation", 1)
    targets = store(tmp_path, "targets[RI]", 1, nation=nation)
    units = store(tmp_path, "units[RI]", 1, **{"targets[RI]": targets})
    store(tmp_path, "weights[RI]", 1, **{"units[RI]": units, "targets[RI]": targets})
    return tmp_path


def test_tables_of_one_making_have_no_broken_link(chain):
    assert StoredTables(chain).broken_link("weights[RI]", "units[RI]") == ""


@pytest.mark.parametrize("name", ["nation", "targets[RI]", "units[RI]"])
def test_a_table_made_again_with_other_content_breaks_the_link_behind_it(chain, name):
    before = StoredTables(chain).look(name).content
    now = store(chain, name, 2)
    why = StoredTables(chain).broken_link("weights[RI]")
    assert name in why and before[:12] in why and now[:12] in why


def test_a_table_that_went_is_named(chain):
    StoredTables(chain).path("targets[RI]").unlink()
    assert "targets[RI], which is not there" in StoredTables(chain).broken_link("weights[RI]")
    assert StoredTables(chain).broken_link("fit[RI]") == "fit[RI] has not been made"


def meet(root: Path, *names: str) -> None:
    tables = StoredTables(root)
    step = OneMaking(tables)
    for name in names:
        step.add(name, tables.look(name))


def test_tables_of_one_making_meet(chain):
    meet(chain, "targets[RI]", "units[RI]", "nation")


@pytest.mark.parametrize(
    ("again", "names"),
    [
        pytest.param("targets[RI]", ("targets[RI]", "units[RI]"), id="made from the other"),
        pytest.param("targets[RI]", ("units[RI]", "targets[RI]"), id="in another order"),
        pytest.param("nation", ("units[RI]", "nation"), id="further back"),
    ],
)
def test_tables_of_two_makings_are_refused(chain, again, names):
    before = StoredTables(chain).look(again).content
    now = store(chain, again, 2)
    with pytest.raises(StoreError, match="two makings meet") as error:
        meet(chain, *names)
    said = str(error.value)
    assert again in said and before[:12] in said and now[:12] in said
    assert "geocal run" in error.value.remedy


def test_tables_that_share_an_older_table_are_of_one_making(chain):
    store(chain, "nation", 2)
    meet(chain, "targets[RI]", "units[RI]")


def test_a_digest_of_plain_data_does_not_hang_on_the_order_of_keys():
    assert digest_of({"a": 1, "b": [1, 2]}) == digest_of({"b": (1, 2), "a": 1})
    assert digest_of({"a": [1, 2]}) != digest_of({"a": [2, 1]})
