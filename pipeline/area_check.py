"""Area codes of all files of a profile against each other, before an hour is spent.

Belongs here: taking the steps of a state up to the point where its tables, its list of areas and
its records must name the same areas. Does not belong here: the rules themselves
(``targets/reconcile.py``, ``weights/places.py``), or one file by itself (``sources/registry.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from calibration_core.errors import GeocalError
from pipeline import steps
from pipeline.errors import TargetError
from pipeline.sources.of_profile import read_geography, read_survey, read_tables
from pipeline.specs.catalog import Catalog
from pipeline.specs.profiles import Profile
from pipeline.targets.grid import area_tree
from pipeline.targets.reconcile import owned_areas
from pipeline.vocabulary import AREA_COLUMN, PUMA, TRACT
from pipeline.weights.areas import areas_of, owned, require_pumas

SHOWN = 4
"""Areas that a message lists by their codes."""


def check_areas(
    catalog: Catalog, profile: Profile, data: Path, states: Sequence[str]
) -> Iterator[tuple[str, str | GeocalError]]:
    """For each state what its files agree on, in words, or the error that a run would stop at.

    ``profile`` : settled by the files at hand, every file of ``states`` there and read without
    fault.
    """
    held: dict[tuple[str, str], pl.DataFrame] = {}
    for postal in states:
        try:
            yield postal, _agreement(catalog, profile.of(postal), data, postal, held)
        except GeocalError as error:
            yield postal, error


def _agreement(
    catalog: Catalog,
    profile: Profile,
    data: Path,
    postal: str,
    held: dict[tuple[str, str], pl.DataFrame],
) -> str:
    geography = read_geography(profile, data, [postal]).frame
    tables = read_tables(catalog, profile, postal, data, held)
    below = steps.state_targets(catalog, profile, tables, postal).frame
    areas = areas_of(geography, postal, profile.geography.vintage)
    kept = owned(areas, below)
    owned_areas(below, area_tree(kept, profile.levels))
    pumas = set(read_survey(profile, data, postal).persons[PUMA].drop_nulls())
    absent = _without_rows(below, kept)
    link = areas_of(geography, postal, profile.geography.puma_link_vintage)
    require_pumas(sorted(pumas), link, profile)
    finest = profile.finest_level
    count = kept[AREA_COLUMN[finest]].n_unique()
    water = areas.height - kept.height
    said = [f"{count:,} areas of level {finest} in the list and in the tables"]
    said += [f"{water} tract(s) of water in no table"] if water else []
    said += [f"{len(pumas)} PUMAs of the records in the list", *absent]
    return "; ".join(said)


def _without_rows(below: pl.DataFrame, areas: pl.DataFrame) -> list[str]:
    """For each table below the state the areas of the list that it has no row of, in words.

    Raises TargetError if it is a table of tracts: these have every tract, or one was cut.
    """
    found = []
    for (level, source), rows in sorted(below.group_by("level", "source")):
        listed = set(areas[AREA_COLUMN[str(level)]].drop_nulls())
        lacking = sorted(listed - set(rows["geoid"]))
        if lacking and level == TRACT:
            raise TargetError(
                f"{source} has no row of {len(lacking):,} tract(s) that other tables have, first"
                f" {lacking[0]}",
                where=f"{source}, tract {lacking[0]}",
                expected=f"the {len(listed):,} tracts of the list",
                remedy="The file may be cut or edited: download it again",
            )
        named = ", ".join(lacking[:SHOWN]) + (" ..." if len(lacking) > SHOWN else "")
        found += [f"{source} has no row of {named}"] if lacking else []
    return found
