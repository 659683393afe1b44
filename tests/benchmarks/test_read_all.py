"""Files of a folder: who takes them, their totals beside the known figure, why one is not read."""

import json
from pathlib import Path

import pytest
import yaml

from benchmarks.read_all import KNOWN, as_markdown, main, read_folder
from benchmarks.read_all_match import by_layout, candidates
from pipeline.specs.sources import load_sources

SPECS = load_sources()
SVI = (
    "ST,STCNTY,FIPS,LOCATION,E_TOTPOP,M_TOTPOP,E_HH,M_HH,E_POV150,M_POV150,E_HBURD,M_HBURD\n"
    "10,10001,10001040100,SYNTHETIC,{population},9,40,4,12,3,7,3\n"
)
DELAWARE = "acs_tables/svi_tracts_2022/Delaware.csv"
SETTINGS = {
    "totals": {"population": ["TOTPOP"], "households": ["HH"]},
    "strata": [""],
    "placed": [],
    "no_reader": [{"file": "*.pdf", "why": "a description"}],
    "known": [{"file": "*Delaware.csv", "kind": "population", "figure": 90, "source": "SYNTHETIC"}],
}


def _folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "source", "vintage", "how"),
    [
        (DELAWARE, "svi_tracts", "2022", "path"),
        ("acs_tables/county_us/SVI_2014_US_county.csv", "svi_counties", "2014", "path"),
        ("acs_pums/2021_5yr/csv_pri.zip", "acs_pums_5yr", "2021", "path"),
        ("else/ACSDP5Y2021.DP05-Data.csv", "acs5_tables_download", "2021", "name"),
        ("ssa/ssi_sc24.xlsx", "ssa_ssi_counties", "2024", "path"),
        ("geo/2020_Census_Tract_to_2020_PUMA.zip", "tract_puma", "2020", "path"),
    ],
)
def test_a_file_is_taken_by_its_path_or_its_name(path, source, vintage, how):
    first = candidates(path, SPECS)[0]
    assert (first.spec.id, first.vintage, first.how) == (source, vintage, how)


@pytest.mark.parametrize(
    "path",
    ["geo/2010_Census_Tract_to_2020_PUMA.zip", "acs_tables/svi_tracts_2022/Atlantis.csv", "x.csv"],
)
def test_no_source_takes_what_only_looks_alike(path):
    assert candidates(path, SPECS) == []


def test_the_layout_is_tried_for_every_table_of_that_ending():
    tried = by_layout("x.json", SPECS)
    assert {"acs5_profile_tracts", "census2020_pl_tracts"} <= {each.spec.id for each in tried}
    assert not {"svi_tracts", "acs_pums_1yr"} & {each.spec.id for each in tried}


@pytest.mark.parametrize(("population", "agrees"), [("90", True), ("91", False)])
def test_a_total_is_compared_with_the_known_one(tmp_path, population, agrees):
    (line,) = read_folder(
        _folder(tmp_path, **{DELAWARE: SVI.format(population=population)}), settings=SETTINGS
    )
    assert (line.source, line.reader, line.agrees) == ("svi_tracts 2022", "svi_csv", agrees)
    assert line.totals["households"] == {"tract": 40.0}
    assert ("equal" if agrees else "DIFFERS") in as_markdown([line])


def test_a_file_that_is_not_read_says_why(tmp_path):
    files = {
        DELAWARE: SVI.format(population="many"),
        "a.pdf": "x",
        "b.csv": "a,b\n1,2\n",
        "ssa/ssi_sc02.xlsx": "x",
    }
    lines = {x.file: x for x in read_folder(_folder(tmp_path, **files), settings=SETTINGS)}
    assert "'many'" in lines[DELAWARE].why and lines[DELAWARE].agrees is None
    assert lines["a.pdf"].why == "a description"
    assert lines["b.csv"].why == "no specification has its path, its name or its layout"
    assert lines["ssa/ssi_sc02.xlsx"].why == "ssa_ssi_counties has no vintage 2002"
    assert "0 of 4 files read" in as_markdown(list(lines.values()))


def test_a_file_under_a_name_of_its_own_is_taken_by_its_layout(tmp_path):
    name = "mine/tracts of Delaware.csv"
    (line,) = read_folder(
        _folder(tmp_path, **{name: SVI.format(population="90")}), settings=SETTINGS
    )
    assert (line.how, line.source.split()[0], line.areas) == ("layout", "svi_tracts", 1)


def test_json_has_a_line_per_file_in_one_process_or_apart(tmp_path, capsys):
    folder = _folder(tmp_path, **{DELAWARE: SVI.format(population="90"), "x [1].md": "x"})
    main(["--data", str(folder), "--json"])
    first = json.loads(capsys.readouterr().out)
    main(["--data", str(folder), "--json", "--apart", "--only", "x*"])
    assert json.loads(capsys.readouterr().out) == first[1:]
    assert [line["file"] for line in first] == [DELAWARE, "x [1].md"]


def test_every_hint_names_a_source_and_vintage_that_exist():
    for placed in yaml.safe_load(KNOWN.read_text("utf-8"))["placed"]:
        assert placed["vintage"] in SPECS[placed["source"]].vintages


@pytest.mark.parametrize("only", ["acs_tables/svi_*", "acs_tables/tx_*", "pep/*", "geo/20*.zip"])
def test_every_publishers_file_of_these_kinds_is_read_and_equal(realdata, only):
    lines = read_folder(realdata, only)
    assert lines and [x.why for x in lines if x.why] == []
    assert [x.file for x in lines if x.agrees is False] == []
