"""Reader of the CPS Annual Social and Economic Supplement, the CSV archive as published (2019 and
later).

Belongs here: which columns and codes the CPS uses, the two implied decimals of its weights, the
choice of interviewed households, the poverty ratio from the family file. Does not belong here:
attributes derived for targets (``pipeline/records``). Files before 2019 are fixed-width and are
refused.

Where the CPS differs from the ACS: the universe is the civilian noninstitutional population (and
armed forces living with civilians); amounts are of the calendar year before the survey;
``other_income`` does not contain unemployment compensation, which has a column of its own; there is
no race "other"; schooling is in broader classes (mapped to the lowest ACS code of the class);
``other_language``, ``gave_birth`` and ``commute`` are not asked. Codes follow the published data
dictionaries; any code outside these lists is refused with its line.
"""

from __future__ import annotations

import operator
from functools import reduce
from pathlib import Path

import polars as pl

from pipeline.errors import RecordsError, SourceLayoutError, SourceValueError
from pipeline.sources.base import SourceNote
from pipeline.sources.files import RawFile, read_member, read_raw
from pipeline.sources.microdata_columns import LINE, SurveyColumns, yes_no
from pipeline.sources.microdata_schema import Microdata, check_microdata

PUBLISHER = "the US Census Bureau and the Bureau of Labor Statistics"

# PERRP, the edited relationship: one list for 2019 (1 to 18), another from 2020 (40 to 59); they do
# not overlap.
_PERRP = {
    **dict.fromkeys((1, 2, 40, 41), "reference_person"),
    **dict.fromkeys((3, 42, 45), "spouse"),
    **dict.fromkeys((13, 14, 43, 44, 46, 47), "unmarried_partner"),
    **dict.fromkeys((4, 48), "child"),
    **dict.fromkeys((5, 49), "grandchild"),
    **dict.fromkeys((6, 7, 8, 50, 51, 52), "other_relative"),
    **dict.fromkeys((9, 10, 11, 12, 15, 16, 17, 18, 53, 54, 55, 56, 57, 58, 59), "nonrelative"),
}
# A_EXPRRP 13 is "partner or roommate": partners cannot be told apart there, so PERRP is preferred.
_EXPRRP = {
    **dict.fromkeys((1, 2), "reference_person"),
    **dict.fromkeys((3, 4), "spouse"),
    **dict.fromkeys((5, 6), "child"),
    7: "grandchild",
    **dict.fromkeys((8, 9, 10), "other_relative"),
    **dict.fromkeys((11, 12, 13, 14), "nonrelative"),
}
_MARITL = {
    **dict.fromkeys((1, 2, 3), "married"),
    4: "widowed",
    5: "divorced",
    6: "separated",
    7: "never_married",
}
_RACE = {
    1: "white",
    2: "black",
    3: "aian",
    4: "asian",
    5: "nhpi",
    **dict.fromkeys(range(6, 27), "two_or_more"),
}
# A_HGA to the lowest ACS SCHL code of the same class.
_HGA = {
    0: None,
    31: 1,
    32: 4,
    33: 8,
    34: 10,
    35: 12,
    36: 13,
    37: 14,
    38: 15,
    39: 16,
    40: 18,
    41: 20,
    42: 20,
    43: 21,
    44: 22,
    45: 23,
    46: 24,
}
_PEMLR = {
    **dict.fromkeys((-1, 0)),
    1: "employed",
    2: "employed",
    3: "unemployed",
    4: "unemployed",
    **dict.fromkeys((5, 6, 7), "not_in_labor_force"),
}
_LFSR = {
    0: None,
    1: "employed",
    2: "employed",
    3: "unemployed",
    4: "unemployed",
    7: "not_in_labor_force",
}
_CLSWKR = {
    0: None,
    1: "private",
    2: "government",
    3: "government",
    4: "government",
    5: "private",
    6: "self_employed",
    7: "unpaid_family",
    8: None,
}
_MIGSAME = {0: None, 1: "same_house", 2: "different_house_us", 3: "abroad"}
_ARMED_FORCES = 3  # PRPERTYP: 1 child, 2 adult civilian, 3 adult in the armed forces

