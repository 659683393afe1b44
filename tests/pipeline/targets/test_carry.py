"""Factors out of published cells, on tables small enough to compute by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipeline.errors import TargetError
from pipeline.specs.factors import FACTOR_ADAPTER, Factor
from pipeline.specs.targets import AgeSexCell
from pipeline.targets.carry import Carrier, PublishedFigures, control_areas


def table(
    *rows: tuple[str, str, float | None] | tuple[str, str, float | None, str],
) -> pl.DataFrame:
    """Published cells from (geoid, column, estimate[, stratum]); the level follows from the length
    of the geoid.
    """
    level = {0: "nation", 2: "state", 5: "county", 11: "tract"}
    return pl.DataFrame(
        [(level[len(r[0])], r[0], r[1], r[3] if len(r) == 4 else "", r[2]) for r in rows],
        schema={
            "level": pl.String,
            "geoid": pl.String,
            "column": pl.String,
            "stratum": pl.String,
            "estimate": pl.Float64,
        },
        orient="row",
    )


def factor(**parts: object) -> Factor:
    return FACTOR_ADAPTER.validate_python({"title": "a test", **parts})


POPULATION = factor(
    id="population",
    kind="ratio",
    source="pep",
    column="P{year}",
    area="finest",
    vintages=[
        {"vintage": "2019", "years": [2010, 2019]},
        {"vintage": "2024", "years": [2020, 2024]},
    ],
)
CPI = factor(
    id="cpi", kind="series", publisher="p", url="u", unit="i", values={2018: 100.0, 2022: 120.0}
)
OLD = table(
    ("44001", "P2018", 100.0),
    ("44003", "P2018", 300.0),
    ("44", "P2018", 400.0),
    ("09", "P2018", 600.0),
)
NEW = table(
    ("44001", "P2022", 110.0),
    ("44003", "P2022", 270.0),
    ("44", "P2022", 380.0),
    ("09", "P2022", 820.0),
)
TABLES = {("pep", "2019"): OLD, ("pep", "2024"): NEW}


def carrier(*factors: Factor, tables: dict | None = None, target_year: int = 2022) -> Carrier:
    return Carrier({f.id: f for f in factors}, TABLES if tables is None else tables, target_year)


def test_a_ratio_takes_the_vintage_of_each_year() -> None:
    assert carrier(POPULATION).factors(
        ("population",), "county", ["44001", "44003"], 2018
    ).tolist() == pytest.approx([1.1, 0.9])


def test_tracts_take_the_ratio_of_their_county() -> None:
    result = carrier(POPULATION).factors(
        ("population",), "tract", ["44003000100", "44001000100", "44003000200"], 2018
    )
    assert result.tolist() == pytest.approx([0.9, 1.1, 0.9])


def test_a_nation_without_a_row_is_the_sum_of_its_states() -> None:
    assert carrier(POPULATION).factors(
        ("population",), "nation", [""], 2018
    ).tolist() == pytest.approx([1200 / 1000])


def test_an_area_without_a_row_is_the_sum_of_what_lies_below_beside_areas_that_have_one() -> None:
    cells = PublishedFigures(
        {
            ("s", "1"): table(
                ("11", "c", 7.0),
                ("44001", "c", 1.0),
                ("44003", "c", 2.0),
                ("44005", "c", None),
                ("72001", "c", 99.0),
            )
        }
    )
    assert cells.values("s", "1", "c", "state") == {"11": 7.0, "44": 3.0}
    assert cells.values("s", "1", "c", "nation") == {"": 10.0}


def test_rules_multiply() -> None:
    assert carrier(POPULATION, CPI).factors(
        ("population", "cpi"), "state", ["44"], 2018
    ).tolist() == pytest.approx([0.95 * 1.2])


def test_nothing_is_carried_within_the_target_year_and_no_table_is_needed() -> None:
    assert carrier(POPULATION, tables={}).factors(
        ("population",), "state", ["44", "09"], 2022
    ).tolist() == [1.0, 1.0]


def test_growth_is_geometric_between_its_points() -> None:
    growth = factor(
        id="g",
        kind="growth",
        area="state",
        start={"source": "a", "vintage": "2017", "column": "n", "year": 2017},
        end={"source": "b", "vintage": "2024", "column": "n", "year": 2024},
    )
    tables = {
        ("a", "2017"): table(("44001", "n", 60.0), ("44003", "n", 40.0)),
        ("b", "2024"): table(("44", "n", 200.0)),
    }
    result = carrier(growth, tables=tables).factors(("g",), "county", ["44001", "44003"], 2017)
    assert result.tolist() == pytest.approx([2 ** (5 / 7)] * 2)


@pytest.mark.parametrize(
    ("area", "level", "geoids", "expected"),
    [
        ("finest", "tract", ["44001000100"], ("county", ["44001"])),
        ("finest", "state", ["44"], ("state", ["44"])),
        ("state", "county", ["44001"], ("state", ["44"])),
        ("state", "nation", [""], ("nation", [""])),
        ("nation", "tract", ["44001000100"], ("nation", [""])),
    ],
)
def test_the_controlling_area_is_the_coarser_one(
    area: str, level: str, geoids: list[str], expected: tuple[str, list[str]]
) -> None:
    assert control_areas(area, level, geoids) == expected


AGE_SEX = factor(
    id="cohort",
    kind="age_sex",
    national="ages",
    national_vintage="2024",
    national_column="P{year}",
    stratum="{sex}|{age}",
    top_age=2,
    base="own_nation",
    population="population",
)
PARTITION = tuple(
    AgeSexCell(column=f"{s[0]}{i}", sex=s, ages=a)
    for s in ("male", "female")
    for i, a in enumerate([(0, 0), (1, 120)])
)
AGES = table(
    *(("", "P2022", 10.0 * (age + 1), f"{sex}|{age}") for sex in (1, 2) for age in (0, 1, 2))
)
OWN = table(("", "m0", 10.0), ("", "m1", 25.0), ("", "f0", 5.0), ("", "f1", 100.0))


def cohort(level: str, geoids: list[str], cells: np.ndarray) -> np.ndarray:
    made = carrier(
        AGE_SEX, POPULATION, tables={**TABLES, ("ages", "2024"): AGES, ("acs", "2018"): OWN}
    )
    return made.age_sex(AGE_SEX, PARTITION, "acs", "2018", level, geoids, cells)


def test_cohorts_move_as_the_nation_and_add_up_to_the_population() -> None:
    cells = np.array([[100.0, 100.0, 100.0, 100.0]])
    multipliers = cohort("state", ["44"], cells)
    # national change: 10/10, (20+30)/25, 10/5, 50/100
    assert (multipliers / multipliers[0, 0]).tolist() == [pytest.approx([1.0, 2.0, 2.0, 0.5])]
    assert float((cells * multipliers).sum()) == pytest.approx(380.0)


def test_tracts_of_a_county_add_up_to_the_county() -> None:
    rng = np.random.default_rng(5)
    geoids = ["44001000100", "44001000200", "44003000100"]
    cells = rng.uniform(10, 90, (3, 4))
    cells[1, 2] = np.nan
    carried = cells * cohort("tract", geoids, cells)
    assert np.nansum(carried[:2]) == pytest.approx(110.0)
    assert np.nansum(carried[2]) == pytest.approx(270.0)


def test_factors_do_not_depend_on_row_order() -> None:
    made = carrier(POPULATION, tables={key: frame.reverse() for key, frame in TABLES.items()})
    assert (
        made.factors(("population",), "nation", [""], 2018).tolist()
        == carrier(POPULATION).factors(("population",), "nation", [""], 2018).tolist()
    )


def test_missing_table_column_area_year_and_factor_are_named() -> None:
    with pytest.raises(TargetError, match="needs pep 2024, which was not read"):
        carrier(POPULATION, tables={("pep", "2019"): OLD}).factors(
            ("population",), "state", ["44"], 2018
        )
    with pytest.raises(TargetError, match="needs column P2019"):
        carrier(POPULATION).factors(("population",), "state", ["44"], 2019)
    with pytest.raises(TargetError, match=r"no value for 09110.*codes may have changed"):
        carrier(POPULATION).factors(("population",), "county", ["44001", "09110"], 2018)
    with pytest.raises(TargetError, match=r"no vintage that gives 2009.*2019: 2010-2019"):
        carrier(POPULATION).factors(("population",), "state", ["44"], 2009)
    with pytest.raises(TargetError, match=r"no factor 'cpi'.*population"):
        carrier(POPULATION).factors(("cpi",), "state", ["44"], 2018)
    with pytest.raises(TargetError, match=r"divide by zero for 44"):
        zero = {**TABLES, ("pep", "2019"): table(("44", "P2018", 0.0))}
        carrier(POPULATION, tables=zero).factors(("population",), "state", ["44"], 2018)
    with pytest.raises(TargetError, match="age-by-sex cells only"):
        carrier(AGE_SEX, POPULATION).factors(("cohort",), "state", ["44"], 2018)
