"""Tract profiles as the Census API answers: JSON lists of texts, header first.

Belongs here: the text of every column and suffix, and vacant units, which are no persons' homes.
Does not belong here: what a column counts (``acs_profile_columns.py``), other forms
(``acs_files.py``).
"""

from __future__ import annotations

import json

import numpy as np

from pipeline.sample.acs_columns import Column, Count, Ratio
from pipeline.sample.acs_numbers import (
    CONTROLLED,
    MEDIAN_TOP,
    NO_ESTIMATE,
    NO_MARGIN,
    NOT_APPLICABLE,
    OPEN_MARGIN,
    estimate,
    number,
    percent,
)
from pipeline.sample.acs_profile_columns import profile_columns
from pipeline.sample.files import Folder
from pipeline.sample.population import Population
from pipeline.sample.surveys import Z90, Estimate, Survey

SUFFIXES = ("E", "M", "PE", "PM")
_OPEN_ENDED = "DP03_0062"
_PARTS = {"pophousing": ("DP04", "DP05"), "socialecon": ("DP02", "DP03")}
# Share of vacant units, base: homeowner and rental vacancy rates.
_VACANCY_RATES = {"DP04_0004": (0.12, "DP04_0046"), "DP04_0005": (0.25, "DP04_0047")}

_Texts = tuple[list[str], list[str], list[str], list[str]]


def _count_texts(e: Estimate, base: Estimate | None) -> _Texts:
    value = [str(round(v)) for v in e.value]
    margin = [str(max(1, round(Z90 * s))) for s in e.error]
    if base is None:
        return value, margin, value, [NOT_APPLICABLE] * len(value)
    share, error = percent(e, base)
    margin_of_share = [
        number(max(Z90 * s, 0.1) if np.isfinite(v) else np.nan, 1, NO_MARGIN)
        for v, s in zip(share, error, strict=True)
    ]
    return value, margin, [number(v, 1, NO_ESTIMATE) for v in share], margin_of_share


def _texts(code: str, column: Column, estimates: dict[str, Estimate]) -> _Texts:
    """Published text of one column for the suffixes E, M, PE, PM: lists, one entry per tract."""
    e = estimates[code]
    if isinstance(column, Count):
        return _count_texts(e, estimates[column.base] if column.base else None)
    nothing = [NOT_APPLICABLE] * len(e.value)
    value = [number(v, column.decimals, NO_ESTIMATE) for v in e.value]
    margin = [number(Z90 * s, column.decimals, NO_MARGIN) for s in e.error]
    if isinstance(column, Ratio) and column.percent_only:
        return nothing, nothing, value, margin
    if code == _OPEN_ENDED:
        for i in np.flatnonzero(e.value > MEDIAN_TOP):
            value[i], margin[i] = str(MEDIAN_TOP + 1), OPEN_MARGIN
    return value, margin, nothing, nothing


def _add_vacant(
    population: Population, estimates: dict[str, Estimate], columns: dict[str, Column]
) -> None:
    """Vacant units: a true number per tract, an estimate with the sampling error of households, and
    the two vacancy rates.
    """
    settings = population.settings
    rng = settings.stream("vacant")
    occupied = estimates["DP04_0045"]
    truth = rng.binomial(
        np.round(occupied.value / (1.0 - settings.vacant_share)).astype(int), settings.vacant_share
    )
    ratio = 1.0 / settings.surveys["acs_5yr_tracts"].share - 1.0
    vacant = np.maximum(np.round(truth + np.sqrt(ratio * truth) * rng.normal(size=len(truth))), 0.0)
    error = np.where(vacant > 0, np.sqrt(ratio * vacant), settings.zero_margin["tract"] / Z90)
    estimates["DP04_0003"] = Estimate(vacant, error)
    estimates["DP04_0001"] = Estimate(occupied.value + vacant, np.hypot(occupied.error, error))
    estimates["DP04_0002"] = occupied
    for code, (share, base) in _VACANCY_RATES.items():
        with np.errstate(divide="ignore", invalid="ignore"):
            value = 100.0 * share * vacant / (estimates[base].value + share * vacant)
        margin = 100.0 * share * error / np.maximum(estimates[base].value, 1.0)
        estimates[code] = Estimate(value, np.where(np.isfinite(value), margin, np.nan))
    empty = np.zeros(population.unit_count)
    columns["DP04_0001"] = Count(empty)
    columns["DP04_0002"] = columns["DP04_0003"] = Count(empty, "DP04_0001")
    columns["DP04_0004"] = columns["DP04_0005"] = Ratio(empty, empty, 1)


def write_tract_profiles(folder: Folder, population: Population, survey: Survey) -> None:
    """``tracts_acs2022_{pophousing,socialecon}_retrieved_data.json`` for every state: a JSON list
    of lists of strings, header first.
    """
    g, settings = population.geography, population.settings
    columns = profile_columns(population, survey.income_factor)
    estimates = {code: estimate(survey, column) for code, column in columns.items()}
    _add_vacant(population, estimates, columns)
    cells = {
        f"{code}{suffix}": texts
        for code, column in columns.items()
        for suffix, texts in zip(SUFFIXES, _texts(code, column, estimates), strict=True)
    }
    for code in ("DP05_0001", "DP05_0033", "DP05_0072"):
        for i in np.flatnonzero(g.tract == settings.controlled_tract):
            cells[f"{code}M"][i] = CONTROLLED
    for state in settings.states:
        rows = np.flatnonzero(g.state == state.fips)
        rows = rows[np.argsort(g.tract[rows])]
        place = f"acs_tables/{state.postal.lower()}_tracts/tracts_acs{settings.year}"
        for part, tables in _PARTS.items():
            codes = [code for code in sorted(columns) if code[:4] in tables]
            names = [f"{code}{suffix}" for code in codes for suffix in SUFFIXES]
            table = [["GEO_ID", "NAME", *names]] + [
                [f"1400000US{g.tract[i]}", str(g.name[i]), *(cells[n][i] for n in names)]
                for i in rows
            ]
            folder.text(f"{place}_{part}_retrieved_data.json", json.dumps(table))
