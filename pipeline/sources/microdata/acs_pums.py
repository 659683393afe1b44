"""Reader of the ACS public use microdata sample (PUMS), person and housing files as published.

Belongs here: what the columns of a person's record mean, and the order of reading. Does not belong
here: opening archives (``acs_pums_files.py``), households (``acs_pums_housing.py``), code lists
(``acs_pums_codes.py``); attributes of households derived for targets, tax units, uprating
(``pipeline/records``).

Where records and ACS tables differ by definition:

* PUMS is a subsample of the ACS sample with amounts rounded and top-coded; its group-quarters
  records carry imputations of their own.
* PUMS codes a move from Puerto Rico as a move inside "US or Puerto Rico", while tables count it as
  a move from abroad (mended here by MIGSP).
* Tables on disability and veterans exclude institutions, and the armed forces or persons under 18.
* ``self_employed`` here is the tables' "own not incorporated business" (COW 6), because tables
  count the incorporated (COW 7) as private wage and salary workers.
* ``at_work`` includes the armed forces, as commuting tables do.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from pipeline.errors import ProfileError
from pipeline.ordered_sums import sum_across
from pipeline.sources.base import ReadRequest, SourceFile, SourceNote
from pipeline.sources.files import RawFile
from pipeline.sources.microdata import acs_pums_codes as codes
from pipeline.sources.microdata.acs_pums_codes import PUERTO_RICO
from pipeline.sources.microdata.acs_pums_files import check_year, open_pums, read_state
from pipeline.sources.microdata.acs_pums_housing import read_households, rebuild_households
from pipeline.sources.microdata.columns import SurveyColumns, yes_no
from pipeline.sources.microdata.replicates import replicate_weights
from pipeline.sources.microdata.schema import Microdata, check_microdata
from pipeline.sources.named import reader
from pipeline.specs.states import State


def check_persons(request: ReadRequest, file: SourceFile) -> str:
    """Read the state's persons as a run would: their year, state and weights are no matter of the
    header."""
    if file.role != "persons":
        return ""
    # The nation's archive is of no state: each one asked for is read out of it.
    states = request.states if file.state is None else (file.state,)
    found = [_read_files(request, state, file.path).persons.height for state in states]
    return f"{sum(found):,} persons" if found else ""


@reader("acs_pums", check=check_persons)
def read_of_state(request: ReadRequest) -> Microdata:
    """One state's PUMS from the files of its spec, roles ``persons`` and ``housing``.

    Raises ProfileError unless one state is asked for, and what ``read_pums`` raises.
    """
    if len(request.states) != 1:
        raise ProfileError(
            f"{len(request.states)} states were asked for",
            where=f"source {request.spec.id}",
            expected="one: records are read state by state",
            remedy="Ask for each state by itself",
        )
    request.require_files()
    paths = {file.role: file.path for file in request.files}
    return _read_files(request, request.states[0], paths["persons"], paths.get("housing"))


def _read_files(
    request: ReadRequest, state: State, persons: Path, housing: Path | None = None
) -> Microdata:
    return read_pums(
        persons,
        housing,
        year=int(request.vintage),
        period=request.layout.period_years,
        state_fips=state.fips,
        source=request.spec.id,
        url=request.spec.url_of(request.vintage, state),
    )


def read_pums(
    person_file: RawFile | Path,
    housing_file: RawFile | Path | None = None,
    *,
    year: int,
    state_fips: str,
    period: int = 1,
    source: str = "acs_pums_1yr",
    url: str = "",
) -> Microdata:
    """Read one state's PUMS.

    ``year`` is the last year of the file, ``period`` 1 or 5. Amounts are published dollars x ADJINC
    / 1e6: dollars of ``year``. ``total_income`` equals the sum of the components. Without a housing
    file a household's weight is PWGTP of its reference person, its income the sum of its members'
    total income, and tenure and food stamps are null; with one they are WGTP, HINCP, TEN and FS. A
    person in group quarters is a unit of one with weight PWGTP. ``weeks_worked`` is WKWN, or the
    lower end of the WKW class where WKWN is blank or absent; 0 for persons of 16 or more who did
    not work. Replicate weights are PWGTP1 to PWGTP80, of households WGTP1 to WGTP80 where there is
    a housing file (``replicates.py``).

    Raises SourceFileError (no file), SourceLayoutError (columns, members, wrong state or year),
    SourceValueError (an impossible value, with its line), RecordsError (no records of the state;
    households without one reference person; files that do not belong together).
    """
    asked = (year, state_fips, period, url)
    raws = open_pums(person_file, "p", *asked)
    optional, whole = codes.PERSON_OPTIONAL, codes.PERSON_REPLICATES
    provenance = [raw.provenance for raw in raws]
    columns = read_state(raws, codes.PERSON_COLUMNS, optional, state_fips, whole)
    # Texts of millions of persons are let go of as soon as they have been read.
    raws.clear()
    notes: list[SourceNote] = []
    check_year(columns, year, period, notes)
    persons = _persons(columns, year, state_fips, source, notes)
    columns, housing = columns.only(*whole), None
    if housing_file is None:
        households = rebuild_households(persons, columns.label)
        rebuilt = households.filter(~pl.col("is_group_quarters")).height
        detail = "households rebuilt from person records; tenure and food stamps unknown"
        notes.append(SourceNote("households_rebuilt", rebuilt, detail))
    else:
        raws = open_pums(housing_file, "h", *asked)
        provenance += [raw.provenance for raw in raws]
        housing = read_state(raws, codes.HOUSING_COLUMNS, (), state_fips, codes.HOUSING_REPLICATES)
        raws.clear()
        check_year(housing, year, period, [])
        households = read_households(housing, persons, source, year, notes)
        housing = housing.only("SERIALNO", *codes.HOUSING_REPLICATES)
    persons_checked, households_checked = check_microdata(persons, households, columns.label)
    weight = households_checked.filter("is_group_quarters")["design_weight"]
    detail = f"persons in group quarters, each a unit of one; weight {weight.sum():,.0f}"
    notes.append(SourceNote("group_quarters", len(weight), detail))
    replicates = replicate_weights(columns, persons, housing, year, notes)
    return Microdata(
        persons_checked, households_checked, tuple(provenance), tuple(notes), replicates
    )


def _persons(
    columns: SurveyColumns, year: int, state_fips: str, source: str, notes: list[SourceNote]
) -> pl.DataFrame:
    """The persons table, in file order."""
    number = columns.integer("SPORDER", low=1, high=99, nullable=False)
    columns.require_each_once("SERIALNO", "SPORDER")
    relationship = _relationship(columns)
    group_quarters = relationship.str.starts_with("gq_")
    age = columns.integer("AGEP", low=0, high=120, nullable=False)
    citizenship = columns.integer("CIT", low=1, high=5, nullable=False)
    factor = columns.integer("ADJINC", nullable=False).cast(pl.Float64) / 1e6
    no_text, no_number = (pl.lit(None, dtype=kind) for kind in (pl.String, pl.Float64))
    persons = pl.DataFrame(
        {
            "household_id": _household_id(columns, year, number, group_quarters),
            "person_number": number,
            "is_group_quarters": group_quarters,
            "design_weight": columns.number("PWGTP", low=0, nullable=False),
            "age": age,
            "sex": columns.coded("SEX", codes.SEX, nullable=False),
            "relationship": relationship,
            "marital_status": columns.coded("MAR", codes.MAR, nullable=False),
            "race": columns.coded("RAC1P", codes.RAC1P, nullable=False),
            "hispanic": columns.integer("HISP", low=1, high=24, nullable=False) != 1,
            "education": columns.integer("SCHL", low=1, high=24),
            "school": _school(columns),
            "employment": columns.coded("ESR", codes.ESR),
            "at_work": columns.integer("ESR", low=1, high=6).is_in([1, 4]),
            "class_of_worker": columns.coded("COW", codes.COW),
            "commute": _commute(columns),
            "disability": columns.coded("DIS", yes_no([1], [2]), dtype=pl.Boolean),
            "veteran": columns.coded("MIL", yes_no([2], [1, 3, 4]), dtype=pl.Boolean),
            "foreign_born": columns.coded(
                "NATIVITY", yes_no([2], [1]), dtype=pl.Boolean, nullable=False
            ),
            "citizen": citizenship != 5,
            "naturalized": citizenship == 4,
            "other_language": columns.coded("LANX", yes_no([1], [2]), dtype=pl.Boolean),
            "moved": _moved(columns, state_fips, notes),
            "puma": _puma(columns, state_fips, notes),
            "gave_birth": columns.coded("FER", yes_no([1], [2], [8]), dtype=pl.Boolean),
            "poverty_ratio": columns.integer("POVPIP", low=0, high=501),
            "weeks_worked": _of_workers(_weeks(columns, notes), age),
            "hours_worked": _of_workers(columns.integer("WKHP", low=1, high=99), age),
            **{
                name: columns.number(code, low=None if code in codes.SIGNED else 0) * factor
                for name, code in codes.AMOUNT_COLUMNS.items()
            },
        }
    ).with_columns(
        source=pl.lit(source),
        state_fips=pl.lit(state_fips),
        county_fips=no_text,
        unemployment_compensation=no_number,
    )
    _check_income(persons, notes)
    return persons


def _relationship(columns: SurveyColumns) -> pl.Series:
    """Decoded relationship, in agreement with the HU or GQ that serial numbers carry from 2017."""
    name = columns.first_of("RELP", "RELSHIPP")
    relationship = columns.coded(
        name, codes.RELP if name == "RELP" else codes.RELSHIPP, nullable=False
    )
    group_quarters = relationship.str.starts_with("gq_")
    for mark, expected in (("HU", False), ("GQ", True)):
        marked = columns.text("SERIALNO").str.contains(mark, literal=True)
        wrong = marked & (group_quarters != expected)
        if wrong.any():
            raise columns.fail(name, wrong, f"a code that agrees with {mark} in SERIALNO")
    return relationship


def _household_id(
    columns: SurveyColumns, year: int, number: pl.Series, group_quarters: pl.Series
) -> pl.Series:
    """``acs<year>-<SERIALNO>``. Every group-quarters person has a serial number of his own; should
    one repeat, the person number keeps the units apart.
    """
    serial = columns.text("SERIALNO")
    own = pl.format("-{}", number.cast(pl.String).str.zfill(2))
    shared = group_quarters & serial.is_duplicated()
    return columns.frame.select(
        pl.format("acs{}-{}", pl.lit(str(year)), serial)
        + pl.when(shared).then(own).otherwise(pl.lit(""))
    ).to_series()


def _puma(columns: SurveyColumns, state_fips: str, notes: list[SourceNote]) -> pl.Series:
    """State and PUMA, seven digits; null (-9) where the record of a five-year file carries only the
    PUMA of the other vintage.
    """
    puma = columns.integer(columns.first_of(*codes.PUMA), nullable=False)
    known = puma > 0
    if unknown := int((~known).sum()):
        detail = "records carry only the other PUMA vintage; their PUMA is null"
        notes.append(SourceNote("puma_of_other_vintage", unknown, detail))
    code = pl.format("{}{}", pl.lit(state_fips), puma.cast(pl.String).str.zfill(5))
    return columns.frame.select(pl.when(known).then(code)).to_series()


def _school(columns: SurveyColumns) -> pl.Series:
    enrolled = columns.coded("SCH", yes_no([2, 3], [1]), dtype=pl.Boolean)
    grade = columns.coded("SCHG", codes.SCHG)
    known = pl.when(enrolled).then(grade).when(~enrolled).then(pl.lit("not_enrolled"))
    return columns.frame.select(known).to_series()


def _commute(columns: SurveyColumns) -> pl.Series:
    """Means of transport; a car with more than one rider is a carpool."""
    named = [columns.coded(name, codes.JWTR) for name in codes.TRANSPORT if columns.has(name)]
    means = pl.select(pl.coalesce(named)).to_series()
    pooled = (means == "drove_alone") & (columns.integer("JWRIP", low=1, high=10) > 1)
    carpooled = pl.when(pooled).then(pl.lit("carpooled")).otherwise(means)
    return columns.frame.select(carpooled).to_series()


def _moved(columns: SurveyColumns, state_fips: str, notes: list[SourceNote]) -> pl.Series:
    """Where the person lived a year ago; see the module's docstring on Puerto Rico."""
    moved = columns.coded("MIG", codes.MIG)
    if not columns.has("MIGSP"):
        detail = "MIGSP is not in the file: moves from Puerto Rico stay moves inside the US"
        notes.append(SourceNote("migsp_missing", 0, detail))
        return moved
    inside = (moved == "different_house_us").fill_null(False) & (int(state_fips) != PUERTO_RICO)
    from_there = inside & (columns.integer("MIGSP") == PUERTO_RICO).fill_null(False)
    if count := int(from_there.sum()):
        detail = "persons who moved from Puerto Rico, counted as moved from abroad as ACS tables do"
        notes.append(SourceNote("moved_from_puerto_rico", count, detail))
    abroad = pl.when(from_there).then(pl.lit("abroad")).otherwise(moved)
    return columns.frame.select(abroad).to_series()


