"""Proofs of the tree engine on small random hierarchies: against an independent dense Newton method
and a cone solver, for both forms of records, every link, and any number of levels; invariances; the
duality gap.

The oracle shares nothing with the engine: it writes every target as a row over all pairs, and
solves the dual in numpy.
"""

from dataclasses import dataclass, replace

import cvxpy as cp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, xlogy

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from tests.calibration_core.other_solvers import assert_same_problem

HIERARCHIES = [
    ("nation",),
    ("nation", "state"),
    ("puma", "tract", "block group"),
    ("nation", "state", "district"),
    ("nation", "state", "county", "tract"),
]
TAU = 0.1
TIGHT = TreeNewtonSettings(tau_path=(1.0, TAU), tolerance=1e-11, prior_unit=1.0)
LINKS = {
    "exponential": {},
    "logit": {"ratio_bounds": (0.2, 4.0)},
    "hold_total": {"hold_total": True},
}
# The cone solver's weights may be over a bound by its tolerance.
BARELY = {"exponential": (0.0, np.inf), "hold_total": (0.0, np.inf), "logit": (0.2001, 3.999)}
named = pytest.mark.parametrize("names", HIERARCHIES, ids="-".join)
linked = pytest.mark.parametrize("link", LINKS)


def random_tree(rng: np.random.Generator, names: tuple[str, ...]) -> GeographyTree:
    """One area at the top, two or three in each; those of one parent are scattered
    over the level.
    """
    parents = [np.empty(0, dtype=np.int64)]
    for _ in names[1:]:
        count = max(parents[-1].size, 1)
        parents.append(
            rng.permutation(
                np.repeat(np.arange(count), rng.integers(1 if count > 2 else 2, 4, size=count))
            )
        )
    geoids = tuple(tuple(f"{i:03d}" for i in range(max(p.size, 1))) for p in parents)
    return GeographyTree(names, geoids, tuple(parents))


def random_pool(seed: int, names: tuple[str, ...], records: int = 12) -> PoolProblem:
    """Targets are those of tilted weights plus noise, so that levels disagree. Some columns are the
    same at two levels, one is in dollars, some targets are missing, and some leaves have no share
    of a group of records.
    """
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, names)
    leaves = len(tree.leaves)
    common = rng.poisson(1.0, size=(records, 2)).astype(float)
    designs = [
        np.column_stack([common, rng.poisson(1.0, size=(records, int(rng.integers(1, 3))))]).astype(
            float
        )
        for _ in names
    ]
    designs[0] = np.column_stack([designs[0], rng.lognormal(10.0, 1.0, records)])
    group = rng.integers(0, 2, records)
    leaf_prior = rng.dirichlet(np.ones(leaves), size=2).T
    if leaves > 2:
        leaf_prior[0, 0] = 0.0
    record_prior = rng.gamma(2.0, 2.0, size=records)
    tilted = leaf_prior[:, group] * record_prior * np.exp(0.4 * rng.normal(size=(leaves, records)))
    values, scales = [], []
    for depth, design in enumerate(designs):
        total = tree.sum_leaves(tilted, depth) @ design
        scale = (rng.gamma(2.0, 0.3, size=total.shape) + 0.05) * np.maximum(1.0, 0.02 * total)
        values.append(total + scale * rng.normal(size=total.shape))
        scales.append(np.where((rng.random(total.shape) < 0.1) & (depth > 0), np.inf, scale))
    return PoolProblem(
        tree, make_targets(tree, designs, values, scales), record_prior, group, leaf_prior
    )


def as_pairs(problem: PoolProblem, rng: np.random.Generator | None = None) -> PairProblem:
    """All pairs with a prior; with ``rng``, about two thirds of them, and none in the last leaf,
    their priors raised to the same total.
    """
    prior = problem.prior()
    keep = prior > 0
    if rng is not None:
        keep &= rng.random(prior.shape) < 0.7
        keep[-1] &= prior.shape[0] == 1
    leaf, record = np.nonzero(keep)
    return PairProblem(
        problem.tree,
        problem.targets,
        leaf,
        record,
        prior[leaf, record] * (prior.sum() / prior[keep].sum()),
    )


