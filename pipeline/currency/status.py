"""Every state of a profile at a glance: current, stale, failed, running, never run.

Belongs here: one row for each state and one for the nation. Does not belong here: the verdicts
(``judge.py``), or how a table is printed (``pipeline/cli``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.currency.graph import Node
from pipeline.currency.judge import Verdict
from pipeline.currency.plan import Planner, because
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.locks import NATION, holder_of
from pipeline.run_history import History

Standing = Literal["current", "stale", "failed", "running", "never run"]


@dataclass(frozen=True)
class Row:
    """A state, or the nation. ``stale``: assets that a run would make again; ``behind``: those that
    follow if these come out otherwise; ``of``: all it has; ``why`` in words; ``run``: id of the
    newest run, "" where there is none.
    """

    name: str
    standing: Standing
    stale: tuple[str, ...]
    behind: tuple[str, ...]
    of: int
    why: str
    run: str

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name,
            "standing": self.standing,
            "stale": list(self.stale),
            "behind": list(self.behind),
            "assets": self.of,
            "why": self.why,
            "run": self.run,
        }


def rows(
    planner: Planner, states: tuple[str, ...], history: Callable[[str | None], History]
) -> list[Row]:
    """The nation, then each of ``states``."""
    nation = _row(planner, None, (NATIONAL_INPUTS, NATIONAL_OUTPUTS), history)
    return [nation, *(_row(planner, state, (STATES,), history) for state in states)]


def _row(
    planner: Planner,
    state: str | None,
    jobs: tuple[str, ...],
    history: Callable[[str | None], History],
) -> Row:
    nodes = [node for job in jobs for node in planner.nodes(job)]
    if state is None:
        stale = {name: found for job in jobs for name, found in planner.stale(job, None).items()}
    else:
        names = {node.name for node in nodes}
        all_of_it = planner.stale_from_the_start(state)
        stale = {name: found for name, found in all_of_it.items() if name in names}
    record = history(state)
    standing, why = _standing(planner, state, nodes, stale, record)
    last = record.last[0] if record.last else ""
    own = tuple(name for name, found in stale.items() if found.causes)
    behind = tuple(name for name in stale if name not in own)
    return Row(state or NATION, standing, own, behind, len(nodes), why, last)


def _standing(
    planner: Planner,
    state: str | None,
    nodes: list[Node],
    stale: Mapping[str, Verdict],
    record: History,
) -> tuple[Standing, str]:
    holder = holder_of(planner.judge.makings.environment.root, state or NATION)
    if holder is not None:
        return "running", holder.words
    if record.going_on:
        return "running", f"run {record.going_on[0][:8]}"
    if not stale:
        return "current", ""
    if planner.judge.wholly_missing(nodes, state):
        return "never run", ""
    failed = [name for name, found in stale.items() if any(c.kind == "fail" for c in found.causes)]
    why = because(cause for found in stale.values() for cause in found.causes)
    if failed:
        run = next(cause.what for name in failed for cause in stale[name].causes)
        return "failed", f"{failed[0]}: {run}"
    if not any(found.causes for found in stale.values()):
        first = next(iter(stale.values())).behind[0]
        why = f"whether it is turns out once the nation's {first} was made again"
    return "stale", why
