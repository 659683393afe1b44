"""A table against totals known from elsewhere: is it the vintage, and the whole of it?

Every read compares (``registry.py``), so ``geocal check`` and ``geocal run`` refuse the same files.
A total is the area's own row where the file has one, else the sum of its counties or tracts. What
is not listed for a vintage is said in a note, never passed over.

Belongs here: comparing, and the errors about it. Does not belong here: the figures
(``data_specs/known_totals.yaml``), checks of single cells and areas (``pipeline/checks``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import polars as pl

from pipeline.errors import KnownTotalError
from pipeline.sources.base import SourceNote
from pipeline.sources.microdata.schema import Microdata
from pipeline.specs.known_totals import NATION, KnownTotal, Series, series_called
from pipeline.specs.sources import SourceSpec
from pipeline.specs.states import STATES
from pipeline.vocabulary import COUNTY, STATE, TRACT

Figures = Callable[[KnownTotal], "dict[str, Found]"]
COUNTS = "county_count"
# Codes of the notes.
MET, MISSING = "known_total", "known_total_missing"
# A withheld area is small, as a rule: where one of 33 counties is missing from a sum, the sum may
# be short by three such shares (New Mexico 2018 lacks Rio Arriba, 1.6 % of its households).
WITHHELD_SHARE = 3.0


@dataclass(frozen=True)
class Found:
    """A total as the file has it. ``parts``: how many areas were added, 0 for a row of its own;
    ``withheld``: how many more had no figure; ``counties``: how many counties have parts.
    """

    figure: float
    parts: int = 0
    withheld: int = 0
    counties: int = 0

    @property
    def words(self) -> str:
        if not self.parts:
            return "its row"
        more = f", {self.withheld} more withheld" if self.withheld else ""
        return f"the sum of {self.parts:,} areas{more}"


@dataclass(frozen=True)
class Comparison:
    """One area of one series. ``off`` is (found - known) / known."""

    column: str
    area: str
    found: Found
    known: float
    series: Series

    @property
    def off(self) -> float:
        return (self.found.figure - self.known) / self.known if self.known else 0.0

    @property
    def meets(self) -> bool:
        allowed = max(0.5, self.series.tolerance * self.known)
        found = self.found
        missing = found.withheld / max(1, found.parts + found.withheld)
        short = WITHHELD_SHARE * missing * self.known
        return -allowed - short <= found.figure - self.known <= allowed


def known_total_notes(
    spec: SourceSpec, vintage: str, table: pl.DataFrame | Microdata, known: Mapping[str, Series]
) -> list[SourceNote]:
    """What was compared, and what could not be, as notes. Raises KnownTotalError for the first
    total that is another than the known one.
    """
    figures = _of_survey(table) if isinstance(table, Microdata) else _of_table(table, vintage)
    notes = []
    for entry in spec.known_totals:
        series = series_called(entry.series, dict(known), spec.id)
        found = figures(entry)
        # A folder of made-up files may state no totals, or some.
        if not found or series is None:
            continue
        column = entry.column.replace("{year}", vintage)
        if vintage not in series.years:
            words = f"no known total of {column} for {vintage}"
            notes.append(SourceNote(MISSING, 1, words))
            continue
        made = list(_comparisons(entry, column, series, vintage, found, known))
        wrong = [each for each in made if not each.meets]
        if wrong:
            raise _refused(spec, vintage, wrong, made)
        notes.append(_note(column, vintage, series, made))
    return notes


def _note(column: str, vintage: str, series: Series, made: list[Comparison]) -> SourceNote:
    if not made:
        words = f"no known total of {column} for {vintage} and these areas, or only a part is there"
        return SourceNote(MISSING, 1, words)
    worst = max(made, key=lambda each: abs(each.off))
    first = made[0]
    return SourceNote(
        MET,
        len(made),
        f"{column} {vintage}: {first.area} {first.found.figure:,.0f} for {first.known:,.0f} known"
        f" ({first.found.words}); largest difference {abs(worst.off):.4%} ({worst.area}), at most"
        f" {series.tolerance:.2%} is taken",
    )


def _comparisons(
    entry: KnownTotal,
    column: str,
    series: Series,
    vintage: str,
    found: Mapping[str, Found],
    known: Mapping[str, Series],
) -> Iterable[Comparison]:
    for area, own in sorted(found.items(), key=lambda item: (item[0] != NATION, item[0])):
        figure = series.figure(vintage, area)
        summed = own.parts > 0
        if figure is None or (summed and area == NATION and not series.states_add_up):
            continue
        if summed and entry.may_be_part and not _all_counties(area, own, vintage, known):
            continue
        yield Comparison(column, area, own, figure, series)


def _all_counties(area: str, own: Found, vintage: str, known: Mapping[str, Series]) -> bool:
    counts = known.get(COUNTS)
    expected = None if counts is None else counts.figure(max(counts.years), area)
    # Connecticut has 8 counties or 9 planning regions, Alaska 29 or 30 areas, by vintage.
    return expected is not None and abs(own.counties - expected) <= (area in ("CT", "AK"))


def _of_table(frame: pl.DataFrame, vintage: str) -> Figures:
    def figures(entry: KnownTotal) -> dict[str, Found]:
        column = entry.column.replace("{year}", vintage)
        rows = frame.filter((pl.col("column") == column) & (pl.col("stratum") == entry.stratum))
        return {} if rows.is_empty() else _by_area(rows)

    return figures


def _by_area(rows: pl.DataFrame) -> dict[str, Found]:
    """Totals by postal code, and of the nation: rows of their own before sums of counties, these
    before sums of tracts.
    """
    found: dict[str, Found] = {}
    for level in (TRACT, COUNTY):
        sums = (
            rows.filter(pl.col("level") == level)
            .group_by(pl.col("geoid").str.slice(0, 2).alias("fips"))
            .agg(
                figure=pl.col("estimate").sum(),
                parts=pl.col("estimate").is_not_null().sum(),
                withheld=pl.col("estimate").is_null().sum(),
                counties=pl.col("geoid").str.slice(0, 5).n_unique(),
            )
        )
        by_fips = {row["fips"]: row for row in sums.iter_rows(named=True)}
        for state in STATES:
            if (row := by_fips.get(state.fips)) is not None and row["parts"]:
                row.pop("fips")
                found[state.postal] = Found(**row)
    own = dict(
        rows.filter((pl.col("level") == STATE) & pl.col("estimate").is_not_null())
        .select("geoid", "estimate")
        .iter_rows()
    )
    found |= {s.postal: Found(own[s.fips]) for s in STATES if s.fips in own}
    nation = rows.filter((pl.col("level") == "nation") & pl.col("estimate").is_not_null())
    if nation.height == 1:
        found[NATION] = Found(nation["estimate"][0])
    elif all(state.postal in found for state in STATES):
        each = [found[state.postal] for state in STATES]
        found[NATION] = Found(
            sum(x.figure for x in each),
            sum(max(1, x.parts) for x in each),
            sum(x.withheld for x in each),
            sum(x.counties for x in each),
        )
    return found


def _of_survey(survey: Microdata) -> Figures:
    def figures(entry: KnownTotal) -> dict[str, Found]:
        units = survey.persons if entry.column == "persons" else survey.households
        if entry.column == "households":
            units = units.filter(~pl.col("is_group_quarters"))
        sums = units.group_by("state_fips").agg(pl.col("design_weight").sum(), n=pl.len())
        by_fips = {fips: (total, n) for fips, total, n in sums.iter_rows()}
        found = {s.postal: Found(*by_fips[s.fips]) for s in STATES if s.fips in by_fips}
        if len(found) == len(STATES):
            whole = [sum(part) for part in zip(*by_fips.values(), strict=True)]
            found[NATION] = Found(whole[0], int(whole[1]))
        return found

    return figures


def _refused(
    spec: SourceSpec, vintage: str, wrong: list[Comparison], made: list[Comparison]
) -> KnownTotalError:
    # The nation's first: it is the best known, and a year is told by it.
    worst = next((w for w in wrong if w.area == NATION), None)
    worst = worst or max(wrong, key=lambda each: abs(each.off))
    figure, series = worst.found.figure, worst.series
    fits = [year for year in series.year_of(worst.area, figure) if year != vintage]
    other = f"; it is that of {' or '.join(fits)}" if fits else ""
    areas = ", ".join(f"{each.area} {each.off:+.2%}" for each in wrong[:6])
    more = f" and {len(wrong) - 6} more" if len(wrong) > 6 else ""
    return KnownTotalError(
        f"{worst.column} of {worst.area} is {figure:,.0f} ({worst.found.words}), and"
        f" {worst.known:,.0f} is known of {vintage}: {worst.off:+.2%}{other}. {len(wrong)} of"
        f" {len(made)} areas differ: {areas}{more}",
        where=f"{spec.id} {vintage}, column {worst.column}",
        expected=(
            f"{worst.known:,.0f} {series.unit} within {series.tolerance:.2%} ({series.source})"
        ),
        remedy=(
            "Put the whole file of the right year at its path, or ask for the vintage the file"
            " holds; if the publisher revised the file, correct data_specs/known_totals.yaml and"
            " state the source"
        ),
    )
