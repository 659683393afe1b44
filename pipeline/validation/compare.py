"""Held-out validation: every sparse method on the same problems, at the same number of pairs in
every area, from the same dense solution.

For each state and each group of families in turn: dense calibration without the group, then every
method at each budget and seed, measured on the targets that were fitted (in sample) and on the
withheld ones (out of sample). What a method sees knows nothing of the withheld figures; it may use
what records say of those variables, since records are not figures.

A budget is a number of pairs per area, on average: k is that times the number of the state's finest
areas, as in a run of the profile, and each area's share of k is the same for every method. Seed
number i is the selection seed of a run whose profile seed is i higher, so number 0 is the draw of
``geocal run``; a state's results do not depend on which other states, groups or methods are asked
for.

Belongs here: the loops. Does not belong here: their result as data (``runs.py``), measures
(``measures.py``), paired statistics (``paired.py``), tables and files (``report.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from calibration_core.common.area_weights import weights_of
from calibration_core.errors import BudgetError, GeocalError
from calibration_core.tree.rivals import WITHOUT_CHANCE, PairTask, run_pair_method
from calibration_core.tree.select.pairs import allocate_pairs
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.solve.newton import TreeNewtonResult
from pipeline.errors import ProfileError
from pipeline.loaded_state import LoadedState
from pipeline.specs.catalog import Catalog
from pipeline.specs.profiles import Profile
from pipeline.validation.families import HoldOutGroup
from pipeline.validation.holdout import HeldOut, has_targets, hold_out
from pipeline.validation.measures import error_rows, weight_figures
from pipeline.validation.paired import paired_differences
from pipeline.validation.runs import DENSE, Run, Validation, ValidationSettings
from pipeline.vocabulary import TARGET_KEY
from pipeline.weights.candidates import candidate_pairs
from pipeline.weights.problem import SolvableState, state_seed
from pipeline.weights.settings import joint_settings, refine_settings
from pipeline.weights.solve import dense_calibration, pool_of

Progress = Callable[[str, int], None]


def validate(
    states: Sequence[str],
    load: Callable[[str], tuple[LoadedState, pl.DataFrame | None]],
    groups: Sequence[HoldOutGroup],
    settings: ValidationSettings,
    profile: Profile,
    catalog: Catalog,
    progress: Progress = lambda what, steps: None,
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
    ledger = _Ledger(profile, settings, tuple(groups))
    interrupted = False
    try:
        for postal in states:
            progress(f"{postal}: reading", 0)
            loaded, truth = load(postal)
            _require_room(loaded.ready, settings)
            for group in groups:
                if _validate_group(loaded, group, catalog, truth, ledger, progress):
                    keep(ledger.so_far())
    except KeyboardInterrupt:
        # Hours of work are not thrown away: what is done is reported, and says that it is not all.
        if not ledger.runs:
            raise
        interrupted = True
    if not ledger.held:
        raise ProfileError(
            "There is nothing to withhold: " + "; ".join(ledger.skipped),
            where="--hold-out",
            expected="a group that one of the states has targets of",
            remedy="Hold out another group, or validate other states",
        )
    paired = tuple(paired_differences(ledger.runs, settings.reference))
    return replace(ledger.so_far(), paired=paired, interrupted=interrupted)


@dataclass(eq=False)
class _Ledger:
    """What has been found so far."""

    profile: Profile
    settings: ValidationSettings
    groups: tuple[HoldOutGroup, ...]
    held: list[dict] = field(default_factory=list)
    degenerate: list[dict] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def so_far(self) -> Validation:
        return Validation(
            self.profile,
            self.settings,
            self.groups,
            held=tuple(self.held),
            degenerate=tuple(self.degenerate),
            skipped=tuple(self.skipped),
            runs=tuple(self.runs),
            interrupted=True,
        )


def _validate_group(
    loaded: LoadedState,
    group: HoldOutGroup,
    catalog: Catalog,
    truth: pl.DataFrame | None,
    ledger: _Ledger,
    progress: Progress,
) -> bool:
    """Withhold one group of one state and run every method; False where nothing can be withheld."""
    state = loaded.ready
    if not has_targets(state, group):
        families = ", ".join(group.families)
        ledger.skipped.append(
            f"{state.postal} fits no target of {group.id} ({families}), so nothing can be withheld"
            " there"
        )
        progress(f"{state.postal} {group.id}: nothing to withhold", ledger.settings.steps)
        return False
    task = hold_out(loaded, group, catalog, truth)
    ledger.held.append(_facts(task))
    ledger.degenerate += _named_degenerate(task)
    for run in _runs(task, ledger.settings, progress):
        ledger.runs.append(run)
    return True


def steps_of(
    states: Sequence[str], groups: Sequence[HoldOutGroup], settings: ValidationSettings
) -> int:
    """How many steps ``validate`` reports."""
    return len(states) * len(groups) * settings.steps


def pair_task(state: SolvableState, pool: Pool, pairs: int, seed: int) -> PairTask:
    """What every sparse method is given, as a run of the profile would set it.

    ``pairs``: k. ``seed`` 0 is that of ``geocal run``; number i is the selection seed of a run
    whose profile seed is i higher.
    """
    counts = allocate_pairs(pool, joint_settings(state, pairs).selection).pairs_per_area
    fips = state.problem.tree.geoids[0][0]
    number = state_seed(state.profile.seed + seed, fips, "selection")
    return PairTask(pool, counts, number, refine_settings(state))


def _runs(task: HeldOut, settings: ValidationSettings, progress: Progress) -> Iterator[Run]:
    state = task.state
    label = f"{state.postal} without {task.group.id}"
    progress(f"{label}: dense", 0)
    result = dense_calibration(state)
    yield _dense_run(task, result)
    pool, done = pool_of(state, result.weights), 1
    for budget in settings.pairs_per_area:
        certain: dict[str, Run] = {}
        for seed in range(settings.seeds):
            given = pair_task(state, pool, budget * len(state.leaves), seed)
            for method in settings.methods:
                progress(f"{label}: {method}, {budget} per area, seed {seed}", done)
                if method in certain:
                    run = replace(certain[method], seed=seed)
                else:
                    run = _sparse_run(task, method, budget, seed, given)
                if method in WITHOUT_CHANCE:
                    certain[method] = run
                yield run
                done = 1
    progress(f"{label}: done", done)


def _dense_run(task: HeldOut, dense: TreeNewtonResult) -> Run:
    weights = weights_of(dense.weights).table()
    leaf, record = np.nonzero(weights > 0)
    return Run(
        postal=task.state.postal,
        group=task.group.id,
        method=DENSE,
        pairs=leaf.size,
        seconds_refit=dense.seconds,
        converged=dense.converged,
        status=dense.status,
        warnings=tuple(map(str, dense.warnings)),
        **_measured(task, leaf, record, weights[leaf, record]),
    )


def _sparse_run(task: HeldOut, method: str, budget: int, seed: int, given: PairTask) -> Run:
    asked = Run(task.state.postal, task.group.id, method, budget, seed)
    try:
        out = run_pair_method(method, given)
    except GeocalError as error:
        return replace(asked, failure=str(error))
    return replace(
        asked,
        pairs=out.leaf.size,
        seconds_selection=out.seconds_selection,
        seconds_refit=out.seconds_refit,
        converged=out.converged,
        status=out.status,
        warnings=tuple(map(str, out.warnings)),
        **_measured(task, out.leaf, out.record, out.weights),
    )


def _measured(task: HeldOut, leaf: np.ndarray, record: np.ndarray, weight: np.ndarray) -> dict:
    inside, outside = (t.fitted(leaf, record, weight) for t in (task.inside, task.outside))
    return {
        "weights": weight_figures(record, weight),
        "inside": tuple(error_rows(task.inside, inside)),
        "outside": tuple(error_rows(task.outside, outside, by_family=True)),
    }


def _require_room(state: SolvableState, settings: ValidationSettings) -> None:
    tables = state.units, state.table("areas"), state.table("pools")
    areas, most = len(state.leaves), candidate_pairs(*tables)
    budget = max(settings.pairs_per_area)
    if budget * areas > most:
        raise BudgetError(
            f"The budget of {budget:,} pairs per area is {budget * areas:,} pairs in"
            f" {state.postal}, and only {most:,} exist",
            where=f"--pairs-per-area {budget}, state {state.postal}, {areas:,} areas",
            expected=f"at most {most // areas:,} pairs per area",
            remedy="Ask for fewer pairs",
        )


def _facts(task: HeldOut) -> dict:
    return {
        "state": task.state.postal,
        "group": task.group.id,
        "areas": len(task.state.leaves),
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
        named = targets.frame.filter("degenerate").select(*TARGET_KEY, "value", "contribution")
        rows += [
            {"state": task.state.postal, "group": task.group.id, "sample": sample, **row}
            for row in named.iter_rows(named=True)
        ]
    return rows
