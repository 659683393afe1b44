"""What was lost between dense and selected weights: cells, continuous variables, correlations,
totals, and the shape of the weights.

Two sets of weights speak of the same areas: dense weights of every (leaf, record) pair, and those
of the k selected pairs. For each area of each level, and for all areas together, with D and S the
dense and selected weight of the area's records:

    cell distance        1/2 sum over cells of |D_c / D - S_c / S|         (total variation; the
    share of households in another cell)
    uncovered share      share of D in cells that no selected pair of the area represents
    Kolmogorov distance  max over x of |F_D(x) - F_S(x)|                   (Kolmogorov 1933), each
    continuous variable
    quantiles            of the positive amounts, and the share of positive amounts apart, each
    under D and under S
    correlations         largest and root mean square difference over pairs of variables, of Pearson
    and of rank correlations

All are zero where the selected weights are the dense ones written out. Areas are taken one after
another, so that nothing larger than the dense weights and (records, variables) is ever held.

Belongs here: the comparison. Does not belong here: figures of one set of weights
(``common/weighted_distribution.py``, ``common/weight_shape.py``), targets, or tables and pictures
of the comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from calibration_core.common.weight_shape import WeightShape
from calibration_core.common.weighted_distribution import (
    CodedVariables,
    WeightedDistributions,
    distributions,
)
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree, membership

PERCENTILES = (10.0, 25.0, 50.0, 75.0, 90.0, 99.0)


@dataclass(frozen=True, eq=False)
class AreaLoss:
    """Losses of several areas; the first axis of every array is the area. NaN stands where an area
    has no dense or no selected weight.

    Attributes
    ----------
    dense_total : (areas,) float64 dense weight, in the unit of the weights (households).
    cells, cells_uncovered : (areas,) int64 cells with dense weight, and those of them without a
        selected pair.
    cell_distance, uncovered_share : (areas,) float64, see above. An area whose pairs were all lost
        has both at 1.
    kolmogorov : (areas, variables) float64.
    positive_dense, positive_selected : (areas, variables) float64 share of the weight with an
        amount above zero.
    mean_dense, mean_selected : (areas, variables) float64 weighted means, zeros included.
    quantiles_dense, quantiles_selected : (areas, variables, percentiles) float64 quantiles of
        positive amounts.
    pearson_largest, pearson_rms, rank_largest, rank_rms : (areas,) float64 differences of
        correlations over pairs of variables that vary under both weights.
    correlations_compared : (areas,) int64 number of those pairs.
    dense, selected : shapes of the weights over (leaf, record) pairs.
    record_ess_dense, record_ess_selected : (areas,) float64 effective sample size of the records,
        each with the sum of its pairs' weights: a record that serves ten tracts is one observation,
        and above the leaves this is what a mean's variance depends on.
    totals_dense, totals_selected : (areas, attributes) float64 weighted totals of ``attributes``.
    """

    dense_total: np.ndarray
    cells: np.ndarray
    cells_uncovered: np.ndarray
    cell_distance: np.ndarray
    uncovered_share: np.ndarray
    kolmogorov: np.ndarray
    positive_dense: np.ndarray
    positive_selected: np.ndarray
    mean_dense: np.ndarray
    mean_selected: np.ndarray
    quantiles_dense: np.ndarray
    quantiles_selected: np.ndarray
    pearson_largest: np.ndarray
    pearson_rms: np.ndarray
    rank_largest: np.ndarray
    rank_rms: np.ndarray
    correlations_compared: np.ndarray
    dense: WeightShape
    selected: WeightShape
    record_ess_dense: np.ndarray
    record_ess_selected: np.ndarray
    totals_dense: np.ndarray
    totals_selected: np.ndarray

    @property
    def areas_without_pairs(self) -> int:
        """Areas with dense weight and no selected pair of positive weight."""
        return int(((self.dense_total > 0) & (self.selected.count == 0)).sum())

    @property
    def quantile_differences(self) -> np.ndarray:
        """(areas, variables, percentiles) float64 relative differences, selected / dense - 1."""
        return self.quantiles_selected / self.quantiles_dense - 1.0


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


def selection_loss(
    dense: np.ndarray,
    leaf: np.ndarray,
    record: np.ndarray,
    weights: np.ndarray,
    *,
    cell: np.ndarray,
    continuous: np.ndarray,
    tree: GeographyTree,
    attributes: np.ndarray | None = None,
    percentiles: tuple[float, ...] = PERCENTILES,
) -> SelectionLoss:
    """Compare selected pairs with the dense weights they stand for.

    Parameters
    ----------
    dense : (leaves, records) float64 >= 0 dense weights.
    leaf, record : (k,) int64 places of the selected pairs, each pair once, in any order.
    weights : (k,) float64 >= 0 their weights.
    cell : (records,) int64 cross-category cell of each record, any numbers.
    continuous : (records, variables) float64, for example incomes in dollars.
    tree : areas above the leaves.
    attributes : (records, attributes) float64 or None: contributions whose totals are compared,
        targeted or not.
    percentiles : percent, each above 0 and at most 100.

    Raises
    ------
    ProblemError : shapes disagree, a weight or amount is negative or not finite where it may not
        be, a pair occurs twice or is outside the dense weights, a percentile is out of range, or
        either set of weights is all zero.
    """
    dense, weights = np.asarray(dense, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    _check(dense, leaf, record, weights, cell, tree, percentiles)
    variables = CodedVariables.of(continuous)
    numbers, kind = np.unique(cell, return_inverse=True)
    attributes = (
        np.zeros((dense.shape[1], 0))
        if attributes is None
        else np.asarray(attributes, dtype=np.float64)
    )
    for name, rows in (("continuous", variables.records), ("attributes", attributes.shape[0])):
        if rows != dense.shape[1]:
            raise ProblemError(
                f"{name} of {rows} records",
                expected=f"{dense.shape[1]} records, as in the dense weights",
            )
    order = np.lexsort((record, leaf))
    pairs = _Pairs(leaf[order], record[order], weights[order], len(tree.leaves))
    both = _Comparison(
        dense,
        pairs,
        variables,
        kind.ravel(),
        numbers.size,
        attributes,
        np.asarray(percentiles, dtype=np.float64),
    )
    whole = both.losses([np.arange(len(tree.leaves))])
    levels = tuple(
        whole if size == 1 else both.losses(_leaves_of(tree.ancestor_of_leaves(depth), size))
        for depth, size in enumerate(tree.sizes)
    )
    d, s = both.areas_weights(np.arange(len(tree.leaves)))
    of_dense, of_selected = (both.distributions(w) for w in (d, s))
    shares = [np.bincount(both.kind, weights=w, minlength=numbers.size) / w.sum() for w in (d, s)]
    outside = int(((dense[pairs.leaf, pairs.record] <= 0) & (pairs.weights > 0)).sum())
    return SelectionLoss(
        tree.levels,
        levels,
        whole,
        numbers,
        *shares,
        of_dense.pearson,
        of_selected.pearson,
        of_dense.rank,
        of_selected.rank,
        both.percentiles,
        outside,
    )


class _Pairs:
    """Selected pairs sorted by leaf, and where each leaf's begin."""

    def __init__(
        self, leaf: np.ndarray, record: np.ndarray, weights: np.ndarray, leaves: int
    ) -> None:
        self.leaf, self.record, self.weights = leaf, record, weights
        self.begin = np.searchsorted(leaf, np.arange(leaves + 1))

    def of(self, leaf: int) -> slice:
        return slice(self.begin[leaf], self.begin[leaf + 1])


