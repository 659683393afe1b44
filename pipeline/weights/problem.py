"""One state as arrays: which targets are fitted, what each unit adds to them, and what one unit of
loss stands for.

The scale s_j of a tract target is the standard error of its published margin where there is one,
else its reconciled one: one unit of loss is one standard error of what was published. Above the
tract it is a share (``scale.above_tract``) of the reconciled standard error, since totals of large
areas are known well and users compare them first. Either is at least ``scale.relative_floor`` of
the value, so that an exact target stays finite, and at least the smallest amount that counts. The
concept error of a publication is added in quadrature and never tightened: it is no better known for
being of a large area. An estimate of the survey itself has a share of its own standard error
(``survey_evidence.scale_share``).

Belongs here: from tables to the problem's arrays, and the one object that later steps take. Does
not belong here: solving (``solve.py``), knobs of solvers (``settings.py``), results as tables
(``table.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import polars as pl

from calibration_core.common.columns import Columns
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.neighbourhoods import Neighbourhoods
from calibration_core.tree.problem import PoolProblem, Targets, make_targets
from pipeline.errors import StoreError
from pipeline.specs.profiles import Profile
from pipeline.targets.grid import TargetGrid, area_tree
from pipeline.vocabulary import (
    EVIDENCE,
    FITTED_ROLES,
    SMALLEST,
    TRACT,
    VARIABLE_KEY,
    Key,
    design_column,
    design_columns,
    key_of,
)


@dataclass(frozen=True, eq=False)
class StateProblem:
    """Arrays of one state.

    Attributes
    ----------
    grid : the tree, and the place of every target that is fitted.
    targets : designs, values and scales, in those places.
    contributions : what each unit adds to everything measured, in the order of the columns; the
        designs are views of it.
    unsupported : variables with a target, to which no record of the state adds anything.
    """

    grid: TargetGrid
    targets: Targets
    contributions: Columns
    unsupported: tuple[Key, ...] = ()

    @property
    def tree(self) -> GeographyTree:
        """The areas, by level."""
        return self.grid.tree


@dataclass(frozen=True, eq=False)
class SolvableState:
    """What every step from the dense calibration on takes.

    Attributes
    ----------
    profile, postal : whose.
    geography : the state's areas, in the vintage of the targets.
    targets : its target table, reconciled.
    units, areas, pools, cells : the candidate tables; ``areas`` and ``pools`` are needed wherever
        dense weights are, ``cells`` by the selection and its report.
    problem : ``targets`` and ``units`` as arrays.
    """

    profile: Profile
    postal: str
    geography: pl.DataFrame
    targets: pl.DataFrame
    units: pl.DataFrame
    areas: pl.DataFrame | None
    pools: pl.DataFrame | None
    cells: pl.DataFrame | None
    problem: StateProblem

    @property
    def leaves(self) -> tuple[str, ...]:
        """GEOIDs of the finest areas, those that get records."""
        return self.problem.tree.leaves

    def table(self, name: Literal["areas", "pools", "cells"]) -> pl.DataFrame:
        """A candidate table that not every step is given. Raises StoreError if it was not."""
        found = {"areas": self.areas, "pools": self.pools, "cells": self.cells}[name]
        if found is None:
            raise StoreError(
                f"The state {self.postal} was made without its table of {name}",
                where=f"candidate_{name} of {self.postal}",
                expected="the table beside the candidate units",
                remedy="Pass it where the state is made",
            )
        return found

    def seed(self, purpose: str) -> int:
        """Seed of this state's random numbers for ``purpose``."""
        return state_seed(self.profile.seed, self.problem.tree.geoids[0][0], purpose)


