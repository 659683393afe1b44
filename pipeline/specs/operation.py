"""How a profile is run without a hand on it: when, how often again, for whom, and how old its
tables may grow.

Belongs here: the models of ``schedule``, ``owners`` and ``tags`` of a profile. Does not belong
here: anything that changes a number; no key of this module is part of what a table is made from.
"""

from __future__ import annotations

import re
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, field_validator

from pipeline.specs.base import SpecModel

# Minutes, hours, days of the month, months, days of the week (Sunday is 0 and 7).
_FIELDS = (
    ("minute", 0, 59),
    ("hour", 0, 23),
    ("day of the month", 1, 31),
    ("month", 1, 12),
    ("day of the week", 0, 7),
)
_PART = re.compile(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?\Z")
_MOST_RETRIES = 5


def _faults_of_field(text: str, name: str, least: int, most: int) -> list[str]:
    faults = []
    for part in text.split(","):
        match = _PART.match(part)
        numbers = [int(n) for n in match.groups()[:2] if n is not None] if match else []
        outside = any(not least <= number <= most for number in numbers)
        if match is None or outside or sorted(numbers) != numbers or match.group(3) == "0":
            faults.append(f"{name} {part!r} (numbers from {least} to {most})")
    return faults


def _cron(text: str) -> str:
    fields = text.split()
    if len(fields) != len(_FIELDS):
        raise ValueError(
            f"{text!r} has {len(fields)} fields; five are needed: minute, hour, day of the month,"
            " month, day of the week, such as 0 2 1 * *"
        )
    pairs = zip(fields, _FIELDS, strict=True)
    if faults := [f for field, stated in pairs for f in _faults_of_field(field, *stated)]:
        raise ValueError(f"no time that a clock knows: {'; '.join(faults)}")
    return " ".join(fields)


def _owner(text: str) -> str:
    if not re.fullmatch(r"team:[A-Za-z0-9_.-]+|[^@\s]+@[^@\s]+\.[^@\s]+", text):
        raise ValueError(f"{text!r} is neither an e-mail address nor team:NAME")
    return text


def _tag_key(text: str) -> str:
    if not re.fullmatch(r"([A-Za-z0-9_.-]{1,63}/)?[A-Za-z0-9_.-]{1,63}", text):
        raise ValueError(f"{text!r} is no key of a tag: letters, digits, _ . - and one slash")
    if text.startswith(("dagster/", "geocal/")):
        raise ValueError(f"{text!r} begins with a name that is kept for others")
    return text


def _tag_value(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{0,63}", text):
        raise ValueError(f"{text!r} is no value of a tag: up to 63 letters, digits, _ . -")
    return text


Owner = Annotated[str, AfterValidator(_owner)]
TagKey = Annotated[str, AfterValidator(_tag_key)]
TagValue = Annotated[str, AfterValidator(_tag_value)]


class Schedule(SpecModel):
    """The production run of a profile.

    ``cron``: when it starts, in five fields; ``timezone``: by whose clock (a name of the IANA
    database). ``retries``: how often a state that failed is started again before the national
    tables are made without it. ``fresh_days``: tables older than this are shown as overdue.
    """

    cron: Annotated[str, AfterValidator(_cron)] = "0 2 1 * *"
    timezone: str = "UTC"
    retries: int = Field(default=1, ge=0, le=_MOST_RETRIES)
    fresh_days: int = Field(default=35, ge=1)

    @field_validator("timezone")
    @classmethod
    def _known(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f"no time zone is called {name!r}; names are those of the IANA database, such as"
                " America/New_York"
            ) from error
        return name
