"""Published figures of several years of one table, for ``benchmarks.carry_errors``.

Belongs here: reading the files of other years as they come, as (area, value, standard error), and
the rules that carry them. Does not belong here: comparing (``carry_errors.py``), or readers with
checks, which the product has for the files it uses (``pipeline/sources``). Files that are not there
leave their year out.

Years of a five-year table are its middle ones. Sampling errors are published margins / 1.645, taken
as independent between years, though five-year tables less than five years apart share interviews;
their spread is then a lower bound.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fastexcel
import polars as pl

from pipeline.sources.registry import read_source
from pipeline.specs.catalog import load_catalog
from pipeline.specs.factors import SeriesFactor, factor_of
from pipeline.specs.states import BY_NAME, OUTLYING_AREAS
from pipeline.targets.build import build_targets
from pipeline.targets.standard_errors import MARGIN_90

VALUE, SE = "value", "standard_error"
FigureTable = pl.DataFrame
"""Columns geoid (String), value, standard_error (Float64; 0 where there is no sampling)."""
Figures = Mapping[int, Mapping[str, FigureTable]]
Carry = Callable[["Series", str, int, int], "FigureTable | None"]

SVI_FILES = {2014: "SVI_2014_US_county.csv", 2018: "SVI_2018_US_county.csv"} | {
    year: f"SVI_{year}_US_county.csv" for year in (2020, 2022)
}
# Meanings changed in 2020 (POV to POV150; SNGPNT without cohabiting parents): not compared across.
SVI_BREAK = {"SNGPNT"}
SVI_ITEMS: tuple[str, ...] = (
    "AGE65",
    "AGE17",
    "POV",
    "POV150",
    "UNEMP",
    "NOHSDP",
    "DISABL",
    "SNGPNT",
    "MINRTY",
)
SVI_ITEMS += ("GROUPQ", "HH", "TOTPOP", "HISP", "AFAM", "ASIAN")
S1901_YEARS = (2010, 2012, 2013, 2018, 2019, 2020, 2021, 2022)
S1901_CLASSES: tuple[str, ...] = (
    "under_10000",
    "10000_14999",
    "15000_24999",
    "25000_34999",
    "35000_49999",
)
S1901_CLASSES += ("50000_74999", "75000_99999", "100000_149999", "150000_199999", "200000_plus")
IRS_2009 = {"Return_Num": "N1", "Exmpt_Num": "N2", "AGI": "A00100", "Wages_Salaries": "A00200"}
IRS_DOLLARS = {"A00100": "average_wage_index", "A00200": "average_wage_index", "A02500": "cola"}
IRS_ITEMS: tuple[str, ...] = (
    "N1",
    "MARS1",
    "MARS2",
    "MARS4",
    "N2",
    "A00100",
    "N00200",
    "A00200",
    "N02300",
)
IRS_ITEMS += ("N02500", "A02500", "A00900")
SSI_BOOKS = {2011: "ssi_sc11.xlsx", 2017: "ssi_sc17.xlsx", 2024: "ssi_sc24.xlsx"}
SSI_FIRST_COLUMN = {"total": 3, "age_under_18": 6, "age_18_64": 7, "age_65_plus": 8}
OASDI_YEARS = (2005, 2010, 2017, 2018, 2022, 2024)


@dataclass(frozen=True, eq=False)
class Series:
    """One table over the years, and one rule that carries it.

    ``figures`` : by year and item. ``carry`` : the carried figures, or None where the rule has not
    what it needs. ``apart`` : smallest lag compared. ``breaks`` : items by the year in which their
    meaning changed.
    """

    table: str
    level: str
    rule: str
    figures: Figures
    carry: Carry
    apart: int = 1
    breaks: Mapping[str, int] = field(default_factory=dict)

    def wanted(self, first: int, last: int) -> bool:
        """Whether the two years are compared."""
        return last - first >= self.apart

    def items(self, first: int, last: int) -> list[str]:
        """What both years hold under one meaning."""
        both = [i for i in self.figures[first] if i in self.figures[last]]
        return [i for i in both if not first < self.breaks.get(i, first) <= last]

    def carried(self, item: str, first: int, last: int) -> FigureTable | None:
        """The figures of ``first`` carried to ``last``."""
        return self.carry(self, item, first, last)


def unchanged(series: Series, item: str, first: int, last: int) -> FigureTable | None:
    """The rule ``none``."""
    return series.figures[first][item]


def by_trend(series: Series, item: str, first: int, last: int) -> FigureTable | None:
    """The state's geometric growth over the two years before goes on: the rule ``own_growth``."""
    before = [year for year in series.figures if year < first and item in series.figures[year]]
    if not before or first < series.breaks.get(item, 0) < last:
        return None
    state = pl.col("geoid").str.slice(0, 2)
    old = series.figures[max(before)][item].group_by(state.alias("state")).agg(old=pl.sum(VALUE))
    new = series.figures[first][item].with_columns(state.alias("state"))
    span = (last - first) / (first - max(before))
    growth = (pl.col(VALUE).sum().over("state") / pl.col("old")) ** span
    return _times(new.join(old, on="state"), growth)


