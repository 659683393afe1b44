"""Population estimates and the tract-to-PUMA lists of the sample.

Belongs here: ``co-est2024-alldata.csv`` with its components of change, the relationship files of
2010 and 2020. Does not belong here: the tables that are controlled to these estimates.
"""

from __future__ import annotations

import numpy as np

from pipeline.sample.files import Folder
from pipeline.sample.population import Population

YEARS = (2020, 2021, 2022, 2023, 2024)
_COMPONENTS = (
    "NPOPCHG",
    "BIRTHS",
    "DEATHS",
    "NATURALCHG",
    "INTERNATIONALMIG",
    "DOMESTICMIG",
    "NETMIG",
    "RESIDUAL",
)


def county_estimates(population: Population) -> dict[str, np.ndarray]:
    """Estimated persons of each county on 1 July 2020 to 2024, shape (5,): the truth of 2022 within
    about 0.3 %, carried by growth.
    """
    g, settings = population.geography, population.settings
    rng = settings.stream("population_estimates")
    size = population.by_tract(population.unit_size)
    made = {}
    for county in settings.counties:
        truth = size[g.county == county.fips].sum() * (1.0 + 0.003 * rng.normal())
        made[county.fips] = np.round(truth * (1.0 + county.growth) ** np.arange(-2.0, 3.0)).astype(
            np.int64
        )
    return made


def state_controls(population: Population) -> dict[str, int]:
    """Estimated persons of each state in the settings' year: what the one-year ACS is controlled
    to.
    """
    counties = county_estimates(population)
    at = YEARS.index(population.settings.year)
    return {
        s.fips: int(sum(v[at] for k, v in counties.items() if k[:2] == s.fips))
        for s in population.settings.states
    }


def _components(series: np.ndarray, base: int) -> dict[str, np.ndarray]:
    """Births, deaths and migration that account for the change exactly; 2020 covers one quarter,
    from 1 April.
    """
    change = np.diff(np.concatenate([[base], series]))
    share = np.where(np.arange(len(series)) == 0, 0.25, 1.0)
    births, deaths = (
        np.round(series * 0.0098 * share).astype(int),
        np.round(series * 0.0101 * share).astype(int),
    )
    abroad = np.round(series * 0.003 * share).astype(int)
    residual = np.zeros(len(series), dtype=int)
    residual[1:] = 1
    net = change - (births - deaths) - residual
    return {
        "NPOPCHG": change,
        "BIRTHS": births,
        "DEATHS": deaths,
        "NATURALCHG": births - deaths,
        "INTERNATIONALMIG": abroad,
        "DOMESTICMIG": net - abroad,
        "NETMIG": net,
        "RESIDUAL": residual,
    }


def write_county_estimates(
    folder: Folder, population: Population, years: tuple[int, ...] = YEARS
) -> None:
    """``pep/co-est2024-alldata.csv``, or that of the last of ``years``: SUMLEV 040 state rows are
    sums of the 050 county rows. Latin-1, as published.
    """
    settings, g = population.settings, population.geography
    whole_series = county_estimates(population)
    series = {county: figures[: len(years)] for county, figures in whole_series.items()}
    in_gq = population.by_tract(~population.is_household)
    header = [
        "SUMLEV",
        "REGION",
        "DIVISION",
        "STATE",
        "COUNTY",
        "STNAME",
        "CTYNAME",
        "ESTIMATESBASE2020",
        *(f"POPESTIMATE{y}" for y in years),
    ]
    header += [f"{c}{y}" for c in _COMPONENTS for y in years] + [
        "GQESTIMATESBASE2020",
        *(f"GQESTIMATES{y}" for y in years),
    ]
    rates = ("BIRTHS", "DEATHS", "NATURALCHG", "INTERNATIONALMIG", "DOMESTICMIG", "NETMIG")
    names = {"BIRTHS": "RBIRTH", "DEATHS": "RDEATH"}
    header += [f"{names.get(c, 'R' + c)}{y}" for c in rates for y in years[1:]]
    lines = [",".join(header)]
    for state in sorted(settings.states, key=lambda s: s.fips):
        counties = sorted(
            (c for c in settings.counties if c.fips[:2] == state.fips), key=lambda c: c.fips
        )
        rows = []
        for county in counties:
            base = round(float(series[county.fips][0]) / (1.0 + county.growth) ** 0.25)
            parts = _components(series[county.fips], base)
            rows.append(
                (
                    county.fips[2:],
                    f"{county.name} {settings.label}",
                    base,
                    series[county.fips],
                    parts,
                    int(in_gq[g.county == county.fips].sum()),
                )
            )
        total = {c: np.sum([r[4][c] for r in rows], axis=0) for c in _COMPONENTS}
        whole = (
            "000",
            f"{state.name} {settings.label}",
            sum(r[2] for r in rows),
            np.sum([r[3] for r in rows], axis=0),
            total,
            sum(r[5] for r in rows),
        )
        for code, name, base, people, parts, gq in [whole, *rows]:
            cells: list[object] = [
                "040" if code == "000" else "050",
                state.region,
                state.division,
                state.fips,
                code,
                f"{state.name} {settings.label}",
                name,
                base,
            ]
            cells += [
                *people,
                *(v for c in _COMPONENTS for v in parts[c]),
                gq,
                *([gq] * len(years)),
            ]
            middle = (people[1:] + people[:-1]) / 2.0
            cells += [f"{v:.9f}" for c in rates for v in 1000.0 * parts[c][1:] / middle]
            lines.append(",".join(str(c) for c in cells))
    folder.text(f"pep/co-est{years[-1]}-alldata.csv", "\n".join(lines) + "\n", "latin-1")


def write_tract_puma(folder: Folder, population: Population) -> None:
    """Relationship files: 2020 as a .csv with a byte-order mark, 2010 as .txt, each in its zip, as
    they circulate. PUMAs nest in counties.
    """
    g = population.geography
    order = np.argsort(g.tract)
    lines = [
        "STATEFP,COUNTYFP,TRACTCE,PUMA5CE",
        *(f"{g.tract[i][:2]},{g.tract[i][2:5]},{g.tract[i][5:]},{g.puma[i]}" for i in order),
    ]
    text = "\n".join(lines) + "\n"
    folder.archive(
        "geo/2020_Census_Tract_to_2020_PUMA.zip",
        {"2020_Census_Tract_to_2020_PUMA.csv": ("\ufeff" + text).encode()},
    )
    folder.archive(
        "geo/2010_Census_Tract_to_2010_PUMA.zip",
        {"2010_Census_Tract_to_2010_PUMA.txt": text.encode()},
    )
