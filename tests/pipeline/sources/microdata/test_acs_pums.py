"""The PUMS reader: small files in every published layout, and every refusal."""

from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import RecordsError, SourceFileError, SourceLayoutError, SourceValueError
from pipeline.sources.microdata.acs_pums import read_pums
from pipeline.sources.microdata.replicates import REPLICATE_SCHEMA
from tests.pipeline.sources.microdata.pums_rows import (
    ADULT,
    CHILD,
    DORM,
    HOME,
    STUDENT,
    VACANT,
    archive,
    counts,
    read,
    text,
)


def test_a_household_is_rebuilt_from_its_persons(tmp_path: Path) -> None:
    data = read(tmp_path, [ADULT, CHILD, STUDENT])
    home, dorm = data.households.sort("is_group_quarters").iter_rows(named=True)
    assert (home["household_id"], home["design_weight"], home["persons"], home["puma"]) == (
        "acs2018-2018HU0000001",
        30.0,
        2,
        "4400101",
    )
    assert home["household_income"] == pytest.approx(49900 * 1.013097)
    assert home["tenure"] is None and home["food_stamps"] is None
    assert (dorm["design_weight"], dorm["persons"], dorm["household_income"]) == (11.0, 1, None)


def test_codes_become_words_and_amounts_dollars_of_the_year(tmp_path: Path) -> None:
    adult, student, child = (
        read(tmp_path, [ADULT, CHILD, STUDENT])
        .persons.sort("age", descending=True)
        .iter_rows(named=True)
    )
    assert (
        adult["employment"],
        adult["at_work"],
        adult["class_of_worker"],
        adult["commute"],
        adult["school"],
    ) == ("employed", True, "private", "drove_alone", "not_enrolled")
    assert adult["investment_income"] == pytest.approx(-101.3097)
    assert (adult["weeks_worked"], adult["hours_worked"], adult["veteran"]) == (50, 40, False)
    assert (
        student["relationship"],
        student["school"],
        student["education"],
        student["weeks_worked"],
    ) == ("gq_noninstitutional", "college", 18, 0)
    assert (
        child["relationship"],
        child["education"],
        child["employment"],
        child["wages"],
        child["weeks_worked"],
    ) == ("child", None, None, None, None)


@pytest.mark.parametrize(
    ("changes", "column", "expected"),
    [
        pytest.param({"JWRIP": "03"}, "commute", "carpooled", id="carpool"),
        pytest.param({"JWTR": "06", "JWRIP": ""}, "commute", "public_transit", id="ferry"),
        pytest.param({"JWTR": "07", "JWRIP": ""}, "commute", "other_means", id="taxi"),
        pytest.param({"JWTR": "11", "JWRIP": ""}, "commute", "worked_home", id="home"),
        pytest.param(
            {"COW": "7"}, "class_of_worker", "private", id="incorporated-is-private-as-in-tables"
        ),
        pytest.param({"COW": "6"}, "class_of_worker", "self_employed", id="unincorporated"),
        pytest.param({"ESR": "4"}, "employment", "armed_forces", id="armed-forces"),
        pytest.param({"ESR": "4"}, "at_work", True, id="armed-forces-at-work"),
        pytest.param({"ESR": "2", "JWTR": "", "JWRIP": ""}, "at_work", False, id="absent"),
        pytest.param({"MIG": "3", "MIGSP": "072"}, "moved", "abroad", id="from-puerto-rico"),
        pytest.param(
            {"MIG": "3", "MIGSP": "025"}, "moved", "different_house_us", id="from-massachusetts"
        ),
        pytest.param({"MIG": "2", "MIGSP": "247"}, "moved", "abroad", id="from-abroad"),
        pytest.param({"RAC1P": "4"}, "race", "aian", id="alaska-native"),
        pytest.param({"HISP": "03"}, "hispanic", True, id="puerto-rican"),
        pytest.param({"MIL": "2"}, "veteran", True, id="veteran"),
        pytest.param({"MIL": "3"}, "veteran", False, id="training-only"),
        pytest.param({"LANX": "1"}, "other_language", True, id="other-language"),
        pytest.param({"NATIVITY": "2", "CIT": "4"}, "naturalized", True, id="naturalized"),
        pytest.param({"NATIVITY": "2", "CIT": "5"}, "citizen", False, id="not-citizen"),
        pytest.param({"WKW": "4"}, "weeks_worked", 27, id="weeks-class"),
        pytest.param({"SCH": "2", "SCHG": "10"}, "school", "grades_1_8", id="grade-8"),
        pytest.param({"SCH": "2", "SCHG": "14"}, "school", "grades_9_12", id="grade-12"),
        pytest.param({"DIS": "1"}, "disability", True, id="disability"),
        pytest.param({"MAR": "4"}, "marital_status", "separated", id="separated"),
    ],
)
def test_code_lists(tmp_path: Path, changes: dict[str, str], column: str, expected: object) -> None:
    assert read(tmp_path, [{**ADULT, **changes}]).persons[column][0] == expected


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("01", "21", "spouse"),
        ("01", "23", "spouse"),
        ("13", "22", "unmarried_partner"),
        ("07", "30", "grandchild"),
        ("10", "33", "other_relative"),
        ("14", "35", "nonrelative"),
    ],
)
def test_old_and_new_relationship_codes_agree(
    tmp_path: Path, old: str, new: str, expected: str
) -> None:
    second = {**ADULT, "SPORDER": "02", "RELP": old}
    renamed = [
        {
            **{
                (
                    "STATE"
                    if k == "ST"
                    else (
                        "RELSHIPP"
                        if k == "RELP"
                        else "JWTRNS"
                        if k == "JWTR"
                        else "WKWN"
                        if k == "WKW"
                        else k
                    )
                ): v
                for k, v in row.items()
            },
            "SERIALNO": "2023HU0000001",
            "ADJINC": "1019518",
            "RELSHIPP": code,
            "WKWN": "44",
        }
        for row, code in ((ADULT, "20"), (second, new))
    ]
    (tmp_path / "b").mkdir()
    before = read(tmp_path, [ADULT, second]).persons
    after = read(tmp_path / "b", renamed, year=2023).persons
    assert (
        before["relationship"].to_list()
        == after["relationship"].to_list()
        == ["reference_person", expected]
    )
    assert after["weeks_worked"].to_list() == [44, 44]


