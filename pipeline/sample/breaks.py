"""Planted errors in the SYNTHETIC sample: files of the right form that lie, one kind at a time.

Belongs here: the kinds, the file each is planted in, and the check that is meant to find it. Does
not belong here: the edits (``lies.py``), the checks (``pipeline/checks``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import ProfileError
from pipeline.sample import lies
from pipeline.sample.generate import STAMP

_IRS = "irs/22incyallnoagi.csv"
_HT2 = "irs/22in55cmcsv.csv"
_TRACTS = "acs_tables/ri_tracts/tracts_acs2022_pophousing_retrieved_data.json"
_CENSUS = "acs_tables/ri_tracts/tracts_census2020_count_retrieved_data.json"
_S1901 = "acs_tables/county_us/ACSST5Y2022.S1901-Data.csv"
_STATE = "acs_tables/state_us_2022_1yr/bystate/acs-acs1-2022-GROUP_{}_DATA.csv"
_PEP = "pep/co-est2024-alldata.csv"
_PERSONS, _HOUSING = "acs_pums/2022_1yr/csv_pri.zip", "acs_pums/2022_1yr/csv_hri.zip"
_AGES = [f"DP1_{n:04d}C" for n in range(2, 20)]


@dataclass(frozen=True)
class Break:
    """One kind of planted error. ``found_by``: the check, or ``known_total``, that names it."""

    title: str
    path: str
    edit: lies.Edit
    found_by: str


def _county(code: str) -> Callable[[list[str]], bool]:
    return lambda row: row[0] == "44" and row[2] == code


BREAKS: Mapping[str, Break] = {
    "dollars_for_thousands": Break(
        "wages of counties in dollars where thousands are expected",
        _IRS,
        lies.csv_file(lies.changed(["A00200"], lies.times(1000))),
        "ratios_in_band",
    ),
    "millions_for_thousands": Break(
        "wages of states divided by 1,000",
        _HT2,
        lies.csv_file(lies.changed(["A00200"], lies.times(0.001))),
        "ratios_in_band",
    ),
    "counties_exchanged": Break(
        "codes of two counties exchanged",
        _IRS,
        lies.csv_file(lies.keys_exchanged(["COUNTYFIPS"], _county("007"), _county("003"))),
        "county_names_agree",
    ),
    "tracts_exchanged": Break(
        "codes of two tracts exchanged",
        _TRACTS,
        lies.answer(
            lies.keys_exchanged(
                ["GEO_ID"],
                lies.starts(0, "1400000US44001010100"),
                lies.starts(0, "1400000US44003010200"),
            )
        ),
        "names_fit_codes",
    ),
    "states_exchanged": Break(
        "codes of two states exchanged",
        _HT2,
        lies.csv_file(lies.keys_exchanged(["STATE"], lies.starts(0, "RI"), lies.starts(0, "DE"))),
        "known_total",
    ),
    "rows_shifted": Break(
        "figures of tracts one row below their keys",
        _TRACTS,
        lies.answer(lies.rows_shifted(["GEO_ID", "NAME"], lambda row: "US44" in row[0])),
        "parts_add_up",
    ),
    "men_and_women": Break(
        "headers of men and women exchanged",
        _TRACTS,
        lies.answer(lies.headers_swapped(("DP05_0002E", "DP05_0003E"))),
        "percents_fit",
    ),
    "poor_and_not_poor": Break(
        "headers of poor and not poor exchanged",
        _STATE.format("B17001"),
        lies.csv_file(lies.headers_swapped(("B17001_002E", "B17001_031E"))),
        "parts_add_up",
    ),
    "estimate_and_margin": Break(
        "headers of an estimate and its margin exchanged",
        _TRACTS,
        lies.answer(lies.headers_swapped(("DP05_0019E", "DP05_0019M"))),
        "parts_add_up",
    ),
    "digit_dropped": Break(
        "a digit dropped from one cell",
        _CENSUS,
        lies.answer(lies.digit_dropped("DP1_0001C", lambda row: "US44007" in row[0])),
        "parts_add_up",
    ),
    "percent_as_fraction": Break(
        "percentages as fractions",
        _S1901,
        lies.csv_file(
            lies.changed([f"S1901_C01_{n:03d}E" for n in range(2, 12)], lies.times(0.01), first=2)
        ),
        "ratios_in_band",
    ),
    "county_missing": Break(
        "one county missing",
        _PEP,
        lies.csv_file(lies.rows_missing(lambda row: row[3] == "44" and row[4] == "005")),
        "areas_add_up",
    ),
    "tract_missing": Break(
        "one tract missing",
        _TRACTS,
        lies.answer(lies.rows_missing(lies.starts(0, "1400000US44007010300"))),
        "known_total",
    ),
    "ages_shifted": Break(
        "ages under the next older heading",
        _CENSUS,
        lies.answer(lies.headers_rotated(_AGES)),
        "parts_add_up",
    ),
    "ages_of_others": Break(
        "ages of the survey one person down",
        _PERSONS,
        lies.member(lies.column_shifted("AGEP")),
        "persons_possible",
    ),
    "sex_codes": Break(
        "codes of sex exchanged in the survey",
        _PERSONS,
        lies.member(lies.codes_exchanged("SEX", {"1": "2", "2": "1"})),
        "persons_possible",
    ),
    "race_codes": Break(
        "codes of white and black exchanged in the survey",
        _PERSONS,
        lies.member(lies.codes_exchanged("RAC1P", {"1": "2", "2": "1"})),
        "survey_agrees",
    ),
    "tenure_codes": Break(
        "codes of owners and renters exchanged in the survey",
        _HOUSING,
        lies.member(lies.codes_exchanged("TEN", {"1": "3", "2": "3", "3": "1"})),
        "survey_agrees",
    ),
    "puma_codes": Break(
        "codes of two PUMAs exchanged in the survey",
        _PERSONS,
        lies.member(lies.codes_exchanged("PUMA", {"00200": "00300", "00300": "00200"})),
        "pumas_fit_counties",
    ),
    "another_year": Break(
        "estimates of another year under this year's name",
        _PEP,
        lies.csv_file(lies.headers_swapped(("POPESTIMATE2024", "POPESTIMATE2021"))),
        "known_total",
    ),
}


def refuse_unknown(kind: str) -> None:
    """Raise ProfileError for a kind that there is not."""
    if kind not in BREAKS:
        raise ProfileError(
            f"There is no kind of planted error {kind!r}",
            where="--break",
            expected=", ".join(BREAKS),
            remedy="Name one of these; `geocal sample DIR --break list` says what each is",
        )


def break_sample(folder: Path, kind: str) -> Break:
    """Plant ``kind`` in a generated sample. The stamp goes, since the files are no longer those it
    lists. Raises ProfileError for a kind that there is not.
    """
    refuse_unknown(kind)
    made = BREAKS[kind]
    path = folder / made.path
    path.write_bytes(made.edit(path.read_bytes()))
    (folder / STAMP).unlink(missing_ok=True)
    return made


def listed() -> str:
    """Every kind, a line each: what it is, where, and what finds it."""
    return "\n".join(
        f"{kind}: {made.title} ({made.path}); found by {made.found_by}"
        for kind, made in BREAKS.items()
    )