def state_seed(seed: int, state_fips: str, purpose: str) -> int:
    """A seed from (run seed, state, purpose), the same whatever else runs: the first eight bytes of
    a SHA-256."""
    digest = hashlib.sha256(f"{seed}/{state_fips}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "big")


def build_problem(
    targets: pl.DataFrame, units: pl.DataFrame, geography: pl.DataFrame, profile: Profile
) -> StateProblem:
    """Arrange the targets that calibrate as arrays.

    Parameters
    ----------
    targets : reconciled target table of the state.
    units : ``candidate_units``: what each unit adds to every variable.
    geography : the state's areas in the vintage of the targets.
    """
    tree = area_tree(geography, profile.levels)
    fitted = pl.col("role").is_in(FITTED_ROLES) & pl.col("value").is_not_null()
    fitted &= pl.col("standard_error").is_not_null()
    stated = targets.filter(fitted).select("level", *VARIABLE_KEY).unique()
    contributions = attributes_of(units)
    place = {key_of(name): i for i, name in enumerate(design_columns(units.columns))}
    keys, designs, unsupported = [], [], set()
    for level in tree.levels:
        of_level = stated.filter(pl.col("level") == level).select(VARIABLE_KEY)
        wanted = [key for key in sorted(of_level.iter_rows()) if key in place]
        design = contributions[:, np.array([place[key] for key in wanted], dtype=np.int64)]
        alive = design.largest > 0
        keys.append([key for key, used in zip(wanted, alive, strict=True) if used])
        designs.append(design[:, alive])
        unsupported.update(set(wanted) - set(keys[-1]))
    grid = TargetGrid.of(targets, fitted, tree, keys)
    values = grid.read(targets["value"], 0.0)
    scales = grid.read(target_scales(targets, profile), np.inf)
    arrays = make_targets(tree, designs, values, scales)
    return StateProblem(grid, arrays, contributions, tuple(sorted(unsupported)))


def target_scales(targets: pl.DataFrame, profile: Profile) -> pl.Series:
    """What one unit of loss stands for, of every row of a target table; see the module."""
    rule = profile.method.scale
    error = targets["standard_error"].to_numpy()
    published = targets["margin_standard_error"].to_numpy()
    is_tract = (targets["level"] == TRACT).to_numpy()
    own = np.where(np.isnan(published), error, published)
    is_evidence = (targets["role"] == EVIDENCE).to_numpy()
    error = np.where(is_tract, own, rule.above_tract * error)
    error = np.where(is_evidence, profile.method.survey_evidence.scale_share * own, error)
    share = targets["level"].replace_strict(
        rule.relative_floor, default=0.0, return_dtype=pl.Float64
    )
    floor = share.to_numpy() * np.abs(targets["value"].to_numpy())
    least = targets["unit"].replace_strict(SMALLEST, return_dtype=pl.Float64).to_numpy()
    concept = targets["concept_error"].fill_null(0.0).to_numpy()
    return pl.Series(np.hypot(np.maximum(np.maximum(error, floor), least), concept))


def pool_problem(state: SolvableState) -> PoolProblem:
    """The dense problem: every area may use the units of its neighbourhood's pool."""
    units, problem, areas = state.units, state.problem, state.table("areas")
    pumas = sorted(set(units["puma"]))
    group = units["puma"].replace_strict({p: i for i, p in enumerate(pumas)}, return_dtype=pl.Int64)
    shares = areas.pivot(on="puma", index="area", values="share").sort("area")
    return PoolProblem(
        problem.tree,
        problem.targets,
        units["prior_weight"].to_numpy(),
        group.to_numpy(),
        shares.select(pumas).to_numpy(),
        _neighbourhoods(state),
    )


def _neighbourhoods(state: SolvableState) -> Neighbourhoods:
    """The pools as places among the units. Raises StoreError if they are of other units."""
    rows = state.units.select("household_id").with_row_index("record")
    pools = state.table("pools").join(rows, on="household_id", how="left")
    if pools["record"].null_count():
        lost = pools.filter(pl.col("record").is_null())["household_id"]
        raise StoreError(
            f"{len(lost)} households of pools are no candidates, first {lost[0]}",
            where=f"candidate_pools of {state.postal}",
            expected="pools of the present units",
            remedy=f"Materialise the candidates of {state.postal} again",
        )
    pools = pools.sort("neighbourhood", "record")
    number, record = pools["neighbourhood"].to_numpy(), pools["record"].to_numpy().astype(np.int64)
    expansion, edges = pools["expansion"].to_numpy(), np.flatnonzero(np.diff(number)) + 1
    of_area = state.table("areas").select("area", "neighbourhood").unique().sort("area")
    return Neighbourhoods(
        of_area["neighbourhood"].to_numpy().astype(np.int64),
        tuple(np.split(record, edges)),
        tuple(np.split(expansion, edges)),
    )


def design_matrix(units: pl.DataFrame, keys: Sequence[Key]) -> Columns:
    """Contributions of every unit to ``keys``, (units, keys)."""
    return Columns.of([units[design_column(key)].to_numpy() for key in keys], units.height)


def attributes_of(units: pl.DataFrame) -> Columns:
    """Everything measured of each unit, (units, variables), in the order of the columns."""
    return design_matrix(units, [key_of(name) for name in design_columns(units.columns)])


def columns_without_target(state: SolvableState) -> np.ndarray:
    """(columns,) int64 places in ``attributes_of`` of variables that no publication speaks of,
    whatever its role, and that the profile keeps beside its targets (``method.balanced``). The
    survey's own estimate of the state, a row of evidence, says nothing of a tract."""
    evidence = pl.col("role") == EVIDENCE
    kept = pl.col("family").is_in(list(state.profile.method.balanced))
    other = state.targets.filter(~evidence | ~kept.fill_null(False))
    stated = set(other.select(VARIABLE_KEY).unique().iter_rows())
    keys = [key_of(name) for name in design_columns(state.units.columns)]
    return np.flatnonzero([key not in stated for key in keys])
