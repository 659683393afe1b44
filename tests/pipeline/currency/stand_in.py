"""Tables that stand in for a run's: of every asset of a profile, with the facts that a run would
store beside them, and no work.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from pipeline.currency.graph import Node
from pipeline.currency.making import Makings
from pipeline.io_manager import encode, write_atomic
from pipeline.stored import StoredTables, table_name

STATES = ("RI", "DE")


def make(
    makings: Makings,
    node: Node,
    state: str | None,
    value: int = 0,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Store one table, whose content is ``value``, made from what lies there now."""
    tables, own = StoredTables(makings.environment.root), state if node.by_state else None
    if node.rests == "manifest":
        _manifest(makings, node, own)
        return
    inputs = {}
    for parent in node.parents:
        above = makings.graph.nodes[parent]
        for each in STATES if above.by_state and not node.by_state else (own,):
            name = table_name(parent, each if above.by_state else None)
            found = tables.look(name)
            if found is not None and (node.by_state or not tables.broken_link(name)):
                inputs[name] = found.content
    making = makings.now(node.name, own, config or {})
    facts: dict[str, Any] = {
        "inputs": inputs,
        "making": makings.facts(node.name, own, config or {}),
    }
    if making.listed:
        facts["provenance"] = [{"file": f, "sha256": sha} for f, sha in making.files.items()]
    frame = pl.DataFrame({"asset": [node.name], "of": [own or ""], "value": [value]})
    write_atomic(makings.environment.table_path(node.name, own), encode(frame, facts))


def _manifest(makings: Makings, node: Node, state: str | None) -> None:
    tables = StoredTables(makings.environment.root)
    listed = {}
    for other in makings.graph.nodes.values():
        if other.by_state or other in makings.graph.above_states():
            found = tables.look(table_name(other.name, state if other.by_state else None))
            listed |= {other.name: {"sha256": found.sha256}} if found is not None else {}
    document = {"tables": listed, "manifest_code": makings.now(node.name, state).facts()["code"]}
    path = makings.environment.manifests / f"{state}.json"
    write_atomic(path, json.dumps(document).encode())


def make_all(makings: Makings) -> None:
    """Every table of the nation and the states."""
    for node in makings.graph.nodes.values():
        for state in STATES if node.by_state else (None,):
            make(makings, node, state)
