"""The American Community Survey of the sample, in the publisher's four forms.

Belongs here: API JSON of tract profiles, table-based .dat, data.census.gov CSV of S1901, API group
CSV; sentinels and rounding. Does not belong here: what a column counts (``acs_columns.py``),
sampling (``surveys.py``).
"""

from __future__ import annotations

import io
import json

import numpy as np

from pipeline.sample.acs_columns import (
    DOLLAR_TABLES,
    ONE_YEAR_TABLES,
    S1901_UPPER,
    TRACT_TABLES,
    Column,
    Count,
    Median,
    Ratio,
    classes,
    detailed_columns,
    group_income,
    profile_columns,
    s1901_universes,
)
from pipeline.sample.files import Folder
from pipeline.sample.population import Population
from pipeline.sample.surveys import Z90, Estimate, Survey, county_survey, one_year_survey, regroup

NOT_APPLICABLE, NO_ESTIMATE, NO_MARGIN, OPEN_MARGIN, CONTROLLED = (
    "-888888888",
    "-666666666",
    "-222222222",
    "-333333333",
    "-555555555",
)
MEDIAN_TOP = 250000
_LARGE_GROUP, _GROUP_PART = 50, 34
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


def estimate(survey: Survey, column: Column) -> Estimate:
    """The survey's estimate of a column, before rounding."""
    if isinstance(column, Count):
        return survey.total(column.x)
    if isinstance(column, Ratio):
        made = survey.ratio(column.top, column.bottom)
        return Estimate(made.value * column.scale, made.error * column.scale)
    return survey.median(column.values, column.unit, column.universe)


def _number(value: float, decimals: int, missing: str) -> str:
    if not np.isfinite(value):
        return missing if decimals == 0 else f"{missing}.{'0' * decimals}"
    return f"{value:.{decimals}f}" if decimals else str(round(value))


def _percent(part: Estimate, base: Estimate) -> tuple[np.ndarray, np.ndarray]:
    """Share in percent and its standard error, by the Bureau's formula for proportions (for ratios
    where the root would be negative).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = part.value / base.value
        square = part.error**2 - (share * base.error) ** 2
        square = np.where(square < 0, part.error**2 + (share * base.error) ** 2, square)
        error = np.sqrt(square) / base.value
    return 100.0 * share, 100.0 * error


def _profile_cells(
    estimates: dict[str, Estimate], columns: dict[str, Column], survey: Survey
) -> dict[str, list[str]]:
    """Published text of every column and suffix E, M, PE, PM: lists with one entry per tract."""
    cells: dict[str, list[str]] = {}
    for code, column in columns.items():
        e = estimates[code]
        n = len(e.value)
        nothing = [NOT_APPLICABLE] * n
        if isinstance(column, Count):
            cells[f"{code}E"] = [str(round(v)) for v in e.value]
            cells[f"{code}M"] = [str(max(1, round(Z90 * s))) for s in e.error]
            if column.base is None:
                cells[f"{code}PE"], cells[f"{code}PM"] = cells[f"{code}E"], nothing
            else:
                share, error = _percent(e, estimates[column.base])
                cells[f"{code}PE"] = [_number(v, 1, NO_ESTIMATE) for v in share]
                cells[f"{code}PM"] = [
                    _number(max(Z90 * s, 0.1), 1, NO_MARGIN) if np.isfinite(v) else f"{NO_MARGIN}.0"
                    for v, s in zip(share, error, strict=True)
                ]
        elif isinstance(column, Ratio):
            value = [_number(v, column.decimals, NO_ESTIMATE) for v in e.value]
            margin = [_number(Z90 * s, column.decimals, NO_MARGIN) for s in e.error]
            empty = (
                (value, margin, nothing, nothing)
                if not column.percent_only
                else (nothing, nothing, value, margin)
            )
            cells |= dict(
                zip((f"{code}{suffix}" for suffix in ("E", "M", "PE", "PM")), empty, strict=True)
            )
        else:
            open_end = column.decimals == 0 and code == "DP03_0062"
            top = open_end & (e.value > MEDIAN_TOP)
            cells[f"{code}E"] = [
                str(MEDIAN_TOP + 1) if t else _number(v, column.decimals, NO_ESTIMATE)
                for v, t in zip(e.value, top, strict=True)
            ]
            cells[f"{code}M"] = [
                OPEN_MARGIN if t else _number(Z90 * s, column.decimals, NO_MARGIN)
                for s, t in zip(e.error, top, strict=True)
            ]
            cells[f"{code}PE"], cells[f"{code}PM"] = nothing, nothing
    return cells


def _add_vacant(
    population: Population, estimates: dict[str, Estimate], columns: dict[str, Column]
) -> None:
    """Vacant units: a true number a tract, an estimate with the sampling error of households, and
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
    for code, share, base in (("DP04_0004", 0.12, "DP04_0046"), ("DP04_0005", 0.25, "DP04_0047")):
        with np.errstate(divide="ignore", invalid="ignore"):
            value = 100.0 * share * vacant / (estimates[base].value + share * vacant)
        margin = 100.0 * share * error / np.maximum(estimates[base].value, 1.0)
        estimates[code] = Estimate(value, np.where(np.isfinite(value), margin, np.nan))
    empty = np.zeros(population.unit_count)
    columns["DP04_0001"] = Count(empty)
    columns["DP04_0002"], columns["DP04_0003"] = (
        Count(empty, "DP04_0001"),
        Count(empty, "DP04_0001"),
    )
    columns["DP04_0004"] = columns["DP04_0005"] = Ratio(empty, empty, 1)


