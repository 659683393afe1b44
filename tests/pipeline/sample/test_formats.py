"""Each file looks as its publisher's does: headers, order, separators, sentinels,
marks, members.
"""

import csv
import io
import json
import re
import zipfile

import fastexcel
import polars as pl
import pytest

TRACTS = "acs_tables/ri_tracts/tracts_{}_retrieved_data.json"


def _header(path, encoding="utf-8-sig", line=0):
    return next(csv.reader([path.read_text(encoding=encoding).split("\n")[line]]))


@pytest.mark.parametrize(
    "part", ["acs2022_pophousing", "acs2022_socialecon", "census2020_count", "census2020_plrd"]
)
def test_tract_files_have_the_columns_of_the_real_answers(folder, realdata, part):
    ours, real = (
        json.loads((folder / TRACTS.format(part)).read_text()),
        json.loads((realdata / TRACTS.format(part)).read_text()),
    )
    assert ours[0] == real[0]


@pytest.mark.parametrize("line", [0, 1])
def test_s1901_has_both_header_rows_of_the_real_download(folder, realdata, line):
    path = "acs_tables/county_us/ACSST5Y2022.S1901-Data.csv"
    assert (folder / path).read_text().split("\n")[line] == (realdata / path).read_text(
        encoding="utf-8-sig"
    ).split("\n")[line]


def test_the_estimates_file_has_the_columns_of_the_real_one(folder, realdata):
    path = "pep/co-est2024-alldata.csv"
    assert _header(folder / path) == _header(realdata / path, "latin-1")


@pytest.mark.parametrize(
    ("ours", "real"),
    [
        ("irs/22in55cmcsv.csv", "irs/22in55cmcsv.csv"),
        ("irs/22incyallnoagi.csv", "irs/22incyallnoagi_ri.csv"),
    ],
)
def test_irs_columns_are_a_part_of_the_real_ones_in_their_order(folder, realdata, ours, real):
    made, published = _header(folder / ours), _header(realdata / real, "latin-1")
    assert [name for name in published if name in made] == made
    assert len(made) > 55


@pytest.mark.parametrize(
    "table",
    [
        "B01001",
        "B03002",
        "B15003",
        "B17001",
        "B19001",
        "B19013",
        "B19025",
        "B19052",
        "B19056",
        "B19066",
        "B22010",
    ],
)
def test_group_files_have_the_columns_of_the_real_answers(folder, realdata, table):
    ours = _header(
        folder / f"acs_tables/state_us_2022_1yr/bystate/acs-acs1-2022-GROUP_{table}_DATA.csv"
    )
    real = _header(
        realdata / f"acs_tables/state_us_2018_1yr/bystate/acs-acs1-2018-GROUP_{table}_DATA.csv"
    )
    # The service returns annotations in no fixed order; everything else stands where it stands in
    # the real answer.
    assert sorted(ours) == sorted(real)
    assert [n for n in ours if not n.endswith(("EA", "MA"))][:-1] == [
        n for n in real if not n.endswith(("EA", "MA"))
    ][:-1]


def test_s1901_by_state_has_the_columns_of_the_real_answer(folder, realdata):
    ours = _header(
        folder / "acs_tables/state_us_2022_1yr/us/acs-acs1-subject-2022-GROUP_S1901_DATA.csv"
    )
    real = _header(
        realdata / "acs_tables/state_us_2018_1yr/us/acs-acs1-subject-2018-GROUP_S1901_DATA.csv"
    )
    assert ours[: real.index("NAME") + 1] == real[: real.index("NAME") + 1]
    assert sorted(ours) == sorted(real)


@pytest.mark.parametrize(
    ("member", "real_zip", "real_member"),
    [("p", "csv_pri.zip", "psam_p44.csv"), ("h", "csv_hak.zip", "psam_h02.csv")],
)
def test_pums_columns_are_published_ones_but_for_those_renamed_since_2018(
    folder, realdata, member, real_zip, real_member
):
    with (
        zipfile.ZipFile(folder / f"acs_pums/2022_1yr/csv_{member}ri.zip") as archive,
        archive.open(f"psam_{member}44.csv") as file,
    ):
        ours = next(csv.reader(io.TextIOWrapper(file)))
    with (
        zipfile.ZipFile(realdata / "acs_pums/2018_1yr" / real_zip) as archive,
        archive.open(real_member) as file,
    ):
        real = next(csv.reader(io.TextIOWrapper(file)))
    assert set(ours) - set(real) == (
        {"RELSHIPP", "JWTRNS", "WKWN"} if member == "p" else {"TYPEHUGQ"}
    )
    assert {f"{'PWGTP' if member == 'p' else 'WGTP'}{r}" for r in range(1, 81)} <= set(ours)


