"""Tax units from survey persons, by a documented rule.

Belongs here: the rule in words, the amounts a return would show as far as the survey knows them,
and the table of units. Does not belong here: families (``tax_families.py``), figures of tax law and
who files (``tax_rules.py``, ``data_specs/factors/tax_rules.yaml``), tax liability, or targets.

The rule, in order (figures by year in the YAML):

1. *Couples.* Householder and spouse. Other married persons of a household are paired by sex,
   kinship and least difference in age (two relatives of different kinds, or two nonrelatives). They
   file jointly. A married person with no spouse in the household files separately.
2. *Dependents.* In households, a person outside any couple who is not the householder is a
   dependent if he is one of two things:

   * a qualifying child: under 19, or under 24 and in school with total income below the single
     standard deduction;
   * a qualifying relative: a relative or the unmarried partner, whose gross income (without Social
     Security) is below the exemption amount, and whose total income is below ``support_share`` of
     the household's mean income per person.

3. *Claimants.* The householder's unit claims, unless the child has a possible parent in the
   household: of a grandchild a son or daughter of the householder, of another relative's child
   another adult relative, of a nonrelative child the partner or an adult nonrelative. A possible
   parent is no dependent, and at least ``parent_gap_years`` older. Of several, the one with the
   highest gross income claims.
4. *Students away.* Some students under 24 with total income below the single standard deduction are
   claimed by parents elsewhere: householders, partners, nonrelatives and those in group quarters.
   Their own return, if any, is a dependent's, but they count as one individual where they live.
5. *Status.* Joint; head of household (unmarried, or spouse absent, with a qualifying child or a
   relative as dependent); separate; single.
6. *Returns.* A unit files for one of three reasons:

   * gross income reaches the filing threshold (standard deduction, plus exemptions before 2018,
     plus the addition for age);
   * net self-employment reaches 400 dollars;
   * taxable income of any kind (for a dependent: wages) reaches ``voluntary_income``, because tax
     was withheld or a credit can be claimed.

   A dependent with own income is a unit of his own by the same rule, with the dependents'
   thresholds. Persons in institutions file only if they must.

Adjusted gross income = wages + self-employment + investment + retirement + unemployment
compensation + taxable Social Security (+ capital gains + partnership income, and taxable wages in
place of wages, where the profile's steps put them on the records: docs/records_aligned.md).

Measured on the ACS PUMS 2018 of ten states (DE ID MT ND NE NH RI SD VT WY) with the proxy for
unemployment compensation, weighted by the primary person, against Historic Table 2 of tax year
2018. Least and greatest difference in per cent, and Rhode Island's:

    returns                 0 to   +6    +1.1      single returns          +4 to  +15    +8.8
    joint returns          -5 to   +3    -1.3      heads of household      -2 to  -22   -22.2
    individuals            -3 to   +2    -2.1      pensions               -40 to  -53   -42
    elderly returns        -6 to   +5    +3.0      taxable Social Security -32 to -46   -43
    returns with wages     +1 to   +8    +1.1      business income         +2 to +280   +40
    wages                   0 to  +11    +5.3

``voluntary_income`` was chosen on these same ten states, so the first figures are a fit, not a
test.

Not in the survey, hence not in ``agi``: capital gains, partnership and S-corporation income beyond
self-employment, IRA distributions that people do not call retirement income, tax-exempt interest,
statutory adjustments.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from pipeline.errors import RecordsError, SpecError
from pipeline.ordered_sums import sum_across, sum_in_order
from pipeline.records.tax_families import add_claimants, add_couples, add_dependents
from pipeline.records.tax_rules import (
    TaxRules,
    TaxYear,
    agi_class,
    files_a_return,
    load_rules,
    taxable_social_security,
)
from pipeline.sources.base import SourceNote
from pipeline.sources.microdata.schema import ALIGNED_AMOUNTS

FILING_STATUS = ("single", "joint", "head_of_household", "separate")
_SUMMED = (
    *("wages", "self_employment", "investment_income", "retirement", "social_security"),
    "unemployment_compensation",
)
TAXABLE_WAGES = "taxable_wages"
"""Amount of persons that takes the place of ``wages`` on returns, where alignment puts it there."""
_TRAITS = (
    *("household_id", "person_number", "state_fips", "is_group_quarters", "age", "sex"),
    *("relationship", "marital_status", "school"),
)
_COLUMNS = (
    *("household_id", "tax_unit", "state_fips", "primary_person", "secondary_person"),
    *("filing_status", "is_filer", "is_dependent_return", "individuals", "dependents"),
    *("primary_age", "elderly", *_SUMMED),
)
_RESULTS = ("taxable_social_security", "gross_income", "agi", "agi_class", "agi_class_county")


def build_tax_units(
    persons: pl.DataFrame,
    year: int,
    rules: TaxRules | None = None,
    *,
    alignment: Mapping[str, float] | None = None,
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """Tax units of ``persons`` (PersonTable; amounts in dollars of ``year``), and counted notes.

    One row per unit, sorted by key:

    * household_id; tax_unit (1 upwards, by the first person's number); state_fips;
    * primary_person, secondary_person (null unless joint); primary_age; elderly (primary 60 or
      more); filing_status; is_dependent_return; is_filer; dependents;
    * individuals: persons the unit puts on a return (members and dependents; the IRS N2 counts
      those of filers). 0 for the own return of a dependent claimed in his household; 1 for a
      student claimed elsewhere;
    * wages, self_employment, investment_income, retirement, social_security,
      unemployment_compensation (of members, not dependents); taxable_social_security;
      gross_income; agi; agi_class; agi_class_county.

    ``alignment`` multiplies amounts (of _SUMMED) for tax purposes only, where a survey is known to
    miss part of them: surveys record a third to a half less pension income than returns show. It is
    1 unless the caller states a factor with its source. Raises SpecError for a year without rules
    or an unknown amount, RecordsError for no persons.
    """
    if persons.is_empty():
        raise RecordsError(
            "There are no persons to build tax units from",
            where="persons",
            expected="at least one person",
            remedy="Check the state's records",
        )
    rules = rules or load_rules()
    law = rules.of(year)
    people = _prepare(persons, dict(alignment or {}))
    people = add_couples(people, rules.assumptions.couple_age_gap)
    people = add_dependents(people, rules, law)
    people = add_claimants(people, rules.assumptions.parent_gap_years)
    units = _units(people, rules, law)
    aligned = tuple(
        SourceNote("aligned", 0, f"{name} multiplied by {factor:.4f} for tax purposes")
        for name, factor in sorted((alignment or {}).items())
    )
    return units, _notes(persons, people, units) + aligned


def _prepare(persons: pl.DataFrame, alignment: dict[str, float]) -> pl.DataFrame:
    """Key, traits and amounts (nulls as zero), sorted; ``gross`` is income that tax law counts
    before Social Security, ``receipts`` the same without losses.
    """
    unknown = sorted(set(alignment) - set(_SUMMED))
    if unknown or not all(0 < factor < 100 for factor in alignment.values()):
        raise SpecError(
            f"An alignment is not possible: {alignment}",
            where="alignment of tax units",
            expected=f"positive factors for {', '.join(_SUMMED)}",
            remedy="Mend the profile",
        )
    summed = _summed(persons)
    column = {name: name for name in summed}
    if TAXABLE_WAGES in persons.columns:
        column["wages"] = TAXABLE_WAGES
    amounts = (
        (pl.col(column[name]).fill_null(0.0) * alignment.get(name, 1.0)).alias(name)
        for name in summed
    )
    gross = [name for name in summed if name != "social_security"]
    return (
        persons.select(*_TRAITS, *amounts, pl.col("total_income").fill_null(0.0))
        .sort("household_id", "person_number")
        .with_row_index("person")
        .with_columns(
            gross=sum_across(gross), receipts=sum_across(pl.col(name).clip(0) for name in gross)
        )
    )


def _summed(table: pl.DataFrame) -> list[str]:
    """Amounts that a unit has as the sum of its members', as far as the records hold them."""
    return [*_SUMMED, *(name for name in ALIGNED_AMOUNTS if name in table.columns)]


def _members(people: pl.DataFrame, rules: TaxRules) -> pl.DataFrame:
    """One row per unit: its members' traits and amounts, and the dependents it claims."""
    couple = pl.min_horizontal("person", "partner")
    first = pl.when(pl.col("partner").is_not_null()).then(couple).otherwise("person")
    members = people.with_columns(unit=first)
    related = pl.col("qualifying_child") | (pl.col("relationship") != "unmarried_partner")
    claimed = (
        people.filter("is_dependent")
        .join(members.select("unit", claimant="person"), on="claimant")
        .group_by("unit")
        .agg(dependents=pl.len().cast(pl.Int32), qualifies=related.any())
    )
    # The primary taxpayer of a joint return is the elder: returns do not say, and names were listed
    # so by custom.
    elder_first = pl.struct(-pl.col("age").cast(pl.Int32), "person_number")
    by_age = pl.col("person_number").sort_by(elder_first)
    of_household = ["household_id", "state_fips", "is_group_quarters"]
    units = members.group_by("unit").agg(
        pl.col(*of_household, "is_dependent", "claimed_elsewhere").first(),
        institution=(pl.col("relationship") == "gq_institutional").any(),
        first_number=pl.col("person_number").min(),
        primary_person=by_age.first(),
        secondary_person=pl.when(pl.len() > 1).then(by_age.last()),
        members=pl.len().cast(pl.Int32),
        primary_age=pl.col("age").max(),
        aged_members=(pl.col("age") >= rules.aged).sum().cast(pl.Int32),
        married=(pl.col("marital_status") == "married").any(),
        **{n: sum_in_order(n, "person") for n in (*_summed(people), "receipts", "gross")},
    )
    return units.join(claimed, on="unit", how="left").with_columns(
        pl.col("dependents").fill_null(0), pl.col("qualifies").fill_null(False)
    )


def _units(people: pl.DataFrame, rules: TaxRules, law: TaxYear) -> pl.DataFrame:
    """One row per unit, with status, amounts and whether it files."""
    joint = pl.col("members") == 2
    status = (
        pl.when(joint)
        .then(pl.lit("joint"))
        .when(pl.col("qualifies"))
        .then(pl.lit("head_of_household"))
        .when("married")
        .then(pl.lit("separate"))
        .otherwise(pl.lit("single"))
    )
    benefits, gross = pl.col("social_security"), pl.col("gross")
    taxable = taxable_social_security(benefits, gross, joint, rules.social_security)
    units = _members(people, rules).with_columns(
        filing_status=status, taxable_social_security=taxable
    )
    on_return = pl.col("members") + pl.col("dependents")
    return (
        units.with_columns(
            gross_income=pl.col("receipts") + pl.col("taxable_social_security"),
            agi=pl.col("gross") + pl.col("taxable_social_security"),
            is_dependent_return=pl.col("is_dependent") | pl.col("claimed_elsewhere"),
        )
        # A dependent without income is no unit: he is on his claimant's return only.
        .filter(~pl.col("is_dependent") | (pl.col("receipts") > 0))
        .sort("household_id", "first_number")
        .with_columns(
            tax_unit=pl.int_range(1, pl.len() + 1).over("household_id").cast(pl.Int32),
            is_filer=files_a_return(rules, law),
            individuals=pl.when("is_dependent").then(0).otherwise(on_return).cast(pl.Int32),
            elderly=pl.col("primary_age") >= rules.elderly_return_age,
            agi_class=agi_class(pl.col("agi")),
            agi_class_county=agi_class(pl.col("agi"), county=True),
        )
        .select(*_COLUMNS, *_summed(people)[len(_SUMMED) :], *_RESULTS)
    )


def _notes(
    persons: pl.DataFrame, people: pl.DataFrame, units: pl.DataFrame
) -> tuple[SourceNote, ...]:
    heads = pl.col("relationship").is_in(["reference_person", "spouse"])
    paired = people.filter(pl.col("partner").is_not_null() & ~heads).height // 2
    missing = [name for name in _SUMMED if persons[name].null_count() == persons.height]
    counted = (
        ("tax_units", units.height, "tax units built"),
        ("filers", units["is_filer"].sum(), "tax units that file"),
        (
            "dependents",
            people["is_dependent"].sum(),
            "persons claimed as dependents in their household",
        ),
        (
            "claimed_elsewhere",
            people["claimed_elsewhere"].sum(),
            "persons taken to be claimed by someone outside their household",
        ),
        (
            "couples_paired",
            paired,
            "couples other than the householder's, paired by kinship and age",
        ),
    )
    notes = tuple(SourceNote(code, int(count), detail) for code, count, detail in counted)
    if not missing:
        return notes
    detail = f"amounts unknown to this source and taken as zero: {', '.join(missing)}"
    return (*notes, SourceNote("amounts_unknown", len(missing), detail))
