"""Bad inputs, one by one: which raw file is damaged and how, and what must be said about it.

Used by ``tests/pipeline/test_bad_inputs.py`` (small sample, the affected assets only) and
``benchmarks/bad_inputs.py`` (the whole command). A fault edits bytes of a publisher's file; nothing
here knows how the pipeline reads it.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import fastexcel
import polars as pl

from pipeline.sample.files import workbook_bytes
from pipeline.sample.generate import STAMP, generate_sample
from pipeline.sample.settings import small_settings
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile

Rows = list[list[str]]
Edit = Callable[[bytes], "bytes | None"]

HTML = (
    b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><body>Request"
    b" Rejected</body></html>\n"
)


@dataclass(frozen=True)
class Layout:
    """Where the files that faults damage lie, relative to the data folder, and the year of the
    microdata.
    """

    pums: str
    pums_member: str
    year: int
    state_table: str
    workbook: str
    irs: str
    profile: str = "acs_tables/ri_tracts/tracts_acs2022_pophousing_retrieved_data.json"
    census: str = "acs_tables/ri_tracts/tracts_census2020_count_retrieved_data.json"
    s1901: str = "acs_tables/county_us/ACSST5Y2022.S1901-Data.csv"
    ht2: str = "irs/22in55cmcsv.csv"
    pep: str = "pep/co-est2024-alldata.csv"
    pumas: str = "geo/2020_Census_Tract_to_2020_PUMA.zip"


def _layout(year: int, workbook: str, irs: str) -> Layout:
    table = f"acs_tables/state_us_{year}_1yr/bystate/acs-acs1-{year}-GROUP_B19001_DATA.csv"
    return Layout(f"acs_pums/{year}_1yr/csv_pri.zip", "psam_p44.csv", year, table, workbook, irs)


SAMPLE = _layout(2022, "ssa/ssi_sc22.xlsx", "irs/22incyallnoagi.csv")
RHODE_ISLAND = _layout(2018, "ssa/ssi_c16.xlsx", "irs/22incyallnoagi_ri.csv")


@dataclass(frozen=True)
class Fault:
    """One bad input.

    ``edits``: role of a Layout and what becomes of that file's bytes (None: the file is removed).
    ``assets``: the assets that meet it, for a run of those alone. ``national``: the file is of the
    whole nation, so no state can start. ``says``: what the message must contain. ``note``: no
    error, but a counted note in the metadata of the first asset. ``pairs``: k asked for.
    """

    id: str
    title: str
    edits: tuple[tuple[str, Edit], ...]
    assets: tuple[str, ...]
    says: tuple[str, ...]
    national: bool = False
    note: bool = False
    pairs: int | None = None


def small_sample(folder: Path) -> None:
    """A small SYNTHETIC sample in the publishers' formats, without the generator's stamp, which a
    profile of files refuses.
    """
    generate_sample(folder, small_settings())
    (folder / STAMP).unlink()


def files_profile(pairs_per_area: int = 30) -> Profile:
    """The ``sample`` profile as a profile of files: it reads the folder given, as published,
    instead of generating its own; a quick method.
    """
    sample = load_catalog().profile("sample")
    method = sample.method.model_copy(
        update={
            "dense": sample.method.dense.model_copy(update={"tau_path": (1.0,)}),
            "refine": sample.method.refine.model_copy(update={"tau_path": (1.0,)}),
            "selection": sample.method.selection.model_copy(update={"rounds": 0}),
        }
    )
    budget = sample.budget.model_copy(
        update={"pairs_per_area": pairs_per_area, "minimum_pairs": min(5, pairs_per_area)}
    )
    return sample.model_copy(
        update={"id": "sample_files", "synthetic": False, "method": method, "budget": budget}
    )


def catalog_with(profile: Profile) -> Catalog:
    """The catalog and ``profile`` in it, as if its YAML lay among the others."""
    catalog = load_catalog()
    return replace(catalog, profiles={**catalog.profiles, profile.id: profile})


def apply(fault: Fault, folder: Path, layout: Layout) -> dict[Path, bytes]:
    """Damage the files of ``fault`` below ``folder``; returns the bytes they had. Links are
    replaced, never followed.
    """
    before: dict[Path, bytes] = {}
    for role, edit in fault.edits:
        path = folder / getattr(layout, role)
        before[path] = path.read_bytes()
        damaged = edit(before[path])
        if damaged == before[path]:
            raise AssertionError(f"fault {fault.id} changes nothing in {path.name}")
        path.unlink()
        if damaged is not None:
            path.write_bytes(damaged)
    return before


def restore(before: dict[Path, bytes]) -> None:
    """Undo ``apply``."""
    for path, data in before.items():
        path.write_bytes(data)


# Edits of bytes


def _gone(_: bytes) -> None:
    return None


def _html(_: bytes) -> bytes:
    return HTML


def _cut(data: bytes) -> bytes:
    return data[: len(data) * 3 // 5]


def _table(edit: Callable[[Rows], Rows]) -> Edit:
    """An edit of a CSV as rows of cells."""

    def apply_to(data: bytes) -> bytes:
        rows = list(csv.reader(io.StringIO(data.decode("latin-1"))))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(edit(rows))
        return text.getvalue().encode("latin-1")

    return apply_to


def _json(edit: Callable[[Rows], Rows]) -> Edit:
    """An edit of the Census API's list of lists."""
    return lambda data: json.dumps(edit(json.loads(data))).encode()


