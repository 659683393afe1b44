"""The gate: what moved too far, went or misses its target is refused unless it is approved."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import polars as pl
import pytest

from pipeline.errors import SpecError
from pipeline.specs.release_gate import Approval, load_approvals, load_gate
from tests.pipeline.release.conftest import store_of
from tests.pipeline.release.result import write_result
from tests.pipeline.release.test_make import picture

SSA = "usd_social_security/households"
TODAY = datetime.now(UTC).date()


def approval(**changed) -> Approval:
    said = {
        "figure": SSA,
        "reason": "SSA revised its table of 2022",
        "approved_by": "A. Person",
        "expires": TODAY + timedelta(days=7),
    }
    return Approval(**{**said, **changed})


def test_social_security_44_percent_low_is_refused_and_nothing_changes(tmp_path, release):
    first = release(write_result(tmp_path))
    environment = write_result(tmp_path, factor={SSA: 0.56})
    before = picture(tmp_path)
    made = release(environment)
    assert made.release is None and picture(tmp_path) == before
    assert store_of(environment).latest() == first.release.id
    refused = {(v.what, v.level, v.geoid, v.figure) for v in made.verdict.refused}
    assert refused == {
        ("moved", "nation", "", SSA),
        ("moved", "state", "44", SSA),
        ("moved", "state", "10", SSA),
    }
    words = made.verdict.refused[0].words
    assert "-44.0 %" in words and "15,660,000" in words and "8,769,600" in words
    assert "(its target -44.0 %)" in words


def test_a_first_release_that_misses_its_target_is_refused(tmp_path, release):
    """The target is right and the weights are not: no release before is needed to see it."""

    def right_target(fit: pl.DataFrame) -> pl.DataFrame:
        ssa = pl.col("variable") == "usd_social_security"
        return fit.with_columns(value=pl.when(ssa).then(pl.col("value") / 0.56).otherwise("value"))

    environment = write_result(tmp_path, factor={SSA: 0.56}, change_fit=right_target)
    made = release(environment)
    assert made.release is None and made.before is None
    assert {v.what for v in made.verdict.refused} == {"missed"}
    assert "misses its target by -44.0 %" in made.verdict.refused[0].words
    allowed = approval(what=("missed",))
    assert release(environment, approvals=(allowed,)).release is not None


def test_a_target_that_went_is_refused_though_its_figure_stands(tmp_path, release):
    release(write_result(tmp_path))

    def without(fit: pl.DataFrame) -> pl.DataFrame:
        gone = (pl.col("variable") == "usd_social_security") & (pl.col("level") != "tract")
        return fit.filter(~gone)

    made = release(write_result(tmp_path, change_fit=without))
    found = {(v.what, v.level, v.figure) for v in made.verdict.refused}
    assert found == {("target_gone", "state", SSA), ("target_gone", "county", SSA)}
    assert "lost its target in 2 of 2 areas of level state (made_up)" in (
        made.verdict.refused[0].words
    )


def test_a_target_that_moved_is_refused_though_its_figure_did_not_follow(tmp_path, release):
    """Of a target with a large error weights follow little: Rhode Island's AGI moved by less than
    one per cent when the IRS row was 8 % higher."""
    release(write_result(tmp_path))

    def higher(fit: pl.DataFrame) -> pl.DataFrame:
        ssa = pl.col("variable") == "usd_social_security"
        return fit.with_columns(value=pl.when(ssa).then(pl.col("value") * 1.08).otherwise("value"))

    environment = write_result(tmp_path, change_fit=higher)
    made = release(environment)
    found = {(v.what, v.level, v.geoid, v.figure) for v in made.verdict.refused}
    assert found == {
        ("target_moved", "nation", "", SSA),
        ("target_moved", "state", "44", SSA),
        ("target_moved", "state", "10", SSA),
    }
    assert "has a target that moved +8.0 %" in made.verdict.refused[0].words
    assert release(environment, approvals=(approval(),)).release is None
    assert release(environment, approvals=(approval(what=("target_moved",)),)).release


def test_a_few_tracts_may_lose_a_target(tmp_path, release):
    release(write_result(tmp_path))

    def one_tract_less(fit: pl.DataFrame) -> pl.DataFrame:
        gone = (pl.col("geoid") == "44001000100") & (pl.col("domain") == "oasdi")
        return fit.filter(~gone)

    made = release(write_result(tmp_path, change_fit=one_tract_less))
    assert [v.level for v in made.verdict.refused] == ["tract"]
    assert made.verdict.refused[0].size == pytest.approx(1 / 12)
    limits = load_gate().targets_gone.share
    assert limits["state"] == limits["county"] == 0.0 < limits["tract"]


def test_a_figure_that_is_measured_no_more_is_refused(tmp_path, release):
    release(write_result(tmp_path))
    gone = pl.col("domain") == "veterans"
    made = release(write_result(tmp_path, change_bystanders=lambda report: report.filter(~gone)))
    assert {(v.what, v.figure) for v in made.verdict.refused} == {
        ("figure_gone", "persons/veterans")
    }


def test_a_state_that_went_is_refused(tmp_path, release):
    environment = write_result(tmp_path)
    release(environment)
    made = release(environment, states=("RI",), partial=True)
    assert [(v.what, v.figure, v.geoid) for v in made.verdict.refused] == [
        ("state_gone", "DE", "10")
    ]
    allowed = approval(figure="DE", what=("state_gone",))
    assert release(environment, states=("RI",), partial=True, approvals=(allowed,)).release


def test_small_moves_pass_and_untold_figures_may_move_further(tmp_path, release):
    release(write_result(tmp_path))
    made = release(write_result(tmp_path, factor={SSA: 0.97, "persons/veterans": 1.09}))
    assert made.release is not None and made.verdict.violations == ()
    made = release(write_result(tmp_path, factor={SSA: 0.97, "persons/veterans": 1.5}))
    assert {v.figure for v in made.verdict.refused} == {"persons/veterans"}


def test_a_figure_of_few_records_is_not_judged(tmp_path, release):
    few = {"change_bystanders": lambda r: r.with_columns(records=pl.lit(5, dtype=pl.Int64))}
    release(write_result(tmp_path, **few))
    made = release(write_result(tmp_path, factor={SSA: 0.56}, **few))
    assert made.release is not None

    def right_target(fit: pl.DataFrame) -> pl.DataFrame:
        ssa = pl.col("variable") == "usd_social_security"
        return fit.with_columns(value=pl.when(ssa).then(pl.col("value") / 0.56).otherwise("value"))

    missing = {"factor": {SSA: 0.56}, "change_fit": right_target}
    assert release(write_result(tmp_path / "b", **missing, **few)).release is not None


def test_an_approved_change_is_released_and_stands_in_it(tmp_path, release):
    first = release(write_result(tmp_path))
    environment = write_result(tmp_path, factor={SSA: 0.56})
    made = release(environment, approvals=(approval(),))
    assert made.release is not None and made.release.document["parents"] == [first.release.id]
    approved = made.release.document["gate"]["approved"]
    assert {entry["approved"]["approved_by"] for entry in approved} == {"A. Person"}
    assert len(approved) == 3


def test_an_expired_approval_does_not_count(tmp_path, release):
    release(write_result(tmp_path))
    environment = write_result(tmp_path, factor={SSA: 0.56})
    old = approval(expires=TODAY - timedelta(days=1))
    made = release(environment, approvals=(old,))
    assert made.release is None and made.verdict.expired == (old,)
    last_day = approval(expires=TODAY)
    assert release(environment, approvals=(old, last_day)).release is not None


@pytest.mark.parametrize(
    ("changed", "left"),
    [
        pytest.param({"level": "state"}, {("nation", "")}, id="level"),
        pytest.param({"geoid": "44"}, {("nation", ""), ("state", "10")}, id="area"),
        pytest.param({"largest": 0.2}, 3, id="more-than-was-approved"),
        pytest.param({"figure": "usd_wages/*"}, 3, id="another-figure"),
        pytest.param({"what": ("target_gone",)}, 3, id="another-kind"),
        pytest.param({"figure": "usd_social*"}, set(), id="pattern"),
    ],
)
def test_an_approval_covers_what_it_says(tmp_path, release, changed, left):
    release(write_result(tmp_path))
    environment = write_result(tmp_path, factor={SSA: 0.56})
    made = release(environment, approvals=(approval(**changed),))
    found = {(v.level, v.geoid) for v in made.verdict.refused}
    assert found == left or len(found) == left
    assert (made.release is not None) == (not found)


def test_an_approval_of_nothing_is_named(tmp_path, release):
    unused = approval(figure="persons/nobody")
    made = release(write_result(tmp_path), approvals=(unused,))
    assert made.verdict.unused == (unused,) and made.release is not None


def test_a_file_of_approvals(tmp_path):
    path = tmp_path / "approvals.yaml"
    path.write_text(
        "approvals:\n- figure: persons/*\n  what: [moved, target_gone]\n  reason: New estimates of"
        " the Census Bureau\n  approved_by: A. Person\n  expires: 2031-01-31\n"
    )
    [found] = load_approvals(path)
    assert found.expires == date(2031, 1, 31) and found.largest is None
    assert load_approvals(None) == ()
    whole = "figure: a/b, reason: because it is right, approved_by: Ann, expires: 2031-01-31"
    faults = ("expires: never", "reason: ok", "approved_by: ''", "who: me", "figure: '*'")
    for fault in faults:
        # Of a key that stands twice the last counts.
        path.write_text(f"approvals:\n- {{{whole}, {fault}}}\n")
        with pytest.raises(SpecError, match=fault.split(":")[0]):
            load_approvals(path)


def test_the_thresholds_judge_every_figure_of_states_and_nation():
    gate = load_gate()
    for level in ("nation", "state"):
        for unit in ("persons", "households", "returns", "usd"):
            for kind in ("told", "implied", "observed", "untold"):
                assert gate.rule_of(level, unit, kind, "any/figure") is not None
    assert gate.rule_of("state", "persons", "told", "persons/total").share == 0.01
    assert gate.rule_of("tract", "persons", "told", "persons/total") is None
    # What a peer shipped for two weeks is far beyond what may move.
    assert gate.rule_of("state", "usd", "told", SSA).share < 0.44 / 4
