"""Readers by name, reading through a spec, and the check of files that never stops at the first
fault.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import zipfile
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import ProfileError, SourceFileError, SpecError
from pipeline.sample.generate import generate_sample
from pipeline.sample.settings import small_settings
from pipeline.sources.base import ReadRequest, SourceNote, SourceTable, resolve_files
from pipeline.sources.named import reader, reader_names
from pipeline.sources.registry import check_source, read_microdata, read_source
from pipeline.sources.tables.schemas import PublishedTable, validated
from pipeline.specs.sources import load_source, load_sources

PEP = "pep/co-est2024-alldata.csv"
PEP_TEXT = (
    "SUMLEV,STATE,COUNTY,CTYNAME,ESTIMATESBASE2020,POPESTIMATE2020,POPESTIMATE2024\n"
    "050,44,001,SYNTHETIC,1,2,3\n"
)


def test_every_source_has_a_reader_and_every_reader_a_source():
    specs = load_sources().values()
    named = {spec.reader_of(v) for spec in specs for v in spec.vintages}
    assert named <= set(reader_names())
    # Readers of forms that a user may have and no source of ours states.
    assert set(reader_names()) - named == {"tidy_csv"}


def test_what_is_read_satisfies_the_schema_and_carries_its_digest(read):
    table = read("pep_counties", "2024", {PEP: PEP_TEXT})
    assert PublishedTable.is_valid(table.frame)
    assert table.frame["sha256"].unique().to_list() == [
        hashlib.sha256(PEP_TEXT.encode()).hexdigest()
    ]
    assert table.provenance[0].bytes == len(PEP_TEXT)


def test_the_same_bytes_give_the_same_table(read):
    first, second = (read("pep_counties", "2024", {PEP: PEP_TEXT}) for _ in range(2))
    assert first.frame.equals(second.frame)
    assert first.notes == second.notes


def test_unknown_vintage_reader_and_state_are_named(tmp_path):
    spec = load_source("pep_counties")
    with pytest.raises(SpecError, match=r"no vintage '1999'.*2019, .*2024"):
        read_source(spec, "1999", tmp_path)
    with pytest.raises(SpecError, match=r"no reader 'none'"):
        read_source(spec.model_copy(update={"reader": "none"}), "2024", tmp_path)
    with pytest.raises(ProfileError, match=r"'XX' is not the postal code"):
        read_source(load_source("acs5_profile_tracts"), "2022", tmp_path, ["XX"])
    with pytest.raises(ProfileError, match="no state was named"):
        read_source(load_source("acs5_profile_tracts"), "2022", tmp_path)


@pytest.fixture
def names(monkeypatch):
    """The names of readers, as they were after the test."""
    from pipeline.sources import named

    reader_names()
    monkeypatch.setattr(named, "_named", dict(named._named))


def test_a_reader_says_what_it_is_called_and_is_found(put, names):
    @reader("rows_of_a_test", check=lambda request, file: "seen")
    def read_lines(request: ReadRequest) -> list[bytes]:
        return [request.open(file).data for file in request.files]

    def other(request: ReadRequest) -> None:
        return None

    assert reader("rows_of_a_test", check=lambda request, file: "seen")(read_lines) is read_lines
    spec = load_source("pep_counties").model_copy(update={"reader": "rows_of_a_test"})
    folder = put({PEP: PEP_TEXT})
    assert read_source(spec, "2024", folder) == [PEP_TEXT.encode()]
    assert [line.message for line in check_source(spec, "2024", folder)] == ["seen"]
    with pytest.raises(SpecError, match="exists"):
        reader("rows_of_a_test")(other)


def test_a_survey_is_read_by_the_reader_its_source_names(put, names):
    """Neither survey is named anywhere but in its own module and its source's YAML."""

    @reader("survey_of_a_test")
    def read_survey(request: ReadRequest) -> str:
        return " ".join([request.vintage, *(state.postal for state in request.states)])

    spec = load_source("acs_pums_1yr").model_copy(update={"reader": "survey_of_a_test"})
    assert read_microdata(spec, "2018", put({"x": "x"}), ["RI"]) == "2018 RI"


def test_records_are_not_asked_of_a_publication(tmp_path):
    with pytest.raises(SpecError, match="kind published, and records are asked of it"):
        read_microdata(load_source("pep_counties"), "2024", tmp_path)


