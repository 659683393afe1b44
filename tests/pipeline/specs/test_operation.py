"""Schedule, owners and tags of a profile."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.specs.catalog import load_catalog
from pipeline.specs.operation import Schedule
from pipeline.specs.profiles import Profile


@pytest.mark.parametrize(
    "cron", ["0 2 1 * *", "*/15 * * * *", "5,35 0-6 1-7/2 1,7 1-5", "0 0 * * 7", "  0  2 1 * * "]
)
def test_times_that_a_clock_knows(cron):
    assert Schedule(cron=cron).cron == " ".join(cron.split())


@pytest.mark.parametrize(
    ("cron", "named"),
    [
        pytest.param("0 2 1 *", "4 fields", id="too few"),
        pytest.param("60 2 1 * *", "minute '60'", id="minute"),
        pytest.param("0 2 0 * *", "day of the month '0'", id="day"),
        pytest.param("0 9-5 * * *", "hour '9-5'", id="backwards"),
        pytest.param("*/0 * * * *", r"minute '\*/0'", id="every none"),
        pytest.param("@monthly", "1 fields", id="nickname"),
        pytest.param("0 2 first * *", "'first'", id="word"),
    ],
)
def test_times_that_it_does_not(cron, named):
    with pytest.raises(ValidationError, match=named):
        Schedule(cron=cron)


def test_a_time_zone_is_one_of_the_database():
    assert Schedule(timezone="America/New_York").timezone == "America/New_York"
    with pytest.raises(ValidationError, match="no time zone"):
        Schedule(timezone="Eastern Summer")


def test_retries_are_bounded():
    with pytest.raises(ValidationError):
        Schedule(retries=6)


def stated(**more) -> Profile:
    content = load_catalog().profile("sample").model_dump()
    return Profile.model_validate({**content, **more})


def test_owners_are_addresses_or_teams():
    assert stated(owners=["team:weights", "a@example.org"]).owners[0] == "team:weights"
    with pytest.raises(ValidationError, match="neither an e-mail address nor"):
        stated(owners=["somebody"])