@dataclass(frozen=True)
class Dense:
    """A problem written out: rows of targets in use, divided by their scales, over all pairs."""

    rows: np.ndarray
    right: np.ndarray
    prior: np.ndarray

    @staticmethod
    def of(problem: PoolProblem | PairProblem) -> "Dense":
        if isinstance(problem, PoolProblem):
            leaf, record = (a.ravel() for a in np.indices(problem.prior().shape))
            prior = problem.prior().ravel()
        else:
            leaf, record, prior = problem.leaf, problem.record, problem.prior_weight
        rows, right = [], []
        for depth, (design, value, scale) in enumerate(
            zip(
                problem.targets.designs, problem.targets.values, problem.targets.scales, strict=True
            )
        ):
            area = problem.tree.ancestor_of_leaves(depth)[leaf]
            for a, j in np.argwhere(np.isfinite(scale)):
                rows.append(np.where(area == a, design[record, j], 0.0) / scale[a, j])
                right.append(value[a, j] / scale[a, j])
        return Dense(np.array(rows), np.array(right), prior)

    def ratio_and_slope(self, u: np.ndarray, link: str) -> tuple[np.ndarray, np.ndarray]:
        if link != "logit":
            return np.exp(u), np.exp(u)
        low, high = LINKS["logit"]["ratio_bounds"]
        a = (high - low) / ((1 - low) * (high - 1))
        ratio = low + (high - low) * expit(a * u + np.log((1 - low) / (high - 1)))
        return ratio, (ratio - low) * (high - ratio) / ((1 - low) * (high - 1))

    def weights(self, y: np.ndarray, link: str) -> np.ndarray:
        u = self.rows.T @ y
        if link != "hold_total":
            return self.prior * self.ratio_and_slope(u, link)[0]
        w = self.prior * np.exp(u - u.max())
        return w * (self.prior.sum() / w.sum())

    def gradient(self, y: np.ndarray, tau: float, link: str) -> np.ndarray:
        return self.rows @ self.weights(y, link) - self.right + tau * y

    def solve(self, tau: float, link: str) -> np.ndarray:
        """y by Newton's method on the gradient, damped so that its norm falls, from a strong prior
        down; the dual is strongly convex.
        """
        y = np.zeros(self.right.size)
        for step in range(9):
            y = self.descend(y, tau * 4.0 ** (8 - step), link)
        assert np.abs(self.gradient(y, tau, link)).max() < 1e-10, (
            "the oracle itself must be at the optimum"
        )
        return y

    def descend(self, y: np.ndarray, tau: float, link: str) -> np.ndarray:
        gradient = self.gradient(y, tau, link)
        for _ in range(100):
            w = self.weights(y, link)
            slope = (
                w
                if link == "hold_total"
                else self.prior * self.ratio_and_slope(self.rows.T @ y, link)[1]
            )
            hessian = self.rows @ (slope[:, None] * self.rows.T) + tau * np.eye(y.size)
            if link == "hold_total":
                hessian -= np.outer(self.rows @ w, self.rows @ w) / w.sum()
            step, length = np.linalg.solve(hessian, -gradient), 1.0
            while length > 1e-12:
                new = self.gradient(y + length * step, tau, link)
                if np.linalg.norm(new) < np.linalg.norm(gradient):
                    break
                length *= 0.5
            else:
                break
            y, gradient = y + length * step, new
        return y

    def distance(self, w: np.ndarray, link: str) -> float:
        """Prior distance of weights, written from its definition (0 log 0 = 0)."""
        r, q = w[self.prior > 0] / self.prior[self.prior > 0], self.prior[self.prior > 0]
        if link != "logit":
            return float((q * (xlogy(r, r) - r + 1)).sum())
        low, high = LINKS["logit"]["ratio_bounds"]
        above, below = np.maximum(r - low, 0.0), np.maximum(high - r, 0.0)
        a = (high - low) / ((1 - low) * (high - 1))
        return float(
            (q * (xlogy(above, above / (1 - low)) + xlogy(below, below / (high - 1)))).sum() / a
        )

    def primal(self, w: np.ndarray, tau: float, link: str) -> float:
        return 0.5 * float(((self.rows @ w - self.right) ** 2).sum()) + tau * self.distance(w, link)


def stacked(problem: PoolProblem | PairProblem, per_level) -> np.ndarray:
    """Per-level arrays as one vector in the oracle's order."""
    return np.concatenate(
        [a[np.isfinite(s)] for a, s in zip(per_level, problem.targets.scales, strict=True)]
    )