class _Comparison:
    """The two sets of weights, and what is known of the records; ``kind`` is the cell's place among
    ``kinds``.
    """

    def __init__(
        self,
        dense: np.ndarray,
        pairs: _Pairs,
        variables: CodedVariables,
        kind: np.ndarray,
        kinds: int,
        attributes: np.ndarray,
        percentiles: np.ndarray,
    ) -> None:
        self.dense, self.pairs, self.variables = dense, pairs, variables
        self.kind, self.kinds, self.attributes, self.percentiles = (
            kind,
            kinds,
            attributes,
            percentiles,
        )

    def areas_weights(self, leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Dense and selected weight of each record in the area made of ``leaves``, (records,)
        float64 both.
        """
        selected = np.zeros(self.dense.shape[1])
        dense = np.zeros_like(selected)
        for leaf in leaves:
            span = self.pairs.of(leaf)
            dense += self.dense[leaf]
            # A record occurs once in a leaf.
            selected[self.pairs.record[span]] += self.pairs.weights[span]
        return dense, selected

    def distributions(self, weights: np.ndarray) -> WeightedDistributions:
        held = np.flatnonzero(weights > 0)
        if held.size == weights.size:
            return distributions(self.variables, None, weights, self.percentiles)
        return distributions(self.variables, held, weights[held], self.percentiles)

    def losses(self, areas: list[np.ndarray]) -> AreaLoss:
        """Losses of areas, each given by its leaves."""
        count, width = len(areas), self.variables.variables
        floats = {name: np.full(count, np.nan) for name in _OF_AREAS}
        wide = {name: np.full((count, width), np.nan) for name in _OF_VARIABLES}
        quantiles = {
            name: np.full((count, width, self.percentiles.size), np.nan)
            for name in ("quantiles_dense", "quantiles_selected")
        }
        whole = {
            name: np.zeros(count, dtype=np.int64)
            for name in ("cells", "cells_uncovered", "correlations_compared")
        }
        totals = {
            name: np.zeros((count, self.attributes.shape[1]))
            for name in ("totals_dense", "totals_selected")
        }
        for i, leaves in enumerate(areas):
            d, s = self.areas_weights(leaves)
            floats["dense_total"][i] = d.sum()
            totals["totals_dense"][i], totals["totals_selected"][i] = (
                d @ self.attributes,
                s @ self.attributes,
            )
            floats["record_ess_dense"][i], floats["record_ess_selected"][i] = _ess(d), _ess(s)
            if not d.any():
                continue
            self._cells(d, s, i, floats, whole)
            if not s.any():
                continue
            of_dense, of_selected = self.distributions(d), self.distributions(s)
            apart = np.abs(of_dense.function - of_selected.function)
            wide["kolmogorov"][i] = (
                np.maximum.reduceat(apart, self.variables.begin[:-1]) if width else 0.0
            )
            for name, found in (("dense", of_dense), ("selected", of_selected)):
                (
                    wide[f"positive_{name}"][i],
                    wide[f"mean_{name}"][i],
                    quantiles[f"quantiles_{name}"][i],
                ) = (found.positive_share, found.mean, found.quantiles)
            for name in ("pearson", "rank"):
                largest, rms, compared = correlation_difference(
                    getattr(of_dense, name), getattr(of_selected, name)
                )
                (
                    floats[f"{name}_largest"][i],
                    floats[f"{name}_rms"][i],
                    whole["correlations_compared"][i],
                ) = (largest, rms, compared)
        shapes = {
            "dense": WeightShape.of([self._dense_blocks(a) for a in areas]),
            "selected": WeightShape.of([self._pair_blocks(a) for a in areas]),
        }
        return AreaLoss(**floats, **wide, **quantiles, **whole, **totals, **shapes)

    def _cells(
        self,
        d: np.ndarray,
        s: np.ndarray,
        i: int,
        floats: dict[str, np.ndarray],
        whole: dict[str, np.ndarray],
    ) -> None:
        mass_d, mass_s = (np.bincount(self.kind, weights=w, minlength=self.kinds) for w in (d, s))
        lost = (mass_d > 0) & (mass_s == 0)
        share_d, kept = mass_d / d.sum(), s.sum()
        whole["cells"][i], whole["cells_uncovered"][i] = (mass_d > 0).sum(), lost.sum()
        floats["uncovered_share"][i] = share_d[lost].sum()
        floats["cell_distance"][i] = (
            0.5 * np.abs(share_d - mass_s / kept).sum() if kept > 0 else 1.0
        )

    def _dense_blocks(self, leaves: np.ndarray) -> Callable[[], Iterable[np.ndarray]]:
        return lambda: (self.dense[leaf] for leaf in leaves)

    def _pair_blocks(self, leaves: np.ndarray) -> Callable[[], Iterable[np.ndarray]]:
        return lambda: (self.pairs.weights[self.pairs.of(leaf)] for leaf in leaves)


_OF_AREAS = (
    "dense_total",
    "cell_distance",
    "uncovered_share",
    "pearson_largest",
    "pearson_rms",
    "rank_largest",
    "rank_rms",
    "record_ess_dense",
    "record_ess_selected",
)
_OF_VARIABLES = ("kolmogorov", "positive_dense", "positive_selected", "mean_dense", "mean_selected")


def correlation_difference(dense: np.ndarray, selected: np.ndarray) -> tuple[float, float, int]:
    """Largest and root mean square |difference| above the diagonal of two (variables, variables)
    matrices, over entries finite in both, and their number; NaN, NaN and 0 where there is none.
    """
    above = np.triu_indices(dense.shape[0], 1)
    difference = selected[above] - dense[above]
    difference = np.abs(difference[np.isfinite(difference)])
    if not difference.size:
        return np.nan, np.nan, 0
    return float(difference.max()), float(np.sqrt(np.mean(difference**2))), int(difference.size)


def _ess(weights: np.ndarray) -> float:
    squares = float(weights @ weights)
    return float(weights.sum()) ** 2 / squares if squares > 0 else np.nan


def _median(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else np.nan


def _worst(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)].max(initial=-np.inf))


def _leaves_of(ancestor: np.ndarray, areas: int) -> list[np.ndarray]:
    """The leaves of each area, ascending."""
    members = membership(ancestor, areas)
    return np.split(members.indices, members.indptr[1:-1])


def _check(
    dense: np.ndarray,
    leaf: np.ndarray,
    record: np.ndarray,
    weights: np.ndarray,
    cell: np.ndarray,
    tree: GeographyTree,
    percentiles,
) -> None:
    if dense.ndim != 2 or dense.shape[0] != len(tree.leaves) or cell.shape != (dense.shape[1],):
        raise ProblemError(
            f"Dense weights {dense.shape} and cells {cell.shape}",
            expected=f"({len(tree.leaves)}, records) and (records,)",
        )
    if not leaf.shape == record.shape == weights.shape == (weights.size,):
        raise ProblemError(
            f"Leaves {leaf.shape}, records {record.shape} and weights {weights.shape}",
            expected="one of each a pair",
        )
    for name, values in (("dense", dense), ("selected", weights)):
        # Negative, infinite and NaN weights all show in the least and the sum: no copy of the dense
        # weights is made.
        least, total = float(values.min(initial=0.0)), float(values.sum())
        if not (least >= 0 and 0 < total < np.inf):
            raise ProblemError(
                f"The {name} weights have least {least} and sum {total}",
                expected="finite weights >= 0, not all zero",
            )
    if weights.size and (
        leaf.min() < 0
        or leaf.max() >= dense.shape[0]
        or record.min() < 0
        or record.max() >= dense.shape[1]
    ):
        raise ProblemError(
            "A pair lies outside the dense weights",
            expected=f"leaves below {dense.shape[0]}, records below {dense.shape[1]}",
        )
    place = np.sort(leaf.astype(np.int64) * dense.shape[1] + record)
    if (place[1:] == place[:-1]).any():
        raise ProblemError(
            f"{int((place[1:] == place[:-1]).sum())} pairs occur twice",
            expected="each (leaf, record) pair once",
        )
    if not all(0 < p <= 100 for p in percentiles):
        raise ProblemError(
            f"Percentiles {percentiles}", expected="percent, above 0 and at most 100"
        )
