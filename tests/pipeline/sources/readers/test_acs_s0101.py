"""Age and sex of states and nation: an answer per group as the API gives it."""

from __future__ import annotations

import json

import polars as pl

from pipeline.sources.registry import read_source
from pipeline.specs.sources import load_source

STATE = "acs_tables/acs_S0101_state_2024.json"
NATION = "acs_tables/acs_S0101_national_2024.json"


def _answer(code: str, total: str) -> str:
    values = {"S0101_C01_001": total, "S0101_C03_001": "40", "S0101_C01_032": "38.5"}
    head = [f"{name}{part}" for name in values for part in ("E", "EA", "M", "MA")]
    cells = [x for value in values.values() for x in (value, None, "-555555555", "*****")]
    return json.dumps([["GEO_ID", "NAME", *head, "state"], [code, "SYNTHETIC", *cells, "44"]])


def test_persons_and_median_with_their_marks(read, cell):
    files = {STATE: _answer("0400000US44", "90"), NATION: _answer("0100000US", "900")}
    frame = read("acs1_s0101", "2024", files).frame
    row = cell(frame, "44", "S0101_C01_001")
    assert (row["estimate"], row["margin_of_error"], row["status"]) == (90.0, 0.0, "controlled")
    assert cell(frame, "", "S0101_C01_032")["estimate"] == 38.5


def test_the_publishers_states_add_up_to_its_nation(realdata):
    frame = read_source(load_source("acs1_s0101"), "2024", realdata).frame
    total = frame.filter(pl.col("column") == "S0101_C01_001")
    nation = total.filter(pl.col("level") == "nation")["estimate"].item()
    states = total.filter((pl.col("level") == "state") & (pl.col("geoid") != "72"))
    assert states["estimate"].sum() == nation
    assert abs(nation - 340_110_988) <= 2, "controlled to population estimates of Vintage 2024"
    males = frame.filter(pl.col("column").is_in(["S0101_C03_001", "S0101_C05_001"]))
    assert males.filter(pl.col("level") == "nation")["estimate"].sum() == nation