@named
@linked
@pytest.mark.parametrize("form", ["pool", "all pairs", "some pairs"])
def test_weights_equal_an_independent_dense_newton_method(names, link, form):
    """Every weight to 1e-8 of itself, and the multipliers too; exact zeros where there
    is no prior.
    """
    for seed in range(3):
        pool = random_pool(seed, names)
        problem = {
            "pool": pool,
            "all pairs": as_pairs(pool),
            "some pairs": as_pairs(pool, np.random.default_rng(seed)),
        }[form]
        result = calibrate_tree(problem, replace(TIGHT, **LINKS[link]))
        dense = Dense.of(problem)
        y = dense.solve(TAU, link)
        expected = dense.weights(y, link)
        assert result.converged
        assert np.allclose(result.weights.ravel(), expected, rtol=1e-8, atol=1e-13 * expected.max())
        assert np.allclose(stacked(problem, result.multipliers), y, rtol=1e-7, atol=1e-7)
        assert result.divergence == pytest.approx(
            dense.distance(expected, link), rel=1e-7, abs=1e-9
        )
        if link == "hold_total":
            assert result.weights.sum() == pytest.approx(dense.prior.sum(), rel=1e-12)


@named
@linked
def test_the_oracle_has_no_duality_gap(names, link):
    """Its primal, written from the definition of the objective, equals minus tau times its dual, so
    both are at the one optimum.
    """
    dense = Dense.of(random_pool(5, names))
    y = dense.solve(TAU, link)
    w = dense.weights(y, link)
    along = float((dense.rows @ w) @ y)
    potential = along - dense.distance(w, link)
    dual = potential - float(dense.right @ y) + 0.5 * TAU * float(y @ y)
    assert dense.primal(w, TAU, link) == pytest.approx(-TAU * dual, rel=1e-9)
    rng = np.random.default_rng(0)
    for _ in range(20):
        other = w * np.exp(0.01 * rng.normal(size=w.size))
        other *= w.sum() / other.sum() if link == "hold_total" else 1.0
        if (
            link == "logit"
            and ((other <= 0.2 * dense.prior) | (other >= 4.0 * dense.prior))[dense.prior > 0].any()
        ):
            continue
        assert dense.primal(other, TAU, link) >= dense.primal(w, TAU, link)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@linked
def test_a_cone_solver_agrees_as_far_as_it_resolves(link):
    problem = as_pairs(random_pool(2, HIERARCHIES[-1]))
    dense = Dense.of(problem)
    q = dense.prior
    w = cp.Variable(q.size)
    fit = 0.5 * cp.sum_squares(dense.rows @ w - dense.right)
    if link == "logit":
        low, high = LINKS["logit"]["ratio_bounds"]
        a = (high - low) / ((1 - low) * (high - 1))
        prior = (
            cp.sum(cp.kl_div(w - low * q, (1 - low) * q))
            + cp.sum(cp.kl_div(high * q - w, (high - 1) * q))
        ) / a
    else:
        prior = cp.sum(cp.kl_div(w, q))
    constraints = [cp.sum(w) == q.sum()] if link == "hold_total" else []
    cp.Problem(cp.Minimize(fit + TAU * prior), constraints).solve(
        solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    ours = calibrate_tree(problem, replace(TIGHT, **LINKS[link])).weights
    theirs = np.clip(w.value, *(q * b for b in BARELY[link]))
    if link == "hold_total":
        theirs *= q.sum() / theirs.sum()
    assert_same_problem(
        dense.primal(ours, TAU, link), dense.primal(theirs, TAU, link), ours, theirs
    )


def relabelled(
    problem: PoolProblem, rng: np.random.Generator
) -> tuple[PoolProblem, np.ndarray, np.ndarray]:
    """Records, variables of every level, and areas of every level in another order; the order of
    leaves and of records comes along.
    """
    tree, t = problem.tree, problem.targets
    records = rng.permutation(problem.record_prior.size)
    columns = [rng.permutation(d.shape[1]) for d in t.designs]
    order = [rng.permutation(size) for size in tree.sizes]
    back = [np.argsort(o) for o in order]
    parents = tuple(
        back[d - 1][tree.parents[d][order[d]]] if d else tree.parents[0] for d in range(len(order))
    )
    other = GeographyTree(
        tree.levels,
        tuple(tuple(g[i] for i in o) for g, o in zip(tree.geoids, order, strict=True)),
        parents,
    )
    targets = make_targets(
        other,
        [d[records][:, c] for d, c in zip(t.designs, columns, strict=True)],
        [v[o][:, c] for v, o, c in zip(t.values, order, columns, strict=True)],
        [s[o][:, c] for s, o, c in zip(t.scales, order, columns, strict=True)],
    )
    return (
        PoolProblem(
            other,
            targets,
            problem.record_prior[records],
            problem.group[records],
            problem.leaf_prior[order[-1]],
        ),
        order[-1],
        records,
    )


@named
@linked
@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_the_order_of_targets_records_and_siblings_does_not_matter(names, link, form):
    problem = random_pool(3, names)
    other, leaves, records = relabelled(problem, np.random.default_rng(1))
    chosen = replace(TIGHT, **LINKS[link])
    if form == "pool":
        first, second = (
            calibrate_tree(problem, chosen).weights,
            calibrate_tree(other, chosen).weights,
        )
    else:
        first, second = np.zeros(problem.prior().shape), np.zeros(problem.prior().shape)
        for weights, form_of in ((first, as_pairs(problem)), (second, as_pairs(other))):
            shuffled = np.lexsort(
                (np.random.default_rng(2).permutation(form_of.leaf.size), form_of.leaf)
            )
            pairs = PairProblem(
                form_of.tree,
                form_of.targets,
                form_of.leaf,
                form_of.record[shuffled],
                form_of.prior_weight[shuffled],
            )
            weights[pairs.leaf, pairs.record] = calibrate_tree(pairs, chosen).weights
    assert np.abs(first[leaves][:, records] - second).max() <= 1e-9 * first.max()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(HIERARCHIES), st.sampled_from(sorted(LINKS)))