def test_reordered_columns_an_unnamed_one_and_any_row_order_change_nothing(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    plain = read(tmp_path, [ADULT, CHILD, STUDENT])
    shuffled = [
        {"": str(i), **dict(reversed(list(row.items())))}
        for i, row in enumerate([STUDENT, CHILD, ADULT])
    ]
    other = read(tmp_path / "b", shuffled)
    assert other.persons.equals(plain.persons) and other.households.equals(plain.households)


def test_the_housing_file_gives_weight_income_tenure_and_food_stamps(tmp_path: Path) -> None:
    homes = archive(tmp_path, [HOME, VACANT, DORM], "psam_h44.csv", "csv_hri.zip")
    data = read_pums(archive(tmp_path, [ADULT, CHILD, STUDENT]), homes, year=2018, state_fips="44")
    home = data.households.filter(~pl.col("is_group_quarters")).row(0, named=True)
    assert (home["design_weight"], home["tenure"], home["food_stamps"]) == (29.0, "owner", True)
    assert home["household_income"] == pytest.approx(49900 * 1.013097)
    assert data.households.filter("is_group_quarters")["design_weight"].to_list() == [11.0]
    assert counts(data.notes)["vacant"] == 1
    assert "weight 7 of 36" in next(note.detail for note in data.notes if note.code == "vacant")


def numbered(name: str, first: int) -> dict[str, str]:
    return {f"{name}{i}": str(i + first) for i in range(1, 81)}


def test_replicate_weights_come_with_their_keys_and_may_be_negative(tmp_path: Path) -> None:
    full = [{**row, **numbered("PWGTP", -3)} for row in (ADULT, CHILD, STUDENT)]
    replicates = read(tmp_path, full).replicate_weights
    assert replicates.schema == pl.Schema(REPLICATE_SCHEMA)
    assert replicates["replicate_1"][0] == -2 and replicates["replicate_80"][0] == 77
    # Three persons; the household of the adult and the student's own.
    assert replicates.filter(pl.col("person_number") == 0).height == 2 and replicates.height == 5


def test_households_have_the_replicate_weights_of_the_housing_file(tmp_path: Path) -> None:
    homes = [{**row, **numbered("WGTP", 500)} for row in (HOME, VACANT, DORM)]
    people = [{**row, **numbered("PWGTP", 0)} for row in (ADULT, CHILD, STUDENT)]
    data = read_pums(
        archive(tmp_path, people),
        archive(tmp_path, homes, "psam_h44.csv", "csv_hri.zip"),
        year=2018,
        state_fips="44",
    )
    own = data.replicate_weights.filter(pl.col("person_number") == 0)
    assert sorted(own["replicate_1"]) == [1, 501]


def test_files_without_replicate_weights_say_so_and_parts_of_them_are_refused(tmp_path) -> None:
    plain = read(tmp_path, [ADULT])
    assert plain.replicate_weights is None
    assert counts(plain.notes)["replicate_weights_absent"] == 1
    (tmp_path / "b").mkdir()
    with pytest.raises(SourceLayoutError, match="PWGTP2"):
        read(tmp_path / "b", [{**ADULT, "PWGTP1": "3"}])


@pytest.mark.parametrize(
    ("rows", "options", "error", "words"),
    [
        pytest.param(
            [{k: v for k, v in ADULT.items() if k != "SSIP"}],
            {},
            SourceLayoutError,
            "SSIP (nearest: SSP)",
            id="missing-column",
        ),
        pytest.param(
            [ADULT], {"state_fips": "10"}, SourceLayoutError, "state 44", id="wrong-state-member"
        ),
        pytest.param(
            [{**ADULT, "ST": "09"}], {}, SourceLayoutError, "state 09", id="wrong-state-rows"
        ),
        pytest.param(
            [ADULT],
            {"year": 2019},
            SourceLayoutError,
            "2018HU0000001 is of another year",
            id="wrong-year",
        ),
        pytest.param(
            [{**ADULT, "ADJINC": "1010145"}],
            {},
            SourceLayoutError,
            "the factor of 2019",
            id="wrong-adjinc",
        ),
        pytest.param([ADULT, ADULT], {}, SourceValueError, "line 3", id="duplicate"),
        pytest.param(
            [ADULT, {**CHILD, "PWGTP": "-4"}],
            {},
            SourceValueError,
            "line 3, column PWGTP",
            id="negative-weight",
        ),
        pytest.param(
            [{**ADULT, "WAGP": "many"}], {}, SourceValueError, "column WAGP", id="text-in-a-number"
        ),
        pytest.param(
            [{**ADULT, "RAC1P": "0"}], {}, SourceValueError, "column RAC1P", id="unknown-code"
        ),
        pytest.param([{**ADULT, "SEX": ""}], {}, SourceValueError, "column SEX", id="blank"),
        pytest.param(
            [{**ADULT, "RELP": "17"}],
            {},
            SourceValueError,
            "agrees with HU",
            id="group-quarters-code-in-a-housing-unit",
        ),
        pytest.param([CHILD], {}, RecordsError, "acs2018-2018HU0000001", id="no-reference-person"),
        pytest.param(
            [ADULT, {**ADULT, "SPORDER": "02"}],
            {},
            RecordsError,
            "first has 2",
            id="two-reference-persons",
        ),
    ],
)
def test_refusals_name_the_place(
    tmp_path: Path,
    rows: list[dict[str, str]],
    options: dict[str, object],
    error: type[Exception],
    words: str,
) -> None:
    with pytest.raises(error) as caught:
        read(tmp_path, rows, **options)
    assert words in str(caught.value)
    assert "What to do:" in str(caught.value) and "csv_pri.zip" in str(caught.value)


def test_a_state_without_records_a_housing_file_as_persons_and_a_truncated_zip(
    tmp_path: Path,
) -> None:
    header = archive(tmp_path, [ADULT])
    with zipfile.ZipFile(header, "w") as file:
        file.writestr("psam_p44.csv", text([ADULT]).splitlines()[0] + "\n")
    with pytest.raises(RecordsError, match="no records"):
        read_pums(header, year=2018, state_fips="44")
    with pytest.raises(SourceLayoutError, match=r"psam_h44\.csv"):
        read_pums(archive(tmp_path, [HOME], "psam_h44.csv"), year=2018, state_fips="44")
    whole = archive(tmp_path, [ADULT]).read_bytes()
    cut = tmp_path / "csv_pri.zip"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceFileError, match="cannot be opened"):
        read_pums(cut, year=2018, state_fips="44")
    with pytest.raises(SourceFileError, match="missing"):
        read_pums(tmp_path / "nowhere.zip", year=2018, state_fips="44")


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    persons = archive(tmp_path, [ADULT, CHILD])
    other = archive(
        tmp_path, [{**HOME, "SERIALNO": "2018HU0000009"}], "psam_h44.csv", "csv_hri.zip"
    )
    with pytest.raises(
        RecordsError, match="1 occupied housing units have no persons, and 2 persons"
    ):
        read_pums(persons, other, year=2018, state_fips="44")
    wrong_size = archive(tmp_path, [{**HOME, "NP": "3"}], "psam_h44.csv", "csv_hri.zip")
    with pytest.raises(RecordsError, match="states 3 persons and has 2"):
        read_pums(persons, wrong_size, year=2018, state_fips="44")


def test_the_members_of_a_national_file_are_joined_and_other_states_left_out(
    tmp_path: Path,
) -> None:
    path = tmp_path / "csv_pus.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(
            "psam_pusa.csv", text([{**ADULT, "ST": "10", "SERIALNO": "2018HU0000007"}, STUDENT])
        )
        file.writestr("psam_pusb.csv", text([ADULT, CHILD]))
    data = read_pums(path, year=2018, state_fips="44")
    assert data.persons.height == 3 and data.households.height == 2


def test_an_unknown_adjustment_factor_is_applied_and_noted(tmp_path: Path) -> None:
    data = read(tmp_path, [{**ADULT, "ADJINC": "1000000"}])
    assert data.persons["wages"][0] == 50000.0
    assert counts(data.notes)["adjinc_unverified"] == 1
