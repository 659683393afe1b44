"""What is done to real files for ``mutated_files.py``: 20 kinds of lies over every source of the
profiles.

Belongs here: which edit of ``pipeline/sample/lies.py`` is made to which file. Does not belong here:
what becomes of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from pipeline.sample import lies
from pipeline.sample.lies import Edit, RowEdit, starts

RI, CO = "rhode_island", "counties_2018"
_TRACTS = "acs_tables/ri_tracts/tracts_{}_retrieved_data.json"
_PROFILE_A, _PROFILE_B = (
    _TRACTS.format(f"acs2022_{part}") for part in ("pophousing", "socialecon")
)
_CENSUS = _TRACTS.format("census2020_count")
_S1901 = "acs_tables/county_us/ACSST5Y{}.S1901-Data.csv"
_SVI = "acs_tables/county_us/SVI_2022_US_county.csv"
_SVI18 = "acs_tables/county_us/SVI2018_US_COUNTY.csv"
_ACS1 = "acs_tables/state_us_2018_1yr/bystate/acs-acs1-2018-GROUP_{}_DATA.csv"
_IRS, _IRS12, _HT2 = ("irs/22incyallnoagi_ri.csv", "irs/12cyallnoagi.csv", "irs/22in55cmcsv.csv")
_PEP24, _PEP19 = "pep/co-est2024-alldata.csv", "pep/co-est2019-alldata.csv"
_AGES = "pep/nc-est2024-agesex-res.csv"
_OASDI = "ssa/oasdi_states_csv/2022 - {}.csv"
_SSI = "ssa/ssi_sc24.xlsx"
_SSI_RI, _SSI_ID = "Table 3 - Rhode Island", "Table 3 - Idaho"
_PUMS_RI, _PUMS_ID = "acs_pums/2018_1yr/csv_pri.zip", "acs_pums/2018_1yr/csv_pid.zip"
_GEO = "geo/2020_Census_Tract_to_2020_PUMA.zip"


@dataclass(frozen=True)
class Mutation:
    """One edited file, or another vintage's file (``instead``) under its name. ``state`` is the
    state whose targets are looked at."""

    kind: str
    profile: str
    source: str
    vintage: str
    path: str
    what: str
    edit: Edit | None
    state: str
    instead: str = ""


@dataclass(frozen=True)
class Form:
    """A file of one form: how an edit of rows is applied, its keys, its first row of figures, and
    two areas of the state."""

    profile: str
    source: str
    vintage: str
    path: str
    wrap: Callable[[RowEdit], Edit]
    state: str
    keys: tuple[str, ...] = ()
    code: str = ""
    first: int = 1
    of_state: Callable[[list[str]], bool] = lambda row: True
    one: Callable[[list[str]], bool] = lambda row: False
    other: Callable[[list[str]], bool] = lambda row: False
    amounts: tuple[str, ...] = ()
    counts: tuple[str, ...] = ()
    swaps: tuple[tuple[tuple[str, str], ...], ...] = ()
    percents: tuple[str, ...] = ()
    ages: tuple[str, ...] = ()

    def make(self, kind: str, what: str, edit: RowEdit) -> Mutation:
        own = (self.profile, self.source, self.vintage, self.path)
        return Mutation(kind, *own, what, self.wrap(edit), self.state)


def _is(**cells: str) -> Callable[[list[str]], bool]:
    """Rows by the cells at numbered places: ``_is(c0="44", c2="007")``."""
    wanted = {int(name[1:]): text for name, text in cells.items()}
    return lambda row: all(str(row[n]).strip() == text for n, text in wanted.items())


def _both(
    one: Callable[[list[str]], bool], other: Callable[[list[str]], bool]
) -> Callable[[list[str]], bool]:
    return lambda row: one(row) and other(row)


def _tract(code: str) -> Callable[[list[str]], bool]:
    return starts(0, f"1400000US{code}")


def _county(code: str) -> Callable[[list[str]], bool]:
    return starts(0, f"0500000US{code}")


def _percent_names(columns: Sequence[str]) -> tuple[str, ...]:
    return tuple(column[:-1] + "PE" for column in columns)


def _whole(a: str, b: str) -> tuple[tuple[str, str], ...]:
    """Estimate, margin and percentages of two columns of a profile table."""
    return tuple((f"{a}{part}", f"{b}{part}") for part in ("E", "M", "PE", "PM"))


_TRACT_AREAS = {
    "keys": ("GEO_ID", "NAME"),
    "one": _tract("44007010102"),
    "other": _tract("44003020901"),
}
FORMS = (
    Form(
        *(RI, "acs5_profile_tracts", "2022", _PROFILE_A, lies.answer, "RI"),
        **_TRACT_AREAS,
        counts=("DP05_0001E", "DP05_0024E", "DP05_0073E", "DP04_0046E", "DP05_0038E", "DP05_0089E"),
        swaps=(
            (("DP05_0002E", "DP05_0003E"),),
            _whole("DP05_0002", "DP05_0003"),
            (("DP05_0019E", "DP05_0019M"),),
            (("DP04_0046E", "DP04_0046M"),),
            _whole("DP04_0046", "DP04_0047"),
            _whole("DP05_0037", "DP05_0038"),
        ),
        ages=("DP05_0019E", "DP05_0021E", "DP05_0024E"),
    ),
    Form(
        *(RI, "acs5_profile_tracts", "2022", _PROFILE_B, lies.answer, "RI"),
        **_TRACT_AREAS,
        amounts=("DP03_0063E",),
        counts=("DP02_0001E", "DP03_0004E", "DP02_0068E", "DP03_0005E", "DP02_0096E", "DP03_0063E"),
        swaps=(
            (("DP03_0004E", "DP03_0005E"),),
            _whole("DP02_0096", "DP02_0097"),
            (("DP03_0063E", "DP03_0063M"),),
            _whole("DP02_0067", "DP02_0068"),
            _whole("DP03_0019", "DP03_0020"),
        ),
    ),
    Form(
        *(RI, "census2020_dp_tracts", "2020", _CENSUS, lies.answer, "RI"),
        **_TRACT_AREAS,
        counts=("DP1_0001C", "DP1_0030C", "DP1_0054C", "DP1_0146C", "DP1_0133C", "DP1_0138C"),
        swaps=(
            (("DP1_0025C", "DP1_0049C"),),
            (("DP1_0145C", "DP1_0146C"),),
            (("DP1_0138C", "DP1_0142C"),),
            (("DP1_0133C", "DP1_0135C"),),
        ),
        ages=tuple(f"DP1_{n:04d}C" for n in range(26, 44)),
    ),
    *(
        Form(
            *(profile, "acs5_s1901_counties", year, _S1901.format(year), lies.csv_file, state),
            keys=("GEO_ID", "NAME"),
            first=2,
            of_state=_county(fips),
            one=_county(f"{fips}007"),
            other=_county(f"{fips}{other}"),
            amounts=("S1901_C01_013E",),
            counts=("S1901_C01_001E", "S1901_C01_006E", "S1901_C01_013E"),
            swaps=(
                (("S1901_C01_001E", "S1901_C01_001M"),),
                (("S1901_C01_004E", "S1901_C01_008E"),),
                (("S1901_C01_012E", "S1901_C01_013E"),),
            ),
            percents=tuple(f"S1901_C01_{n:03d}E" for n in range(2, 12)),
        )
        for profile, year, state, fips, other in (
            (RI, "2022", "RI", "44", "003"),
            (CO, "2018", "ID", "16", "019"),
        )
    ),
    *(
        Form(
            *(profile, "svi_counties", year, path, lies.csv_file, state),
            keys=keys,
            code="FIPS",
            of_state=starts(0, fips),
            one=_is(**{place: f"{fips}{one}"}),
            other=_is(**{place: f"{fips}{other}"}),
            counts=counts,
            swaps=(
                (("E_AGE65", "E_AGE17"),),
                (("E_AGE65", "M_AGE65"),),
                ((counts[1], "E_NOHSDP"),),
                (("E_DISABL", "E_MINRTY"), ("EP_DISABL", "EP_MINRTY")),
            ),
            percents=("EP_AGE65", "EP_AGE17", "EP_MINRTY"),
        )
        for profile, year, path, state, fips, one, other, keys, counts, place in (
            (
                *(RI, "2022", _SVI, "RI", "44", "007", "003"),
                ("ST", "STATE", "ST_ABBR", "STCNTY", "COUNTY", "FIPS", "LOCATION"),
                ("E_TOTPOP", "E_POV150", "E_HH", "E_AGE65"),
                "c5",
            ),
            (
                *(CO, "2018", _SVI18, "ID", "16", "001", "019"),
                ("ST", "STATE", "ST_ABBR", "COUNTY", "FIPS", "LOCATION"),
                ("E_TOTPOP", "E_POV", "E_HH", "E_DISABL"),
                "c4",
            ),
        )
    ),
    *(
        Form(
            *(CO, "acs1_detailed", "2018", _ACS1.format(table), lies.csv_file, "ID"),
            keys=("GEO_ID", "NAME", "state"),
            code="GEO_ID",
            one=lambda row: any(str(cell) == "0400000US16" for cell in row),
            other=lambda row: any(str(cell) == "0400000US44" for cell in row),
            amounts=amounts,
            counts=counts,
            swaps=swaps,
            ages=ages,
        )
        for table, amounts, counts, swaps, ages in (
            (
                *("B01001", (), ("B01001_001E", "B01001_010E")),
                ((("B01001_002E", "B01001_026E"),), (("B01001_003E", "B01001_003M"),)),
                tuple(f"B01001_{n:03d}E" for n in range(3, 26)),
            ),
            ("B17001", (), ("B17001_002E",), ((("B17001_002E", "B17001_031E"),),), ()),
            ("B19001", (), ("B19001_005E",), ((("B19001_002E", "B19001_017E"),),), ()),
            ("B15003", (), ("B15003_022E",), ((("B15003_017E", "B15003_022E"),),), ()),
            ("B03002", (), ("B03002_012E",), ((("B03002_003E", "B03002_012E"),),), ()),
            ("B19025", ("B19025_001E",), ("B19025_001E",), (), ()),
            ("B19065", ("B19065_001E",), ("B19065_001E",), (), ()),
        )
    ),
    *(
        Form(
            *(profile, "irs_county", year, path, lies.csv_file, state),
            keys=keys,
            code="COUNTYFIPS",
            of_state=_both(starts(0, fips), lambda row: row[2] not in ("000", "0")),
            one=_is(c0=fips, c2="007"),
            other=_is(c0=fips, c2=other),
            amounts=("A00100", "A00200", "A01700"),
            counts=("N1", "A00200", "N2", "MARS2"),
            swaps=((("N1", "N2"),), (("MARS1", "MARS2"),), (("A00100", "A00200"),)),
        )
        for profile, year, path, state, fips, other, keys in (
            (
                *(RI, "2022", _IRS, "RI", "44", "003"),
                ("STATEFIPS", "STATE", "COUNTYFIPS", "COUNTYNAME", "agi_stub"),
            ),
            (
                *(CO, "2012", _IRS12, "ID", "16", "019"),
                ("STATEFIPS", "STATE", "COUNTYFIPS", "COUNTYNAME", "AGI_STUB"),
            ),
        )
    ),
    Form(
        *(RI, "irs_historic_table_2", "2022", _HT2, lies.csv_file, "RI"),
        keys=("STATE", "AGI_STUB"),
        of_state=_is(c0="RI"),
        one=_is(c0="RI"),
        other=_is(c0="NH"),
        amounts=("A00100", "A00200", "A02500", "A01700"),
        counts=("N1", "A00100", "MARS1", "N00200"),
        swaps=((("MARS1", "MARS2"),), (("A00200", "A00100"),), (("N02300", "N02500"),)),
    ),
    *(
        Form(
            *(profile, "pep_counties", year, path, lies.csv_file, state),
            keys=("SUMLEV", "REGION", "DIVISION", "STATE", "COUNTY", "STNAME", "CTYNAME"),
            code="COUNTY",
            of_state=_both(starts(3, fips), lambda row: row[0] in ("050", "50")),
            one=lambda row, f=fips: row[3] == f and row[4].zfill(3) == "007",
            other=lambda row, f=fips, o=other: row[3] == f and row[4].zfill(3) == o,
            counts=(f"POPESTIMATE{year}", f"POPESTIMATE{int(year) - 1}"),
            swaps=(((f"POPESTIMATE{year}", f"POPESTIMATE{int(year) - 1}"),),),
        )
        for profile, year, path, state, fips, other in (
            (RI, "2024", _PEP24, "RI", "44", "003"),
            (CO, "2019", _PEP19, "ID", "16", "019"),
        )
    ),
    Form(
        *(RI, "pep_age_sex", "2024", _AGES, lies.csv_file, "RI"),
        keys=("SEX", "AGE"),
        one=_is(c0="1", c1="30"),
        other=_is(c0="2", c1="30"),
        counts=("POPESTIMATE2022", "POPESTIMATE2020"),
        swaps=((("POPESTIMATE2020", "POPESTIMATE2022"),),),
    ),
)


def all_mutations() -> Iterator[Mutation]:
    """Every mutation, form by form, then those of surveys, workbooks and lists."""
    for form in FORMS:
        yield from _of_form(form)
    yield from _of_surveys()
    yield from _of_ssa()
    yield from _of_other_years()


def _of_form(form: Form) -> Iterator[Mutation]:
    """The kinds that a delimited table allows."""
    for column in form.amounts:
        for kind, factor in (("dollars_for_thousands", 1000.0), ("divided_by_1000", 0.001)):
            yield form.make(kind, column, lies.changed([column], lies.times(factor), form.first))
    # Of tracts the first with three digits: many have fewer.
    which = form.of_state if form.wrap is lies.answer else form.one
    for column in form.counts:
        edit = lies.digit_dropped(column, which, form.first)
        yield form.make("digit_dropped", f"{column} of one area", edit)
    code = form.code or form.keys[0]
    yield form.make("codes_exchanged", code, lies.keys_exchanged((code,), form.one, form.other))
    yield form.make(
        "areas_exchanged", "all keys", lies.keys_exchanged(form.keys, form.one, form.other)
    )
    shift = lies.rows_shifted(form.keys, form.of_state, form.first)
    yield form.make("rows_shifted", "figures below their keys", shift)
    yield form.make("area_missing", "one area", lies.rows_missing(form.one, form.first))
    for pairs in form.swaps:
        name = " and ".join(pairs[0])
        yield form.make("headers_swapped", name, lies.headers_swapped(*pairs))
    if form.percents:
        edit = lies.changed(form.percents, lies.times(0.01), form.first)
        yield form.make("percent_as_fraction", f"{len(form.percents)} columns", edit)
    if form.ages:
        yield form.make(
            "ages_shifted", f"{len(form.ages)} columns", lies.headers_rotated(form.ages)
        )
    if form.counts:
        edit = lies.changed(form.counts[:1], lies.times(1.02), form.first)
        yield form.make("two_percent_more", form.counts[0], edit)


def _of_other_years() -> Iterator[Mutation]:
    """Files of another year under the name of the year asked for."""
    for profile, source, year, path, state, instead in (
        (RI, "acs5_s1901_counties", "2022", _S1901.format("2022"), "RI", _S1901.format("2021")),
        (CO, "acs5_s1901_counties", "2018", _S1901.format("2018"), "ID", _S1901.format("2019")),
        (RI, "svi_counties", "2022", _SVI, "RI", _SVI.replace("2022", "2020")),
        (CO, "svi_counties", "2018", _SVI18, "ID", _SVI.replace("2022", "2014")),
        (RI, "irs_historic_table_2", "2022", _HT2, "RI", "irs/21in55cmcsv.csv"),
        (RI, "pep_counties", "2024", _PEP24, "RI", "pep/co-est2023-alldata.csv"),
        (CO, "pep_counties", "2019", _PEP19, "ID", "pep/co-est2020-alldata.csv"),
        (RI, "ssa_ssi_counties", "2024", _SSI, "RI", "ssa/ssi_sc21.xlsx"),
        (
            RI,
            "ssa_oasdi_states",
            "2022",
            _OASDI.format("Beneficiaries"),
            "RI",
            "ssa/oasdi_states_csv/2024 - Beneficiaries.csv",
        ),
    ):
        own = (profile, source, year, path, f"{instead} in its place")
        yield Mutation("another_year", *own, None, state, instead)


def _of_surveys() -> Iterator[Mutation]:
    """Codes of persons; the files are zipped."""
    for profile, path, state, pumas in (
        (RI, _PUMS_RI, "RI", ("00201", "00400")),
        (CO, _PUMS_ID, "ID", ("00100", "00500")),
    ):
        own = (profile, "acs_pums_1yr", "2018", path)
        for kind, column, codes in (
            ("sex_codes", "SEX", {"1": "2", "2": "1"}),
            ("race_codes", "RAC1P", {"1": "2", "2": "1"}),
            ("race_codes", "RAC1P", {"6": "2", "2": "6"}),
            ("origin_codes", "HISP", {"01": "02", "02": "01", "1": "2", "2": "1"}),
            ("schooling_codes", "SCHL", {"21": "16", "16": "21"}),
            ("puma_codes", "PUMA", {pumas[0]: pumas[1], pumas[1]: pumas[0]}),
            ("married_codes", "MAR", {"1": "5", "5": "1"}),
        ):
            edit = lies.member(lies.codes_exchanged(column, codes))
            yield Mutation(kind, *own, column, edit, state)
        for column in ("AGEP", "PWGTP"):
            edit = lies.member(lies.column_shifted(column))
            yield Mutation(
                "record_shifted", profile, "acs_pums_1yr", "2018", path, column, edit, state
            )
        for column, factor in (("WAGP", 10.0), ("SSP", 0.001), ("PWGTP", 1.02)):
            edit = lies.member(lies.changed([column], lambda c, f=factor: f"{float(c) * f:.0f}"))
            what = f"{column} times {factor:g}"
            yield Mutation(
                "amounts_scaled", profile, "acs_pums_1yr", "2018", path, what, edit, state
            )


def _of_ssa() -> Iterator[Mutation]:
    """Workbooks and tables of the SSA: rows by place, since headings lie over several rows."""
    for name, column in (("Beneficiaries", 3), ("Benefits", 3), ("Beneficiaries", 12)):
        for kind, edit in _by_place("Rhode Island", "Delaware", column):
            own = (RI, "ssa_oasdi_states", "2022", _OASDI.format(name), f"column {column + 1}")
            yield Mutation(kind, *own, lies.csv_file(edit), "RI")
    for profile, sheet, state, one, other in (
        (RI, _SSI_RI, "RI", "Kent", "Providence"),
        (CO, _SSI_ID, "ID", "Ada", "Bonneville"),
    ):
        for column in (3, 10):
            for kind, edit in _by_place(one, other, column):
                own = (profile, "ssa_ssi_counties", "2024", _SSI, f"{sheet}, column {column + 1}")
                yield Mutation(kind, *own, lies.sheet(edit, sheet), state)


def _by_place(one: str, other: str, column: int) -> Iterator[tuple[str, RowEdit]]:
    """A digit dropped, a column scaled, two rows' figures exchanged, a row missing."""

    def places(rows: lies.Rows) -> tuple[int, int]:
        found = [
            next(n for n, row in enumerate(rows) if name in [str(c).strip() for c in row[:3]])
            for name in (one, other)
        ]
        return found[0], found[1]

    def dropped(rows: lies.Rows) -> lies.Rows:
        at, _ = places(rows)
        text = str(rows[at][column])
        rows[at] = [*rows[at][:column], text[:-1].rstrip(","), *rows[at][column + 1 :]]
        return rows

    def exchanged(rows: lies.Rows) -> lies.Rows:
        a, b = places(rows)
        rows[a], rows[b] = rows[a][:3] + rows[b][3:], rows[b][:3] + rows[a][3:]
        return rows

    def missing(rows: lies.Rows) -> lies.Rows:
        at, _ = places(rows)
        return rows[:at] + rows[at + 1 :]

    def scaled(rows: lies.Rows) -> lies.Rows:
        return [
            [*r[:column], lies.number(r[column], lies.times(1000)), *r[column + 1 :]]
            if len(r) > column
            else r
            for r in rows
        ]

    yield from (
        ("digit_dropped", dropped),
        ("areas_exchanged", exchanged),
        ("area_missing", missing),
        ("dollars_for_thousands", scaled),
    )
