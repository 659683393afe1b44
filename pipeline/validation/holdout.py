"""A state with one group of target families withheld: the problem that is solved without them, and
what is measured against them.

Reconciliation is repeated without the group. Categories that partition a parent tie variables
together (race to population, income classes to households), so figures reconciled with the withheld
ones would carry them into the targets that stay. With the group's role set to ``validation`` it
takes no part; ``moved`` and ``largest_move`` say how much of a leak that was. Candidates follow the
repeated figures, since prior weights are scaled to the population by area. Concept gaps and the
nation are not repeated: they treat each variable apart. The yardstick of a withheld target is its
value reconciled with everything, the best figure there is.

Belongs here: withholding. Does not belong here: which families go together (``families.py``),
measures (``measures.py``), methods.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.tree.problem import PoolProblem
from pipeline.reports.fit import LEVEL_ORDER
from pipeline.specs.catalog import Catalog
from pipeline.validation.families import HoldOutGroup
from pipeline.validation.measures import TargetSet, target_set
from pipeline.weights.calibrate import StateProblem, build_problem, pool_problem
from pipeline.weights.candidates import DESIGN_SEPARATOR, Candidates
from pipeline.weights.state import LoadedState, candidates_of, reconciled_targets

KEY = ["level", "geoid", "variable", "domain"]
_MOVED = 1e-6


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One state without one group.

    Attributes
    ----------
    postal, group : which.
    state : as loaded, nothing withheld.
    candidates, problem, pool : rebuilt without the group.
    inside : the targets that are fitted. ``outside``: the withheld ones, those that would have been
        fitted.
    counts : withheld targets by level; 0 at a level that has none.
    never_fitted : targets of the group that no calibration uses anyway (concept gap too wide, no
        value, not expressible); not measured.
    determined : withheld variables that the kept ones give by a sum, as ``level variable domain
        (group of categories)``: siblings that leak.
    moved, largest_move : kept targets that the repeated reconciliation moved, and by which share of
        their value at most.
    notes : the same in words, for whoever reads the result.
    """

    postal: str
    group: HoldOutGroup
    state: LoadedState
    candidates: Candidates
    problem: StateProblem
    pool: PoolProblem
    inside: TargetSet
    outside: TargetSet
    counts: dict[str, int]
    never_fitted: int
    determined: tuple[str, ...]
    moved: int
    largest_move: float
    notes: tuple[str, ...]

    @property
    def attributes(self) -> np.ndarray:
        """(records, f) float64: what each record adds to every variable that is measured, withheld
        ones too: they are facts of the record.
        """
        units = self.candidates.units
        return (
            units.select([name for name in units.columns if DESIGN_SEPARATOR in name])
            .to_numpy()
            .astype(np.float64, copy=False)
        )


def has_targets(state: LoadedState, group: HoldOutGroup) -> bool:
    """Whether the state fits at least one target of the group."""
    return any(used.any() for used in _withheld(state, group))


def hold_out(
    postal: str,
    state: LoadedState,
    group: HoldOutGroup,
    catalog: Catalog,
    truth: pl.DataFrame | None = None,
) -> HeldOut:
    """Withhold ``group`` from ``state``.

    Parameters
    ----------
    truth : ``level, geoid, variable, domain, truth`` where the population is known (the synthetic
        sample), else None.
    """
    role = pl.when((pl.col("role") == "calibrate") & pl.col("family").is_in(group.families))
    why = f"held out with the group {group.id}"
    below, above = (
        frame.with_columns(
            role.then(pl.lit("validation")).otherwise("role").alias("role"),
            role.then(pl.lit(why)).otherwise("reason").alias("reason"),
        )
        for frame in (state.inputs.below, state.inputs.above)
    )
    inputs = type(state.inputs)(**{**vars(state.inputs), "below": below, "above": above})
    targets = reconciled_targets(inputs, state.profile, catalog)
    candidates = candidates_of(inputs, targets, state.profile)
    problem = build_problem(targets, candidates.units, inputs.geography, state.profile)
    pool = pool_problem(problem, candidates.units, candidates.areas)
    withheld = _withheld(state, group)
    inside = target_set(problem, targets, [row >= 0 for row in problem.rows], pool, truth)
    outside = target_set(state.problem, state.targets, withheld, pool, truth)
    counts = {
        level: int(used.sum()) for level, used in zip(problem.tree.levels, withheld, strict=True)
    }
    below_nation = state.targets.filter(
        (pl.col("level") != "nation") & pl.col("family").is_in(group.families)
    )
    determined = _determined(state, group, catalog)
    moved, largest = _moved(inside.frame, state.targets)
    never = below_nation.height - sum(counts.values())
    notes = _notes(postal, group, counts, never, determined, moved, largest)
    return HeldOut(
        postal,
        group,
        state,
        candidates,
        problem,
        pool,
        inside,
        outside,
        counts,
        never,
        determined,
        moved,
        largest,
        notes,
    )


def _withheld(state: LoadedState, group: HoldOutGroup) -> list[np.ndarray]:
    """Per level, (areas, variables): the targets of the group among those that the whole state
    fits.
    """
    family = state.targets["family"].to_numpy()
    of_group = np.isin(family, group.families)
    return [(row >= 0) & of_group[np.maximum(row, 0)] for row in state.problem.rows]


def _determined(state: LoadedState, group: HoldOutGroup, catalog: Catalog) -> tuple[str, ...]:
    """Withheld variables that a group of categories gives once all its other members are known."""
    found = []
    for level, keys in zip(state.problem.tree.levels, state.problem.keys, strict=True):
        held = {key for key in keys if catalog.variables[key].family in group.families}
        for categories in catalog.categories.values():
            members = [
                (member.variable, member.domain)
                for member in (categories.parent, *categories.children)
            ]
            out = [key for key in members if key in held]
            if len(out) == 1 and set(members) <= set(keys):
                found.append(f"{level} {' '.join(out[0])} ({categories.id})")
    return tuple(found)


def _moved(kept: pl.DataFrame, before: pl.DataFrame) -> tuple[int, float]:
    both = kept.select(*KEY, "value").join(
        before.select(*KEY, pl.col("value").alias("before")), on=KEY, how="inner"
    )
    share = both.select(
        (
            (pl.col("value") - pl.col("before")).abs()
            / pl.max_horizontal(pl.col("before").abs(), pl.lit(1.0))
        ).alias("share")
    )["share"]
    return int((share > _MOVED).sum()), float(share.max() or 0.0)


def _notes(
    postal: str,
    group: HoldOutGroup,
    counts: dict[str, int],
    never: int,
    determined: tuple[str, ...],
    moved: int,
    largest: float,
) -> tuple[str, ...]:
    where = f"{postal}, {group.id}"
    notes = [
        f"{where}: no target at level {level}" for level in LEVEL_ORDER if counts.get(level) == 0
    ]
    if never:
        notes.append(
            f"{where}: {never:,} targets of the group are never fitted (concept gap, suppressed,"
            " not expressible) and not measured"
        )
    if determined:
        notes.append(
            f"{where}: the targets that stay give {len(determined)} withheld variables by a sum, so"
            f" these are no test: {', '.join(determined)}"
        )
    if moved:
        notes.append(
            f"{where}: reconciliation without the group moved {moved:,} of the targets that stay,"
            f" by {100 * largest:.2g} % at most"
        )
    return tuple(notes)
