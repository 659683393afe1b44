"""Social Security Administration workbooks of the sample, in the publisher's sheet layout.

Belongs here: SSI and OASDI recipients by county and state (December). Rounding and suppression.
Does not belong here: who receives what (``income.py``).

A table of states has three label columns, as SSA's own have: A for a state, B for an outlying area
(the sample has none), C for "All areas". A county sheet has the county in A, the state's total in B
and the ANSI code in C. Title, two rows of headings, figures, two blank rows, notes.

The agency counts what no survey asks: benefits of children under 15, and payments in December
rather than over the year. ``(X)`` marks a cell withheld; where one age group would follow from the
others a second is withheld too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pipeline.sample.files import Cell, Folder, workbook_bytes
from pipeline.sample.income import OASDI_TYPES
from pipeline.sample.population import Population
from pipeline.sample.settings import CountySetting, StateSetting

SSI_COLUMNS = (
    "ssi_total",
    "ssi_aged",
    "ssi_blind_disabled",
    "ssi_under_18",
    "ssi_18_64",
    "ssi_65_older",
    "ssi_and_oasdi",
    "ssi_payments_month",
)
OASDI_COLUMNS = (
    "persons_oasdi",
    "persons_ret_workers",
    "ret_spouses",
    "ret_children",
    "surv_widows_parents",
    "surv_children",
    "di_workers",
    "di_spouses",
    "di_children",
    "oasdi_65_older_men",
    "oasdi_65_older_women",
)
WITHHELD = "(X)"
_THRESHOLD = 10
_ORDER = (
    "retired_worker",
    "retired_spouse",
    "retired_child",
    "widow",
    "surviving_child",
    "disabled_worker",
    "disabled_spouse",
    "disabled_child",
)
_SSI_GROUPS: list[Cell] = ["Total", "Category", None, "Age", None, None]
_SSI_HEAD: list[Cell] = [None, "Aged", "Blind and disabled", "Under 18", "18–64", "65 or older"]
_OASDI_GROUPS: list[Cell] = [
    *("Total", "Retirement", None, None, "Survivors", None),
    *("Disability", None, None, "Aged 65 or older", None),
]
_OASDI_HEAD: list[Cell] = [
    *(None, "Retired workers", "Spouses", "Children", "Widow(er)s and parents", "Children"),
    *("Disabled workers", "Spouses", "Children", "Men", "Women"),
]
Rows = list[list[Cell]]


def _by_county(
    population: Population, mask: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float]:
    g = population.geography
    held = (
        population.count_by_unit(mask) if weights is None else population.sum_by_unit(weights, mask)
    )
    total = population.by_tract(held)
    return {c.fips: float(total[g.county == c.fips].sum()) for c in population.settings.counties}


def ssi_counts(population: Population) -> dict[str, dict[str, float]]:
    """Exact December counts (persons) and payments (usd per month) by county: {column: {county:
    value}}. 3 % left the rolls within the year.
    """
    p = population.persons
    paid = (p["ssi"] > 0) & (
        population.settings.stream("ssi_december").random(len(p["age"])) < 0.97
    )
    a = p["age"]
    aged = paid & (a >= 65) & ~p["disability"]
    masks = (
        paid,
        aged,
        paid & ~aged,
        paid & (a < 18),
        paid & (a >= 18) & (a < 65),
        paid & (a >= 65),
        paid & (p["social_security"] > 0),
    )
    made = {
        name: _by_county(population, mask) for name, mask in zip(SSI_COLUMNS, masks, strict=False)
    }
    return made | {"ssi_payments_month": _by_county(population, paid, p["ssi"] / 12.0)}


def oasdi_counts(
    population: Population,
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, float]]]:
    """Exact December beneficiaries (persons) and monthly amounts (usd) by county. 2 % of the year's
    beneficiaries are gone by December.
    """
    p = population.persons
    paid = (p["oasdi_type"] > 0) & (
        population.settings.stream("oasdi_december").random(len(p["age"])) < 0.98
    )
    kinds = [paid & (p["oasdi_type"] == OASDI_TYPES.index(k)) for k in _ORDER]
    old = paid & (p["age"] >= 65)
    masks = [paid, *kinds, old & ~p["female"], old & p["female"]]
    month = p["social_security"] / 12.0
    persons = {n: _by_county(population, m) for n, m in zip(OASDI_COLUMNS, masks, strict=True)}
    return persons, {
        n: _by_county(population, m, month) for n, m in zip(OASDI_COLUMNS, masks, strict=True)
    }


def _states(population: Population, by_county: dict[str, float]) -> dict[str, float]:
    return {
        s.fips: sum(v for c, v in by_county.items() if c[:2] == s.fips)
        for s in population.settings.states
    }


def _withhold(cells: list[int]) -> list[Cell]:
    """Withhold SSI counts below ten (not zero), and a second one of the same split so that the
    first cannot be had by difference.
    """
    out: list[Cell] = list(cells)
    for first, last in ((1, 3), (3, 6)):
        small = [i for i in range(first, last) if 0 < cells[i] < _THRESHOLD]
        if len(small) == 1:
            others = [i for i in range(first, last) if i not in small]
            small.append(min(others, key=lambda i: cells[i]))
        for i in small:
            out[i] = WITHHELD
    if 0 < cells[6] < _THRESHOLD:
        out[6] = WITHHELD
    return out


def _footnotes(year: int, kind: str, publication: str) -> Rows:
    return [
        [],
        [],
        [
            "SOURCE: SYNTHETIC. Made by the geocal sample generator in the layout of the Social "
            "Security Administration; no agency published these figures."
        ],
        [
            "NOTES: ANSI = American National Standards Institute; (X) = suppressed to avoid "
            "disclosing information about particular individuals."
        ],
        ["a.", kind],
        ["CONTACT: none."],
        [],
        [f"File made by:\nthe geocal sample generator\n{publication}, {year} SYNTHETIC"],
    ]


def _state_sheet(
    title: str, heads: tuple[list[Cell], list[Cell]], rows: Mapping[str, Sequence[Cell]]
) -> Rows:
    """A table of states: "All areas" in column C, then a state per row in column A."""
    columns = zip(*rows.values(), strict=True)
    whole = [sum(v for v in column if isinstance(v, int | float)) for column in columns]
    return [
        [title],
        ["State or area", None, None, *heads[0]],
        [None, None, None, *heads[1]],
        [None, None, "All areas", *whole],
        *([name, None, None, *figures] for name, figures in rows.items()),
    ]


def _county_sheet(
    state: StateSetting,
    title: str,
    heads: tuple[list[Cell], list[Cell]],
    total: Sequence[Cell],
    counties: Mapping[CountySetting, Sequence[Cell]],
) -> Rows:
    """A county sheet: the state's name, the title, the headings, the state's total,
    the counties.
    """
    return [
        [f"{state.name}"],
        [title],
        ["County", None, "ANSI Code", *heads[0]],
        [None, None, None, *heads[1]],
        [None, f"Total, {state.name}", int(state.fips), *total],
        *(
            [county.name.removesuffix(" County"), None, int(county.fips), *figures]
            for county, figures in counties.items()
        ),
    ]


def _counties(population: Population, state: StateSetting) -> list[CountySetting]:
    inside = (c for c in population.settings.counties if c.fips[:2] == state.fips)
    return sorted(inside, key=lambda county: county.name)


def write_ssi_workbook(folder: Folder, population: Population) -> None:
    """``ssi_sc22.xlsx``, whose sheets are ``ssi_sheets``."""
    settings = population.settings
    title = f"SSI Recipients by State and County, {settings.year} {settings.label}"
    path = f"ssa/ssi_sc{settings.year % 100:02d}.xlsx"
    folder.write(path, workbook_bytes(ssi_sheets(population), title))


def write_oasdi_workbook(folder: Folder, population: Population) -> None:
    """``oasdi_sc22.xlsx``, whose sheets are ``oasdi_sheets``."""
    settings = population.settings
    title = f"OASDI Beneficiaries by State and County, {settings.year} {settings.label}"
    path = f"ssa/oasdi_sc{settings.year % 100:02d}.xlsx"
    folder.write(path, workbook_bytes(oasdi_sheets(population), title))


def ssi_sheets(population: Population) -> dict[str, Rows]:
    """Tables 1 (recipients) and 2 (December payments, $1,000) by state, and "Table 3 - <State>" by
    county."""
    settings = population.settings
    year, label = settings.year, settings.label
    publication = "SSI Recipients by State and County"
    counts = ssi_counts(population)
    states = sorted(settings.states, key=lambda s: s.name)
    by_state = {name: _states(population, counts[name]) for name in SSI_COLUMNS}
    grouped = [by_state["ssi_payments_month"], *_payments_by_group(population)]
    payments = {s.fips: [round(each[s.fips] / 1000.0) for each in grouped] for s in states}
    month, receipt = f"December\u00a0{year}", "SSI recipients also receiving OASDI"

    def row(code: str) -> list[int]:
        source = counts if len(code) == 5 else by_state
        return [round(source[name][code]) for name in SSI_COLUMNS[:7]]

    table1 = _state_sheet(
        "Table 1.\nNumber of recipients by state or other area, eligibility category, age, and "
        f"receipt of OASDI benefits, {month} {label}",
        ([*_SSI_GROUPS, receipt], [*_SSI_HEAD, None]),
        {s.name: row(s.fips) for s in states},
    )
    table2 = _state_sheet(
        "Table 2.\nAmount of payments, by state or other area, eligibility category, and age, "
        f"{month} {label}\n(in thousands of dollars)",
        (_SSI_GROUPS, _SSI_HEAD),
        {s.name: payments[s.fips] for s in states},
    )
    rounded = "The state payment total does not equal the sum of the rounded county totals."
    notes = _footnotes(year, rounded, publication)
    sheets = {"Table 1": [*table1, *notes], "Table 2": [*table2, *notes]}
    amount = "Amount of payments (thousands of dollars) a"
    for state in states:
        paid = counts["ssi_payments_month"]
        sheet = _county_sheet(
            state,
            "Table 3.\nNumber of recipients in state (by eligibility category, age, and receipt of "
            f"OASDI benefits) and amount of payments, by county, {month} {label}",
            ([*_SSI_GROUPS, receipt, amount], [*_SSI_HEAD, None, None]),
            [*row(state.fips), payments[state.fips][0]],
            {
                county: [*_withhold(row(county.fips)), round(paid[county.fips] / 1000.0)]
                for county in _counties(population, state)
            },
        )
        sheets[f"Table 3 - {state.name}"] = [*sheet, *notes]
    return sheets


def _payments_by_group(population: Population) -> list[dict[str, float]]:
    p, a = population.persons, population.persons["age"]
    paid = (p["ssi"] > 0) & (population.settings.stream("ssi_december").random(len(a)) < 0.97)
    aged = paid & (a >= 65) & ~p["disability"]
    masks = (aged, paid & ~aged, paid & (a < 18), paid & (a >= 18) & (a < 65), paid & (a >= 65))
    return [_states(population, _by_county(population, mask, p["ssi"] / 12.0)) for mask in masks]


def oasdi_sheets(population: Population) -> dict[str, Rows]:
    """Tables 1 to 3 by state, "Table 4 - <State>" persons and "Table 5 - <State>" amounts ($1,000 a
    month) by county."""
    settings = population.settings
    year, label = settings.year, settings.label
    publication = "OASDI Beneficiaries by State and County"
    persons, amounts = oasdi_counts(population)
    states = sorted(settings.states, key=lambda s: s.name)
    month = f"December\u00a0{year}"
    heads = (_OASDI_GROUPS, _OASDI_HEAD)

    def head(code: str) -> list[int]:
        source = persons if len(code) == 5 else _by_states(population, persons)
        return [5 * round(source[n][code] / 5.0) for n in OASDI_COLUMNS]

    def money(code: str) -> list[Cell]:
        source = amounts if len(code) == 5 else _by_states(population, amounts)
        values = [source[n][code] / 1000.0 for n in OASDI_COLUMNS]
        return ["a" if 0 < v < 0.5 else round(v) for v in values]

    notes = _footnotes(year, "Less than $500.", publication)
    sheets = {"Table 1": [*_share_sheet(population, head, month), *notes]}
    measures: tuple[tuple[str, str, Callable[[str], Sequence[Cell]]], ...] = (
        ("Number of beneficiaries", "", head),
        ("Amount of benefits", "\n(in thousands of dollars)", money),
    )
    kind = (
        "in current-payment status, by {area}, type of benefit, and sex of beneficiaries aged 65 "
    )
    for number, (what, unit, make) in zip((2, 3), measures, strict=True):
        words = kind.format(area="state or other area")
        title = f"Table {number}.\n{what} {words}or older, {month} {label}{unit}"
        by_name = {s.name: make(s.fips) for s in states}
        sheets[f"Table {number}"] = [*_state_sheet(title, heads, by_name), *notes]
    for number, (what, unit, make) in zip((4, 5), measures, strict=True):
        words = kind.format(area="county")
        title = f"Table {number}.\n{what} {words}or older, {month} {label}{unit}"
        for state in states:
            by_county = {county: make(county.fips) for county in _counties(population, state)}
            sheet = _county_sheet(state, title, heads, make(state.fips), by_county)
            sheets[f"Table {number} - {state.name}"] = [*sheet, *notes]
    return sheets


def _by_states(population: Population, counts: dict[str, dict[str, float]]) -> dict[str, dict]:
    return {name: _states(population, counts[name]) for name in counts}


def _share_sheet(population: Population, head: Callable[[str], list[int]], month: str) -> Rows:
    """Table 1 of OASDI: residents and beneficiaries of each state."""
    g = population.geography
    size = population.by_tract(population.unit_size)
    rows: Rows = [
        [
            "Table 1.\nNumber of beneficiaries as a share of the population, by state or other "
            f"area, {month} {population.settings.label}"
        ],
        ["State or area", None, None, "Resident population", "Beneficiaries", "Percent"],
        [],
    ]
    for state in sorted(population.settings.states, key=lambda s: s.name):
        residents = int(size[g.state == state.fips].sum())
        count = head(state.fips)[0]
        share = round(100.0 * count / residents, 1)
        rows.append([state.name, None, None, residents, count, share])
    return rows
