"""Gaps between records and targets, and the roles that follow."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.errors import TargetError
from pipeline.targets.build import TARGET_SCHEMA
from pipeline.targets.concept_gap import GAP_SCHEMA, apply_gaps, concept_gaps, state_targets


def target(
    level: str,
    geoid: str,
    variable: str,
    domain: str,
    value: float | None,
    role: str = "calibrate",
    reason: str = "",
) -> dict:
    row = dict.fromkeys(TARGET_SCHEMA) | {
        "level": level,
        "geoid": geoid,
        "variable": variable,
        "domain": domain,
        "published_value": value,
        "value": value,
    }
    return row | {
        "role": role,
        "reason": reason,
        "unit": "persons",
        "status": "published" if value is not None else "suppressed",
    }


def targets(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=TARGET_SCHEMA)


def totals(**found: float | None) -> pl.DataFrame:
    rows = [(*key.split("__"), value) for key, value in found.items()]
    return pl.DataFrame(
        rows, schema={"variable": pl.String, "domain": pl.String, "total": pl.Float64}, orient="row"
    )


POPULATION = target("state", "44", "persons", "total", 1100.0)


def gaps(
    rows: list[dict], limit: float = 0.25, **found: float | None
) -> dict[tuple[str, str], dict]:
    table = concept_gaps(
        totals(persons__total=1000.0, **found), targets(POPULATION, *rows), limit, state_fips="44"
    )
    assert table.schema == pl.Schema(GAP_SCHEMA)
    return {(r["variable"], r["domain"]): r for r in table.iter_rows(named=True)}


def test_population_growth_is_no_gap() -> None:
    found = gaps([target("state", "44", "persons", "old", 220.0)], persons__old=200.0)
    assert found["persons", "total"]["gap"] == pytest.approx(0.0)
    assert found["persons", "old"]["gap"] == pytest.approx(0.0)
    assert found["persons", "old"]["record_total"] == pytest.approx(220.0)


@pytest.mark.parametrize(
    ("record", "role"),
    [(125.0, "calibrate"), (126.0, "validation"), (75.0, "calibrate"), (74.0, "validation")],
)
def test_beyond_the_limit_a_target_only_validates(record: float, role: str) -> None:
    row = gaps([target("state", "44", "persons", "ssi", 110.0)], persons__ssi=record)[
        "persons", "ssi"
    ]
    assert row["role"] == role
    if role == "validation":
        assert "concept gap too wide" in row["reason"]
        assert ("above" if record > 100 else "below") in row["reason"]
        assert "25%" in row["reason"]


def test_amounts_may_be_negative() -> None:
    row = gaps([target("state", "44", "usd", "loss", -110.0)], usd__loss=-10.0)["usd", "loss"]
    assert row["gap"] == pytest.approx((-11 + 110) / 110)
    assert row["role"] == "validation"


def test_tables_of_the_same_questions_have_the_wider_limit() -> None:
    table = targets(
        POPULATION,
        target("state", "44", "persons", "home", 110.0),
        target("state", "44", "returns", "total", 110.0),
    )
    found = concept_gaps(
        totals(persons__total=1000.0, persons__home=50.0, returns__total=50.0),
        table,
        0.25,
        state_fips="44",
        same_concept={("persons", "home")},
        same_concept_limit=0.75,
    )
    assert dict(found.select("domain", "role").filter(pl.col("domain") == "home").iter_rows()) == {
        "home": "calibrate"
    }
    assert found.filter(pl.col("variable") == "returns")["role"].to_list() == ["validation"]


def test_what_records_cannot_say_is_dropped_with_the_reason() -> None:
    found = gaps(
        [
            target("tract", "44001000100", "households", "owner", 5.0),
            target("state", "44", "persons", "nhpi", 5.0),
        ],
        persons__nhpi=0.0,
        households__owner=None,
    )
    assert found["households", "owner"]["role"] == "dropped"
    assert "no value" in found["households", "owner"]["reason"]
    assert found["persons", "nhpi"]["role"] == "dropped"
    assert "no record" in found["persons", "nhpi"]["reason"]


def test_a_published_zero_is_met_only_by_none() -> None:
    found = gaps(
        [target("state", "44", "persons", "a", 0.0), target("state", "44", "persons", "b", 0.0)],
        persons__a=0.0,
        persons__b=3.0,
    )
    assert (found["persons", "a"]["gap"], found["persons", "a"]["role"]) == (0.0, "calibrate")
    assert (found["persons", "b"]["gap"], found["persons", "b"]["role"]) == (
        float("inf"),
        "validation",
    )


def test_withheld_cells_leave_nothing_to_compare() -> None:
    rows = [
        target("county", "44001", "persons", "ssi", 50.0),
        target("county", "44003", "persons", "ssi", None),
    ]
    row = gaps(rows, persons__ssi=40.0)["persons", "ssi"]
    assert (row["role"], row["gap"]) == ("validation", None)
    assert "cannot be measured" in row["reason"]


def test_a_declared_role_is_kept_with_its_reason_and_still_measured() -> None:
    row = gaps(
        [target("state", "44", "persons", "ssi", 110.0, "validation", "children are missing")],
        persons__ssi=100.0,
    )["persons", "ssi"]
    assert (row["role"], row["reason"], row["gap"]) == (
        "validation",
        "children are missing",
        pytest.approx(0.0),
    )


def test_the_state_figure_is_its_own_row_else_the_sum_below_and_calibrating_rows_first() -> None:
    table = targets(
        target("state", "44", "a", "x", 10.0),
        target("county", "44001", "a", "x", 3.0),
        target("county", "44003", "a", "x", 4.0),
        target("state", "44", "b", "x", 10.0, "validation", "old"),
        target("county", "44001", "b", "x", 3.0),
        target("county", "44003", "b", "x", 4.0),
        target("tract", "44001000100", "c", "x", 2.0),
        target("tract", "44001000200", "c", "x", 5.0),
        target("state", "09", "c", "x", 99.0),
    )
    found = {
        r["variable"]: (r["target_level"], r["target"], r["role"])
        for r in state_targets(table, "44").iter_rows(named=True)
    }
    assert found == {
        "a": ("state", 10.0, "calibrate"),
        "b": ("county", 7.0, "calibrate"),
        "c": ("tract", 7.0, "calibrate"),
    }


def test_roles_are_applied_to_the_state_alone_and_no_row_is_lost() -> None:
    table = targets(
        POPULATION,
        target("nation", "", "persons", "ssi", 9000.0),
        target("state", "09", "persons", "ssi", 300.0),
        target("state", "44", "persons", "ssi", 10.0),
        target("county", "44001", "persons", "ssi", 10.0, "dropped", "declared"),
    )
    found = concept_gaps(
        totals(persons__total=1000.0, persons__ssi=200.0), table, 0.25, state_fips="44"
    )
    applied = apply_gaps(table, found, "44")
    assert applied.schema == table.schema
    assert applied["role"].to_list() == [
        "calibrate",
        "calibrate",
        "calibrate",
        "validation",
        "dropped",
    ]
    assert applied["reason"].to_list()[4] == "declared"
    changed = ("role", "reason", "concept_error")
    assert_frame_equal(applied.drop(changed), table.drop(changed))
    assert_frame_equal(apply_gaps(applied, found, "44"), applied)


def test_order_of_rows_does_not_matter() -> None:
    table = targets(
        POPULATION,
        target("county", "44003", "persons", "x", 0.1),
        target("county", "44001", "persons", "x", 0.2),
        target("county", "44005", "persons", "x", 0.3),
    )
    records = totals(persons__total=1000.0, persons__x=0.5)
    assert_frame_equal(
        concept_gaps(records, table, 0.25, state_fips="44"),
        concept_gaps(records.reverse(), table.reverse(), 0.25, state_fips="44"),
        check_exact=True,
    )


def test_without_population_nothing_can_be_scaled() -> None:
    with pytest.raises(TargetError, match="Total persons is not known"):
        concept_gaps(
            totals(persons__old=3.0),
            targets(target("state", "44", "persons", "old", 3.0)),
            0.25,
            state_fips="44",
        )
