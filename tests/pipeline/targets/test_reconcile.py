"""Target tables through reconciliation: what is held, what is fused, what is added, and that
nothing is lost.
"""

import polars as pl
import pytest

from pipeline.errors import TargetError
from pipeline.specs.variables import CategoryGroup
from pipeline.targets.build import TARGET_SCHEMA
from pipeline.targets.reconcile import reconcile_national, reconcile_state

LEVELS = ("nation", "state", "county", "tract")
AREAS = pl.DataFrame(
    {
        "state_fips": ["44"] * 3,
        "county_fips": ["44001", "44001", "44003"],
        "tract": ["44001000100", "44001000200", "44003000100"],
        "puma": ["4400100"] * 3,
    }
)


def row(
    level,
    geoid,
    value,
    error,
    *,
    domain="total",
    variable="persons",
    factor=1.0,
    role="calibrate",
    status="published",
):
    return {
        "level": level,
        "geoid": geoid,
        "variable": variable,
        "domain": domain,
        "family": "age",
        "unit": "usd" if variable.startswith("usd_") else "persons",
        "value": value,
        "standard_error": error,
        "published_value": value,
        "published_standard_error": error,
        "margin_published": True,
        "source": "s",
        "vintage": "2022",
        "carry_rule": "none",
        "carry_factor": factor,
        "status": status,
        "role": role,
        "reason": "" if role == "calibrate" else "why",
    }


def table(*rows) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=TARGET_SCHEMA)


def value(frame, level, geoid, domain="total", variable="persons"):
    return frame.filter(
        (pl.col("level") == level)
        & (pl.col("geoid") == geoid)
        & (pl.col("domain") == domain)
        & (pl.col("variable") == variable)
    )


def test_nation_and_states_agree_afterwards():
    """100 +- 1 against 40 +- 3 and 50 +- 3: the missing 10 (variance 19) go 1/19 to the nation and
    9/19 to each state.
    """
    result = reconcile_national(
        table(
            row("nation", "", 100.0, 1.0),
            row("state", "10", 40.0, 3.0),
            row("state", "44", 50.0, 3.0),
        )
    )
    national = value(result.frame, "nation", "")["value"][0]
    assert national == pytest.approx(100.0 - 10.0 / 19)
    assert value(result.frame, "state", "44")["value"][0] == pytest.approx(50.0 + 90.0 / 19)
    assert value(result.frame, "state", "10")["value"][0] + value(result.frame, "state", "44")[
        "value"
    ][0] == pytest.approx(national)
    assert set(result.frame["status"]) == {"reconciled"}


def test_a_state_value_of_the_target_year_is_held_and_a_carried_one_is_fused():
    below = table(*(row("tract", g, 10.0, 2.0) for g in AREAS["tract"]))
    for factor, expected in ((1.0, 36.0), (1.1, 30.0 + 6.0 * 12 / (12 + 12))):
        national = table(row("state", "44", 36.0, 12**0.5, factor=factor))
        frame = reconcile_state(below, national, AREAS, LEVELS).frame
        assert value(frame, "state", "44")["value"][0] == pytest.approx(expected, rel=1e-6)
        tracts = frame.filter(pl.col("level") == "tract")["value"]
        assert tracts.sum() == pytest.approx(expected, rel=1e-6)
        assert tracts.to_list() == pytest.approx([expected / 3] * 3, rel=1e-6)


def test_levels_nobody_published_are_derived_with_their_error():
    below = table(*(row("tract", g, 10.0, 2.0) for g in AREAS["tract"]))
    frame = reconcile_state(below, table(), AREAS, LEVELS).frame
    county = value(frame, "county", "44001")
    assert county["status"][0] == "derived"
    assert county["value"][0] == 20.0
    assert county["standard_error"][0] == pytest.approx(8**0.5)
    assert not county["margin_published"][0]
    assert county["published_value"][0] is None


def test_a_suppressed_cell_is_filled_only_where_the_rest_determines_it():
    rows = [
        row("tract", "44001000100", 10.0, 1.0),
        row("tract", "44001000200", None, None, status="suppressed"),
        row("tract", "44003000100", 5.0, 1.0),
    ]
    known = reconcile_state(
        table(row("county", "44001", 30.0, 1.0), *rows), table(), AREAS, LEVELS
    ).frame
    assert value(known, "tract", "44001000200")["value"][0] == pytest.approx(20.0)
    assert value(known, "tract", "44001000200")["status"][0] == "derived"
    unknown = reconcile_state(table(*rows), table(), AREAS, LEVELS).frame
    assert value(unknown, "tract", "44001000200")["value"][0] is None
    assert value(unknown, "tract", "44001000200")["status"][0] == "suppressed"