def _weeks(columns: SurveyColumns, notes: list[SourceNote]) -> pl.Series:
    """Weeks worked in the last 12 months, or the lower end of their class. A five-year file across
    2019 has both columns, each blank in the other's years: WKWN counts where it has a value.
    """
    if not columns.has("WKW"):
        return columns.integer("WKWN", low=1, high=52)
    classes = columns.coded("WKW", codes.WKW, dtype=pl.Int32)
    if not columns.has("WKWN"):
        return classes
    exact = columns.integer("WKWN", low=1, high=52)
    if from_class := int((exact.is_null() & classes.is_not_null()).sum()):
        detail = "persons whose weeks worked are the lower end of a class (WKW), interviewed"
        notes.append(SourceNote("weeks_by_class", from_class, f"{detail} before 2019"))
    return pl.select(pl.coalesce(exact, classes)).to_series()


def _of_workers(amount: pl.Series, age: pl.Series) -> pl.Series:
    """Weeks or hours: null under 16, zero for who is 16 or more and did not work."""
    frame = pl.DataFrame({"amount": amount.fill_null(0).cast(pl.Int32), "age": age})
    return frame.select(pl.when(pl.col("age") >= 16).then("amount")).to_series()


def _check_income(persons: pl.DataFrame, notes: list[SourceNote]) -> None:
    """PINCP is the sum of its eight components; count the records where it is not (beyond a
    dollar).
    """
    parts = [name for name in codes.AMOUNT_COLUMNS if name != "total_income"]
    gap = (pl.col("total_income") - sum_across(parts)).abs()
    if off := persons.filter(gap > 1.0).height:
        detail = "persons whose PINCP is not the sum of its components"
        notes.append(SourceNote("income_does_not_add_up", off, detail))