def _member(edit: Edit) -> Edit:
    """An edit of the first CSV or text table in a zip; the other members stay."""

    def apply_to(data: bytes) -> bytes:
        out = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(data)) as old,
            zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            target = next(name for name in old.namelist() if name.endswith((".csv", "_PUMA.txt")))
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, edit(content) if name == target else content)
        return out.getvalue()

    return apply_to


def _sheets(edit: Callable[[dict[str, list[list[str | None]]]], None]) -> Edit:
    """An edit of a workbook as text cells by sheet."""

    def apply_to(data: bytes) -> bytes:
        book = fastexcel.read_excel(data)
        sheets = {
            name: [
                list(row)
                for row in pl.DataFrame(
                    book.load_sheet(name, header_row=None, dtypes="string")
                ).rows()
            ]
            for name in book.sheet_names
        }
        edit(sheets)
        return workbook_bytes(sheets, "SYNTHETIC")

    return apply_to


# Edits of rows


def _without(column: str) -> Callable[[Rows], Rows]:
    def edit(rows: Rows) -> Rows:
        at = rows[0].index(column)
        return [row[:at] + row[at + 1 :] for row in rows]

    return edit


def _renamed(column: str, name: str) -> Callable[[Rows], Rows]:
    return lambda rows: [[name if cell == column else cell for cell in rows[0]], *rows[1:]]


def _cell(column: str, row: int, value: str) -> Callable[[Rows], Rows]:
    """``row`` is 1-based as an editor counts, the header being 1."""

    def edit(rows: Rows) -> Rows:
        rows[row - 1][rows[0].index(column)] = value
        return rows

    return edit


def _cells(*changes: tuple[str, int, str]) -> Callable[[Rows], Rows]:
    def edit(rows: Rows) -> Rows:
        for column, row, value in changes:
            rows = _cell(column, row, value)(rows)
        return rows

    return edit


def _repeated(row: int) -> Callable[[Rows], Rows]:
    return lambda rows: [*rows, list(rows[row - 1])]


def _area(rows: Rows, start: str, code: Callable[[list[str]], str]) -> int:
    return next(i for i, row in enumerate(rows) if i and code(row).startswith(start))


def _first_tract(change: Callable[[Rows, int], Rows]) -> Callable[[Rows], Rows]:
    """An edit at the first Rhode Island tract of a tract list or a tract table."""

    def edit(rows: Rows) -> Rows:
        if rows[0][0].endswith("STATEFP"):
            return change(rows, _area(rows, "44", lambda row: row[0]))
        return change(rows, _area(rows, "1400000US44", lambda row: row[0]))

    return edit


def _listed_in_new_county(rows: Rows, at: int) -> Rows:
    """Move a tract of the list into county 44099, which no table has."""
    return [*rows, [rows[at][0], "099", "990100", rows[at][3]]]


def _unlisted(rows: Rows, at: int) -> Rows:
    return rows[:at] + rows[at + 1 :]


def _older_pep(rows: Rows) -> Rows:
    """The file of vintage 2019: its columns are of 2010 to 2019."""
    return [
        [
            cell.replace("BASE2020", "BASE2010")
            .replace("2024", "2019")
            .replace("2023", "2018")
            .replace("2020", "2015")
            for cell in rows[0]
        ],
        *rows[1:],
    ]


def _swapped(one: str, other: str) -> Callable[[Rows], Rows]:
    names = {one: other, other: one}
    return lambda rows: [[names.get(cell, cell) for cell in rows[0]], *rows[1:]]


def _aged(rows: Rows) -> Rows:
    """Serial numbers of an earlier year."""
    at = rows[0].index("SERIALNO")
    return [rows[0], *([*row[:at], "2016" + row[at][4:], *row[at + 1 :]] for row in rows[1:])]


