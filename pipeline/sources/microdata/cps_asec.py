"""Reader of the CPS Annual Social and Economic Supplement, the CSV archive as published (2019 and
later).

Belongs here: what the columns mean, the two implied decimals of its weights, the choice of
interviewed households, the poverty ratio from the family file. Does not belong here: names of
columns and code lists (``cps_asec_codes.py``), attributes derived for targets
(``pipeline/records``). Files before 2019 are fixed-width and are refused.

Where the CPS differs from the ACS:

* The universe is the civilian noninstitutional population, and armed forces living with civilians.
* Amounts are of the calendar year before the survey.
* ``other_income`` does not contain unemployment compensation, which has a column of its own.
* There is no race "other"; schooling is in broader classes, mapped to the lowest ACS code of each.
* ``other_language``, ``gave_birth`` and ``commute`` are not asked.

Codes follow the published data dictionaries; any code outside these lists is refused with its line.
"""

from __future__ import annotations

import operator
from functools import reduce
from pathlib import Path

import polars as pl

from pipeline.errors import RecordsError, SourceLayoutError
from pipeline.sources.base import ReadRequest, SourceNote
from pipeline.sources.files import RawFile, read_member, read_raw
from pipeline.sources.microdata import cps_asec_codes as codes
from pipeline.sources.microdata import cps_asec_items as items
from pipeline.sources.microdata.columns import SurveyColumns, yes_no
from pipeline.sources.microdata.donor_schema import (
    AMOUNT_ITEMS,
    HOUSEHOLD_ITEMS,
    PERSON_ITEMS,
    DonorHouseholdTable,
    DonorPersonTable,
)
from pipeline.sources.microdata.schema import AMOUNTS, Microdata, check_microdata
from pipeline.sources.named import reader

PUBLISHER = "the US Census Bureau and the Bureau of Labor Statistics"


@reader("cps_asec")
def read_of_nation(request: ReadRequest) -> Microdata:
    """The survey of the nation: persons, families and households are members of one archive."""
    return read_asec(
        request.files[0].path,
        year=int(request.vintage),
        source=request.spec.id,
        url=request.spec.url_of(request.vintage),
    )


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
    10) are units of one with ``-<person>`` added. ``county_fips`` is null where GTCO is 0 (not
    identified), ``puma`` always. ``poverty_ratio`` is 100 x family income / poverty threshold of
    the (primary) family, capped at 501. ``total_income`` is PTOTVAL.

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
    homes = SurveyColumns.read(household_raw, codes.HOUSEHOLD, codes.HOUSEHOLD_OPTIONAL)
    people = SurveyColumns.read(person_raw, codes.PERSON, codes.PERSON_OPTIONAL)
    families = SurveyColumns.read(family_raw, codes.FAMILY)
    households = _households(homes, year, source, states, notes)
    persons = _persons(people, families, households, notes)
    households = _group_quarters(households, persons)
    wanted = ((people, codes.PERSON_OPTIONAL), (homes, codes.HOUSEHOLD_OPTIONAL))
    if absent := [name for columns, names in wanted for name in names if not columns.has(name)]:
        detail = f"columns absent from this vintage, taken as zero or null: {', '.join(absent)}"
        notes.append(SourceNote("optional_columns_missing", len(absent), detail))
    unknown = [name for name in PERSON_ITEMS if persons[name].null_count() == persons.height]
    unknown += [n for n in HOUSEHOLD_ITEMS if households[n].null_count() == households.height]
    if unknown:
        detail = f"items that this file does not have, null for all: {', '.join(unknown)}"
        notes.append(SourceNote("donor_items_absent", len(unknown), detail))
    schemas = (DonorPersonTable, DonorHouseholdTable)
    checked = check_microdata(persons, households, raw.provenance.path, schemas)
    provenance = (person_raw.provenance, household_raw.provenance, family_raw.provenance)
    return Microdata(*checked, provenance, tuple(notes))


