"""Bad inputs, one by one: which raw file is damaged and how, and what must be said about it.

Used by ``tests/pipeline/test_bad_inputs.py`` (small sample, the affected assets only) and
``benchmarks/bad_inputs.py`` (the whole command). A fault edits bytes of a publisher's file; nothing
here knows how the pipeline reads it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.sample.generate import STAMP, generate_sample
from pipeline.sample.settings import small_settings
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile
from tests.pipeline import edits


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
RHODE_ISLAND = _layout(2018, "ssa/ssi_sc17.xlsx", "irs/22incyallnoagi_ri.csv")


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
    edits: tuple[tuple[str, edits.Edit], ...]
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


FAULTS = (
    Fault(
        "missing_file",
        "missing file",
        (("profile", edits.gone),),
        ("acs5_profile_tracts",),
        ("pophousing_retrieved_data.json", "missing", "Download it"),
    ),
    Fault(
        "missing_national_file",
        "missing file of the nation",
        (("ht2", edits.gone),),
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
        (("pums", edits.cut),),
        ("microdata",),
        ("csv_pri.zip", "zip", "download it again"),
    ),
    Fault(
        "truncated_national_zip",
        "zip of the nation cut short",
        (("pumas", edits.cut),),
        ("geography",),
        ("Tract_to_2020_PUMA.zip", "zip"),
        national=True,
    ),
    Fault(
        "truncated_json",
        "JSON cut short",
        (("profile", edits.cut),),
        ("acs5_profile_tracts",),
        ("pophousing", "not JSON", "cut short"),
    ),
    Fault(
        "truncated_csv",
        "CSV cut short",
        (("ht2", edits.cut),),
        ("irs_historic_table_2",),
        ("22in55cmcsv.csv, line", "cut short"),
        national=True,
    ),
    Fault(
        "truncated_xlsx",
        "workbook cut short",
        (("workbook", edits.cut),),
        ("ssa_ssi_counties",),
        ("ssi_", "workbook"),
        national=True,
    ),
    Fault(
        "html_csv",
        "HTML error page saved as .csv",
        (("pep", edits.html),),
        ("pep_counties",),
        ("co-est2024-alldata.csv, line 1", "HTML"),
        national=True,
    ),
    Fault(
        "html_json",
        "HTML error page saved as .json",
        (("profile", edits.html),),
        ("acs5_profile_tracts",),
        ("pophousing", "line 1", "HTML"),
    ),
    Fault(
        "html_zip",
        "HTML error page saved as .zip",
        (("pums", edits.html),),
        ("microdata",),
        ("csv_pri.zip, line 1", "HTML"),
    ),
    Fault(
        "html_xlsx",
        "HTML error page saved as .xlsx",
        (("workbook", edits.html),),
        ("ssa_ssi_counties",),
        (".xlsx, line 1", "HTML"),
        national=True,
    ),
    Fault(
        "missing_column",
        "missing column",
        (("profile", edits.answer(edits.without("DP05_0001E"))),),
        ("acs5_profile_tracts",),
        ("pophousing", "DP05_0001", "is missing"),
    ),
    Fault(
        "missing_pums_column",
        "missing column of the PUMS",
        (("pums", edits.member(edits.table(edits.without("PWGTP")))),),
        ("microdata",),
        ("csv_pri.zip", "PWGTP", "line 1"),
    ),
    Fault(
        "renamed_column",
        "renamed column",
        (("pep", edits.table(edits.renamed("POPESTIMATE2024", "POP_ESTIMATE_2024"))),),
        ("pep_counties",),
        ("co-est2024-alldata.csv", "POPESTIMATE2024", "POP_ESTIMATE_2024", "renames"),
        national=True,
    ),
    Fault(
        "repeated_column",
        "column given twice",
        (("ht2", edits.table(edits.renamed("MARS1", "N1"))),),
        ("irs_historic_table_2",),
        ("N1", "22in55cmcsv"),
        national=True,
    ),
    Fault(
        "wrong_vintage",
        "wrong vintage of a table",
        (("pep", edits.table(edits.older_pep)),),
        ("pep_counties",),
        ("co-est2024", "looks like vintage 2019"),
        national=True,
    ),
    Fault(
        "wrong_numbering",
        "wrong vintage of the tract table",
        (("profile", edits.answer(edits.swapped("DP05_0072E", "DP05_0070E"))),),
        ("acs5_profile_tracts",),
        ("pophousing", "vintage 2021, not 2022", "DP05_0070"),
    ),
    Fault(
        "wrong_pums_year",
        "wrong vintage of the PUMS",
        (("pums", edits.member(edits.table(edits.aged))),),
        ("microdata",),
        ("psam_p44.csv", "SERIALNO", "line 2", "2016"),
    ),
    Fault(
        "sentinels",
        "ACS sentinel values",
        (
            (
                "profile",
                edits.answer(
                    edits.cells(
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
        (("profile", edits.answer(edits.cells(("DP05_0024E", 3, "(X)"), ("DP05_0024E", 4, "")))),),
        ("acs5_profile_tracts",),
        ("estimate cell(s) marked '(X)'", "estimate cell(s) marked 'blank'"),
        note=True,
    ),
    Fault(
        "suppressed_sheet",
        "(X) in an SSA workbook",
        (("workbook", edits.sheets(edits.suppressed_sheet)),),
        ("ssa_ssi_counties",),
        ("marked '(X)'",),
        True,
        True,
    ),
    Fault(
        "unknown_code",
        "a mark of no known meaning",
        (("profile", edits.answer(edits.cell("DP05_0001E", 3, "see note"))),),
        ("acs5_profile_tracts",),
        ("row 3", "see note"),
    ),
    Fault(
        "negative_count",
        "negative count",
        (("profile", edits.answer(edits.cell("DP05_0001E", 3, "-12"))),),
        ("acs5_profile_tracts",),
        ("pophousing", "column DP05_0001 (estimate), row 3", "negative"),
    ),
    Fault(
        "negative_returns",
        "negative count of the nation",
        (("irs", edits.table(edits.cell("N1", 4, "-40.0000"))),),
        ("irs_county",),
        ("22incyallnoagi", "column N1", "row 4", "negative"),
        national=True,
    ),
    Fault(
        "negative_weight",
        "negative design weight",
        (("pums", edits.member(edits.table(edits.cell("PWGTP", 2, "-7")))),),
        ("microdata",),
        ("psam_p44.csv", "PWGTP", "line 2"),
    ),
    Fault(
        "duplicated_geoid",
        "duplicated GEOID",
        (("profile", edits.answer(edits.repeated(3))),),
        ("acs5_profile_tracts",),
        ("pophousing", "GEOID 44", "rows 3 and", "Remove"),
    ),
    Fault(
        "duplicated_county",
        "duplicated county",
        (("irs", edits.table(edits.repeated(3))),),
        ("irs_county",),
        ("22incyallnoagi", "GEOID", "rows 3 and"),
        national=True,
    ),
    Fault(
        "duplicated_tract",
        "tract twice in the tract list",
        (("pumas", edits.member(edits.table(edits.repeated(2)))),),
        ("geography",),
        ("2020_Census_Tract_to_2020_PUMA", "Tract", "rows 2 and"),
        national=True,
    ),
    Fault(
        "tract_without_county",
        "tract of the tables that is not in the tract list, so that no county owns it",
        (("pumas", edits.member(edits.table(edits.first_tract(edits.unlisted)))),),
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
        (("profile", edits.answer(edits.first_tract(edits.unlisted))),),
        ("acs5_profile_tracts", "state_targets"),
        ("no value for 44", "acs5_profile_tracts 2022, tract", "download it again"),
    ),
    Fault(
        "county_without_rows",
        "tract of the list in a county that no table has",
        (("pumas", edits.member(edits.table(edits.first_tract(edits.listed_in_new_county)))),),
        ("geography", "reconciled_targets"),
        (
            "1 tracts that are in none of the tables, first tract 44099010100",
            "Compare the tract list",
        ),
    ),
    Fault(
        "no_records",
        "state without records",
        (("pums", edits.member(edits.table(edits.nobody))),),
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