def test_validation_rows_move_nothing_and_are_kept():
    rows = [row("tract", g, 10.0, 2.0) for g in AREAS["tract"]]
    frame = reconcile_state(
        table(*rows), table(row("state", "44", 99.0, 0.1, role="validation")), AREAS, LEVELS
    ).frame
    assert frame.filter(pl.col("level") == "tract")["value"].to_list() == [10.0] * 3
    kept = value(frame, "state", "44")
    assert kept["value"][0] == 99.0
    assert kept["role"][0] == "validation"


def test_categories_add_up_at_state_and_county_and_areas_still_do():
    members = {"male": 12.0, "female": 14.0}
    rows = [row("tract", g, n, 2.0, domain=d) for g in AREAS["tract"] for d, n in members.items()]
    national = table(row("state", "44", 90.0, 0.0))
    county = [row("county", "44001", 58.0, 1.0), row("county", "44003", 32.0, 1.0)]
    group = CategoryGroup.model_validate(
        {
            "id": "sex",
            "parent": {"variable": "persons", "domain": "total"},
            "children": [{"variable": "persons", "domain": d} for d in members],
        }
    )
    result = reconcile_state(table(*rows, *county), national, AREAS, LEVELS, [group])
    frame = result.frame
    for level, geoid in (("state", "44"), ("county", "44001"), ("county", "44003")):
        parts = sum(value(frame, level, geoid, d)["value"][0] for d in members)
        assert parts == pytest.approx(value(frame, level, geoid)["value"][0], rel=1e-3)
    for d in members:
        tracts = frame.filter((pl.col("level") == "tract") & (pl.col("domain") == d))["value"].sum()
        counties = sum(value(frame, "county", g, d)["value"][0] for g in ("44001", "44003"))
        assert tracts == pytest.approx(counties, rel=1e-6)
        assert counties == pytest.approx(value(frame, "state", "44", d)["value"][0], rel=1e-6)
    assert value(frame, "state", "44")["value"][0] == pytest.approx(90.0, rel=1e-6)


def test_large_moves_are_listed_with_their_size():
    rows = [row("tract", g, 10.0, 1.0) for g in AREAS["tract"]]
    result = reconcile_state(table(*rows), table(row("state", "44", 45.0, 0.5)), AREAS, LEVELS)
    assert result.adjustments.filter(pl.col("level") == "tract").height == 3
    assert result.adjustments["adjustment_in_standard_errors"][0] == pytest.approx(5.0, rel=1e-3)
    quiet = reconcile_state(table(*rows), table(row("state", "44", 31.0, 0.5)), AREAS, LEVELS)
    assert quiet.adjustments.is_empty()


def test_counts_stay_at_zero_or_above_and_amounts_may_be_negative():
    rows = [row("tract", g, 1.0, 3.0) for g in AREAS["tract"]] + [
        row("tract", g, 1.0, 3.0, variable="usd_agi") for g in AREAS["tract"]
    ]
    national = table(
        row("state", "44", 0.0, 0.01), row("state", "44", -30.0, 0.01, variable="usd_agi")
    )
    frame = reconcile_state(table(*rows), national, AREAS, LEVELS).frame
    assert (
        frame.filter((pl.col("level") == "tract") & (pl.col("variable") == "persons"))[
            "value"
        ].min()
        >= 0.0
    )
    assert frame.filter((pl.col("level") == "tract") & (pl.col("variable") == "usd_agi"))[
        "value"
    ].sum() == pytest.approx(-30.0, rel=1e-3)


def test_every_row_that_came_in_comes_out():
    rows = [row("tract", g, 10.0, 2.0) for g in AREAS["tract"]] + [
        row("county", "44001", None, None, domain="x", status="suppressed", role="dropped")
    ]
    frame = reconcile_state(table(*rows), table(row("state", "44", 31.0, 1.0)), AREAS, LEVELS).frame
    key = ["level", "geoid", "variable", "domain"]
    assert table(*rows).join(frame, on=key, how="anti").is_empty()
    assert not frame.select(key).is_duplicated().any()


STATE_ROW = row("state", "44", 30.0, 1.0)


@pytest.mark.parametrize(
    "geoid", ["44001999900", "44099000100"], ids=["unknown tract", "tract of an unknown county"]
)
def test_a_tract_that_the_tract_list_has_not_is_named(geoid):
    below = table(*(row("tract", g, 10.0, 2.0) for g in (*AREAS["tract"], geoid)))
    with pytest.raises(
        TargetError, match=f"1 tracts that the tract list has not, first tract {geoid}"
    ):
        reconcile_state(below, table(STATE_ROW), AREAS, LEVELS)


def test_a_tract_that_no_table_has_is_named():
    below = table(*(row("tract", g, 10.0, 2.0) for g in AREAS["tract"][1:]))
    with pytest.raises(
        TargetError, match="1 tracts that are in none of the tables, first tract 44001000100"
    ):
        reconcile_state(below, table(STATE_ROW), AREAS, LEVELS)


