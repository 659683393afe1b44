"""Who files with whom and who is claimed by whom: rules 1 to 4 of ``tax_units.py``.

Belongs here: couples, dependents, claimants and students away, added as columns of the persons of a
state. Does not belong here: the units made of them (``tax_units.py``) or figures of tax law
(``tax_rules.py``).
"""

from __future__ import annotations

import polars as pl

from pipeline.records.tax_rules import TaxRules, TaxYear

_HEADS = ("reference_person", "spouse")
_DESCENDANTS = ("child", "grandchild")
_KIN = (*_DESCENDANTS, "other_relative")


def add_couples(people: pl.DataFrame, age_gap: int) -> pl.DataFrame:
    """Add ``partner``: the row number of the spouse, or null."""
    related_as = pl.col("relationship")
    heads = people.filter(related_as == "reference_person")
    spouses = people.filter(related_as == "spouse").group_by("household_id")
    pairs = (
        heads.select("household_id", a="person")
        .join(spouses.agg(b=pl.col("person").min()), on="household_id")
        .select("a", "b")
    )
    both = pl.concat([pairs, _other_couples(people, age_gap)])
    lookup = pl.concat(
        [
            both.select(pl.col("a").alias("person"), pl.col("b").alias("partner")),
            both.select(pl.col("b").alias("person"), pl.col("a").alias("partner")),
        ]
    )
    return people.join(lookup, on="person", how="left", maintain_order="left")


def _other_couples(people: pl.DataFrame, age_gap: int) -> pl.DataFrame:
    """Couples other than the householder's (columns a, b): the pairs nearest in age first, each
    person once.
    """
    one, other = pl.col("relationship"), pl.col("relationship_b")
    married = people.filter(
        (pl.col("marital_status") == "married")
        & (pl.col("age") >= 16)
        & one.is_in([*_KIN, "nonrelative"])
        & ~pl.col("is_group_quarters")
    ).select("person", "household_id", "age", "sex", "relationship")
    gap = (pl.col("age").cast(pl.Int32) - pl.col("age_b")).abs()
    options = (
        married.join(married, on="household_id", suffix="_b")
        .filter(
            pl.col("person") < pl.col("person_b"),
            pl.col("sex") != pl.col("sex_b"),
            (one != "nonrelative") == (other != "nonrelative"),
            ~(one.is_in(_DESCENDANTS) & other.is_in(_DESCENDANTS)),
            gap <= age_gap,
        )
        .sort(gap, "person", "person_b")
    )
    partner_of: dict[int, int] = {}
    for a, b in options.select("person", "person_b").iter_rows():
        if a not in partner_of and b not in partner_of:
            partner_of |= {a: b, b: a}
    chosen = [(a, b) for a, b in partner_of.items() if a < b]
    return pl.DataFrame(chosen, schema={"a": pl.UInt32, "b": pl.UInt32}, orient="row")


def add_dependents(people: pl.DataFrame, rules: TaxRules, law: TaxYear) -> pl.DataFrame:
    """Add ``is_dependent`` (claimed in the household), ``qualifying_child`` and
    ``claimed_elsewhere``.
    """
    related_as, age, income = pl.col("relationship"), pl.col("age"), pl.col("total_income")
    single = pl.col("partner").is_null() & (pl.col("marital_status") != "married")
    free = single & ~pl.col("is_group_quarters") & ~related_as.is_in(_HEADS)
    kin, partner = related_as.is_in(_KIN), related_as == "unmarried_partner"
    in_school = pl.col("school").is_in(["college", "grades_9_12", "grades_1_8"]).fill_null(False)
    of_means = income < law.standard_deduction.single
    student = in_school & (age < rules.student_age) & of_means
    child = free & ~partner & ((age < rules.child_age) | (student & kin))
    per_person = income.sum().over("household_id") / pl.len().over("household_id")
    supported = income < per_person * rules.assumptions.support_share
    poor = pl.col("receipts") < law.personal_exemption
    relative = free & (kin | partner) & poor & supported
    college = (pl.col("school") == "college").fill_null(False)
    on_their_own = related_as.is_in(
        ["reference_person", "unmarried_partner", "nonrelative", "gq_noninstitutional"]
    )
    away = college & student & single & on_their_own & (age >= 15)
    ward = pl.col("is_group_quarters") & (age < rules.child_age)
    return people.with_columns(qualifying_child=child, is_dependent=child | relative).with_columns(
        claimed_elsewhere=(away | ward) & ~pl.col("is_dependent")
    )


def add_claimants(people: pl.DataFrame, gap: int) -> pl.DataFrame:
    """Add ``claimant``: the row number of the person whose unit claims the dependent (null for
    others).
    """
    related_as, parent_as = pl.col("relationship"), pl.col("parent_as")
    heads = people.filter(related_as == "reference_person").select("household_id", head="person")
    parents = people.filter(
        ~pl.col("is_dependent") & ~pl.col("is_group_quarters") & ~related_as.is_in(_HEADS)
    ).select(
        "household_id",
        parent="person",
        parent_age="age",
        parent_as="relationship",
        parent_gross="receipts",
    )
    fits = (
        ((related_as == "grandchild") & (parent_as == "child"))
        | ((related_as == "other_relative") & (parent_as == "other_relative"))
        | ((related_as == "nonrelative") & parent_as.is_in(["unmarried_partner", "nonrelative"]))
    )
    # A partner is preferred to a roommate as the parent of a nonrelative child.
    preferred = ["person", parent_as != "unmarried_partner", -pl.col("parent_gross"), "parent"]
    own = (
        people.filter("qualifying_child")
        .select("person", "household_id", "age", "relationship")
        .join(parents, on="household_id")
        .filter(fits & (pl.col("parent_age") >= pl.col("age") + gap))
        .sort(preferred)
        .group_by("person", maintain_order=True)
        .agg(pl.col("parent").first())
    )
    claimant = pl.when("is_dependent").then(pl.coalesce("parent", "head"))
    return (
        people.join(heads, on="household_id", how="left", maintain_order="left")
        .join(own, on="person", how="left", maintain_order="left")
        .with_columns(claimant=claimant)
        .drop("head", "parent")
    )
