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

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy import sparse

from calibration_core.common.columns import Columns, Design, column_sums, largest_of, rows_of
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.neighbourhoods import Neighbourhoods


@dataclass(frozen=True)
class Targets:
    """Targets at every level of a tree, top first.

    Attributes
    ----------
    designs : per level, (records, variables) float64, arrays or ``Columns``: what one record adds
        to each variable.
    values : per level, (areas, variables) float64 target values b.
    scales : per level, (areas, variables) float64 > 0: the error s one unit of loss stands for; inf
        where there is no target.
    names : per level, what to call its variables in messages; empty for their numbers.
    """

    designs: tuple[Design, ...]
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
    designs: Sequence[Design],
    values: Sequence[np.ndarray],
    scales: Sequence[np.ndarray],
    names: Sequence[Sequence[str]] = (),
) -> Targets:
    """Check and freeze targets.

    Parameters
    ----------
    tree : the areas; everything else has one array per level of it, top first.
    designs : per level, (records, variables) float64, arrays or ``Columns``: what one record adds
        to each variable. Levels may have different variables; those with the same column are
        recognised and passed over once.
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
        value, scale = (np.ascontiguousarray(a, dtype=np.float64) for a in (value, scale))
        if not isinstance(design, Columns):
            design = np.ascontiguousarray(design, dtype=np.float64)
        if design.ndim != 2 or design.shape[0] != records:
            raise ProblemError(
                f"A design of shape {design.shape}",
                where=f"level {level}",
                expected=f"({records}, variables)",
            )
        wrong = np.flatnonzero(~np.isfinite(largest_of(design)))
        if wrong.size:
            column = int(wrong[0])
            row = int(np.flatnonzero(~np.isfinite(design[:, column]))[0])
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


@dataclass(frozen=True, eq=False)
class PoolProblem:
    """Leaves draw on one pool of records. Prior weight of (leaf t, record h): ``record_prior[h] *
    leaf_prior[t, group[h]]``, times the record's expansion in the leaf's neighbourhood.

    Attributes
    ----------
    tree : the areas.
    targets : at every level of the tree, as ``make_targets`` gives them.
    record_prior : (records,) float64 >= 0, for example design weights, in units of weight.
    group : (records,) int64 in [0, groups): records that share their prior over leaves, for example
        a PUMA.
    leaf_prior : (leaves, groups) float64 >= 0: share of a record's prior that lies in each leaf;
        zero where its group cannot be. Columns need not sum to one: the solver moves the level.
    neighbourhoods : which records each leaf may use; None: every leaf every record.

    Raises
    ------
    ProblemError : shapes disagree, a prior is negative or not finite, or a group or record is not
        there.
    """

    tree: GeographyTree
    targets: Targets
    record_prior: np.ndarray
    group: np.ndarray
    leaf_prior: np.ndarray
    neighbourhoods: Neighbourhoods | None = None

    def __post_init__(self) -> None:
        records = self.targets.designs[0].shape[0]
        _check_prior(self.record_prior, (records,), "record_prior")
        if self.group.shape != (records,) or self.leaf_prior.ndim != 2:
            raise ProblemError(
                f"group has shape {self.group.shape}, leaf_prior {self.leaf_prior.shape}",
                expected=f"({records},) and (leaves, groups)",
            )
        leaves = len(self.tree.leaves)
        _check_prior(self.leaf_prior, (leaves, self.leaf_prior.shape[1]), "leaf_prior")
        if self.group.size and (
            self.group.min() < 0 or self.group.max() >= self.leaf_prior.shape[1]
        ):
            raise ProblemError(
                "A record's group is outside leaf_prior",
                expected=f"0 to {self.leaf_prior.shape[1] - 1}",
            )
        near = self.neighbourhoods
        if near is not None:
            last = max((int(r[-1]) for r in near.record if r.size), default=-1)
            first = min((int(r[0]) for r in near.record if r.size), default=0)
            if near.of_leaf.shape != (leaves,) or first < 0 or last >= records:
                raise ProblemError(
                    f"Neighbourhoods of {near.of_leaf.size} leaves, records {first} to {last}",
                    expected=f"{leaves} leaves, records 0 to {records - 1}",
                )

    @cached_property
    def near(self) -> Neighbourhoods:
        """The neighbourhoods; of a problem without any, one of everything."""
        if self.neighbourhoods is not None:
            return self.neighbourhoods
        every = np.arange(self.record_prior.size)
        leaves = np.zeros(len(self.tree.leaves), dtype=np.int64)
        return Neighbourhoods(leaves, (every,), (np.ones(every.size),))

    @property
    def prior_total(self) -> float:
        """Sum of all prior weights."""
        return float(self.prior_by_leaf.sum())

    @cached_property
    def prior_by_leaf(self) -> np.ndarray:
        """(leaves,) float64 sum of the prior weights of each leaf."""
        total, groups = np.zeros(len(self.tree.leaves)), self.leaf_prior.shape[1]
        for leaves, record, weight in self._parts():
            by_group = np.bincount(self.group[record], weight, minlength=groups)
            total[leaves] = (self.leaf_prior[leaves] * by_group).sum(axis=1)
        return total

    def _parts(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Of every neighbourhood: its leaves, its records, and their prior with expansion."""
        near = self.near
        for leaves, record, expansion in zip(near.leaves, near.record, near.expansion, strict=True):
            yield leaves, record, self.record_prior[record] * expansion

    def prior_sums(self, power: int = 1) -> tuple[np.ndarray, ...]:
        """Per level, (areas, variables) float64: sum of q_i a_ij^power. Of power 1 what prior
        weights give for each target, of power 2 what its multiplier moves it by at the start.
        """
        designs, groups = self.targets.designs, self.leaf_prior.shape[1]
        sums = [np.zeros(s.shape) for s in self.targets.scales]
        above = [self.tree.ancestor_of_leaves(depth) for depth in range(len(designs))]
        for leaves, record, weight in self._parts():
            shape, column = (groups, record.size), np.arange(record.size)
            members = sparse.csr_array((weight, (self.group[record], column)), shape=shape)
            for depth, design in enumerate(designs):
                by_group = members @ rows_of(design, record) ** power
                area, index = np.unique(above[depth][leaves], return_inverse=True)
                share = np.zeros((area.size, groups))
                np.add.at(share, index, self.leaf_prior[leaves])
                sums[depth][area] += np.einsum("ag,gv->av", share, by_group)
        return tuple(sums)

    def prior(self) -> np.ndarray:
        """Prior weights q, (leaves, records) float64; for problems that are small."""
        out = np.zeros((len(self.tree.leaves), self.record_prior.size))
        for leaves, record, weight in self._parts():
            share = self.leaf_prior[leaves][:, self.group[record]]
            out[leaves[:, None], record[None, :]] = share * weight
        return out

    @property
    def in_order(self) -> bool:
        """Whether the leaves of each neighbourhood stand beside each other."""
        return bool((np.diff(self.near.of_leaf) >= 0).all())

    def ordered(self) -> tuple[PoolProblem, np.ndarray]:
        """The same problem with its leaves sorted by neighbourhood, and the order: leaf i there is
        leaf ``order[i]`` here.
        """
        near = self.near
        order = np.argsort(near.of_leaf, kind="stable")
        geoids = (*self.tree.geoids[:-1], tuple(self.tree.leaves[i] for i in order))
        last = self.tree.parents[-1]
        parents = (*self.tree.parents[:-1], last[order] if len(geoids) > 1 else last)
        targets = replace(
            self.targets,
            values=(*self.targets.values[:-1], self.targets.values[-1][order]),
            scales=(*self.targets.scales[:-1], self.targets.scales[-1][order]),
        )
        sorted_ = Neighbourhoods(near.of_leaf[order], near.record, near.expansion)
        tree = GeographyTree(self.tree.levels, geoids, parents)
        prior = self.leaf_prior[order]
        return PoolProblem(tree, targets, self.record_prior, self.group, prior, sorted_), order


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
            sums.append(column_sums(held, design, power))
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
