"""The ASEC reader on small archives in the published layout."""

from __future__ import annotations

import zipfile
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import RecordsError, SourceFileError, SourceLayoutError, SourceValueError
from pipeline.sources.microdata.cps_asec import read_asec

HEAD = {
    "PERIDNUM": "0000000000000000000001",
    "PH_SEQ": "123",
    "P_SEQ": "1",
    "A_LINENO": "1",
    "PF_SEQ": "1",
    "MARSUPWT": "150025",
    "A_AGE": "45",
    "A_SEX": "2",
    "A_MARITL": "1",
    "PERRP": "40",
    "A_EXPRRP": "1",
    "PRDTRACE": "1",
    "PEHSPNON": "2",
    "A_HGA": "43",
    "PEMLR": "1",
    "PRPERTYP": "2",
    "A_CLSWKR": "1",
    "PRCITSHP": "1",
    "PRDISFLG": "2",
    "PEAFEVER": "1",
    "MIGSAME": "1",
    "A_HSCOL": "0",
    "A_ENRLW": "0",
    "WKSWORK": "52",
    "HRSWK": "40",
    "WSAL_VAL": "60000",
    "SEMP_VAL": "-500",
    "FRSE_VAL": "100",
    "INT_VAL": "50",
    "DIV_VAL": "20",
    "RNT_VAL": "-30",
    "SS_VAL": "0",
    "SSI_VAL": "0",
    "PAW_VAL": "0",
    "UC_VAL": "1200",
    "PNSN_VAL": "10",
    "ANN_VAL": "20",
    "DST_VAL1": "30",
    "DIS_VAL1": "40",
    "VET_VAL": "5",
    "OI_VAL": "6",
    "PTOTVAL": "60951",
}
SPOUSE = {
    **HEAD,
    "P_SEQ": "2",
    "A_LINENO": "2",
    "PERRP": "42",
    "A_EXPRRP": "3",
    "A_SEX": "1",
    "A_AGE": "80",
    "PEMLR": "5",
    "A_CLSWKR": "0",
    "WKSWORK": "0",
    "HRSWK": "0",
    "WSAL_VAL": "0",
    "UC_VAL": "0",
}
CHILD = {
    **HEAD,
    "P_SEQ": "3",
    "A_LINENO": "3",
    "PERRP": "48",
    "A_EXPRRP": "5",
    "A_AGE": "7",
    "A_MARITL": "7",
    "A_HGA": "0",
    "PEMLR": "0",
    "PRPERTYP": "1",
    "PRDISFLG": "-1",
    "PEAFEVER": "-1",
}
SOLDIER = {
    **HEAD,
    "PH_SEQ": "124",
    "PF_SEQ": "1",
    "PEMLR": "-1",
    "PRPERTYP": "3",
    "A_AGE": "25",
    "A_CLSWKR": "0",
}
HOME = {
    "H_SEQ": "123",
    "H_HHTYPE": "1",
    "H_NUMPER": "3",
    "H_TENURE": "1",
    "HRHTYPE": "1",
    "GESTFIPS": "44",
    "GTCO": "7",
    "HSUP_WGT": "140000",
    "HTOTVAL": "70000",
    "HFOODSP": "2",
}
OTHER_HOME = {
    **HOME,
    "H_SEQ": "124",
    "GTCO": "0",
    "GESTFIPS": "9",
    "H_TENURE": "2",
    "HSUP_WGT": "99",
}
REFUSED = {**HOME, "H_SEQ": "125", "H_HHTYPE": "2", "H_TENURE": "0", "HSUP_WGT": "0"}
FAMILY = {"FH_SEQ": "123", "FFPOS": "1", "FTYPE": "1", "FTOTVAL": "40000", "FPOVCUT": "20000"}
OTHER_FAMILY = {**FAMILY, "FH_SEQ": "124", "FTOTVAL": "999999"}


def text(rows: list[dict[str, str]]) -> str:
    return (
        "\n".join([",".join(rows[0]), *(",".join(row[name] for name in rows[0]) for row in rows)])
        + "\n"
    )


