"""What was lost between dense and selected weights: cells, continuous variables, correlations,
totals, and the shape of the weights.

Two sets of weights speak of the same areas: dense weights of every (leaf, record) pair, and those
of the k selected pairs. For each area of each level, and for all areas together, with D and S the
dense and selected weight of the area's records:

* cell distance: 1/2 sum over cells of |D_c / D - S_c / S| (total variation), the share of
  households in another cell.
* uncovered share: share of D in cells that no selected pair of the area represents.
* Kolmogorov distance: max over x of |F_D(x) - F_S(x)| (Kolmogorov 1933), for each continuous
  variable.
* quantiles: of the positive amounts, and the share of positive amounts apart, each under D and
  under S.
* correlations: largest and root mean square difference over pairs of variables, of Pearson and of
  rank correlations.

All are zero where the selected weights are the dense ones written out. Areas are taken one after
another, so that nothing larger than the dense weights and (records, variables) is ever held.

Belongs here: the comparison. Does not belong here: figures of one set of weights
(``common/weighted_distribution.py``, ``common/weight_shape.py``), targets, or tables and pictures
of the comparison.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.area_weights import AreaWeights, weights_of
from calibration_core.common.threads import one_thread
from calibration_core.common.weighted_distribution import CodedVariables
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import membership
from calibration_core.tree.select.area_losses import AreaLoss, Comparison, SortedPairs
from calibration_core.tree.select.pool import Pool

PERCENTILES = (10.0, 25.0, 50.0, 75.0, 90.0, 99.0)


@dataclass(frozen=True, eq=False)
class SelectionLoss:
    """What was lost.

    Attributes
    ----------
    level_names : levels of the tree, top first.
    levels : per level, the losses of its areas.
    overall : all areas together as one.
    cell_numbers : (cells,) int64 numbers of the cells in ascending order.
    cell_share_dense, cell_share_selected : (cells,) float64 shares of all weight, overall.
    pearson_dense, pearson_selected, rank_dense, rank_selected : (variables, variables) float64
        correlations overall.
    percentiles : (percentiles,) float64 in percent.
    pairs_outside : selected pairs of positive weight whose dense weight is zero.
    """

    level_names: tuple[str, ...]
    levels: tuple[AreaLoss, ...]
    overall: AreaLoss
    cell_numbers: np.ndarray
    cell_share_dense: np.ndarray
    cell_share_selected: np.ndarray
    pearson_dense: np.ndarray
    pearson_selected: np.ndarray
    rank_dense: np.ndarray
    rank_selected: np.ndarray
    percentiles: np.ndarray
    pairs_outside: int

    def summary(self) -> str:
        """A few lines of text: the losses overall, and at the finest level in the median area and
        the worst.
        """
        whole, finest = self.overall, self.levels[-1]
        ess = finest.selected.ess[np.isfinite(finest.selected.ess)]
        return "\n".join(
            [
                (
                    f"cells: distance {whole.cell_distance[0]:.2%}; by {self.level_names[-1]}"
                    f" median {_median(finest.cell_distance):.1%}, largest"
                    f" {_worst(finest.cell_distance):.1%}"
                ),
                f"continuous variables: largest Kolmogorov distance {_worst(whole.kolmogorov):.2%}",
                (
                    f"correlations: root mean square difference {whole.pearson_rms[0]:.3f}, of"
                    f" ranks {whole.rank_rms[0]:.3f}"
                ),
                (
                    f"effective sample size {whole.selected.ess[0]:,.0f} of"
                    f" {whole.selected.count[0]:,} pairs, design effect"
                    f" {whole.selected.design_effect[0]:.2f}; by {self.level_names[-1]} median"
                    f" {_median(ess):.1f}, least {ess.min(initial=np.inf):.1f}"
                ),
                f"largest weight carries {whole.selected.largest_share[0]:.2%} of the total",
            ]
        )


@one_thread()
def selection_loss(
    pool: Pool,
    leaf: np.ndarray,
    record: np.ndarray,
    weights: np.ndarray,
    *,
    continuous: np.ndarray,
    percentiles: tuple[float, ...] = PERCENTILES,
    dense: np.ndarray | AreaWeights | None = None,
) -> SelectionLoss:
    """Compare selected pairs with the dense weights they stand for.

    Parameters
    ----------
    pool : areas, cells and, rounded, dense weights; its targets and attributes are not looked at.
    leaf, record : (k,) int64 places of the selected pairs, each pair once, in any order.
    weights : (k,) float64 >= 0 their weights.
    continuous : (records, variables) float64, for example incomes in dollars.
    percentiles : percent, each above 0 and at most 100.
    dense : (leaves, records) float64 >= 0 dense weights as they were solved for; default: the
        pool's, which are rounded.

    Raises
    ------
    ProblemError : shapes disagree, a weight or amount is negative or not finite where it may not
        be, a pair occurs twice or is outside the dense weights, a percentile is out of range, or
        either set of weights is all zero.
    """
    weights, tree = np.asarray(weights, dtype=np.float64), pool.tree
    dense = pool.weights if dense is None else weights_of(dense)
    _check(dense, leaf, record, weights)
    if not all(0 < p <= 100 for p in percentiles):
        raise ProblemError(
            f"Percentiles {percentiles}", expected="percent, above 0 and at most 100"
        )
    variables = CodedVariables.of(continuous)
    if variables.records != pool.records:
        raise ProblemError(
            f"continuous of {variables.records} records",
            expected=f"{pool.records} records, as in the dense weights",
        )
    order = np.lexsort((record, leaf))
    pairs = SortedPairs(leaf[order], record[order], weights[order], pool.leaves)
    levels_of = np.asarray(percentiles, dtype=np.float64)
    both = Comparison(dense, pool.cell, pairs, variables, levels_of)
    everywhere = np.arange(pool.leaves)
    whole = both.losses([everywhere])
    levels = tuple(
        whole if size == 1 else both.losses(_leaves_of(tree.ancestor_of_leaves(depth), size))
        for depth, size in enumerate(tree.sizes)
    )
    record, *held = both.areas_weights(everywhere)
    of_dense, of_selected = (both.distributions(record, w) for w in held)
    outside = int(((dense.at(pairs.leaf, pairs.record) <= 0) & (pairs.weights > 0)).sum())
    return SelectionLoss(
        tree.levels,
        levels,
        whole,
        both.cells,
        *both.cell_shares(),
        of_dense.pearson,
        of_selected.pearson,
        of_dense.rank,
        of_selected.rank,
        both.percentiles,
        outside,
    )


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan


def _worst(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)].max(initial=-np.inf))


def _leaves_of(ancestor: np.ndarray, areas: int) -> list[np.ndarray]:
    """The leaves of each area, ascending."""
    members = membership(ancestor, areas)
    return np.split(members.indices, members.indptr[1:-1])


def _check(dense: AreaWeights, leaf: np.ndarray, record: np.ndarray, weights: np.ndarray) -> None:
    leaves, records = dense.shape
    if not leaf.shape == record.shape == weights.shape == (weights.size,):
        raise ProblemError(
            f"Leaves {leaf.shape}, records {record.shape} and weights {weights.shape}",
            expected="one of each per pair",
        )
    extremes = dense.map(lambda block: (block.weight.min(initial=0.0), block.weight.sum()))
    of_dense = min(float(x[0]) for x in extremes), float(np.sum([x[1] for x in extremes]))
    of_selected = float(weights.min(initial=0.0)), float(weights.sum())
    for name, (least, total) in (("dense", of_dense), ("selected", of_selected)):
        # Negative, infinite and NaN weights all show in the least and the sum.
        if not (least >= 0 and 0 < total < np.inf):
            raise ProblemError(
                f"The {name} weights have least {least} and sum {total}",
                expected="finite weights >= 0, not all zero",
            )
    inside = (leaf >= 0) & (leaf < leaves) & (record >= 0) & (record < records)
    if not inside.all():
        raise ProblemError(
            "A pair lies outside the dense weights",
            expected=f"leaves below {leaves}, records below {records}",
        )
    place = np.sort(leaf.astype(np.int64) * records + record)
    twice = int((place[1:] == place[:-1]).sum())
    if twice:
        raise ProblemError(f"{twice} pairs occur twice", expected="each (leaf, record) pair once")
