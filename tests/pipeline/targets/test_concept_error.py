"""Model error: how much of a gap is concept, and where it enters."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from pydantic import ValidationError

from pipeline.specs.targets import Treatment
from pipeline.targets.concept_error import concept_errors
from pipeline.targets.concept_gap import apply_gaps, concept_gaps
from pipeline.targets.reconcile import reconcile_state
from tests.pipeline.targets.test_concept_gap import POPULATION, target, targets
from tests.pipeline.targets.toy_tables import TOTAL, TRACT, build, cells, only

FAMILY = np.array(["a", "a", "a"])
RESTATED = {
    "how": "restated",
    "factor": 1.07,
    "factor_error": 0.02,
    "source": "a comparison",
    "why": "returns leave out deferrals",
}


def errors(gap: list[float], error: list[float], family: np.ndarray = FAMILY) -> list[float]:
    return concept_errors(np.array(gap), np.array(error), family[: len(gap)]).tolist()


def test_a_gap_that_is_known_well_counts_whole() -> None:
    assert errors([0.07], [0.0]) == [pytest.approx(0.07)]
    assert errors([-0.2], [0.001]) == [pytest.approx(0.2, rel=1e-3)]


def test_gaps_that_sampling_explains_are_no_model_error() -> None:
    assert errors([0.01, -0.02, 0.015], [0.02, 0.02, 0.02]) == [0.0, 0.0, 0.0]


def test_by_hand() -> None:
    """With equal errors D is the mean of the squared gaps less the squared error."""
    spread = (0.1**2 + 0.02**2) / 2 - 0.02**2
    shrink = spread / (spread + 0.02**2)
    expected = [np.hypot(shrink * g, np.sqrt(shrink) * 0.02) for g in (0.1, 0.02)]
    assert errors([0.1, 0.02], [0.02, 0.02]) == pytest.approx(expected)


def test_a_variable_known_badly_does_not_hide_what_the_others_show() -> None:
    """Wages of returns by class in Vermont 2018: the class of 500,000 has an error of 46 %."""
    plain = errors([0.21, 0.19], [0.075, 0.083])
    found = errors([0.21, 0.19, 0.11], [0.075, 0.083, 0.46])
    assert found[:2] == pytest.approx(plain, rel=0.1)
    assert min(plain) > 0.15


def test_a_small_gap_in_a_family_of_large_ones_is_not_exact_and_other_families_say_nothing() -> (
    None
):
    found = errors([0.2, -0.15, 0.0], [0.03, 0.03, 0.03])
    assert 0.02 < found[2] < 0.04
    assert errors([0.2, 0.0], [0.03, 0.03], np.array(["a", "b"]))[1] == 0.0


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"how": "fitted", "factor": 1.1}, id="a-factor-is-for-restating"),
        pytest.param({"how": "restated", "factor": 1.1, "source": "x"}, id="a-factor-has-an-error"),
        pytest.param({"how": "restated", "factor": 1.1, "factor_error": 0.1}, id="and-a-source"),
        pytest.param({"how": "ignored"}, id="of-three-ways"),
        pytest.param({"how": "observed", "why": ""}, id="with-a-reason"),
    ],
)
def test_treatments_that_say_too_little_are_refused(wrong: dict) -> None:
    with pytest.raises(ValidationError):
        Treatment(**({"why": "a test"} | wrong))


def test_a_restated_figure_is_carried_by_its_factor_and_has_its_error() -> None:
    row = only(build([TOTAL | {"treatment": RESTATED}], cells((TRACT, "A", 100.0, 16.45))))
    assert row["value"] == row["published_value"] == pytest.approx(107.0)
    assert row["standard_error"] == pytest.approx(10.7)
    assert row["concept_error"] == pytest.approx(0.02 * 107.0)
    assert (row["treatment"], row["carry_rule"]) == ("restated", "restated by 1.07")
    assert row["carry_factor"] == pytest.approx(1.07)


def test_a_file_observed_only_says_why_for_each_of_its_rows() -> None:
    seen = {"treatment": {"how": "observed", "why": "another year"}}
    row = only(build([TOTAL], cells((TRACT, "A", 100.0, 16.45)), **seen))
    assert (row["role"], row["reason"], row["treatment"]) == (
        "validation",
        "another year",
        "observed",
    )


def returns(level: str, geoid: str, value: float) -> dict:
    row = target(level, geoid, "returns", "total", value)
    return row | {
        "family": "returns",
        "unit": "returns",
        "standard_error": 1.0,
        "carry_factor": 1.0,
    }


RECORDS = pl.DataFrame(
    {
        "variable": ["persons", "returns"],
        "domain": ["total", "total"],
        "total": [1000.0, 550.0],
        "standard_error": [0.0, 10.0],
    }
)


def measured(*rows: dict, same: tuple = ()) -> dict:
    table = concept_gaps(
        RECORDS, targets(POPULATION, *rows), 0.25, state_fips="44", same_concept=same
    )
    return table.row(by_predicate=pl.col("variable") == "returns", named=True)


def test_the_gap_has_the_sampling_error_of_the_records() -> None:
    """Population grew by a tenth: 605 records' returns with an error of 11, against 550."""
    row = measured(returns("state", "44", 550.0))
    assert row["gap"] == pytest.approx(0.1)
    assert row["gap_standard_error"] == pytest.approx(0.02)
    spread = 0.1**2 - 0.02**2
    shrink = spread / 0.1**2
    expected = np.sqrt((shrink * 0.1) ** 2 + shrink * 0.02**2)
    assert row["concept_error"] == pytest.approx(expected)


