"""Order of states, and what the command line accepts as a list of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import ProfileError
from pipeline.partitions import STATES_BY_POPULATION, order_states, parse_states, state_partitions
from pipeline.specs.states import STATES


def test_every_state_is_listed_once():
    assert len(STATES_BY_POPULATION) == 51
    assert sorted(STATES_BY_POPULATION) == sorted(state.postal for state in STATES)


@given(st.permutations(["RI", "DE", "CA", "WY", "TX"]))
def test_the_largest_state_comes_first_in_whatever_order_they_are_given(states):
    assert order_states(states) == ["CA", "TX", "RI", "DE", "WY"]


def test_partition_keys_are_postal_codes_in_that_order():
    assert state_partitions(["DE", "RI", "DE"]).get_partition_keys() == ["RI", "DE"]


def test_an_unknown_code_is_named():
    with pytest.raises(ProfileError, match="Not postal codes of a state: XX"):
        order_states(["RI", "XX"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(None, ["RI", "DE"], id="all"),
        pytest.param(" ", ["RI", "DE"], id="blank"),
        pytest.param("de", ["DE"], id="lower-case"),
        pytest.param("DE, RI,", ["RI", "DE"], id="ordered by size"),
    ],
)
def test_states_of_the_command_line(text, expected):
    assert parse_states(text, ["DE", "RI"], "sample") == expected


def test_a_state_the_profile_does_not_have_is_refused_with_those_it_has():
    with pytest.raises(ProfileError, match=r"Profile sample has no state WY.*RI, DE"):
        parse_states("RI,WY", ["DE", "RI"], "sample")