def archive(
    folder: Path,
    persons: list[dict[str, str]] | None = None,
    homes: list[dict[str, str]] | None = None,
    families: list[dict[str, str]] | None = None,
    yy: str = "23",
    sub: str = "",
) -> Path:
    path = folder / f"asecpub{yy}csv.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(f"{sub}pppub{yy}.csv", text(persons or [HEAD, SPOUSE, CHILD, SOLDIER]))
        file.writestr(f"{sub}hhpub{yy}.csv", text(homes or [HOME, OTHER_HOME, REFUSED]))
        file.writestr(f"{sub}ffpub{yy}.csv", text(families or [FAMILY, OTHER_FAMILY]))
    return path


def person(data, number: int, household: str = "cps2023-0000123") -> dict[str, object]:
    return data.persons.filter(
        (pl.col("household_id") == household) & (pl.col("person_number") == number)
    ).row(0, named=True)


def test_weights_have_two_implied_decimals_and_only_interviews_are_kept(tmp_path: Path) -> None:
    data = read_asec(archive(tmp_path), year=2023)
    assert data.households["household_id"].to_list() == ["cps2023-0000123", "cps2023-0000124"]
    assert data.households["design_weight"].to_list() == [1400.0, 0.99]
    assert person(data, 1)["design_weight"] == 1500.25
    notes = {note.code: note.count for note in data.notes}
    assert (notes["not_interviewed"], notes["county_not_identified"], notes["age_top_coded"]) == (
        1,
        1,
        1,
    )


def test_counties_where_identified_and_no_puma(tmp_path: Path) -> None:
    data = read_asec(archive(tmp_path), year=2023)
    assert data.households["county_fips"].to_list() == ["44007", None]
    assert data.households["state_fips"].to_list() == ["44", "09"]
    assert data.persons["puma"].null_count() == data.persons.height


def test_codes_and_amounts(tmp_path: Path) -> None:
    data = read_asec(archive(tmp_path), year=2023)
    head, spouse, child = (person(data, number) for number in (1, 2, 3))
    soldier = person(data, 1, "cps2023-0000124")
    assert (
        head["relationship"],
        head["education"],
        head["employment"],
        head["at_work"],
        head["veteran"],
    ) == ("reference_person", 21, "employed", True, True)
    assert (
        head["self_employment"],
        head["investment_income"],
        head["retirement"],
        head["other_income"],
    ) == (-400.0, 40.0, 100.0, 11.0)
    assert (head["unemployment_compensation"], head["total_income"]) == (1200.0, 60951.0)
    assert (
        spouse["relationship"],
        spouse["employment"],
        spouse["at_work"],
        spouse["weeks_worked"],
    ) == ("spouse", "not_in_labor_force", False, 0)
    assert (child["relationship"], child["wages"], child["employment"], child["education"]) == (
        "child",
        None,
        None,
        None,
    )
    assert (soldier["employment"], soldier["veteran"]) == ("armed_forces", False)
    assert data.persons["commute"].null_count() == data.persons.height


def test_the_poverty_ratio_comes_from_the_family_and_a_related_subfamily_has_the_primary_ones(
    tmp_path: Path,
) -> None:
    families = [FAMILY, {**FAMILY, "FFPOS": "2", "FTYPE": "3", "FTOTVAL": "0"}, OTHER_FAMILY]
    data = read_asec(
        archive(tmp_path, [HEAD, SPOUSE, {**CHILD, "PF_SEQ": "2"}, SOLDIER], families=families),
        year=2023,
    )
    assert [person(data, number)["poverty_ratio"] for number in (1, 2, 3)] == [200, 200, 200]
    assert person(data, 1, "cps2023-0000124")["poverty_ratio"] == 501


