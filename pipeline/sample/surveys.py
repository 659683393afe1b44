"""Sampling: who answers a survey, with what weight, and what estimates and margins follow.

Belongs here: the probability samples behind the ACS tables and the microdata, estimates of totals,
ratios and medians by area, and their standard errors. Does not belong here: which column of which
table is which (``acs_columns.py``), file formats.

Every table of one survey comes from one set of unit weights, so its columns add up as published
ones do; two surveys are independent draws, so levels disagree as published ones do.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from pipeline.sample.population import Population
from pipeline.sample.residence import staying
from pipeline.sample.settings import SampleSettings

Z90 = 1.645


@dataclass(frozen=True)
class Estimate:
    """Estimates and standard errors by area, both of shape (areas,), in plain units."""

    value: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Draw:
    """Who answers a survey, one entry per case of the population's residence: ``copies``, how many
    of its households answer, and ``weight``, what they stand for together (0: nobody answers).
    """

    weight: np.ndarray
    copies: np.ndarray


@dataclass(frozen=True)
class Survey:
    """A weighted sample of households, one entry per case that answers: ``unit`` of the population,
    ``tract``, ``area`` (-1: outside), ``weight`` and ``copies`` as in ``Draw``.

    The design is Poisson sampling with unequal weights, so the variance of a total is estimated by
    the sum of w (w - 1) x^2 over the sampled households; with ``control`` (a group index per case)
    weights were scaled to a known population and residuals replace x.
    """

    population: Population
    unit: np.ndarray
    tract: np.ndarray
    weight: np.ndarray
    copies: np.ndarray
    area: np.ndarray
    areas: int
    control: np.ndarray | None
    zero_error: float
    income_factor: float

    @property
    def _inside(self) -> np.ndarray:
        return np.flatnonzero(self.area >= 0)

    def _spread(self, s: np.ndarray) -> np.ndarray:
        """w (w - 1) of one household, summed over those of each case."""
        w = self.weight[s]
        return w * np.maximum(w / self.copies[s] - 1.0, 0.0)

    def total(self, x: np.ndarray) -> Estimate:
        """Weighted total by area of a unit-level array ``x`` (units,)."""
        s = self._inside
        w, a, unit = self.weight[s], self.area[s], self.unit[s]
        xs = x[unit].astype(float)
        value = np.bincount(a, weights=w * xs, minlength=self.areas)
        if self.control is not None:
            size = self.population.unit_size[unit].astype(float)
            group = self.control[s]
            share = np.bincount(group, weights=w * xs) / np.maximum(
                np.bincount(group, weights=w * size), 1e-9
            )
            xs = xs - share[group] * size
        variance = np.bincount(a, weights=self._spread(s) * xs**2, minlength=self.areas)
        return Estimate(value, np.where(value > 0, np.sqrt(variance), self.zero_error))

    def ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> Estimate:
        """Ratio of two totals by area, with the linearised (Taylor) standard error; NaN where the
        denominator is zero.
        """
        s = self._inside
        w, a, unit = self.weight[s], self.area[s], self.unit[s]
        top, below = numerator[unit].astype(float), denominator[unit].astype(float)
        bottom = np.bincount(a, weights=w * below, minlength=self.areas)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.bincount(a, weights=w * top, minlength=self.areas) / bottom
            residual = top - value[a] * below
            squares = np.bincount(a, weights=self._spread(s) * residual**2, minlength=self.areas)
            variance = squares / bottom**2
        return Estimate(value, np.sqrt(variance))

    def median(self, values: np.ndarray, unit: np.ndarray, universe: np.ndarray) -> Estimate:
        """Weighted median by area of ``values`` for the elements in ``universe``; ``unit``
        (elements,), ascending, says whose weight each carries.

        Standard error by Woodruff: the quantiles at 0.5 plus and minus the standard error of the
        proportion. NaN below 5 sample cases.
        """
        s, keep = self._inside, np.flatnonzero(universe)
        element, case = _elements(unit[keep], self.unit[s])
        v, a = values[keep][element].astype(float), self.area[s][case]
        w, copies = self.weight[s][case], self.copies[s][case]
        order = np.lexsort((v, a))
        v, w, a, copies = v[order], w[order], a[order], copies[order]
        middle, error = np.full(self.areas, np.nan), np.full(self.areas, np.nan)
        edges = np.searchsorted(a, np.arange(self.areas + 1))
        for area, (lo, hi) in enumerate(itertools.pairwise(edges)):
            if hi - lo < 5:
                continue
            weights, one = w[lo:hi], w[lo:hi] / copies[lo:hi]
            position = (np.cumsum(weights) - 0.5 * weights) / weights.sum()
            se = 0.5 * np.sqrt((weights * np.maximum(one - 1.0, 0.0)).sum()) / weights.sum()
            low, mid, high = np.interp([0.5 - se, 0.5, 0.5 + se], position, v[lo:hi])
            middle[area], error[area] = mid, 0.5 * (high - low)
        return Estimate(middle, error)


def _elements(of: np.ndarray, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Elements of every case: places in ``of`` (unit of each element, ascending) and, for each, the
    place of its case in ``units`` (cases,).
    """
    first, after = np.searchsorted(of, units, "left"), np.searchsorted(of, units, "right")
    count = after - first
    case = np.repeat(np.arange(len(units)), count)
    before = np.cumsum(count) - count
    return first[case] + np.arange(len(case)) - before[case], case


