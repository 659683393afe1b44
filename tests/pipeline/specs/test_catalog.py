"""Every spec file loads, refers only to what exists, and says what its name says."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import yaml

from pipeline.errors import ProfileError
from pipeline.records.expressions import measure
from pipeline.sources.microdata.schema import (
    CLASS_OF_WORKER,
    COMMUTE,
    EMPLOYMENT,
    MARITAL_STATUS,
    MOVED,
    RACE,
    RELATIONSHIP,
    SCHOOL,
    SEX,
)
from pipeline.specs.base import SPEC_ROOT, load_yaml
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.variables import VariableFile

UNITS = {
    "persons": "persons",
    "households": "households",
    "returns": "returns",
    "individuals": "persons",
}
PERSON_AMOUNTS = (
    *("wages", "self_employment", "investment_income", "retirement", "public_assistance"),
    *("other_income", "total_income"),
)
ANY_AMOUNTS = ("wages", "investment", "retirement", "public_assistance")


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return load_catalog()


def test_every_file_is_loaded(catalog: Catalog) -> None:
    catalog.check()
    assert {p.stem for p in (SPEC_ROOT / "targets").glob("*.yaml")} == set(catalog.targets)
    assert {p.stem for p in (SPEC_ROOT / "profiles").glob("*.yaml")} == set(catalog.profiles)
    listed = [
        v
        for p in (SPEC_ROOT / "variables").glob("*.yaml")
        for v in yaml.safe_load(p.read_text())["variables"]
    ]
    assert len(listed) == len(catalog.variables)


def test_three_profiles_with_their_years_and_levels(catalog: Catalog) -> None:
    found = {p.id: (p.synthetic, p.target_year, p.finest_level) for p in catalog.profiles.values()}
    assert found["sample"] == (True, 2022, "tract")
    assert found["rhode_island"] == (False, 2022, "tract")
    assert found["counties_2018"] == (False, 2018, "county")
    assert "SYNTHETIC" in catalog.profiles["sample"].title


@pytest.mark.parametrize(
    ("level", "at_least"), [("tract", 46), ("county", 20), ("state", 100), ("nation", 100)]
)
def test_rhode_island_states_enough_variables(catalog: Catalog, level: str, at_least: int) -> None:
    profile = catalog.profile("rhode_island")
    open_items = [
        i
        for s in catalog.specs_of(profile, [level])
        for i in s.items_of(catalog.vintage_of(s, profile))
        if not i.validation_only
    ]
    assert len({(i.variable, i.domain) for i in open_items}) >= at_least


def test_every_variable_is_targeted_standard_or_balanced(catalog: Catalog) -> None:
    used = {(i.variable, i.domain) for spec in catalog.targets.values() for i in spec.items}
    standard = load_yaml(SPEC_ROOT / "variables" / "standard.yaml", VariableFile).variables
    used |= {variable.key for variable in standard}
    families = {name for p in catalog.profiles.values() for name in p.method.balanced}
    used |= {key for key, each in catalog.variables.items() if each.family in families}
    assert set(catalog.variables) - used == set()


def test_no_measure_has_two_names(catalog: Catalog) -> None:
    """Two names of one measure would weigh it twice in the draw, and be reported twice."""
    measures: dict[tuple[str | None, ...], set[tuple[str, str]]] = {}
    for key, variable in catalog.variables.items():
        if variable.expressible:
            words = (variable.over, variable.where or "", variable.value or "1")
            measures.setdefault(tuple(" ".join(w.split()) for w in words), set()).add(key)
    assert [sorted(keys) for keys in measures.values() if len(keys) > 1] == []


def test_units_agree_with_measures(catalog: Catalog) -> None:
    for variable in catalog.variables.values():
        expected = "usd" if variable.variable.startswith("usd_") else UNITS[variable.variable]
        assert variable.unit == expected, variable.key


def test_reasons_and_defences_are_sentences(catalog: Catalog) -> None:
    for spec in catalog.targets.values():
        defended = [
            spec.carry.why,
            spec.standard_error.why,
            *(i.carry.why for i in spec.items if i.carry),
            *(i.validation_only for i in spec.items if i.validation_only),
        ]
        assert all(len(text) > 25 for text in defended), spec.id


def test_age_sex_partitions_cover_each_age_of_each_sex_once(catalog: Catalog) -> None:
    partitioned = [spec for spec in catalog.targets.values() if spec.age_sex_partition]
    assert {spec.id for spec in partitioned} == {"state_b01001", "tract_census_ages"}
    for spec in partitioned:
        for sex in ("male", "female"):
            ages = [
                age
                for cell in spec.age_sex_partition
                if cell.sex == sex
                for age in range(cell.ages[0], cell.ages[1] + 1)
            ]
            assert sorted(ages) == list(range(0, 121)), (spec.id, sex)


def test_unknown_profile_names_those_there_are(catalog: Catalog) -> None:
    with pytest.raises(ProfileError, match="counties_2018, rhode_island, sample"):
        catalog.profile("ohio")


def test_vintage_is_the_earliest_not_before_the_target_year(catalog: Catalog) -> None:
    assert (
        catalog.vintage_of(catalog.targets["pep_counties"], catalog.profile("rhode_island"))
        == "2024"
    )
    assert (
        catalog.vintage_of(catalog.targets["pep_counties"], catalog.profile("counties_2018"))
        == "2019"
    )


def test_a_table_of_one_year_is_taken_from_the_nearest(catalog: Catalog) -> None:
    county_ssi = catalog.targets["county_ssi"]
    assert catalog.vintage_of(county_ssi, catalog.profile("rhode_island")) == "2024"
    assert catalog.vintage_of(county_ssi, catalog.profile("counties_2018")) == "2017"
    profile = catalog.profile("rhode_island")
    for target_year, taken in ((2020, "2017"), (2021, "2024"), (2030, "2024"), (2000, "2017")):
        moved = profile.model_copy(update={"target_year": target_year})
        assert catalog.vintage_of(county_ssi, moved) == taken
    listed = {**profile.sources, "ssa_ssi_counties": ("2018", "2022", "2024")}
    tie = profile.model_copy(update={"target_year": 2020, "sources": listed})
    assert catalog.vintage_of(county_ssi, tie) == "2022"


def test_items_of_one_vintage_only_are_left_out_of_others(catalog: Catalog) -> None:
    spec = catalog.targets["county_irs"]
    assert {i.domain for i in spec.items_of("2022")} - {
        i.domain for i in spec.items_of("2012")
    } == {"elderly"}


def test_tables_of_carry_rules_are_required_only_where_something_is_carried(
    catalog: Catalog,
) -> None:
    assert ("pep_age_sex", "2024") in catalog.required_tables(catalog.profile("rhode_island"))
    assert ("ssa_ssi_counties", "2024") not in catalog.required_tables(catalog.profile("sample"))
    assert catalog.rules_in_force(catalog.profile("sample"), ["nation", "state"]) == set()
    assert {s for s, _ in catalog.required_tables(catalog.profile("sample"), ["state"])} == {
        "pep_counties",
        "acs1_detailed",
        "irs_historic_table_2",
        "ssa_ssi_counties",
        "ssa_oasdi_counties",
    }


def _random_tables(size: int, seed: int) -> dict[str, pl.DataFrame]:
    """Records that take every code, independent of one another: enough to show that conditions are
    exclusive and exhaustive.
    """
    rng = np.random.default_rng(seed)
    ids = [f"h{i:05d}" for i in range(size)]

    def pick(values: tuple[str, ...]) -> list[str]:
        return rng.choice(values, size).tolist()

    def flag() -> list[bool]:
        return (rng.random(size) < 0.5).tolist()

    def dollars() -> np.ndarray:
        return np.round(rng.normal(60_000, 80_000, size))

    persons = pl.DataFrame(
        {
            "household_id": ids,
            "person_number": [1] * size,
            "age": rng.integers(0, 100, size),
            "sex": pick(SEX),
            "race": pick(RACE),
            "hispanic": flag(),
            "education": rng.integers(1, 25, size),
            "school": pick(SCHOOL),
            "employment": pick(EMPLOYMENT),
            "commute": pick(COMMUTE),
            "moved": pick(MOVED),
            "class_of_worker": pick(CLASS_OF_WORKER),
            "relationship": pick(RELATIONSHIP),
            "disability": flag(),
            "foreign_born": flag(),
            "citizen": flag(),
            "naturalized": flag(),
            "other_language": flag(),
            "gave_birth": flag(),
            "poverty_ratio": rng.integers(0, 502, size),
            "ssi": np.abs(dollars()),
            "social_security": np.abs(dollars()),
            "marital_status": pick(MARITAL_STATUS),
            "veteran": flag(),
            "weeks_worked": rng.integers(0, 53, size),
            "hours_worked": rng.integers(0, 100, size),
            **{name: np.abs(dollars()) for name in PERSON_AMOUNTS},
        }
    ).with_columns(is_group_quarters=pl.col("relationship").str.starts_with("gq_"))
    households = pl.DataFrame(
        {
            "household_id": ids,
            "is_group_quarters": flag(),
            "household_income": dollars(),
            "household_type": pick(("married_couple", "male_householder", "female_householder")),
            "cohabiting": flag(),
            "living_alone": flag(),
            "householder_sex": pick(SEX),
            "householder_age": rng.integers(15, 95, size),
            "tenure": pick(("owner", "renter")),
            "own_children_under_18": rng.integers(0, 3, size),
            "children_under_18": rng.integers(0, 3, size),
            "persons_65_plus": rng.integers(0, 3, size),
            "persons": rng.integers(1, 8, size),
            "workers": rng.integers(0, 4, size),
            "is_family": flag(),
            **{f"any_{name}": flag() for name in ANY_AMOUNTS},
            "food_stamps": flag(),
            "any_social_security": flag(),
            "any_ssi": flag(),
            "any_wages": flag(),
            "any_self_employment": flag(),
            "aggregate_social_security": dollars(),
            "aggregate_ssi": dollars(),
        }
    )
    amounts = (
        "wages",
        "self_employment",
        "investment_income",
        "retirement",
        "taxable_social_security",
        "unemployment_compensation",
        "capital_gains",
        "partnership",
        "agi",
    )
    tax_units = pl.DataFrame(
        {
            "household_id": ids,
            "tax_unit": [1] * size,
            "is_filer": flag(),
            "elderly": flag(),
            "filing_status": pick(("single", "joint", "head_of_household", "separate")),
            "agi_class": pick(tuple(map(str, range(1, 11)))),
            "individuals": rng.integers(0, 5, size),
            **{name: dollars() for name in amounts},
        }
    )
    return {"persons": persons, "households": households, "tax_units": tax_units}


def test_every_expression_evaluates_and_counts_somebody(catalog: Catalog) -> None:
    tables = _random_tables(20_000, 1)
    variables = [v for v in catalog.variables.values() if v.expressible]
    measured = measure(tables, variables, tables["households"]["household_id"])
    assert measured.inexpressible == ()
    empty = [
        key
        for key, total in zip(
            measured.expressible, np.abs(measured.matrix).sum(axis=0), strict=True
        )
        if total == 0
    ]
    assert empty == []


def test_children_of_every_category_partition_their_parent(catalog: Catalog) -> None:
    tables = _random_tables(4_000, 2)
    variables = [v for v in catalog.variables.values() if v.expressible]
    measured = measure(tables, variables, tables["households"]["household_id"])
    for group in catalog.categories.values():
        parent = measured.column(group.parent.variable, group.parent.domain)
        children = sum(measured.column(c.variable, c.domain) for c in group.children)
        np.testing.assert_array_equal(children, parent, err_msg=group.id)
