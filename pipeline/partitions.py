"""The partition keys: postal codes of a profile's states, largest first.

Belongs here: the order of states and the partitions definition. Does not belong here: counties and
tracts, which are rows of tables and never partitions (one event each would cost more than the
work).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from pipeline.errors import ProfileError

if TYPE_CHECKING:
    import dagster as dg

# Postal codes by resident population, 2020 Census (apportionment resident population, table 2),
# largest first. The order is the point: a backfill's last wave is as slow as its slowest state, so
# the heaviest start first.
STATES_BY_POPULATION = [
    "CA",
    "TX",
    "FL",
    "NY",
    "PA",
    "IL",
    "OH",
    "GA",
    "NC",
    "MI",
    "NJ",
    "VA",
    "WA",
    "AZ",
    "MA",
    "TN",
    "IN",
    "MD",
    "MO",
    "WI",
    "CO",
    "MN",
    "SC",
    "AL",
    "LA",
    "KY",
    "OR",
    "OK",
    "CT",
    "UT",
    "IA",
    "NV",
    "AR",
    "MS",
    "KS",
    "NM",
    "NE",
    "ID",
    "WV",
    "HI",
    "NH",
    "ME",
    "RI",
    "MT",
    "DE",
    "SD",
    "ND",
    "AK",
    "DC",
    "VT",
    "WY",
]


def order_states(states: Iterable[str]) -> list[str]:
    """Postal codes sorted from the largest population to the smallest; unknown codes raise
    ProfileError.
    """
    wanted = list(states)
    unknown = sorted(set(wanted) - set(STATES_BY_POPULATION))
    if unknown:
        raise ProfileError(
            f"Not postal codes of a state: {', '.join(unknown)}",
            where="the states of the profile",
            expected="two capital letters, such as RI",
            remedy="Correct the list of states",
        )
    return sorted(set(wanted), key=STATES_BY_POPULATION.index)


def state_partitions(states: Iterable[str]) -> dg.StaticPartitionsDefinition:
    """The partitions definition shared by every state-partitioned asset of a profile."""
    # Here, because the command line orders states too and need not wait a second for Dagster.
    import dagster as dg

    return dg.StaticPartitionsDefinition(order_states(states))


def parse_states(text: str | None, available: Sequence[str], profile: str) -> list[str]:
    """States asked for on the command line (``"ri, DE"``), in partition order; all of the profile's
    when ``text`` is empty.

    Raises ProfileError naming the states the profile does not have.
    """
    ordered = order_states(available)
    if not text or not text.strip():
        return ordered
    asked = [part.strip().upper() for part in text.split(",") if part.strip()]
    unknown = [state for state in asked if state not in ordered]
    if unknown:
        raise ProfileError(
            f"Profile {profile} has no state {', '.join(unknown)}",
            where="--states",
            expected=f"states of this profile: {', '.join(ordered)}",
            remedy="Name states of the profile, or add the state to data_specs/profiles/"
            + f"{profile}.yaml",
        )
    return [state for state in ordered if state in asked]