def draw(settings: SampleSettings, times: np.ndarray, share: float, name: str) -> Draw:
    """Poisson sample of households with probability ``share``: of each case ``times`` (cases,)
    households are there. Weights have mean 1/share among the sampled and vary by ``weight_cv``.
    """
    rng = settings.stream(f"survey:{name}")
    shape = 1.0 / settings.weight_cv**2
    jitter = rng.gamma(shape, 1.0 / shape, len(times))
    copies = staying(rng, times, np.full(len(times), share))
    return Draw(np.maximum(jitter / share, 1.0) * copies, copies)


def draw_weights(
    population: Population, share: float, name: str, within: np.ndarray | None = None
) -> np.ndarray:
    """Weights (units,) of a sample of units, each taken once; 0 where not sampled.

    ``within`` (bool, units) confines the draw to a first-phase sample; ``share`` stays the overall
    probability.
    """
    settings = population.settings
    rng = settings.stream(f"survey:{name}")
    n = population.unit_count
    shape = 1.0 / settings.weight_cv**2
    jitter = rng.gamma(shape, 1.0 / shape, n)
    drawn = rng.random(n) < (share if within is None else share / within.mean())
    if within is not None:
        drawn &= within
    return np.where(drawn, np.maximum(jitter / share, 1.0), 0.0)


def _tabulated(
    population: Population,
    drawn: Draw,
    tract_area: np.ndarray,
    areas: int,
    control: np.ndarray | None,
    zero_error: float,
    income_factor: float,
) -> Survey:
    """The cases that answer, by ``tract_area`` (tracts,); ``control`` (tracts,) or None."""
    s = np.flatnonzero(drawn.weight > 0)
    unit, tract = population.residence.unit[s], population.residence.tract[s]
    return Survey(
        population,
        unit,
        tract,
        drawn.weight[s],
        drawn.copies[s],
        tract_area[tract],
        areas,
        None if control is None else control[tract],
        zero_error,
        income_factor,
    )


def scale_to(
    weight: np.ndarray, group: np.ndarray, size: np.ndarray, totals: np.ndarray
) -> np.ndarray:
    """Scale weights so that persons (``size`` per unit) add up to ``totals`` in every group; groups
    without a sample are left alone.
    """
    now = np.bincount(group, weights=weight * size, minlength=len(totals))
    return weight * np.where(now > 0, totals / np.maximum(now, 1e-9), 1.0)[group]


def year_factor(population: Population, years: float) -> np.ndarray:
    """Population of each tract ``years`` before the settings' date (mid-2022), as a share of the
    population now, shape (tracts,).
    """
    return (1.0 + population.geography.growth) ** -years


