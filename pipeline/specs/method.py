"""How a state is solved: what one unit of loss stands for, solvers' settings, the choice of pairs.

Belongs here: the model of ``data_specs/method.yaml`` and of a profile's ``method``, which states
what differs from it. Does not belong here: the numbers and their reasons (that file), or what a
setting does (the core's own class, whose names the keys are).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, model_validator

from calibration_core.tree.result import TreeNewtonSettings
from calibration_core.tree.select.settings import SelectionSettings
from calibration_core.tree.select.weight_limits import WeightLimits
from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml, over
from pipeline.specs.settings import refuse_old_names, settings_spec
from pipeline.vocabulary import Level

METHOD_FILE = "method.yaml"

# What a target must lie within is its published margin, and levels are the profile's.
_SOLVER = {"inside": 1.645, "share": ()}
TreeNewton: Any = settings_spec(TreeNewtonSettings, given=_SOLVER)
PairSelection: Any = settings_spec(
    SelectionSettings,
    given={"pairs": 1, "seed": 0, "floor": 1, "threads": 1},
    renamed={
        "allocation": "`method.selection.rule`",
        "candidates_per_pair": "`method.selection.candidates`",
        "anchor_strength": "`method.anchor_strength`",
    },
)
Limits: Any = settings_spec(WeightLimits)


class LevelShares(SpecModel):
    """Shares of targets to be met before the prior stops being weakened: at the finest level, and
    at every level above it."""

    finest: float = Field(ge=0, le=1)
    above: float = Field(0.0, ge=0, le=1)


class ScaleRule(SpecModel):
    """What one unit of loss stands for (``pipeline/weights/problem.py``).

    ``above_tract``: of the reconciled standard error, at levels above the tract;
    ``relative_floor``: by level, the least scale as a share of the value.
    """

    above_tract: float = Field(gt=0)
    relative_floor: dict[Level, float]


class BystanderRule(SpecModel):
    """When an untold figure counts as bent (``pipeline/reports/bystanders.py``).

    ``limit``: standard errors of the survey; ``least_records``: records below which the survey says
    too little of a figure to judge by; ``blocking``: whether a bent figure stops the run.
    """

    limit: float = Field(gt=0)
    least_records: int = Field(ge=1)
    blocking: bool


class SurveyEvidence(SpecModel):
    """How the survey's own estimates are held to (``pipeline/targets/evidence.py``).

    ``use``: whether at all. ``least_records``: of records that count, below which an estimate is
    left out. ``carry_error_per_year``: relative standard error of carrying a count by age and sex,
    for each year between survey and target year. ``scale_share``: what one unit of loss stands for,
    as a share of an estimate's standard error.
    """

    use: bool
    scale_share: float = Field(gt=0)
    least_records: int = Field(ge=0)
    carry_error_per_year: float = Field(ge=0)


class Method(SpecModel):
    """``data_specs/method.yaml``; a profile's ``method`` states what differs.

    ``dense`` and ``refine`` are TreeNewtonSettings, of all pairs and of the selected ones, and
    ``dense_share`` and ``refine_share`` how closely they fit. ``selection`` is SelectionSettings,
    ``limits`` WeightLimits; ``anchor_strength``, ``anchor_finest``, ``goals`` as in JointSettings.
    ``balanced`` are families of variables that a selection keeps beside those with a target.
    ``growth_by`` are groups of categories.yaml that divide the population by age and sex, by which
    the survey is carried to the target year. ``bystanders`` decides nothing about weights, only
    what is said of them.
    """

    scale: ScaleRule
    growth_by: tuple[str, ...]
    survey_evidence: SurveyEvidence
    dense: TreeNewton
    dense_share: LevelShares
    selection: PairSelection
    refine: TreeNewton
    refine_share: LevelShares
    anchor_strength: float = Field(ge=0)
    anchor_finest: float = Field(ge=0)
    goals: Literal["targets", "dense"]
    balanced: tuple[str, ...]
    limits: Limits
    bystanders: BystanderRule

    @model_validator(mode="before")
    @classmethod
    def _present_names(cls, stated: Any) -> Any:
        refuse_old_names(stated, _RENAMED)
        return stated


_RENAMED = {
    "tau_path": "`method.dense.tau_path`",
    "refine_tau_path": "`method.refine.tau_path`",
    "ratio_bounds": "`method.refine.ratio_bounds`",
    "weight_limits": "`method.limits`",
    "tract_target_share": "`method.dense_share.finest`",
    "relative_scale_floor": "`method.scale.relative_floor`",
    "selection_draws": "`method.selection`",
}


def with_defaults(stated: Any, root: Path = SPEC_ROOT) -> Any:
    """``stated``, a profile's ``method``, over the numbers of ``root``'s method file."""
    refuse_old_names(stated, _RENAMED)
    return over(_defaults(root), stated) if isinstance(stated, Mapping) else stated


def changed(method: Method, stated: Mapping[str, Any]) -> Method:
    """``method`` with what ``stated`` says in its place, key by key."""
    refuse_old_names(stated, _RENAMED)
    return Method.model_validate(over(method.model_dump(), stated))


@cache
def _defaults(root: Path) -> dict[str, Any]:
    # A folder of specs may leave it at the project's own numbers.
    path = (root if (root / METHOD_FILE).exists() else SPEC_ROOT) / METHOD_FILE
    load_yaml(path, Method)
    return yaml.safe_load(path.read_text(encoding="utf-8"))
