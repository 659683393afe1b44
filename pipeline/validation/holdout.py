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

from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from calibration_core.tree.problem import PoolProblem
from pipeline.loaded_state import LoadedState, prepared
from pipeline.specs.catalog import Catalog
from pipeline.validation.families import HoldOutGroup
from pipeline.validation.measures import TargetSet, target_set
from pipeline.vocabulary import (
    CALIBRATE,
    EVIDENCE,
    LEVELS,
    NATION,
    TARGET_KEY,
    VALIDATION,
    VARIABLE_KEY,
)
from pipeline.weights.problem import SolvableState, pool_problem

_MOVED = 1e-6


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One state without one group.

    Attributes
    ----------
    group : which is withheld.
    state : rebuilt without it.
    pool : its dense problem.
    inside : the targets that are fitted. ``outside``: the withheld ones, those that would have been
        fitted.
    counts : withheld targets by level; 0 at a level that has none.
    never_fitted : targets of the group that no calibration uses anyway (concept gap too wide, no
        value, not expressible); not measured.
    determined : withheld variables that the kept ones give by a sum, as ``level variable domain
        (group of categories)``: siblings that leak.
    moved, largest_move : kept targets that the repeated reconciliation moved, and by which share of
        their value at most.
    """

    group: HoldOutGroup
    state: SolvableState
    pool: PoolProblem
    inside: TargetSet
    outside: TargetSet
    counts: dict[str, int]
    never_fitted: int
    determined: tuple[str, ...]
    moved: int
    largest_move: float

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know, in words."""
        where = f"{self.state.postal}, {self.group.id}"
        none = [level for level in LEVELS if self.counts.get(level) == 0]
        notes = [f"{where}: no target at level {level}" for level in none]
        if self.never_fitted:
            notes.append(
                f"{where}: {self.never_fitted:,} targets of the group are never fitted (concept"
                " gap, suppressed, not expressible) and not measured"
            )
        if self.determined:
            notes.append(
                f"{where}: the targets that stay give {len(self.determined)} withheld variables by"
                f" a sum, so these are no test: {', '.join(self.determined)}"
            )
        if self.moved:
            notes.append(
                f"{where}: reconciliation without the group moved {self.moved:,} of the targets"
                f" that stay, by {100 * self.largest_move:.2g} % at most"
            )
        return tuple(notes)


def has_targets(state: SolvableState, group: HoldOutGroup) -> bool:
    """Whether the state fits at least one target of the group."""
    return any(used.any() for used in _withheld(state, group))


def hold_out(
    loaded: LoadedState, group: HoldOutGroup, catalog: Catalog, truth: pl.DataFrame | None = None
) -> HeldOut:
    """Withhold ``group`` from a state.

    Parameters
    ----------
    truth : ``level, geoid, variable, domain, truth`` where the population is known (the synthetic
        sample), else None.
    """
    whole, inputs = loaded.ready, loaded.inputs
    below, national = (_without(frame, group) for frame in (inputs.below, inputs.national))
    asked = _without_estimates(inputs.estimates, group, catalog)
    inputs = replace(inputs, below=below, national=national, estimates=asked)
    state = prepared(catalog, whole.profile, whole.postal, inputs).ready
    pool = pool_problem(state)
    withheld = _withheld(whole, group)
    inside = target_set(state.problem, state.targets, published(state), pool, truth)
    outside = target_set(whole.problem, whole.targets, withheld, pool, truth)
    levels = whole.problem.tree.levels
    counts = {level: int(used.sum()) for level, used in zip(levels, withheld, strict=True)}
    of_group = pl.col("family").is_in(group.families)
    stated = whole.targets.filter(
        of_group & (pl.col("level") != NATION) & (pl.col("role") != EVIDENCE)
    ).height
    moved, largest = _moved(inside.frame, whole.targets)
    return HeldOut(
        group=group,
        state=state,
        pool=pool,
        inside=inside,
        outside=outside,
        counts=counts,
        never_fitted=stated - sum(counts.values()),
        determined=_determined(whole, group, catalog),
        moved=moved,
        largest_move=largest,
    )


def _without(targets: pl.DataFrame, group: HoldOutGroup) -> pl.DataFrame:
    """The target table with the group kept for validation only."""
    held = (pl.col("role") == CALIBRATE) & pl.col("family").is_in(group.families)
    why = f"held out with the group {group.id}"
    return targets.with_columns(
        role=pl.when(held).then(pl.lit(VALIDATION)).otherwise("role"),
        reason=pl.when(held).then(pl.lit(why)).otherwise("reason"),
    )


def _without_estimates(
    estimates: pl.DataFrame, group: HoldOutGroup, catalog: Catalog
) -> pl.DataFrame:
    """What the survey says, the group apart: its own estimate would tell what is withheld."""
    keys = [key for key, v in catalog.variables.items() if v.family in group.families]
    schema = dict.fromkeys(VARIABLE_KEY, pl.String)
    held = pl.DataFrame(keys, schema=schema, orient="row")
    return estimates.join(held, on=VARIABLE_KEY, how="anti", maintain_order="left")


def published(state: SolvableState) -> list[np.ndarray]:
    """Per level, (areas, variables): targets that are fitted and published, evidence apart."""
    told = (state.targets["role"] != EVIDENCE).to_numpy()
    return [(row >= 0) & told[np.maximum(row, 0)] for row in state.problem.grid.rows]


def _withheld(state: SolvableState, group: HoldOutGroup) -> list[np.ndarray]:
    """Per level, (areas, variables): targets of the group among those that the whole state fits."""
    of_group = np.isin(state.targets["family"].to_numpy(), group.families)
    rows = zip(state.problem.grid.rows, published(state), strict=True)
    return [told & of_group[np.maximum(row, 0)] for row, told in rows]


def _determined(state: SolvableState, group: HoldOutGroup, catalog: Catalog) -> tuple[str, ...]:
    """Withheld variables that a group of categories gives once all its other members are known."""
    found = []
    for level, keys in zip(state.problem.tree.levels, state.problem.grid.keys, strict=True):
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
    both = kept.select(*TARGET_KEY, "value").join(
        before.select(*TARGET_KEY, pl.col("value").alias("before")), on=TARGET_KEY, how="inner"
    )
    share = both.select(
        (
            (pl.col("value") - pl.col("before")).abs()
            / pl.max_horizontal(pl.col("before").abs(), pl.lit(1.0))
        ).alias("share")
    )["share"]
    return int((share > _MOVED).sum()), max(share.drop_nulls(), default=0.0)