def write_tract_profiles(folder: Folder, population: Population, survey: Survey) -> None:
    """``tracts_acs2022_{pophousing,socialecon}_retrieved_data.json`` for every state: a JSON list
    of lists of strings, header first.
    """
    g, settings = population.geography, population.settings
    columns = profile_columns(population, survey.income_factor)
    estimates = {code: estimate(survey, column) for code, column in columns.items()}
    _add_vacant(population, estimates, columns)
    cells = _profile_cells(estimates, columns, survey)
    controlled = np.flatnonzero(g.tract == settings.controlled_tract)
    for code in ("DP05_0001", "DP05_0033", "DP05_0072"):
        for i in controlled:
            cells[f"{code}M"][i] = CONTROLLED
    for state in settings.states:
        rows = np.flatnonzero(g.state == state.fips)
        rows = rows[np.argsort(g.tract[rows])]
        for part, tables in (("pophousing", ("DP04", "DP05")), ("socialecon", ("DP02", "DP03"))):
            names = [
                f"{code}{suffix}"
                for code in sorted(columns)
                if code[:4] in tables
                for suffix in ("E", "M", "PE", "PM")
            ]
            table = [["GEO_ID", "NAME", *names]] + [
                [f"1400000US{g.tract[i]}", str(g.name[i]), *(cells[n][i] for n in names)]
                for i in rows
            ]
            folder.text(
                f"acs_tables/{state.postal.lower()}_tracts/tracts_acs{settings.year}_{part}_retrieved_data.json",
                json.dumps(table),
            )


def _table_cells(
    survey: Survey, table: str, income_factor: float
) -> tuple[list[str], list[list[tuple[str, str]]]]:
    """Column codes, and for each the (estimate, margin) texts by area."""
    columns = detailed_columns(survey.population, table, income_factor)
    rounding = 100 if table in DOLLAR_TABLES else 1
    texts = []
    for column in columns.values():
        e = estimate(survey, column)
        missing = isinstance(column, Median)
        value = [_number(v / rounding, 0, NO_ESTIMATE) for v in e.value]
        margin = [_number(Z90 * s, 0, NO_MARGIN) for s in e.error]
        if rounding > 1:
            value = [v + "00" if v != "0" else v for v in value]
        texts.append(
            list(
                zip(
                    value,
                    margin if missing else [max(m, "1") if m == "0" else m for m in margin],
                    strict=True,
                )
            )
        )
    return list(columns), texts


