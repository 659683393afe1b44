"""Names, postal codes and FIPS codes of the states, the District of Columbia and the outlying
areas.

Belongs here: the fixed list and look-ups over it. Does not belong here: counties and tracts (read
from the publications), or any statistic of a state.

Codes: FIPS PUB 5-2 / ANSI INCITS 38:2009, as the Census Bureau lists them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.errors import ProfileError


@dataclass(frozen=True)
class State:
    """One state or outlying area: ``fips`` two digits, ``postal`` two capital letters, ``name`` as
    the Census Bureau writes it.
    """

    fips: str
    postal: str
    name: str

    @property
    def compact_name(self) -> str:
        """The name without spaces, as CDC names its files: ``NewYork``."""
        return self.name.replace(" ", "")


_STATES = """
01 AL Alabama|02 AK Alaska|04 AZ Arizona|05 AR Arkansas|06 CA California|08 CO Colorado
09 CT Connecticut|10 DE Delaware|11 DC District of Columbia|12 FL Florida|13 GA Georgia|15 HI Hawaii
16 ID Idaho|17 IL Illinois|18 IN Indiana|19 IA Iowa|20 KS Kansas|21 KY Kentucky|22 LA Louisiana
23 ME Maine|24 MD Maryland|25 MA Massachusetts|26 MI Michigan|27 MN Minnesota|28 MS Mississippi
29 MO Missouri|30 MT Montana|31 NE Nebraska|32 NV Nevada|33 NH New Hampshire|34 NJ New Jersey
35 NM New Mexico|36 NY New York|37 NC North Carolina|38 ND North Dakota|39 OH Ohio|40 OK Oklahoma
41 OR Oregon|42 PA Pennsylvania|44 RI Rhode Island|45 SC South Carolina|46 SD South Dakota
47 TN Tennessee|48 TX Texas|49 UT Utah|50 VT Vermont|51 VA Virginia|53 WA Washington
54 WV West Virginia|55 WI Wisconsin|56 WY Wyoming
"""
_OUTLYING = (
    "60 AS American Samoa|66 GU Guam|69 MP Northern Mariana Islands|72 PR Puerto Rico|78 VI Virgin"
    " Islands"
)


def _parse(text: str) -> tuple[State, ...]:
    entries = [entry.strip() for line in text.strip().splitlines() for entry in line.split("|")]
    return tuple(State(*entry.split(" ", 2)) for entry in entries)


STATES: tuple[State, ...] = _parse(_STATES)
OUTLYING_AREAS: tuple[State, ...] = _parse(_OUTLYING)
ALL_AREAS: tuple[State, ...] = STATES + OUTLYING_AREAS

BY_POSTAL: dict[str, State] = {state.postal: state for state in ALL_AREAS}
BY_FIPS: dict[str, State] = {state.fips: state for state in ALL_AREAS}
# SSA writes "Virgin Islands" and "U.S. Virgin Islands" by table; both mean 78.
BY_NAME: dict[str, State] = {state.name.lower(): state for state in ALL_AREAS} | {
    "u.s. virgin islands": BY_FIPS["78"],
    "washington, d.c.": BY_FIPS["11"],
}


def state_of(postal: str) -> State:
    """The state with this postal code, in either case. Raises ProfileError when there is none."""
    found = BY_POSTAL.get(postal.strip().upper())
    if found is None:
        raise ProfileError(
            f"{postal!r} is not the postal code of a state",
            where="the states asked for",
            expected="a two-letter postal code, such as RI",
            remedy="Correct the list of states",
        )
    return found


def states_of(postals: Iterable[str] | None) -> tuple[State, ...]:
    """The states with these postal codes, ordered by FIPS code, each once; empty for None."""
    return tuple(
        sorted({state_of(postal) for postal in postals or ()}, key=lambda state: state.fips)
    )
