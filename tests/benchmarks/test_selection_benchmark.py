"""Putting held-out results of several runs together: paired over all cells, drawn per profile;
options that make no sense are refused.
"""

import json
from argparse import Namespace
from io import StringIO

import pytest
from rich.console import Console

from benchmarks import selection


def run_of(postal: str, method: str, seed: int | None, error: float) -> dict:
    row = {
        "level": "county",
        "family": None,
        "targets": 4,
        "zero_targets": 0,
        "degenerate_targets": 0,
        "mean_are": error,
        "median_are": error,
        "mean_are_without_degenerate": error,
        "share_inside_margin": 0.5,
        "capped_loss": error,
    }
    rows = [row, {**row, "level": "all"}]
    weights = dict.fromkeys(
        (
            "pairs",
            "records",
            "sum_of_weights",
            "smallest_weight",
            "largest_weight_share",
            "share_of_top_1pct",
        ),
        1.0,
    )
    weights |= {"ess": 10.0, "design_effect": 2.0, "largest_weight": 5.0}
    sparse = method != "dense"
    return {
        "postal": postal,
        "group": "education",
        "method": method,
        "pairs_per_area": 20 if sparse else None,
        "seed": seed,
        "pairs": 20,
        "seconds_selection": 0.1 if sparse else None,
        "seconds_refit": 0.1,
        "converged": True,
        "status": "converged",
        "warnings": [],
        "weights": weights,
        "inside": rows,
        "outside": rows,
        "failure": "",
    }


def document_of(postal: str, errors: dict[str, float]) -> dict:
    runs = [run_of(postal, "dense", None, 0.05)]
    runs += [
        run_of(postal, method, seed, error + 0.01 * seed)
        for method, error in errors.items()
        for seed in range(2)
    ]
    return {
        "profile": "counties_2018",
        "synthetic": False,
        "settings": {"seeds": 2, "reference": "hybrid"},
        "groups": [{"id": "education", "title": "Education", "families": ["education"]}],
        "runs": runs,
    }


def test_merged_files_are_paired_over_all_their_cells(tmp_path):
    files = []
    for postal, errors in {
        "VT": {"hybrid": 0.10, "random": 0.30},
        "DE": {"hybrid": 0.20, "random": 0.30},
    }.items():
        files.append(tmp_path / f"{postal}.json")
        files[-1].write_text(json.dumps(document_of(postal, errors)))
    text = StringIO()
    paired = selection.merge(
        Namespace(merge=files, plot=tmp_path / "f.png", figure="capped_loss"),
        Console(file=text, width=200),
    )
    of = [
        r
        for r in paired
        if r["scope"] == "all"
        and r["method"] == "random"
        and r["figure"] == "mean_are"
        and r["level"] == "all"
        and r["pairs_per_area"] == 20
    ]
    outside = next(r for r in of if r["sample"] == "outside")
    assert (
        outside["difference"] == pytest.approx(0.15)
        and outside["units"] == 2
        and outside["reference_lower"] == 2
    )
    assert "2 cells: DE education, VT education" in text.getvalue()
    assert (tmp_path / "f_counties_2018.png").read_bytes().startswith(b"\x89PNG")


def test_neither_data_nor_files_is_an_error(capsys):
    with pytest.raises(SystemExit):
        selection.main([])
    assert "--data DIR" in capsys.readouterr().err
