"""Detailed tables of the American Community Survey, in two of the publisher's forms, and all forms.

Belongs here: the table-based .dat, the API group CSV, and the order in which ACS files are written.
Does not belong here: profiles (``acs_profile_files.py``), S1901 (``acs_s1901.py``), what a column
counts (``acs_table_columns.py``), sampling (``surveys.py``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from pipeline.sample.acs_columns import Median
from pipeline.sample.acs_numbers import CONTROLLED, NO_ESTIMATE, NO_MARGIN, estimate, number
from pipeline.sample.acs_profile_files import write_tract_profiles
from pipeline.sample.acs_s1901 import write_group_s1901, write_s1901_counties
from pipeline.sample.acs_table_columns import (
    DOLLAR_TABLES,
    ONE_YEAR_TABLES,
    TRACT_TABLES,
    detailed_columns,
)
from pipeline.sample.files import Folder
from pipeline.sample.population import Population
from pipeline.sample.surveys import Z90, Draw, Survey, one_year_survey, regroup

_LARGE_GROUP, _GROUP_PART = (
    50,
    34,
)  # columns from which a group was fetched in two parts, and the first's


Area = tuple[str, str, str]
"""GEO_ID, name, and the code in the last column."""


def _table_texts(
    survey: Survey, table: str, income_factor: float
) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """Column codes, and for each area the (estimate, margin) texts by column."""
    columns = detailed_columns(survey.population, table, income_factor)
    rounding = 100 if table in DOLLAR_TABLES else 1
    by_column = []
    for column in columns.values():
        e = estimate(survey, column)
        value = [number(v / rounding, 0, NO_ESTIMATE) for v in e.value]
        margin = [number(Z90 * s, 0, NO_MARGIN) for s in e.error]
        if rounding > 1:
            value = [v + "00" if v != "0" else v for v in value]
        if not isinstance(column, Median):
            margin = ["1" if m == "0" else m for m in margin]
        by_column.append(list(zip(value, margin, strict=True)))
    return list(columns), [list(texts) for texts in zip(*by_column, strict=True)]


def _controlled(texts: list[tuple[str, str]], columns: Collection[int]) -> list[tuple[str, str]]:
    """The texts of one area with the margin of ``columns`` replaced by "controlled"."""
    return [(e, CONTROLLED if j in columns else m) for j, (e, m) in enumerate(texts)]


def write_table_based(folder: Folder, population: Population, survey: Survey) -> None:
    """``acsdt5y2022-b19001.dat`` and the like: nation, states, counties and tracts of the five-year
    sample, pipe separated, no names.
    """
    g, settings = population.geography, population.settings
    codes_of = {"0100000US nation": np.full(g.count, ""), "0400000US state": g.state}
    codes_of |= {"0500000US county": g.county, "1400000US tract": g.tract}
    blocks = []
    for name, code in codes_of.items():
        prefix, level = name.split()
        areas, place = np.unique(code, return_inverse=True)
        sample = regroup(survey, place, len(areas), level)
        blocks.append(([f"{prefix}{area}" for area in areas], sample, level != "tract"))
    for table in TRACT_TABLES:
        lines: list[str] = []
        for geoids, sample, controlled in blocks:
            codes, texts = _table_texts(sample, table, sample.income_factor)
            if not lines:
                names = [f"{c[:-3]}{s}{c[-3:]}" for c in codes for s in ("E", "M")]
                lines.append("|".join(["GEO_ID", *names]))
            fixed = {0} if controlled and table == "B01001" else set()
            for geoid, of_area in zip(geoids, texts, strict=True):
                pairs = _controlled(of_area, fixed)
                lines.append("|".join([geoid, *(cell for pair in pairs for cell in pair)]))
        name = f"acsdt5y{settings.year}-{table.lower()}.dat"
        folder.text(f"acs_tables/table_based/{name}", "\n".join(lines) + "\n")


def _group_csv(
    codes: list[str],
    texts: list[list[tuple[str, str]]],
    areas: list[Area],
    fixed: set[int],
    last: str,
) -> Iterator[str]:
    """The lines of one group: estimates and margins, GEO_ID among them, NAME, annotations, code.

    The published B17001 was fetched in two parts, the second written first: readers must go by
    name.
    """
    split = _GROUP_PART if len(codes) > _LARGE_GROUP else len(codes)
    second, first = range(split, len(codes)), range(split)

    def around(texts: list[list[str]], geoid: str) -> list[str]:
        cells = [[cell for j in part for cell in texts[j]] for part in (second, first)]
        return [*cells[0], geoid, *cells[1]]

    names = [[f"{c}E", f"{c}M"] for c in codes]
    annotations = [f"{c}{s}" for c in codes for s in ("EA", "MA")]
    yield ",".join([*around(names, "GEO_ID"), "NAME", *annotations, last])
    notes = [
        note for j in range(len(codes)) for note in ("null", "*****" if j in fixed else "null")
    ]
    for (geoid, name, code), of_area in zip(areas, texts, strict=True):
        pairs = [list(pair) for pair in _controlled(of_area, fixed)]
        yield ",".join([*around(pairs, geoid), name, *notes, code])


def write_group_csv(folder: Folder, population: Population, drawn: Draw) -> None:
    """``acs-acs1-2022-GROUP_<table>_DATA.csv`` by state and for the nation: GEO_ID, E and M, NAME,
    EA and MA ("null"), state or us.

    Populations of states are controlled to the official estimates: margin -555555555, annotation
    ``*****``.
    """
    g, settings = population.geography, population.settings
    fips, place = np.unique(g.state, return_inverse=True)
    names = {s.fips: f"{s.name} {settings.label}" for s in settings.states}
    states = [(f"0400000US{s}", names[s], str(s)) for s in fips]
    nation = [("0100000US", f"United States {settings.label}", "1")]
    by_state = one_year_survey(population, drawn, place, len(fips), "state")
    whole = one_year_survey(population, drawn, np.zeros(g.count, dtype=int), 1, "nation")
    levels = (("bystate", "state", states, by_state), ("us", "us", nation, whole))
    for folder_name, last, areas, survey in levels:
        base = f"acs_tables/state_us_{settings.year}_1yr/{folder_name}/acs-acs1"
        for table in ONE_YEAR_TABLES:
            codes, texts = _table_texts(survey, table, 1.0)
            fixed = {0} if table in ("B01001", "B03002") else set()
            lines = _group_csv(codes, texts, areas, fixed, last)
            content = "".join(f"{line}\n" for line in lines)
            folder.text(f"{base}-{settings.year}-GROUP_{table}_DATA.csv", content)
        subject = f"{base}-subject-{settings.year}-GROUP_S1901_DATA.csv"
        write_group_s1901(folder, subject, survey, areas, last)


def write_acs_tables(
    folder: Folder, population: Population, tracts: Survey, one_year: Draw
) -> None:
    """All ACS tables of the sample: five-year tracts and counties, one-year states and nation."""
    write_tract_profiles(folder, population, tracts)
    write_table_based(folder, population, tracts)
    write_s1901_counties(folder, population)
    write_group_csv(folder, population, one_year)