def by_population(data: Path, index: Mapping[str, SeriesFactor] | None = None) -> Carry:
    """Growth of the area's population estimate, and of an index series for items that name one."""
    estimates = _population(data)
    series_of = {} if index is None else index

    def carry(series: Series, item: str, first: int, last: int) -> FigureTable | None:
        if first not in estimates or last not in estimates:
            return None
        before = estimates[first].rename({VALUE: "before"})
        after = estimates[last].rename({VALUE: "after"})
        rows = series.figures[first][item].join(before, on="geoid").join(after, on="geoid")
        prices = series_of[item].factor(first, last) if item in series_of else 1.0
        return _times(rows, pl.col("after") / pl.col("before") * prices)

    return carry


def _times(rows: pl.DataFrame, growth: pl.Expr) -> FigureTable:
    return rows.select("geoid", pl.col(VALUE) * growth, pl.col(SE) * growth)


def _exact(frame: pl.DataFrame, geoid: pl.Expr, value: pl.Expr) -> FigureTable:
    return frame.select(geoid=geoid, value=value, standard_error=pl.lit(0.0)).drop_nulls()


def _number(column: str) -> pl.Expr:
    return pl.col(column).str.replace_all("[, ]", "").cast(pl.Float64, strict=False)


def _text(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False, encoding="latin-1")


def _population(data: Path) -> dict[int, pl.DataFrame]:
    """By year: geoid (state or county) and the population estimate, of the latest vintage."""
    found: dict[int, pl.DataFrame] = {}
    for vintage, years in (("2019", range(2010, 2020)), ("2024", range(2020, 2025))):
        frame = _text(data / f"pep/co-est{vintage}-alldata.csv")
        county = pl.col("COUNTY").str.zfill(3)
        state = pl.col("STATE").str.zfill(2)
        geoid = pl.when(county == "000").then(state).otherwise(state + county)
        for year in years:
            found[year] = frame.select(geoid=geoid, value=_number(f"POPESTIMATE{year}"))
    return found


def all_series(data: Path) -> Iterator[Series]:
    """Every table and rule that is measured."""
    folder = data / "acs_tables/county_us"
    svi = {year - 2: _svi(folder / name) for year, name in SVI_FILES.items()}
    breaks = dict.fromkeys(SVI_BREAK, 2018)
    for rule, carry in (
        ("none", unchanged),
        ("population", by_population(data)),
        ("own_growth", by_trend),
    ):
        yield Series("SVI (ACS 5-year)", "county", rule, svi, carry, breaks=breaks)
        states = {year: {i: _by_state(t) for i, t in items.items()} for year, items in svi.items()}
        yield Series("SVI (ACS 5-year)", "state", rule, states, carry, breaks=breaks)
    yield from _tracts(data, breaks)
    s1901 = {year - 2: _s1901(folder / f"ACSST5Y{year}.S1901-Data.csv") for year in S1901_YEARS}
    yield Series("S1901 (ACS 5-year)", "county", "none", s1901, unchanged)
    yield from _irs(data)
    ssi = {year: _ssi(data / "ssa" / name) for year, name in SSI_BOOKS.items()}
    yield Series("SSI, December", "county", "population", ssi, by_population(data))
    states = {year: {i: _by_state(t) for i, t in items.items()} for year, items in ssi.items()}
    yield Series("SSI, December", "state", "population", states, by_population(data))
    oasdi = {year: _oasdi(data, year) for year in OASDI_YEARS}
    yield Series("OASDI, December", "state", "population", oasdi, by_population(data))
    yield from _ages(data)
    yield from _classes(data)


def _tracts(data: Path, breaks: Mapping[str, int]) -> Iterator[Series]:
    """Georgia's tracts that kept their code from 2010 to 2020, shares of their county."""
    folder = data / "acs_tables"
    old, new = folder / "svi_tracts_2018/SVI GA 2018.csv", folder / "svi_tracts_2022/Georgia.csv"
    yield Series(
        "SVI, tracts of Georgia",
        "tract",
        "none",
        {2016: _svi(old), 2020: _svi(new)},
        unchanged,
        breaks=breaks,
    )


