"""Social Security Administration workbooks of the sample, in the publisher's sheet layout.

Belongs here: SSI and OASDI recipients by county and state (December), the yearly state table of
SSI. Rounding and suppression. Does not belong here: who receives what (``income.py``).

The agency counts what no survey asks: benefits of children under 15, and payments in December
rather than over the year. ``(X)`` marks a cell withheld; where one age group would follow from the
others a second is withheld too.
"""

from __future__ import annotations

import numpy as np

from pipeline.sample.files import Cell, Folder, workbook_bytes
from pipeline.sample.income import OASDI_TYPES
from pipeline.sample.population import Population

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
_SSI_HEAD = ["Total", "Aged", "Blind and disabled", "Under 18", "18–64", "65 or older"]
_OASDI_HEAD = [
    "Total",
    "Workers",
    "Spouses",
    "Children",
    "Widow(er)s and parents",
    "Children",
    "Workers",
    "Spouses",
    "Children",
    "Men",
    "Women",
]
_OASDI_GROUPS: list[Cell] = [
    None,
    "Retirement",
    None,
    None,
    "Survivors",
    None,
    "Disability",
    None,
    None,
    "Aged 65 or older",
    None,
]


def _by_county(
    population: Population, mask: np.ndarray, weights: np.ndarray | None = None
) -> dict[str, float]:
    g = population.geography
    tract = population.unit_tract[population.persons["unit"]]
    total = np.bincount(
        tract[mask], weights=None if weights is None else weights[mask], minlength=g.count
    )
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


def _withhold(cells: list[Cell]) -> list[Cell]:
    """Withhold SSI counts below ten (not zero), and a second one of the same split so that the
    first cannot be had by difference.
    """
    out = list(cells)
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


def _footnotes(year: int, kind: str) -> list[list[Cell]]:
    return [
        [],
        [
            "SOURCE: SYNTHETIC. Made by the geocal sample generator in the layout of the Social"
            " Security Administration; no agency published these figures."
        ],
        [
            f"NOTES: {kind} ANSI = American National Standards Institute; (X) = suppressed to avoid"
            f" disclosing information about particular individuals; December {year}."
        ],
        ["CONTACT: none."],
    ]


def write_ssi_workbook(folder: Folder, population: Population) -> None:
    """``ssi_sc22.xlsx``: Tables 1 (recipients) and 2 (payments, $1,000) by state, and "Table 3 -
    <State>" by county.
    """
    settings = population.settings
    year, label = settings.year, settings.label
    counts = ssi_counts(population)
    states = sorted(settings.states, key=lambda s: s.name)
    by_state = {name: _states(population, counts[name]) for name in SSI_COLUMNS}
    thousand = {s.fips: round(by_state["ssi_payments_month"][s.fips] / 1000.0) for s in states}

    def row(code: str) -> list[Cell]:
        source = counts if len(code) == 5 else by_state
        return [round(source[name][code]) for name in SSI_COLUMNS[:7]]

    table1: list[list[Cell]] = [
        [
            "Table 1. Number of SSI recipients by state, eligibility category and age,"
            f" December\u00a0{year} {label}"
        ],
        ["State or area", "Total", "Category", None, "Age"],
    ]
    table1 += [
        [None, *_SSI_HEAD, "SSI recipients also receiving OASDI"],
        ["All areas", *(sum(v) for v in zip(*(row(s.fips) for s in states), strict=True))],
    ]
    table1 += [[s.name, *row(s.fips)] for s in states]
    table2: list[list[Cell]] = [
        [
            f"Table 2. Amount of SSI payments by state, December\u00a0{year} (thousands of dollars)"
            f" {label}"
        ],
        ["State or area", "Total", "Category", None, "Age"],
        [None, *_SSI_HEAD],
    ]
    pay = _payments_by_group(population)
    rows = {
        s.fips: [thousand[s.fips], *(round(pay[k][s.fips] / 1000.0) for k in range(5))]
        for s in states
    }
    table2 += [
        ["All areas", *(sum(v) for v in zip(*rows.values(), strict=True))],
        *([s.name, *rows[s.fips]] for s in states),
    ]
    sheets = {
        "Table 1": [*table1, *_footnotes(year, "Recipients.")],
        "Table 2": [*table2, *_footnotes(year, "Payments.")],
    }
    for state in states:
        sheet: list[list[Cell]] = [
            [
                "Table 3. Number of SSI recipients by county, eligibility category and age, and"
                f" amount of payments, December\u00a0{year}: {state.name} {label}"
            ]
        ]
        sheet += [
            [
                "County",
                None,
                "ANSI code",
                "Total",
                "Category",
                None,
                "Age",
                None,
                None,
                "SSI recipients also receiving OASDI",
                "Amount of payments (thousands of dollars)",
            ]
        ]
        sheet += [[None, None, None, None, *_SSI_HEAD[1:]], []]
        sheet += [
            [None, f"Total, {state.name}", int(state.fips), *row(state.fips), thousand[state.fips]]
        ]
        for county in sorted(
            (c for c in settings.counties if c.fips[:2] == state.fips), key=lambda c: c.name
        ):
            sheet.append(
                [
                    county.name.removesuffix(" County"),
                    None,
                    int(county.fips),
                    *_withhold(row(county.fips)),
                    round(counts["ssi_payments_month"][county.fips] / 1000.0),
                ]
            )
        sheets[f"Table 3 - {state.name}"] = [
            *sheet,
            *_footnotes(
                year, "County payments do not add up to the state total because of rounding."
            ),
        ]
    folder.write(
        f"ssa/ssi_sc{year % 100:02d}.xlsx",
        workbook_bytes(sheets, f"SSI Recipients by State and County, {year} {label}"),
    )