def five_year_factor(population: Population) -> np.ndarray:
    """What the five-year tables stand for: mid-2020, a small deviation of each tract, and the
    tracts that changed fast.
    """
    g, settings = population.geography, population.settings
    own = np.exp(settings.stream("five_year_drift").normal(0.0, 0.004, g.count))
    odd = np.array([settings.odd_tracts.get(t, 1.0) for t in g.tract])
    own = np.where(g.tract == settings.controlled_tract, 1.0, own)
    return year_factor(population, 2.0) * own * odd


def tract_survey(population: Population) -> Survey:
    """The five-year sample by tract. County populations are controlled; so is the one tract that
    ``controlled_tract`` names.
    """
    g, settings, t = population.geography, population.settings, population.residence.tract
    drawn = _five_year(population, "acs_5yr_tracts")
    truth = population.by_tract(population.unit_size) * five_year_factor(population)
    only = np.where(g.tract == settings.controlled_tract, 1, 0)
    size = population.unit_size[population.residence.unit]
    now = np.bincount(t, weights=drawn.weight * size, minlength=g.count)
    weight = drawn.weight * np.where(only == 1, np.round(truth) / np.maximum(now, 1e-9), 1.0)[t]
    return _tabulated(
        population,
        Draw(weight, drawn.copies),
        np.arange(g.count),
        g.count,
        None,
        settings.zero_margin["tract"] / Z90,
        settings.five_year_income_factor,
    )


def _five_year(population: Population, name: str) -> Draw:
    """The five-year sample ``name``, its weights scaled to the population of every county."""
    g, settings, t = population.geography, population.settings, population.residence.tract
    drawn = draw(settings, population.residence.times, settings.surveys[name].share, name)
    factor = five_year_factor(population)
    truth = population.by_tract(population.unit_size) * factor
    _, county = np.unique(g.county, return_inverse=True)
    size = population.unit_size[population.residence.unit]
    totals = np.bincount(county, weights=truth)
    return Draw(scale_to(drawn.weight * factor[t], county[t], size, totals), drawn.copies)


def regroup(survey: Survey, tract_area: np.ndarray, areas: int, level: str) -> Survey:
    """The same sample tabulated by other areas: ``tract_area`` (tracts,) gives each tract's area
    index, -1 for none.
    """
    zero = survey.population.settings.zero_margin[level] / Z90
    control = survey.control
    if control is None:
        county = np.unique(survey.population.geography.county, return_inverse=True)[1]
        control = county[survey.tract]
    area = tract_area[survey.tract]
    return replace(survey, area=area, areas=areas, control=control, zero_error=zero)


def county_survey(population: Population, tract_area: np.ndarray, areas: int) -> Survey:
    """The five-year sample by county, drawn apart from the tracts' so that the levels disagree;
    county populations are controlled.
    """
    settings = population.settings
    return _tabulated(
        population,
        _five_year(population, "acs_5yr_counties"),
        tract_area,
        areas,
        np.unique(population.geography.county, return_inverse=True)[1],
        settings.zero_margin["county"] / Z90,
        settings.five_year_income_factor,
    )


def one_year_draw(population: Population, controls: dict[str, int]) -> Draw:
    """The one-year ACS, its weights scaled to the official population estimate of every state
    (``controls``: state FIPS -> persons).
    """
    settings, lives = population.settings, population.residence
    states = sorted(controls)
    index = np.array([states.index(s) for s in population.geography.state])[lives.tract]
    drawn = draw(settings, lives.times, settings.surveys["acs_1yr"].share, "acs_1yr")
    totals = np.array([controls[s] for s in states], dtype=float)
    size = population.unit_size[lives.unit]
    return Draw(scale_to(drawn.weight, index, size, totals), drawn.copies)


def one_year_survey(
    population: Population, drawn: Draw, tract_area: np.ndarray, areas: int, level: str
) -> Survey:
    """The one-year ACS tabulated by ``tract_area``; ``level`` names the zero margin."""
    return _tabulated(
        population,
        drawn,
        tract_area,
        areas,
        np.unique(population.geography.state, return_inverse=True)[1],
        population.settings.zero_margin[level] / Z90,
        1.0,
    )
