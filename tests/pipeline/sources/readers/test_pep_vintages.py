"""County estimates of every vintage: padded and unpadded codes, UTF-8 and Latin-1, one year for
another.
"""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import SourceLayoutError
from pipeline.sources.registry import read_source
from pipeline.specs.sources import load_source

HEAD = "SUMLEV,REGION,DIVISION,STATE,COUNTY,STNAME,CTYNAME,ESTIMATESBASE2020,POPESTIMATE{year}\n"
STATES = {"2019": 328_239_523, "2020": 329_484_123, "2021": 331_893_745, "2023": 334_914_895}


@pytest.mark.parametrize("codes", ["50,4,8,35,13", "050,4,8,35,013"])
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_codes_of_any_width_and_names_of_either_encoding(read, cell, codes, encoding):
    text = HEAD.format(year=2023) + f"{codes},New Mexico,Doña Ana County,219569,7\n"
    files = {"pep/co-est2023-alldata.csv": text.encode(encoding)}
    row = cell(read("pep_counties", "2023", files).frame, "35013", "POPESTIMATE2023")
    assert (row["name"], row["estimate"]) == ("Doña Ana County", 7.0)


def test_another_vintage_is_named(read):
    text = HEAD.format(year=2021) + "50,4,8,35,13,New Mexico,SYNTHETIC,219569,7\n"
    with pytest.raises(SourceLayoutError, match="looks like vintage 2021, not 2023"):
        read("pep_counties", "2023", {"pep/co-est2023-alldata.csv": text})


@pytest.mark.parametrize("vintage", STATES)
def test_the_publishers_states_add_up_to_the_nation_and_counties_to_states(realdata, vintage):
    frame = read_source(load_source("pep_counties"), vintage, realdata).frame
    rows = frame.filter(pl.col("column") == f"POPESTIMATE{vintage}")
    for level in ("state", "county"):
        total = rows.filter((pl.col("level") == level) & (pl.col("geoid").str.head(2) != "72"))
        assert total["estimate"].sum() == STATES[vintage]


@pytest.mark.parametrize("vintage", ["2019", "2020", "2023", "2024"])
def test_the_publishers_names_keep_their_letters(realdata, cell, vintage):
    frame = read_source(load_source("pep_counties"), vintage, realdata).frame
    assert cell(frame, "35013", f"POPESTIMATE{vintage}")["name"] == "Doña Ana County"
