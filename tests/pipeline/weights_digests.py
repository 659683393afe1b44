"""Digests of the sample's weights, recorded by kind of processor, and how to record them.

    python -m tests.pipeline.weights_digests        record them for this processor

Record them when numbers are meant to change, and say in the commit what changed and why. Pairs and
weights may differ between processors (docs/architecture.md, what the bits depend on), so each kind
has its own; a processor that is not listed is skipped by the test, by name.

Belongs here: what is digested, and the file. Does not belong here: the comparison
(``test_weights_digests.py``).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path

import polars as pl

from pipeline import steps
from pipeline.processor import processor_line
from pipeline.sample.generate import generate_sample
from pipeline.sample.settings import load_settings
from pipeline.specs.catalog import load_catalog
from pipeline.weights.settings import pairs_of

FILE = Path(__file__).with_name("weights_digests.json")
PROFILE, STATES, SCALE = "sample", ("DE", "RI"), 0.35
# More would see the last bits of a solver that stops at a tolerance.
DIGITS = 6


def weights_of(folder: Path, postal: str) -> pl.DataFrame:
    """The product of one state of the sample, by the steps of a run."""
    state = steps.load_state(PROFILE, postal, folder).ready
    dense, _ = steps.dense_weights(state)
    pairs = pairs_of(state.profile, len(state.leaves))
    selected, _ = steps.selected_pairs(state, dense, pairs)
    return steps.refined_weights(state, dense, selected)[0]


def digests_of(weights: pl.DataFrame) -> dict[str, str]:
    """SHA-256 of the pairs chosen, and of the pairs with their weights to six digits."""
    pairs = weights.select("household_id", "tract", "county")
    whole = pairs.with_columns(weights["weight"].round_sig_figs(DIGITS))
    tables = {"pairs": pairs, "weights": whole}
    return {k: hashlib.sha256(t.write_csv().encode()).hexdigest() for k, t in tables.items()}


def digests(folder: Path) -> dict[str, dict[str, str]]:
    """Digests of every state of the sample, a third of its size."""
    load_catalog()
    generate_sample(folder, load_settings().model_copy(update={"scale": SCALE}))
    return {postal: digests_of(weights_of(folder, postal)) for postal in STATES}


def recorded() -> dict[str, dict[str, dict[str, str]]]:
    """By processor, by state."""
    return json.loads(FILE.read_text()) if FILE.exists() else {}


def main() -> None:
    """Record the digests of this processor."""
    with tempfile.TemporaryDirectory() as folder:
        found = digests(Path(folder))
    FILE.write_text(json.dumps(recorded() | {processor_line(): found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
