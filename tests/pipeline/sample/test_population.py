"""The population: size, geography, differences between tracts, and what must never happen in it."""

import numpy as np
import polars as pl
import pytest

from pipeline.sample.composition import RELATIONSHIPS
from pipeline.sample.generate import read_truth


@pytest.fixture(scope="module")
def truth(folder):
    return read_truth(folder)


def test_the_population_has_the_size_that_was_asked_for(manifest, truth):
    assert 60_000 < manifest.counts["persons"] < 80_000
    assert 25_000 < manifest.counts["households"] < 31_000
    per_tract = truth.persons.group_by("tract").len()["len"]
    assert per_tract.min() > 900
    assert per_tract.max() < 2_300
    assert manifest.counts["tracts"] == manifest.counts["tracts_with_people"] + 1 == 46


def test_tracts_lie_in_real_counties_and_pumas_nest_in_counties(population, settings):
    g = population.geography
    assert {c.fips for c in settings.counties} == {
        "44001",
        "44003",
        "44005",
        "44007",
        "44009",
        "10001",
        "10003",
        "10005",
    }
    assert len(set(g.tract)) == len(g.tract)
    assert all(len(t) == 11 and t.startswith(c) for t, c in zip(g.tract, g.county, strict=True))
    # A PUMA may hold two small counties whole, as Bristol and Newport share one; it never splits a
    # county with another PUMA's people mixed in.
    for county in set(g.county):
        pumas = set(g.puma[g.county == county])
        others = {
            str(c)
            for c in set(g.county)
            if c != county and set(g.puma[(g.county == c)]) & pumas and c[:2] == county[:2]
        }
        assert len(pumas) == 1 or not others


def test_tracts_differ_enough_to_make_matching_them_a_task(truth):
    by = truth.persons.group_by("tract").agg(
        (pl.col("age") >= 65).mean().alias("old"),
        pl.col("hispanic").mean(),
        (pl.col("school") == "college").mean().alias("students"),
        (pl.col("poverty_ratio") < 100).mean().alias("poor"),
    )
    for column, low, high in (
        ("old", 0.06, 0.40),
        ("hispanic", 0.06, 0.50),
        ("students", 0.05, 0.35),
        ("poor", 0.08, 0.28),
    ):
        assert by[column].min() < low
        assert by[column].max() > high
    income = (
        truth.households.filter(~pl.col("is_group_quarters"))
        .group_by("tract")
        .agg(pl.col("household_income").median())["household_income"]
    )
    assert income.max() > 2.2 * income.min()


def test_incomes_are_alike_among_neighbours(truth):
    """Affluence is shared within a county: the spread between county means exceeds what shuffled
    tracts would give.
    """
    by = (
        truth.households.filter(~pl.col("is_group_quarters"))
        .group_by("tract", "county_fips")
        .agg(pl.col("household_income").mean().log().alias("y"))
        .sort("tract")
    )
    y, county = by["y"].to_numpy(), by["county_fips"].to_numpy()

    def spread(labels: np.ndarray) -> float:
        return float(
            np.sum(
                [
                    (labels == c).sum() * (y[labels == c].mean() - y.mean()) ** 2
                    for c in np.unique(county)
                ]
            )
        )

    rng = np.random.default_rng(0)
    shuffled = [spread(rng.permutation(county)) for _ in range(400)]
    assert spread(county) > np.quantile(shuffled, 0.80)


def test_households_are_possible(population):
    s, p = population.skeleton, population.persons
    heads = np.bincount(s.unit[s.relationship == 0], minlength=population.unit_count)
    assert (heads[population.is_household] == 1).all()
    assert (heads[~population.is_household] == 0).all()
    assert (population.unit_size[~population.is_household] == 1).all()
    head_age = s.age[population.head][s.unit]
    child = s.relationship == RELATIONSHIPS.index("child")
    assert (s.age[child] <= head_age[child] - 15).all()
    assert s.age.min() == 0
    assert s.age.max() <= 110
    assert (p["school"][s.age < 3] == -1).all()
    assert (p["employment"][s.age < 16] == -1).all()
    assert (p["schl"][s.age < 18] <= 15).all()
    assert (p["wages"][s.age < 16] == 0).all()
    for name in (
        "wages",
        "social_security",
        "ssi",
        "retirement",
        "unemployment_compensation",
        "public_assistance",
    ):
        assert (p[name] >= 0).all()


def test_rates_are_those_of_a_plausible_country(truth):
    people, homes = truth.persons, truth.households.filter(~pl.col("is_group_quarters"))
    shares = people.select(
        old=(pl.col("age") >= 65).mean(),
        minor=(pl.col("age") < 18).mean(),
        disabled=pl.col("disability").mean(),
        employed=(pl.col("employment") == "employed").sum() / (pl.col("age") >= 16).sum(),
        poor=(pl.col("poverty_ratio") < 100).mean(),
        ssi=(pl.col("ssi") > 0).mean(),
        gq=pl.col("is_group_quarters").mean(),
    ).row(0, named=True)
    ranges = {
        "old": (0.15, 0.26),
        "minor": (0.17, 0.25),
        "disabled": (0.10, 0.18),
        "employed": (0.5, 0.66),
        "poor": (0.09, 0.18),
        "ssi": (0.008, 0.03),
        "gq": (0.02, 0.05),
    }
    assert all(low < shares[name] < high for name, (low, high) in ranges.items()), shares
    assert 55_000 < homes["household_income"].median() < 85_000
    assert 0.58 < (homes["tenure"] == "owner").mean() < 0.75
    assert 2.2 < people.filter(~pl.col("is_group_quarters")).height / homes.height < 2.7
