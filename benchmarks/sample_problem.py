"""A state of the project's synthetic sample as one flat problem: households, state and county
targets, real structure, invented people.

Every household is one record. County targets see a household with the share of its PUMA's people
who live in the county, so that county rows are fractional, as they are for surveys that do not say
where in a PUMA a household lives.

Belongs here: that problem. Does not belong here: methods, the pipeline's own two-level problem.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.state import LoadedState, load_state
from calibration_core import CalibrationProblem
from pipeline.sample.generate import ensure_sample
from pipeline.weights.problem import design_matrix

# Units whose county targets are all kept; of persons and households only county totals are, so that
# targets do not outnumber what some hundred households can answer.
_DETAIL = ("persons", "households")
# A target that fewer households contribute to says nothing about weights.
_LEAST_SUPPORT = 5


def sample_problem(postal: str, folder: Path) -> CalibrationProblem:
    """Generate the sample in ``folder`` (or use what is there) and flatten one state of it."""
    ensure_sample(folder)
    return flat_problem(load_state("sample", postal, folder))


def flat_problem(state: LoadedState) -> CalibrationProblem:
    """State targets and the main county targets over households; cells are the pipeline's
    cross-categories.
    """
    units, areas, problem = state.ready.units, state.ready.areas, state.ready.problem
    tree, targets = problem.tree, problem.targets
    pumas = units["puma"].to_list()
    rows, values, names, groups = [], [], [], []
    for depth, level in enumerate(tree.levels):
        if level not in ("state", "county"):
            continue
        keys = problem.grid.keys[depth]
        design = design_matrix(units, keys)
        for area, geoid in enumerate(tree.geoids[depth]):
            inside = (
                areas.filter(pl.col("area").str.starts_with(geoid))
                .group_by("puma")
                .agg(pl.col("share").sum())
            )
            share_of = dict(zip(inside["puma"].to_list(), inside["share"].to_list(), strict=True))
            share = np.array([share_of.get(p, 0.0) for p in pumas])
            for v, key in enumerate(keys):
                if level == "county" and key[0] in _DETAIL and key[1] != "total":
                    continue
                value, scale = targets.values[depth][area, v], targets.scales[depth][area, v]
                row = design[:, v] * share
                if np.isfinite(scale) and value > 0 and np.count_nonzero(row) >= _LEAST_SUPPORT:
                    rows.append(row)
                    values.append(value)
                    names.append(f"{level} {geoid}: {'/'.join(key)}")
                    groups.append(f"{level}: {key[0]}")
    weights = units["prior_weight"].to_numpy().astype(np.float64)
    return CalibrationProblem(
        np.vstack(rows),
        np.array(values),
        weights,
        target_names=names,
        groups=groups,
        cells=units["cell"].to_numpy(),
    )
