"""Digests of the sample's weights, the same on every processor, and how to record them.

    python -m tests.pipeline.weights_digests        record them

Record them when numbers are meant to change, and say in the commit what changed and why. Pairs are
chosen by rounded numbers, and weights differ between processors in their last four of sixteen
digits (docs/architecture.md, what the bits depend on). These came out alike with AVX-512, with AVX2
and without FMA (NPY_DISABLE_CPU_FEATURES, OPENBLAS_CORETYPE, ATEN_CPU_CAPABILITY, NUMBA_CPU_NAME).

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
from pipeline.loaded_state import load_state
from pipeline.sample.generate import generate_sample
from pipeline.sample.settings import load_settings
from pipeline.specs.catalog import load_catalog
from pipeline.weights.settings import pairs_of

FILE = Path(__file__).with_name("weights_digests.json")
PROFILE, STATES, SCALE = "sample", ("DE", "RI"), 0.35
# More would see the last bits of a solver that stops at a tolerance.
DIGITS = 5


def weights_of(folder: Path, postal: str) -> pl.DataFrame:
    """The product of one state of the sample, by the steps of a run."""
    state = load_state(PROFILE, postal, folder).ready
    dense, _ = steps.dense_weights(state)
    pairs = pairs_of(state.profile, len(state.leaves))
    selected, _ = steps.selected_pairs(state, dense, pairs)
    return steps.refined_weights(state, dense, selected)[0]


def digests_of(weights: pl.DataFrame) -> dict[str, str]:
    """SHA-256 of the pairs chosen, and of the pairs with their weights to five digits."""
    pairs = weights.select("household_id", "tract", "county")
    whole = pairs.with_columns(weights["weight"].round_sig_figs(DIGITS))
    tables = {"pairs": pairs, "weights": whole}
    return {k: hashlib.sha256(t.write_csv().encode()).hexdigest() for k, t in tables.items()}


def digests(folder: Path) -> dict[str, dict[str, str]]:
    """Digests of every state of the sample, a third of its size."""
    load_catalog()
    generate_sample(folder, load_settings().model_copy(update={"scale": SCALE}))
    return {postal: digests_of(weights_of(folder, postal)) for postal in STATES}


def recorded() -> dict[str, dict[str, str]]:
    """By state."""
    return json.loads(FILE.read_text())


def main() -> None:
    """Record the digests."""
    with tempfile.TemporaryDirectory() as folder:
        found = digests(Path(folder))
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
