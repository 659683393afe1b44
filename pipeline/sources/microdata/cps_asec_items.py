"""Items that the CPS ASEC asks and the ACS does not: parts of incomes, health insurance, aid.

Belongs here: which published columns each item is made of, and where their meaning was confirmed.
Does not belong here: columns that both surveys share (``cps_asec_codes.py``).

Names and codes are those of the Census Bureau's dictionary of the 2025 file
(``asec2025_ddl_pub_full.pdf`` beside the archive) where not said otherwise:

* CSP_VAL, PNSN_VAL, ANN_VAL, DST_VAL1, DST_VAL2 (58 and over), DST_VAL1_YNG, DST_VAL2_YNG (under
  58), DIS_VAL1, DIS_VAL2, SUR_VAL1, SUR_VAL2: 0 is none or not in universe. ANN_VAL alone has -1
  for not in universe, and 0 for a true nought.
* OI_OFF 20 says that OI_VAL is alimony, which has no column of its own since 2019.
* COV, PRIV, PUB, MRK, MCARE, MCAID (Medicaid, CHIP or other means-tested coverage): 1 yes, 2 no,
  at any time of last year; 0 for infants born after it. GRP is coverage through an employer or
  union (in the archive of 2024 beside OWNGRP and DEPGRP).
* HFDVAL and HENGVAL are dollars of food stamps and energy aid in the year. HFOODSP, HENGAST,
  HPUBLIC, HLORENT: 1 yes, 2 no. HPUBLIC is asked of renters, HLORENT of those of them who are not
  in public housing: 0 is no.

Columns whose names or codes could not be confirmed are left out: school lunches (HFLUNCH, HFLUNNO),
direct purchase (DIR) and military coverage (MIL, CHAMPVA, VACARE).
"""

from __future__ import annotations

import operator
from functools import reduce

import polars as pl

from pipeline.sources.microdata.columns import SurveyColumns, yes_no

SURVIVORS, DISABILITY = ("SUR_VAL1", "SUR_VAL2"), ("DIS_VAL1", "DIS_VAL2")
WITHDRAWALS = ("DST_VAL1", "DST_VAL2", "DST_VAL1_YNG", "DST_VAL2_YNG")
AMOUNTS = {
    "child_support": ("CSP_VAL",),
    "veterans_payments": ("VET_VAL",),
    "workers_compensation": ("WC_VAL",),
    "educational_assistance": ("ED_VAL",),
    "financial_assistance": ("FIN_VAL",),
    "pensions": ("PNSN_VAL",),
    "annuities": ("ANN_VAL",),
    "retirement_withdrawals": WITHDRAWALS,
    "survivor_benefits": SURVIVORS,
    "disability_benefits": DISABILITY,
}
"""Items of persons that are sums of amounts."""
INSURANCE = {
    "health_insurance": "COV",
    "private_insurance": "PRIV",
    "employer_insurance": "GRP",
    "marketplace_insurance": "MRK",
    "public_insurance": "PUB",
    "medicare": "MCARE",
    "medicaid": "MCAID",
}
ALIMONY = 20
"""OI_OFF of an OI_VAL that is alimony."""
NOT_IN_UNIVERSE = {"ANN_VAL": -1.0}
"""Amounts that have a number of their own for "not in universe"."""
_COVERED = yes_no([1], [2], [0])
_ASKED = yes_no([1], [2], [-1, 0])
_OF_RENTERS = yes_no([1], [-1, 0, 2])

PERSON_OPTIONAL = ("OI_OFF", *INSURANCE.values())
HOUSEHOLD_OPTIONAL = ("HFDVAL", "HPUBLIC", "HLORENT", "HENGAST", "HENGVAL")


def amount(columns: SurveyColumns, name: str, *, signed: bool = False) -> pl.Series:
    """A published amount, dollars: 0 where it is blank, absent or not in universe. Raises
    SourceValueError on a number below zero where none is published.
    """
    outside = NOT_IN_UNIVERSE.get(name)
    values = columns.number(name, low=None if signed else outside or 0.0).fill_null(0.0)
    return values if outside is None else values.clip(0.0)


def person_items(columns: SurveyColumns) -> dict[str, pl.Series]:
    """PERSON_ITEMS of every line, dollars and flags; null where the file has not the columns."""
    nothing = pl.Series([None] * columns.frame.height, dtype=pl.Float64)
    found = {}
    for item, names in AMOUNTS.items():
        present = [amount(columns, name) for name in names if columns.has(name)]
        found[item] = reduce(operator.add, present) if present else nothing
    alimony = nothing
    if columns.has("OI_OFF") and columns.has("OI_VAL"):
        named = (columns.integer("OI_OFF", low=0) == ALIMONY).fill_null(False)
        alimony = amount(columns, "OI_VAL") * named.cast(pl.Float64)
    covered = {i: columns.coded(n, _COVERED, dtype=pl.Boolean) for i, n in INSURANCE.items()}
    return {**found, "alimony": alimony, **covered}


def household_items(columns: SurveyColumns) -> dict[str, pl.Series]:
    """HOUSEHOLD_ITEMS of every line, dollars and flags; null where the file has not the columns."""
    return {
        "snap_benefits": columns.number("HFDVAL", low=0),
        "public_housing": columns.coded("HPUBLIC", _OF_RENTERS, dtype=pl.Boolean),
        "rent_subsidy": columns.coded("HLORENT", _OF_RENTERS, dtype=pl.Boolean),
        "energy_assistance": columns.coded("HENGAST", _ASKED, dtype=pl.Boolean),
        "energy_benefits": columns.number("HENGVAL", low=0),
    }
