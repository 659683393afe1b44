"""Income in the past 12 months (S1901), as data.census.gov offers it and as an API group answers.

Belongs here: the four column groups of the table, its labels and open ends. Does not belong here:
detailed tables (``acs_files.py``), sampling.
"""

from __future__ import annotations

import numpy as np

from pipeline.sample.acs_columns import classes
from pipeline.sample.acs_numbers import MEDIAN_TOP, NO_ESTIMATE, NOT_APPLICABLE, number, percent
from pipeline.sample.acs_table_columns import S1901_UPPER, group_income, s1901_universes
from pipeline.sample.files import Folder
from pipeline.sample.population import Population
from pipeline.sample.surveys import Z90, Estimate, Survey, county_survey

S1901_GROUPS = ("Households", "Families", "Married-couple families", "Nonfamily households")
_S1901_CLASSES = (
    "Less than $10,000",
    "$10,000 to $14,999",
    "$15,000 to $24,999",
    "$25,000 to $34,999",
    "$35,000 to $49,999",
    "$50,000 to $74,999",
    "$75,000 to $99,999",
    "$100,000 to $149,999",
    "$150,000 to $199,999",
    "$200,000 or more",
)
_S1901_LABELS = (
    "Total",
    *(f"Total!!{label}" for label in _S1901_CLASSES),
    "Median income (dollars)",
    "Mean income (dollars)",
    "PERCENT ALLOCATED!!Household income in the past 12 months",
    "PERCENT ALLOCATED!!Family income in the past 12 months",
    "PERCENT ALLOCATED!!Nonfamily income in the past 12 months",
)

_CLASSES = len(_S1901_CLASSES)
# Rows; those from 13 are shares of imputed incomes.
_MEDIAN, _MEAN, _PUBLISHED = 11, 12, 13
_MARRIED = 2  # column group


def _groups(survey: Survey, income_factor: float) -> list[list[tuple[Estimate, int]]]:
    """For each of the four column groups the 13 published rows as (estimate, decimals)."""
    population = survey.population
    units = np.arange(population.unit_count)
    groups = []
    for universe, income in zip(
        s1901_universes(population), group_income(population, income_factor), strict=True
    ):
        total = survey.total(universe.astype(float))
        group = classes(income, S1901_UPPER)
        parts = (survey.total((universe & (group == i)).astype(float)) for i in range(_CLASSES))
        shares = [(Estimate(*percent(part, total)), 1) for part in parts]
        median = survey.median(income.astype(float), units, universe)
        mean = survey.ratio(income * universe, universe.astype(float))
        groups.append([(total, 0), *shares, (median, 0), (mean, 0)])
    return groups


def _cell(row: int, e: Estimate, decimals: int, area: int, blank: str) -> tuple[str, str]:
    if row == _MEDIAN and e.value[area] > MEDIAN_TOP:
        return "250,000+", "***"
    margin = max(Z90 * e.error[area], 10.0**-decimals)
    return number(e.value[area], decimals, blank), number(margin, decimals, blank)


def write_s1901_counties(folder: Folder, population: Population) -> None:
    """``ACSST5Y2022.S1901-Data.csv`` as data.census.gov offers it: every cell quoted, codes,
    labels, then counties, and a trailing comma.
    """
    g, settings = population.geography, population.settings
    counties, place = np.unique(g.county, return_inverse=True)
    survey = county_survey(population, place, len(counties))
    groups = _groups(survey, survey.income_factor)
    codes, labels = ["GEO_ID", "NAME"], ["Geography", "Geographic Area Name"]
    for c, title in enumerate(S1901_GROUPS, start=1):
        for r, label in enumerate(_S1901_LABELS, start=1):
            codes += [f"S1901_C{c:02d}_{r:03d}E", f"S1901_C{c:02d}_{r:03d}M"]
            labels += [f"Estimate!!{title}!!{label}", f"Margin of Error!!{title}!!{label}"]
    names = {c.fips: c.name for c in settings.counties}
    states = {s.fips: s.name for s in settings.states}
    allocated = settings.stream("allocated").uniform(32, 45, (len(counties), 3))
    lines = [codes, labels]
    for i, county in enumerate(counties):
        cells = [f"0500000US{county}", f"{names[county]}, {states[county[:2]]} {settings.label}"]
        for c, rows in enumerate(groups):
            for r, (e, decimals) in enumerate(rows):
                # The mean of married-couple families is not published.
                withheld = c == _MARRIED and r == _MEAN
                cells += ("N", "N") if withheld else _cell(r, e, decimals, i, "-")
            for k, own in enumerate((0, 1, 3)):
                cells += [f"{allocated[i, k]:.1f}" if c == own else "(X)", "(X)"]
        lines.append(cells)
    text = "".join(",".join(f'"{cell}"' for cell in line) + ",\n" for line in lines)
    folder.text(f"acs_tables/county_us/ACSST5Y{settings.year}.S1901-Data.csv", text)


def write_group_s1901(
    folder: Folder, path: str, survey: Survey, areas: list[tuple[str, str, str]], last: str
) -> None:
    """S1901 as an API group answer: rows vary slowest, then the four column groups; ``(X)``
    annotates what is not published. ``areas``: GEO_ID, name, and the code in column ``last``.
    """
    groups = _groups(survey, 1.0)
    names = [f"S1901_C{c:02d}_{r:03d}" for r in range(1, 17) for c in range(1, 5)]
    estimates = (f"{n}{s}" for n in names for s in ("E", "M"))
    annotations = (f"{n}{s}" for n in names for s in ("EA", "MA"))
    lines = [["GEO_ID", *estimates, "NAME", *annotations, last]]
    unpublished = 4 * (len(_S1901_LABELS) - _PUBLISHED)
    notes = ["null", "null"] * (4 * _PUBLISHED) + ["(X)", "(X)"] * unpublished
    for i, (geoid, name, code) in enumerate(areas):
        pairs = [_cell(r, *rows[r], i, NO_ESTIMATE) for r in range(_PUBLISHED) for rows in groups]
        cells = [_bare(text) for pair in pairs for text in pair]
        cells += [NOT_APPLICABLE, NOT_APPLICABLE] * unpublished
        lines.append([geoid, *cells, name, *notes, code])
    folder.text(path, "".join(",".join(line) + "\n" for line in lines))


def _bare(text: str) -> str:
    """A number without the marks of print."""
    return text.replace(",", "").removesuffix("+") if text[:1].isdigit() else text