def test_any_start_leads_to_the_same_answer(seed, names, link):
    """A start with noise on the multipliers, enough to make some weights absurd, changes the way
    and not the end.
    """
    problem = random_pool(seed, names)
    chosen = replace(TIGHT, tau_path=(TAU,), **LINKS[link])
    cold = calibrate_tree(problem, chosen)
    rng = np.random.default_rng(seed)
    start = tuple(m + 0.3 * rng.normal(size=m.shape) for m in cold.multipliers)
    warm = calibrate_tree(problem, chosen, start=start)
    assert cold.converged
    assert warm.converged
    assert np.abs(cold.weights - warm.weights).max() <= 1e-8 * cold.weights.max()


def test_a_start_with_multipliers_of_targets_that_are_not_there_does_no_harm():
    """What a target of no scale once had for a multiplier pulls on nothing, in the weights and in
    the gap.
    """
    problem = random_pool(11, HIERARCHIES[-1])
    assert any(np.isinf(s).any() for s in problem.targets.scales)
    start = tuple(np.where(np.isinf(s), 7.0, 0.0) for s in problem.targets.scales)
    cold, warm = calibrate_tree(problem, TIGHT), calibrate_tree(problem, TIGHT, start=start)
    assert warm.converged
    assert np.abs(cold.weights - warm.weights).max() <= 1e-9 * cold.weights.max()
    assert warm.duality_gap < 1e-12


@named
@linked
def test_the_duality_gap_bounds_the_distance_to_the_optimum(names, link):
    """At any multipliers: the objective less the gap is not above the optimum, and the gap is
    primal minus dual, by its definition.
    """
    problem = random_pool(4, names)
    dense, rng = Dense.of(problem), np.random.default_rng(0)
    y = dense.solve(TAU, link)
    best = dense.primal(dense.weights(y, link), TAU, link)
    there = replace(TIGHT, tau_path=(TAU,), tolerance=1e30, path_tolerance=1e30, **LINKS[link])
    optimum = calibrate_tree(problem, replace(TIGHT, **LINKS[link])).multipliers
    sizes = []
    for share in (0.0, 0.3, 0.9, 0.999):
        noise = [1e-3 * rng.normal(size=m.shape) for m in optimum]
        start = tuple(
            np.where(np.isfinite(s), share * m + n, 0.0)
            for m, n, s in zip(optimum, noise, problem.targets.scales, strict=True)
        )
        result = calibrate_tree(problem, there, start=start)
        assert result.iterations == 0
        here = dense.primal(result.weights.ravel(), TAU, link)
        gap = result.duality_gap * here
        assert 0.0 <= here - best * (1 - 1e-12) <= gap * (1 + 1e-9) + 1e-12 * best
        assert gap == pytest.approx(
            0.5
            * float((dense.gradient(stacked(problem, result.multipliers), TAU, link) ** 2).sum()),
            rel=1e-8,
        )
        sizes.append(gap)
    assert sizes[-1] < sizes[0]


