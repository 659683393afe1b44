"""The figures of tax law and of this project's rule, as expressions over tax units.

Belongs here: the models of ``data_specs/factors/tax_rules.yaml``, taxable Social Security, income
classes, and who files. Does not belong here: who forms a unit with whom (``tax_families.py``), or
the table of units (``tax_units.py``, which states the whole rule).

Taxable Social Security of benefits B with other income I (IRC section 86):

    P = I + B / 2
    taxable = min(0.85 B, 0.5 min(B, P - base, upper - base) + 0.85 (P - upper))

with both differences from P at least zero.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import polars as pl

from pipeline.errors import SpecError
from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml

RULES_PATH = SPEC_ROOT / "factors" / "tax_rules.yaml"
_THOUSANDS = (10, 25, 50, 75, 100, 200, 500, 1_000)
AGI_CLASS_STARTS = (1.0, *(1000.0 * value for value in _THOUSANDS))
"""Lower ends of Historic Table 2 classes 2 to 10; class 1 is below one dollar.

County classes are the same up to 7, and 8 is 200,000 or more.
"""

_SEPARATE_MUST_FILE = 5.0
"""Gross income from which a married person filing separately must file (Form 1040 instructions,
Chart A)."""


class Thresholds(SpecModel):
    single: float
    joint: float
    head_of_household: float


class TaxYear(SpecModel):
    standard_deduction: Thresholds
    personal_exemption: float
    exemption_deductible: bool
    aged_unmarried: float
    aged_married: float
    dependent_unearned: float


class SocialSecurityRule(SpecModel):
    base: dict[str, float]
    upper: dict[str, float]
    lower_share: float
    upper_share: float


class Assumptions(SpecModel):
    self_employment_must_file: float
    voluntary_income: float
    parent_gap_years: int
    support_share: float
    couple_age_gap: int


class TaxRules(SpecModel):
    """The content of ``data_specs/factors/tax_rules.yaml``; dollars and years of age."""

    social_security: SocialSecurityRule
    elderly_return_age: int
    aged: int
    child_age: int
    student_age: int
    assumptions: Assumptions
    years: dict[int, TaxYear]

    def of(self, year: int) -> TaxYear:
        if year not in self.years:
            raise SpecError(
                f"There are no tax rules for {year}",
                where=str(RULES_PATH),
                expected=f"a year from {min(self.years)} to {max(self.years)}",
                remedy="Add the year's published figures to the file",
            )
        return self.years[year]


@cache
def load_rules(path: Path = RULES_PATH) -> TaxRules:
    return load_yaml(path, TaxRules)


def taxable_social_security(
    benefits: pl.Expr, other_income: pl.Expr, joint: pl.Expr, rule: SocialSecurityRule
) -> pl.Expr:
    """Taxable part of ``benefits`` (dollars), by the provisional-income formula of IRC section 86
    above.
    """
    base = pl.when(joint).then(rule.base["joint"]).otherwise(rule.base["single"])
    upper = pl.when(joint).then(rule.upper["joint"]).otherwise(rule.upper["single"])
    provisional = other_income + benefits * 0.5
    low = pl.min_horizontal(benefits, (provisional - base).clip(0), upper - base) * rule.lower_share
    return pl.min_horizontal(
        benefits * rule.upper_share, low + (provisional - upper).clip(0) * rule.upper_share
    )


def agi_class(agi: pl.Expr, *, county: bool = False) -> pl.Expr:
    """The class of an income as Historic Table 2 numbers it ("1" to "10"), or the county files ("1"
    to "8").
    """
    starts = AGI_CLASS_STARTS[:7] if county else AGI_CLASS_STARTS
    reached = pl.sum_horizontal(*(agi >= start for start in starts))
    return (1 + reached).cast(pl.Int32).cast(pl.String)


def files_a_return(rules: TaxRules, law: TaxYear) -> pl.Expr:
    """True where a unit files; see rule 6 in ``tax_units.py``."""
    status = pl.col("filing_status")
    joint, separate = status == "joint", status == "separate"
    deductions = {**law.standard_deduction.model_dump(), "separate": _SEPARATE_MUST_FILE}
    deduction = status.replace_strict(deductions, return_dtype=pl.Float64)
    if law.exemption_deductible:
        with_exemptions = deduction + law.personal_exemption * pl.col("members")
        deduction = pl.when(separate).then(law.personal_exemption).otherwise(with_exemptions)
    aged = pl.when(joint).then(law.aged_married).otherwise(law.aged_unmarried)
    addition = pl.when(separate).then(0.0).otherwise(aged)
    must = pl.col("gross_income") >= deduction + addition * pl.col("aged_members")
    unearned = pl.col("gross_income") - pl.col("wages") - pl.col("self_employment").clip(0)
    much = pl.col("gross_income") >= law.standard_deduction.single
    dependent_must = much | (unearned > law.dependent_unearned)
    self_employed = pl.col("self_employment") >= rules.assumptions.self_employment_must_file
    income = pl.when("is_dependent_return").then("wages").otherwise("receipts")
    voluntary = (income >= rules.assumptions.voluntary_income) & ~pl.col("institution")
    by_income = pl.when("is_dependent_return").then(dependent_must).otherwise(must)
    return by_income | self_employed | voluntary