def write_table_based(folder: Folder, population: Population, survey: Survey) -> None:
    """``acsdt5y2022-b19001.dat`` and the like: nation, states, counties and tracts of the five-year
    sample, pipe separated, no names.
    """
    g, settings = population.geography, population.settings
    blocks: list[tuple[list[str], Survey, bool]] = []
    states = sorted({str(s) for s in g.state})
    counties = sorted({str(c) for c in g.county})
    blocks.append((["0100000US"], regroup(survey, np.zeros(g.count, dtype=int), 1, "nation"), True))
    blocks.append(
        (
            [f"0400000US{s}" for s in states],
            regroup(survey, np.array([states.index(s) for s in g.state]), len(states), "state"),
            True,
        )
    )
    blocks.append(
        (
            [f"0500000US{c}" for c in counties],
            regroup(
                survey, np.array([counties.index(c) for c in g.county]), len(counties), "county"
            ),
            True,
        )
    )
    order = np.argsort(g.tract)
    rank = np.empty(g.count, dtype=int)
    rank[order] = np.arange(g.count)
    blocks.append(
        ([f"1400000US{t}" for t in g.tract[order]], regroup(survey, rank, g.count, "tract"), False)
    )
    for table in TRACT_TABLES:
        lines: list[str] = []
        for geoids, level, controlled in blocks:
            codes, texts = _table_cells(level, table, survey.income_factor)
            if not lines:
                lines.append(
                    "|".join(
                        ["GEO_ID", *(f"{c[:-3]}{s}{c[-3:]}" for c in codes for s in ("E", "M"))]
                    )
                )
            for i, geoid in enumerate(geoids):
                fixed = controlled and table == "B01001"
                pairs = [
                    (e, CONTROLLED) if fixed and j == 0 else (e, m)
                    for j, (e, m) in enumerate(t[i] for t in texts)
                ]
                lines.append("|".join([geoid, *(cell for pair in pairs for cell in pair)]))
        folder.text(
            f"acs_tables/table_based/acsdt5y{settings.year}-{table.lower()}.dat",
            "\n".join(lines) + "\n",
        )


def write_group_csv(folder: Folder, population: Population, weight: np.ndarray) -> None:
    """``acs-acs1-2022-GROUP_<table>_DATA.csv`` by state and for the nation: GEO_ID, E and M, NAME,
    EA and MA ("null"), state or us.

    Populations of states are controlled to the official estimates: margin -555555555, annotation
    ``*****``.
    """
    g, settings = population.geography, population.settings
    states = sorted({str(s) for s in g.state})
    names = {s.fips: f"{s.name} {settings.label}" for s in settings.states}
    levels = [
        (
            "bystate",
            "state",
            [(f"0400000US{s}", names[s], s) for s in states],
            one_year_survey(
                population,
                weight,
                np.array([states.index(s) for s in g.state]),
                len(states),
                "state",
            ),
        ),
        (
            "us",
            "us",
            [("0100000US", f"United States {settings.label}", "1")],
            one_year_survey(population, weight, np.zeros(g.count, dtype=int), 1, "nation"),
        ),
    ]
    for folder_name, last, areas, survey in levels:
        base = f"acs_tables/state_us_{settings.year}_1yr/{folder_name}"
        for table in ONE_YEAR_TABLES:
            codes, texts = _table_cells(survey, table, 1.0)
            fixed = {0} if table in ("B01001", "B03002") else set()
            # The published B17001 was fetched in two parts, the second written first: readers must
            # go by name.
            split = _GROUP_PART if len(codes) > _LARGE_GROUP else len(codes)
            first, second = range(split), range(split, len(codes))
            head = (
                [f"{codes[j]}{s}" for j in second for s in ("E", "M")]
                + ["GEO_ID"]
                + [f"{codes[j]}{s}" for j in first for s in ("E", "M")]
            )
            out = io.StringIO()
            out.write(
                ",".join([*head, "NAME", *(f"{c}{s}" for c in codes for s in ("EA", "MA")), last])
                + "\n"
            )
            for i, (geoid, name, code) in enumerate(areas):
                pairs = [
                    (t[i][0], CONTROLLED if j in fixed else t[i][1]) for j, t in enumerate(texts)
                ]
                cells = (
                    [cell for j in second for cell in pairs[j]]
                    + [geoid]
                    + [cell for j in first for cell in pairs[j]]
                )
                notes = [
                    note
                    for j in range(len(codes))
                    for note in ("null", "*****" if j in fixed else "null")
                ]
                out.write(",".join([*cells, name, *notes, code]) + "\n")
            folder.text(f"{base}/acs-acs1-{settings.year}-GROUP_{table}_DATA.csv", out.getvalue())
        _write_group_s1901(
            folder,
            f"{base}/acs-acs1-subject-{settings.year}-GROUP_S1901_DATA.csv",
            survey,
            areas,
            last,
        )