@linked
def test_single_precision_couplings_do_not_change_the_answer(link):
    """Columns that only levels above have, some of 1e7 dollars and nearly collinear, are coupled in
    single precision in the pool.
    """
    rng = np.random.default_rng(6)
    base = random_pool(6, HIERARCHIES[-1], records=20)
    t = base.targets
    amount = rng.lognormal(14.0, 1.5, 20)
    designs, values, scales = list(t.designs), list(t.values), list(t.scales)
    for depth in (0, 1):
        extra = np.column_stack([amount, amount * (1 + 1e-3 * rng.normal(size=20)), amount**1.1])
        total = base.tree.sum_leaves(base.prior(), depth) @ extra
        designs[depth] = np.column_stack([designs[depth], extra])
        values[depth] = np.column_stack(
            [values[depth], total * (1 + 0.02 * rng.normal(size=total.shape))]
        )
        scales[depth] = np.column_stack([scales[depth], 0.01 * total])
    pool = replace(base, targets=make_targets(base.tree, designs, values, scales))
    chosen = replace(TIGHT, **LINKS[link])
    single, double = calibrate_tree(pool, chosen), calibrate_tree(as_pairs(pool), chosen)
    dense = Dense.of(pool)
    expected = dense.weights(dense.solve(TAU, link), link)
    assert single.converged
    assert np.abs(single.weights.ravel() - expected).max() <= 1e-8 * expected.max()
    assert np.abs(single.weights[pool.prior() > 0] - double.weights).max() <= 1e-8 * expected.max()


@pytest.mark.parametrize("tau", [1.0, 0.1, 0.001])
@pytest.mark.parametrize("target", [1.0, 2.2, 4.0])
@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_a_target_that_the_held_total_contradicts_does_not_stop_the_rest(tau, target, form):
    """Two records, the total held at 2, and a target for the same total of ``target``: its
    multiplier runs to a million and adds the same to every u, which means nothing. The other
    target, 1.2 for the first record, is met as if that one were not there.
    """
    tree = GeographyTree.from_leaves(["nation"], [["us"]])
    targets = make_targets(
        tree,
        [np.array([[1.0, 1.0], [1.0, 0.0]])],
        [np.array([[target, 1.2]])],
        [np.array([[0.01, 0.1]])],
    )
    pool = PoolProblem(tree, targets, np.ones(2), np.zeros(2, dtype=np.int64), np.ones((1, 1)))
    problem = pool if form == "pool" else as_pairs(pool)
    result = calibrate_tree(
        problem,
        TreeNewtonSettings(tau_path=(tau,), hold_total=True, tolerance=1e-7, prior_unit=1.0),
    )
    assert result.converged
    assert result.weights.sum() == pytest.approx(2.0, rel=1e-12)
    first = result.weights.ravel()[0]
    assert (first - 1.2) / 0.1 + tau * 0.1 * np.log(first / (2.0 - first)) == pytest.approx(
        0.0, abs=1e-6
    )
    again = calibrate_tree(
        problem,
        TreeNewtonSettings(tau_path=(tau,), hold_total=True, tolerance=1e-7, prior_unit=1.0),
        start=result.multipliers,
    )
    assert again.converged
    assert np.allclose(again.weights, result.weights, rtol=1e-6)


def test_weights_many_orders_of_magnitude_apart_do_not_break_the_factorisation():
    """A start that asks for weights of 1e13 in a pool of a few persons, where single-precision
    couplings leave blocks indefinite.
    """
    for names, seed in ((HIERARCHIES[2], 165), (HIERARCHIES[2], 34), (HIERARCHIES[3], 34)):
        problem = random_pool(seed, names)
        cold = calibrate_tree(problem, TIGHT)
        noise = np.random.default_rng(seed)
        warm = calibrate_tree(
            problem,
            TIGHT,
            start=tuple(m + 0.3 * noise.normal(size=m.shape) for m in cold.multipliers),
        )
        assert warm.converged
        assert np.abs(cold.weights - warm.weights).max() <= 1e-8 * cold.weights.max()


@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_the_number_of_threads_does_not_matter(form):
    problem = random_pool(8, HIERARCHIES[-1], records=60)
    problem = problem if form == "pool" else as_pairs(problem)
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(calibrate_tree(problem, TIGHT).weights)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(answers[0], answers[1])
