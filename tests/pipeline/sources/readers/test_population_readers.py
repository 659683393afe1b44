"""Population estimates, the Social Vulnerability Index and tidy transcriptions, with bad input and
real figures.
"""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import SourceLayoutError, SourceValueError
from pipeline.sources.registry import read_source
from pipeline.specs.sources import SourceSpec, load_source

PEP = "pep/co-est2024-alldata.csv"
NATION = "pep/nst-est2019-alldata.csv"
AGE = "pep/nc-est2024-agesex-res.csv"
SVI = "acs_tables/county_us/SVI2018_US_COUNTY.csv"
SSI = "ssa/ssi_by_category_2024.csv"
TIDY = SourceSpec(
    id="ssi_by_category",
    title="SSI recipients and payments by state and category, transcribed",
    publisher="SYNTHETIC",
    licence="SYNTHETIC",
    url="https://example.org/ssi",
    documentation="https://example.org/ssi",
    coverage="nation",
    levels=("nation", "state"),
    reader="tidy_csv",
    layout={
        "geography": "geography_id",
        "name_column": "geography_name",
        "category_column": "ssi_category",
    },
    files=({"paths": ("ssa/ssi_by_category_{year}.csv",)},),
    vintages={"2024": {}},
    columns=(
        {
            "name": "recipient_count",
            "rename": "ssi_{category}",
            "unit": "persons",
            "description": "recipients of the category",
        },
        {
            "name": "payment_thousands",
            "rename": "ssi_payments_year_{category}",
            "type": "amount",
            "unit": "usd_thousands",
            "description": "payments of the year",
        },
    ),
)

PEP_HEAD = (
    "SUMLEV,REGION,DIVISION,STATE,COUNTY,STNAME,CTYNAME,ESTIMATESBASE2020,POPESTIMATE2020,"
    "POPESTIMATE2024,NPOPCHG2024,GQESTIMATES2024\n"
)


def pep(*areas: str) -> str:
    return PEP_HEAD + "".join(f"{area},100,101,110,-9,5\n" for area in areas)


STATE, COUNTY = "040,1,1,44,000,SYNTHETIC,SYNTHETIC", "050,1,1,44,001,SYNTHETIC,SYNTHETIC County"


@pytest.mark.parametrize(
    "areas",
    [
        (STATE, COUNTY),
        ("40,1,1,44,0,SYNTHETIC,SYNTHETIC", "50,1,1,44,1,SYNTHETIC,SYNTHETIC County"),
    ],
    ids=["padded", "bare"],
)
def test_estimates_of_states_and_counties(read, cell, areas):
    table = read("pep_counties", "2024", {PEP: pep(*areas)})
    assert cell(table.frame, "44", "POPESTIMATE2024")["level"] == "state"
    assert cell(table.frame, "44001", "POPESTIMATE2020")["estimate"] == 101
    assert cell(table.frame, "44001", "POPESTIMATE2020")["name"] == "SYNTHETIC County"
    assert set(table.frame["column"]) == {
        "ESTIMATESBASE2020",
        "POPESTIMATE2020",
        "POPESTIMATE2024",
        "GQESTIMATES2024",
    }


def test_latin_1_names(read, cell):
    text = pep("050,4,8,35,013,SYNTHETIC,Doña Ana County").encode("latin-1")
    assert (
        cell(read("pep_counties", "2024", {PEP: text}).frame, "35013", "POPESTIMATE2024")["name"]
        == "Doña Ana County"
    )


def test_another_vintage_of_estimates_is_refused(read):
    old = (
        pep(STATE)
        .replace("2024", "2019")
        .replace("ESTIMATESBASE2020", "ESTIMATESBASE2010")
        .replace("POPESTIMATE2020", "POPESTIMATE2010")
    )
    with pytest.raises(
        SourceLayoutError,
        match="looks like vintage 2019, not 2024: column POPESTIMATE2024 is absent",
    ):
        read("pep_counties", "2024", {PEP: old})


def test_old_connecticut_counties_betray_an_old_file(read):
    with pytest.raises(
        SourceLayoutError, match="does not look like vintage 2024: area 09001 is present"
    ):
        read("pep_counties", "2024", {PEP: pep("050,1,1,09,001,SYNTHETIC,SYNTHETIC")})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(pep(COUNTY, STATE, COUNTY), "GEOID 44001 .* rows 2 and 4", id="twice"),
        pytest.param(
            pep(STATE).replace(",110,", ",-110,"),
            "negative.*'-110'.*POPESTIMATE2024",
            id="negative",
        ),
        pytest.param(
            pep("050,1,1,44,,SYNTHETIC,SYNTHETIC"), "no usable area code", id="no county code"
        ),
        pytest.param(
            pep("050,1,1,99,001,SYNTHETIC,SYNTHETIC"),
            "geoid_begins_with_a_known_state",
            id="no such state",
        ),
    ],
)
def test_impossible_estimates(read, text, words):
    with pytest.raises(SourceValueError, match=words):
        read("pep_counties", "2024", {PEP: text})


def test_regions_are_counted_and_left_out(read):
    head = "SUMLEV,REGION,DIVISION,STATE,NAME,POPESTIMATE2019\n"
    table = read(
        "pep_states",
        "2019",
        {
            NATION: (
                head + "10,0,0,0,United States,900\n20,1,0,0,Northeast"
                " Region,300\n40,1,1,44,SYNTHETIC,100\n"
            )
        },
    )
    assert dict(table.frame.select("geoid", "estimate").iter_rows()) == {"": 900.0, "44": 100.0}
    assert [n.count for n in table.notes if n.code == "rows_of_other_levels"] == [1]


