"""Tax units from survey persons, by a documented rule.

Belongs here: who files with whom, who is claimed by whom, who files at all, and the amounts a
return would show, as far as the survey knows them. Does not belong here: the figures of tax law
(``data_specs/factors/tax_rules.yaml``), tax liability, or targets.

The rule, in order (figures by year in the YAML):

1. *Couples.* Householder and spouse. Other married persons of a household are paired by sex,
   kinship and least difference in age (two relatives of different kinds, or two nonrelatives). They
   file jointly. A married person with no spouse in the household files separately.
2. *Dependents.* In households, a person outside any couple who is not the householder is a
   dependent if (a) a qualifying child: under 19, or under 24 and in school with total income below
   the single standard deduction; or (b) a qualifying relative: a relative or the unmarried partner,
   whose gross income (without Social Security) is below the exemption amount and whose total income
   is below ``support_share`` of the household's mean income per person.
3. *Claimants.* The householder's unit claims; but a grandchild is claimed by a son or daughter of
   the householder, another relative's child by another adult relative, and a nonrelative child by
   the partner or an adult nonrelative, who is not a dependent and at least ``parent_gap_years``
   older, if there is one (the one with the highest gross income).
4. *Students away.* A student under 24 with total income below the single standard deduction who is
   a householder, partner, nonrelative or lives in group quarters is claimed by parents elsewhere:
   his own return, if any, is a dependent's, but he counts as one individual where he lives.
5. *Status.* Joint; head of household (unmarried, or spouse absent, with a qualifying child or a
   relative as dependent); separate; single.
6. *Returns.* A unit files if gross income reaches the filing threshold (standard deduction, plus
   exemptions before 2018, plus the addition for age), or net self-employment reaches 400 dollars,
   or taxable income of any kind (for a dependent: wages) reaches ``voluntary_income``, because tax
   was withheld or a credit can be claimed. A dependent with own income is a unit of his own by the
   same rule, with the dependents' thresholds. Persons in institutions file only if they must.

    taxable Social Security = min(0.85 B, 0.5 min(B, P - base, upper - base) + 0.85 (P - upper)),  P
    = other income + B / 2      (IRC section 86) adjusted gross income = wages + self-employment +
    investment + retirement + unemployment compensation + taxable Social Security

Measured on the ACS PUMS 2018 of ten states (DE ID MT ND NE NH RI SD VT WY) with the proxy for
unemployment compensation, weighted by the primary person, against Historic Table 2 of tax year
2018, in per cent (Rhode Island in brackets): returns 0 to +6 (+1.1), joint returns -5 to +3 (-1.3),
individuals -3 to +2 (-2.1), elderly returns -6 to +5 (+3.0), returns with wages +1 to +8 (+1.1),
wages 0 to +11 (+5.3). Wide gaps: single returns +4 to +15 (+8.8), heads of household -2 to -22
(-22.2), pensions -40 to -53 (-42), taxable Social Security -32 to -46 (-43), business income +2 to
+280 (+40). ``voluntary_income`` was chosen on these same ten states, so the first figures are a
fit, not a test.

Not in the survey, hence not in ``agi``: capital gains, partnership and S-corporation income beyond
self-employment, IRA distributions that people do not call retirement income, tax-exempt interest,
statutory adjustments.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import polars as pl

from pipeline.errors import RecordsError, SpecError
from pipeline.ordered_sums import sum_across, sum_in_order
from pipeline.sources.base import SourceNote
from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml

RULES_PATH = SPEC_ROOT / "factors" / "tax_rules.yaml"
FILING_STATUS = ("single", "joint", "head_of_household", "separate")
AGI_CLASS_STARTS = (
    1.0,
    10_000.0,
    25_000.0,
    50_000.0,
    75_000.0,
    100_000.0,
    200_000.0,
    500_000.0,
    1_000_000.0,
)
"""Lower ends of Historic Table 2 classes 2 to 10; class 1 is below one dollar. County classes are the same up to 7, and 8 is 200,000 or more."""
_SUMMED = (
    "wages",
    "self_employment",
    "investment_income",
    "retirement",
    "social_security",
    "unemployment_compensation",
)
_GROSS = (
    "wages",
    "self_employment",
    "investment_income",
    "retirement",
    "unemployment_compensation",
)


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
    """Taxable part of ``benefits`` (dollars), by the provisional-income formula of IRC section 86;
    see the module's docstring.
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
    return (
        (1 + pl.sum_horizontal(*(agi >= start for start in starts))).cast(pl.Int32).cast(pl.String)
    )


