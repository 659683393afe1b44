"""The assets of a profile as far as currency needs them: what each is made from, by which function,
with which specifications, from which raw files.

Belongs here: from Dagster's definitions to plain nodes, and what is particular about single assets.
Does not belong here: digests (``code.py``, ``specs.py``, ``raw.py``) or a verdict (``judge.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any, Literal

import dagster as dg

from pipeline.assets.names import GATE
from pipeline.code_used import OURS

Rests = Literal[
    "source", "survey", "geography", "donor", "generated", "weights", "nation", "manifest", "all"
]
"""What kind of specifications and files an asset rests on."""
WITHOUT_TABLE = ("generated", "manifest")


@dataclass(frozen=True)
class Node:
    """An asset. ``step``: the assets that are made in one step with it; ``parents``: assets whose
    tables it reads; ``after``: assets that must be done before, of which it reads none;
    ``functions``: module and name of what makes it.
    """

    name: str
    by_state: bool
    step: frozenset[str]
    operation: str
    parents: frozenset[str]
    after: frozenset[str]
    functions: frozenset[tuple[str, str]]
    rests: Rests = "all"

    @property
    def tabular(self) -> bool:
        """Whether it has a table of its own."""
        return self.rests not in WITHOUT_TABLE

    @property
    def before(self) -> frozenset[str]:
        """Everything that must be done first."""
        return self.parents | self.after


@dataclass(frozen=True)
class Graph:
    """Nodes by name, in an order in which parents come first."""

    nodes: Mapping[str, Node] = field(default_factory=dict)

    def of_states(self) -> list[Node]:
        """Assets of one state."""
        return [node for node in self.nodes.values() if node.by_state]

    def above_states(self) -> list[Node]:
        """Assets of the nation that no state's table goes into."""
        return [n for n in self.nodes.values() if not n.by_state and not self._below_state(n)]

    def below_states(self) -> list[Node]:
        """Assets of the nation that are made from states' tables."""
        return [n for n in self.nodes.values() if not n.by_state and self._below_state(n)]

    def _below_state(self, node: Node) -> bool:
        before = [self.nodes[name] for name in node.before if name in self.nodes]
        return any(parent.by_state or self._below_state(parent) for parent in before)


def graph_of(assets: Iterable[dg.AssetsDefinition], particular: Mapping[str, Rests]) -> Graph:
    """The graph of ``assets``; ``particular``: assets that do not rest on all specifications."""
    found: dict[str, Node] = {}
    for asset in assets:
        if asset.keys == {dg.AssetKey(GATE)}:
            # It holds nothing, and only puts runs in order.
            continue
        # An input that hands nothing on (`deps=`) is there for the order alone.
        silent = {
            key.to_user_string()
            for name, key in asset.keys_by_input_name.items()
            if asset.node_def.input_def_named(name).dagster_type.is_nothing
        }
        functions = frozenset(_functions(_body(asset)))
        for key in asset.keys:
            name = key.to_user_string()
            before = {parent.to_user_string() for parent in asset.asset_deps[key]} - {GATE}
            found[name] = Node(
                name,
                asset.partitions_def is not None,
                frozenset(each.to_user_string() for each in asset.keys),
                asset.node_def.name,
                frozenset(before - silent),
                frozenset(before & silent),
                functions,
                particular.get(name, "all"),
            )
    return Graph({node.name: node for node in _in_order(found)})


def _body(asset: dg.AssetsDefinition) -> Any:
    made: Any = asset.op.compute_fn
    return getattr(made, "decorated_fn", made)


def _functions(made: Any) -> Iterator[tuple[str, str]]:
    """Module and top-level name of what makes an asset: of its body, what it wraps, and what these
    were given."""
    waiting, done = [made], set()
    while waiting:
        function = waiting.pop()
        if not isinstance(function, FunctionType) or function in done:
            continue
        done.add(function)
        if function.__module__.split(".")[0] in OURS:
            yield function.__module__, function.__qualname__.split(".")[0]
        waiting += [cell.cell_contents for cell in function.__closure__ or ()]


def _in_order(nodes: Mapping[str, Node]) -> list[Node]:
    done: dict[str, Node] = {}

    def take(node: Node) -> None:
        if node.name in done:
            return
        for name in sorted(node.before):
            if name in nodes:
                take(nodes[name])
        done[node.name] = node

    for name in sorted(nodes):
        take(nodes[name])
    return list(done.values())
