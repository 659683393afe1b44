"""Targets of another concept, and estimates of the survey, beside what the weights give."""

import polars as pl
import pytest

from pipeline.reports.fit import summary_by, worst_targets
from pipeline.reports.model_error import MODEL_ERROR, SURVEY, model_errors, survey_held

ROWS = {
    "level": ["state", "state", "state", "county", "state"],
    "geoid": ["44", "44", "44", "44001", "44"],
    "variable": ["returns", "returns", "persons", "returns", "persons"],
    "domain": ["joint", "total", "veteran", "joint", "total"],
    "unit": ["returns", "returns", "persons", "returns", "persons"],
    "source": ["irs", "irs", "survey", "irs", "pep"],
    "treatment": ["fitted"] * 5,
    "role": ["calibrate", "calibrate", "evidence", "calibrate", "calibrate"],
    "value": [100.0, 400.0, 50.0, 10.0, 1000.0],
    "published_value": [100.0, 400.0, 50.0, 10.0, 1000.0],
    "standard_error": [1.0, 1.0, 4.0, 1.0, 0.0],
    "margin_standard_error": [None] * 5,
    "concept_error": [5.0, 40.0, 0.0, 0.5, None],
    "fitted_dense": [104.0, 408.0, 51.0, 10.0, 1000.0],
    "fitted": [105.0, 404.0, 58.0, 10.0, 1000.0],
}
FIT = pl.DataFrame(ROWS, schema_overrides={"margin_standard_error": pl.Float64})


def test_concept_errors_of_the_state_come_largest_first_as_shares():
    found = model_errors(FIT)
    assert found.columns == list(MODEL_ERROR)
    assert found["domain"].to_list() == ["total", "joint"]
    assert found["concept_error"].to_list() == pytest.approx([0.1, 0.05])
    assert found["difference"].to_list() == pytest.approx([0.01, 0.05])


def test_estimates_of_the_survey_are_counted_in_their_own_errors():
    found = survey_held(FIT)
    assert found.columns == list(SURVEY)
    assert found.select("domain", "fitted", "errors_in_se").rows() == [("veteran", 58.0, 2.0)]


def test_summaries_and_worst_targets_speak_of_published_ones_alone():
    levels = {row["level"]: row for row in summary_by(FIT, "fitted").to_dicts()}
    assert levels["state"]["targets"] == levels["state"]["fitted"] == 3
    assert "veteran" not in worst_targets(FIT)["domain"].to_list()
