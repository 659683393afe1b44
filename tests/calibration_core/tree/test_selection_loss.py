"""What selection lost, against direct computations on small problems."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from calibration_core.common.digits import to_choose_by
from calibration_core.common.weight_shape import WeightShape
from calibration_core.common.weighted_distribution import (
    CodedVariables,
    distributions,
    weighted_correlation,
)
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import make_targets
from calibration_core.tree.select.area_losses import correlation_difference
from calibration_core.tree.select.loss_report import SelectionLoss, selection_loss
from calibration_core.tree.select.pool import Pool

TREE = GeographyTree.from_leaves(
    ["state", "county", "tract"],
    [
        ["44"] * 5,
        ["44001", "44001", "44003", "44003", "44003"],
        ["44001000100", "44001000200", "44003000100", "44003000200", "44003000300"],
    ],
)
RECORDS = 40
WHOLE = np.array([10.0, 50.0, 90.0])


def measured(dense, leaf, record, weights, *, cell, continuous, tree=TREE, **more) -> SelectionLoss:
    """The loss in a pool without targets."""
    records = dense.shape[1]
    nothing = [np.zeros((size, 0)) for size in tree.sizes]
    targets = make_targets(tree, [np.zeros((records, 0))] * len(nothing), nothing, nothing)
    pool = Pool(tree, targets, dense, cell, np.zeros(records), np.zeros((records, 0)))
    return selection_loss(pool, leaf, record, weights, continuous=continuous, **more)


def world(seed: int) -> dict[str, np.ndarray]:
    """Dense weights with zeros, cells, and incomes of which many are zero, some negative and some
    tied.
    """
    rng = np.random.default_rng(seed)
    dense = rng.gamma(0.6, 3.0, (5, RECORDS)) * (rng.random((5, RECORDS)) < 0.8)
    dense[:, :3] += 0.5
    wage = np.where(rng.random(RECORDS) < 0.3, 0.0, np.round(rng.lognormal(10.5, 0.8, RECORDS), -3))
    business = np.where(rng.random(RECORDS) < 0.7, 0.0, rng.normal(5e3, 2e4, RECORDS))
    return {
        # As a pool rounds them.
        "dense": to_choose_by(dense),
        "cell": rng.integers(0, 6, RECORDS) * 7,
        "continuous": np.column_stack([wage, business, wage + business]),
    }


def sparse(dense: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng([seed, 1])
    leaf, record = np.nonzero((dense > 0) & (rng.random(dense.shape) < 0.4))
    return leaf, record, dense[leaf, record] * rng.uniform(0.5, 4.0, leaf.size)


def arrays(loss: object, path: str = "") -> dict[str, np.ndarray]:
    """Every array of a result by its place."""
    found: dict[str, np.ndarray] = {}
    for field in dataclasses.fields(loss):
        value, name = getattr(loss, field.name), f"{path}.{field.name}"
        parts = enumerate(value) if field.name == "levels" else [("", value)]
        for i, part in parts:
            found |= (
                arrays(part, f"{name}{i}")
                if dataclasses.is_dataclass(part)
                else {f"{name}{i}": np.asarray(part)}
                if isinstance(part, np.ndarray)
                else {}
            )
    return found


def same(a: SelectionLoss, b: SelectionLoss) -> None:
    left, right = arrays(a), arrays(b)
    assert left.keys() == right.keys()
    for name, value in left.items():
        np.testing.assert_allclose(value, right[name], rtol=1e-9, atol=1e-12, err_msg=name)


@given(st.integers(0, 10_000))
@settings(max_examples=25, deadline=None)
def test_dense_weights_written_out_lose_nothing(seed):
    given_ = world(seed)
    dense = given_["dense"]
    leaf, record = np.nonzero(dense)
    loss = measured(
        dense,
        leaf,
        record,
        dense[leaf, record],
        cell=given_["cell"],
        continuous=given_["continuous"],
    )
    assert loss.pairs_outside == 0
    for area in (*loss.levels, loss.overall):
        for name in (
            "cell_distance",
            "uncovered_share",
            "kolmogorov",
            "pearson_largest",
            "pearson_rms",
            "rank_largest",
            "rank_rms",
        ):
            value = getattr(area, name)
            np.testing.assert_allclose(value[np.isfinite(value)], 0.0, atol=1e-10, err_msg=name)
        assert area.cells_uncovered.sum() == 0
        for field in dataclasses.fields(WeightShape):
            np.testing.assert_allclose(
                getattr(area.dense, field.name), getattr(area.selected, field.name), rtol=1e-12
            )
        np.testing.assert_allclose(area.record_ess_dense, area.record_ess_selected, rtol=1e-12)
        np.testing.assert_allclose(area.positive_dense, area.positive_selected, rtol=1e-12)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_neither_the_order_of_pairs_nor_of_records_matters_nor_the_scale_of_weights(seed):
    given_ = world(seed)
    leaf, record, weights = sparse(given_["dense"], seed)
    loss = measured(
        given_["dense"], leaf, record, weights, cell=given_["cell"], continuous=given_["continuous"]
    )
    rng = np.random.default_rng([seed, 2])
    shuffled, moved = rng.permutation(leaf.size), rng.permutation(RECORDS)
    place = np.argsort(moved)
    again = measured(
        given_["dense"][:, moved],
        leaf[shuffled],
        place[record][shuffled],
        weights[shuffled],
        cell=given_["cell"][moved],
        continuous=given_["continuous"][moved],
    )
    same(loss, again)
    tripled = measured(
        given_["dense"],
        leaf,
        record,
        3 * weights,
        cell=given_["cell"],
        continuous=given_["continuous"],
    )
    for name in ("cell_distance", "kolmogorov", "pearson_rms", "rank_rms"):
        np.testing.assert_allclose(
            getattr(tripled.levels[-1], name), getattr(loss.levels[-1], name), atol=1e-10
        )


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_each_area_agrees_with_a_direct_computation(seed):
    given_ = world(seed)
    dense, cell, values = given_["dense"], given_["cell"], given_["continuous"]
    leaf, record, weights = sparse(dense, seed)
    loss = measured(dense, leaf, record, weights, cell=cell, continuous=values)
    written = np.zeros_like(dense)
    written[leaf, record] = weights
    for depth, area in enumerate(loss.levels):
        ancestor = TREE.ancestor_of_leaves(depth)
        for i in range(TREE.sizes[depth]):
            d, s = dense[ancestor == i].sum(axis=0), written[ancestor == i].sum(axis=0)
            share = [[w[cell == c].sum() / w.sum() for c in np.unique(cell)] for w in (d, s)]
            assert area.cell_distance[i] == pytest.approx(
                sum(max(0.0, a - b) for a, b in zip(*share, strict=True))
            )
            assert area.uncovered_share[i] == pytest.approx(
                sum(a for a, b in zip(*share, strict=True) if b == 0)
            )
            for v, x in enumerate(values.T):
                gap = max(abs(d[x <= at].sum() / d.sum() - s[x <= at].sum() / s.sum()) for at in x)
                assert area.kolmogorov[i, v] == pytest.approx(gap)
                assert area.positive_selected[i, v] == pytest.approx(s[x > 0].sum() / s.sum())
                assert area.mean_dense[i, v] == pytest.approx(d @ x / d.sum())
            assert area.record_ess_dense[i] == pytest.approx(d.sum() ** 2 / (d**2).sum())
            w = np.sort(written[ancestor == i][written[ancestor == i] > 0])
            assert area.selected.count[i] == w.size
            assert area.selected.ess[i] == pytest.approx(w.sum() ** 2 / (w**2).sum())
            assert area.selected.design_effect[i] == pytest.approx(1 + w.var() / w.mean() ** 2)
            assert (area.selected.largest[i], area.selected.smallest[i]) == (w[-1], w[0])
            assert area.selected.top_share[i] == pytest.approx(
                w[-max(1, round(0.01 * w.size)) :].sum() / w.sum()
            )


def test_a_planted_shift_is_measured_exactly():
    """100 households of two kinds; a tenth of the weight moves from the poor cell to
    the rich one.
    """
    tree = GeographyTree.from_leaves(["state", "tract"], [["44"], ["44001000100"]])
    dense = np.array([[50.0, 50.0]])
    income = np.array([[20_000.0], [80_000.0]])
    pair = (np.zeros(2, dtype=np.int64), np.arange(2))
    loss = measured(
        dense, *pair, np.array([40.0, 60.0]), cell=np.array([3, 8]), continuous=income, tree=tree
    )
    assert loss.cell_numbers.tolist() == [3, 8]
    assert loss.cell_share_selected.tolist() == [0.4, 0.6]
    assert loss.overall.cell_distance[0] == pytest.approx(0.1)
    assert loss.overall.kolmogorov[0, 0] == pytest.approx(0.1)
    medians = loss.overall.quantiles_dense[0, 0, 2], loss.overall.quantiles_selected[0, 0, 2]
    assert medians == (20_000.0, 80_000.0), (
        "half of the dense weight lies at or below 20,000, 40 % of the selected"
    )
    assert loss.levels[0] is loss.overall


def test_lost_cells_and_areas_without_a_pair_are_counted():
    dense = np.ones((5, RECORDS))
    cell = np.array([0] * 30 + [1] * 10)
    leaf, record = np.nonzero(np.ones((4, 30)))
    loss = measured(
        dense, leaf, record, np.ones(leaf.size), cell=cell, continuous=np.arange(RECORDS)[:, None]
    )
    tract = loss.levels[-1]
    np.testing.assert_allclose(tract.uncovered_share, [0.25, 0.25, 0.25, 0.25, 1.0])
    np.testing.assert_allclose(tract.cell_distance, [0.25, 0.25, 0.25, 0.25, 1.0])
    assert tract.cells_uncovered.tolist() == [1, 1, 1, 1, 2]
    assert tract.areas_without_pairs == 1
    assert np.isnan(tract.selected.ess[4]) and np.isnan(tract.kolmogorov[4, 0])
    assert loss.overall.areas_without_pairs == 0


def test_a_pair_that_dense_weights_leave_out_is_counted():
    dense = np.ones((5, RECORDS))
    dense[2, 7] = 0.0
    loss = measured(
        dense,
        np.array([2, 2]),
        np.array([7, 8]),
        np.ones(2),
        cell=np.zeros(RECORDS, int),
        continuous=np.ones((RECORDS, 1)),
    )
    assert loss.pairs_outside == 1
    assert loss.overall.correlations_compared[0] == 0 and np.isnan(loss.overall.pearson_rms[0])


@given(st.lists(st.integers(1, 5), min_size=4, max_size=30), st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_whole_weights_mean_repeated_records(times, seed):
    """A weight of n is the record n times: quantiles, Pearson's r and Spearman's rho are the
    textbook ones of the repeated sample.
    """
    rng = np.random.default_rng(seed)
    values = np.column_stack(
        [rng.integers(-2, 6, len(times)), rng.integers(0, 9, len(times))]
    ).astype(float)
    values[:2] = [[1.0, 0.0], [0.0, 3.0]]
    found = distributions(
        CodedVariables.of(values), np.arange(len(times)), np.array(times, dtype=float), WHOLE
    )
    repeated = np.repeat(values, times, axis=0)
    np.testing.assert_allclose(found.pearson, np.corrcoef(repeated.T), atol=1e-10)
    np.testing.assert_allclose(found.rank[0, 1], stats.spearmanr(repeated).statistic, atol=1e-10)
    for v in range(2):
        positive = repeated[:, v][repeated[:, v] > 0]
        assert found.positive_share[v] == pytest.approx(positive.size / len(repeated))
        np.testing.assert_array_equal(
            found.quantiles[v], np.percentile(positive, WHOLE, method="inverted_cdf")
        )


def test_every_record_once_is_the_same_as_naming_them_in_any_order():
    given_ = world(11)
    variables, weights = CodedVariables.of(given_["continuous"]), np.linspace(1, 2, RECORDS)
    order = np.random.default_rng(0).permutation(RECORDS)
    named, all_of_them = (
        distributions(variables, order, weights[order], WHOLE),
        distributions(variables, None, weights, WHOLE),
    )
    for name in ("function", "positive_share", "quantiles", "mean", "pearson", "rank"):
        np.testing.assert_allclose(
            getattr(named, name), getattr(all_of_them, name), rtol=1e-12, atol=1e-14
        )


def test_variables_of_some_records_say_the_same_of_them_with_their_own_values_alone():
    variables = CodedVariables.of(world(11)["continuous"])
    some = np.random.default_rng(1).choice(RECORDS, RECORDS // 3, replace=False)
    few, weights = variables.at(some), np.linspace(1, 2, some.size)
    assert few.levels.size == sum(np.unique(code).size for code in variables.code[:, some])
    alone = distributions(few, None, weights, WHOLE)
    among = distributions(variables, some, weights, WHOLE)
    for name in ("positive_share", "quantiles", "mean", "pearson", "rank"):
        np.testing.assert_allclose(getattr(alone, name), getattr(among, name), rtol=1e-12)
    np.testing.assert_allclose(
        alone.function[few.code], among.function[variables.code[:, some]], rtol=1e-12
    )


def test_no_positive_amount_has_no_quantile():
    found = distributions(
        CodedVariables.of(np.array([[0.0], [-5.0]])), np.arange(2), np.ones(2), WHOLE
    )
    assert found.positive_share[0] == 0
    assert np.isnan(found.quantiles).all()
    assert found.mean[0] == -2.5


def test_what_does_not_vary_has_no_correlation_and_is_left_out_of_the_difference():
    values = np.column_stack([np.arange(5.0), np.full(5, 0.1), np.arange(5.0) ** 2])
    found = weighted_correlation(values.T, np.ones(5))
    assert np.isnan(found[1]).all() and np.isnan(found[:, 1]).all()
    assert correlation_difference(found, np.where(np.isnan(found), 1.0, found + 0.25)) == (
        pytest.approx(0.25),
        pytest.approx(0.25),
        1,
    )


@given(st.lists(st.lists(st.floats(0, 1e6), max_size=40), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_figures_of_weights_do_not_depend_on_their_blocks(blocks):
    parts = [np.array(block, dtype=float) for block in blocks]
    in_blocks, at_once = (
        WeightShape.of([lambda: iter(parts)]),
        WeightShape.of([lambda: iter([np.concatenate(parts)])]),
    )
    for field in dataclasses.fields(WeightShape):
        np.testing.assert_allclose(
            getattr(in_blocks, field.name), getattr(at_once, field.name), rtol=1e-9
        )


def test_the_heaviest_hundredth_is_found_across_blocks():
    rng = np.random.default_rng(3)
    weights = rng.lognormal(0, 2, 5000)
    shape = WeightShape.of([lambda: iter(np.split(weights, 10))])
    assert shape.top_share[0] == pytest.approx(np.sort(weights)[-50:].sum() / weights.sum())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            {"weights": np.array([1.0, -1.0])}, "selected weights have least -1", id="negative"
        ),
        pytest.param({"weights": np.array([1.0, np.nan])}, "selected weights", id="nan"),
        pytest.param({"weights": np.zeros(2)}, "sum 0", id="nothing selected"),
        pytest.param({"record": np.array([1, 1])}, "1 pairs occur twice", id="twice"),
        pytest.param({"record": np.array([1, RECORDS])}, "outside the dense", id="outside"),
        pytest.param({"record": np.array([1])}, "Leaves", id="shape"),
        pytest.param({"continuous": np.ones((3, 1))}, "continuous of 3 records", id="continuous"),
        pytest.param(
            {"continuous": np.full((RECORDS, 1), np.inf)}, "not all finite", id="infinite"
        ),
        pytest.param({"percentiles": (0.0,)}, "Percentiles", id="percentile"),
        pytest.param({"dense": np.zeros((5, RECORDS))}, "dense weights have least 0", id="dense"),
    ],
)
def test_malformed_input_is_named(change, message):
    sound = {
        "dense": np.ones((5, RECORDS)),
        "leaf": np.zeros(2, dtype=np.int64),
        "record": np.array([1, 2]),
        "weights": np.ones(2),
        "cell": np.zeros(RECORDS, dtype=np.int64),
        "continuous": np.ones((RECORDS, 1)),
    }
    with pytest.raises(ProblemError, match=message):
        measured(**{**sound, **change})


def test_the_summary_says_the_main_figures():
    given_ = world(5)
    loss = measured(
        given_["dense"],
        *sparse(given_["dense"], 5),
        cell=given_["cell"],
        continuous=given_["continuous"],
    )
    text = loss.summary()
    assert (
        f"{loss.overall.cell_distance[0]:.2%}" in text
        and f"design effect {loss.overall.selected.design_effect[0]:.2f}" in text
    )
