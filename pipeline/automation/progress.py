"""How far a production run is, and what it needs next.

Belongs here: the rules, on plain values. Does not belong here: Dagster's records of runs
(``history.py``) or asking for runs (``production.py``).

A production run is: national inputs, every state, then the national tables. States that fail are
started again ``retries`` times. The tables are made once every state has ENDED, by success or not,
if at least one was made. A state that a person cancelled is not started again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["waiting", "made", "failed", "canceled"]
"""Of one run: under way or queued, succeeded, failed, cancelled by a person."""


@dataclass(frozen=True)
class Progress:
    """One production run. ``origin`` names it; ``to_start``: states to ask for now, each with the
    number of its attempt; ``waiting``: states under way; ``made``, ``failed``, ``canceled``: states
    that ended for good. ``national``: the run of the national tables, None where there is none.
    """

    origin: str
    to_start: tuple[tuple[str, int], ...] = ()
    waiting: tuple[str, ...] = ()
    made: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    canceled: tuple[str, ...] = ()
    national: Status | None = None

    @property
    def states_ended(self) -> bool:
        return not self.to_start and not self.waiting

    @property
    def wants_national(self) -> bool:
        """Whether the national tables are to be asked for now."""
        return self.states_ended and bool(self.made) and self.national is None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to this production run."""
        without_tables = not self.made and self.national is None
        return self.states_ended and (without_tables or self.national not in (None, "waiting"))

    @property
    def clean(self) -> bool:
        """Ended with every state and the national tables made."""
        lost = self.failed or self.canceled
        return self.ended and bool(self.made) and not lost and self.national == "made"


def progress_of(
    origin: str,
    states: Sequence[str],
    attempts: Mapping[str, Sequence[Status]],
    national: Status | None,
    retries: int,
) -> Progress:
    """The progress of a production run over ``states``, in their order.

    ``attempts``: the statuses of each state's runs, oldest first. The newest decides; a state with
    none is to be started. No state is asked for more than ``retries + 1`` times.
    """
    sorted_in: dict[str, list[str]] = {name: [] for name in ("waiting", "made", "failed")}
    sorted_in["canceled"] = []
    to_start = []
    for state in states:
        runs = attempts.get(state, ())
        newest = runs[-1] if runs else "failed"
        if newest == "failed" and len(runs) <= retries:
            to_start.append((state, len(runs) + 1))
        else:
            sorted_in[newest].append(state)
    parts = {name: tuple(found) for name, found in sorted_in.items()}
    return Progress(origin, tuple(to_start), national=national, **parts)
