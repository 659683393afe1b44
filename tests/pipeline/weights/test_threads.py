"""One, two and four threads: every table of a state has the same bytes, from raw files to weights.

Each number of threads is a process of its own, because BLAS, torch, numba and polars read it when
they start. In one process with limits set afterwards the difference that users had did not show.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.sample.generate import generate_sample
from pipeline.sample.settings import load_settings

VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "POLARS_MAX_THREADS",
)
STATE = """
import hashlib, json, sys
from pathlib import Path
from pipeline import steps
from pipeline.io_manager import encode
from pipeline.loaded_state import load_state
from pipeline.weights.settings import pairs_of

loaded = load_state("sample", "DE", Path(sys.argv[1]))
state = loaded.ready
dense, _ = steps.dense_weights(state)
pairs, _ = steps.selected_pairs(state, dense, pairs_of(state.profile, len(state.leaves)))
weights, _ = steps.refined_weights(state, dense, pairs)
made = {"targets": state.targets, "units": state.units, "areas": state.areas}
made |= {"dense": dense, "pairs": pairs, "weights": weights}
tables = {**loaded.inputs.records, **made}
print(json.dumps({n: hashlib.sha256(encode(t, {})).hexdigest() for n, t in tables.items()}))
"""
SUMS = """
import hashlib, json
import numpy as np
import polars as pl
from pipeline.io_manager import encode
from pipeline.loaded_state import load_state
from pipeline.ordered_sums import mean_in_order, series_total, sum_across, sum_in_order

rng = np.random.default_rng(0)
n = 300_000
table = pl.DataFrame(
    {"few": rng.integers(0, 5, n), "many": rng.integers(0, 90_000, n),
     "x": np.exp(6.0 * rng.normal(size=n)), "y": rng.normal(size=n), "order": rng.permutation(n)}
)
kept = table.filter(pl.col("y") > -2.0)
answers = {"file": kept, "total": pl.DataFrame({"x": [series_total(kept["x"])]}),
           "across": kept.select(sum_across(["x", "y", pl.col("x") * 0.1, pl.col("y") / 3.0]))}
for by in ("few", "many"):
    answers[by] = kept.group_by(by).agg(
        sum_in_order("x", "order"), mean_in_order("y", "order"), z=mean_in_order("x")
    ).sort(by)
print(json.dumps({n: hashlib.sha256(encode(t, {})).hexdigest() for n, t in answers.items()}))
"""


def digests(program: str, threads: int, *arguments: str) -> dict[str, str]:
    """What ``program`` prints in a process with so many threads."""
    environment = {**os.environ, **dict.fromkeys(VARIABLES, str(threads))}
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        capture_output=True,
        text=True,
        env=environment,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def raw(tmp_path_factory) -> str:
    return str(generate_sample(tmp_path_factory.mktemp("raw"), load_settings()).root)


def test_a_state_has_the_same_bytes_for_any_number_of_threads(raw):
    one = digests(STATE, 1, raw)
    assert len(one) == 9 and "weights" in one
    for threads in (2, 4):
        assert digests(STATE, threads, raw) == one


def test_sums_and_files_have_the_same_bytes_for_any_number_of_threads():
    one = digests(SUMS, 1)
    for threads in (2, 4, 8):
        assert digests(SUMS, threads) == one