_PERSON: tuple[str | tuple[str, ...], ...] = (
    "PH_SEQ",
    ("A_LINENO", "P_SEQ", "PPPOS"),
    "MARSUPWT",
    "A_AGE",
    "A_SEX",
    "A_MARITL",
    ("PERRP", "A_EXPRRP"),
    "PRDTRACE",
    "PEHSPNON",
    "A_HGA",
    ("PEMLR", "A_LFSR"),
    "PRCITSHP",
    "WSAL_VAL",
    "SEMP_VAL",
    "FRSE_VAL",
    "INT_VAL",
    "DIV_VAL",
    "RNT_VAL",
    "SS_VAL",
    "SSI_VAL",
    "PAW_VAL",
    "UC_VAL",
    "PTOTVAL",
)
_RETIREMENT = (
    "PNSN_VAL",
    "ANN_VAL",
    "DST_VAL1",
    "DST_VAL2",
    "DST_VAL1_YNG",
    "DST_VAL2_YNG",
    "SUR_VAL1",
    "SUR_VAL2",
    "DIS_VAL1",
    "DIS_VAL2",
)
_OTHER = ("WC_VAL", "VET_VAL", "ED_VAL", "CSP_VAL", "FIN_VAL", "OI_VAL")
_ATTRIBUTES = (
    "PF_SEQ",
    "PRPERTYP",
    "A_CLSWKR",
    "PRDISFLG",
    "PEAFEVER",
    "MIGSAME",
    "A_HSCOL",
    "A_ENRLW",
    "WKSWORK",
    "HRSWK",
)
_HOUSEHOLD: tuple[str | tuple[str, ...], ...] = (
    "H_SEQ",
    "H_HHTYPE",
    "GESTFIPS",
    "GTCO",
    "HSUP_WGT",
    "H_TENURE",
    "HTOTVAL",
)
_HOUSEHOLD_OPTIONAL = ("H_NUMPER", "HRHTYPE", "HFOODSP")
_FAMILY: tuple[str | tuple[str, ...], ...] = (
    "FH_SEQ",
    "FFPOS",
    "FTYPE",
    "FTOTVAL",
    ("FPOVCUT", "POVCUT"),
)
_RELATED_SUBFAMILY = 3


def read_asec(
    file: RawFile | Path,
    *,
    year: int,
    states: tuple[str, ...] | None = None,
    source: str = "cps_asec",
    url: str = "",
) -> Microdata:
    """Read ``asecpubYYcsv.zip`` of survey ``year`` (amounts are dollars of year - 1), for all
    states or those in ``states`` (FIPS).

    Only interviewed households (H_HHTYPE 1) are kept; others are counted. Weights are divided by
    100. Household ids are ``cps<year>-<H_SEQ, 7 digits>``; persons in group quarters (HRHTYPE 9 or
         10) are units of one with ``-<person>`` added.
    ``county_fips`` is null where GTCO is 0 (not identified), ``puma`` always. ``poverty_ratio`` is
    100 x family income / poverty threshold of the (primary) family, capped at 501. ``total_income``
    is PTOTVAL.

    Raises SourceFileError, SourceLayoutError (members, columns, other year), SourceValueError
    (impossible value, with its line), RecordsError (no records, persons without household).
    """
    raw = file if isinstance(file, RawFile) else read_raw(file, url=url, publisher=PUBLISHER)
    if year < 2019:
        raise SourceLayoutError(
            f"ASEC {year} was asked for",
            where=raw.provenance.path,
            expected="2019 or later, when CSV files begin",
            remedy="Choose a later vintage in the profile",
        )
    yy = f"{year % 100:02d}"
    person_raw, household_raw, family_raw = (
        read_member(raw, f"{stem}{yy}.csv") for stem in ("pppub", "hhpub", "ffpub")
    )
    notes: list[SourceNote] = []
    homes = SurveyColumns.read(household_raw, _HOUSEHOLD, _HOUSEHOLD_OPTIONAL)
    people = SurveyColumns.read(person_raw, _PERSON, (*_RETIREMENT, *_OTHER, *_ATTRIBUTES))
    families = SurveyColumns.read(family_raw, _FAMILY)
    households = _households(homes, year, source, states, notes)
    persons = _persons(people, families, households, year, source, notes)
    households = _group_quarters(households, persons)
    missing = [name for name in (*_ATTRIBUTES, *_RETIREMENT, *_OTHER) if not people.has(name)]
    if missing:
        notes.append(
            SourceNote(
                "optional_columns_missing",
                len(missing),
                f"columns absent from this vintage, taken as zero or null: {', '.join(missing)}",
            )
        )
    checked = check_microdata(persons, households, raw.provenance.path)
    return Microdata(
        *checked,
        (person_raw.provenance, household_raw.provenance, family_raw.provenance),
        tuple(notes),
    )


