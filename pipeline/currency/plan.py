"""What a run has to make, wave by wave.

Tables that are certainly stale are made first. Those behind them follow only if what they are made
from came out otherwise: after each wave everything is judged again. A wave takes in whatever must
be made in any case, so that a state which was never run is one wave, and one whose tables all rest
on changed code too.

Belongs here: the choice of the next wave. Does not belong here: the verdicts (``judge.py``), or
running a wave (``pipeline/runs.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.currency.graph import Node
from pipeline.currency.judge import Cause, Judge, Verdict
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES

# Causes told of a wave before "and N more".
TOLD = 3


@dataclass(frozen=True)
class Wave:
    """Assets to make now, in so many ``steps``; ``behind``: others that follow if these come out
    otherwise; ``total``: assets of the job; ``causes``: why.
    """

    assets: tuple[str, ...]
    steps: int
    behind: tuple[str, ...]
    total: int
    causes: tuple[Cause, ...] = ()

    @property
    def words(self) -> str:
        """What is made, of how many, and why, in one line."""
        number = f"{len(self.assets)} of {self.total} assets"
        more = f", and up to {len(self.behind)} that are made from them" if self.behind else ""
        return f"{number}{more}, because {because(self.causes)}"


def because(causes: Iterable[Cause]) -> str:
    """Causes in words, the same once."""
    words = list(dict.fromkeys(cause.words for cause in causes))
    more = f", and {len(words) - TOLD} more" if len(words) > TOLD else ""
    return "; ".join(words[:TOLD]) + more if words else "all was asked for"


class Planner:
    """Waves for one call of a run. ``config``: what it asks, by step; ``force``: every asset once,
    whatever is stored.
    """

    def __init__(
        self, judge: Judge, config: Mapping[str, Mapping[str, Any]] | None = None, *, force: bool
    ) -> None:
        self.judge, self._config = judge, dict(config or {})
        self._force, self._forced = force, set[tuple[str, str | None]]()

    def nodes(self, job: str) -> list[Node]:
        """The assets of a job, in order."""
        graph = self.judge.makings.graph
        of = {
            NATIONAL_INPUTS: graph.above_states,
            STATES: graph.of_states,
            NATIONAL_OUTPUTS: graph.below_states,
        }
        return of[job]()

    def stale(self, job: str, state: str | None) -> dict[str, Verdict]:
        """The job's assets that are not current."""
        return self.judge.stale(self.nodes(job), state, self._config)

    def stale_from_the_start(self, state: str) -> dict[str, Verdict]:
        """Assets that are not current of the nation's inputs and of the state, which is made from
        them."""
        nodes = self.nodes(NATIONAL_INPUTS) + self.nodes(STATES)
        return self.judge.stale(nodes, state, self._config)

    def needs(self, job: str, state: str | None) -> bool:
        """Whether there is anything to make."""
        asked = self._force and (job, state) not in self._forced
        return asked or bool(self.stale(job, state))

    def wave(self, job: str, state: str | None) -> Wave | None:
        """The next wave of a job, or None where nothing is left to make."""
        nodes = self.nodes(job)
        if self._force and (job, state) not in self._forced:
            self._forced.add((job, state))
            steps = len({node.operation for node in nodes})
            return Wave(tuple(node.name for node in nodes), steps, (), len(nodes))
        stale = self.stale(job, state)
        if not stale:
            return None
        chosen = self._certain(nodes, stale)
        causes = [cause for name in chosen if name in stale for cause in stale[name].causes]
        behind = tuple(name for name in stale if name not in chosen)
        steps = len({node.operation for node in nodes if node.name in chosen})
        return Wave(tuple(chosen), steps, behind, len(nodes), tuple(causes))

    @staticmethod
    def _certain(nodes: Iterable[Node], stale: Mapping[str, Verdict]) -> dict[str, None]:
        """Assets that have to be made whatever others come out as, in order; whole steps.

        Weights of other inputs are other weights, and so is what is made of them: asking again
        after each would cost a run for nothing.
        """
        chosen: dict[str, None] = {}
        others: set[str] = set()
        for node in nodes:
            verdict = stale.get(node.name)
            if verdict is None or not all(name in chosen for name in verdict.behind):
                continue
            kinds = {cause.kind for cause in verdict.causes}
            follows = bool(others & set(verdict.behind))
            if kinds or follows:
                chosen[node.name] = None
            if follows or (node.rests == "weights" and kinds & {"input", "config"}):
                others.add(node.name)
        made = {name for node in nodes if node.name in chosen for name in node.step}
        return {node.name: None for node in nodes if node.name in made}
