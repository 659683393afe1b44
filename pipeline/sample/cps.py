"""The CPS Annual Social and Economic Supplement of the sample: one zip with person, household and
family files.

Belongs here: the CPS universe (civilian noninstitutional population), its codes and implied
decimals. Does not belong here: ACS codes, items that no other survey asks (``lent_items.py``).

The survey of March ``year + 1`` asks for incomes of ``year``. Weights have two implied decimals;
PERIDNUM is a 22-digit string; amounts not received are 0, characteristics not in universe are 0 or
-1 as the dictionary says; ages are 80 (80 to 84) and 85 (85 and over).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.sample.files import Folder, csv_bytes
from pipeline.sample.income import POVERTY_THRESHOLD
from pipeline.sample.lent_items import LentItems, lent_items
from pipeline.sample.population import Population
from pipeline.sample.surveys import draw_weights, scale_to

_PERRP = np.array([40, 42, 43, 48, 49, 52, 56, 58, 58])
_PRDTRACE = np.array([1, 2, 3, 4, 5, 1, 7])
# A_HGA by ACS SCHL (0: under three years of age).
_HGA = np.repeat(
    [0, *range(31, 41), *range(42, 47)], [1, 3, 4, 2, 2, 1, 1, 1, 1, 2, 2, 1, 1, 1, 1, 1]
)
_CLSWKR = np.array([1, 3, 6, 7, 0])
_MONEY = (
    *("wages", "self_employment", "interest", "dividends", "rent", "social_security", "ssi"),
    *("public_assistance", "retirement", "ira", "capital_gains", "unemployment_compensation"),
    *("other_income", "total_income"),
)
# Amounts that nobody in the sample has.
_NEVER = (*("DST_VAL2", "DST_VAL2_YNG", "SUR_VAL2", "DIS_VAL2"),)
_KINDS = {
    "PNSN_VAL": "pensions",
    "SUR_VAL1": "survivor_benefits",
    "DIS_VAL1": "disability_benefits",
    "CSP_VAL": "child_support",
    "VET_VAL": "veterans_payments",
    "WC_VAL": "workers_compensation",
    "ED_VAL": "educational_assistance",
    "FIN_VAL": "financial_assistance",
}
_COVERAGE = {
    "COV": "health_insurance",
    "PRIV": "private_insurance",
    "GRP": "employer_insurance",
    "MRK": "marketplace_insurance",
    "PUB": "public_insurance",
    "MCARE": "medicare",
    "MCAID": "medicaid",
}
_ALIMONY, _SOMETHING_ELSE = 20, 19
_IMPLIED = 100


def _household_number(sequence: np.ndarray) -> np.ndarray:
    """H_IDNUM: 20 digits that say nothing."""
    return np.char.zfill((sequence * 918273645 % 10**15).astype(str), 20)


def write_cps(folder: Folder, population: Population, first: int = 0) -> None:
    """``cps/asecpub23csv.zip`` with pppub23.csv, hhpub23.csv and ffpub23.csv; numbers of households
    are above ``first``.
    """
    settings, g = population.settings, population.geography
    rng = settings.stream("cps")
    weight = draw_weights(population, settings.surveys["cps"].share, "cps")
    # A unit stands for all households like it.
    weight = np.where(population.is_household, weight * population.residence.by_unit, 0.0)
    states = sorted(s.fips for s in settings.states)
    state = np.array([states.index(s) for s in g.state])[population.unit_tract]
    size = population.unit_size
    home = population.is_household
    people = size * population.residence.by_unit
    residents = np.bincount(state[home], weights=people[home], minlength=len(states))
    weight = scale_to(weight, state, size, residents)
    units = np.flatnonzero(weight > 0)
    units = units[rng.permutation(len(units))]
    # Every ninth address is not interviewed: a household record of type 2 (no interview) or 3 (not
    # eligible), no persons.
    missed = rng.random(len(units)) < 0.11
    sequence = first + np.arange(1, len(units) + 1)
    interviewed = units[~missed]
    people, at = population.persons_of(interviewed)
    lift = residents.sum() / np.sum(weight[interviewed] * size[interviewed])
    unit_weight = np.round(weight[units] * lift * _IMPLIED).astype(np.int64)
    of_person = np.flatnonzero(~missed)[at]
    persons, family = _persons(population, rng, people, of_person, sequence, unit_weight)
    lent = lent_items(population)
    persons = persons.with_columns(**_items_of_persons(lent, people, persons["A_AGE"].to_numpy()))
    households = _households(population, units, sequence, missed, unit_weight, persons)
    households = households.with_columns(**_items_of_households(lent, population, units, missed))
    families = _families(population, people, family, persons)
    yy = f"{(settings.year + 1) % 100:02d}"
    frames = {"pppub": persons, "hhpub": households, "ffpub": families}
    members = {f"{stem}{yy}.csv": csv_bytes(frame) for stem, frame in frames.items()}
    readme = (
        f"CPS ASEC {settings.year + 1} {settings.label}: invented records in the layout of"
        " the US Census Bureau.\n".encode()
    )
    folder.archive(f"cps/asecpub{yy}csv.zip", members | {"SYNTHETIC_README.txt": readme})


def _persons(
    population: Population,
    rng: np.random.Generator,
    people: np.ndarray,
    at: np.ndarray,
    sequence: np.ndarray,
    unit_weight: np.ndarray,
) -> tuple[pl.DataFrame, np.ndarray]:
    """Records of ``people``, whose units stand at ``at``, and each one's family number."""
    p, n = population.persons, len(people)
    x = {name: values[people] for name, values in p.items()}
    a, marital, relationship = x["age"], x["marital"], x["relationship"]
    first = np.searchsorted(p["unit"], x["unit"])
    line = people - first + 1
    related = np.isin(relationship, [0, 1, 3, 4, 5])
    seen, start = np.cumsum(~related), np.searchsorted(at, at)
    before = np.where(start > 0, seen[start - 1], 0)
    family = np.where(related, 1, 1 + seen - before)
    child, adult = a < 15, a >= 15
    working, armed = x["employment"] == 0, x["employment"] == 2
    asked, school_age = adult & ~armed, (a >= 16) & (a < 55)
    cases = [(a < 16) | armed, working & x["at_work"], working, x["employment"] == 1, a >= 62]
    labour = np.select(cases, [-1, 1, 2, 4, 5], 7)
    jitter = np.where(line == 1, 1.0, rng.gamma(80.0, 1.0 / 80.0, n))
    weight = np.round(unit_weight[at] * jitter).astype(np.int64)
    money = {name: np.where(adult, x[name], 0) for name in _MONEY}
    ira = money["ira"]
    spouse_here = (marital == 0) & (relationship <= 1)
    married = [spouse_here, *(marital == i for i in range(4))]
    lives_alone = (relationship == 0) & (np.bincount(at, minlength=len(sequence))[at] == 1)
    in_family = [*(relationship == i for i in (0, 1, 3)), related]
    college = np.where(x["school"] == 4, 1, 2)
    none = np.zeros(n, dtype=np.int64)
    columns = {
        "PERIDNUM": np.char.add(
            _household_number(sequence[at]), np.char.zfill(line.astype(str), 2)
        ),
        "PH_SEQ": sequence[at],
        "P_SEQ": line,
        "A_LINENO": line,
        "PF_SEQ": family,
        "PHF_SEQ": family,
        "PPPOS": 40 + line,
        "MARSUPWT": weight,
        "A_FNLWGT": weight,
        "A_AGE": np.select([a >= 85, a >= 80], [85, 80], a),
        "A_SEX": np.where(x["female"], 2, 1),
        "A_MARITL": np.select(married, [1, 3, 4, 5, 6], 7),
        "PERRP": np.where(lives_alone, 41, _PERRP[relationship]),
        "A_FAMREL": np.select(in_family, [1, 2, 3, 4], 0),
        "PRDTRACE": _PRDTRACE[x["race"]],
        "PEHSPNON": np.where(x["hispanic"], 1, 2),
        "PRPERTYP": np.select([child, armed], [1, 3], 2),
        "PRCITSHP": np.select([~x["foreign_born"], x["naturalized"]], [1, 4], 5),
        "A_HGA": np.where(child, 0, _HGA[x["schl"]]),
        "PEMLR": labour,
        "A_LFSR": np.select([labour == -1, labour >= 5], [0, 7], labour),
        "A_CLSWKR": np.where(asked, _CLSWKR[x["class_of_worker"]], 0),
        "A_ENRLW": np.where(school_age, np.where(x["school"] >= 4, 1, 2), 0),
        "A_HSCOL": np.where(school_age & (x["school"] >= 4), college, 0),
        "PRDISFLG": np.where(asked, np.where(x["disability"], 1, 2), -1),
        "PEAFEVER": np.where((a >= 17) & ~armed, np.where(x["veteran"], 1, 2), -1),
        "MIGSAME": np.where(x["moved"] >= 0, x["moved"] + 1, 0),
        "WKSWORK": np.where(adult, x["weeks"], 0),
        "HRSWK": np.where(adult & (x["weeks"] > 0), x["hours"], 0),
        "WSAL_VAL": money["wages"],
        "SEMP_VAL": money["self_employment"],
        "FRSE_VAL": none,
        "INT_VAL": money["interest"],
        "DIV_VAL": money["dividends"],
        "RNT_VAL": money["rent"],
        "CAP_VAL": np.maximum(money["capital_gains"], 0),
        "SS_VAL": money["social_security"],
        "SSI_VAL": money["ssi"],
        "PAW_VAL": money["public_assistance"],
        "UC_VAL": money["unemployment_compensation"],
        "DST_VAL1": np.where(a >= 58, ira, 0),
        "DST_VAL1_YNG": np.where(a < 58, ira, 0),
        **dict.fromkeys(_NEVER, none),
        "PEARNVAL": money["wages"] + money["self_employment"],
        "PTOTVAL": money["total_income"],
    }
    return pl.DataFrame(columns), family


