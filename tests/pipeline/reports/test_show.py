"""What is shown of a state belongs to one result."""

import polars as pl
import pytest

from pipeline.errors import StoreError
from pipeline.io_manager import encode, file_digest, write_atomic
from pipeline.reports.show import require_of_one_run, truth_levels
from pipeline.settings import RunEnvironment
from pipeline.stored import content_digest


def store(environment: RunEnvironment, weight: float, *, reported: str | None = None) -> str:
    data = encode(pl.DataFrame({"household_id": ["a"], "weight": [weight]}), {})
    write_atomic(environment.table_path("weights", "RI"), data)
    inputs = {"weights[RI]": reported or content_digest(data)}
    write_atomic(
        environment.table_path("fit_report", "RI"),
        encode(pl.DataFrame({"x": [1]}), {"inputs": inputs}),
    )
    return file_digest(data)


def test_tables_of_one_result_are_shown(tmp_path):
    environment = RunEnvironment("sample", tmp_path, tmp_path)
    digest = store(environment, 1.0)
    require_of_one_run(environment, "RI", {"tables": {"weights": {"sha256": digest}}})


def test_weights_newer_than_their_report_are_refused(tmp_path):
    environment = RunEnvironment("sample", tmp_path, tmp_path)
    old = store(environment, 1.0)
    new = store(environment, 2.0, reported=old)
    with pytest.raises(StoreError, match="fit_report of RI was made from other weights"):
        require_of_one_run(environment, "RI", {"tables": {"weights": {"sha256": new}}})
    with pytest.raises(
        StoreError, match="fit_report and run_manifest of RI were made from other weights"
    ):
        require_of_one_run(environment, "RI", {"tables": {"weights": {"sha256": old}}})


def test_truth_has_no_figures_about_published_values():
    frame = pl.DataFrame(
        {
            "level": ["nation", "state"],
            "geoid": ["", "44"],
            "variable": ["persons"] * 2,
            "domain": ["total"] * 2,
            "unit": ["persons"] * 2,
            "role": ["calibrate"] * 2,
            "value": [10.0, 10.0],
            "published_value": [9.0, 9.0],
            "margin_standard_error": [1.0, 1.0],
            "fitted": [10.0, 11.0],
            "truth": [None, 10.0],
        }
    )
    levels = truth_levels(frame)
    assert set(levels) == {"state"}
    assert levels["state"]["median_are"] == pytest.approx(0.1)
    assert "share_inside_published_margin" not in levels["state"]
