"""A faulty file stops those who need it and nobody else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.errors import ProfileError, SpecError
from pipeline.specs.base import SPEC_ROOT
from pipeline.specs.catalog import Catalog, load_catalog


@pytest.fixture
def root(tmp_path: Path) -> Path:
    copied = tmp_path / "data_specs"
    shutil.copytree(SPEC_ROOT, copied)
    return copied


FAULTY = {
    "no YAML": b"id: [foo\n",
    "a word too much": b"id: foo\nnonsense: 1\n",
    "nothing": b"",
    "another encoding": b"id: caf\xe9\n",
    "a date that is none": b"id: foo\nwhen: 2022-13-45\n",
    "bytes": bytes(range(256)),
}


def works(catalog: Catalog, profile: str = "sample") -> bool:
    """Whether everything that a run of ``profile`` asks of the catalog is there."""
    found = catalog.profile(profile)
    tables = catalog.required_tables(found)
    groups = list(catalog.categories.values())
    return bool(tables and groups and catalog.same_concept(found))


@pytest.mark.parametrize("content", FAULTY.values(), ids=FAULTY)
@pytest.mark.parametrize(
    "folder", ["profiles", "targets", "sources", "variables", "factors", "cross_categories"]
)
def test_a_faulty_file_that_nobody_needs_stops_nobody(root, folder, content):
    (root / folder / "foo.yaml").write_bytes(content)
    catalog = load_catalog(root)
    assert works(catalog)
    if folder != "cross_categories":
        with pytest.raises(SpecError, match="foo") as named:
            catalog.check()
        assert "foo.yaml" in named.value.where and named.value.remedy


def test_a_folder_that_is_called_like_a_file_is_a_fault_too(root):
    (root / "profiles" / "foo.yaml").mkdir()
    catalog = load_catalog(root)
    assert works(catalog)
    with pytest.raises(SpecError, match="cannot be read"):
        catalog.profile("foo")


def test_a_faulty_profile_raises_its_own_fault_and_is_among_the_names(root):
    (root / "profiles" / "foo.yaml").write_text("id: foo\ntilte: x\n")
    catalog = load_catalog(root)
    assert "foo" in catalog.profiles
    for _ in range(2):
        with pytest.raises(SpecError, match="tilte"):
            catalog.profile("foo")
    with pytest.raises(ProfileError, match="counties_2018, foo, rhode_island, sample"):
        catalog.profile("bar")


def _break(path: Path) -> None:
    path.write_text(path.read_text() + "nonsense: 1\n")


@pytest.mark.parametrize(
    ("file", "needed_by", "not_by"),
    [
        pytest.param("sources/svi_counties.yaml", "counties_2018", "sample", id="source"),
        pytest.param("targets/county_svi.yaml", "counties_2018", "sample", id="target"),
        pytest.param("targets/tract_census_ages.yaml", "rhode_island", "counties_2018", id="tract"),
        pytest.param("profiles/sample.yaml", "sample", "rhode_island", id="profile"),
    ],
)
def test_a_fault_stops_the_profiles_that_need_the_file(root, file, needed_by, not_by):
    _break(root / file)
    catalog = load_catalog(root)
    assert works(catalog, not_by)
    with pytest.raises(SpecError, match="nonsense") as named:
        catalog.profile(needed_by)
    assert Path(file).name in named.value.where


@pytest.mark.parametrize(
    "file", ["variables/persons_work.yaml", "factors/price_and_wage.yaml", "categories.yaml"]
)
def test_a_file_that_declares_for_all_is_named_where_its_entries_are_missed(root, file):
    """Not as entries that do not exist: the faulty file may well declare them."""
    _break(root / file)
    catalog = load_catalog(root)
    with pytest.raises(SpecError, match="nonsense") as named:
        works(catalog, "rhode_island")
    assert Path(file).name in named.value.where


def test_a_key_that_two_files_declare_is_refused_where_it_is_asked_for(root):
    text = (root / "factors" / "price_and_wage.yaml").read_text()
    (root / "factors" / "again.yaml").write_text(text)
    catalog = load_catalog(root)
    assert catalog.variables, "what is declared once is found"
    with pytest.raises(SpecError, match="is declared twice") as named:
        catalog.profile("rhode_island")
    assert "price_and_wage.yaml" in named.value.where + named.value.expected


def test_a_file_is_read_once(root, monkeypatch):
    catalog = load_catalog(root)
    assert works(catalog)
    shutil.rmtree(root)
    assert works(catalog)