def _s1901(survey: Survey, income_factor: float) -> list[list[tuple[Estimate, int]]]:
    """For each of the four column groups the 16 rows as (estimate, decimals); rows 014 to 016 are
    the shares of imputed incomes.
    """
    population = survey.population
    groups = []
    for universe, income in zip(
        s1901_universes(population), group_income(population, income_factor), strict=True
    ):
        total = survey.total(universe.astype(float))
        rows = [(total, 0)]
        group = classes(income, S1901_UPPER)
        for i in range(len(S1901_UPPER) + 1):
            share, error = _percent(survey.total((universe & (group == i)).astype(float)), total)
            rows.append((Estimate(share, error), 1))
        rows.append(
            (survey.median(income.astype(float), np.arange(population.unit_count), universe), 0)
        )
        rows.append((survey.ratio(income * universe, universe.astype(float)), 0))
        groups.append(rows)
    return groups


def _s1901_cell(
    group: int, row: int, e: Estimate, decimals: int, area: int, blank: str
) -> tuple[str, str]:
    value, margin = (
        _number(e.value[area], decimals, blank),
        _number(max(Z90 * e.error[area], 10.0**-decimals), decimals, blank),
    )
    if row == 11 and e.value[area] > MEDIAN_TOP:
        return "250,000+", "***"
    if group == 2 and row == 12:
        return "N", "N"  # the mean of married-couple families is not published
    return value, margin


def write_s1901_counties(folder: Folder, population: Population) -> None:
    """``ACSST5Y2022.S1901-Data.csv`` as data.census.gov offers it: every cell quoted, codes,
    labels, then counties, and a trailing comma.
    """
    g, settings = population.geography, population.settings
    counties = sorted({str(c) for c in g.county})
    survey = county_survey(
        population, np.array([counties.index(c) for c in g.county]), len(counties)
    )
    groups = _s1901(survey, survey.income_factor)
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
                cells += _s1901_cell(c, r, e, decimals, i, "-")
            for k, own in enumerate((0, 1, 3)):
                cells += [f"{allocated[i, k]:.1f}" if c == own else "(X)", "(X)"]
        lines.append(cells)
    text = "".join(",".join(f'"{cell}"' for cell in line) + ",\n" for line in lines)
    folder.text(f"acs_tables/county_us/ACSST5Y{settings.year}.S1901-Data.csv", text)


def _write_group_s1901(
    folder: Folder, path: str, survey: Survey, areas: list[tuple[str, str, str]], last: str
) -> None:
    """S1901 as an API group answer: rows vary slowest, then the four column groups; ``(X)``
    annotates what is not published.
    """
    groups = _s1901(survey, 1.0)
    names = [f"S1901_C{c:02d}_{r:03d}" for r in range(1, 17) for c in range(1, 5)]
    lines = [
        ",".join(
            [
                "GEO_ID",
                *(f"{n}{s}" for n in names for s in ("E", "M")),
                "NAME",
                *(f"{n}{s}" for n in names for s in ("EA", "MA")),
                last,
            ]
        )
    ]
    for i, (geoid, name, code) in enumerate(areas):
        cells: list[str] = []
        notes: list[str] = []
        for r in range(16):
            for c in range(4):
                published = r < 13
                pair = (
                    _s1901_cell(-1, r, *groups[c][r], i, NO_ESTIMATE)
                    if published
                    else (NOT_APPLICABLE, NOT_APPLICABLE)
                )
                cells += [
                    p.replace(",", "").removesuffix("+") if p[:1].isdigit() else p for p in pair
                ]
                notes += ["null", "null"] if published else ["(X)", "(X)"]
        lines.append(",".join([geoid, *cells, name, *notes, code]))
    folder.text(path, "\n".join(lines) + "\n")


def write_acs_tables(
    folder: Folder, population: Population, tracts: Survey, one_year: np.ndarray
) -> None:
    """All ACS tables of the sample: five-year tracts and counties, one-year states and nation."""
    write_tract_profiles(folder, population, tracts)
    write_table_based(folder, population, tracts)
    write_s1901_counties(folder, population)
    write_group_csv(folder, population, one_year)