def _sequence(columns: SurveyColumns, name: str) -> pl.Series:
    return columns.integer(name, low=1, nullable=False)


def _households(
    columns: SurveyColumns,
    year: int,
    source: str,
    states: tuple[str, ...] | None,
    notes: list[SourceNote],
) -> pl.DataFrame:
    """Interviewed households with H_SEQ; persons are counted later."""
    kind = columns.integer("H_HHTYPE", low=1, high=3, nullable=False)
    notes.append(
        SourceNote(
            "not_interviewed",
            int((kind != 1).sum()),
            "household records that are not interviews (H_HHTYPE 2 or 3), left out",
        )
    )
    columns = columns.filter(kind == 1)
    sequence = _sequence(columns, "H_SEQ")
    if sequence.is_duplicated().any():
        raise columns.fail(
            "H_SEQ",
            ~columns.frame.select(pl.col("H_SEQ").is_first_distinct()).to_series(),
            "each household once",
        )
    county = columns.integer("GTCO", low=0, high=999, nullable=False)
    state = columns.integer("GESTFIPS", low=1, high=56, nullable=False)
    no_values = pl.Series([None], dtype=pl.Boolean).new_from_index(0, len(sequence))
    frame = pl.DataFrame(
        {
            "H_SEQ": sequence,
            "state_fips": state.cast(pl.String).str.zfill(2),
            "county": county,
            "is_group_quarters": (
                columns.integer("HRHTYPE", low=0, high=10).is_in([9, 10]).fill_null(False)
                if columns.has("HRHTYPE")
                else no_values.fill_null(False)
            ),
            "weight": columns.number("HSUP_WGT", low=0, nullable=False) / 100.0,
            "tenure": columns.coded(
                "H_TENURE", {-1: None, 0: None, 1: "owner", 2: "renter", 3: "renter"}
            ),
            "household_income": columns.number("HTOTVAL", nullable=False),
            "food_stamps": (
                columns.coded("HFOODSP", yes_no([1], [2], [-1, 0]), dtype=pl.Boolean)
                if columns.has("HFOODSP")
                else no_values
            ),
        }
    ).with_columns(
        pl.format(
            "cps{}-{}", pl.lit(str(year)), pl.col("H_SEQ").cast(pl.String).str.zfill(7)
        ).alias("household_id"),
        pl.lit(source).alias("source"),
        pl.lit(None, dtype=pl.String).alias("puma"),
        pl.when(pl.col("county") > 0)
        .then(
            pl.format("{}{}", pl.col("state_fips"), pl.col("county").cast(pl.String).str.zfill(3))
        )
        .alias("county_fips"),
    )
    if states is not None:
        absent = sorted(set(states) - set(frame["state_fips"]))
        if absent:
            raise RecordsError(
                f"No interviewed household of state {', '.join(absent)}",
                where=columns.label,
                expected="records of every state asked for",
                remedy="Check the FIPS codes",
            )
        frame = frame.filter(pl.col("state_fips").is_in(list(states)))
    notes.append(
        SourceNote(
            "county_not_identified",
            frame.filter(pl.col("county_fips").is_null()).height,
            "households whose county is not identified (GTCO 0)",
        )
    )
    return frame