def _suppressed_sheet(sheets: dict[str, list[list[str | None]]]) -> None:
    name = next((n for n in sheets if "Rhode Island" in n), list(sheets)[-1])
    row = next(r for r in sheets[name] if any(str(cell or "").startswith("4400") for cell in r))
    row[3] = "(X)"


def _nobody(rows: Rows) -> Rows:
    return rows[:1]


FAULTS = (
    Fault(
        "missing_file",
        "missing file",
        (("profile", _gone),),
        ("acs5_profile_tracts",),
        ("pophousing_retrieved_data.json", "missing", "Download it"),
    ),
    Fault(
        "missing_national_file",
        "missing file of the nation",
        (("ht2", _gone),),
        ("irs_historic_table_2",),
        ("22in55cmcsv.csv", "missing"),
        national=True,
    ),
    Fault(
        "empty_file",
        "file of 0 bytes",
        (("profile", lambda _: b""),),
        ("acs5_profile_tracts",),
        ("pophousing", "0 bytes", "Download it again"),
    ),
    Fault(
        "truncated_zip",
        "zip cut short",
        (("pums", _cut),),
        ("microdata",),
        ("csv_pri.zip", "zip", "download it again"),
    ),
    Fault(
        "truncated_national_zip",
        "zip of the nation cut short",
        (("pumas", _cut),),
        ("geography",),
        ("Tract_to_2020_PUMA.zip", "zip"),
        national=True,
    ),
    Fault(
        "truncated_json",
        "JSON cut short",
        (("profile", _cut),),
        ("acs5_profile_tracts",),
        ("pophousing", "not JSON", "cut short"),
    ),
    Fault(
        "truncated_csv",
        "CSV cut short",
        (("ht2", _cut),),
        ("irs_historic_table_2",),
        ("22in55cmcsv.csv, line", "cut short"),
        national=True,
    ),
    Fault(
        "truncated_xlsx",
        "workbook cut short",
        (("workbook", _cut),),
        ("ssa_ssi_counties",),
        ("ssi_", "workbook"),
        national=True,
    ),
    Fault(
        "html_csv",
        "HTML error page saved as .csv",
        (("pep", _html),),
        ("pep_counties",),
        ("co-est2024-alldata.csv, line 1", "HTML"),
        national=True,
    ),
    Fault(
        "html_json",
        "HTML error page saved as .json",
        (("profile", _html),),
        ("acs5_profile_tracts",),
        ("pophousing", "line 1", "HTML"),
    ),
    Fault(
        "html_zip",
        "HTML error page saved as .zip",
        (("pums", _html),),
        ("microdata",),
        ("csv_pri.zip, line 1", "HTML"),
    ),
    Fault(
        "html_xlsx",
        "HTML error page saved as .xlsx",
        (("workbook", _html),),
        ("ssa_ssi_counties",),
        (".xlsx, line 1", "HTML"),
        national=True,
    ),
    Fault(
        "missing_column",
        "missing column",
        (("profile", _json(_without("DP05_0001E"))),),
        ("acs5_profile_tracts",),
        ("pophousing", "DP05_0001", "is missing"),
    ),
    Fault(
        "missing_pums_column",
        "missing column of the PUMS",
        (("pums", _member(_table(_without("PWGTP")))),),
        ("microdata",),
        ("csv_pri.zip", "PWGTP", "line 1"),
    ),
    Fault(
        "renamed_column",
        "renamed column",
        (("pep", _table(_renamed("POPESTIMATE2024", "POP_ESTIMATE_2024"))),),
        ("pep_counties",),
        ("co-est2024-alldata.csv", "POPESTIMATE2024", "POP_ESTIMATE_2024", "renames"),
        national=True,
    ),
    Fault(
        "repeated_column",
        "column given twice",
        (("ht2", _table(_renamed("MARS1", "N1"))),),
        ("irs_historic_table_2",),
        ("N1", "22in55cmcsv"),
        national=True,
    ),
    Fault(
        "wrong_vintage",
        "wrong vintage of a table",
        (("pep", _table(_older_pep)),),
        ("pep_counties",),
        ("co-est2024", "looks like vintage 2019"),
        national=True,
    ),
    Fault(
        "wrong_numbering",
        "wrong vintage of the tract table",
        (("profile", _json(_swapped("DP05_0072E", "DP05_0070E"))),),
        ("acs5_profile_tracts",),
        ("pophousing", "vintage 2021, not 2022", "DP05_0070"),
    ),
    Fault(
        "wrong_pums_year",
        "wrong vintage of the PUMS",
        (("pums", _member(_table(_aged))),),
        ("microdata",),
        ("psam_p44.csv", "SERIALNO", "line 2", "2016"),
    ),
    Fault(
        "sentinels",
        "ACS sentinel values",
        (
            (
                "profile",
                _json(
                    _cells(
                        ("DP05_0024E", 3, "-666666666"),
                        ("DP05_0024M", 4, "-222222222"),
                        ("DP05_0021M", 3, "-555555555"),
                    )
                ),
            ),
        ),
        ("acs5_profile_tracts",),
        ("'-666666666'", "'-222222222'", "'-555555555'"),
        note=True,
    ),
    Fault(
        "suppressions",
        "(X) and blank cells in a table",
        (("profile", _json(_cells(("DP05_0024E", 3, "(X)"), ("DP05_0024E", 4, "")))),),
        ("acs5_profile_tracts",),
        ("estimate cell(s) marked '(X)'", "estimate cell(s) marked 'blank'"),
        note=True,
    ),
    Fault(
        "suppressed_sheet",
        "(X) in an SSA workbook",
        (("workbook", _sheets(_suppressed_sheet)),),
        ("ssa_ssi_counties",),
        ("marked '(X)'",),
        True,
        True,
    ),
    Fault(
        "unknown_code",
        "a mark of no known meaning",
        (("profile", _json(_cell("DP05_0001E", 3, "see note"))),),
        ("acs5_profile_tracts",),
        ("row 3", "see note"),
    ),
    Fault(
        "negative_count",
        "negative count",
        (("profile", _json(_cell("DP05_0001E", 3, "-12"))),),
        ("acs5_profile_tracts",),
        ("pophousing", "column DP05_0001 (estimate), row 3", "negative"),
    ),
    Fault(
        "negative_returns",
        "negative count of the nation",
        (("irs", _table(_cell("N1", 4, "-40.0000"))),),
        ("irs_county",),
        ("22incyallnoagi", "column N1", "row 4", "negative"),
        national=True,
    ),
    Fault(
        "negative_weight",
        "negative design weight",
        (("pums", _member(_table(_cell("PWGTP", 2, "-7")))),),
        ("microdata",),
        ("psam_p44.csv", "PWGTP", "line 2"),
    ),
    Fault(
        "duplicated_geoid",
        "duplicated GEOID",
        (("profile", _json(_repeated(3))),),
        ("acs5_profile_tracts",),
        ("pophousing", "GEOID 44", "rows 3 and", "Remove"),
    ),
    Fault(
        "duplicated_county",
        "duplicated county",
        (("irs", _table(_repeated(3))),),
        ("irs_county",),
        ("22incyallnoagi", "GEOID", "rows 3 and"),
        national=True,
    ),
    Fault(
        "duplicated_tract",
        "tract twice in the tract list",
        (("pumas", _member(_table(_repeated(2)))),),
        ("geography",),
        ("2020_Census_Tract_to_2020_PUMA", "Tract", "rows 2 and"),
        national=True,
    ),
    Fault(
        "tract_without_county",
        "tract of the tables that is not in the tract list, so that no county owns it",
        (("pumas", _member(_table(_first_tract(_unlisted)))),),
        ("geography", "reconciled_targets"),
        (
            "1 tracts that the tract list has not, first tract 44",
            "acs5_profile_tracts",
            "Compare the tract list",
        ),
    ),
    Fault(
        "tract_without_table",
        "tract of the list that a table has not",
        (("profile", _json(_first_tract(_unlisted))),),
        ("acs5_profile_tracts", "state_targets"),
        ("no value for 44", "acs5_profile_tracts 2022, tract", "download it again"),
    ),
    Fault(
        "county_without_rows",
        "tract of the list in a county that no table has",
        (("pumas", _member(_table(_first_tract(_listed_in_new_county)))),),
        ("geography", "reconciled_targets"),
        (
            "1 tracts that are in none of the tables, first tract 44099990100",
            "Compare the tract list",
        ),
    ),
    Fault(
        "no_records",
        "state without records",
        (("pums", _member(_table(_nobody))),),
        ("microdata",),
        ("psam_p44.csv", "no records", "state 44"),
    ),
    Fault(
        "few_pairs",
        "k smaller than the number of areas",
        (),
        ("selected_pairs",),
        ("budget k is 3 ", "areas"),
        pairs=3,
    ),
    Fault(
        "many_pairs",
        "k larger than the pairs",
        (),
        ("selected_pairs",),
        ("pairs exist", "or fewer"),
        pairs=10**9,
    ),
)