def test_pums_serial_numbers_blanks_and_adjustment(folder):
    with zipfile.ZipFile(folder / "acs_pums/2022_1yr/csv_pde.zip") as archive:
        frame = pl.read_csv(archive.read("psam_p10.csv"), infer_schema=False)
    assert frame["SERIALNO"].str.contains(r"^2022(HU|GQ)\d{7}$").all()
    assert (frame["ADJINC"] == "1042311").all()
    assert frame["PUMA"].str.contains(r"^\d{5}$").all()
    assert (
        frame.filter(pl.col("SERIALNO").str.contains("GQ"))["RELSHIPP"].is_in(["37", "38"])
    ).all()
    child = frame.filter(pl.col("AGEP").cast(int) < 15)
    assert child.height > 100
    assert (
        child.select(pl.col("WAGP", "PINCP", "ESR", "SSIP", "WKHP").is_null().all()).row(0)
        == (True,) * 5
    )
    adult = frame.filter(pl.col("AGEP").cast(int) >= 16)
    assert (
        adult.select(pl.col("PINCP", "ESR", "SEX", "SCHL").is_not_null().all()).row(0)
        == (True,) * 4
    )
    parts = [
        pl.col(c).cast(int) for c in ("WAGP", "SEMP", "INTP", "SSP", "SSIP", "PAP", "RETP", "OIP")
    ]
    assert (adult.select(pl.sum_horizontal(parts)).to_series() == adult["PINCP"].cast(int)).all()
    replicates = frame.select(pl.col("^PWGTP[0-9]+$").cast(int))
    assert replicates.width == 80
    assert (replicates.sum_horizontal() > 0).mean() > 0.99


def test_housing_file_has_vacant_units_and_group_quarters_without_weight(folder):
    with zipfile.ZipFile(folder / "acs_pums/2022_1yr/csv_hri.zip") as archive:
        frame = pl.read_csv(archive.read("psam_h44.csv"), infer_schema=False).with_columns(
            pl.col("NP", "WGTP", "TYPEHUGQ").cast(int)
        )
    vacant = frame.filter((pl.col("TYPEHUGQ") == 1) & (pl.col("NP") == 0))
    assert vacant.height > 50
    assert vacant["TEN"].is_null().all()
    assert vacant["HINCP"].is_null().all()
    group = frame.filter(pl.col("TYPEHUGQ") > 1)
    assert group.height > 50
    assert (group["WGTP"] == 0).all()
    assert set(group["TYPEHUGQ"]) == {2, 3}
    assert (frame.filter(pl.col("NP") > 0, pl.col("TYPEHUGQ") == 1)["HINCP"].is_not_null()).all()


def test_cps_members_weights_and_identifiers(folder):
    with zipfile.ZipFile(folder / "cps/asecpub23csv.zip") as archive:
        people, homes, families = (
            pl.read_csv(archive.read(f"{m}23.csv"), schema_overrides={"PERIDNUM": pl.String})
            for m in ("pppub", "hhpub", "ffpub")
        )
    assert people["PERIDNUM"].str.contains(r"^\d{22}$").all()
    assert people["PERIDNUM"].is_unique().all()
    assert people.filter(pl.col("A_AGE").is_between(81, 84) | (pl.col("A_AGE") > 85)).is_empty()
    # Two implied decimals: the sum over 100 is the population in households, within the noise of
    # weights.
    assert people["MARSUPWT"].sum() / 100 == pytest.approx(65_500, rel=0.05)
    assert set(homes["H_HHTYPE"]) == {1, 2, 3}
    assert homes.filter(pl.col("H_HHTYPE") != 1)["HSUP_WGT"].sum() == 0
    assert set(people["PH_SEQ"]) == set(homes.filter(pl.col("H_HHTYPE") == 1)["H_SEQ"])
    assert (homes["GTCO"] == 0).sum() > 0.4 * homes.height
    assert people.join(
        families, left_on=["PH_SEQ", "PF_SEQ"], right_on=["FH_SEQ", "FFPOS"], how="anti"
    ).is_empty()
    assert (people["UC_VAL"] > 0).sum() > 20
    assert {"WSAL_VAL", "SSI_VAL", "SS_VAL", "DIV_VAL", "PRDTRACE", "PRCITSHP"} <= set(
        people.columns
    )