def _households(
    columns: SurveyColumns,
    year: int,
    source: str,
    states: tuple[str, ...] | None,
    notes: list[SourceNote],
) -> pl.DataFrame:
    """Interviewed households with H_SEQ; persons are counted later."""
    kind = columns.integer("H_HHTYPE", low=1, high=3, nullable=False)
    detail = "household records that are not interviews (H_HHTYPE 2 or 3), left out"
    notes.append(SourceNote("not_interviewed", int((kind != 1).sum()), detail))
    columns = columns.filter(kind == 1)
    sequence = columns.integer("H_SEQ", low=1, nullable=False)
    columns.require_each_once("H_SEQ")
    county = columns.integer("GTCO", low=0, high=999, nullable=False)
    state = _digits(columns.integer("GESTFIPS", low=1, high=56, nullable=False), 2)
    known = pl.when(county > 0).then(pl.format("{}{}", state, _digits(county, 3)))
    group_quarters = columns.integer("HRHTYPE", low=0, high=10).is_in([9, 10]).fill_null(False)
    frame = pl.DataFrame(
        {
            "H_SEQ": sequence,
            "state_fips": state,
            "is_group_quarters": group_quarters,
            "design_weight": columns.number("HSUP_WGT", low=0, nullable=False) / 100.0,
            "tenure": columns.coded("H_TENURE", codes.TENURE),
            "household_income": columns.number("HTOTVAL", nullable=False),
            "food_stamps": columns.coded("HFOODSP", codes.YES_NO, dtype=pl.Boolean),
            **items.household_items(columns),
        }
    ).with_columns(
        household_id=pl.format("cps{}-{}", pl.lit(str(year)), _digits(sequence, 7)),
        source=pl.lit(source),
        puma=pl.lit(None, dtype=pl.String),
        county_fips=known,
    )
    if absent := sorted(set(states or ()) - set(frame["state_fips"])):
        raise RecordsError(
            f"No interviewed household of state {', '.join(absent)}",
            where=columns.label,
            expected="records of every state asked for",
            remedy="Check the FIPS codes",
        )
    if states is not None:
        frame = frame.filter(pl.col("state_fips").is_in(list(states)))
    detail = "households whose county is not identified (GTCO 0)"
    notes.append(SourceNote("county_not_identified", frame["county_fips"].null_count(), detail))
    return frame


def _digits(numbers: pl.Series, width: int) -> pl.Series:
    return numbers.cast(pl.String).str.zfill(width)


def _total(columns: SurveyColumns, amount: str) -> pl.Series:
    """Sum of an amount's columns; one that is not in the file counts as zero."""
    names, signed = codes.AMOUNT_COLUMNS[amount], amount in codes.SIGNED
    return reduce(operator.add, [items.amount(columns, name, signed=signed) for name in names])


def _persons(
    columns: SurveyColumns,
    families: SurveyColumns,
    households: pl.DataFrame,
    notes: list[SourceNote],
) -> pl.DataFrame:
    """Persons of ``households`` in the schema's columns, with H_SEQ."""
    sequence = columns.integer("PH_SEQ", low=1, nullable=False)
    columns = columns.filter(sequence.is_in(households["H_SEQ"].implode()))
    if columns.frame.is_empty():
        raise RecordsError(
            "There are no persons",
            where=columns.label,
            expected="persons of the interviewed households",
            remedy="Download the archive again",
        )
    home = ["source", "state_fips", "puma", "county_fips", "is_group_quarters"]
    place = households.select("H_SEQ", *home, home=pl.col("household_id"))
    frame = (
        _answers(columns, notes)
        .join(place, on="H_SEQ", how="left", maintain_order="left")
        .join(_poverty(families), on=["H_SEQ", "family"], how="left", maintain_order="left")
    )
    own = pl.format("{}-{}", "home", pl.col("person_number").cast(pl.String).str.zfill(2))
    alone, armed = pl.col("is_group_quarters"), pl.col("armed")
    working_age = pl.col("age") >= 16
    in_labour = pl.col("labour").is_not_null() | armed
    return frame.with_columns(
        household_id=pl.when(alone).then(own).otherwise("home"),
        relationship=pl.when(alone)
        .then(pl.lit("gq_noninstitutional"))
        .otherwise("base_relationship"),
        employment=pl.when(armed).then(pl.lit("armed_forces")).when(working_age).then("labour"),
        at_work=pl.when(working_age & in_labour).then(pl.col("works_now").fill_null(False)),
        veteran=pl.when(armed).then(False).otherwise("veteran"),
        school=pl.when("enrolled")
        .then("level")
        .when(~pl.col("enrolled"))
        .then(pl.lit("not_enrolled")),
        commute=pl.lit(None, dtype=pl.String),
        other_language=pl.lit(None, dtype=pl.Boolean),
        gave_birth=pl.lit(None, dtype=pl.Boolean),
        weeks_worked=pl.when(working_age).then(pl.col("weeks").clip(0)),
        hours_worked=pl.when(working_age).then(pl.col("hours").clip(0)),
        **{
            name: pl.when(pl.col("age") >= 15).then(name)
            for name in (*AMOUNTS, *(name for name in PERSON_ITEMS if name in AMOUNT_ITEMS))
        },
    )