def _payments_by_group(population: Population) -> list[dict[str, float]]:
    p, a = population.persons, population.persons["age"]
    paid = (p["ssi"] > 0) & (population.settings.stream("ssi_december").random(len(a)) < 0.97)
    aged = paid & (a >= 65) & ~p["disability"]
    masks = (aged, paid & ~aged, paid & (a < 18), paid & (a >= 18) & (a < 65), paid & (a >= 65))
    return [_states(population, _by_county(population, mask, p["ssi"] / 12.0)) for mask in masks]


def write_oasdi_workbook(folder: Folder, population: Population) -> None:
    """``oasdi_sc22.xlsx``: Tables 1 to 3 by state, "Table 4 - <State>" persons and "Table 5 -
    <State>" amounts ($1,000 a month) by county.
    """
    settings = population.settings
    year, label = settings.year, settings.label
    persons, amounts = oasdi_counts(population)
    states = sorted(settings.states, key=lambda s: s.name)

    def head(code: str) -> list[Cell]:
        source = (
            persons
            if len(code) == 5
            else {n: _states(population, persons[n]) for n in OASDI_COLUMNS}
        )
        return [5 * round(source[n][code] / 5.0) for n in OASDI_COLUMNS]

    def money(code: str) -> list[Cell]:
        source = (
            amounts
            if len(code) == 5
            else {n: _states(population, amounts[n]) for n in OASDI_COLUMNS}
        )
        values = [source[n][code] / 1000.0 for n in OASDI_COLUMNS]
        return ["a" if 0 < v < 0.5 else round(v) for v in values]

    def total(rows: list[list[Cell]]) -> list[Cell]:
        return [
            sum(v for v in column if not isinstance(v, str)) for column in zip(*rows, strict=True)
        ]

    size = np.bincount(
        population.unit_tract, weights=population.unit_size, minlength=population.geography.count
    )
    sheet1: list[list[Cell]] = [
        [
            "Table 1. OASDI beneficiaries as a share of the population by state,"
            f" December\u00a0{year} {label}"
        ],
        ["State or area", "Residents", "Beneficiaries", "Percent"],
        [],
    ]
    for state in states:
        residents = int(size[population.geography.state == state.fips].sum())
        count = head(state.fips)[0]
        sheet1.append([state.name, residents, count, round(100.0 * count / residents, 1)])
    sheets = {"Table 1": sheet1}
    for number, title, make in (
        (2, "Number of beneficiaries", head),
        (3, "Amount of monthly benefits (thousands of dollars)", money),
    ):
        rows = [make(s.fips) for s in states]
        sheet: list[list[Cell]] = [
            [f"Table {number}. {title} by state and type of benefit, December\u00a0{year} {label}"],
            ["State or area", *_OASDI_GROUPS],
            [None, *_OASDI_HEAD],
        ]
        sheet += [
            ["All areas", *total(rows)],
            *([s.name, *r] for s, r in zip(states, rows, strict=True)),
        ]
        sheets[f"Table {number}"] = [*sheet, *_footnotes(year, "a = Less than $500.")]
    for number, title, make in (
        (4, "Number of beneficiaries", head),
        (5, "Amount of monthly benefits (thousands of dollars)", money),
    ):
        for state in states:
            sheet = [
                [
                    f"Table {number}. {title} by county and type of benefit, December\u00a0{year}:"
                    f" {state.name} {label}"
                ],
                [],
            ]
            sheet += [
                ["County", None, "ANSI code", *_OASDI_GROUPS],
                [None, None, None, *_OASDI_HEAD],
                [None, f"Total, {state.name}", int(state.fips), *make(state.fips)],
            ]
            for county in sorted(
                (c for c in settings.counties if c.fips[:2] == state.fips), key=lambda c: c.name
            ):
                sheet.append(
                    [
                        county.name.removesuffix(" County"),
                        None,
                        int(county.fips),
                        *make(county.fips),
                    ]
                )
            sheets[f"Table {number} - {state.name}"] = [
                *sheet,
                *_footnotes(year, "a = Less than $500."),
            ]
    folder.write(
        f"ssa/oasdi_sc{year % 100:02d}.xlsx",
        workbook_bytes(sheets, f"OASDI Beneficiaries by State and County, {year} {label}"),
    )


