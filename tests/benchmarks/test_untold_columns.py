"""Errors at columns that weights were not told: hand-computed cases, and one run on the sample."""

import json

import numpy as np
import pytest

from benchmarks.untold_columns import main, overall
from benchmarks.untold_figure import frontier_of_untold
from benchmarks.untold_measures import MEDIAN_INCOME, Column
from pipeline.sample.generate import generate_sample
from pipeline.sample.settings import load_settings


def column(name: str = "a", **changed) -> Column:
    """Three areas in two PUMAs; four records."""
    made = {
        "id": name,
        "label": name,
        "published": np.array([10.0, 30.0, 50.0]),
        "error": np.zeros(3),
        "size": np.array([100.0, 300.0, 100.0]),
        "group": np.array([0, 0, 1]),
        "part": np.array([1.0, 0.0, 2.0, 0.0]),
        "whole": np.array([2.0, 1.0, 2.0, 1.0]),
    }
    return Column(**{**made, **changed})


def test_a_share_is_what_pairs_add_up_to():
    leaf, record = np.array([0, 0, 2]), np.array([0, 1, 2])
    given = column().given(leaf, record, np.array([3.0, 4.0, 5.0]))
    assert given.tolist() == [100 * 3.0 / (6.0 + 4.0), 0.0, 100.0]


def test_the_pumas_share_is_the_mean_by_size_of_its_areas():
    assert column().of_puma.tolist() == [25.0, 25.0, 50.0]


def test_errors_count_by_size_and_lose_what_sampling_adds():
    given = np.array([13.0, 30.0, 44.0])
    squares = (100 * 9.0 + 300 * 0.0 + 100 * 36.0) / 500
    assert column().rmse(given) == pytest.approx(np.sqrt(squares))
    noisy = column(error=np.array([1.0, 1.0, 1.0]))
    assert noisy.rmse(given) == pytest.approx(np.sqrt(squares - 1.0))
    assert noisy.rmse(noisy.published) == 0.0
    gross = column(error=np.array([1.0, 1.0, 1.0]), net=False)
    assert gross.rmse(given) == pytest.approx(np.sqrt(squares))


def test_median_income_is_the_income_at_half_the_weight():
    income = np.array([10.0, 20.0, 40.0, 99.0])
    homes = np.array([1.0, 1.0, 1.0, 0.0])
    median = column(MEDIAN_INCOME, part=income, whole=homes)
    leaf, record = np.array([0, 0, 0, 0, 1]), np.array([3, 2, 0, 1, 2])
    given = median.given(leaf, record, np.array([50.0, 5.0, 2.0, 1.0, 1.0]))
    assert given.tolist() == [40.0, 40.0, 0.0]
    # Relative to the published median, in percent.
    off = median.rmse(np.array([11.0, 30.0, 50.0]))
    assert off == pytest.approx(np.sqrt(100 * 10.0**2 / 500))


def test_overall_leaves_income_out_and_counts_columns_worse_than_the_pumas_share():
    columns = [column("a"), column("b"), column(MEDIAN_INCOME)]
    rows = {"PUMA": [1.0, 1.0, 9.0], "dense": [0.5, 2.0, 1.0], "60": [1.0, 4.0, 1.0]}
    found = overall(columns, rows)
    assert found["60"] == pytest.approx({"against dense": 2.0, "against PUMA": 2.0, "worse": 1})
    assert found["dense"] == pytest.approx({"against dense": 1.0, "against PUMA": 1.0, "worse": 1})


def test_the_picture_is_drawn_of_one_run_or_several():
    columns = [column("a"), column(MEDIAN_INCOME)]
    rows = {"PUMA": [1.0, 9.0], "dense": [0.5, 1.0], "20": [1.5, 2.0], "60": [0.8, 1.5]}
    one = frontier_of_untold(columns, {"balanced": rows})
    two = frontier_of_untold(
        columns, {"balanced": rows, "not balanced": {**rows, "60": [1.2, 1.5]}}
    )
    assert one[:4] == two[:4] == b"\x89PNG"
    assert one != two


def test_on_the_sample_every_column_is_published_and_dense_is_better(tmp_path):
    """Expressions over records and published columns say the same: weights that know nothing of
    these columns beat the PUMA's share."""
    generate_sample(tmp_path / "raw", load_settings().model_copy(update={"scale": 0.35}))
    out = tmp_path / "a.json"
    asked = ["--profile", "sample", "--state", "RI", "--data", str(tmp_path / "raw"), "--pairs"]
    assert main([*asked, "--tau", "0.1", "--json", str(out)]) == 0
    said = json.loads(out.read_text())
    assert len(said["columns"]) == 18
    assert said["overall"]["dense"]["against PUMA"] < 1.0
    assert 0.5 < said["tau"][0]["inside"] <= 1.0
    assert len(said["tau"][0]["errors"]) == 18