def test_the_same_concept_has_no_model_error_and_a_stated_one_is_kept() -> None:
    own = returns("state", "44", 550.0)
    assert measured(own, same=(("returns", "total"),))["concept_error"] == 0.0
    stated = own | {"concept_error": 22.0, "treatment": "restated"}
    assert measured(stated)["concept_error"] == pytest.approx(0.04)
    wide = measured(returns("state", "44", 300.0))
    assert wide["role"] == "validation" and wide["concept_error"] is None


def test_what_records_were_aligned_with_does_not_inherit_the_doubts_of_its_family() -> None:
    """Three classes of returns, two of them off by 10 %; the third was made to agree."""
    names = ["a", "b", "c"]
    rows = [returns("state", "44", 1000.0) | {"domain": name} for name in names]
    records = pl.DataFrame(
        {
            "variable": ["persons", "returns", "returns", "returns"],
            "domain": ["total", *names],
            "total": [1000.0, 1000.0, 818.1818, 909.0909],
            "standard_error": [0.0, 10.0, 10.0, 10.0],
        }
    )

    def errors(aligned: tuple) -> dict[str, float]:
        gaps = concept_gaps(
            records, targets(POPULATION, *rows), 0.25, state_fips="44", aligned=aligned
        )
        own = gaps.filter(pl.col("variable") == "returns")
        return dict(own.select("domain", "concept_error").iter_rows())

    without, own = errors(()), errors((("returns", "c"),))
    assert without["c"] > 0.005, "by its family"
    assert own["c"] == 0.0
    assert own["a"] > 0.09 and own["b"] > 0.09, "the others keep what they show of each other"


def test_counties_inherit_the_states_error_relative_to_their_own_value() -> None:
    rows = [returns("state", "44", 550.0), returns("county", "44001", 100.0)]
    table = targets(POPULATION, *rows)
    gaps = concept_gaps(RECORDS, table, 0.25, state_fips="44")
    share = gaps.filter(pl.col("variable") == "returns")["concept_error"][0]
    applied = apply_gaps(table, gaps, "44").filter(pl.col("variable") == "returns")
    assert applied["concept_error"].to_list() == pytest.approx([550.0 * share, 100.0 * share])


def test_a_total_derived_from_counties_has_their_relative_error_undiminished() -> None:
    areas = pl.DataFrame({"state_fips": ["44", "44"], "county_fips": ["44001", "44003"]})
    below = targets(
        *(
            returns("county", geoid, value) | {"concept_error": 0.05 * value}
            for geoid, value in (("44001", 100.0), ("44003", 300.0))
        )
    )
    made = reconcile_state(below, targets(), areas, ("nation", "state", "county"))
    state = made.frame.row(by_predicate=pl.col("level") == "state", named=True)
    assert state["value"] == pytest.approx(400.0)
    assert state["concept_error"] == pytest.approx(20.0)
