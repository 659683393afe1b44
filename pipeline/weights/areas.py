"""The areas of a state: those of one vintage, those that have people, and whether records fit them.

Belongs here: choosing rows of the geography table. Does not belong here: where a unit of a PUMA may
lie (``places.py``), reading a list of tracts (``pipeline/sources``).
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from pipeline.errors import RecordsError
from pipeline.specs.profiles import Profile
from pipeline.specs.states import state_of
from pipeline.vocabulary import AREA_COLUMN, PUMA, TRACT, is_water


def areas_of(geography: pl.DataFrame, postal: str, vintage: str) -> pl.DataFrame:
    """The state's tracts in one vintage of the geography table."""
    own = pl.col("state_fips") == state_of(postal).fips
    return geography.filter(own & (pl.col("vintage") == vintage))


def owned(areas: pl.DataFrame, targets: pl.DataFrame) -> pl.DataFrame:
    """``areas`` without tracts of water that no table of ``targets`` has. Tables that have them
    state nobody there, others leave them out; where all do, there is nothing to weigh.
    """
    named = set(targets.filter(pl.col("level") == TRACT)["geoid"])
    absent = ~pl.col(AREA_COLUMN[TRACT]).is_in(list(named))
    return areas.filter(~(absent & is_water(AREA_COLUMN[TRACT]))) if named else areas


def require_pumas(pumas: Sequence[str], link: pl.DataFrame, profile: Profile) -> None:
    """Raise RecordsError if records lie in a PUMA that the list of areas does not have.

    ``pumas`` : of the records, seven characters; ``link`` : the list in the vintage of those PUMAs.
    """
    if absent := sorted(set(pumas) - set(link[PUMA].drop_nulls())):
        raise RecordsError(
            f"{len(absent)} PUMA(s) of the records are not in the list of areas, first {absent[0]}",
            where=f"{profile.records.source} {profile.records.vintage}, PUMA {absent[0]}",
            expected=f"PUMAs of {profile.geography.source} {profile.geography.puma_link_vintage}",
            remedy="Check the profile's puma_link_vintage: PUMS has PUMAs of 2020 from 2022 on",
        )
