"""Addresses and paths of a publication's files: placeholders, and what an address must be.

Belongs here: filling in year, state and table, the name that a publisher gives a file, and faults
of addresses. Does not belong here: which publication has which files (``sources.py``), or a request
over the network (``pipeline/fetch/``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

from pipeline.specs.states import State

# The state's marks in a path or an address: postal code in either case, FIPS code, name without
# spaces.
STATE_MARKS = ("{st}", "{ST}", "{fips}", "{State}")
_MARKS = ("{year}", "{yy}", "{table}", *STATE_MARKS)
ADDRESS = r"^https?://[^\s/]+/\S*$"


def fill(
    pattern: str, vintage: str, *, state: State | None = None, table: str | None = None
) -> str:
    """``pattern`` with {year}, {yy}, {st}, {ST}, {fips}, {State} and {table} replaced, as far as
    they are known.
    """
    values = {"{year}": vintage, "{yy}": vintage[-2:]}
    if state is not None:
        values |= {"{st}": state.postal.lower(), "{ST}": state.postal, "{fips}": state.fips}
        values |= {"{State}": state.compact_name}
    if table is not None:
        values |= {"{table}": table}
    for mark, value in values.items():
        pattern = pattern.replace(mark, value)
    return pattern


def per_state(pattern: str) -> bool:
    """Whether a path or an address holds the state."""
    return any(mark in pattern for mark in STATE_MARKS)


def own_name(address: str) -> str:
    """The name under which a browser would save the file; "" where the address names no file, as
    that of a query does.
    """
    parts = urlsplit(address)
    name = unquote(PurePosixPath(parts.path).name)
    return name if not parts.query and "." in name else ""


def saved_as(paths: Iterable[str], address: str) -> str:
    """The path, of those where a file may lie, under which it is kept when it comes from
    ``address``: the one with the publisher's own name, else the first.
    """
    paths = list(paths)
    name = own_name(address)
    return next((path for path in paths if PurePosixPath(path).name == name), paths[0])


def unknown_marks(pattern: str) -> list[str]:
    """Placeholders in a path or an address that nothing fills in."""
    return sorted(set(re.findall(r"\{[^{}]*\}", pattern)) - set(_MARKS))


def names_a_file(address: str) -> bool:
    """Whether an address is that of a file or of a query, not of a page or a folder."""
    return bool(urlsplit(address).query or own_name(address))


def holds_a_key(address: str) -> bool:
    """Whether an address has a parameter for a key or a password."""
    named = {name.lower() for name in parse_qs(urlsplit(address).query, keep_blank_values=True)}
    return bool(named & {"key", "api_key", "apikey", "token", "password"}) or "@" in address


def shared_addresses(files: Iterable[tuple[str, str]]) -> list[str]:
    """Addresses that more than one path claims, of pairs (path, address)."""
    claimed: dict[str, set[str]] = {}
    for path, address in files:
        claimed.setdefault(address, set()).add(path)
    return sorted(address for address, paths in claimed.items() if len(paths) > 1)
