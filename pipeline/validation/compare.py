"""Held-out validation: every sparse method on the same problems, at the same number of pairs in
every area, from the same dense solution.

For each state and each group of families in turn: dense calibration without the group, then every
method at each budget and seed, measured on the targets that were fitted (in sample) and on the
withheld ones (out of sample). What a method sees knows nothing of the withheld figures; it may use
what records say of those variables, since records are not figures.

A budget is a number of pairs an area, on average: k is that times the number of the state's finest
areas, as in a run of the profile, and each area's share of k is the same for every method. Seed
number i is the selection seed of a run whose profile seed is i higher, so number 0 is the draw of
``geocal run``; a state's results do not depend on which other states, groups or methods are asked
for.

Belongs here: the loops, and their result as data. Does not belong here: measures (``measures.py``),
paired statistics (``paired.py``), tables and files (``report.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from calibration_core.common.digits import significant
from calibration_core.errors import BudgetError, GeocalError, SettingsError
from calibration_core.sampling.allocation import allocation_of
from calibration_core.tree.problem import Targets
from calibration_core.tree.rivals import PAIR_METHODS, WITHOUT_CHANCE, PairTask, run_pair_method
from calibration_core.tree.solve.newton import TreeNewtonResult
from pipeline.errors import ProfileError
from pipeline.specs.catalog import Catalog
from pipeline.specs.cross_categories import load_cross_categories
from pipeline.specs.profiles import Profile
from pipeline.validation.families import HoldOutGroup
from pipeline.validation.holdout import HeldOut, has_targets, hold_out
from pipeline.validation.measures import error_rows, weight_figures
from pipeline.validation.paired import paired_differences
from pipeline.weights.calibrate import (
    DENSE_DIGITS,
    budget_of,
    dense_calibration,
    refine_settings,
    state_seed,
)
from pipeline.weights.candidates import candidate_pairs
from pipeline.weights.cells import affinity_of, families_of
from pipeline.weights.state import LoadedState

DENSE = "dense"
REFERENCE = "hybrid"
DEFAULT_PAIRS = (20, 40, 60, 100)


@dataclass(frozen=True)
class ValidationSettings:
    """Attributes: ``pairs`` budgets, in pairs an area on average; ``seeds`` how many draws;
    ``methods`` of PAIR_METHODS, in the order run; ``reference`` the one the others are compared
    with in pairs. Raises SettingsError, naming the option, for none, an unknown or a repeated one.
    """

    methods: tuple[str, ...]
    pairs: tuple[int, ...] = DEFAULT_PAIRS
    seeds: int = 3
    reference: str = REFERENCE

    def __post_init__(self) -> None:
        there = ", ".join(PAIR_METHODS)
        if not self.methods or len(set(self.methods)) != len(self.methods):
            raise SettingsError(
                f"The methods are {', '.join(self.methods) or 'none'}",
                where="--methods",
                expected=f"one or more of {there}, each once",
                remedy="Name some",
            )
        if unknown := [name for name in self.methods if name not in PAIR_METHODS]:
            raise SettingsError(
                f"There is no sparse method {', '.join(map(repr, unknown))}",
                where="--methods",
                expected=f"one or more of {there}",
                remedy="Correct the name",
            )
        if not self.pairs or min(self.pairs) < 1 or len(set(self.pairs)) != len(self.pairs):
            raise BudgetError(
                f"The budgets are {', '.join(map(str, self.pairs)) or 'none'}",
                where="--pairs",
                expected="whole numbers of pairs an area, at least 1, each once",
                remedy="Name such numbers, for example --pairs 20 40 60 100",
            )
        if self.seeds < 1:
            raise SettingsError(
                f"The number of seeds is {self.seeds}",
                where="--seeds",
                expected="1 or more; intervals need 2",
                remedy="Give such a number",
            )


@dataclass(frozen=True)
class Run:
    """One method on one problem.

    Attributes
    ----------
    postal, group : the state and the group withheld.
    method : of PAIR_METHODS, or "dense".
    pairs, seed : budget an area and number of the seed; None for dense.
    k : pairs with weight.
    seconds_selection, seconds_refit : of the choice and of the refit (dense: None and its
        calibration).
    converged, status, warnings : as the method says.
    weights : effective sample size and the like (``measures.weight_figures``).
    inside, outside : figures by level (``measures.error_rows``), of the fitted and the withheld
        targets.
    failure : why there is no result, else "".
    """

    postal: str
    group: str
    method: str
    pairs: int | None
    seed: int | None
    k: int
    seconds_selection: float | None
    seconds_refit: float | None
    converged: bool
    status: str
    warnings: tuple[str, ...]
    weights: dict
    inside: tuple[dict, ...]
    outside: tuple[dict, ...]
    failure: str = ""


@dataclass(frozen=True, eq=False)
class Validation:
    """All of it. ``held``: facts of each state and group, without arrays; ``degenerate``: the
    targets named, a dictionary each; ``skipped``: what could not be withheld, in words; ``paired``:
    rows of ``paired.paired_differences``; ``interrupted``: Ctrl-C came, and this is what was done
    before.
    """

    profile: Profile
    settings: ValidationSettings
    groups: tuple[HoldOutGroup, ...]
    held: tuple[dict, ...]
    degenerate: tuple[dict, ...]
    skipped: tuple[str, ...]
    runs: tuple[Run, ...]
    paired: tuple[dict, ...] = field(default=())
    interrupted: bool = False

    @property
    def failures(self) -> tuple[Run, ...]:
        """Runs without a result."""
        return tuple(run for run in self.runs if run.failure)


def validate(
    states: Sequence[str],
    load: Callable[[str], tuple[LoadedState, pl.DataFrame | None]],
    groups: Sequence[HoldOutGroup],
    settings: ValidationSettings,
    profile: Profile,
    catalog: Catalog,
    progress: Callable[[str, int], None] = lambda what, steps: None,
    keep: Callable[[Validation], None] = lambda so_far: None,
) -> Validation:
    """Run everything.

    Parameters
    ----------
    states : postal codes.
    load : the state of a postal code, and the truth of its totals or None.
    progress : called before each step with what begins and the number of steps done since the last
        call, in units of ``steps_of``.
    keep : called with all there is after each state and group, so that hours of work survive
        whatever ends the next.

    Raises BudgetError if a budget exceeds the candidates of a state; ProfileError if none of the
    groups has a target in any of the states. What a single method raises is kept in its run
    (``failure``), and the others go on.
    """
    runs, held, degenerate, skipped = [], [], [], []
    each = 1 + settings.seeds * len(settings.pairs) * len(settings.methods)
    interrupted = False
    try:
        for postal in states:
            progress(f"{postal}: reading", 0)
            state, truth = load(postal)
            _require_room(postal, state, settings)
            for group in groups:
                if not has_targets(state, group):
                    skipped.append(
                        f"{postal} fits no target of {group.id} ({', '.join(group.families)}), so"
                        " nothing can be withheld there"
                    )
                    progress(f"{postal} {group.id}: nothing to withhold", each)
                    continue
                task = hold_out(postal, state, group, catalog, truth)
                held.append(_facts(task))
                degenerate += _named_degenerate(task)
                for run in _runs(task, settings, progress):
                    runs.append(run)
                keep(
                    Validation(
                        profile,
                        settings,
                        tuple(groups),
                        tuple(held),
                        tuple(degenerate),
                        tuple(skipped),
                        tuple(runs),
                        interrupted=True,
                    )
                )
    except KeyboardInterrupt:
        # Hours of work are not thrown away: what is done is reported, and says that it is not all.
        if not runs:
            raise
        interrupted = True
    if not held:
        raise ProfileError(
            "There is nothing to withhold: " + "; ".join(skipped),
            where="--hold-out",
            expected="a group that one of the states has targets of",
            remedy="Hold out another group, or validate other states",
        )
    result = Validation(
        profile,
        settings,
        tuple(groups),
        tuple(held),
        tuple(degenerate),
        tuple(skipped),
        tuple(runs),
    )
    return replace(
        result, paired=tuple(paired_differences(runs, settings.reference)), interrupted=interrupted
    )


def steps_of(
    states: Sequence[str], groups: Sequence[HoldOutGroup], settings: ValidationSettings
) -> int:
    """How many steps ``validate`` reports."""
    return (
        len(states)
        * len(groups)
        * (1 + settings.seeds * len(settings.pairs) * len(settings.methods))
    )


def pairs_per_leaf(
    dense: np.ndarray,
    budget: int,
    profile: Profile,
    targets: Targets | None = None,
    names: tuple[str, ...] = (),
) -> np.ndarray:
    """(leaves,) int64 pairs each leaf gets out of ``budget``, by the profile's rule: at least its
    ``minimum_pairs`` where the budget allows it, and no more than the leaf has households.
    ``targets`` are needed by the rule "neyman" only, which takes the finest level's.
    """
    design, scales = (None, None) if targets is None else (targets.designs[-1], targets.scales[-1])
    rule = profile.method.selection
    given = allocation_of(
        rule.allocation,
        budget,
        dense,
        design=design,
        scales=scales,
        floor=profile.budget.minimum_pairs,
        power=rule.power,
        names=names,
    )
    return given.per_area


def _runs(task: HeldOut, settings: ValidationSettings, progress) -> Iterator[Run]:
    profile, units = task.state.profile, task.candidates.units
    label = f"{task.postal} without {task.group.id}"
    progress(f"{label}: dense", 0)
    dense = dense_calibration(task.problem, units, task.candidates.areas, profile)
    yield _dense_run(task, dense)
    weights = significant(dense.weights, DENSE_DIGITS)
    attributes, cell, order = task.attributes, units["cell"].to_numpy(), units["order"].to_numpy()
    refine = refine_settings(task.problem, profile)
    cross = load_cross_categories(profile.cross_categories)
    table = task.candidates.cells.table
    families, affinity = (
        tuple(family.members for family in families_of(table, cross)),
        affinity_of(table, cross),
    )
    done = 1
    for pairs in settings.pairs:
        k = budget_of(profile, len(task.problem.tree.leaves), pairs * len(task.problem.tree.leaves))
        per_leaf = pairs_per_leaf(
            weights, k, profile, task.problem.targets, task.problem.tree.leaves
        )
        certain: dict[str, Run] = {}
        for number in range(settings.seeds):
            seed = state_seed(profile.seed + number, task.problem.tree.geoids[0][0], "selection")
            for method in settings.methods:
                progress(f"{label}: {method}, {pairs} an area, seed {number}", done)
                given = PairTask(
                    task.pool,
                    weights,
                    cell,
                    order,
                    attributes,
                    per_leaf,
                    seed,
                    refine,
                    families,
                    affinity,
                )
                run = (
                    replace(certain[method], seed=number)
                    if method in certain
                    else _sparse_run(task, method, pairs, number, given)
                )
                if method in WITHOUT_CHANCE:
                    certain[method] = run
                yield run
                done = 1
    progress(f"{label}: done", done)


def _dense_run(task: HeldOut, dense: TreeNewtonResult) -> Run:
    leaf, record = np.nonzero(dense.weights > 0)
    weight = dense.weights[leaf, record]
    figures = _measured(task, leaf, record, weight)
    return Run(
        task.postal,
        task.group.id,
        DENSE,
        None,
        None,
        leaf.size,
        None,
        dense.seconds,
        dense.converged,
        dense.status,
        dense.warnings,
        **figures,
    )


def _sparse_run(task: HeldOut, method: str, pairs: int, number: int, given: PairTask) -> Run:
    try:
        out = run_pair_method(method, given)
    except GeocalError as error:
        return Run(
            task.postal,
            task.group.id,
            method,
            pairs,
            number,
            0,
            None,
            None,
            False,
            "failed",
            (),
            {},
            (),
            (),
            failure=str(error),
        )
    figures = _measured(task, out.leaf, out.record, out.weights)
    return Run(
        task.postal,
        task.group.id,
        method,
        pairs,
        number,
        out.leaf.size,
        out.seconds_selection,
        out.seconds_refit,
        out.converged,
        out.status,
        tuple(out.warnings),
        **figures,
    )


def _measured(task: HeldOut, leaf: np.ndarray, record: np.ndarray, weight: np.ndarray) -> dict:
    return {
        "weights": weight_figures(record, weight),
        "inside": tuple(error_rows(task.inside, task.inside.fitted(leaf, record, weight))),
        "outside": tuple(
            error_rows(task.outside, task.outside.fitted(leaf, record, weight), by_family=True)
        ),
    }


def _require_room(postal: str, state: LoadedState, settings: ValidationSettings) -> None:
    areas, most = (
        len(state.problem.tree.leaves),
        candidate_pairs(state.candidates.units, state.candidates.areas),
    )
    if max(settings.pairs) * areas > most:
        raise BudgetError(
            f"The budget of {max(settings.pairs):,} pairs an area is"
            f" {max(settings.pairs) * areas:,} pairs in {postal}, and only {most:,} exist",
            where=f"--pairs {max(settings.pairs)}, state {postal}, {areas:,} areas",
            expected=f"at most {most // areas:,} pairs an area",
            remedy="Ask for fewer pairs",
        )


def _facts(task: HeldOut) -> dict:
    return {
        "state": task.postal,
        "group": task.group.id,
        "areas": len(task.problem.tree.leaves),
        "fitted": task.inside.frame.height,
        "withheld": task.outside.frame.height,
        "withheld_by_level": task.counts,
        "never_fitted": task.never_fitted,
        "determined_by_kept_targets": list(task.determined),
        "kept_targets_moved_by_reconciling_again": task.moved,
        "largest_move": task.largest_move,
        "degenerate": {
            "inside": int(task.inside.frame["degenerate"].sum()),
            "outside": int(task.outside.frame["degenerate"].sum()),
        },
        "zero": {
            "inside": int(task.inside.frame["zero"].sum()),
            "outside": int(task.outside.frame["zero"].sum()),
        },
        "notes": list(task.notes),
    }


def _named_degenerate(task: HeldOut) -> list[dict]:
    rows = []
    for sample, targets in (("inside", task.inside), ("outside", task.outside)):
        named = targets.frame.filter("degenerate").select(
            "level", "geoid", "variable", "domain", "value", "contribution"
        )
        rows += [
            {"state": task.postal, "group": task.group.id, "sample": sample, **row}
            for row in named.iter_rows(named=True)
        ]
    return rows
