"""Units that stand for several households: counted and sampled as if each household were there."""

import numpy as np
import pytest

from pipeline.sample import pums
from pipeline.sample.estimates import state_controls
from pipeline.sample.files import Folder
from pipeline.sample.population import build_population
from pipeline.sample.pums import write_pums
from pipeline.sample.residence import Residence, staying
from pipeline.sample.settings import small_settings
from pipeline.sample.surveys import Survey, draw


@pytest.fixture(scope="module")
def population():
    return build_population(small_settings())


def test_a_case_counts_as_often_as_it_says():
    lives = Residence(np.array([0, 2, 2]), np.array([1, 0, 1]), np.array([3, 1, 5]), 4, 2)
    x = np.array([10.0, 99.0, 1.0, 99.0])
    assert lives.by_tract(x).tolist() == [1.0, 35.0]
    assert lives.by_unit.tolist() == [3.0, 0.0, 6.0, 0.0]
    fewer = lives.left(np.array([0, 1, 2]))
    assert fewer.by_tract(x).tolist() == [1.0, 2.0] and len(fewer.unit) == 2


def test_households_of_a_case_stay_each_with_the_chance():
    rng = np.random.default_rng(1)
    times = rng.integers(1, 40, 20_000)
    for chance in (0.0, 0.3, 1.0):
        left = staying(rng, times, np.full(len(times), chance))
        assert ((left >= 0) & (left <= times)).all()
        error = (chance * (1 - chance) * times.sum()) ** 0.5
        assert abs(left.sum() - chance * times.sum()) <= 4 * error


def survey(population, unit, weight, copies):
    area = population.unit_tract[unit] % 3
    tract = population.unit_tract[unit]
    return Survey(population, unit, tract, weight, copies, area, 3, None, 1.0, 1.0)


def test_copies_in_one_case_are_what_as_many_cases_are(population):
    rng = np.random.default_rng(2)
    unit = np.sort(rng.choice(population.unit_count, 120, replace=False))
    copies = rng.integers(1, 6, len(unit))
    one = rng.uniform(1.0, 9.0, len(unit))
    together = survey(population, unit, one * copies, copies)
    apart = survey(
        population, np.repeat(unit, copies), np.repeat(one, copies), np.ones(copies.sum(), int)
    )
    size, income = population.unit_size, population.units["household_income"].astype(float)
    for made in (lambda s: s.total(size), lambda s: s.ratio(income, size.astype(float))):
        a, b = made(together), made(apart)
        np.testing.assert_allclose(a.value, b.value, rtol=1e-12)
        np.testing.assert_allclose(a.error, b.error, rtol=1e-12)


def test_a_median_weighs_persons_by_their_household(population):
    unit = np.array([3, 5, 8, 11, 20, 21])
    weight = np.array([1.0, 2.0, 3.0, 1.0, 1.0, 4.0])
    sample = survey(population, unit, weight, np.ones(len(unit), dtype=int))
    sample = Survey(**{**vars(sample), "area": np.zeros(len(unit), dtype=int), "areas": 1})
    age, of = population.persons["age"], population.persons["unit"]
    adult = age >= 18
    found = sample.median(age.astype(float), of, adult).value[0]
    rows = sorted(
        (float(a), float(w))
        for u, w in zip(unit, weight, strict=True)
        for a in age[(of == u) & adult]
    )
    values, weights = (np.array(each) for each in zip(*rows, strict=True))
    middle = (np.cumsum(weights) - 0.5 * weights) / weights.sum()
    # Persons of one age may stand in any order: the median lies between theirs.
    assert found == pytest.approx(np.interp(0.5, middle, values), abs=1.0)


def test_a_sample_of_copies_is_unbiased(population):
    times = np.full(population.unit_count, 7)
    drawn = draw(population.settings, times, 0.2, "a name of its own")
    assert drawn.weight.sum() == pytest.approx(times.sum(), rel=0.05)
    assert (drawn.copies <= times).all() and ((drawn.weight > 0) == (drawn.copies > 0)).all()


def test_microdata_do_not_depend_on_how_many_are_written_at_once(population, tmp_path, monkeypatch):
    weight = np.where(np.arange(population.unit_count) % 5 == 0, 5.0, 0.0)
    controls = state_controls(population)
    written = []
    for block in (10**6, 37):
        monkeypatch.setattr(pums, "_BLOCK", block)
        folder = Folder(tmp_path / str(block))
        write_pums(folder, population, weight, controls)
        written.append(folder.written)
    assert written[0] == written[1] and len(written[0]) == 4
