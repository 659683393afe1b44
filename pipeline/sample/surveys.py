"""Sampling: who answers a survey, with what weight, and what estimates and margins follow.

Belongs here: the probability samples behind the ACS tables and the microdata, estimates of totals,
ratios and medians by area, and their standard errors. Does not belong here: which column of which
table is which (``acs_columns.py``), file formats.

Every table of one survey comes from one set of unit weights, so its columns add up as published
ones do; two surveys are independent draws, so levels disagree as published ones do.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from pipeline.sample.population import Population

Z90 = 1.645


@dataclass(frozen=True)
class Estimate:
    """Estimates and standard errors by area, both of shape (areas,), in plain units."""

    value: np.ndarray
    error: np.ndarray


@dataclass(frozen=True)
class Survey:
    """A weighted sample of units. ``weight`` and ``area`` have one entry per unit of the population
    (weight 0: not sampled; area -1: outside).

    The design is Poisson sampling with unequal weights, so the variance of a total is estimated by
    the sum of w (w - 1) x^2 over the sampled units; with ``control`` (one group index per unit)
    weights were scaled to a known population and residuals replace x.
    """

    population: Population
    weight: np.ndarray
    area: np.ndarray
    areas: int
    control: np.ndarray | None
    zero_error: float
    income_factor: float

    @property
    def sampled(self) -> np.ndarray:
        return np.flatnonzero(self.weight > 0)

    def total(self, x: np.ndarray) -> Estimate:
        """Weighted total by area of a unit-level array ``x`` (units,)."""
        s = self.sampled
        s = s[self.area[s] >= 0]
        w, a, xs = self.weight[s], self.area[s], x[s].astype(float)
        value = np.bincount(a, weights=w * xs, minlength=self.areas)
        if self.control is not None:
            size = self.population.unit_size[s].astype(float)
            group = self.control[s]
            share = np.bincount(group, weights=w * xs) / np.maximum(
                np.bincount(group, weights=w * size), 1e-9
            )
            xs = xs - share[group] * size
        variance = np.bincount(
            a, weights=w * np.maximum(w - 1.0, 0.0) * xs**2, minlength=self.areas
        )
        return Estimate(value, np.where(value > 0, np.sqrt(variance), self.zero_error))

    def ratio(self, numerator: np.ndarray, denominator: np.ndarray) -> Estimate:
        """Ratio of two totals by area, with the linearised (Taylor) standard error; NaN where the
        denominator is zero.
        """
        s = self.sampled
        s = s[self.area[s] >= 0]
        w, a = self.weight[s], self.area[s]
        top, below = numerator[s].astype(float), denominator[s].astype(float)
        bottom = np.bincount(a, weights=w * below, minlength=self.areas)
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.bincount(a, weights=w * top, minlength=self.areas) / bottom
            residual = top - value[a] * below
            variance = (
                np.bincount(
                    a, weights=w * np.maximum(w - 1.0, 0.0) * residual**2, minlength=self.areas
                )
                / bottom**2
            )
        return Estimate(value, np.sqrt(variance))

    def median(self, values: np.ndarray, unit: np.ndarray, universe: np.ndarray) -> Estimate:
        """Weighted median by area of ``values`` for the elements in ``universe``; ``unit``
        (elements,) says whose weight each carries.

        Standard error by Woodruff: the quantiles at 0.5 plus and minus the standard error of the
        proportion. NaN below 5 sample cases.
        """
        keep = universe & (self.weight[unit] > 0) & (self.area[unit] >= 0)
        v, w, a = values[keep].astype(float), self.weight[unit[keep]], self.area[unit[keep]]
        order = np.lexsort((v, a))
        v, w, a = v[order], w[order], a[order]
        middle, error = np.full(self.areas, np.nan), np.full(self.areas, np.nan)
        edges = np.searchsorted(a, np.arange(self.areas + 1))
        for area, (lo, hi) in enumerate(itertools.pairwise(edges)):
            if hi - lo < 5:
                continue
            weights = w[lo:hi]
            position = (np.cumsum(weights) - 0.5 * weights) / weights.sum()
            se = 0.5 * np.sqrt((weights * np.maximum(weights - 1.0, 0.0)).sum()) / weights.sum()
            low, mid, high = np.interp([0.5 - se, 0.5, 0.5 + se], position, v[lo:hi])
            middle[area], error[area] = mid, 0.5 * (high - low)
        return Estimate(middle, error)


def draw_weights(
    population: Population, share: float, name: str, within: np.ndarray | None = None
) -> np.ndarray:
    """Poisson sample of units with probability ``share``; weights have mean 1/share among the
    sampled and vary by ``weight_cv``.

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
    g, settings, t = population.geography, population.settings, population.unit_tract
    weight = draw_weights(population, settings.surveys["acs_5yr_tracts"].share, "acs_5yr_tracts")
    factor = five_year_factor(population)
    size = population.unit_size
    truth = np.bincount(t, weights=size, minlength=g.count) * factor
    _, county = np.unique(g.county, return_inverse=True)
    weight = scale_to(weight * factor[t], county[t], size, np.bincount(county, weights=truth))
    only = np.where(g.tract == settings.controlled_tract, 1, 0)
    now = np.bincount(t, weights=weight * size, minlength=g.count)
    weight = weight * np.where(only == 1, np.round(truth) / np.maximum(now, 1e-9), 1.0)[t]
    return Survey(
        population,
        weight,
        t,
        g.count,
        None,
        settings.zero_margin["tract"] / Z90,
        settings.five_year_income_factor,
    )


