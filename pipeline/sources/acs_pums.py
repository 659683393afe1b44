"""Reader of the ACS public use microdata sample (PUMS), person and housing files as published.

Belongs here: which columns and codes the American Community Survey uses (data dictionaries 2013 to
2023), the tests that a file is the state and year asked for, and the rebuilding of households when
there is no housing file. Does not belong here: attributes of households derived for targets, tax
units, uprating (``pipeline/records``).

Where records and ACS tables differ by definition: PUMS is a subsample of the ACS sample with
amounts rounded and top-coded, and its group-quarters records carry imputations of their own; PUMS
codes a move from Puerto Rico as a move inside "US or Puerto Rico" while tables count it as a move
from abroad (mended here by MIGSP); tables on disability and veterans exclude institutions and the
armed forces or persons under 18; ``self_employed`` here is the tables' "own not incorporated
business" (COW 6), because tables count the incorporated (COW 7) as private wage and salary workers;
``at_work`` includes the armed forces, as commuting tables do.
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from pipeline.errors import RecordsError, SourceLayoutError, SourceValueError
from pipeline.ordered_sums import sum_across, sum_in_order
from pipeline.sources.acs_pums_codes import (
    ADJINC_BY_YEAR,
    AMOUNT_COLUMNS,
    COW,
    ESR,
    HOUSING_COLUMNS,
    JWTR,
    MAR,
    MIG,
    PERSON_COLUMNS,
    PERSON_OPTIONAL,
    PUERTO_RICO,
    RAC1P,
    RELP,
    RELSHIPP,
    REPLICATES,
    SCHG,
    SIGNED,
    WKW,
)
from pipeline.sources.base import SourceNote
from pipeline.sources.files import RawFile, open_zip, read_member, read_raw
from pipeline.sources.microdata_columns import LINE, SurveyColumns, yes_no
from pipeline.sources.microdata_schema import Microdata, check_microdata

PUBLISHER = "the US Census Bureau"


def read_pums(
    person_file: RawFile | Path,
    housing_file: RawFile | Path | None = None,
    *,
    year: int,
    state_fips: str,
    period: int = 1,
    source: str = "acs_pums_1yr",
    url: str = "",
    with_replicates: bool = False,
) -> Microdata:
    """Read one state's PUMS.

    ``year`` is the last year of the file, ``period`` 1 or 5. Amounts are published dollars x ADJINC
    / 1e6: dollars of ``year``. ``total_income`` equals the sum of the components. Without a housing
    file a household's weight is PWGTP of its reference person, its income the sum of its members'
    total income, and tenure and food stamps are null; with one they are WGTP, HINCP, TEN and FS. A
    person in group quarters is a unit of one with weight PWGTP. ``weeks_worked`` is WKWN, or the
    lower end of the WKW class; 0 for persons of 16 or more who did not work. ``replicate_weights``
    (with_replicates): household_id, person_number, PWGTP1 to PWGTP80, signed integers.

    Raises SourceFileError (no file), SourceLayoutError (columns, members, wrong state or year),
    SourceValueError (an impossible value, with its line), RecordsError (no records of the state;
    households without one reference person; files that do not belong together).
    """
    raws = _open(person_file, "p", year, state_fips, period, url)
    columns = _read(
        raws,
        PERSON_COLUMNS,
        (*PERSON_OPTIONAL, *(REPLICATES if with_replicates else ())),
        state_fips,
    )
    if with_replicates and (absent := [name for name in REPLICATES if not columns.has(name)]):
        raise SourceLayoutError(
            f"Replicate weights are missing: {', '.join(absent[:3])} ...",
            where=columns.label,
            expected="PWGTP1 to PWGTP80",
            remedy="Download the full file",
        )
    notes: list[SourceNote] = []
    _check_year(columns, year, period, notes)
    persons = _persons(columns, year, state_fips, source, notes)
    provenance = [raw.provenance for raw in raws]
    if housing_file is None:
        households = _rebuild_households(persons, columns.label)
        notes.append(
            SourceNote(
                "households_rebuilt",
                households.filter(~pl.col("is_group_quarters")).height,
                "households rebuilt from person records; tenure and food stamps unknown",
            )
        )
    else:
        housing_raws = _open(housing_file, "h", year, state_fips, period, url)
        housing = _read(housing_raws, HOUSING_COLUMNS, (), state_fips)
        _check_year(housing, year, period, [])
        households = _housing(housing, persons, source, year, notes)
        provenance += [raw.provenance for raw in housing_raws]
    checked_persons, checked_households = check_microdata(persons, households, columns.label)
    group_quarters = checked_households.filter("is_group_quarters")
    notes.append(
        SourceNote(
            "group_quarters",
            group_quarters.height,
            "persons in group quarters, each a unit of one; weight"
            f" {group_quarters['weight'].sum():,.0f}",
        )
    )
    replicates = None
    if with_replicates:
        keys = persons.select("household_id", "person_number")
        replicates = keys.with_columns(
            columns.integer(name, nullable=False).alias(name) for name in REPLICATES
        ).sort("household_id", "person_number")
    return Microdata(
        checked_persons, checked_households, tuple(provenance), tuple(notes), replicates
    )


def _open(
    file: RawFile | Path, kind: str, year: int, state_fips: str, period: int, url: str
) -> list[RawFile]:
    """The CSV member(s) of a PUMS archive, or the CSV itself, after checking that the members'
    names are of this kind, state and year.
    """
    raw = file if isinstance(file, RawFile) else read_raw(file, url=url, publisher=PUBLISHER)
    if not raw.data.startswith(b"PK"):
        if raw.provenance.path.lower().endswith(".zip") and not raw.provenance.member:
            open_zip(raw)
        return [raw]
    with open_zip(raw) as archive:
        names = archive.namelist()
    pattern = re.compile(
        rf"(?:^|/)(?:psam_{kind}(?P<state>\d\d|us[a-d])|ss(?P<yy>\d\d){kind}(?P<postal>[a-z]{{2}}|us[a-d]))\.csv$",
        re.IGNORECASE,
    )
    found = {name: match for name in names if (match := pattern.search(name))}
    word = {"p": "person", "h": "housing"}[kind]
    if not found:
        raise SourceLayoutError(
            f"The archive holds no {word} file; it holds {', '.join(names)}",
            where=raw.provenance.path,
            expected=(
                f"a member psam_{kind}{state_fips}.csv (from 2017) or"
                f" ss{year % 100:02d}{kind}**.csv (before)"
            ),
            remedy=f"Take csv_{kind}<state>.zip of the {year} {period}-year PUMS",
        )
    for name, match in found.items():
        if match["state"] and match["state"].isdigit() and match["state"] != state_fips:
            raise SourceLayoutError(
                f"The archive is of state {match['state']}",
                where=f"{raw.provenance.path} member {name}",
                expected=f"state {state_fips}",
                remedy="Take the state's own file",
            )
        if match["yy"] and int(match["yy"]) != year % 100:
            raise SourceLayoutError(
                f"The archive is of 20{match['yy']}",
                where=f"{raw.provenance.path} member {name}",
                expected=f"PUMS {year}",
                remedy="Take the vintage of the profile",
            )
    return [read_member(raw, name) for name in sorted(found)]


def _read(
    raws: list[RawFile],
    required: tuple[str | tuple[str, ...], ...],
    optional: tuple[str, ...],
    state_fips: str,
) -> SurveyColumns:
    """The columns of the state's rows from one or several members. Raises SourceLayoutError for
    another state, RecordsError for none at all.
    """
    parts = []
    others: set[str] = set()
    for raw in raws:
        columns = SurveyColumns.read(raw, required, optional)
        state = columns.integer(columns.first_of("ST", "STATE"), low=1, high=72, nullable=False)
        mine = state == int(state_fips)
        others |= {f"{value:02d}" for value in state.filter(~mine).unique()}
        parts.append(columns if mine.all() else columns.filter(mine))
    result = (
        parts[0]
        if len(parts) == 1
        else SurveyColumns(
            pl.concat([part.frame for part in parts], how="vertical"),
            f"{parts[0].label} and {len(parts) - 1} more",
        )
    )
    if result.frame.is_empty():
        if others and len(raws) == 1:
            raise SourceLayoutError(
                f"The file holds state {', '.join(sorted(others))}",
                where=f"{result.label}, column ST",
                expected=f"state {state_fips}",
                remedy="Take the state's own file",
            )
        raise RecordsError(
            "A state has no records",
            where=result.label,
            expected=f"person records of state {state_fips}",
            remedy="Check the state, or download the file again",
        )
    if others and len(raws) == 1:
        raise SourceLayoutError(
            f"The file mixes states {state_fips} and {', '.join(sorted(others))}",
            where=f"{result.label}, column ST",
            expected="one state",
            remedy="Take the published file",
        )
    return result


def _check_year(columns: SurveyColumns, year: int, period: int, notes: list[SourceNote]) -> None:
    """Serial numbers of 13 characters begin with the interview year; ADJINC of the last year's
    records is published in the data dictionary.
    """
    serial = columns.text("SERIALNO")
    has_year = (serial.str.len_chars() == 13).all()
    years = serial.str.head(4).cast(pl.Int32, strict=False)
    remedy = f"Take the {year} {period}-year PUMS, or change the vintage in the profile"
    if has_year:
        allowed = pl.int_range(year - period + 1, year + 1, eager=True)
        bad = ~years.is_in(allowed.implode()).fill_null(False)
        if bad.any():
            raise SourceLayoutError(
                f"SERIALNO {serial.filter(bad)[0]} is of another year; years found:"
                f" {', '.join(map(str, years.unique().sort()))}",
                where=(
                    f"{columns.label}, line {columns.frame[LINE].filter(bad)[0]}, column SERIALNO"
                ),
                expected=f"interview years {allowed[0]} to {allowed[-1]}",
                remedy=remedy,
            )
    adjustment = columns.integer("ADJINC", low=500_000, high=3_000_000, nullable=False)
    last = adjustment.filter(years == year) if has_year else adjustment
    if last.is_empty():
        return
    found = int(last[0])
    known = ADJINC_BY_YEAR.get(year)
    other = [y for y, value in ADJINC_BY_YEAR.items() if value == found and y != year]
    if other and period == 1:
        raise SourceLayoutError(
            f"ADJINC is {found}, the factor of {other[0]}",
            where=f"{columns.label}, column ADJINC",
            expected=f"{known} for {year}",
            remedy=remedy,
        )
    if known is None or found != known:
        notes.append(
            SourceNote(
                "adjinc_unverified",
                len(last),
                f"records with ADJINC {found}; the data dictionary value known for {year} is"
                f" {known}; the file's value was applied",
            )
        )


def _persons(
    columns: SurveyColumns, year: int, state_fips: str, source: str, notes: list[SourceNote]
) -> pl.DataFrame:
    """The persons table, in file order."""
    serial = columns.text("SERIALNO")
    number = columns.integer("SPORDER", low=1, high=99, nullable=False)
    duplicated = pl.struct(serial.alias("s"), number.alias("n"))
    repeats = columns.frame.select(
        duplicated.is_duplicated() & ~duplicated.is_first_distinct()
    ).to_series()
    if repeats.any():
        line = columns.frame[LINE].filter(repeats)[0]
        raise SourceValueError(
            f"Person {serial.filter(repeats)[0]} number {number.filter(repeats)[0]} appears twice"
            f" ({int(repeats.sum()):,} repeated lines)",
            where=f"{columns.label}, line {line}, columns SERIALNO and SPORDER",
            expected="each person once",
            remedy="The file was concatenated or edited: download it again",
        )
    relationship_column = columns.first_of("RELP", "RELSHIPP")
    relationship = columns.coded(
        relationship_column, RELP if relationship_column == "RELP" else RELSHIPP, nullable=False
    )
    group_quarters = relationship.str.starts_with("gq_")
    for mark, expected in (("HU", False), ("GQ", True)):
        wrong = serial.str.contains(mark, literal=True) & (group_quarters != expected)
        if wrong.any():
            raise columns.fail(
                relationship_column, wrong, f"a code that agrees with {mark} in SERIALNO"
            )
    # Every group-quarters person has a serial number of his own; should one repeat, the person
    # number keeps the units apart.
    shared = group_quarters & serial.is_duplicated()
    household_id = columns.frame.select(
        pl.format("acs{}-{}", pl.lit(str(year)), serial)
        + pl.when(shared)
        .then(pl.format("-{}", number.cast(pl.String).str.zfill(2)))
        .otherwise(pl.lit(""))
    ).to_series()
    age = columns.integer("AGEP", low=0, high=120, nullable=False)
    adult = age >= 16
    factor = columns.integer("ADJINC", nullable=False).cast(pl.Float64) / 1e6
    enrolled = columns.coded("SCH", {1: False, 2: True, 3: True}, dtype=pl.Boolean)
    grade = columns.coded("SCHG", SCHG)
    commute = columns.coded(columns.first_of("JWTR", "JWTRNS"), JWTR)
    riders = columns.integer("JWRIP", low=1, high=10)
    moved = columns.coded("MIG", MIG)
    if columns.has("MIGSP"):
        from_puerto_rico = (
            (columns.integer("MIGSP") == PUERTO_RICO).fill_null(False)
            & (int(state_fips) != PUERTO_RICO)
            & (moved == "different_house_us").fill_null(False)
        )
        if from_puerto_rico.any():
            notes.append(
                SourceNote(
                    "moved_from_puerto_rico",
                    int(from_puerto_rico.sum()),
                    "persons who moved from Puerto Rico, counted as moved from abroad as ACS"
                    " tables do",
                )
            )
    else:
        from_puerto_rico = pl.Series([False]).new_from_index(0, len(age))
        notes.append(
            SourceNote(
                "migsp_missing",
                0,
                "MIGSP is not in the file: moves from Puerto Rico stay moves inside the US",
            )
        )
    weeks_column = columns.first_of("WKWN", "WKW")
    weeks = (
        columns.integer("WKWN", low=1, high=52)
        if weeks_column == "WKWN"
        else columns.coded("WKW", WKW, dtype=pl.Int32)
    )
    hours = columns.integer("WKHP", low=1, high=99)
    citizenship = columns.integer("CIT", low=1, high=5, nullable=False)
    puma = columns.integer(columns.first_of("PUMA", "PUMA20"), nullable=False)
    known_puma = puma > 0  # -9: the record is of the other PUMA vintage of a five-year file
    if not known_puma.all():
        notes.append(
            SourceNote(
                "puma_of_other_vintage",
                int((~known_puma).sum()),
                "records carry only the other PUMA vintage; their PUMA is null",
            )
        )
    esr = columns.integer("ESR", low=1, high=6)
    frame = pl.DataFrame(
        {
            "household_id": household_id,
            "person_number": number,
            "is_group_quarters": group_quarters,
            "weight": columns.number("PWGTP", low=0, nullable=False),
            "age": age,
            "sex": columns.coded("SEX", {1: "male", 2: "female"}, nullable=False),
            "relationship": relationship,
            "marital_status": columns.coded("MAR", MAR, nullable=False),
            "race": columns.coded("RAC1P", RAC1P, nullable=False),
            "hispanic": columns.integer("HISP", low=1, high=24, nullable=False) != 1,
            "education": columns.integer("SCHL", low=1, high=24),
            "employment": columns.coded("ESR", ESR),
            "at_work": esr.is_in([1, 4]),
            "class_of_worker": columns.coded("COW", COW),
            "disability": columns.coded("DIS", yes_no([1], [2]), dtype=pl.Boolean),
            "veteran": columns.coded("MIL", yes_no([2], [1, 3, 4]), dtype=pl.Boolean),
            "foreign_born": columns.coded(
                "NATIVITY", {1: False, 2: True}, dtype=pl.Boolean, nullable=False
            ),
            "citizen": citizenship != 5,
            "naturalized": citizenship == 4,
            "other_language": columns.coded("LANX", yes_no([1], [2]), dtype=pl.Boolean),
            "gave_birth": columns.coded("FER", yes_no([1], [2], [8]), dtype=pl.Boolean),
            "poverty_ratio": columns.integer("POVPIP", low=0, high=501),
            **{
                name: columns.number(code, low=None if code in SIGNED else 0) * factor
                for name, code in AMOUNT_COLUMNS.items()
            },
        }
    )
    derived = frame.with_columns(
        pl.lit(source).alias("source"),
        pl.lit(state_fips).alias("state_fips"),
        pl.when(known_puma)
        .then(pl.format("{}{}", pl.lit(state_fips), puma.cast(pl.String).str.zfill(5)))
        .alias("puma"),
        pl.lit(None, dtype=pl.String).alias("county_fips"),
        pl.when(enrolled).then(grade).when(~enrolled).then(pl.lit("not_enrolled")).alias("school"),
        pl.when((commute == "drove_alone") & (riders > 1))
        .then(pl.lit("carpooled"))
        .otherwise(commute)
        .alias("commute"),
        pl.when(from_puerto_rico).then(pl.lit("abroad")).otherwise(moved).alias("moved"),
        pl.when(adult).then(weeks.fill_null(0)).cast(pl.Int32).alias("weeks_worked"),
        pl.when(adult).then(hours.fill_null(0)).cast(pl.Int32).alias("hours_worked"),
        pl.lit(None, dtype=pl.Float64).alias("unemployment_compensation"),
    )
    _check_income(derived, notes)
    return derived


def _check_income(persons: pl.DataFrame, notes: list[SourceNote]) -> None:
    """PINCP is the sum of its eight components; count the records where it is not (beyond a
    dollar).
    """
    parts = [name for name in AMOUNT_COLUMNS if name != "total_income"]
    off = persons.filter((pl.col("total_income") - sum_across(parts)).abs() > 1.0).height
    if off:
        notes.append(
            SourceNote(
                "income_does_not_add_up",
                off,
                "persons whose PINCP is not the sum of its components",
            )
        )


def _one_reference_person(persons: pl.DataFrame, where: str) -> None:
    counts = (
        persons.filter(~pl.col("is_group_quarters"))
        .group_by("household_id")
        .agg((pl.col("relationship") == "reference_person").sum().alias("heads"))
    )
    wrong = counts.filter(pl.col("heads") != 1).sort("household_id")
    if wrong.height:
        raise RecordsError(
            f"{wrong.height:,} households have no reference person or several; the first has"
            f" {wrong['heads'][0]}",
            where=f"{where}, household {wrong['household_id'][0]}",
            expected="exactly one person with RELP 0 or RELSHIPP 20 in each housing unit",
            remedy="The file was cut or edited: download it again",
        )


def _rebuild_households(persons: pl.DataFrame, where: str) -> pl.DataFrame:
    """Households from person records alone: weight PWGTP of the reference person, income the sum of
    the members' total income.
    """
    _one_reference_person(persons, where)
    head = (pl.col("relationship") == "reference_person") | pl.col("is_group_quarters")
    return persons.group_by("household_id").agg(
        pl.col("source", "state_fips", "puma", "county_fips", "is_group_quarters").first(),
        pl.col("weight").filter(head).first(),
        pl.len().cast(pl.Int32).alias("persons"),
        pl.lit(None, dtype=pl.String).alias("tenure"),
        pl.when(~pl.col("is_group_quarters").first())
        .then(sum_in_order("total_income", "person_number"))
        .alias("household_income"),
        pl.lit(None, dtype=pl.Boolean).alias("food_stamps"),
    )


def _housing(
    columns: SurveyColumns, persons: pl.DataFrame, source: str, year: int, notes: list[SourceNote]
) -> pl.DataFrame:
    """Households from the housing file; group-quarters persons get units of their own, vacant units
    are counted and left out.
    """
    _one_reference_person(persons, columns.label)
    serial = columns.text("SERIALNO")
    if serial.is_duplicated().any():
        raise columns.fail(
            "SERIALNO",
            ~columns.frame.select(pl.col("SERIALNO").is_first_distinct()).to_series(),
            "each housing unit once",
        )
    kind = columns.coded(
        columns.first_of("TYPE", "TYPEHUGQ"), {1: "unit", 2: "gq", 3: "gq"}, nullable=False
    )
    size = columns.integer("NP", low=0, high=99, nullable=False)
    weight = columns.number("WGTP", low=0, nullable=False)
    vacant = (kind == "unit") & (size == 0)
    notes.append(
        SourceNote(
            "vacant",
            int(vacant.sum()),
            f"vacant housing units left out; weight {weight.filter(vacant).sum():,.0f} of"
            f" {weight.sum():,.0f} housing units",
        )
    )
    factor = columns.integer("ADJINC", nullable=False).cast(pl.Float64) / 1e6
    read = pl.DataFrame(
        {
            "household_id": pl.Series([f"acs{year}-"]).new_from_index(0, len(serial)) + serial,
            "weight": weight,
            "persons": size,
            "tenure": columns.coded("TEN", {1: "owner", 2: "owner", 3: "renter", 4: "renter"}),
            "household_income": columns.number("HINCP") * factor,
            "food_stamps": columns.coded("FS", yes_no([1], [2]), dtype=pl.Boolean),
        }
    ).filter((kind == "unit") & ~vacant)
    place = persons.group_by("household_id").agg(
        pl.col("state_fips", "puma", "county_fips", "is_group_quarters").first()
    )
    units = read.join(place, on="household_id", how="left")
    orphan_households = units.filter(pl.col("is_group_quarters").is_null())
    orphan_persons = persons.filter(~pl.col("is_group_quarters")).join(
        read, on="household_id", how="anti"
    )
    if orphan_households.height or orphan_persons.height:
        first = (orphan_households if orphan_households.height else orphan_persons)[
            "household_id"
        ].sort()[0]
        raise RecordsError(
            f"{orphan_households.height:,} occupied housing units have no persons, and"
            f" {orphan_persons.height:,} persons have no housing unit",
            where=f"{columns.label}, household {first}",
            expected="the same serial numbers in the person and the housing file",
            remedy="Take both files of the same state, year and edition",
        )
    group_quarters = _rebuild_households(persons.filter("is_group_quarters"), columns.label)
    return pl.concat(
        [
            units.with_columns(pl.lit(source).alias("source")).select(group_quarters.columns),
            group_quarters,
        ]
    )