def _total(columns: SurveyColumns, names: tuple[str, ...], low: float | None = 0) -> pl.Series:
    """Sum of those of the columns that exist; an amount not asked of a person is 0 in the CPS."""
    present = [columns.number(name, low=low).fill_null(0.0) for name in names if columns.has(name)]
    if not present:
        return pl.Series([0.0]).new_from_index(0, columns.frame.height)
    return reduce(operator.add, present)


def _persons(
    columns: SurveyColumns,
    families: SurveyColumns,
    households: pl.DataFrame,
    year: int,
    source: str,
    notes: list[SourceNote],
) -> pl.DataFrame:
    sequence = _sequence(columns, "PH_SEQ")
    kept = sequence.is_in(households["H_SEQ"].implode())
    columns = columns.filter(kept)
    sequence = sequence.filter(kept)
    if columns.frame.is_empty():
        raise RecordsError(
            "There are no persons",
            where=columns.label,
            expected="persons of the interviewed households",
            remedy="Download the archive again",
        )
    number = columns.integer(
        columns.first_of("A_LINENO", "P_SEQ", "PPPOS"), low=1, high=99, nullable=False
    )
    repeats = columns.frame.select(
        (pl.struct(sequence.alias("h"), number.alias("n")).is_first_distinct()).not_()
    ).to_series()
    if repeats.any():
        raise SourceValueError(
            f"Person {number.filter(repeats)[0]} of household {sequence.filter(repeats)[0]} appears"
            " twice",
            where=(
                f"{columns.label}, line {columns.frame[LINE].filter(repeats)[0]}, columns PH_SEQ"
                " and A_LINENO"
            ),
            expected="each person once",
            remedy="The file was concatenated or edited: download it again",
        )
    relationship_column = columns.first_of("PERRP", "A_EXPRRP")
    relationship = columns.coded(
        relationship_column, _PERRP if relationship_column == "PERRP" else _EXPRRP, nullable=False
    )
    if relationship_column == "A_EXPRRP":
        notes.append(
            SourceNote(
                "partners_unknown",
                int((columns.integer("A_EXPRRP") == 13).sum()),
                "partners or roommates (A_EXPRRP 13), taken as nonrelatives",
            )
        )
    labour_column = columns.first_of("PEMLR", "A_LFSR")
    labour = columns.coded(labour_column, _PEMLR if labour_column == "PEMLR" else _LFSR)
    armed = (
        (columns.integer("PRPERTYP", low=1, high=3) == _ARMED_FORCES).fill_null(False)
        if columns.has("PRPERTYP")
        else labour.is_null() & False
    )
    at_work = columns.integer(labour_column) == 1
    age = columns.integer("A_AGE", low=0, high=99, nullable=False)
    notes.append(
        SourceNote(
            "age_top_coded",
            int((age >= 80).sum()),
            "persons of 80 or more, whose age is published as 80 (80 to 84) or 85 (85 and over)",
        )
    )
    citizenship = columns.integer("PRCITSHP", low=1, high=5, nullable=False)
    nothing = pl.Series([None], dtype=pl.Boolean).new_from_index(0, len(age))

    def optional(
        name: str, codes: dict[int, object], dtype: type[pl.DataType] = pl.String
    ) -> pl.Series:
        return columns.coded(name, codes, dtype=dtype) if columns.has(name) else nothing.cast(dtype)

    hispanic = columns.coded("PEHSPNON", {1: True, 2: False}, dtype=pl.Boolean, nullable=False)
    level = optional("A_HSCOL", {-1: None, 0: None, 1: "grades_9_12", 2: "college"})
    enrolled = optional("A_ENRLW", yes_no([1], [2], [-1, 0]), pl.Boolean)
    frame = pl.DataFrame(
        {
            "H_SEQ": sequence,
            "person_number": number,
            "weight": columns.number("MARSUPWT", low=0, nullable=False) / 100.0,
            "age": age,
            "sex": columns.coded("A_SEX", {1: "male", 2: "female"}, nullable=False),
            "base_relationship": relationship,
            "marital_status": columns.coded("A_MARITL", _MARITL, nullable=False),
            "race": columns.coded("PRDTRACE", _RACE, nullable=False),
            "hispanic": hispanic,
            "education": columns.coded("A_HGA", _HGA, dtype=pl.Int32),
            "labour": labour,
            "armed": armed,
            "works_now": at_work,
            "class_of_worker": optional("A_CLSWKR", _CLSWKR),
            "disability": optional("PRDISFLG", yes_no([1], [2], [-1, 0]), pl.Boolean),
            "veteran": optional("PEAFEVER", yes_no([1], [2], [-1, 0]), pl.Boolean),
            "moved": optional("MIGSAME", _MIGSAME),
            "foreign_born": citizenship.is_in([4, 5]),
            "citizen": citizenship != 5,
            "naturalized": citizenship == 4,
            "enrolled": enrolled,
            "level": level,
            "weeks": (
                columns.integer("WKSWORK", low=-1, high=52)
                if columns.has("WKSWORK")
                else nothing.cast(pl.Int32)
            ),
            "hours": (
                columns.integer("HRSWK", low=-1, high=99)
                if columns.has("HRSWK")
                else nothing.cast(pl.Int32)
            ),
            "wages": _total(columns, ("WSAL_VAL",)),
            "self_employment": _total(columns, ("SEMP_VAL", "FRSE_VAL"), None),
            "investment_income": _total(columns, ("INT_VAL", "DIV_VAL", "RNT_VAL"), None),
            "social_security": _total(columns, ("SS_VAL",)),
            "ssi": _total(columns, ("SSI_VAL",)),
            "public_assistance": _total(columns, ("PAW_VAL",)),
            "retirement": _total(columns, _RETIREMENT),
            "other_income": _total(columns, _OTHER),
            "unemployment_compensation": _total(columns, ("UC_VAL",)),
            "total_income": columns.number("PTOTVAL"),
            "family": (
                columns.integer("PF_SEQ", low=0)
                if columns.has("PF_SEQ")
                else nothing.cast(pl.Int32)
            ),
        }
    )
    place = households.select(
        "H_SEQ",
        "state_fips",
        "puma",
        "county_fips",
        "is_group_quarters",
        pl.col("household_id").alias("home"),
    )
    frame = frame.join(place, on="H_SEQ", how="left", maintain_order="left").join(
        _poverty(families), on=["H_SEQ", "family"], how="left", maintain_order="left"
    )
    asked = pl.col("age") >= 15
    working_age = pl.col("age") >= 16
    amounts = (
        "wages",
        "self_employment",
        "investment_income",
        "social_security",
        "ssi",
        "public_assistance",
        "retirement",
        "other_income",
    )
    return frame.with_columns(
        pl.when("is_group_quarters")
        .then(pl.format("{}-{}", "home", pl.col("person_number").cast(pl.String).str.zfill(2)))
        .otherwise("home")
        .alias("household_id"),
        pl.lit(source).alias("source"),
        pl.when("is_group_quarters")
        .then(pl.lit("gq_noninstitutional"))
        .otherwise("base_relationship")
        .alias("relationship"),
        pl.when("armed")
        .then(pl.lit("armed_forces"))
        .when(working_age)
        .then("labour")
        .alias("employment"),
        pl.when(working_age & (pl.col("labour").is_not_null() | pl.col("armed")))
        .then(pl.col("works_now").fill_null(False))
        .alias("at_work"),
        pl.when("armed").then(False).otherwise("veteran").alias("veteran"),
        pl.when("enrolled")
        .then("level")
        .when(~pl.col("enrolled"))
        .then(pl.lit("not_enrolled"))
        .alias("school"),
        pl.lit(None, dtype=pl.String).alias("commute"),
        pl.lit(None, dtype=pl.Boolean).alias("other_language"),
        pl.lit(None, dtype=pl.Boolean).alias("gave_birth"),
        pl.when(working_age).then(pl.col("weeks").clip(0)).alias("weeks_worked"),
        pl.when(working_age).then(pl.col("hours").clip(0)).alias("hours_worked"),
        *(
            pl.when(asked).then(name).alias(name)
            for name in (*amounts, "unemployment_compensation", "total_income")
        ),
    )


