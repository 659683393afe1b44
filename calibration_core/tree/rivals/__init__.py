"""Sparse methods over pairs of leaves and records, one module each with ``run(task)``, and the
registry that names them.

A method added here takes part in held-out validation and in the frontier benchmark. Whatever it
does, the pairs it returns are checked: exactly as many in every leaf as the task asks for.

Belongs here: the registry. Does not belong here: methods, measures of what is better.
"""

from __future__ import annotations

from collections.abc import Callable

from calibration_core.common.threads import one_thread
from calibration_core.errors import SettingsError
from calibration_core.tree.rivals import (
    cross_category,
    hard_concrete,
    hybrid,
    proportional,
    random,
    reweighted_l1,
)
from calibration_core.tree.rivals.task import PairOutcome, PairTask, check_outcome

PAIR_METHODS: dict[str, Callable[[PairTask], PairOutcome]] = {
    "hybrid": hybrid.run,
    "random": random.run,
    "proportional": proportional.run,
    "cross_category": cross_category.run,
    "hard_concrete": hard_concrete.run,
    "reweighted_l1": reweighted_l1.run,
}

# Methods in which nothing is random: another seed gives the same pairs and weights.
WITHOUT_CHANCE = frozenset({"reweighted_l1"})

__all__ = ["PAIR_METHODS", "WITHOUT_CHANCE", "PairOutcome", "PairTask", "run_pair_method"]


@one_thread()
def run_pair_method(name: str, task: PairTask) -> PairOutcome:
    """Run a method by name and check what it returns.

    Raises
    ------
    SettingsError : no method has this name.
    ProblemError : the method broke its promise (k in every leaf, no pair without dense weight).
    """
    if name not in PAIR_METHODS:
        raise SettingsError(
            f"There is no method {name!r} over pairs",
            expected=f"one of {', '.join(sorted(PAIR_METHODS))}",
            remedy="Correct the name",
        )
    outcome = PAIR_METHODS[name](task)
    check_outcome(task, outcome)
    return outcome