def test_age_and_sex_become_strata(read, cell):
    text = "SEX,AGE,ESTIMATESBASE2020,POPESTIMATE2020,POPESTIMATE2024\n1,85,5,6,7\n2,85,8,9,10\n"
    frame = read("pep_age_sex", "2024", {AGE: text}).frame
    assert cell(frame, "", "POPESTIMATE2024", "sex=1,age=85")["estimate"] == 7
    with pytest.raises(SourceValueError, match=r"class sex=1,age=85\) stands in rows 2 and 3"):
        read("pep_age_sex", "2024", {AGE: text.replace("2,85", "1,85")})


def svi(*rows: str) -> str:
    return "ST,FIPS,LOCATION,E_TOTPOP,M_TOTPOP,E_HH,M_HH,E_PCI,M_PCI,EP_POV,MP_POV\n" + "".join(
        f"{row}\n" for row in rows
    )


def test_svi_minus_999_and_zero_margins(read, cell):
    table = read(
        "svi_counties",
        "2018",
        {SVI: svi('44,44001,"SYNTHETIC County, SYNTHETIC",500,0,200,12.5,-999,-999,-999,-999')},
    )
    row = cell(table.frame, "44001", "TOTPOP")
    assert (row["estimate"], row["margin_of_error"], row["status"]) == (500.0, 0.0, "controlled")
    assert cell(table.frame, "44001", "HH")["margin_of_error"] == 12.5
    assert cell(table.frame, "44001", "PCI")["status"] == "not_available"
    assert [n.count for n in table.notes if n.code == "not_available"] == [2]
    assert set(table.frame["column"]) == {"TOTPOP", "HH", "PCI", "POV_P"}


def test_svi_codes_without_their_zero_are_mended_and_broken_ones_refused(read, cell):
    assert (
        cell(
            read("svi_counties", "2018", {SVI: svi("1,1001,SYNTHETIC,5,1,2,1,3,1,4,1")}).frame,
            "01001",
            "TOTPOP",
        )["level"]
        == "county"
    )
    with pytest.raises(SourceValueError, match=r"no usable area code.*'1001A'"):
        read("svi_counties", "2018", {SVI: svi("1,1001A,SYNTHETIC,5,1,2,1,3,1,4,1")})


def test_a_later_svi_is_not_taken_for_2018(read):
    with pytest.raises(
        SourceLayoutError,
        match="does not look like vintage 2018: column PCI is absent; column HBURD is present",
    ):
        read(
            "svi_counties",
            "2018",
            {SVI: svi("44,44001,SYNTHETIC,5,1,2,1,3,1,4,1").replace("_PCI", "_HBURD")},
        )


def test_a_tidy_table_has_a_column_per_category(read, cell):
    head = "area_id,geography_id,geography_name,ssi_category,recipient_count,payment_thousands\n"
    text = head + "ri,0400000US44,SYNTHETIC,total,30,9\nri,0400000US44,SYNTHETIC,aged,4,1\n"
    frame = read(TIDY, "2024", {SSI: text}).frame
    assert cell(frame, "44", "ssi_aged")["estimate"] == 4
    assert cell(frame, "44", "ssi_payments_year_total")["estimate"] == 9000
    with pytest.raises(SourceValueError, match=r"GEOID 44 .* rows 2 and 3"):
        read(TIDY, "2024", {SSI: text.replace("aged", "total")})


# ------------------------------------------------------------------------------------------------
# real files


def test_real_estimates(realdata, cell):
    new = read_source(load_source("pep_counties"), "2024", realdata).frame
    old = read_source(load_source("pep_counties"), "2019", realdata).frame
    assert cell(new, "01001", "POPESTIMATE2024")["estimate"] == 61_464
    assert cell(old, "01", "POPESTIMATE2019")["estimate"] == 4_903_185
    for frame, column in ((new, "POPESTIMATE2022"), (old, "POPESTIMATE2018")):
        rows = frame.filter(pl.col("column") == column)
        counties = (
            rows.filter(pl.col("level") == "county")
            .group_by(pl.col("geoid").str.slice(0, 2))
            .agg(pl.col("estimate").sum())
        )
        assert dict(counties.iter_rows()) == dict(
            rows.filter(pl.col("level") == "state").select("geoid", "estimate").iter_rows()
        )


def test_real_nation_and_ages(realdata, cell):
    nation = read_source(load_source("pep_states"), "2019", realdata).frame
    assert cell(nation, "", "POPESTIMATE2019")["estimate"] == 328_239_523
    states = nation.filter(
        (pl.col("column") == "POPESTIMATE2019")
        & (pl.col("level") == "state")
        & (pl.col("geoid") != "72")
    )
    assert states["estimate"].sum() == 328_239_523
    ages = read_source(load_source("pep_age_sex"), "2024", realdata).frame.filter(
        pl.col("column") == "POPESTIMATE2024"
    )
    both = ages.filter(pl.col("stratum").str.starts_with("sex=0"))
    assert (
        both.filter(pl.col("stratum") != "sex=0,age=999")["estimate"].sum()
        == cell(ages, "", "POPESTIMATE2024", "sex=0,age=999")["estimate"]
    )


def test_real_svi(realdata, cell):
    table = read_source(load_source("svi_counties"), "2018", realdata)
    assert table.frame["geoid"].n_unique() == 3142
    assert cell(table.frame, "01001", "TOTPOP")["estimate"] == 55_200
    missing = table.frame.filter(pl.col("status") == "not_available")
    assert set(missing["geoid"]) == {"35039"}
    assert set(missing["column"]) == {"POV", "UNEMP", "PCI", "POV_P", "UNEMP_P", "PCI_P"}