def _poverty(columns: SurveyColumns) -> pl.DataFrame:
    """H_SEQ, family, poverty_ratio: a related subfamily has the ratio of its household's primary
    family (FTYPE 1).
    """
    frame = pl.DataFrame(
        {
            "H_SEQ": _sequence(columns, "FH_SEQ"),
            "family": columns.integer("FFPOS", low=0, nullable=False),
            "kind": columns.integer("FTYPE", low=1, high=5, nullable=False),
            "ratio": (
                columns.number("FTOTVAL", nullable=False)
                / columns.number(columns.first_of("FPOVCUT", "POVCUT"), low=1, nullable=False)
                * 100.0
            ),
        }
    )
    primary = (
        frame.filter(pl.col("kind") == 1)
        .group_by("H_SEQ")
        .agg(pl.col("ratio").first().alias("primary"))
    )
    chosen = (
        pl.when(pl.col("kind") == _RELATED_SUBFAMILY)
        .then(pl.coalesce("primary", "ratio"))
        .otherwise("ratio")
    )
    ratio = (
        pl.when(chosen > 500)
        .then(501)
        .otherwise(chosen.clip(0).floor())
        .cast(pl.Int32)
        .alias("poverty_ratio")
    )
    return (
        frame.join(primary, on="H_SEQ", how="left")
        .select("H_SEQ", "family", ratio)
        .unique(["H_SEQ", "family"], keep="first", maintain_order=True)
    )