def _items_of_persons(lent: LentItems, people: np.ndarray, age: np.ndarray) -> dict[str, pl.Series]:
    """Columns that only the CPS has, for ``people``; amounts of persons under 15 are 0, and ANN_VAL
    is -1 for them.
    """
    x, adult = {name: values[people] for name, values in lent.persons.items()}, age >= 15
    else_ = np.where(adult, x["anything_else"], 0)
    alimony = np.where(adult, x["alimony"], 0)
    kind = np.select([alimony > 0, else_ > 0], [_ALIMONY, _SOMETHING_ELSE], 0)
    made = {column: np.where(adult, x[name], 0) for column, name in _KINDS.items()}
    made |= {"ANN_VAL": np.where(adult, x["annuities"], -1)}
    made |= {"OI_VAL": else_ + alimony, "OI_OFF": kind}
    made |= {column: np.where(x[name], 1, 2) for column, name in _COVERAGE.items()}
    return {column: pl.Series(values.astype(np.int64)) for column, values in made.items()}


def _items_of_households(
    lent: LentItems, population: Population, units: np.ndarray, missed: np.ndarray
) -> dict[str, pl.Series]:
    """Columns of households that only the CPS has; 0 where there was no interview. HPUBLIC is asked
    of renters, HLORENT of renters outside public housing.
    """
    x = {name: values[units] for name, values in lent.units.items()}
    renter, public = ~population.units["owner"][units], x["public_housing"]

    def answer(yes: np.ndarray, asked: np.ndarray) -> np.ndarray:
        return np.where(asked & ~missed, np.where(yes, 1, 2), 0)

    made = {
        "HFDVAL": np.where(missed, 0, x["snap_benefits"]),
        "HPUBLIC": answer(public, renter),
        "HLORENT": answer(x["rent_subsidy"], renter & ~public),
        "HENGAST": answer(x["energy_assistance"], np.ones(len(units), dtype=bool)),
        "HENGVAL": np.where(missed, 0, x["energy_benefits"]),
    }
    return {column: pl.Series(values.astype(np.int64)) for column, values in made.items()}


