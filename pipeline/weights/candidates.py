"""Candidates of one state: the pool of units with what each adds to every variable, and where its
prior weight may lie.

A candidate is a (unit, area) pair. Pairs are never written out: the prior of unit h in area t is
its design weight times the share of its PUMA's population that lives in t, blended with a small
share for every other area of the state.

Belongs here: the two candidate tables. Does not belong here: solving, how a variable is measured,
or what a cell is (``cells.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.errors import RecordsError, TargetError
from pipeline.ordered_sums import series_total
from pipeline.records.expressions import Inexpressible, measure
from pipeline.specs.cross_categories import CrossCategories
from pipeline.specs.variables import Variable
from pipeline.vocabulary import AREA_COLUMN, COUNTY, POPULATION, TRACT, design_column, is_variable
from pipeline.weights.cells import Cells, build_cells


@dataclass(frozen=True)
class Candidates:
    """What may be chosen from.

    Attributes
    ----------
    units : household_id, puma, prior_weight, cell, order, then one column ``variable|domain`` per
        variable (float64), sorted by household_id.
    areas : area, puma, share: where a unit of each PUMA may lie, shares of one PUMA summing to one.
    inexpressible : variables these records cannot express.
    notes : counted facts.
    cells : what the column ``cell`` numbers.
    """

    units: pl.DataFrame
    areas: pl.DataFrame
    inexpressible: tuple[Inexpressible, ...]
    notes: tuple[str, ...]
    cells: Cells


def build_candidates(
    tables: Mapping[str, pl.DataFrame],
    variables: Sequence[Variable],
    targets: pl.DataFrame,
    geography: pl.DataFrame,
    puma_link: pl.DataFrame,
    cross: CrossCategories,
    *,
    finest_level: str,
    elsewhere_share: float,
) -> Candidates:
    """Build both candidate tables.

    Parameters
    ----------
    tables : ``persons``, ``households``, ``tax_units`` of one state, amounts in target-year
        dollars.
    variables : the variables to measure.
    targets : reconciled targets; the population of each finest area is read from them.
    geography : areas of the targets' vintage (state_fips, county_fips, tract, puma).
    puma_link : the same table in the vintage of the records' PUMAs; where it is the same vintage,
        PUMAs link to areas directly, else through the counties both vintages share.
    cross : classes of the cells, and how thin ones are collapsed.
    elsewhere_share : prior share of a unit that lies anywhere in the state, by population.

    Raises RecordsError if there are no records, or a PUMA of the records is in no area; TargetError
    if an area has no population target.
    """
    households = tables["households"].sort("household_id")
    if households.is_empty():
        raise RecordsError(
            "There are no records",
            where=f"state {geography['state_fips'][0]}",
            expected="households or persons in group quarters",
            remedy="Check the microdata file",
        )
    expressible = [v for v in variables if v.over is not None]
    measured = measure(tables, expressible, households["household_id"])
    names = [design_column(key) for key in measured.expressible]
    cells = build_cells(households, cross)
    columns = {name: measured.matrix[:, i] for i, name in enumerate(names)}
    population = _population(targets, geography, finest_level)
    prior, scale = _prior_weight(
        households,
        measured.matrix[:, measured.expressible.index(POPULATION)],
        series_total(population["population"]),
    )
    units = pl.DataFrame(
        {
            "household_id": households["household_id"],
            "puma": households["puma"].fill_null(""),
            "prior_weight": prior,
            "cell": cells.cell,
            "order": households[cross.order].cast(pl.Float64).fill_null(0.0),
            **columns,
        }
    )
    empty = [a for a, n in population.iter_rows() if n <= 0]
    notes = [
        (
            f"household design weights multiplied by {scale:.6f} so that the persons in them count"
            " the target year's population"
        ),
        *cells.notes,
        *(str(n) for n in measured.notes),
    ]
    if empty:
        notes.append(
            f"{len(empty)} areas have no population and get no record:"
            f" {', '.join(empty[:8])}{' ...' if len(empty) > 8 else ''}"
        )
    areas = _area_shares(
        units["puma"].unique().sort().to_list(),
        geography,
        puma_link,
        population,
        finest_level,
        elsewhere_share,
    )
    return Candidates(units, areas, measured.inexpressible, tuple(notes), cells)


def candidate_pairs(units: pl.DataFrame, areas: pl.DataFrame) -> int:
    """Number of (unit, area) pairs with prior weight: those k can be chosen from. An area in which
    nobody lives has none.
    """
    here = units.filter(pl.col("prior_weight") > 0).group_by("puma").len("units")
    there = areas.filter(pl.col("share") > 0).group_by("puma").len("areas")
    return int(
        here.join(there, on="puma")
        .select((pl.col("units").cast(pl.Int64) * pl.col("areas").cast(pl.Int64)).sum())
        .item()
    )


def _population(targets: pl.DataFrame, geography: pl.DataFrame, finest_level: str) -> pl.DataFrame:
    column = AREA_COLUMN[finest_level]
    areas = geography.select(pl.col(column).alias("area")).unique().sort("area")
    known = targets.filter((pl.col("level") == finest_level) & is_variable(POPULATION)).select(
        pl.col("geoid").alias("area"), pl.col("value").alias("population")
    )
    joined = areas.join(known, on="area", how="left").sort("area")
    if joined["population"].null_count():
        missing = joined.filter(pl.col("population").is_null())["area"]
        raise TargetError(
            f"{len(missing)} areas have no population target, first {missing[0]}",
            where=f"level {finest_level}, variable {POPULATION[0]}, domain {POPULATION[1]}",
            expected="a population for every area of the geography",
            remedy="Check that the tract list and the tables are of one vintage",
        )
    return joined


def _prior_weight(
    households: pl.DataFrame, persons: np.ndarray, population: float
) -> tuple[np.ndarray, float]:
    weight = households["design_weight"].to_numpy().astype(np.float64)
    total = float((weight * persons).sum())
    if total <= 0:
        raise RecordsError(
            "The records carry no design weight",
            where="households.design_weight",
            expected="positive weights",
            remedy="Check the microdata file",
        )
    return weight * (population / total), population / total


def _area_shares(
    pumas: list[str],
    geography: pl.DataFrame,
    puma_link: pl.DataFrame,
    population: pl.DataFrame,
    finest_level: str,
    elsewhere: float,
) -> pl.DataFrame:
    column = AREA_COLUMN[finest_level]
    same_vintage = (
        finest_level == TRACT
        and set(geography["puma"].drop_nulls()) == set(puma_link["puma"].drop_nulls())
        and set(geography["tract"]) == set(puma_link["tract"])
    )
    area_county = dict(
        geography.select(area=pl.col(column), county=pl.col(AREA_COLUMN[COUNTY]))
        .unique()
        .iter_rows()
    )
    people = dict(population.iter_rows())
    areas = population["area"].to_list()
    total = sum(people.values())
    # How a PUMA's people spread over counties is not published; tracts are drawn to about 4,000
    # persons each, so their number stands in for it.
    tracts = puma_link.group_by("puma", "county_fips").len().sort("puma", "county_fips")
    rows = []
    for puma in pumas:
        local = np.zeros(len(areas))
        if same_vintage:
            inside = set(geography.filter(pl.col("puma") == puma)["tract"])
            local = np.array([people[a] if a in inside else 0.0 for a in areas])
        else:
            for _, county, count in tracts.filter(pl.col("puma") == puma).iter_rows():
                members = np.array([people[a] if area_county[a] == county else 0.0 for a in areas])
                if members.sum() > 0:
                    local += count * members / members.sum()
        if puma and local.sum() <= 0:
            raise RecordsError(
                f"PUMA {puma} of the records lies in no area of the geography",
                where="puma",
                expected=f"one of {', '.join(sorted(set(puma_link['puma']))[:6])} ...",
                remedy="Check the profile's puma_link_vintage",
            )
        everywhere = np.array([people[a] for a in areas]) / total
        share = (
            everywhere
            if local.sum() <= 0
            else (1 - elsewhere) * local / local.sum() + elsewhere * everywhere
        )
        rows.append(pl.DataFrame({"area": areas, "puma": [puma] * len(areas), "share": share}))
    return pl.concat(rows).sort("area", "puma")
