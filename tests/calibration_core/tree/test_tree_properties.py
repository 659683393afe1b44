"""Proofs of the tree engine on small random hierarchies: against an independent dense Newton method
and a cone solver, for both forms of records, every link, and any number of levels; invariances; the
duality gap.

The oracle shares nothing with the engine: it writes every target as a row over all pairs, and
solves the dual in numpy.
"""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

from calibration_core.tree.problem import PairProblem, PoolProblem
from calibration_core.tree.solve.newton import calibrate_tree
from tests.calibration_core.other_solvers import assert_same_problem
from tests.calibration_core.tree.hierarchy_case import (
    HIERARCHIES,
    LINKS,
    TAU,
    TIGHT,
    Dense,
    as_pairs,
    linked,
    named,
    random_pool,
)

# The cone solver's weights may be over a bound by its tolerance.
BARELY = {"exponential": (0.0, np.inf), "hold_total": (0.0, np.inf), "logit": (0.2001, 3.999)}


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