def _classes(data: Path) -> Iterator[Series]:
    """States: classes of income of 2014-2018 (sums of counties) against the single year 2018."""
    five = _s1901(data / "acs_tables/county_us/ACSST5Y2018.S1901-Data.csv")
    source = load_catalog().sources["acs1_detailed"]
    long = read_source(source, "2018", data, []).frame.filter(pl.col("level") == "state")
    columns = {"total": ["B19001_001"], "income_under_10000": ["B19001_002"]}
    columns |= {"income_50000_74999": ["B19001_011", "B19001_012"]}
    columns |= {"income_100000_149999": ["B19001_014", "B19001_015"]}
    columns |= {"income_200000_plus": ["B19001_017"], "usd_household_income": ["B19025_001"]}
    one = {
        item: long.filter(pl.col("column").is_in(names))
        .group_by("geoid")
        .agg(
            value=pl.sum("estimate"),
            standard_error=(pl.col("margin_of_error") ** 2).sum().sqrt() / MARGIN_90,
        )
        for item, names in columns.items()
    }
    years = {2016: {item: _by_state(five[item]) for item in one}, 2018: one}
    yield Series("S1901 5-year, B19001", "state", "none", years, unchanged)


def _by_state(counties: FigureTable) -> FigureTable:
    state = pl.col("geoid").str.slice(0, 2).alias("geoid")
    return counties.group_by(state).agg(pl.sum(VALUE), (pl.col(SE) ** 2).sum().sqrt()).sort("geoid")


def _svi(path: Path) -> dict[str, FigureTable]:
    frame = _text(path)
    geoid = pl.col("FIPS").str.replace(r"\.0*$", "")
    geoid = pl.when(geoid.str.len_chars() < 6).then(geoid.str.zfill(5)).otherwise(geoid)
    made = {}
    if {"E_TOTPOP", "E_MINRTY"} <= set(frame.columns):
        white = _number("E_TOTPOP") - _number("E_MINRTY")
        made["WHITE"] = frame.select(geoid=geoid, value=white, standard_error=pl.lit(0.0))
    for item in (i for i in SVI_ITEMS if f"E_{i}" in frame.columns):
        value = _number(f"E_{item}")
        error = _number(f"M_{item}").clip(lower_bound=0.0) / MARGIN_90
        rows = frame.select(geoid=geoid, value=value, standard_error=error)
        made[item] = rows.drop_nulls().filter(pl.col(VALUE) >= 0)
    return made


def _s1901(path: Path) -> dict[str, FigureTable]:
    frame = _text(path).slice(1).filter(pl.col("GEO_ID").str.starts_with("0500000US"))
    geoid = pl.col("GEO_ID").str.slice(9)
    homes, error = _number("S1901_C01_001E"), _number("S1901_C01_001M") / MARGIN_90
    made = {"total": frame.select(geoid=geoid, value=homes, standard_error=error).drop_nulls()}
    for number, name in enumerate(S1901_CLASSES, start=2):
        percent = _number(f"S1901_C01_{number:03d}E") / 100.0
        spread = homes * _number(f"S1901_C01_{number:03d}M") / 100.0 / MARGIN_90
        rows = frame.select(geoid=geoid, value=homes * percent, standard_error=spread)
        made[f"income_{name}"] = rows.drop_nulls()
    mean, wide = _number("S1901_C01_013E"), _number("S1901_C01_013M") / MARGIN_90
    rows = frame.select(geoid=geoid, value=homes * mean, standard_error=homes * wide)
    return made | {"usd_household_income": rows.drop_nulls()}


def _irs(data: Path) -> Iterator[Series]:
    """County data of 2009, 2012 and 2022, states of Historic Table 2."""
    factors = load_catalog().factors
    index = {i: factor_of(factors, name, SeriesFactor) for i, name in IRS_DOLLARS.items()}
    counties = {2009: _irs_2009(data / "irs/09incicsv.csv"), 2012: {}, 2022: {}}
    for year in (2012, 2022):
        long = read_source(
            load_catalog().sources["irs_county"], str(year), data, [] if year == 2012 else _HELD
        ).frame
        counties[year] = _of_long(long, "county")
    rule = "population x series"
    yield Series("IRS county", "county", rule, counties, by_population(data, index))
    yield Series("IRS county", "county", "none", counties, unchanged)
    source = load_catalog().sources["irs_historic_table_2"]
    states = {
        int(v): _of_long(read_source(source, v, data, []).frame, "state") for v in source.vintages
    }
    yield Series("IRS Historic Table 2", "state", rule, states, by_population(data, index))


_HELD = ("RI", "DE")
"""States whose county rows of 2022 are at hand."""