def test_states_can_be_chosen_and_members_may_lie_in_folders(tmp_path: Path) -> None:
    data = read_asec(
        archive(tmp_path, yy="19", sub="cpspb/asec/prod/data/2019/"), year=2019, states=("44",)
    )
    assert (
        data.households["household_id"].to_list() == ["cps2019-0000123"]
        and data.persons.height == 3
    )
    with pytest.raises(RecordsError, match="state 56"):
        read_asec(archive(tmp_path), year=2023, states=("44", "56"))


def test_group_quarters_become_units_of_one(tmp_path: Path) -> None:
    data = read_asec(archive(tmp_path, homes=[{**HOME, "HRHTYPE": "9"}, OTHER_HOME]), year=2023)
    dorm = data.households.filter("is_group_quarters")
    assert dorm["household_id"].to_list() == [
        "cps2023-0000123-01",
        "cps2023-0000123-02",
        "cps2023-0000123-03",
    ]
    assert (
        dorm["design_weight"].to_list() == [1500.25] * 3
        and dorm["household_income"].null_count() == 3
    )
    assert set(data.persons.filter("is_group_quarters")["relationship"]) == {"gq_noninstitutional"}


def test_old_relationship_codes_and_missing_optional_columns_are_noted(tmp_path: Path) -> None:
    bare = [
        {k: v for k, v in row.items() if k not in ("PERRP", "PRDISFLG", "VET_VAL")}
        for row in (HEAD, SPOUSE, CHILD, SOLDIER)
    ]
    data = read_asec(archive(tmp_path, bare), year=2023)
    assert [person(data, number)["relationship"] for number in (1, 2, 3)] == [
        "reference_person",
        "spouse",
        "child",
    ]
    detail = next(note.detail for note in data.notes if note.code == "optional_columns_missing")
    assert "PRDISFLG" in detail and "VET_VAL" in detail
    assert (
        data.persons["disability"].null_count() == data.persons.height
        and person(data, 1)["other_income"] == 6.0
    )


PARTS = {
    **{"CSP_VAL": "7", "WC_VAL": "8", "ED_VAL": "9", "FIN_VAL": "1", "OI_OFF": "20"},
    **{"DST_VAL1_YNG": "2", "SUR_VAL1": "3", "SUR_VAL2": "4", "DIS_VAL2": "5"},
    **{"COV": "1", "PRIV": "2", "GRP": "2", "MRK": "2", "PUB": "1", "MCARE": "2", "MCAID": "1"},
}
AID = {"HFDVAL": "480", "HPUBLIC": "0", "HLORENT": "0", "HENGAST": "1", "HENGVAL": "250"}


def test_items_of_the_donor_are_sums_and_answers_of_their_columns(tmp_path: Path) -> None:
    baby = {**CHILD, **PARTS, "A_AGE": "0", "COV": "0", "PRIV": "0", "ANN_VAL": "-1"}
    people = [{**HEAD, **PARTS}, {**SPOUSE, **PARTS, "OI_OFF": "19", "COV": "2"}, baby]
    homes = [
        {**HOME, **AID, "HFOODSP": "1"},
        {**OTHER_HOME, **AID, "HPUBLIC": "2", "HLORENT": "1", "HENGAST": "2", "HENGVAL": "0"},
    ]
    data = read_asec(archive(tmp_path, [*people, {**SOLDIER, **PARTS}], homes), year=2023)
    head, spouse, born = (person(data, number) for number in (1, 2, 3))
    other = ("child_support", "alimony", "veterans_payments", "workers_compensation")
    assert [head[name] for name in other] == [7.0, 6.0, 5.0, 8.0]
    assert (head["educational_assistance"], head["financial_assistance"]) == (9.0, 1.0)
    assert spouse["alimony"] == 0.0 and head["other_income"] == 36.0
    parts = ("pensions", "annuities", "retirement_withdrawals")
    assert [head[name] for name in parts] == [10.0, 20.0, 32.0]
    assert (head["survivor_benefits"], head["disability_benefits"]) == (7.0, 45.0)
    assert head["retirement"] == 114.0
    assert (head["health_insurance"], spouse["health_insurance"]) == (True, False)
    assert (head["private_insurance"], head["medicaid"]) == (False, True)
    assert born["health_insurance"] is None and born["pensions"] is None
    homes_read = data.households.select(
        *("snap_benefits", "public_housing", "rent_subsidy", "energy_assistance", "energy_benefits")
    )
    assert homes_read.rows() == [
        (480.0, False, False, True, 250.0),
        (480.0, False, True, False, 0.0),
    ]
    assert "donor_items_absent" not in {note.code for note in data.notes}


