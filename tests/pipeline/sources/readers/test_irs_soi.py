"""IRS Historic Table 2 and county data: units, separators, classes, old and current columns, bad
input, real figures.
"""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import SourceFileError, SourceLayoutError, SourceValueError
from pipeline.sources.registry import read_source
from pipeline.specs.sources import load_source

HT2 = "irs/22in55cmcsv.csv"
COUNTY = "irs/22incyallnoagi.csv"
OLD = "irs/09incicsv.csv"

COLUMNS = [
    "N1",
    "N2",
    "ELDERLY",
    "A00100",
    "N00200",
    "A00200",
    "N00400",
    "A00400",
    "N02500",
    "A02500",
    "N59661",
]


def ht2(
    rows: list[tuple[str, str, dict[str, str]]],
    columns: list[str] = COLUMNS,
    header: str = "STATE,AGI_STUB",
) -> str:
    lines = [",".join([header, *columns])]
    for state, stub, cells in rows:
        lines.append(",".join([state, stub, *(cells.get(c, '"1,000"') for c in columns)]))
    return "\n".join(lines) + "\n"


def county(
    rows: list[tuple[str, str, str, dict[str, str]]], stub: str = "0", columns: list[str] = COLUMNS
) -> str:
    lines = [",".join(["STATEFIPS", "STATE", "COUNTYFIPS", "COUNTYNAME", "agi_stub", *columns])]
    for state, code, name, cells in rows:
        lines.append(
            ",".join(
                [
                    state,
                    "XX",
                    code,
                    name,
                    cells.get("stub", stub),
                    *(cells.get(c, "1000.0000") for c in columns),
                ]
            )
        )
    return "\n".join(lines) + "\n"


AREAS = [
    ("44", "000", "SYNTHETIC State", {}),
    ("44", "001", "SYNTHETIC One", {}),
    ("44", "003", "SYNTHETIC Two", {}),
]


def test_thousands_separators_and_thousands_of_dollars(read, cell):
    rows = [
        ("US", "0", {"N1": '"159,651,330"'}),
        ("RI", "0", {"A00100": '"47,930,430"', "A00200": "12", "N1": "10"}),
        ("RI", "1", {"A00100": '"-1,234"'}),
    ]
    frame = read("irs_historic_table_2", "2022", {HT2: ht2(rows)}).frame
    assert cell(frame, "", "N1")["estimate"] == 159_651_330
    assert cell(frame, "44", "A00100", "0")["estimate"] == 47_930_430_000
    assert cell(frame, "44", "A00100", "1")["estimate"] == -1_234_000
    assert cell(frame, "44", "A00200", "0")["estimate"] == 12_000
    assert cell(frame, "44", "N1", "0")["estimate"] == 10
    assert frame["margin_of_error"].null_count() == frame.height


def test_areas_of_no_state_have_their_own_level(read, cell):
    frame = read(
        "irs_historic_table_2",
        "2022",
        {HT2: ht2([(s, "0", {}) for s in ("US", "DC", "OA", "PR", "RI")])},
    ).frame
    levels = dict(frame.select("geoid", "level").unique().iter_rows())
    assert levels == {"": "nation", "11": "state", "44": "state", "OA": "other", "PR": "other"}


def test_the_header_may_be_in_lower_case(read, cell):
    text = ht2([("RI", "0", {})])
    head, rest = text.split("\n", 1)
    frame = read("irs_historic_table_2", "2022", {HT2: head.lower() + "\n" + rest}).frame
    assert cell(frame, "44", "N1")["estimate"] == 1000


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param(
            [("RI", "11", {})], ["unknown AGI class", "'11'", "AGI_STUB", "row 2"], id="class 11"
        ),
        pytest.param([("RI", "", {})], ["unknown AGI class", "row 2"], id="no class"),
        pytest.param(
            [("ZZ", "0", {})], ["no usable area code", "'ZZ'", "STATE", "row 2"], id="no such state"
        ),
        pytest.param(
            [("RI", "0", {}), ("DE", "0", {}), ("RI", "0", {})],
            ["GEOID 44", "class 0", "rows 2 and 4"],
            id="row twice",
        ),
        pytest.param(
            [("RI", "0", {"N1": "-20"})],
            ["negative", "'-20'", "column N1", "row 2"],
            id="negative count",
        ),
        pytest.param(
            [("RI", "0", {"A00200": "-20"})], ["negative", "column A00200"], id="negative wages"
        ),
        pytest.param([("RI", "0", {"N1": "d 20"})], ["neither a number", "'d 20'"], id="text"),
        pytest.param([("RI", "0", {"N1": ""})], ["neither a number", "blank"], id="blank"),
    ],
)
def test_impossible_rows_are_named(read, rows, words):
    with pytest.raises(SourceValueError) as caught:
        read("irs_historic_table_2", "2022", {HT2: ht2(rows)})
    assert all(word in str(caught.value) for word in [*words, "22in55cmcsv.csv"])