def test_a_survey_of_states_is_read_one_state_at_a_time(tmp_path):
    with pytest.raises(ProfileError, match="2 states were asked for"):
        read_microdata(load_source("acs_pums_1yr"), "2018", tmp_path, ["RI", "DE"])


def test_files_are_resolved_in_a_fixed_order_and_optional_ones_only_where_they_are(put):
    spec = load_source("acs_pums_1yr")
    folder = put({"acs_pums/2018_1yr/csv_hri.zip": "x"})
    files = resolve_files(spec, "2018", folder, ["RI", "DE"])
    assert [(f.role, f.path.name, f.exists) for f in files] == [
        ("persons", "csv_pde.zip", False),
        ("persons", "csv_pri.zip", False),
        ("housing", "csv_hri.zip", True),
    ]
    assert files[1].members[:2] == ("psam_p44.csv", "ss18pri.csv")


# ------------------------------------------------------------------------------------------------
# check


def test_a_good_file_is_reported_with_size_and_digest(put):
    (line,) = check_source(load_source("pep_counties"), "2024", put({PEP: PEP_TEXT}))
    assert (line.ok, line.bytes, line.sha256) == (
        True,
        len(PEP_TEXT),
        hashlib.sha256(PEP_TEXT.encode()).hexdigest(),
    )
    assert line.message.startswith("3 rows")


def test_no_fault_stops_the_check_of_the_other_files(put):
    folder = put(
        {f"irs/22incyallnoagi_{st}.csv": "<html>" for st in ("ri", "de")}
        | {"irs/22incyallnoagi_vt.csv": "STATEFIPS,COUNTYFIPS\n50,001\n"}
    )
    lines = check_source(load_source("irs_county"), "2022", folder, ["RI", "DE", "VT", "WY"])
    assert [(Path(line.path).name, line.ok) for line in lines] == [
        (f"22incyallnoagi_{st}.csv", False) for st in ("de", "ri", "vt", "wy")
    ]
    assert "web page" in lines[0].message
    assert "AGI_STUB is missing" in lines[2].message
    assert "missing" in lines[3].message
    assert (lines[3].bytes, lines[3].sha256) == (0, "")


PEP_AT = "https://www2.census.gov/programs-surveys/popest/datasets/"
API = "https://api.census.gov/data/"


@pytest.mark.parametrize(
    ("source", "vintage", "file", "words"),
    [
        (
            "pep_counties",
            "2019",
            "co-est2019-alldata.csv",
            [PEP_AT + "2010-2019/counties/totals/co-est2019-alldata.csv"],
        ),
        (
            "pep_counties",
            "2024",
            "co-est2024-alldata.csv",
            [PEP_AT + "2020-2024/counties/totals/co-est2024-alldata.csv"],
        ),
        (
            "pep_states",
            "2019",
            "nst-est2019-alldata.csv",
            [PEP_AT + "2010-2019/national/totals/nst-est2019-alldata.csv"],
        ),
        (
            "acs1_detailed",
            "2018",
            "bystate/acs-acs1-2018-GROUP_B22010_DATA.csv",
            [API + "2018/acs/acs1?get=group(B22010)&for=state:*"],
        ),
        (
            "acs1_detailed",
            "2022",
            "us/acs-acs1-2022-GROUP_B01001_DATA.csv",
            [API + "2022/acs/acs1?get=group(B01001)&for=us:1"],
        ),
        (
            "acs1_s1901",
            "2018",
            "us/acs-acs1-subject-2018-GROUP_S1901_DATA.csv",
            [API + "2018/acs/acs1/subject?get=group(S1901)&for=us:1"],
        ),
        (
            "acs5_detailed_tracts",
            "2022",
            "acsdt5y2022-b19001.dat",
            ["/5YRData/acsdt5y2022-b19001.dat"],
        ),
        (
            "acs5_profile_tracts",
            "2022",
            "acs5_2022_DP04.json",
            ["group(DP04)&for=tract:*&in=state:44", "tracts_acs2022_pophousing_retrieved_data"],
        ),
        (
            "acs5_profile_tracts",
            "2021",
            "acs5_2021_DP03.json",
            [API + "2021/acs/acs5/profile?get=group(DP03)", "socialecon_retrieved_data.json"],
        ),
        (
            "tract_puma",
            "2020",
            "geo/2020_Census_Tract_to_2020_PUMA.txt",
            ["/rel2020/2020_Census_Tract_to_2020_PUMA.txt"],
        ),
        (
            "irs_county",
            "2012",
            "irs/12cyallnoagi.csv",
            ["https://www.irs.gov/pub/irs-soi/12cyallnoagi.csv"],
        ),
    ],
)
def test_a_missing_file_is_named_with_its_own_address(tmp_path, source, vintage, file, words):
    (line,) = [
        line
        for line in check_source(load_source(source), vintage, tmp_path, ["RI"])
        if file in line.path + line.message.split("Expected:")[0]
    ]
    assert "A raw file is missing" in line.message
    assert [word for word in words if word not in line.message] == []
    assert "Download it from" in line.message
    others = {"DP02", "DP03", "DP04", "DP05"} - set(re.findall(r"DP0\d", " ".join(words)))
    assert not any(f"group({other})" in line.message for other in others)