def _group_quarters(households: pl.DataFrame, persons: pl.DataFrame) -> pl.DataFrame:
    """Add the number of persons, and split group quarters into units of one with the person's
    weight.
    """
    sizes = (
        persons.group_by(pl.col("H_SEQ"))
        .len("persons")
        .with_columns(pl.col("persons").cast(pl.Int32))
    )
    homes = (
        households.filter(~pl.col("is_group_quarters"))
        .join(sizes, on="H_SEQ", how="left")
        .with_columns(pl.col("persons").fill_null(0))
    )
    empty = homes.filter(pl.col("persons") == 0)
    if empty.height:
        raise RecordsError(
            f"{empty.height:,} interviewed households have no persons",
            where=f"household {empty['household_id'].sort()[0]}",
            expected="persons with PH_SEQ equal to H_SEQ",
            remedy="Person and household member must be of the same archive: download it again",
        )
    single = persons.filter("is_group_quarters").with_columns(
        pl.lit(1, dtype=pl.Int32).alias("persons"),
        pl.lit(None, dtype=pl.String).alias("tenure"),
        pl.lit(None, dtype=pl.Float64).alias("household_income"),
        pl.lit(None, dtype=pl.Boolean).alias("food_stamps"),
    )
    return pl.concat(
        [homes, single.select([name for name in homes.columns if name in single.columns])],
        how="diagonal",
    )