def test_a_withheld_cell_is_null_and_counted(read, cell):
    table = read(
        "irs_historic_table_2", "2022", {HT2: ht2([("RI", "0", {"N02500": "**", "A02500": "**"})])}
    )
    assert cell(table.frame, "44", "A02500")["status"] == "suppressed"
    assert [n.count for n in table.notes if n.code == "suppressed"] == [2]


def test_columns_of_another_year_are_recognised(read):
    columns = [c for c in COLUMNS if c not in ("N00400", "A00400", "N59661")] + ["N11450", "N11520"]
    with pytest.raises(
        SourceLayoutError, match=r"looks like vintage 2021, not 2022: column N00400 is absent"
    ):
        read("irs_historic_table_2", "2022", {HT2: ht2([("RI", "0", {})], columns)})


def test_a_renamed_column_is_named_even_where_the_year_hangs_on_it(read):
    columns = ["W00200" if c == "N00200" else c for c in COLUMNS]
    with pytest.raises(
        SourceLayoutError, match=r"Column N00200 is missing; the nearest names there are .*W00200"
    ):
        read("irs_historic_table_2", "2022", {HT2: ht2([("RI", "0", {})], columns)})


@pytest.mark.parametrize(
    "codes",
    [("44", "001", "000"), ("44", "1", "0"), ("44", " 1", " 0")],
    ids=["padded", "bare", "spaced"],
)
def test_county_codes_padded_or_not(read, cell, codes):
    state, one, zero = codes
    frame = read(
        "irs_county",
        "2022",
        {
            COUNTY: county(
                [
                    (state, zero, "SYNTHETIC State", {"N1": "7.0000"}),
                    (state, one, "SYNTHETIC One", {"N1": "6.0000"}),
                ]
            )
        },
    ).frame
    assert cell(frame, "44", "N1")["level"] == "state"
    assert cell(frame, "44001", "N1")["estimate"] == 6
    assert cell(frame, "44001", "N1")["stratum"] == "0"


def test_latin_1_names_are_read(read, cell):
    text = county([("35", "013", "Doña Ana SYNTHETIC", {})]).encode("latin-1")
    assert (
        cell(read("irs_county", "2022", {COUNTY: text}).frame, "35013", "N1")["name"]
        == "Doña Ana SYNTHETIC"
    )


def test_files_of_single_states_are_read_one_below_the_other(read):
    files = {
        "irs/22incyallnoagi_ri.csv": county(AREAS),
        "irs/22incyallnoagi_de.csv": county(
            [("10", "000", "SYNTHETIC", {}), ("10", "001", "SYNTHETIC", {})]
        ),
        "irs/22incyallnoagi_old.csv": "not a state's file",
    }
    table = read("irs_county", "2022", files, ["RI", "DE"])
    assert set(table.frame["geoid"]) == {"44", "44001", "44003", "10", "10001"}
    assert [p.label for p in table.provenance] == ["22incyallnoagi_de.csv", "22incyallnoagi_ri.csv"]
    with pytest.raises(SourceFileError, match=r"22incyallnoagi_vt.csv"):
        read("irs_county", "2022", files, ["RI", "VT"])


def test_a_state_s_file_with_another_state_is_an_error(read):
    with pytest.raises(SourceValueError, match=r"file of DE holds 3 area\(s\) of another state"):
        read("irs_county", "2022", {"irs/22incyallnoagi_de.csv": county(AREAS)}, ["DE"])


def test_the_whole_nation_goes_before_single_states(read):
    files = {
        COUNTY: county(AREAS),
        "irs/22incyallnoagi_de.csv": county([("10", "000", "SYNTHETIC", {})]),
    }
    assert [p.label for p in read("irs_county", "2022", files, ["RI", "DE"]).provenance] == [
        "22incyallnoagi.csv"
    ]


def test_classes_of_agi_stand_beside_the_totals(read):
    classes = [
        ("44", "001", "SYNTHETIC One", {"stub": str(n), "N1": f"{n}0.0000"}) for n in range(1, 9)
    ]
    frame = read(
        "irs_county", "2022", {COUNTY: county(AREAS), "irs/22incyallagi.csv": county(classes)}
    ).frame
    returns = frame.filter((pl.col("geoid") == "44001") & (pl.col("column") == "N1"))
    assert dict(returns.select("stratum", "estimate").iter_rows()) == {"0": 1000.0} | {
        str(n): n * 10.0 for n in range(1, 9)
    }


def test_no_county_file_names_every_place_it_was_looked_for(read):
    with pytest.raises(SourceFileError, match=r"22incyallnoagi\.csv.*22cyallnoagi\.csv"):
        read("irs_county", "2022", {"nothing": "x"})


