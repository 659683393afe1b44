"""Where a unit may lie: the areas of a state, and the share of a PUMA's units in each.

A unit of a PUMA lies in the areas of its PUMA in proportion to their population, and a small share
of it anywhere in the state. Where the PUMAs of the records and the areas are of different vintages,
PUMAs link to areas through the counties both share, or else through numbers of tracts. How a PUMA's
people spread over counties is not published, so its number of tracts in each stands in for it
(tracts are drawn to about 4,000 persons each).

Belongs here: areas, their population, shares. Does not belong here: units (``candidates.py``),
reading a list of tracts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from pipeline.errors import RecordsError, TargetError
from pipeline.ordered_sums import series_total
from pipeline.vocabulary import AREA_COLUMN, COUNTY, POPULATION, TRACT, is_variable


@dataclass(frozen=True, eq=False)
class Places:
    """Areas of one state.

    Attributes
    ----------
    geography : areas of the targets' vintage (state_fips, county_fips, tract, puma).
    puma_link : the same table in the vintage of the records' PUMAs.
    finest_level : of the areas that get records.
    elsewhere_share : prior share of a unit that lies anywhere in the state, by population.
    """

    geography: pl.DataFrame
    puma_link: pl.DataFrame
    finest_level: str
    elsewhere_share: float

    @cached_property
    def county_of(self) -> dict[str, str]:
        """The county of each area."""
        area, county = pl.col(AREA_COLUMN[self.finest_level]), pl.col(AREA_COLUMN[COUNTY])
        return dict(self.geography.select(area=area, county=county).unique().iter_rows())

    @cached_property
    def same_vintage(self) -> bool:
        """Whether the PUMAs of the records are those of the areas, which then lie within them."""
        pumas, link = self.geography["puma"].drop_nulls(), self.puma_link["puma"].drop_nulls()
        return (
            self.finest_level == TRACT
            and set(pumas) == set(link)
            and set(self.geography["tract"]) == set(self.puma_link["tract"])
        )

    def population(self, targets: pl.DataFrame) -> pl.DataFrame:
        """``area, population`` of every area, sorted; from ``targets``, the reconciled ones.

        Raises TargetError if an area has no population target.
        """
        areas = pl.DataFrame({"area": sorted(self.county_of)}, schema={"area": pl.String})
        stated = targets.filter((pl.col("level") == self.finest_level) & is_variable(POPULATION))
        known = stated.select(area="geoid", population="value")
        joined = areas.join(known, on="area", how="left").sort("area")
        if joined["population"].null_count():
            missing = joined.filter(pl.col("population").is_null())["area"]
            variable, domain = POPULATION
            raise TargetError(
                f"{len(missing)} areas have no population target, first {missing[0]}",
                where=f"level {self.finest_level}, variable {variable}, domain {domain}",
                expected="a population for every area of the geography",
                remedy="Check that the tract list and the tables are of one vintage",
            )
        return joined

    def local(self, pumas: list[str], population: pl.DataFrame) -> np.ndarray:
        """(areas, pumas) float64: how much of each PUMA lies in each area, up to a factor for each
        PUMA; areas as in ``population``.

        Raises RecordsError if a PUMA lies in no area.
        """
        areas, people = population["area"].to_list(), dict(population.iter_rows())
        found = np.zeros((len(areas), len(pumas)))
        for column, puma in enumerate(pumas):
            found[:, column] = self._local(puma, areas, people)
            if puma and found[:, column].sum() <= 0:
                raise RecordsError(
                    f"PUMA {puma} of the records lies in no area of the geography",
                    where="puma",
                    expected=f"one of {', '.join(sorted(set(self.puma_link['puma']))[:6])} ...",
                    remedy="Check the profile's puma_link_vintage",
                )
        return found

    def shares(self, pumas: list[str], population: pl.DataFrame, local: np.ndarray) -> pl.DataFrame:
        """``area, puma, share``: where a unit of each PUMA lies, shares of one PUMA summing to one;
        ``local`` as of the method of that name.
        """
        areas, people = population["area"], population["population"].to_numpy()
        everywhere = people / series_total(population["population"])
        near, far = 1 - self.elsewhere_share, self.elsewhere_share
        pieces = []
        for column, puma in enumerate(pumas):
            held, share = local[:, column], everywhere
            if held.sum() > 0:
                share = near * held / held.sum() + far * everywhere
            pieces.append(
                pl.DataFrame({"area": areas, "puma": [puma] * len(areas), "share": share})
            )
        return pl.concat(pieces).sort("area", "puma")

    def _local(self, puma: str, areas: list[str], people: dict[str, float]) -> np.ndarray:
        """How much of a PUMA lies in each area, (areas,), up to a factor."""
        if self.same_vintage:
            inside = set(self.geography.filter(pl.col("puma") == puma)["tract"])
            return np.array([people[area] if area in inside else 0.0 for area in areas])
        local = np.zeros(len(areas))
        for county, tracts in self._tracts.filter(pl.col("puma") == puma).drop("puma").iter_rows():
            held = (people[area] if self.county_of[area] == county else 0.0 for area in areas)
            members = np.array(list(held))
            if members.sum() > 0:
                local += tracts * members / members.sum()
        return local

    @cached_property
    def _tracts(self) -> pl.DataFrame:
        """``puma, county_fips, len``: number of tracts of each PUMA in each county.

        Counties that the areas do not have were divided anew between the two lists (Connecticut in
        2022). Their tracts are placed by number, the whole or its first four digits, which a tract
        keeps when its county changes, and its parts when it is split.
        """
        county = AREA_COLUMN[COUNTY]
        link = self.puma_link.select("puma", county, "tract")
        link = link.with_columns(known=pl.col(county).is_in(self.geography[county].to_list()))
        if not link["known"].all():
            link = link.with_columns(pl.when("known").then(county).otherwise(self._by_number(link)))
        counts = link.drop_nulls(county).group_by("puma", county).len()
        return counts.sort("puma", county)

    def _by_number(self, link: pl.DataFrame) -> pl.Series:
        """The county of each tract of ``link`` by the number that it has in ``geography``; of
        several the first, null where there is none."""
        county = AREA_COLUMN[COUNTY]
        found = pl.Series(county, [None] * link.height, dtype=pl.String)
        for digits in (6, 4):
            number = pl.col("tract").str.slice(5, digits)
            home = (
                self.geography.sort("tract")
                .group_by(number.alias("number"))
                .agg(pl.col(county).first())
            )
            placed = link.select(number=number).join(
                home, on="number", how="left", maintain_order="left"
            )
            found = found.zip_with(found.is_not_null(), placed[county])
        return found.alias(county)