def test_a_missing_file_in_a_carriers_form_is_described_and_another_has_its_address(tmp_path):
    line, _ = check_source(load_source("ssa_oasdi_states"), "2022", tmp_path)
    assert line.path.endswith("2022 - Beneficiaries.csv")
    assert "saved as CSV files by a carrier" in line.message
    assert "Download it" not in line.message
    (line,) = check_source(load_source("ssa_ssi_counties"), "2022", tmp_path)
    assert "Download it from Social Security Administration" in line.message
    assert "/2022/ssi_sc22.xlsx" in line.message


def test_a_state_without_name_is_a_line_too(put):
    (line,) = check_source(load_source("acs5_profile_tracts"), "2022", put({"x": "x"}))
    assert not line.ok
    assert "no state was named" in line.message


def test_microdata_are_checked_by_member_and_header(put, zipped):
    spec = load_source("acs_pums_1yr")
    needed = [
        "SERIALNO",
        "PUMA",
        "ST",
        "ADJINC",
        "SPORDER",
        "PWGTP",
        "AGEP",
        "SEX",
        "RELP",
        "MAR",
        "SCHL",
        "SCH",
        "SCHG",
        "ESR",
        "COW",
        "JWTR",
        "JWRIP",
        "HISP",
    ]
    needed += [
        "RAC1P",
        "DIS",
        "MIL",
        "NATIVITY",
        "CIT",
        "LANX",
        "MIG",
        "FER",
        "POVPIP",
        "WKW",
        "WKHP",
        "WAGP",
        "SEMP",
        "INTP",
        "RETP",
        "SSP",
        "SSIP",
        "PAP",
        "OIP",
        "PINCP",
    ]

    def lines(header: list[str], member: str = "psam_p44.csv") -> list:
        text = ",".join(header) + "\n" + ",".join("1" for _ in header) + "\n"
        return check_source(
            spec, "2018", put({"acs_pums/2018_1yr/csv_pri.zip": zipped({member: text})}), ["RI"]
        )

    (line,) = lines(needed)
    assert not line.ok
    assert "The file holds state 01" in line.message, (
        "the header is in order, so the lines are read: ST is 1 in this one"
    )
    (line,) = lines([name for name in needed if name not in ("SSIP", "SSP")])
    assert not line.ok
    assert "2 required column(s) are missing: SSP, SSIP" in line.message
    (line,) = lines(needed, "psam_p10.csv")
    assert "psam_p44.csv" in line.message
    (line,) = check_source(
        spec, "2018", put({"acs_pums/2018_1yr/csv_pri.zip": b"PK\x03\x04 cut"}), ["RI"]
    )
    assert "zip archive cannot be opened" in line.message


def test_the_published_schema_names_rule_count_and_example(read):
    frame = read("pep_counties", "2024", {PEP: PEP_TEXT}).frame
    broken = frame.with_columns(pl.lit(-1.0).alias("margin_of_error"))
    with pytest.raises(Exception, match=r"margin_of_error: min \(3 rows\).*geoid='44001'"):
        validated(broken, PublishedTable, "a test")
    with pytest.raises(Exception, match="cell_is_unique"):
        validated(pl.concat([frame, frame]), PublishedTable, "a test")
    with pytest.raises(Exception, match="has not the columns or types"):
        validated(frame.drop("row"), PublishedTable, "a test")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param({"geoid": "4400"}, "geoid_has_the_length_of_its_level", id="length"),
        pytest.param({"geoid": "03001"}, "geoid_begins_with_a_known_state", id="state"),
        pytest.param({"status": "guessed"}, "status", id="status"),
        pytest.param({"level": "parish"}, "level", id="level"),
        pytest.param(
            {"status": "suppressed"}, "estimate_agrees_with_status", id="withheld with a value"
        ),
        pytest.param({"estimate": float("inf")}, "estimate", id="infinite"),
        pytest.param({"vintage": "22"}, "vintage", id="vintage"),
    ],
)
def test_each_rule_of_the_schema_bites(read, change, rule):
    frame = read("pep_counties", "2024", {PEP: PEP_TEXT}).frame.with_columns(
        **{name: pl.lit(value) for name, value in change.items()}
    )
    with pytest.raises(Exception, match=rule):
        validated(frame, PublishedTable, "a test")