def build_tax_units(
    persons: pl.DataFrame,
    year: int,
    rules: TaxRules | None = None,
    *,
    alignment: Mapping[str, float] | None = None,
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """Tax units of ``persons`` (PersonTable; amounts in dollars of ``year``), and counted notes.

    One row per unit: household_id; tax_unit (1 upwards, by the first person's number);
    primary_person, secondary_person (null unless joint); state_fips; filing_status;
    is_dependent_return; is_filer; dependents; individuals (persons the unit puts on a return:
    members and dependents; 0 for the own return of a dependent claimed in his household; 1 for a
    student claimed elsewhere; the IRS N2 counts those of filers); primary_age; elderly (primary 60
    or more); wages, self_employment, investment_income, retirement, social_security,
    unemployment_compensation (of members, not dependents); taxable_social_security; gross_income;
    agi; agi_class; agi_class_county. Sorted by key. ``alignment`` multiplies amounts (of _SUMMED)
    for tax purposes only, where a survey is known to miss part of them: surveys record a third to a
    half less pension income than returns show. It is 1 unless the caller states a factor with its
    source. Raises SpecError for a year without rules or an unknown amount, RecordsError for no
    persons.
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
    people = _couples(people, rules.assumptions.couple_age_gap)
    people = _dependents(people, rules, law)
    people = _claims(people, rules.assumptions.parent_gap_years)
    units = _units(people, rules, law)
    notes = _notes(persons, people, units)
    aligned = tuple(
        SourceNote("aligned", 0, f"{name} multiplied by {factor:.4f} for tax purposes")
        for name, factor in sorted((alignment or {}).items())
    )
    return units, notes + aligned


def _prepare(persons: pl.DataFrame, alignment: dict[str, float]) -> pl.DataFrame:
    """Key, traits and amounts (nulls as zero), sorted; ``gross`` is income that tax law counts
    before Social Security.
    """
    columns = [
        "household_id",
        "person_number",
        "state_fips",
        "is_group_quarters",
        "age",
        "sex",
        "relationship",
        "marital_status",
        "school",
    ]
    unknown = sorted(set(alignment) - set(_SUMMED))
    if unknown or not all(0 < factor < 100 for factor in alignment.values()):
        raise SpecError(
            f"An alignment is not possible: {alignment}",
            where="alignment of tax units",
            expected=f"positive factors for {', '.join(_SUMMED)}",
            remedy="Mend the profile",
        )
    return (
        persons.select(
            *columns,
            *(pl.col(name).fill_null(0.0) * alignment.get(name, 1.0) for name in _SUMMED),
            pl.col("total_income").fill_null(0.0),
        )
        .sort("household_id", "person_number")
        .with_row_index("person")
        .with_columns(
            sum_across(_GROSS).alias("gross"),
            sum_across(pl.col(name).clip(0) for name in _GROSS).alias("receipts"),
        )
    )


def _couples(people: pl.DataFrame, age_gap: int) -> pl.DataFrame:
    """Add ``partner``: the row number of the spouse, or null."""
    keys = ["person", "household_id", "age", "sex", "relationship"]
    heads = people.filter(pl.col("relationship") == "reference_person").select(
        pl.col("household_id"), pl.col("person").alias("a")
    )
    spouses = (
        people.filter(pl.col("relationship") == "spouse")
        .group_by("household_id")
        .agg(pl.col("person").min().alias("b"))
    )
    pairs = heads.join(spouses, on="household_id").select("a", "b")
    others = people.filter(
        (pl.col("marital_status") == "married")
        & (pl.col("age") >= 16)
        & pl.col("relationship").is_in(["child", "grandchild", "other_relative", "nonrelative"])
        & ~pl.col("is_group_quarters")
    ).select(keys)
    kin = pl.col("relationship") != "nonrelative"
    kin_right = pl.col("relationship_b") != "nonrelative"
    descendants = pl.col("relationship").is_in(["child", "grandchild"]) & pl.col(
        "relationship_b"
    ).is_in(["child", "grandchild"])
    options = (
        others.join(others, on="household_id", suffix="_b")
        .filter(
            (pl.col("person") < pl.col("person_b"))
            & (pl.col("sex") != pl.col("sex_b"))
            & (kin == kin_right)
            & ~descendants
        )
        .with_columns((pl.col("age").cast(pl.Int32) - pl.col("age_b")).abs().alias("gap"))
        .filter(pl.col("gap") <= age_gap)
        .sort("gap", "person", "person_b")
    )
    taken: set[int] = set()
    chosen: list[tuple[int, int]] = []
    for a, b in options.select("person", "person_b").iter_rows():
        if a not in taken and b not in taken:
            taken |= {a, b}
            chosen.append((a, b))
    more = pl.DataFrame(
        {"a": [a for a, _ in chosen], "b": [b for _, b in chosen]},
        schema={"a": pl.UInt32, "b": pl.UInt32},
    )
    both = pl.concat([pairs, more])
    lookup = pl.concat(
        [
            both.select(pl.col("a").alias("person"), pl.col("b").alias("partner")),
            both.select(pl.col("b").alias("person"), pl.col("a").alias("partner")),
        ]
    )
    return people.join(lookup, on="person", how="left", maintain_order="left")


def _dependents(people: pl.DataFrame, rules: TaxRules, law: TaxYear) -> pl.DataFrame:
    """Add ``is_dependent`` (claimed in the household), ``qualifying_child`` and
    ``claimed_elsewhere``.
    """
    limit = law.standard_deduction.single
    in_school = pl.col("school").is_in(["college", "grades_9_12", "grades_1_8"]).fill_null(False)
    unmarried = pl.col("marital_status") != "married"
    student = in_school & (pl.col("age") < rules.student_age) & (pl.col("total_income") < limit)
    free = (
        pl.col("partner").is_null()
        & ~pl.col("is_group_quarters")
        & ~pl.col("relationship").is_in(["reference_person", "spouse"])
    )
    kin = pl.col("relationship").is_in(["child", "grandchild", "other_relative"])
    share = (
        pl.col("total_income").sum().over("household_id")
        / pl.len().over("household_id")
        * rules.assumptions.support_share
    )
    child = (
        free
        & unmarried
        & (pl.col("relationship") != "unmarried_partner")
        & ((pl.col("age") < rules.child_age) | (student & kin))
    )
    relative = (
        free
        & unmarried
        & (kin | (pl.col("relationship") == "unmarried_partner"))
        & (pl.col("receipts") < law.personal_exemption)
        & (pl.col("total_income") < share)
    )
    college = (pl.col("school") == "college").fill_null(False)
    on_their_own = pl.col("relationship").is_in(
        ["reference_person", "unmarried_partner", "nonrelative", "gq_noninstitutional"]
    )
    away = (
        college
        & student
        & unmarried
        & pl.col("partner").is_null()
        & on_their_own
        & (pl.col("age") >= 15)
    )
    ward = pl.col("is_group_quarters") & (pl.col("age") < rules.child_age)
    return people.with_columns(
        child.alias("qualifying_child"), (child | relative).alias("is_dependent")
    ).with_columns(((away | ward) & ~pl.col("is_dependent")).alias("claimed_elsewhere"))


def _claims(people: pl.DataFrame, gap: int) -> pl.DataFrame:
    """Add ``claimant``: the row number of the person whose unit claims the dependent (null for
    others).
    """
    heads = people.filter(pl.col("relationship") == "reference_person").select(
        "household_id", pl.col("person").alias("head")
    )
    parents = people.filter(
        ~pl.col("is_dependent")
        & ~pl.col("is_group_quarters")
        & ~pl.col("relationship").is_in(["reference_person", "spouse"])
    ).select(
        "household_id",
        pl.col("person").alias("parent"),
        pl.col("age").alias("parent_age"),
        pl.col("relationship").alias("parent_kind"),
        pl.col("receipts").alias("parent_gross"),
    )
    kind = pl.col("relationship")
    fits = (
        ((kind == "grandchild") & (pl.col("parent_kind") == "child"))
        | ((kind == "other_relative") & (pl.col("parent_kind") == "other_relative"))
        | (
            (kind == "nonrelative")
            & pl.col("parent_kind").is_in(["unmarried_partner", "nonrelative"])
        )
    )
    own = (
        people.filter("qualifying_child")
        .select("person", "household_id", "age", "relationship")
        .join(parents, on="household_id")
        .filter(fits & (pl.col("parent_age") >= pl.col("age") + gap))
        # A partner is preferred to a roommate as the parent of a nonrelative child.
        .sort(
            [
                "person",
                pl.col("parent_kind") != "unmarried_partner",
                -pl.col("parent_gross"),
                "parent",
            ]
        )
        .group_by("person", maintain_order=True)
        .agg(pl.col("parent").first())
    )
    joined = people.join(heads, on="household_id", how="left", maintain_order="left").join(
        own, on="person", how="left", maintain_order="left"
    )
    return joined.with_columns(
        pl.when("is_dependent").then(pl.coalesce("parent", "head")).alias("claimant")
    ).drop("head", "parent")


def _units(people: pl.DataFrame, rules: TaxRules, law: TaxYear) -> pl.DataFrame:
    """One row per unit, with status, amounts and whether it files."""
    first = (
        pl.when(pl.col("partner").is_not_null())
        .then(pl.min_horizontal("person", "partner"))
        .otherwise("person")
    )
    members = people.with_columns(first.alias("unit"))
    claimed = (
        people.filter("is_dependent")
        .join(members.select(pl.col("person").alias("claimant"), "unit"), on="claimant")
        .group_by("unit")
        .agg(
            pl.len().cast(pl.Int32).alias("dependents"),
            (pl.col("qualifying_child") | (pl.col("relationship") != "unmarried_partner"))
            .any()
            .alias("qualifies"),
        )
    )
    # The primary taxpayer of a joint return is the elder: returns do not say, and names were listed
    # so by custom.
    order = pl.struct(-pl.col("age").cast(pl.Int32), "person_number")
    units = members.group_by("unit").agg(
        pl.col(
            "household_id", "state_fips", "is_group_quarters", "is_dependent", "claimed_elsewhere"
        ).first(),
        (pl.col("relationship") == "gq_institutional").any().alias("institution"),
        pl.col("person_number").min().alias("first_number"),
        pl.col("person_number").sort_by(order).first().alias("primary_person"),
        pl.when(pl.len() > 1)
        .then(pl.col("person_number").sort_by(order).last())
        .alias("secondary_person"),
        pl.len().cast(pl.Int32).alias("members"),
        pl.col("age").max().alias("primary_age"),
        (pl.col("age") >= rules.aged).sum().cast(pl.Int32).alias("aged_members"),
        (pl.col("marital_status") == "married").any().alias("married"),
        *(sum_in_order(name, "person") for name in _SUMMED),
        sum_in_order("receipts", "person"),
        sum_in_order("gross", "person"),
    )
    units = units.join(claimed, on="unit", how="left").with_columns(
        pl.col("dependents").fill_null(0), pl.col("qualifies").fill_null(False)
    )
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
    benefits = taxable_social_security(
        pl.col("social_security"), pl.col("gross"), joint, rules.social_security
    )
    units = units.with_columns(
        status.alias("filing_status"), benefits.alias("taxable_social_security")
    ).with_columns(
        (pl.col("receipts") + pl.col("taxable_social_security")).alias("gross_income"),
        (pl.col("gross") + pl.col("taxable_social_security")).alias("agi"),
        (pl.col("is_dependent") | pl.col("claimed_elsewhere")).alias("is_dependent_return"),
    )
    filer = _files(rules, law)
    individuals = (
        pl.when("is_dependent")
        .then(0)
        .otherwise(pl.col("members") + pl.col("dependents"))
        .cast(pl.Int32)
    )
    return (
        # A dependent without income is no unit: he is on his claimant's return only.
        units.filter(~pl.col("is_dependent") | (pl.col("receipts") > 0))
        .sort("household_id", "first_number")
        .with_columns(
            pl.int_range(1, pl.len() + 1).over("household_id").cast(pl.Int32).alias("tax_unit")
        )
        .with_columns(
            filer.alias("is_filer"),
            individuals.alias("individuals"),
            (pl.col("primary_age") >= rules.elderly_return_age).alias("elderly"),
            agi_class(pl.col("agi")).alias("agi_class"),
            agi_class(pl.col("agi"), county=True).alias("agi_class_county"),
        )
        .select(
            "household_id",
            "tax_unit",
            "state_fips",
            "primary_person",
            "secondary_person",
            "filing_status",
            "is_filer",
            "is_dependent_return",
            "individuals",
            "dependents",
            "primary_age",
            "elderly",
            *_SUMMED,
            "taxable_social_security",
            "gross_income",
            "agi",
            "agi_class",
            "agi_class_county",
        )
    )


def _files(rules: TaxRules, law: TaxYear) -> pl.Expr:
    """True where a unit files; see rule 6 of the module's docstring."""
    deduction = pl.col("filing_status").replace_strict(
        {
            "single": law.standard_deduction.single,
            "joint": law.standard_deduction.joint,
            "head_of_household": law.standard_deduction.head_of_household,
            "separate": 5.0,
        },
        return_dtype=pl.Float64,
    )
    if law.exemption_deductible:
        deduction = (
            pl.when(pl.col("filing_status") == "separate")
            .then(law.personal_exemption)
            .otherwise(deduction + law.personal_exemption * pl.col("members"))
        )
    addition = (
        pl.when(pl.col("filing_status") == "joint")
        .then(law.aged_married)
        .when(pl.col("filing_status") == "separate")
        .then(0.0)
        .otherwise(law.aged_unmarried)
    )
    must = pl.col("gross_income") >= deduction + addition * pl.col("aged_members")
    unearned = pl.col("gross_income") - pl.col("wages") - pl.col("self_employment").clip(0)
    dependent_must = (pl.col("gross_income") >= law.standard_deduction.single) | (
        unearned > law.dependent_unearned
    )
    self_employed = pl.col("self_employment") >= rules.assumptions.self_employment_must_file
    income = pl.when("is_dependent_return").then("wages").otherwise("receipts")
    voluntary = (income >= rules.assumptions.voluntary_income) & ~pl.col("institution")
    return (
        pl.when("is_dependent_return").then(dependent_must).otherwise(must)
        | self_employed
        | voluntary
    )


def _notes(
    persons: pl.DataFrame, people: pl.DataFrame, units: pl.DataFrame
) -> tuple[SourceNote, ...]:
    paired = people.filter(
        pl.col("partner").is_not_null()
        & ~pl.col("relationship").is_in(["reference_person", "spouse"])
    ).height
    notes = [
        SourceNote("tax_units", units.height, "tax units built"),
        SourceNote("filers", units.filter("is_filer").height, "tax units that file"),
        SourceNote(
            "dependents",
            people.filter("is_dependent").height,
            "persons claimed as dependents in their household",
        ),
        SourceNote(
            "claimed_elsewhere",
            people.filter("claimed_elsewhere").height,
            "persons taken to be claimed by someone outside their household",
        ),
        SourceNote(
            "couples_paired",
            paired // 2,
            "couples other than the householder's, paired by kinship and age",
        ),
    ]
    missing = [name for name in _SUMMED if persons[name].null_count() == persons.height]
    if missing:
        notes.append(
            SourceNote(
                "amounts_unknown",
                len(missing),
                f"amounts unknown to this source and taken as zero: {', '.join(missing)}",
            )
        )
    return tuple(notes)
