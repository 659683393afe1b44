"""Losses of areas between two sets of weights of the same records: the figures of
``loss_report.py``.

Areas are taken one after another, so that nothing larger than the dense weights and (records,
variables) is ever held.

Belongs here: the figures of areas. Does not belong here: which areas, checks of arguments, words
(``loss_report.py``); figures of one set of weights (``common/weighted_distribution.py``,
``common/weight_shape.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from calibration_core.common.area_weights import AreaWeights, Block
from calibration_core.common.weight_shape import WeightShape
from calibration_core.common.weighted_distribution import (
    CodedVariables,
    WeightedDistributions,
    distributions,
)


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

    @property
    def areas_without_pairs(self) -> int:
        """Areas with dense weight and no selected pair of positive weight."""
        return int(((self.dense_total > 0) & (self.selected.count == 0)).sum())


class SortedPairs:
    """Selected pairs sorted by leaf, and where each leaf's begin."""

    def __init__(
        self, leaf: np.ndarray, record: np.ndarray, weights: np.ndarray, leaves: int
    ) -> None:
        self.leaf, self.record, self.weights = leaf, record, weights
        self.begin = np.searchsorted(leaf, np.arange(leaves + 1))

    def of(self, leaf: int) -> slice:
        return slice(self.begin[leaf], self.begin[leaf + 1])


