"""Reconciliation along a tree of areas and across categories at once: one least-squares problem, solved in two sweeps of small matrices.

For members of groups (population; men and women; ages; ...) find leaf vectors x_t that minimise, over all nodes n with estimates y_n of
variances v_n,

    sum_n sum_k ( (sum of x below n)_k - y_nk )^2 / v_nk    subject to    C x_t = 0 in every leaf,     x >= 0 where asked,

C having a row a group: parent less children. What adds up in every leaf adds up everywhere. It is the smoother of ``reconcile.py`` with a
covariance matrix where that has a variance. With m, P the fused value and covariance of a node and B = sum P_c over its children,

    leaf      P = V - V C'(C V C')^-1 C V,   m = y - V C'(C V C')^-1 C y
    up        m = sum m_c + K (y - sum m_c),   P = B - K B,   K = B (B + V)^-1 over the members known
    down      x_c = m_c + G (X - sum m_c),   U_c = P_c - G (B - U) G',   G = P_c B^+

(Rauch, Tung and Striebel, AIAA Journal 3, 1965, on a tree). Settling the tree first and the categories after, level by level, meets the same
constraints but not at this optimum. Cost is linear in areas and cubic in the members of groups that hang together; groups that share
no member are separate problems, and variables in no group go through ``reconcile``.

Non-negativity is an active set: values below zero are held at zero, held ones whose multiplier has the wrong sign are let go, until
neither occurs (a primal-dual active set: Hintermuller, Ito and Kunisch, SIAM J. Optim. 13, 2002). Unlike on the tree alone this may cycle in
theory; ``converged`` says whether it ended.

Belongs here: the joint problem and its result. Does not belong here: the small matrices (``crossed_sweeps.py``), one level alone
(``categories.py``), what groups mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration_core.categories import Group
from calibration_core.crossed_sweeps import CrossedSweeps
from calibration_core.errors import ProblemError
from calibration_core.geography import GeographyTree
from calibration_core.reconcile import adjustment, checked_estimates, reconcile, refuse_negative_exact


@dataclass(frozen=True, eq=False)
class CrossedResult:
    """Values that add up over areas and over categories; lists run from the top level to the leaves, arrays are (areas, variables).

    Attributes
    ----------
    values, variances, adjustments : as in a ReconcileResult.
    chi_square, degrees_of_freedom : (levels,) squared differences between what a level says and what follows from below, in errors, and how many
        independent ones there are; at the leaves, between groups and their parts. Before values are held at zero.
    held : (leaves, variables) bool: leaf values held at zero.
    gap : largest |parent - sum of children| of a group over all areas and levels, relative to the group's largest value.
    iterations : rounds of the active set, 1 where no value would have been negative.
    converged : whether it settled.
    """

    values: tuple[np.ndarray, ...]
    variances: tuple[np.ndarray, ...]
    adjustments: tuple[np.ndarray, ...]
    chi_square: np.ndarray
    degrees_of_freedom: np.ndarray
    held: np.ndarray
    gap: float
    iterations: int
    converged: bool


def reconcile_crossed(
    tree: GeographyTree,
    estimates: Sequence[np.ndarray],
    variances: Sequence[np.ndarray],
    groups: Sequence[Group],
    *,
    nonnegative: Sequence[bool] | None = None,
    max_rounds: int = 50,
    names: Sequence[str] = (),
) -> CrossedResult:
    """Reconcile estimates along the tree and across groups, jointly.

    Parameters
    ----------
    tree, estimates, variances, nonnegative, max_rounds, names : as in ``reconcile``; inf marks a missing estimate, 0 an exact one.
    groups : which variables are sums of which. At the leaves every member needs an estimate, if only one of a wide variance.

    Raises
    ------
    ProblemError : shapes disagree, a variance is negative or NaN, a leaf has no estimate of a member, a group names a variable that is not there.
    ContradictionError : exact estimates contradict one another or non-negativity.
    """
    y, v = checked_estimates(tree, estimates, variances)
    count = y[0].shape[1]
    positive = np.ones(count, dtype=bool) if nonnegative is None else np.asarray(nonnegative, dtype=bool)
    called = tuple(names) if len(names) else tuple(f"variable number {i}" for i in range(count))
    if positive.shape != (count,) or len(called) != count:
        raise ProblemError(f"nonnegative has shape {positive.shape}, names {len(called)} entries", expected=f"one for each of the {count} variables")
    _check_groups(tree, groups, v[-1], called)
    refuse_negative_exact(tree, y, v, positive, called)
    values, spreads = [np.empty(a.shape) for a in y], [np.empty(a.shape) for a in y]
    squares, freedom = np.zeros(len(y)), np.zeros(len(y), dtype=np.int64)
    held, rounds, converged = np.zeros(y[-1].shape, dtype=bool), 1, True
    parts = _components(groups, count)
    alone = np.setdiff1d(np.arange(count), np.concatenate([members for members, _ in parts])) if parts else np.arange(count)
    if alone.size:
        plain = reconcile(
            tree,
            [a[:, alone] for a in y],
            [a[:, alone] for a in v],
            nonnegative=positive[alone],
            max_rounds=max_rounds,
            names=[called[i] for i in alone],
        )
        for depth in range(len(y)):
            values[depth][:, alone], spreads[depth][:, alone] = plain.values[depth], plain.variances[depth]
        squares += plain.level_chi_square.sum(axis=1)
        freedom += plain.level_degrees_of_freedom.sum(axis=1)
        held[:, alone], rounds, converged = plain.held, plain.iterations, plain.converged
    gap = 0.0
    for members, own_groups in parts:
        place = {int(k): i for i, k in enumerate(members)}
        signs = np.zeros((len(own_groups), members.size))
        for row, group in zip(signs, own_groups, strict=True):
            row[place[group.parent]] = 1.0
            row[[place[c] for c in group.children]] = -1.0
        sweeps = CrossedSweeps(tree, [a[:, members] for a in y], [a[:, members] for a in v], signs, tuple(called[i] for i in members))
        answer = _settle(sweeps, positive[members], max_rounds)
        for depth in range(len(y)):
            values[depth][:, members], spreads[depth][:, members] = answer.values[depth], answer.spreads[depth]
        squares += answer.squares
        freedom += answer.freedom
        held[:, members] = answer.held
        rounds, converged = max(rounds, answer.rounds), converged and answer.converged
        gap = max(gap, _gap(answer.values, signs))
    moved = tuple(adjustment(x, a, b) for x, a, b in zip(values, y, v, strict=True))
    return CrossedResult(tuple(values), tuple(spreads), moved, squares, freedom, held, gap, rounds, converged)


def _check_groups(tree: GeographyTree, groups: Sequence[Group], leaf_v: np.ndarray, names: Sequence[str]) -> None:
    for group in groups:
        ids = [group.parent, *group.children]
        if min(ids) < 0 or max(ids) >= leaf_v.shape[1] or len(set(ids)) != len(ids) or not group.children:
            raise ProblemError(f"A group has parent {group.parent} and children {group.children}", expected=f"different variables from 0 to {leaf_v.shape[1] - 1}")
        missing = np.argwhere(np.isinf(leaf_v[:, ids]))
        if missing.size:
            leaf, member = (int(i) for i in missing[0])
            raise ProblemError(
                f"{tree.levels[-1]} {tree.leaves[leaf]} has no estimate of {names[ids[member]]}",
                where=f"{missing.shape[0]} such values in the group of {names[group.parent]}",
                expected=f"an estimate of every member of a group in every {tree.levels[-1]}",
                remedy="Give it a guess with a wide variance, or leave the group out",
            )


def _components(groups: Sequence[Group], count: int) -> list[tuple[np.ndarray, list[Group]]]:
    """Groups that share members, directly or through others, with the sorted members of each."""
    label = np.arange(count)
    for group in groups:
        ids = [group.parent, *group.children]
        label[np.isin(label, label[ids])] = label[ids].min()
    roots = sorted({int(label[g.parent]) for g in groups})
    return [(np.flatnonzero(label == root), [g for g in groups if label[g.parent] == root]) for root in roots]


def _gap(values: Sequence[np.ndarray], signs: np.ndarray) -> float:
    size = np.maximum(np.max([np.abs(x).max(axis=0, initial=0.0) for x in values], axis=0), 1e-300)
    largest = (np.abs(signs) * size).max(axis=1)
    return float(max((np.abs(x @ signs.T) / largest).max(initial=0.0) for x in values))


@dataclass(frozen=True, eq=False)
class _Answer:
    values: list[np.ndarray]
    spreads: list[np.ndarray]
    squares: np.ndarray
    freedom: np.ndarray
    held: np.ndarray
    rounds: int
    converged: bool


def _settle(sweeps: CrossedSweeps, positive: np.ndarray, max_rounds: int) -> _Answer:
    """The active set of one component."""
    held = np.zeros(sweeps.y[-1].shape, dtype=bool)
    small = 1e-12 * np.maximum(1e-300, np.abs(sweeps.y[-1]).max(axis=0, initial=0.0))
    solution = sweeps.solve(held)
    squares, freedom = solution.squares, solution.freedom
    rounds, converged, fewest = 1, True, np.inf
    while positive.any():
        wrong = positive & ~held & (solution.values[-1] < -small) & (sweeps.v[-1] > 0)
        release = held & (solution.multipliers < -1e-10 * solution.multiplier_size)
        changes = int(wrong.sum() + release.sum())
        if not changes:
            break
        if rounds >= max_rounds:
            converged = False
            break
        # Where whole blocks go back and forth, one value a leaf is let go at a time.
        if changes >= fewest and rounds > 10:
            order = np.where(release, solution.multipliers, 0.0)
            release &= order == order.min(axis=1, keepdims=True)
        fewest = min(fewest, changes)
        held = (held | wrong) & ~release
        solution = sweeps.solve(held)
        rounds += 1
    values = [np.where(positive & (x < 0), 0.0, x) if converged and depth == len(sweeps.y) - 1 else x for depth, x in enumerate(solution.values)]
    return _Answer(values, solution.spreads, squares, freedom, held, rounds, converged)