def test_tract_sentinels_stand_where_real_ones_do(folder):
    rows = json.loads((folder / TRACTS.format("acs2022_pophousing")).read_text())
    assert {type(cell) for row in rows for cell in row} == {str}
    table = pl.DataFrame(rows[1:], schema=rows[0], orient="row")
    assert (table["DP05_0001PM"] == "-888888888").all()
    empty = table.filter(pl.col("GEO_ID") == "1400000US44005990000").row(0, named=True)
    assert (
        empty["DP05_0001E"],
        empty["DP05_0002PE"],
        empty["DP05_0018E"],
        empty["DP04_0089E"],
        empty["DP04_0089M"],
    ) == ("0", "-666666666.0", "-666666666.0", "-666666666", "-222222222")
    assert int(empty["DP05_0001M"]) > 0
    delaware = json.loads(
        (folder / "acs_tables/de_tracts/tracts_acs2022_pophousing_retrieved_data.json").read_text()
    )
    controlled = [row[delaware[0].index("DP05_0001M")] for row in delaware[1:]].count("-555555555")
    assert controlled == 1


def test_percentages_follow_from_the_counts(folder):
    rows = json.loads((folder / TRACTS.format("acs2022_socialecon")).read_text())
    table = pl.DataFrame(rows[1:], schema=rows[0], orient="row").filter(pl.col("DP02_0001E") != "0")
    for part, base in (
        ("DP02_0068", "DP02_0059"),
        ("DP03_0005", "DP03_0001"),
        ("DP03_0021", "DP03_0018"),
    ):
        share = 100 * table[f"{part}E"].cast(float) / table[f"{base}E"].cast(float)
        assert (share - table[f"{part}PE"].cast(float)).abs().max() < 0.12
    assert (table["DP03_0009E"] == "-888888888").all()
    assert table["DP03_0009PE"].cast(float).is_between(0, 30).all()


def test_columns_of_one_survey_add_up(folder):
    rows = json.loads((folder / TRACTS.format("acs2022_pophousing")).read_text())
    t = pl.DataFrame(rows[1:], schema=rows[0], orient="row").select(
        pl.col("^DP05_.*E$").exclude("^.*PE$").cast(float)
    )
    assert (t["DP05_0002E"] + t["DP05_0003E"] - t["DP05_0001E"]).abs().max() <= 1
    assert (t["DP05_0019E"] + t["DP05_0021E"] - t["DP05_0001E"]).abs().max() <= 1
    dat = pl.read_csv(folder / "acs_tables/table_based/acsdt5y2022-b19001.dat", separator="|")
    assert (
        dat.select(pl.sum_horizontal(f"B19001_E{i:03d}" for i in range(2, 18))).to_series()
        - dat["B19001_E001"]
    ).abs().max() <= 9


def test_table_based_files_are_pipe_separated_with_all_levels(folder):
    lines = (folder / "acs_tables/table_based/acsdt5y2022-b01001.dat").read_text().splitlines()
    assert lines[0].split("|")[:5] == [
        "GEO_ID",
        "B01001_E001",
        "B01001_M001",
        "B01001_E002",
        "B01001_M002",
    ]
    assert len(lines[0].split("|")) == 1 + 2 * 49
    prefixes = [line.split("US")[0] for line in lines[1:]]
    assert {p: prefixes.count(p) for p in set(prefixes)} == {
        "0100000": 1,
        "0400000": 2,
        "0500000": 8,
        "1400000": 46,
    }
    assert all(line.split("|")[2] == "-555555555" for line in lines[1:12])
    assert all(line.split("|")[2] != "-555555555" for line in lines[12:])


def test_state_populations_are_controlled_in_the_one_year_tables(folder):
    for level in ("bystate", "us"):
        frame = pl.read_csv(
            folder / f"acs_tables/state_us_2022_1yr/{level}/acs-acs1-2022-GROUP_B01001_DATA.csv",
            infer_schema=False,
        )
        assert (frame["B01001_001M"] == "-555555555").all()
        assert (frame["B01001_001MA"] == "*****").all()
        assert (frame["B01001_002M"].cast(int) > 0).all()


def test_s1901_marks_what_is_not_published(folder):
    rows = list(csv.reader((folder / "acs_tables/county_us/ACSST5Y2022.S1901-Data.csv").open()))
    assert len(rows) == 10
    column = {name: i for i, name in enumerate(rows[0])}
    for row in rows[2:]:
        assert re.fullmatch(r"0500000US(44|10)\d{3}", row[0])
        assert row[column["S1901_C03_013E"]] == "N"
        assert row[column["S1901_C02_014E"]] == "(X)"
        assert sum(
            float(row[column[f"S1901_C01_{i:03d}E"]]) for i in range(2, 12)
        ) == pytest.approx(100, abs=0.6)


