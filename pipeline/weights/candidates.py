"""Candidates of one state: the pool of units with what each adds to every variable, and where its
prior weight may lie.

A candidate is a (unit, area) pair. Pairs are never written out: the prior of unit h in area t is
its design weight times the share of its PUMA's population that lives in t, blended with a small
share for every other area of the state, of which a sample stands for all (``neighbourhoods.py``).

Belongs here: the candidate tables. Does not belong here: solving, how a variable is measured, or
what a cell is (``cells.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.errors import RecordsError
from pipeline.ordered_sums import series_total
from pipeline.records.expressions import Inexpressible, measure
from pipeline.specs.cross_categories import CrossCategories
from pipeline.specs.profiles import ProfileCandidates
from pipeline.specs.variables import Variable
from pipeline.vocabulary import (
    FITTED_ROLES,
    NATION,
    POPULATION,
    STATE,
    VARIABLE_KEY,
    Key,
    design_column,
)
from pipeline.weights.cells import Cells, build_cells
from pipeline.weights.neighbourhoods import build_pools, targeted_columns
from pipeline.weights.places import Places

SHOWN = 8


@dataclass(frozen=True)
class Candidates:
    """What may be chosen from.

    Attributes
    ----------
    units : household_id, puma, prior_weight, cell, order, then one column ``variable|domain`` per
        variable, sorted by household_id: uint8 of a count of rows, else float64.
    areas : area, neighbourhood, puma, share: where a unit of each PUMA may lie, shares of one PUMA
        summing to one.
    pools : neighbourhood, household_id, expansion: the units that areas of a neighbourhood draw on.
    inexpressible : variables these records cannot express.
    notes : counted facts.
    cells : what the column ``cell`` numbers.
    """

    units: pl.DataFrame
    areas: pl.DataFrame
    pools: pl.DataFrame
    inexpressible: tuple[Inexpressible, ...]
    notes: tuple[str, ...]
    cells: Cells


def build_candidates(
    tables: Mapping[str, pl.DataFrame],
    variables: Sequence[Variable],
    targets: pl.DataFrame,
    places: Places,
    cross: CrossCategories,
    rule: ProfileCandidates | None = None,
    seed: int = 0,
) -> Candidates:
    """Build the candidate tables.

    Parameters
    ----------
    tables : ``persons``, ``households``, ``tax_units`` of one state, amounts in target-year
        dollars.
    variables : the variables to measure.
    targets : reconciled targets; the population of each finest area is read from them.
    places : the areas, and where a unit of a PUMA may lie.
    cross : classes of the cells, and how thin ones are collapsed.
    rule : sizes of the pools of neighbourhoods; the default's where None. seed : of the run.

    Raises RecordsError if there are no records, or a PUMA of the records is in no area; TargetError
    if an area has no population target.
    """
    households = tables["households"].sort("household_id")
    if households.is_empty():
        raise RecordsError(
            "There are no records",
            where=f"state {places.geography['state_fips'][0]}",
            expected="households or persons in group quarters",
            remedy="Check the microdata file",
        )
    measured = measure(
        tables, [v for v in variables if v.over is not None], households["household_id"]
    )
    cells = build_cells(households, cross)
    population = places.population(targets)
    persons = measured.column(*POPULATION)
    prior, scale = _prior_weight(households, persons, series_total(population["population"]))
    counts = {variable.key for variable in variables if variable.counts}
    columns = {
        design_column(key): _column(measured.column(*key), key, key in counts)
        for key in measured.expressible
    }
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
    pumas = units["puma"].unique().sort().to_list()
    local = places.local(pumas, population)
    # What a county asks for needs units in the pools of its tracts, as what a tract asks for does.
    below = ~pl.col("level").is_in([NATION, STATE]) & pl.col("role").is_in(FITTED_ROLES)
    stated = targets.filter(below)
    keys = stated.select(VARIABLE_KEY).unique().sort(VARIABLE_KEY).iter_rows()
    pools = build_pools(
        units,
        local > 0,
        pumas,
        targeted_columns(units, list(keys)),
        rule or ProfileCandidates(elsewhere_share=places.elsewhere_share),
        seed,
        places.geography["state_fips"][0],
    )
    of_area = dict(zip(population["area"], pools.of_area.tolist(), strict=True))
    number = pl.col("area").replace_strict(of_area, return_dtype=pl.Int64)
    shares = places.shares(pumas, population, local)
    areas = shares.select("area", number.alias("neighbourhood"), "puma", "share")
    found = _scaled(scale), *cells.notes, *pools.notes, *map(str, measured.notes)
    notes = (*found, *_empty(population))
    return Candidates(units, areas, pools.table, measured.inexpressible, notes, cells)


def _column(added: np.ndarray, key: Key, is_count: bool) -> np.ndarray:
    """A column of the units: uint8 of what is counted, which is an eighth of float64, else float64.
    The type follows from the variable alone, so that it is the same in every state.
    """
    most = float(added.max(initial=0.0))
    if is_count and most > np.iinfo(np.uint8).max:
        raise RecordsError(
            f"A household adds {most:,.0f} to {design_column(key)}",
            where="the record tables",
            expected="at most 255 rows of a table in one household",
            remedy="Check that household_id tells households apart",
        )
    return added.astype(np.uint8) if is_count else added


def _scaled(scale: float) -> str:
    return (
        f"household design weights multiplied by {scale:.6f} so that the persons in them count the"
        " target year's population"
    )


def _empty(population: pl.DataFrame) -> list[str]:
    """A note on areas in which nobody lives."""
    empty = [area for area, people in population.iter_rows() if people <= 0]
    more = " ..." if len(empty) > SHOWN else ""
    named = f"{', '.join(empty[:SHOWN])}{more}"
    return [f"{len(empty)} areas have no population and get no record: {named}"] if empty else []


def candidate_pairs(units: pl.DataFrame, areas: pl.DataFrame, pools: pl.DataFrame) -> int:
    """Number of (unit, area) pairs with prior weight: those k can be chosen from. An area in which
    nobody lives has none.
    """
    where = ["neighbourhood", "puma"]
    alive = units.filter(pl.col("prior_weight") > 0).select("household_id", "puma")
    here = pools.join(alive, on="household_id").group_by(where).len("units")
    there = areas.filter(pl.col("share") > 0).group_by(where).len("areas")
    return int(
        here.join(there, on=where)
        .select((pl.col("units").cast(pl.Int64) * pl.col("areas").cast(pl.Int64)).sum())
        .item()
    )


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