def _households(
    population: Population,
    units: np.ndarray,
    sequence: np.ndarray,
    missed: np.ndarray,
    unit_weight: np.ndarray,
    persons: pl.DataFrame,
) -> pl.DataFrame:
    g, settings = population.geography, population.settings
    u = {name: values[units] for name, values in population.units.items()}
    t = population.unit_tract[units]
    sums = persons.group_by("PH_SEQ").agg(
        pl.col("PTOTVAL", "PEARNVAL", "SS_VAL", "SSI_VAL").sum(), n=pl.len()
    )
    totals = (
        pl.DataFrame({"PH_SEQ": sequence})
        .join(sums, on="PH_SEQ", how="left", maintain_order="left")
        .fill_null(0)
    )
    # Only populous counties are identified in public files: here the most populous of each state.
    size = population.by_tract(population.unit_size)
    known = set()
    for state in settings.states:
        counties = [c.fips for c in settings.counties if c.fips[:2] == state.fips]
        known.add(max(counties, key=lambda c: (size[g.county == c].sum(), c)))
    county = np.where(np.isin(g.county[t], sorted(known)), g.county[t].astype(int) % 1000, 0)
    kind = np.where(missed, np.where(sequence % 5 == 0, 3, 2), 1)
    unit_type = population.skeleton.unit_type[units]
    types = np.select([unit_type == 0, unit_type == 2, unit_type == 3], [1, 4, 3], 6)
    tenure = np.select([u["owner"], u["gross_rent"] > 0], [1, 2], 3)
    state_of = {state.fips: state for state in settings.states}
    return pl.DataFrame(
        {
            "H_SEQ": sequence,
            "H_IDNUM": _household_number(sequence),
            "H_HHTYPE": kind,
            "H_NUMPER": totals["n"],
            "H_TENURE": np.where(missed, 0, tenure),
            "HRHTYPE": np.where(missed, 0, types),
            "GEREG": np.array([int(state_of[f].region) for f in g.state[t]]),
            "GEDIV": np.array([int(state_of[f].division) for f in g.state[t]]),
            "GESTFIPS": g.state[t].astype(int),
            "GTCO": county,
            "GTCBSA": np.zeros(len(units), dtype=np.int64),
            "GTMETSTA": np.ones(len(units), dtype=np.int64),
            "HFOODSP": np.where(missed, 0, np.where(u["food_stamps"], 1, 2)),
            "HTOTVAL": totals["PTOTVAL"],
            "HEARNVAL": totals["PEARNVAL"],
            "HSSVAL": totals["SS_VAL"],
            "HSSIVAL": totals["SSI_VAL"],
            "HSUP_WGT": np.where(missed, 0, unit_weight),
        }
    )


