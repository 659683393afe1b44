"""Columns and code lists of the ACS PUMS, from its data dictionaries of 2013 to 2023.

Belongs here: published names, codes and what they mean in the vocabularies of ``microdata_schema``.
Does not belong here: reading or checking a file (``acs_pums.py``).
"""

from __future__ import annotations

ADJINC_BY_YEAR = {
    2012: 1_010_207,
    2013: 1_007_549,
    2014: 1_008_425,
    2015: 1_001_264,
    2016: 1_007_588,
    2017: 1_011_189,
    2018: 1_013_097,
    2019: 1_010_145,
    2020: 1_006_149,
    2021: 1_029_928,
    2022: 1_042_311,
    2023: 1_019_518,
}
"""ADJINC (six implied decimals) of the file's last year, from the PUMS data dictionaries."""

RELP = {
    0: "reference_person",
    1: "spouse",
    **dict.fromkeys((2, 3, 4), "child"),
    **dict.fromkeys((5, 6, 8, 9, 10), "other_relative"),
    7: "grandchild",
    **dict.fromkeys((11, 12, 14, 15), "nonrelative"),
    13: "unmarried_partner",
    16: "gq_institutional",
    17: "gq_noninstitutional",
}
RELSHIPP = {
    20: "reference_person",
    **dict.fromkeys((21, 23), "spouse"),
    **dict.fromkeys((22, 24), "unmarried_partner"),
    **dict.fromkeys((25, 26, 27), "child"),
    **dict.fromkeys((28, 29, 31, 32, 33), "other_relative"),
    30: "grandchild",
    **dict.fromkeys((34, 35, 36), "nonrelative"),
    37: "gq_institutional",
    38: "gq_noninstitutional",
}
SEX = {1: "male", 2: "female"}
MAR = {1: "married", 2: "widowed", 3: "divorced", 4: "separated", 5: "never_married"}
RAC1P = {
    **{1: "white", 2: "black", 6: "asian", 7: "nhpi", 8: "other", 9: "two_or_more"},
    **dict.fromkeys((3, 4, 5), "aian"),
}
SCHG = {
    1: "preschool",
    2: "kindergarten",
    **dict.fromkeys(range(3, 11), "grades_1_8"),
    **dict.fromkeys(range(11, 15), "grades_9_12"),
    15: "college",
    16: "college",
}
ESR = {
    **dict.fromkeys((1, 2), "employed"),
    3: "unemployed",
    **dict.fromkeys((4, 5), "armed_forces"),
    6: "not_in_labor_force",
}
COW = {
    **dict.fromkeys((1, 2, 7), "private"),
    **dict.fromkeys((3, 4, 5), "government"),
    6: "self_employed",
    8: "unpaid_family",
    9: None,
}
# JWTR (to 2018) and JWTRNS (from 2019) number the kinds of public transport differently, but 2 to 6
# are public transport in both.
JWTR = {
    1: "drove_alone",
    **dict.fromkeys(range(2, 7), "public_transit"),
    **dict.fromkeys((7, 8, 9, 12), "other_means"),
    10: "walked",
    11: "worked_home",
}
MIG = {1: "same_house", 2: "abroad", 3: "different_house_us"}
WKW = {1: 50, 2: 48, 3: 40, 4: 27, 5: 14, 6: 1}
PUERTO_RICO = 72

AMOUNT_COLUMNS: dict[str, str] = {
    "wages": "WAGP",
    "self_employment": "SEMP",
    "investment_income": "INTP",
    "social_security": "SSP",
    "ssi": "SSIP",
    "public_assistance": "PAP",
    "retirement": "RETP",
    "other_income": "OIP",
    "total_income": "PINCP",
}
SIGNED = ("SEMP", "INTP", "PINCP")

# A five-year file across a change of areas has two columns of PUMAs, each -9 in the other's years
# (2018-2022: PUMA10, PUMA20). The newer one is taken.
PUMA = ("PUMA", "PUMA20", "PUMA10")
TRANSPORT = ("JWTR", "JWTRNS")

PERSON_COLUMNS: tuple[str | tuple[str, ...], ...] = (
    *("SERIALNO", "SPORDER", PUMA, ("ST", "STATE"), "ADJINC", "PWGTP"),
    *("AGEP", "SEX", ("RELP", "RELSHIPP"), "MAR", "RAC1P", "HISP", "SCHL", "SCH", "SCHG"),
    *("ESR", "COW", TRANSPORT, "JWRIP", "DIS", "MIL", "NATIVITY", "CIT", "LANX", "MIG"),
    *("FER", "POVPIP", ("WKWN", "WKW"), "WKHP"),
    *AMOUNT_COLUMNS.values(),
)
PERSON_OPTIONAL = ("MIGSP",)
HOUSING_COLUMNS: tuple[str | tuple[str, ...], ...] = (
    *("SERIALNO", ("ST", "STATE"), "ADJINC", "WGTP", "NP", ("TYPE", "TYPEHUGQ")),
    *("TEN", "FS", "HINCP"),
)
PERSON_REPLICATES = tuple(f"PWGTP{i}" for i in range(1, 81))
HOUSING_REPLICATES = tuple(f"WGTP{i}" for i in range(1, 81))
