"""Columns and code lists of the CPS ASEC, from its data dictionaries of 2019 to 2023.

Belongs here: published names, codes and what they mean in the vocabularies of ``schema.py``. Does
not belong here: items of the donor alone (``cps_asec_items.py``), reading a file (``cps_asec.py``).
"""

from __future__ import annotations

from pipeline.sources.microdata import cps_asec_items as items
from pipeline.sources.microdata.columns import yes_no

# PERRP, the edited relationship: one list for 2019 (1 to 18), another from 2020 (40 to 59); they do
# not overlap.
PERRP = {
    **dict.fromkeys((1, 2, 40, 41), "reference_person"),
    **dict.fromkeys((3, 42, 45), "spouse"),
    **dict.fromkeys((13, 14, 43, 44, 46, 47), "unmarried_partner"),
    **dict.fromkeys((4, 48), "child"),
    **dict.fromkeys((5, 49), "grandchild"),
    **dict.fromkeys((6, 7, 8, 50, 51, 52), "other_relative"),
    **dict.fromkeys((9, 10, 11, 12, 15, 16, 17, 18, 53, 54, 55, 56, 57, 58, 59), "nonrelative"),
}
# A_EXPRRP 13 is "partner or roommate": partners cannot be told apart there, so PERRP is preferred.
EXPRRP = {
    **dict.fromkeys((1, 2), "reference_person"),
    **dict.fromkeys((3, 4), "spouse"),
    **dict.fromkeys((5, 6), "child"),
    7: "grandchild",
    **dict.fromkeys((8, 9, 10), "other_relative"),
    **dict.fromkeys((11, 12, 13, 14), "nonrelative"),
}
MARITL = {
    **dict.fromkeys((1, 2, 3), "married"),
    **{4: "widowed", 5: "divorced", 6: "separated", 7: "never_married"},
}
RACE = {
    **{1: "white", 2: "black", 3: "aian", 4: "asian", 5: "nhpi"},
    **dict.fromkeys(range(6, 27), "two_or_more"),
}
_SCHL = (1, 4, 8, 10, 12, 13, 14, 15, 16, 18, 20, 20, 21, 22, 23, 24)
HGA = {0: None, **dict(zip(range(31, 47), _SCHL, strict=True))}
"""A_HGA 31 to 46 to the lowest ACS SCHL code of the same class."""
PEMLR = {
    **dict.fromkeys((-1, 0)),
    **dict.fromkeys((1, 2), "employed"),
    **dict.fromkeys((3, 4), "unemployed"),
    **dict.fromkeys((5, 6, 7), "not_in_labor_force"),
}
LFSR = {
    0: None,
    **dict.fromkeys((1, 2), "employed"),
    **dict.fromkeys((3, 4), "unemployed"),
    7: "not_in_labor_force",
}
CLSWKR = {
    **dict.fromkeys((0, 8)),
    **dict.fromkeys((1, 5), "private"),
    **dict.fromkeys((2, 3, 4), "government"),
    6: "self_employed",
    7: "unpaid_family",
}
MIGSAME = {0: None, 1: "same_house", 2: "different_house_us", 3: "abroad"}
TENURE = {-1: None, 0: None, 1: "owner", 2: "renter", 3: "renter"}
SCHOOL_LEVEL = {-1: None, 0: None, 1: "grades_9_12", 2: "college"}
SEX = {1: "male", 2: "female"}
YES_NO = yes_no([1], [2], [-1, 0])
ARMED_FORCES = 3  # PRPERTYP: 1 child, 2 adult civilian, 3 adult in the armed forces
RELATED_SUBFAMILY = 3  # FTYPE

RETIREMENT = (*("PNSN_VAL", "ANN_VAL", *items.WITHDRAWALS), *(*items.SURVIVORS, *items.DISABILITY))
OTHER = ("WC_VAL", "VET_VAL", "ED_VAL", "CSP_VAL", "FIN_VAL", "OI_VAL")
AMOUNT_COLUMNS = {
    "wages": ("WSAL_VAL",),
    "self_employment": ("SEMP_VAL", "FRSE_VAL"),
    "investment_income": ("INT_VAL", "DIV_VAL", "RNT_VAL"),
    "social_security": ("SS_VAL",),
    "ssi": ("SSI_VAL",),
    "public_assistance": ("PAW_VAL",),
    "retirement": RETIREMENT,
    "other_income": OTHER,
    "unemployment_compensation": ("UC_VAL",),
}
"""Amounts and the columns they are the sum of; an amount not asked of a person is 0 in the CPS."""
SIGNED = ("self_employment", "investment_income")

_REQUIRED_AMOUNTS = tuple(
    column
    for amount, columns in AMOUNT_COLUMNS.items()
    if amount not in ("retirement", "other_income")
    for column in columns
)
PERSON: tuple[str | tuple[str, ...], ...] = (
    *("PH_SEQ", ("A_LINENO", "P_SEQ", "PPPOS"), "MARSUPWT", "A_AGE", "A_SEX", "A_MARITL"),
    *(("PERRP", "A_EXPRRP"), "PRDTRACE", "PEHSPNON", "A_HGA", ("PEMLR", "A_LFSR"), "PRCITSHP"),
    *(*_REQUIRED_AMOUNTS, "PTOTVAL"),
)
PERSON_OPTIONAL = (
    *("PF_SEQ", "PRPERTYP", "A_CLSWKR", "PRDISFLG", "PEAFEVER", "MIGSAME", "A_HSCOL", "A_ENRLW"),
    *("WKSWORK", "HRSWK", *RETIREMENT, *OTHER, *items.PERSON_OPTIONAL),
)
HOUSEHOLD = ("H_SEQ", "H_HHTYPE", "GESTFIPS", "GTCO", "HSUP_WGT", "H_TENURE", "HTOTVAL")
HOUSEHOLD_OPTIONAL = ("HRHTYPE", "HFOODSP", *items.HOUSEHOLD_OPTIONAL)
FAMILY: tuple[str | tuple[str, ...], ...] = (
    *("FH_SEQ", "FFPOS", "FTYPE", "FTOTVAL", ("FPOVCUT", "POVCUT")),
)