def test_a_tract_of_water_outside_the_list_keeps_its_row_with_the_reason():
    below = table(
        *(row("tract", g, 10.0, 2.0) for g in AREAS["tract"]), row("tract", "44005990000", 0.0, 1.0)
    )
    frame = reconcile_state(below, table(STATE_ROW), AREAS, LEVELS).frame
    water = value(frame, "tract", "44005990000")
    assert water["role"].to_list() == ["dropped"]
    assert "not in the tract list" in water["reason"][0]
    assert value(frame, "state", "44")["value"][0] == pytest.approx(30.0)


def test_nobody_is_moved_into_an_empty_area():
    rows = [row("tract", g, n, 2.0) for g, n in zip(AREAS["tract"], (10.0, 0.0, 10.0), strict=True)]
    rows += [
        row("tract", g, n, 2.0, domain="male")
        for g, n in zip(AREAS["tract"], (5.0, 0.0, 0.0), strict=True)
    ]
    national = table(row("state", "44", 26.0, 0.01), row("state", "44", 8.0, 0.01, domain="male"))
    frame = reconcile_state(table(*rows), national, AREAS, LEVELS).frame
    assert value(frame, "tract", "44001000200")["value"][0] == 0.0
    assert value(frame, "tract", "44001000200", "male")["value"][0] == 0.0
    assert value(frame, "tract", "44003000100", "male")["value"][0] > 0.0
    assert frame.filter((pl.col("level") == "tract") & (pl.col("domain") == "total"))[
        "value"
    ].sum() == pytest.approx(26.0, rel=1e-4)


def test_crossed_categories_with_state_values_in_conflict_add_up_everywhere():
    """Age by sex, age, sex and total all published, carried and in conflict: every group holds at
    state and county, and areas still add up.
    """
    cells = {"male_young": 6.0, "male_old": 4.0, "female_young": 5.0, "female_old": 6.0}
    sums = {
        "male": ("male_young", "male_old"),
        "female": ("female_young", "female_old"),
        "young": ("male_young", "female_young"),
        "old": ("male_old", "female_old"),
    }
    rows = [row("tract", g, n, 1.5, domain=d) for g in AREAS["tract"] for d, n in cells.items()]
    rows += [
        row("tract", g, sum(cells[c] for c in parts) + 1.0, 2.0, domain=d)
        for g in AREAS["tract"]
        for d, parts in sums.items()
    ]
    state = {
        "male_young": 22.0,
        "male_old": 10.0,
        "female_young": 14.0,
        "female_old": 21.0,
        "male": 33.0,
        "female": 32.0,
        "young": 34.0,
        "old": 33.0,
    }
    national = [row("state", "44", n, 1.0, domain=d, factor=1.1) for d, n in state.items()] + [
        row("state", "44", 66.0, 0.0)
    ]
    families = {
        "total_sex": ("total", ("male", "female")),
        "total_age": ("total", ("young", "old")),
    } | {f"cells_{d}": (d, parts) for d, parts in sums.items()}
    groups = [
        CategoryGroup.model_validate(
            {
                "id": i,
                "parent": {"variable": "persons", "domain": p},
                "children": [{"variable": "persons", "domain": c} for c in kids],
            }
        )
        for i, (p, kids) in families.items()
    ]
    rows += [row("county", "44001", 44.5, 1.0), row("county", "44003", 22.0, 1.0)]
    result = reconcile_state(table(*rows), table(*national), AREAS, LEVELS, groups)
    assert result.categories["applied"].all()
    assert result.largest_category_gap < 1e-9
    frame = result.frame
    assert value(frame, "state", "44")["value"][0] == pytest.approx(66.0, rel=1e-6)  # held
    for level, geoid in (("state", "44"), ("county", "44001"), ("county", "44003")):
        for parent, kids in families.values():
            assert sum(value(frame, level, geoid, c)["value"][0] for c in kids) == pytest.approx(
                value(frame, level, geoid, parent)["value"][0], rel=1e-8
            )
    for domain in (*cells, *sums):
        tracts = frame.filter((pl.col("level") == "tract") & (pl.col("domain") == domain))[
            "value"
        ].sum()
        assert tracts == pytest.approx(value(frame, "state", "44", domain)["value"][0], rel=1e-7)


def test_a_group_that_cannot_be_applied_says_why():
    rows = [row("tract", g, 10.0, 2.0, domain=d) for g in AREAS["tract"] for d in ("male", "total")]
    group = CategoryGroup.model_validate(
        {
            "id": "sex",
            "parent": {"variable": "persons", "domain": "total"},
            "children": [{"variable": "persons", "domain": d} for d in ("male", "female")],
        }
    )
    report = reconcile_state(table(*rows), table(), AREAS, LEVELS, [group]).categories
    assert report["applied"].to_list() == [False, False]
    assert set(report["reason"]) == {"without a calibrating target: persons female"}