def test_the_layout_of_2009_uses_the_current_names(read, cell):
    text = (
        "State_Code,County_Code,State_Abbrv,County_Name,Return_Num,Exmpt_Num,AGI,Wages_Salaries,"
        "Dividends,Interest\n"
    )
    text += (
        "44,0,RI,SYNTHETIC,500,1000,20000,15000,100,200\n44,1,RI,SYNTHETIC One,-1,-1,-1,-1,-1,3\n"
    )
    table = read("irs_county_2009", "2009", {OLD: text})
    assert cell(table.frame, "44", "A00200")["estimate"] == 15_000_000
    assert cell(table.frame, "44001", "N1")["status"] == "suppressed"
    assert cell(table.frame, "44001", "A00300")["estimate"] == 3000
    assert sum(n.count for n in table.notes if n.code == "suppressed") == 5


# ------------------------------------------------------------------------------------------------
# real files


@pytest.mark.parametrize(
    ("vintage", "nation", "state"),
    [
        ("2020", 164_041_940, 576_050),
        ("2021", 159_514_700, 561_060),
        ("2022", 159_651_330, 568_360),
    ],
)
def test_real_historic_table_2(realdata, cell, vintage, nation, state):
    frame = read_source(load_source("irs_historic_table_2"), vintage, realdata).frame
    assert cell(frame, "", "N1", "0")["estimate"] == nation
    assert cell(frame, "44", "N1", "0")["estimate"] == state
    n1 = frame.filter(pl.col("column") == "N1")
    assert n1.height == 594
    assert n1.filter(pl.col("stratum") == "0")["estimate"].sum() == pytest.approx(
        2 * nation, rel=1e-6
    )


def test_real_years_of_historic_table_2_are_told_apart(realdata, read):
    for asked, held in (("2022", "20"), ("2021", "22"), ("2020", "21")):
        with pytest.raises(SourceLayoutError, match=f"looks like vintage 20{held}, not {asked}"):
            read(
                "irs_historic_table_2",
                asked,
                {
                    f"irs/{asked[2:]}in55cmcsv.csv": (
                        (realdata / f"irs/{held}in55cmcsv.csv").read_bytes()
                    )
                },
            )


def test_real_counties_of_2012(realdata, cell):
    frame = read_source(load_source("irs_county"), "2012", realdata).frame
    returns = frame.filter(pl.col("column") == "N1")
    assert dict(returns.group_by("level").len().iter_rows()) == {"county": 3142, "state": 51}
    states = returns.filter(pl.col("level") == "state")["estimate"].sum()
    assert states == pytest.approx(144.3e6, rel=1e-3)
    assert frame.filter((pl.col("column") == "A00100") & (pl.col("level") == "state"))[
        "estimate"
    ].sum() == pytest.approx(9.01e12, rel=1e-2)
    assert (
        returns.filter((pl.col("level") == "county") & pl.col("geoid").str.starts_with("44"))[
            "estimate"
        ].sum()
        == 512_860
    )
    assert cell(frame, "44", "N1")["estimate"] == 512_880


def test_real_excerpts_of_2022(realdata, cell):
    frame = read_source(load_source("irs_county"), "2022", realdata, ["RI", "DE"]).frame
    counties = frame.filter((pl.col("level") == "county") & pl.col("geoid").str.starts_with("44"))
    assert counties["geoid"].n_unique() == 5
    assert (
        counties.filter(pl.col("column") == "N1")["estimate"].sum()
        == cell(frame, "44", "N1")["estimate"] + 40
    )
    assert (
        counties.filter(pl.col("column") == "A00100")["estimate"].sum()
        == cell(frame, "44", "A00100")["estimate"]
    )
    assert frame["column"].n_unique() == 161


def test_real_counties_of_2009(realdata, cell):
    frame = read_source(load_source("irs_county_2009"), "2009", realdata).frame
    assert cell(frame, "01", "N1")["estimate"] == 1_805_986
    assert frame.filter(pl.col("status") == "suppressed").height == 9


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("N1", "Column N1 stands in the header 2 times"),
        ("n1", "Columns N1 and n1 of the header are both read as N1"),
    ],
    ids=["same", "other case"],
)
def test_a_column_given_twice_is_refused_though_case_is_ignored(tmp_path, name, words):
    path = tmp_path / "irs" / "22in55cmcsv.csv"
    path.parent.mkdir()
    path.write_text(
        f"STATE,agi_stub,N1,{name},N2,N00200,A00200,A00100,N00400,N59661\nUS,0,5,6,7,8,9,1,1,1\n"
    )
    with pytest.raises(SourceLayoutError, match=words):
        read_source(load_source("irs_historic_table_2"), "2022", tmp_path)