def test_minus_one_is_no_annuity_and_no_other_amount(tmp_path: Path) -> None:
    data = read_asec(archive(tmp_path, [{**HEAD, "ANN_VAL": "-1"}, SOLDIER]), year=2023)
    assert person(data, 1)["annuities"] == 0.0 and person(data, 1)["retirement"] == 80.0
    with pytest.raises(SourceValueError, match="PNSN_VAL"):
        read_asec(archive(tmp_path, [{**HEAD, "PNSN_VAL": "-1"}, SOLDIER]), year=2023)


def test_items_that_a_file_does_not_have_are_null_and_named(tmp_path: Path) -> None:
    data = read_asec(archive(tmp_path), year=2023)
    (note,) = [note for note in data.notes if note.code == "donor_items_absent"]
    absent = ("child_support", "alimony", "survivor_benefits", "medicaid", "snap_benefits")
    assert all(name in note.detail for name in absent)
    assert note.count == 18 and "pensions" not in note.detail
    assert data.persons["medicaid"].null_count() == data.persons.height
    assert person(data, 1)["pensions"] == 10.0
    (columns,) = [note for note in data.notes if note.code == "optional_columns_missing"]
    assert "CSP_VAL" in columns.detail and "HFDVAL" in columns.detail


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        pytest.param(
            {"persons": [{**HEAD, **PARTS, "COV": "7"}]},
            SourceValueError,
            "column COV",
            id="unknown-coverage",
        ),
        pytest.param(
            {"homes": [{**HOME, **AID, "HFDVAL": "-5"}]},
            SourceValueError,
            "column HFDVAL",
            id="negative-snap",
        ),
        pytest.param(
            {"persons": [{k: v for k, v in HEAD.items() if k != "UC_VAL"}]},
            SourceLayoutError,
            "UC_VAL",
            id="missing-column",
        ),
        pytest.param({"persons": [HEAD, HEAD]}, SourceValueError, "appears twice", id="duplicate"),
        pytest.param(
            {"persons": [{**HEAD, "MARSUPWT": "-1"}]},
            SourceValueError,
            "line 2, column MARSUPWT",
            id="negative-weight",
        ),
        pytest.param(
            {"persons": [{**HEAD, "A_HGA": "99"}]},
            SourceValueError,
            "column A_HGA",
            id="unknown-code",
        ),
        pytest.param(
            {"persons": [HEAD]}, RecordsError, "no persons", id="household-without-persons"
        ),
        pytest.param(
            {"homes": [HOME, HOME]}, SourceValueError, "column H_SEQ", id="duplicate-household"
        ),
        pytest.param({"yy": "22"}, SourceLayoutError, "pppub23.csv", id="wrong-year"),
    ],
)
def test_refusals_name_the_place(
    tmp_path: Path, arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    path = archive(tmp_path, **arguments)
    with pytest.raises(error) as caught:
        read_asec(path, year=2023)
    assert words in str(caught.value) and "What to do:" in str(caught.value)


def test_a_web_page_and_a_year_of_fixed_width_files_are_refused(tmp_path: Path) -> None:
    page = tmp_path / "asecpub23csv.zip"
    page.write_text("<!DOCTYPE html><html>Not found</html>")
    with pytest.raises(SourceFileError, match="web page"):
        read_asec(page, year=2023)
    with pytest.raises(SourceLayoutError, match="2019 or later"):
        read_asec(archive(tmp_path), year=2014)