def write_ssi_states(folder: Folder, population: Population) -> None:
    """``ssi_table_7b1_2024.csv``: recipients and the year's payments by state and category, two
    years after the sample's year.

    Recipients fell by 1.5 %, payments rose with the cost-of-living adjustments of 8.7 % (2023) and
    3.2 % (2024).
    """
    settings, p = population.settings, population.persons
    paid, aged = p["ssi"] > 0, (p["ssi"] > 0) & (p["age"] >= 65) & ~p["disability"]
    blind = paid & ~aged & (np.arange(len(p["age"])) % 97 == 0)
    masks = {"total": paid, "aged": aged, "blind": blind, "disabled": paid & ~aged & ~blind}
    lines = [
        "area_id,area_name,geography_id,geography_level,geography_name,ssi_category,recipient_count,payment_thousands"
    ]
    rows: dict[str, dict[str, tuple[int, int]]] = {}
    for name, mask in masks.items():
        heads, money = (
            _states(population, _by_county(population, mask)),
            _states(population, _by_county(population, mask, p["ssi"].astype(float))),
        )
        for fips in heads:
            rows.setdefault(fips, {})[name] = (
                round(0.985 * heads[fips]),
                round(0.985 * 1.087 * 1.032 * money[fips] / 1000.0),
            )
    whole = {
        name: (sum(r[name][0] for r in rows.values()), sum(r[name][1] for r in rows.values()))
        for name in masks
    }
    lines += [
        f"all_areas,All areas {settings.label},0100000US,country,United States"
        f" {settings.label},{n},{c},{m}"
        for n, (c, m) in whole.items()
    ]
    for state in sorted(settings.states, key=lambda s: s.name):
        area = (
            f"{state.name.lower().replace(' ', '_')},{state.name}"
            f" {settings.label},0400000US{state.fips},state,{state.name} {settings.label}"
        )
        lines += [f"{area},{n},{c},{m}" for n, (c, m) in rows[state.fips].items()]
    folder.text("ssa/ssi_table_7b1_2024.csv", "\n".join(lines) + "\n")
