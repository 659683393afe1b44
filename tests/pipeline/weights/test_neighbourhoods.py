"""Pools of neighbourhoods: own units whole, a sample of the others that represents them."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipeline.specs.profiles import ProfileCandidates
from pipeline.weights.neighbourhoods import build_pools, targeted_columns

PUMAS, AREAS, UNITS = ["01", "02", "03", "04"], 10, 2000
# Areas 0 to 3 lie in PUMA 01, 4 to 6 in 02, 7 in both, 8 and 9 in 03 and 04.
NEAR = np.zeros((AREAS, 4), dtype=bool)
NEAR[:4, 0] = NEAR[4:7, 1] = NEAR[7, :2] = NEAR[8:, 2:] = True
RULE = ProfileCandidates(units=700, elsewhere=150, least_support=12)


def units_of(seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    puma = np.array(PUMAS)[rng.integers(0, 4, UNITS)]
    rare = (rng.random(UNITS) < 0.02) & (puma != "01")
    return pl.DataFrame(
        {
            "household_id": [f"H{i:05d}" for i in range(UNITS)],
            "puma": puma,
            "prior_weight": rng.lognormal(3.0, 0.8, UNITS),
            "cell": rng.integers(0, 8, UNITS),
            "order": rng.lognormal(10.0, 1.0, UNITS),
            "persons|total": 1.0 + rng.poisson(1.5, UNITS),
            "persons|rare": rare.astype(float),
        }
    )


def pools(units: pl.DataFrame, rule=RULE, seed: int = 1, targeted=("persons|rare",)):
    return build_pools(units, NEAR, PUMAS, targeted, rule, seed, "44")


def test_a_neighbourhood_is_the_areas_with_the_same_pumas():
    found = pools(units_of()).of_area
    groups = [sorted(np.flatnonzero(found == n).tolist()) for n in np.unique(found)]
    assert sorted(groups) == [[0, 1, 2, 3], [4, 5, 6], [7], [8, 9]]


def test_own_units_are_whole_and_pools_have_the_size_asked_for():
    units = units_of()
    made = pools(units)
    puma = dict(units.select("household_id", "puma").iter_rows())
    for number in np.unique(made.of_area):
        area = int(np.flatnonzero(made.of_area == number)[0])
        own = {p for p, near in zip(PUMAS, NEAR[area], strict=True) if near}
        pool = made.table.filter(pl.col("neighbourhood") == number)
        here = {h for h in puma if puma[h] in own}
        certain = set(pool.filter(pl.col("expansion") == 1.0)["household_id"])
        assert here <= certain
        sampled = pool.height - len(here)
        wanted = max(150, 700 - len(here))
        # Those that support the rare variable come on top.
        assert wanted - 1 <= sampled <= wanted + RULE.least_support + 1
        assert (pool["expansion"] >= 1.0).all()
    assert len(made.notes) == 2 and "4 neighbourhoods" in made.notes[0]


def test_a_sample_stands_for_all_others_on_average():
    """Of many samples the mean of expansion x anything is its total elsewhere."""
    units = units_of()
    elsewhere = units.filter(pl.col("puma") != "01")
    weight, persons = elsewhere["prior_weight"], elsewhere["persons|total"]
    total, people = weight.sum(), (weight * persons).sum()
    found = []
    for seed in range(60):
        made = pools(units, seed=seed)
        number = int(made.of_area[0])
        pool = made.table.filter(pl.col("neighbourhood") == number).join(units, on="household_id")
        away = pool.filter(pl.col("puma") != "01").with_columns(
            w=pl.col("expansion") * pl.col("prior_weight")
        )
        found.append([away["w"].sum(), (away["w"] * away["persons|total"]).sum()])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    assert abs(mean[0] / total - 1) < 0.01
    assert abs(mean[1] - people) < 4 * error[1] + 0.002 * people


def test_cells_have_their_share_of_the_sample():
    units = units_of()
    made = pools(units, targeted=())
    number = int(made.of_area[0])
    pool = made.table.filter(pl.col("neighbourhood") == number).join(units, on="household_id")
    away = pool.filter(pl.col("puma") != "01").group_by("cell").len("drawn")
    others = (
        units.filter(pl.col("puma") != "01").group_by("cell").agg(w=pl.col("prior_weight").sum())
    )
    both = others.join(away, on="cell")
    expected = both["w"] / both["w"].sum() * both["drawn"].sum()
    assert ((both["drawn"] - expected).abs() < 2.5).all()


def test_what_own_units_do_not_support_is_sampled_apart():
    units = units_of()
    own = units.filter(pl.col("puma") == "01")
    assert own["persons|rare"].sum() == 0
    made = pools(units)
    number = int(made.of_area[0])
    pool = made.table.filter(pl.col("neighbourhood") == number).join(units, on="household_id")
    assert pool["persons|rare"].sum() >= RULE.least_support
    assert "units from elsewhere" in made.notes[1]


def test_the_only_unit_of_its_kind_is_in_every_pool_that_lacks_it():
    """Also where it belongs to another scarce kind, whose list it would be drawn from by chance."""
    units = units_of()
    rare = units.filter(pl.col("persons|rare") > 0)
    only = rare["household_id"][0]
    units = units.with_columns(
        (pl.col("household_id") == only).cast(pl.Float64).alias("persons|only")
    )
    for targeted in (("persons|rare", "persons|only"), ("persons|only", "persons|rare")):
        made = pools(units, targeted=targeted)
        holding = made.table.filter(pl.col("household_id") == only)["neighbourhood"]
        assert set(holding) == set(made.of_area)


def test_the_order_of_units_and_other_states_change_no_pool():
    units = units_of()
    key = ["neighbourhood", "household_id"]
    first = pools(units).table.sort(key)
    assert pools(units.sample(fraction=1.0, shuffle=True, seed=3)).table.sort(key).equals(first)
    assert (
        not build_pools(units, NEAR, PUMAS, (), RULE, 1, "45")
        .table.sort(key)
        .equals(build_pools(units, NEAR, PUMAS, (), RULE, 1, "44").table.sort(key))
    )


def test_a_small_state_is_one_neighbourhood_of_everything():
    units = units_of()
    made = pools(units, ProfileCandidates(units=UNITS, elsewhere=10))
    assert set(made.of_area) == {0} and made.notes == ()
    assert made.table["household_id"].to_list() == units["household_id"].to_list()
    assert (made.table["expansion"] == 1.0).all()


def test_without_a_share_elsewhere_nothing_is_sampled():
    made = pools(units_of(), ProfileCandidates(elsewhere_share=0.0, units=700), targeted=())
    assert (made.table["expansion"] == 1.0).all()
    assert made.table.height < 4 * UNITS


def test_columns_of_targets_are_those_that_units_have():
    keys = [("persons", "rare"), ("persons", "absent"), ("persons", "rare")]
    assert targeted_columns(units_of(), keys) == ["persons|rare"]


@pytest.mark.parametrize("name", ["units", "elsewhere", "least_support"])
def test_sizes_are_not_negative(name):
    with pytest.raises(ValueError, match=name):
        ProfileCandidates(**{name: -1})
