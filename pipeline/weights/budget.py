"""Whether a number of pairs can be kept, asked before anything long is computed.

Belongs here: the bounds of k from the candidates of a state, or from publications alone. Does not
belong here: how k is divided over areas (``calibration_core/sampling/allocation.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from calibration_core.errors import BudgetError, GeocalError
from pipeline.sources.registry import read_source
from pipeline.specs.catalog import Catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.states import state_of
from pipeline.vocabulary import AREA_COLUMN, POPULATION
from pipeline.weights.candidates import candidate_pairs
from pipeline.weights.problem import SolvableState
from pipeline.weights.settings import pairs_of


def requested_pairs(run_config: Mapping[str, Any], asset: str) -> int | None:
    """k that the run configuration of ``asset`` names, for a step before it; None for none."""
    return run_config.get("ops", {}).get(asset, {}).get("config", {}).get("pairs")


def require_pairs(state: SolvableState, requested: int | None) -> None:
    """Raise BudgetError unless k lies between the areas with candidates and the candidates.

    requested : k asked for; None is the profile's number per area.
    """
    areas, pools = state.table("areas"), state.table("pools")
    least = areas.filter(pl.col("share") > 0)["area"].n_unique()
    most = candidate_pairs(state.units, areas, pools)
    pairs = pairs_of(state.profile, len(state.leaves), requested)
    if not least <= pairs <= most:
        raise _refusal(pairs, least, most, state.profile, state.postal)


def require_pairs_of_peopled_areas(
    pairs: int, profile: Profile, catalog: Catalog, state: str, data: Path
) -> None:
    """``require_pairs`` before any work, from the publications: only what is sure is refused.

    A file that cannot be read refuses nothing: the run names it in its place.
    """
    try:
        least = _peopled_areas(pairs, profile, catalog, state, data)
    except GeocalError:
        return
    if pairs < least:
        raise _refusal(pairs, least, None, profile, state)


def _refusal(pairs: int, least: int, most: int | None, profile: Profile, state: str) -> BudgetError:
    area = "county" if profile.finest_level == "county" else "tract"
    areas = {"county": "counties", "tract": "tracts"}[area]
    few = pairs < least
    found = (
        f"{pairs:,} pairs are fewer than the {least:,} {areas} of {state} in which people live"
        if few
        else f"{pairs:,} pairs are more than the {most:,} (household, {area}) pairs of {state}"
    )
    bound = f"{least:,} or more" if few else f"{most:,} or fewer"
    return BudgetError(
        found,
        where=f"the number of pairs (k) of {state}",
        expected=bound if few else f"{bound}, since each pair is kept once",
        remedy=(
            f"Ask for {bound} with `geocal run --pairs`, with `pairs` in the run configuration of"
            " selected_pairs, or with budget.pairs_per_area (pairs per area) in"
            f" data_specs/profiles/{profile.id}.yaml, which is {profile.budget.pairs_per_area:,}"
        ),
    )


def _peopled_areas(pairs: int, profile: Profile, catalog: Catalog, state: str, data: Path) -> int:
    """Areas of ``state`` whose published population exceeds its margin of error; 0 if unknown.

    Reads the population only where the list of areas alone leaves it open.
    """
    level = profile.finest_level
    listed = profile.geography
    areas = read_source(catalog.sources[listed.source], listed.vintage, data, [state]).frame
    if pairs >= areas[AREA_COLUMN[level]].n_unique():
        return 0
    for spec in catalog.specs_of(profile, [level]):
        vintage = catalog.vintage_of(spec, profile)
        for item in spec.items_of(vintage):
            if (item.variable, item.domain) == POPULATION and item.column is not None:
                cells = read_source(catalog.sources[spec.source], vintage, data, [state]).frame
                return _surely_peopled(cells, level, item.column, state_of(state).fips)
    return 0


def _surely_peopled(cells: pl.DataFrame, level: str, column: str, fips: str) -> int:
    margin = pl.col("margin_of_error").fill_null(0.0)
    return (
        cells.filter(
            (pl.col("level") == level)
            & (pl.col("column") == column)
            & pl.col("geoid").str.starts_with(fips)
            & (pl.col("estimate") > margin)
        )
        .get_column("geoid")
        .n_unique()
    )
