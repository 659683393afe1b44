"""Group files and downloads of ACS tables: sentinels and marks, area codes, bad input."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.errors import SourceFileError, SourceLayoutError, SourceValueError
from pipeline.specs.sources import SourceSpec, load_source

S1901 = "acs_tables/county_us/ACSST5Y2022.S1901-Data.csv"
GROUP = "acs_tables/state_us_2022_1yr/{}/acs-acs1-2022-GROUP_B19065_DATA.csv"


def one_table(**changes) -> SourceSpec:
    """The spec of the 1-year tables with B19065 alone, so that a test writes two small files and
    not 28.
    """
    spec = load_source("acs1_detailed")
    columns = tuple(c for c in spec.columns if (c.name or c.pattern).startswith("B19065"))
    return spec.model_copy(update={"tables": ("B19065",), "columns": columns, **changes})


def group(rows: list[tuple[str, str, str]], last: str = "state") -> str:
    lines = [f"GEO_ID,B19065_001E,B19065_001M,NAME,B19065_001EA,B19065_001MA,{last}"]
    return (
        "\n".join(
            lines
            + [f"{geo},{e},{m},SYNTHETIC {geo[-2:]},null,null,{geo[-2:]}" for geo, e, m in rows]
        )
        + "\n"
    )


def groups(rows: list[tuple[str, str, str]]) -> dict[str, str]:
    return {
        GROUP.format("bystate"): group(rows),
        GROUP.format("us"): group([("0100000US", "9000", "90")], "us"),
    }


# ------------------------------------------------------------------------------------------------
# marks and numbers


@pytest.mark.parametrize(
    ("estimate", "margin", "expected"),
    [
        pytest.param("100", "10", (100.0, 10.0, "published"), id="plain"),
        pytest.param('"1,100"', "10.0", (1100.0, 10.0, "published"), id="thousands separator"),
        pytest.param("100", "-555555555", (100.0, 0.0, "controlled"), id="controlled sentinel"),
        pytest.param(
            "100", "-555555555.0", (100.0, 0.0, "controlled"), id="controlled with decimals"
        ),
        pytest.param("100", "*****", (100.0, 0.0, "controlled"), id="controlled stars"),
        pytest.param("100", "-222222222", (100.0, None, "published"), id="margin not computable"),
        pytest.param(
            "100", "-333333333.00", (100.0, None, "published"), id="margin of an open class"
        ),
        pytest.param("100", "**", (100.0, None, "published"), id="two stars"),
        pytest.param("100", "***", (100.0, None, "published"), id="three stars"),
        pytest.param("100", "null", (100.0, None, "published"), id="null margin"),
        pytest.param("100", "", (100.0, None, "published"), id="blank margin"),
        pytest.param(
            "-666666666", "-222222222", (None, None, "not_available"), id="estimate not computable"
        ),
        pytest.param(
            "-888888888.0", "-888888888", (None, None, "not_available"), id="not applicable"
        ),
        pytest.param("-999999999", "-222222222", (None, None, "suppressed"), id="too few cases"),
        pytest.param("N", "N", (None, None, "suppressed"), id="N"),
        pytest.param("(X)", "(X)", (None, None, "not_available"), id="X"),
        pytest.param("-", "**", (None, None, "not_available"), id="dash"),
        pytest.param('"250,000+"', "***", (None, None, "not_available"), id="open-ended above"),
        pytest.param('"2,500-"', "***", (None, None, "not_available"), id="open-ended below"),
        pytest.param("", "", (None, None, "not_available"), id="blank"),
        pytest.param("0", "0", (0.0, 0.0, "published"), id="zero is zero"),
    ],
)
def test_marks_become_a_status_before_any_arithmetic(read, cell, estimate, margin, expected):
    table = read(one_table(), "2022", groups([("0400000US44", estimate, margin)]))
    row = cell(table.frame, "44", "B19065_001")
    assert (row["estimate"], row["margin_of_error"], row["status"]) == expected


def test_every_mark_is_counted_by_file_code_and_column(read):
    table = read(
        one_table(),
        "2022",
        groups(
            [
                ("0400000US44", "N", "N"),
                ("0400000US10", "N", "N"),
                ("0400000US50", "5", "-555555555"),
            ]
        ),
    )
    counted = {note.code: note for note in table.notes}
    assert counted["suppressed"].count == 2
    assert "'N'" in counted["suppressed"].detail
    assert "B19065_001 2" in counted["suppressed"].detail
    assert counted["margin_controlled"].count == 1


def test_a_margin_beside_a_withheld_estimate_is_not_kept_and_is_counted(read, cell):
    table = read(one_table(), "2022", groups([("0400000US44", "-", "12")]))
    assert cell(table.frame, "44", "B19065_001")["margin_of_error"] is None
    assert [n.count for n in table.notes if n.code == "margin_without_estimate"] == [1]


@pytest.mark.parametrize(
    ("estimate", "margin", "words"),
    [
        pytest.param(
            "-7",
            "3",
            ["estimate", "negative", "'-7'", "B19065_001", "row 2", "44"],
            id="negative amount",
        ),
        pytest.param(
            "7", "-3", ["margin", "negative", "'-3'", "B19065_001", "row 2"], id="negative margin"
        ),
        pytest.param(
            "many", "3", ["neither a number nor a known code", "'many'", "-666666666"], id="a word"
        ),
        pytest.param("nan", "3", ["neither a number", "'nan'"], id="nan is no number"),
        pytest.param("7", "inf", ["neither a number", "'inf'"], id="infinity is no number"),
    ],
)
def test_impossible_cells_are_named_with_file_column_and_row(read, estimate, margin, words):
    with pytest.raises(SourceValueError) as caught:
        read(one_table(), "2022", groups([("0400000US44", estimate, margin)]))
    assert all(word in str(caught.value) for word in [*words, "GROUP_B19065"])


def test_an_amount_may_be_negative_where_the_spec_says_so(read, cell):
    spec = one_table()
    signed = tuple(c.model_copy(update={"may_be_negative": True}) for c in spec.columns)
    table = read(one_table(columns=signed), "2022", groups([("0400000US44", "-7", "3")]))
    assert cell(table.frame, "44", "B19065_001")["estimate"] == -7


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=2), st.randoms(use_true_random=False))
def test_numbers_survive_and_the_order_of_rows_and_columns_does_not_matter(read, values, random):
    rows = [("0400000US44", str(values[0]), "1"), ("0400000US10", f"{values[1]:,}".join('""'), "2")]
    first = read(one_table(), "2022", groups(rows)).frame
    random.shuffle(rows)
    second = read(one_table(), "2022", groups(rows)).frame
    keep = ["level", "geoid", "column", "estimate", "margin_of_error", "status"]
    assert first.select(keep).sort("geoid").equals(second.select(keep).sort("geoid"))
    assert set(first.filter(pl.col("level") == "state")["estimate"]) == {float(v) for v in values}


# ------------------------------------------------------------------------------------------------
# columns and areas


def test_group_files_give_states_and_nation_with_provenance(read, cell):
    table = read(one_table(), "2022", groups([("0400000US44", "100", "10")]))
    assert cell(table.frame, "", "B19065_001")["level"] == "nation"
    row = cell(table.frame, "44", "B19065_001")
    assert (row["level"], row["vintage"], row["row"], row["name"]) == (
        "state",
        "2022",
        2,
        "SYNTHETIC 44",
    )
    assert {p.sha256 for p in table.provenance} == set(table.frame["sha256"])
    assert any(n.code == "columns_not_read" and "B19065_001EA" in n.detail for n in table.notes)


def test_a_repeated_area_is_named_with_both_rows(read):
    with pytest.raises(SourceValueError, match=r"GEOID 44 .* rows 2 and 4"):
        read(
            one_table(),
            "2022",
            groups(
                [("0400000US44", "1", "1"), ("0400000US10", "2", "1"), ("0400000US44", "1", "1")]
            ),
        )


def test_a_renamed_column_is_pointed_out_with_the_nearest_name(read):
    files = {
        name: text.replace("B19065_001E,", "B19065_01E,")
        for name, text in groups([("0400000US44", "1", "1")]).items()
    }
    with pytest.raises(SourceLayoutError) as caught:
        read(one_table(), "2022", files)
    assert "Column B19065_001E is missing; the nearest names there are B19065_01E" in str(
        caught.value
    )
    assert "acs-acs1-2022-GROUP_B19065_DATA.csv" in str(caught.value)


def test_a_rename_in_the_yaml_mends_it(read, cell):
    spec = one_table()
    vintages = {
        **spec.vintages,
        "2022": spec.vintages["2022"].model_copy(update={"renames": {"B19065_01E": "B19065_001E"}}),
    }
    files = {
        name: text.replace("B19065_001E,", "B19065_01E,")
        for name, text in groups([("0400000US44", "1", "1")]).items()
    }
    assert (
        cell(read(one_table(vintages=vintages), "2022", files).frame, "44", "B19065_001")[
            "estimate"
        ]
        == 1
    )


def test_an_area_code_of_no_state_and_a_broken_code_are_errors(read):
    with pytest.raises(
        SourceValueError, match=r"known_state|begins with a known state|geoid_begins"
    ):
        read(one_table(), "2022", groups([("0400000US03", "1", "1")]))
    with pytest.raises(SourceValueError, match=r"no usable area code.*'44'"):
        read(one_table(), "2022", groups([("44", "1", "1")]))


def test_a_column_given_twice_is_an_error(read):
    files = {
        n: t.replace("B19065_001EA,B19065_001MA", "B19065_001E,B19065_001MA")
        for n, t in groups([("0400000US44", "1", "1")]).items()
    }
    with pytest.raises(SourceLayoutError, match="B19065_001E stands in the header 2 times"):
        read(one_table(), "2022", files)


# ------------------------------------------------------------------------------------------------
# data.census.gov


def download(rows: list[list[str]]) -> str:
    columns = ["GEO_ID", "NAME"] + [
        f"S1901_C01_{n:03d}{part}" for n in range(1, 14) for part in "EM"
    ]
    labels = ["Geography", "Geographic Area Name"] + [
        "Estimate!!Households",
        "Margin of Error!!Households",
    ] * 13
    lines = [columns, labels, *rows]
    return "\n".join(",".join(f'"{c}"' for c in line) + "," for line in lines) + "\n"


def county(geoid: str, households: str = "1000", name: str = "SYNTHETIC County") -> list[str]:
    return [
        f"0500000US{geoid}",
        name,
        households,
        "10",
        *["10.0", "0.5"] * 10,
        "60,000",
        "900",
        "80000",
        "***",
    ]


def test_the_download_form_skips_labels_and_keeps_counts_percents_and_dollars(read, cell):
    table = read(
        "acs5_s1901_counties",
        "2022",
        {S1901: download([["0400000US36", *county("36")[1:]], county("44001"), county("44003")])},
    )
    assert set(table.frame["geoid"]) == {"44001", "44003"}
    assert [n.count for n in table.notes if n.code == "rows_of_other_levels"] == [1]
    assert cell(table.frame, "44001", "S1901_C01_001")["row"] == 4
    assert cell(table.frame, "44001", "S1901_C01_005")["estimate"] == 10.0
    assert cell(table.frame, "44001", "S1901_C01_012")["estimate"] == 60000
    assert cell(table.frame, "44001", "S1901_C01_013")["margin_of_error"] is None


def test_counties_betray_another_vintage(read):
    with pytest.raises(
        SourceLayoutError,
        match=(
            r"looks like vintage 2012 or 2018 or 2021, not 2022: .*09110 is absent; area 09001 is"
            r" present"
        ),
    ):
        read("acs5_s1901_counties", "2022", {S1901: download([county("09001"), county("44001")])})


def test_a_file_cut_short_and_short_or_long_lines_are_errors(read):
    whole = download([county("44001"), county("44003")])
    with pytest.raises(SourceFileError, match=r"fields, so the file breaks off.*line 4"):
        read("acs5_s1901_counties", "2022", {S1901: whole[:-60]})
    lines = whole.splitlines()
    lines[2] = ",".join(lines[2].split(",")[:9])
    with pytest.raises(SourceLayoutError, match=r"line 3"):
        read("acs5_s1901_counties", "2022", {S1901: "\n".join(lines) + "\n"})
    lines[2] = whole.splitlines()[2] + ",9,9"
    with pytest.raises(SourceLayoutError, match=r"line 3 \(31 fields\)"):
        read("acs5_s1901_counties", "2022", {S1901: "\n".join(lines) + "\n"})


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [
        pytest.param(
            "<!DOCTYPE html><html><body>Sorry</body></html>", SourceFileError, "web page", id="html"
        ),
        pytest.param("", SourceFileError, "empty", id="empty"),
        pytest.param('"GEO_ID","NAME"\n', SourceLayoutError, "no data", id="header only"),
        pytest.param(b"\xff\xfe\x00GEO", SourceFileError, "not utf-8", id="other encoding"),
        pytest.param(
            "GEOID,NAME\nGeography,Name\n0500000US44001,SYNTHETIC\n",
            SourceLayoutError,
            "GEO_ID is missing; the nearest names there are GEOID",
            id="no GEO_ID",
        ),
    ],
)
def test_what_is_no_table_is_refused(read, content, error, words):
    with pytest.raises(error, match=words):
        read("acs5_s1901_counties", "2022", {S1901: content})


def test_a_missing_file_is_named_with_its_address(read):
    with pytest.raises(SourceFileError, match=r"missing.*ACSST5Y2022.*api\.census\.gov"):
        read("acs5_s1901_counties", "2022", {"nothing": "x"})
