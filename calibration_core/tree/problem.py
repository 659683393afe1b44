"""Hierarchical calibration problems: designs, targets and scales on a tree, in two forms of
records.

A problem asks for weights w >= 0 near prior weights q that reproduce targets at every level:

    minimise_w   1/2 sum_j ((a_j.w - b_j) / s_j)^2  +  tau * sum_i [ w_i log(w_i / q_i) - w_i + q_i
    ]

* ``PoolProblem``: every leaf may use every record of one shared pool; a pair is (leaf, record) and
  pairs are never written out.
* ``PairProblem``: written-out pairs, each a record in one leaf (what is left after selection).

Belongs here: frozen, validated problem objects. Does not belong here: solver settings, solvers,
results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree


@dataclass(frozen=True)
class Targets:
    """Targets at every level of a tree, top first.

    Attributes
    ----------
    designs : per level, (records, variables) float64: what one record adds to each variable.
    values : per level, (areas, variables) float64 target values b.
    scales : per level, (areas, variables) float64 > 0: the error s one unit of loss stands for; inf
        where there is no target.
    names : per level, what to call its variables in messages; empty for their numbers.
    """

    designs: tuple[np.ndarray, ...]
    values: tuple[np.ndarray, ...]
    scales: tuple[np.ndarray, ...]
    names: tuple[tuple[str, ...], ...] = ()

    @property
    def count(self) -> int:
        """Number of targets in use (finite scale)."""
        return int(sum(np.isfinite(s).sum() for s in self.scales))

    def variable(self, depth: int, column: int) -> str:
        """What a variable is called in messages."""
        return self.names[depth][column] if self.names else f"variable {column}"


def make_targets(
    tree: GeographyTree,
    designs: Sequence[np.ndarray],
    values: Sequence[np.ndarray],
    scales: Sequence[np.ndarray],
    names: Sequence[Sequence[str]] = (),
) -> Targets:
    """Check and freeze targets.

    Parameters
    ----------
    tree : the areas; everything else has one array per level of it, top first.
    designs : per level, (records, variables) float64: what one record adds to each variable. Levels
        may have different variables; those with the same column are recognised and passed over
        once.
    values : per level, (areas, variables) float64: what the totals should be, in the unit of the
        design times weights.
    scales : per level, (areas, variables) float64 > 0, in the unit of the values: the error s that
        one unit of loss stands for, such as a standard error; inf where there is no target.
    names : per level, what to call its variables in messages.

    Raises
    ------
    ProblemError : wrong shapes, values in use or contributions that are not finite, scales that are
        not positive, names that are not one per variable.
    """
    if not (len(designs) == len(values) == len(scales) == len(tree.levels)):
        raise ProblemError(
            f"{len(designs)} designs, {len(values)} values and {len(scales)} scales for"
            f" {len(tree.levels)} levels",
            expected="one of each per level",
        )
    kept_d, kept_b, kept_s = [], [], []
    records = designs[0].shape[0]
    for level, size, design, value, scale in zip(
        tree.levels, tree.sizes, designs, values, scales, strict=True
    ):
        design, value, scale = (
            np.ascontiguousarray(a, dtype=np.float64) for a in (design, value, scale)
        )
        if design.ndim != 2 or design.shape[0] != records:
            raise ProblemError(
                f"A design of shape {design.shape}",
                where=f"level {level}",
                expected=f"({records}, variables)",
            )
        if not np.isfinite(design).all():
            row, column = (int(i) for i in np.argwhere(~np.isfinite(design))[0])
            raise ProblemError(
                "A design entry is not finite",
                where=f"level {level}, record {row}, variable {column}",
                expected="finite contributions",
            )
        if value.shape != (size, design.shape[1]) or scale.shape != value.shape:
            raise ProblemError(
                f"Values {value.shape} and scales {scale.shape}",
                where=f"level {level}",
                expected=f"({size}, {design.shape[1]}) for both",
            )
        if np.isnan(scale).any() or (scale <= 0).any():
            raise ProblemError(
                "A scale is NaN, zero or negative",
                where=f"level {level}",
                expected="positive scales, inf for no target",
            )
        used = np.isfinite(scale)
        if not np.isfinite(value[used]).all():
            raise ProblemError(
                "A target in use is not finite",
                where=f"level {level}",
                expected="finite targets, or scale inf to leave one out",
            )
        kept_d.append(design)
        kept_b.append(np.where(used, value, 0.0))
        kept_s.append(scale)
    labels = tuple(tuple(str(name) for name in level) for level in names)
    widths = tuple(design.shape[1] for design in kept_d)
    if labels and tuple(map(len, labels)) != widths:
        raise ProblemError(
            f"{', '.join(str(len(level)) for level in labels)} names of variables",
            expected=f"{', '.join(map(str, widths))}: one for each variable of each level",
        )
    return Targets(tuple(kept_d), tuple(kept_b), tuple(kept_s), labels)


@dataclass(frozen=True)
class PoolProblem:
    """Every leaf draws on one pool. Prior weight of (leaf t, record h): ``record_prior[h] *
    leaf_prior[t, group[h]]``.

    Attributes
    ----------
    tree : the areas.
    targets : at every level of the tree, as ``make_targets`` gives them.
    record_prior : (records,) float64 >= 0, for example design weights, in units of weight.
    group : (records,) int64 in [0, groups): records that share their prior over leaves, for example
        a PUMA.
    leaf_prior : (leaves, groups) float64 >= 0: share of a record's prior that lies in each leaf;
        zero where its group cannot be. Columns need not sum to one: the solver moves the level.

    Raises
    ------
    ProblemError : shapes disagree, a prior is negative or not finite, or a group is not there.
    """

    tree: GeographyTree
    targets: Targets
    record_prior: np.ndarray
    group: np.ndarray
    leaf_prior: np.ndarray

    def __post_init__(self) -> None:
        records = self.targets.designs[0].shape[0]
        _check_prior(self.record_prior, (records,), "record_prior")
        if self.group.shape != (records,) or self.leaf_prior.ndim != 2:
            raise ProblemError(
                f"group has shape {self.group.shape}, leaf_prior {self.leaf_prior.shape}",
                expected=f"({records},) and (leaves, groups)",
            )
        _check_prior(
            self.leaf_prior, (len(self.tree.leaves), self.leaf_prior.shape[1]), "leaf_prior"
        )
        if self.group.size and (
            self.group.min() < 0 or self.group.max() >= self.leaf_prior.shape[1]
        ):
            raise ProblemError(
                "A record's group is outside leaf_prior",
                expected=f"0 to {self.leaf_prior.shape[1] - 1}",
            )

    @property
    def prior_total(self) -> float:
        """Sum of all prior weights."""
        return float((self.leaf_prior.sum(axis=0)[self.group] * self.record_prior).sum())

    @property
    def prior_by_leaf(self) -> np.ndarray:
        """(leaves,) float64 sum of the prior weights of each leaf."""
        groups = self.leaf_prior.shape[1]
        by_group = np.bincount(self.group, self.record_prior, minlength=groups)
        return (self.leaf_prior * by_group).sum(axis=1)

    def prior_sums(self, power: int = 1) -> tuple[np.ndarray, ...]:
        """Per level, (areas, variables) float64: sum of q_i a_ij^power. Of power 1 what prior
        weights give for each target, of power 2 what its multiplier moves it by at the start.
        """
        shape = (self.leaf_prior.shape[1], self.record_prior.size)
        column = np.arange(self.record_prior.size)
        members = sparse.csr_array((self.record_prior, (self.group, column)), shape=shape)
        return tuple(
            np.einsum("ag,gv->av", self.tree.sum_leaves(self.leaf_prior, depth), members @ d**power)
            for depth, d in enumerate(self.targets.designs)
        )

    def prior(self) -> np.ndarray:
        """Prior weights q, (leaves, records) float64."""
        return self.leaf_prior[:, self.group] * self.record_prior[None, :]


@dataclass(frozen=True)
class PairProblem:
    """Written-out pairs.

    Attributes
    ----------
    tree : the areas.
    targets : at every level of the tree, as ``make_targets`` gives them.
    leaf : (pairs,) int64 index of each pair's leaf, sorted ascending.
    record : (pairs,) int64 index of its record in the designs.
    prior_weight : (pairs,) float64 > 0.
    ratio_bounds : (pairs, 2) float64, smallest and largest w / q of each pair, 0 <= low < 1 < high,
        both finite; or None. Where given they stand in place of the solver's ratio bounds. Absolute
        bounds on weights, l < q < h, are ``np.column_stack([l, h]) / q[:, None]``.

    Raises
    ------
    ProblemError : an array of the wrong shape, pairs out of order, a leaf or record that is not
        there, a prior that is not positive, or bounds that do not enclose one.
    """

    tree: GeographyTree
    targets: Targets
    leaf: np.ndarray
    record: np.ndarray
    prior_weight: np.ndarray
    ratio_bounds: np.ndarray | None = None

    def __post_init__(self) -> None:
        pairs = self.leaf.shape[0]
        if self.record.shape != (pairs,):
            raise ProblemError(
                f"{pairs} leaves for {self.record.shape} records", expected="one record a pair"
            )
        _check_prior(self.prior_weight, (pairs,), "prior_weight")
        if (self.prior_weight <= 0).any():
            raise ProblemError(
                "A pair has no prior weight",
                expected="positive prior weights",
                remedy="Leave such pairs out",
            )
        if pairs and (
            (np.diff(self.leaf) < 0).any()
            or self.leaf[0] < 0
            or self.leaf[-1] >= len(self.tree.leaves)
        ):
            raise ProblemError(
                "Pairs are not sorted by leaf, or name a leaf that is not there",
                expected="ascending leaf indices",
            )
        if pairs and (
            self.record.min() < 0 or self.record.max() >= self.targets.designs[0].shape[0]
        ):
            raise ProblemError(
                "A pair names a record that is not there", expected="indices into the designs"
            )
        if self.ratio_bounds is not None:
            self._check_bounds(self.ratio_bounds, pairs)

    @property
    def prior_total(self) -> float:
        """Sum of all prior weights."""
        return float(self.prior_weight.sum())

    @property
    def prior_by_leaf(self) -> np.ndarray:
        """(leaves,) float64 sum of the prior weights of each leaf."""
        return np.bincount(self.leaf, self.prior_weight, minlength=len(self.tree.leaves))

    def prior_sums(self, power: int = 1) -> tuple[np.ndarray, ...]:
        """As of a PoolProblem."""
        sums = []
        for depth, design in enumerate(self.targets.designs):
            shape = (self.tree.sizes[depth], design.shape[0])
            area = self.tree.ancestor_of_leaves(depth)[self.leaf]
            held = sparse.csr_array((self.prior_weight, (area, self.record)), shape=shape)
            sums.append(held @ design**power)
        return tuple(sums)

    def _check_bounds(self, bounds: np.ndarray, pairs: int) -> None:
        if bounds.shape != (pairs, 2):
            raise ProblemError(
                f"ratio_bounds has shape {bounds.shape}",
                expected=f"({pairs}, 2): smallest and largest w / q of each pair",
            )
        low, high = bounds[:, 0], bounds[:, 1]
        wrong = np.flatnonzero(~((low >= 0) & (low < 1) & (high > 1) & np.isfinite(high)))
        if wrong.size:
            pair = int(wrong[0])
            raise ProblemError(
                f"{wrong.size} pairs have ratio bounds that do not enclose one, the first"
                f" {low[pair]:g} and {high[pair]:g}",
                where=(
                    f"pair {pair}: record {int(self.record[pair])} in leaf"
                    f" {self.tree.leaves[int(self.leaf[pair])]}"
                ),
                expected="0 <= low < 1 < high, both finite, as shares of the prior weight",
                remedy=(
                    "Where weights are bounded, move the prior weight of such a pair inside its"
                    " bounds first"
                ),
            )


def _check_prior(array: np.ndarray, shape: tuple[int, ...], name: str) -> None:
    if array.shape != shape:
        raise ProblemError(f"{name} has shape {array.shape}", expected=str(shape))
    if not np.isfinite(array).all() or (array < 0).any():
        raise ProblemError(
            f"{name} holds a negative or non-finite value", expected="finite numbers >= 0"
        )