def test_notes_and_tables_cannot_be_changed(read):
    table = read("pep_counties", "2024", {PEP: PEP_TEXT})
    for thing in (table, SourceNote("a", 1, "b")):
        with pytest.raises(dataclasses.FrozenInstanceError):
            thing.notes = ()
    assert isinstance(table, SourceTable)


def test_real_files_of_a_profile_check_clean(realdata):
    asked = [
        ("pep_counties", "2024"),
        ("irs_historic_table_2", "2022"),
        ("ssa_ssi_counties", "2017"),
        ("acs5_profile_tracts", "2022"),
        ("acs_pums_1yr", "2018"),
    ]
    lines = [
        line
        for source, vintage in asked
        for line in check_source(load_source(source), vintage, realdata, ["RI"])
    ]
    assert len(lines) == 6
    assert [line.message for line in lines if not line.ok] == []
    assert next(line for line in lines if line.path.endswith("csv_pri.zip")).sha256.startswith(
        "c5a7155543b1e429"
    )


def test_a_damaged_member_is_found(put, zipped):
    data = bytearray(
        zipped(
            {
                "2020_Census_Tract_to_2020_PUMA.txt": (
                    "STATEFP,COUNTYFP,TRACTCE,PUMA5CE\n" + "44,001,030100,00300\n" * 1
                )
            }
        )
    )
    data[70] ^= 0xFF  # a byte of the compressed content: the checksum no longer agrees
    with pytest.raises(SourceFileError, match="damaged"):
        read_source(
            load_source("tract_puma"),
            "2020",
            put({"geo/2020_Census_Tract_to_2020_PUMA.zip": bytes(data)}),
        )


@pytest.mark.parametrize(
    "error",
    [
        pl.exceptions.InvalidOperationError("conversion failed\nin column 'SCHG'"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        zipfile.BadZipFile("Bad CRC-32"),
        PermissionError(13, "Permission denied"),
        KeyError("AGEP"),
        ZeroDivisionError("division by zero"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_a_library_says_of_one_file_is_a_fault_of_that_file_alone(monkeypatch, put, error):
    """A reader cannot foresee everything; the check of the other files goes on."""
    from pipeline.sources import registry

    spec = load_source("irs_county")
    folder = put({"irs/22incyallnoagi.csv": "x", "irs/22incyallagi.csv": "y"})
    asked = []

    def fail(request, file):
        asked.append(file.path.name)
        raise error

    monkeypatch.setattr(registry, "_check_file", fail)
    lines = check_source(spec, "2022", folder, ["RI", "DE"])
    assert len(lines) == len(asked) >= 1
    for line in lines:
        assert not line.ok
        assert type(error).__name__ in line.message and line.path in line.message
        assert "What to do" in line.message and "\n" not in line.message


def test_nan_in_a_coded_column_is_a_fault_of_its_state_alone(tmp_path):
    """A spreadsheet or `astype(str)` writes nan for a blank; polars refuses to make it a code."""
    generate_sample(tmp_path, small_settings())
    (archive,) = tmp_path.rglob("csv_pri.zip")
    with zipfile.ZipFile(archive) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    for name in [name for name in members if name.startswith("psam_p")]:
        lines = pl.read_csv(members[name], infer_schema=False)
        spoilt = lines.with_columns(pl.col("SCHG").fill_null("nan"))
        members[name] = spoilt.write_csv().encode()
    with zipfile.ZipFile(archive, "w") as spoilt_archive:
        for name, content in members.items():
            spoilt_archive.writestr(name, content)
    lines = check_source(load_source("acs_pums_1yr"), "2022", tmp_path, ["RI", "DE"])
    faulty = {Path(line.path).name for line in lines if not line.ok}
    assert faulty == {"csv_pri.zip"}
    assert len(lines) > len(faulty)
    assert all("SCHG" in line.message for line in lines if not line.ok)
