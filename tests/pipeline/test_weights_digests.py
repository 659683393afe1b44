"""The fence around the numbers: work that is not meant to change weights changes none."""

import polars as pl

from tests.pipeline.weights_digests import FILE, digests, digests_of, recorded


def test_the_samples_weights_are_those_recorded_on_whatever_processor(tmp_path):
    assert digests(tmp_path) == recorded(), (
        f"weights of the sample changed: where that is meant, record them again in {FILE.name}"
    )


def test_a_digest_sees_another_pair_and_another_weight():
    table = pl.DataFrame(
        {
            "household_id": ["a", "b"],
            "tract": ["t", "t"],
            "county": ["c", "c"],
            "weight": [1.0, 2.0],
        }
    )
    plain = digests_of(table)
    last_bits = digests_of(table.with_columns(weight=pl.col("weight") * (1 + 1e-12)))
    weight = digests_of(table.with_columns(weight=pl.col("weight") * (1 + 1e-4)))
    pair = digests_of(table.with_columns(household_id=pl.Series(["a", "c"])))
    assert last_bits == plain
    assert weight["pairs"] == plain["pairs"] and weight["weights"] != plain["weights"]
    assert pair["pairs"] != plain["pairs"]