def _irs_2009(path: Path) -> dict[str, FigureTable]:
    frame = _text(path).filter(pl.col("County_Code").str.zfill(3) != "000")
    geoid = pl.col("State_Code").str.zfill(2) + pl.col("County_Code").str.zfill(3)
    scale = {"A00100": 1000.0, "A00200": 1000.0}
    return {
        name: _exact(frame, geoid, _number(column) * scale.get(name, 1.0))
        for column, name in IRS_2009.items()
    }


def _of_long(long: pl.DataFrame, level: str) -> dict[str, FigureTable]:
    rows = long.filter((pl.col("level").cast(pl.String) == level) & (pl.col("stratum") == "0"))
    return {
        item: _exact(rows.filter(pl.col("column") == item), pl.col("geoid"), pl.col("estimate"))
        for item in IRS_ITEMS
        if rows.filter(pl.col("column") == item).height
    }


def _ssi(path: Path) -> dict[str, FigureTable]:
    book = fastexcel.read_excel(path)
    sheets = [name for name in book.sheet_names if name.lower().startswith("table 3")]
    frames = []
    for name in sheets:
        cells = book.load_sheet(name, header_row=None).to_polars()
        cells = cells.rename(dict(zip(cells.columns, map(str, range(cells.width)), strict=True)))
        frames.append(cells.select(pl.col(str(i)).cast(pl.String) for i in range(9)))
    rows = pl.concat(frames).filter(pl.col("2").str.contains(r"^\d{4,5}$"))
    geoid = pl.col("2").str.zfill(5)
    return {i: _exact(rows, geoid, _number(str(c))) for i, c in SSI_FIRST_COLUMN.items()}


def _oasdi(data: Path, year: int) -> dict[str, FigureTable]:
    path = data / f"ssa/oasdi_states_csv/{year} - Beneficiaries.csv"
    with path.open(encoding="latin-1", newline="") as file:
        rows = [row for row in csv.reader(file) if any(row)]
    title = re.findall(r"December\D*(\d{4})", " ".join(cell for row in rows[:2] for cell in row))
    if title != [str(year)]:
        raise ValueError(f"{path}: the title prints {title or 'no year'}")
    states = {name.lower(): state.fips for name, state in BY_NAME.items()}
    for area in OUTLYING_AREAS:
        states.pop(area.name.lower(), None)
    own = [row for row in rows if row[0].strip().lower() in states]
    frame = pl.DataFrame(own, schema=[str(i) for i in range(len(own[0]))], orient="row")
    geoid = pl.col("0").str.strip_chars().str.to_lowercase().replace_strict(states)
    both = _exact(frame, geoid, _number("12") + _number("13"))
    return {"total": _exact(frame, geoid, _number("3")), "age_65_plus": both}


def _ages(data: Path) -> Iterator[Series]:
    """States by age, ACS 1-year: 2018 carried by ``age_sex_from_acs``, against S0101 of 2024."""
    catalog = load_catalog()
    profile = catalog.profile("rhode_island").model_copy(
        update={"target_year": 2024, "targets": ("state_b01001",)}
    )
    tables = {
        (s, v): read_source(catalog.sources[s], v, data, []).frame
        for s, v in sorted(catalog.required_tables(profile))
    }
    built = build_targets(catalog, profile, tables, ["state"]).frame
    bands = [f"age_{low:02d}_{low + 4:02d}" for low in range(0, 85, 5)] + ["age_85_plus"]
    codes = {band: f"S0101_C01_{number:03d}" for number, band in enumerate(bands, start=2)}
    codes |= {"age_under_18": "S0101_C01_022", "age_65_plus": "S0101_C01_030"}
    codes |= {"male": "S0101_C03_001", "female": "S0101_C05_001"}
    error = pl.col("margin_standard_error").alias(SE)
    carried = {
        band: built.filter(pl.col("domain") == band).select("geoid", VALUE, error) for band in codes
    }
    answer = json.loads((data / "acs_tables/acs_S0101_state_2024.json").read_text())
    frame = pl.DataFrame(answer[1:], schema=answer[0], orient="row", infer_schema_length=None)
    geoid = pl.col("GEO_ID").str.slice(-2)
    later = {}
    for band, code in codes.items():
        value, margin = (pl.col(f"{code}{part}").cast(pl.Float64) for part in "EM")
        later[band] = frame.select(
            geoid=geoid, value=value, standard_error=margin.clip(lower_bound=0.0) / MARGIN_90
        )
    rule = "age_sex_from_acs"
    yield Series("B01001, S0101 (1-year)", "state", rule, {2018: carried, 2024: later}, unchanged)
