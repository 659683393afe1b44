"""What a survey that lends items has beside the common columns of persons and households.

Belongs here: names, types and kinds of those columns. Does not belong here: how a survey fills them
(``cps_asec_items.py``), or who borrows them (``pipeline/records/donation.py``).

A column is null for all where the file of a vintage does not have it.
"""

from __future__ import annotations

import dataframely as dy

from pipeline.sources.microdata.schema import HouseholdTable, PersonTable

OTHER_INCOME_PARTS = (
    *("child_support", "alimony", "veterans_payments", "workers_compensation"),
    *("educational_assistance", "financial_assistance"),
)
"""Parts of ``other_income``: annual dollars of persons of 15 and over, null below. What is left of
``other_income`` has no column."""

RETIREMENT_PARTS = (
    *("pensions", "annuities", "retirement_withdrawals", "survivor_benefits"),
    "disability_benefits",
)
"""Parts of ``retirement``, which they add up to: annual dollars of persons of 15 and over."""

INSURANCE = (
    *("health_insurance", "private_insurance", "employer_insurance", "marketplace_insurance"),
    *("public_insurance", "medicare", "medicaid"),
)
"""Coverage at any time of the year before the survey, of persons of any age."""

PERSON_ITEMS = (*OTHER_INCOME_PARTS, *RETIREMENT_PARTS, *INSURANCE)
HOUSEHOLD_ITEMS = (
    *("snap_benefits", "public_housing", "rent_subsidy", "energy_assistance"),
    "energy_benefits",
)
"""Of households, null for persons in group quarters; ``*_benefits`` are annual dollars."""

AMOUNT_ITEMS = (*OTHER_INCOME_PARTS, *RETIREMENT_PARTS, "snap_benefits", "energy_benefits")
"""The items that are dollars; the others are true or false."""


def _dollars() -> dy.Float64:
    return dy.Float64(nullable=True, min=0.0)


def _flag() -> dy.Bool:
    return dy.Bool(nullable=True)


class DonorPersonTable(PersonTable):
    """``PersonTable`` with PERSON_ITEMS. Dollars of the survey's income year."""

    child_support = _dollars()
    alimony = _dollars()
    veterans_payments = _dollars()
    workers_compensation = _dollars()
    educational_assistance = _dollars()
    financial_assistance = _dollars()
    pensions = _dollars()
    annuities = _dollars()
    retirement_withdrawals = _dollars()
    survivor_benefits = _dollars()
    disability_benefits = _dollars()
    health_insurance = _flag()
    private_insurance = _flag()
    employer_insurance = _flag()
    marketplace_insurance = _flag()
    public_insurance = _flag()
    medicare = _flag()
    medicaid = _flag()


class DonorHouseholdTable(HouseholdTable):
    """``HouseholdTable`` with HOUSEHOLD_ITEMS. Dollars of the survey's income year."""

    snap_benefits = _dollars()
    public_housing = _flag()
    rent_subsidy = _flag()
    energy_assistance = _flag()
    energy_benefits = _dollars()