class Comparison:
    """The two sets of weights, and what is known of the records; ``kind`` is the place of a
    record's cell among ``cells``.
    """

    def __init__(
        self,
        dense: AreaWeights,
        cell: np.ndarray,
        pairs: SortedPairs,
        variables: CodedVariables,
        percentiles: np.ndarray,
    ) -> None:
        self.dense, self.pairs, self.variables = dense, pairs, variables
        self.percentiles = percentiles
        self._last: tuple[int, Block] | None = None
        # Records last asked for, and their variables: areas of one block have the same.
        self._coded = np.arange(variables.records), variables
        self.cells, kind = np.unique(cell, return_inverse=True)
        self.kind, self.kinds = kind.ravel(), self.cells.size

    def areas_weights(self, leaves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Records that the area made of ``leaves`` may use, (n,) int64 ascending, and their dense
        and selected weight there, (n,) float64 both.
        """
        block_of, row_of = self.dense.place
        numbers, dense = np.unique(block_of[leaves]), np.zeros(0)
        spans = [self.pairs.of(leaf) for leaf in leaves]
        used = np.concatenate([self.pairs.record[span] for span in spans])
        lists = [self.dense.block_record(int(n)) for n in numbers]
        record = lists[0]
        if len(lists) > 1 or not np.isin(used, record, assume_unique=False).all():
            record = np.unique(np.concatenate([*lists, used]))
        dense, selected = np.zeros(record.size), np.zeros(record.size)
        for number in numbers:
            block, here = self._block(int(number)), leaves[block_of[leaves] == number]
            place = np.searchsorted(record, block.record)
            dense[place] += block.weight[row_of[here]].sum(axis=0)
        held = np.concatenate([self.pairs.weights[span] for span in spans])
        selected += np.bincount(np.searchsorted(record, used), held, record.size)
        return record, dense, selected

    def _block(self, number: int) -> Block:
        """A block; that of the area before is likely asked for again."""
        if self._last is None or self._last[0] != number:
            self._last = number, self.dense.read(number)
        return self._last[1]

    def distributions(self, record: np.ndarray, weights: np.ndarray) -> WeightedDistributions:
        held, variables = np.flatnonzero(weights > 0), self._variables(record)
        if held.size == record.size:
            return distributions(variables, None, weights, self.percentiles)
        return distributions(variables, held, weights[held], self.percentiles)

    def _variables(self, record: np.ndarray) -> CodedVariables:
        """The variables of the records that an area may use: those of the whole state would be
        summed by every value that occurs in it.
        """
        if not np.array_equal(self._coded[0], record):
            every = record.size == self.variables.records
            self._coded = record, self.variables if every else self.variables.at(record)
        return self._coded[1]

    def losses(self, areas: list[np.ndarray]) -> AreaLoss:
        """Losses of areas, each given by its leaves."""
        found = _Tables(len(areas), self.variables.variables, self.percentiles.size)
        # Areas of one block after one another.
        block_of = self.dense.place[0]
        for i in sorted(range(len(areas)), key=lambda i: int(block_of[areas[i][0]])):
            record, d, s = self.areas_weights(areas[i])
            found.floats["dense_total"][i] = d.sum()
            found.floats["record_ess_dense"][i] = _ess(d)
            found.floats["record_ess_selected"][i] = _ess(s)
            if d.any():
                self._cells(found, i, record, d, s)
                if s.any():
                    self._amounts(found, i, record, d, s)
        return AreaLoss(
            dense=WeightShape.of([self._dense_blocks(a) for a in areas]),
            selected=WeightShape.of([self._pair_blocks(a) for a in areas]),
            **found.all,
        )

    def cell_shares(self) -> tuple[np.ndarray, np.ndarray]:
        """(cells,) float64 both: shares of all dense and of all selected weight."""
        record, *both = self.areas_weights(np.arange(self.dense.areas))
        dense, selected = (
            np.bincount(self.kind[record], weights=w, minlength=self.kinds) / w.sum() for w in both
        )
        return dense, selected

    def _cells(
        self, found: _Tables, i: int, record: np.ndarray, d: np.ndarray, s: np.ndarray
    ) -> None:
        kind = self.kind[record]
        mass_d, mass_s = (np.bincount(kind, weights=w, minlength=self.kinds) for w in (d, s))
        lost = (mass_d > 0) & (mass_s == 0)
        share_d, kept = mass_d / d.sum(), s.sum()
        found.whole["cells"][i], found.whole["cells_uncovered"][i] = (mass_d > 0).sum(), lost.sum()
        found.floats["uncovered_share"][i] = share_d[lost].sum()
        apart = 0.5 * np.abs(share_d - mass_s / kept).sum() if kept > 0 else 1.0
        found.floats["cell_distance"][i] = apart

    def _amounts(
        self, found: _Tables, i: int, record: np.ndarray, d: np.ndarray, s: np.ndarray
    ) -> None:
        """Distributions and correlations of an area that has both weights."""
        of_dense, of_selected = self.distributions(record, d), self.distributions(record, s)
        apart = np.abs(of_dense.function - of_selected.function)
        if self.variables.variables:
            begin = self._variables(record).begin[:-1]
            found.wide["kolmogorov"][i] = np.maximum.reduceat(apart, begin)
        for name, part in (("dense", of_dense), ("selected", of_selected)):
            found.wide[f"positive_{name}"][i] = part.positive_share
            found.wide[f"mean_{name}"][i] = part.mean
            found.quantiles[f"quantiles_{name}"][i] = part.quantiles
        for name in ("pearson", "rank"):
            largest, rms, compared = correlation_difference(
                getattr(of_dense, name), getattr(of_selected, name)
            )
            found.floats[f"{name}_largest"][i], found.floats[f"{name}_rms"][i] = largest, rms
            found.whole["correlations_compared"][i] = compared

    def _dense_blocks(self, leaves: np.ndarray) -> Callable[[], Iterable[np.ndarray]]:
        block_of, row_of = self.dense.place
        # By block, so that each is read once.
        order = leaves[np.argsort(block_of[leaves], kind="stable")]
        return lambda: (self._block(int(block_of[t])).weight[row_of[t]] for t in order)

    def _pair_blocks(self, leaves: np.ndarray) -> Callable[[], Iterable[np.ndarray]]:
        return lambda: (self.pairs.weights[self.pairs.of(leaf)] for leaf in leaves)


class _Tables:
    """Room for the figures of areas, by the names of ``AreaLoss``; NaN where there is none."""

    def __init__(self, areas: int, width: int, percentiles: int) -> None:
        self.floats = {name: np.full(areas, np.nan) for name in _OF_AREAS}
        self.wide = {name: np.full((areas, width), np.nan) for name in _OF_VARIABLES}
        shape = (areas, width, percentiles)
        self.quantiles = {name: np.full(shape, np.nan) for name in _QUANTILES}
        self.whole = {name: np.zeros(areas, dtype=np.int64) for name in _COUNTS}

    @property
    def all(self) -> dict[str, np.ndarray]:
        return self.floats | self.wide | self.quantiles | self.whole


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
_QUANTILES = ("quantiles_dense", "quantiles_selected")
_COUNTS = ("cells", "cells_uncovered", "correlations_compared")


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