def _families(
    population: Population, people: np.ndarray, family: np.ndarray, persons: pl.DataFrame
) -> pl.DataFrame:
    """Primary families (FTYPE 1), householders without relatives (2), other persons without
    relatives (5).
    """
    relationship = population.persons["relationship"][people]
    base = pl.DataFrame(
        {
            "FH_SEQ": persons["PH_SEQ"],
            "FFPOS": family,
            "income": persons["PTOTVAL"],
            "weight": persons["MARSUPWT"],
            "r": relationship,
            "age": persons["A_AGE"],
        }
    )
    grouped = base.group_by("FH_SEQ", "FFPOS", maintain_order=True).agg(
        pl.len().alias("FPERSONS"),
        pl.col("income").sum().alias("FTOTVAL"),
        pl.col("weight").first().alias("FSUP_WGT"),
        pl.col("r").min(),
    )
    kind = pl.when(pl.col("FFPOS") > 1).then(5).when(pl.col("FPERSONS") == 1).then(2).otherwise(1)
    lines = POVERTY_THRESHOLD[np.minimum(grouped["FPERSONS"].to_numpy(), 9)].astype(np.int64)
    return grouped.with_columns(kind.alias("FTYPE"), pl.Series("FPOVCUT", lines)).select(
        "FH_SEQ", "FFPOS", "FTYPE", "FPERSONS", "FSUP_WGT", "FTOTVAL", "FPOVCUT"
    )
