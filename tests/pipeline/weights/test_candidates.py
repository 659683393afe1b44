"""Candidate tables: where prior weight may lie, how it is scaled, and what is refused."""

import polars as pl
import pytest

from pipeline.errors import RecordsError, TargetError
from pipeline.vocabulary import POPULATION, is_variable
from tests.pipeline.weights.toy_state import GEOGRAPHY, candidates, tables, targets


def test_prior_lies_in_the_units_own_puma_but_for_the_share_elsewhere():
    records = tables()
    made = candidates(records, targets(records), elsewhere=0.3)
    shares = (
        made.areas.join(GEOGRAPHY.select(area="tract", home="puma"), on="area")
        .group_by("puma", same=pl.col("puma") == pl.col("home"))
        .agg(pl.col("share").sum())
    )
    total = shares.group_by("puma").agg(pl.col("share").sum())
    assert total["share"].to_list() == pytest.approx([1.0, 1.0])
    inside = dict(shares.filter("same").select("puma", "share").iter_rows())
    assert inside["4400100"] == pytest.approx(0.7 + 0.3 * 0.45)
    assert inside["4400300"] == pytest.approx(0.7 + 0.3 * 0.55)


def test_other_vintages_link_through_counties():
    records = tables()
    old = GEOGRAPHY.with_columns(tract=pl.col("tract").str.replace(r"..$", "99"))
    made = candidates(records, targets(records), elsewhere=0.0, link=old)
    local = made.areas.filter(pl.col("puma") == "4400100")
    assert local.filter(pl.col("area").str.starts_with("44003"))["share"].sum() == 0.0
    assert local["share"].sum() == pytest.approx(1.0)


def test_design_weights_are_scaled_to_the_population():
    records = tables()
    goal = targets(records, scale=2.0)
    made = candidates(records, goal)
    people = made.units.select((pl.col("prior_weight") * pl.col("persons|total")).sum()).item()
    assert people == pytest.approx(
        goal.filter((pl.col("level") == "tract") & is_variable(POPULATION))["value"].sum()
    )
    assert any("multiplied by 2.0" in note for note in made.notes)


def test_no_records_no_population_and_a_stray_puma_are_refused():
    records = tables()
    goal = targets(records)
    with pytest.raises(RecordsError, match="no records"):
        candidates({name: frame.clear() for name, frame in records.items()}, goal)
    with pytest.raises(TargetError, match="no population target"):
        candidates(records, goal.filter(pl.col("geoid") != GEOGRAPHY["tract"][0]))
    stray = {**records, "households": records["households"].with_columns(puma=pl.lit("4499999"))}
    with pytest.raises(RecordsError, match="lies in no area"):
        candidates(stray, goal)