def test_historic_table_2_is_quoted_and_its_classes_add_up(folder):
    text = (folder / "irs/22in55cmcsv.csv").read_text()
    assert re.search(r',"\d{1,3},\d{3}",', text)
    assert not re.search(r'"\d{1,3}"', text), "numbers below 1,000 are not quoted"
    frame = pl.read_csv(io.StringIO(text), infer_schema=False)
    assert frame["STATE"].unique(maintain_order=True).to_list() == ["US", "DE", "RI", "OA"]
    assert frame.height == 44
    values = frame.with_columns(pl.exclude("STATE").str.replace_all(",", "").cast(float))
    counts = [c for c in values.columns if c[0] in "NM" or c == "ELDERLY"]
    assert (values.select(pl.col(counts) % 10).to_numpy() == 0).all()
    for state in ("US", "DE", "RI", "OA"):
        rows = values.filter(pl.col("STATE") == state)
        assert rows["N1"][1:].sum() == pytest.approx(rows["N1"][0], abs=55)
        assert rows["A00100"][1:].sum() == pytest.approx(rows["A00100"][0], abs=6)
    whole = values.filter(pl.col("AGI_STUB") == 0)
    assert whole["N1"][1:].sum() == pytest.approx(whole["N1"][0], abs=20)


def test_the_county_file_has_decimals_state_rows_and_rounded_counts(folder):
    frame = pl.read_csv(folder / "irs/22incyallnoagi.csv", infer_schema=False, encoding="latin-1")
    assert frame["N1"].str.ends_with(".0000").all()
    assert frame["A00100"].str.contains(r"^-?\d+\.000$").all()
    assert frame.filter(pl.col("COUNTYFIPS") == "000")["STATEFIPS"].to_list() == ["10", "44"]
    assert frame.height == 10
    assert (frame["N1"].cast(float) % 10 == 0).all()


def _rows(path, sheet):
    return (
        fastexcel.read_excel(path)
        .load_sheet(sheet, header_row=None, skip_rows=0, dtypes="string")
        .to_polars()
        .rows()
    )


def test_ssi_workbook_sheets_rows_and_suppression(folder):
    path = folder / "ssa/ssi_sc22.xlsx"
    assert fastexcel.read_excel(path).sheet_names == [
        "Table 1",
        "Table 2",
        "Table 3 - Delaware",
        "Table 3 - Rhode Island",
    ]
    rows = _rows(path, "Table 3 - Rhode Island")
    assert rows[4][1:3] == ("Total, Rhode Island", "44")
    assert [r[2] for r in rows[5:10]] == ["44001", "44003", "44005", "44007", "44009"]
    withheld = [r for r in rows[5:10] if "(X)" in r]
    assert withheld
    for row in rows[5:10]:
        for part in (row[4:6], row[6:9]):
            assert part.count("(X)") != 1, "one cell alone would follow from the total"
        shown = [int(v) for v in row[6:9] if v != "(X)"]
        assert sum(shown) <= int(row[3])
    assert any("SYNTHETIC" in str(r) for r in rows[10:])


def test_oasdi_workbook_counts_are_rounded_to_five_and_parts_fit(folder):
    path = folder / "ssa/oasdi_sc22.xlsx"
    names = fastexcel.read_excel(path).sheet_names
    assert names[:3] == ["Table 1", "Table 2", "Table 3"]
    assert {"Table 4 - Rhode Island", "Table 5 - Delaware"} <= set(names)
    for row in _rows(path, "Table 4 - Rhode Island")[4:10]:
        values = [int(v) for v in row[3:14]]
        assert all(v % 5 == 0 for v in values)
        assert sum(values[1:9]) == pytest.approx(values[0], abs=20)
        assert values[9] + values[10] < values[0]


def test_tract_puma_lists(folder):
    with zipfile.ZipFile(folder / "geo/2020_Census_Tract_to_2020_PUMA.zip") as archive:
        text = archive.read("2020_Census_Tract_to_2020_PUMA.csv")
    assert text.startswith(b"\xef\xbb\xbfSTATEFP,COUNTYFP,TRACTCE,PUMA5CE\n")
    assert text.count(b"\n") == 47


def test_estimates_of_states_are_sums_of_counties_and_components_account_for_change(folder):
    frame = pl.read_csv(folder / "pep/co-est2024-alldata.csv", encoding="latin-1")
    for state in (10, 44):
        rows = frame.filter(pl.col("STATE") == state)
        for year in range(2020, 2025):
            column = rows[f"POPESTIMATE{year}"]
            assert column[0] == column[1:].sum()
    for year in range(2021, 2025):
        change = frame[f"POPESTIMATE{year}"] - frame[f"POPESTIMATE{year - 1}"]
        assert (change == frame[f"NPOPCHG{year}"]).all()
        assert (
            frame[f"NATURALCHG{year}"] + frame[f"NETMIG{year}"] + frame[f"RESIDUAL{year}"] == change
        ).all()