def _answers(columns: SurveyColumns, notes: list[SourceNote]) -> pl.DataFrame:
    """What each person's record says, decoded, in file order."""
    number = columns.first_of("A_LINENO", "P_SEQ", "PPPOS")
    columns.require_each_once("PH_SEQ", number)
    age = columns.integer("A_AGE", low=0, high=99, nullable=False)
    relationship = _relationship(columns, notes)
    labour = columns.first_of("PEMLR", "A_LFSR")
    detail = "persons of 80 or more, whose age is published as 80 (80 to 84) or 85 (85 and over)"
    notes.append(SourceNote("age_top_coded", int((age >= 80).sum()), detail))
    citizenship = columns.integer("PRCITSHP", low=1, high=5, nullable=False)
    kind = columns.integer("PRPERTYP", low=1, high=3)
    return pl.DataFrame(
        {
            "H_SEQ": columns.integer("PH_SEQ"),
            "person_number": columns.integer(number, low=1, high=99, nullable=False),
            "design_weight": columns.number("MARSUPWT", low=0, nullable=False) / 100.0,
            "age": age,
            "sex": columns.coded("A_SEX", codes.SEX, nullable=False),
            "base_relationship": relationship,
            "marital_status": columns.coded("A_MARITL", codes.MARITL, nullable=False),
            "race": columns.coded("PRDTRACE", codes.RACE, nullable=False),
            "hispanic": columns.coded(
                "PEHSPNON", yes_no([1], [2]), dtype=pl.Boolean, nullable=False
            ),
            "education": columns.coded("A_HGA", codes.HGA, dtype=pl.Int32),
            "labour": columns.coded(labour, codes.PEMLR if labour == "PEMLR" else codes.LFSR),
            "armed": (kind == codes.ARMED_FORCES).fill_null(False),
            "works_now": columns.integer(labour) == 1,
            "class_of_worker": columns.coded("A_CLSWKR", codes.CLSWKR),
            "disability": columns.coded("PRDISFLG", codes.YES_NO, dtype=pl.Boolean),
            "veteran": columns.coded("PEAFEVER", codes.YES_NO, dtype=pl.Boolean),
            "moved": columns.coded("MIGSAME", codes.MIGSAME),
            "foreign_born": citizenship.is_in([4, 5]),
            "citizen": citizenship != 5,
            "naturalized": citizenship == 4,
            "enrolled": columns.coded("A_ENRLW", codes.YES_NO, dtype=pl.Boolean),
            "level": columns.coded("A_HSCOL", codes.SCHOOL_LEVEL),
            "weeks": columns.integer("WKSWORK", low=-1, high=52),
            "hours": columns.integer("HRSWK", low=-1, high=99),
            **{amount: _total(columns, amount) for amount in codes.AMOUNT_COLUMNS},
            **items.person_items(columns),
            "total_income": columns.number("PTOTVAL"),
            "family": columns.integer("PF_SEQ", low=0),
        }
    )


def _relationship(columns: SurveyColumns, notes: list[SourceNote]) -> pl.Series:
    if columns.has("PERRP"):
        return columns.coded("PERRP", codes.PERRP, nullable=False)
    partners = int((columns.integer("A_EXPRRP") == 13).sum())
    detail = "partners or roommates (A_EXPRRP 13), taken as nonrelatives"
    notes.append(SourceNote("partners_unknown", partners, detail))
    return columns.coded("A_EXPRRP", codes.EXPRRP, nullable=False)


def _poverty(columns: SurveyColumns) -> pl.DataFrame:
    """H_SEQ, family, poverty_ratio: a related subfamily has the ratio of its household's primary
    family (FTYPE 1).
    """
    frame = pl.DataFrame(
        {
            "H_SEQ": columns.integer("FH_SEQ", low=1, nullable=False),
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
        pl.when(pl.col("kind") == codes.RELATED_SUBFAMILY)
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
