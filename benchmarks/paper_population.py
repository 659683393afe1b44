"""The synthetic population that "Sparse Calibration for Microdata Synthesis" is benchmarked on,
from its published parameters.

5,000 records of unit weight; state, age group and income bracket drawn independently, income
lognormal. The targets are the population's own totals, so a dense answer exists; the question is
what k records can do.

Belongs here: the population and its four sets of targets. Does not belong here: methods, measures,
plots.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from calibration_core import CalibrationProblem

SCENARIOS = ("simple", "joint", "continuous", "complex")
_STATES = np.array([0.12, 0.09, 0.07, 0.06, 0.04, 0.04, 0.04, 0.03, 0.03, 0.03])
_AGES = np.array([0.22, 0.22, 0.26, 0.13, 0.17])
_BRACKETS = np.array([0.20, 0.25, 0.35, 0.20])


def paper_population(
    scenario: str = "complex", records: int = 5000, seed: int = 42
) -> CalibrationProblem:
    """One scenario.

    Parameters
    ----------
    scenario : "simple" (three margins and total income: 20 targets), "joint" (and state x age: 70),
        "continuous" (three margins, income, wages and benefits: 22), "complex" (all of these: 72).
    records, seed : size and seed of the population; the population is the same in every scenario.
    """
    if scenario not in SCENARIOS:
        raise ValueError(f"scenario is {scenario!r}; expected one of {', '.join(SCENARIOS)}")
    rng = np.random.default_rng(seed)
    state, age, bracket = (
        rng.choice(p.size, size=records, p=p / p.sum()) for p in (_STATES, _AGES, _BRACKETS)
    )
    income = rng.lognormal(10.5, 1.0, records)
    wages = income * rng.uniform(0.5, 0.9, records)
    benefits = rng.lognormal(8.0, 1.5, records)
    blocks = [
        (_one_hot(state, 10), "state"),
        (_one_hot(age, 5), "age"),
        (_one_hot(bracket, 4), "bracket"),
    ]
    if scenario in ("joint", "complex"):
        blocks.append((_one_hot(state * 5 + age, 50), "state x age"))
    names = [f"{margin}: {level}" for block, margin in blocks for level in range(block.shape[0])]
    amounts = {"income": income}
    if scenario in ("continuous", "complex"):
        amounts |= {"wages": wages, "benefits": benefits}
    matrix = sparse.vstack(
        [*(block for block, _ in blocks), sparse.csr_array(np.vstack(list(amounts.values())))],
        format="csr",
    )
    weights = np.ones(records)
    return CalibrationProblem(matrix, matrix @ weights, weights, target_names=(*names, *amounts))


def _one_hot(code: np.ndarray, levels: int) -> sparse.csr_array:
    return sparse.csr_array(
        (np.ones(code.size), (code, np.arange(code.size))), shape=(levels, code.size)
    )