def regroup(survey: Survey, tract_area: np.ndarray, areas: int, level: str) -> Survey:
    """The same sample tabulated by other areas: ``tract_area`` (tracts,) gives each tract's area
    index, -1 for none.
    """
    zero = survey.population.settings.zero_margin[level] / Z90
    control = (
        np.unique(survey.population.geography.county, return_inverse=True)[1][
            survey.population.unit_tract
        ]
        if survey.control is None
        else survey.control
    )
    return Survey(
        survey.population,
        survey.weight,
        tract_area[survey.population.unit_tract],
        areas,
        control,
        zero,
        survey.income_factor,
    )


def county_survey(population: Population, tract_area: np.ndarray, areas: int) -> Survey:
    """The five-year sample by county, drawn apart from the tracts' so that the levels disagree;
    county populations are controlled.
    """
    g, settings, t = population.geography, population.settings, population.unit_tract
    weight = draw_weights(
        population, settings.surveys["acs_5yr_counties"].share, "acs_5yr_counties"
    )
    factor, size = five_year_factor(population), population.unit_size
    truth = np.bincount(t, weights=size * factor[t], minlength=g.count)
    _, county = np.unique(g.county, return_inverse=True)
    weight = scale_to(weight * factor[t], county[t], size, np.bincount(county, weights=truth))
    return Survey(
        population,
        weight,
        tract_area[t],
        areas,
        county[t],
        settings.zero_margin["county"] / Z90,
        settings.five_year_income_factor,
    )


def one_year_weights(population: Population, controls: dict[str, int]) -> np.ndarray:
    """Weights of the one-year ACS, scaled to the official population estimate of every state
    (``controls``: state FIPS -> persons).
    """
    g, t = population.geography, population.unit_tract
    states = sorted(controls)
    index = np.array([states.index(s) for s in g.state])[t]
    weight = draw_weights(population, population.settings.surveys["acs_1yr"].share, "acs_1yr")
    return scale_to(
        weight, index, population.unit_size, np.array([controls[s] for s in states], dtype=float)
    )


def one_year_survey(
    population: Population, weight: np.ndarray, tract_area: np.ndarray, areas: int, level: str
) -> Survey:
    """The one-year ACS tabulated by ``tract_area``; ``level`` names the zero margin."""
    g, t = population.geography, population.unit_tract
    state = np.unique(g.state, return_inverse=True)[1][t]
    return Survey(
        population,
        weight,
        tract_area[t],
        areas,
        state,
        population.settings.zero_margin[level] / Z90,
        1.0,
    )
