"""The benchmark of spreads: whole on a few pairs, its figures those of the selection."""

import json

import pytest

from benchmarks.selection_spread import main
from calibration_core.tree.select import joint, pairs


@pytest.mark.parametrize("extra", [[], ["--three-levels", "--draw", "random"]])
def test_every_spread_is_measured_and_nothing_stays_replaced(tmp_path, extra):
    path, before = tmp_path / "rows.json", (pairs.exchange, joint.refine_pairs)
    small = ["--pairs", "600", "--records", "1500", "--areas", "10", "2", "--json", str(path)]
    assert main([*small, *extra]) == 0
    assert (pairs.exchange, joint.refine_pairs) == before
    rows = json.loads(path.read_text())
    assert [(row["areas"], row["pairs_per_area"]) for row in rows] == [(10, 60), (2, 300)]
    for row in rows:
        assert 0 < row["exchanged"] < row["drawn"] and row["exchanges"] > 0
        assert {"draw", "exchange", "refits"} <= set(row["parts"])
        assert 0.5 < row["inside"] <= 1 and 0 < row["ess"] <= 1
