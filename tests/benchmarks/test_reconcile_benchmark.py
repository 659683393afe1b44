"""The reconciliation benchmark: its tree and tables, what it reports, and what it says without a
peer.
"""

import json
import sys

import numpy as np
import polars as pl
import pytest

from benchmarks.reconcile import main
from benchmarks.reconcile_tables import about, area_list, make_tables, with_holes
from calibration_core.tree.geography import GeographyTree


@pytest.fixture(scope="module")
def areas() -> pl.DataFrame:
    return area_list(None, 1)


def test_the_generated_nation_has_the_size_of_the_real_one(areas):
    assert areas.height == areas["tract"].n_unique() == 85_452
    assert areas["county"].n_unique() == 3_143
    assert areas["state"].n_unique() == 51
    assert (areas["tract"].str.slice(0, 5) == areas["county"]).all()


def test_smaller_sizes_are_whole_states_but_one(areas):
    part = about(areas, 6_000, 1)
    assert part.height == 6_000
    whole = (
        areas.filter(pl.col("state").is_in(part["state"].unique().to_list()))
        .group_by("state")
        .len()
    )
    cut = (
        part.group_by("state")
        .len()
        .join(whole, on="state")
        .filter(pl.col("len") != pl.col("len_right"))
    )
    assert cut.height <= 1
    assert about(areas, 10**6, 1).equals(areas)


def test_tables_are_what_they_are_said_to_be(areas):
    part = about(areas, 3_000, 1)
    tree = GeographyTree.from_leaves(
        ["nation", "state", "county", "tract"],
        [[""] * 3_000, *(part[c].to_list() for c in ("state", "county", "tract"))],
    )
    tables = make_tables(tree, 6, 1)
    holes = with_holes(tables, 1)
    assert all((y >= 0).all() for y in tables.y)
    assert all(np.isfinite(v).all() and (v > 0).all() for v in tables.v)
    assert 0.005 < np.isinf(holes.v[3]).mean() < 0.015
    assert (holes.v[0][0] == 0).tolist() == [True, False, False, True, False, False]


def test_figures_come_as_a_table_and_as_json(tmp_path, capsys):
    assert (
        main(
            [
                "--tracts",
                "400",
                "800",
                "--variables",
                "4",
                "--repeat",
                "1",
                "--json",
                str(tmp_path / "out.json"),
                "--peers-python",
                sys.executable,
            ]
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "a generated list of 85,452 tracts" in said
    assert "reconciled, s" in said
    assert "hierarchicalforecast is not installed" in said.replace("\n", " ")
    figures = json.loads((tmp_path / "out.json").read_text())
    assert [line["tracts"] for line in figures["lines"]] == [400, 800]
    for line in figures["lines"]:
        assert line["converged"]
        assert line["gap"] < 1e-12
        assert line["held"] > 0
        assert 0.5 < line["chi_square_ratio"] < 2.0
    assert figures["machine"]["cores"] >= 1


def test_a_folder_without_the_list_is_told(tmp_path):
    with pytest.raises(SystemExit, match="Give the folder with the Census list"):
        main([str(tmp_path)])


def test_the_real_list_has_the_tracts_the_paper_counts(realdata):
    areas = area_list(realdata / "geo", 1)
    assert areas.height == 85_452
    assert areas["tract"].str.len_chars().unique().to_list() == [11]
