"""The tree wing: areas in a hierarchy, targets at every level, pairs of records and areas.

A person with arrays and a list of areas takes five steps, each one object or one call:

    GeographyTree.from_leaves     the areas, from one row per finest area
    reconcile_tree                estimates of several levels that contradict each other, made one
    calibrate_tree                a weight for every record in every area, which is dense
    select_jointly                exactly k pairs of a record and an area
    refine_pairs                  the weights of those pairs

    from calibration_core.tree import GeographyTree, reconcile_tree, calibrate_tree

docs/methods/hierarchy.md has the whole in one example.

Belongs here: the public names of geography, targets, problems, settings and results of a tree,
loaded when they are asked for. Does not belong here: code; one flat matrix (``flat``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    # The names below are found when they are asked for; an editor reads them here.
    from calibration_core.common.warnings import CalibrationWarning
    from calibration_core.tree.conflicts import TreeConflicts, tree_conflicts
    from calibration_core.tree.geography import GeographyTree
    from calibration_core.tree.problem import PairProblem, PoolProblem, Targets, make_targets
    from calibration_core.tree.reconcile.area_shares import AreaSharesResult, calibrate_shares
    from calibration_core.tree.reconcile.categories import (
        CategoryResult,
        Group,
        reconcile_categories,
    )
    from calibration_core.tree.reconcile.levels import ReconcileResult, reconcile_tree
    from calibration_core.tree.reconcile.share_problem import AreaSharesProblem, AreaSharesSettings
    from calibration_core.tree.result import TreeNewtonResult, TreeNewtonSettings
    from calibration_core.tree.select.joint import RefinedPairs, refine_pairs, select_jointly
    from calibration_core.tree.select.loss_report import SelectionLoss, selection_loss
    from calibration_core.tree.select.pairs import Selection
    from calibration_core.tree.select.pool import Pool
    from calibration_core.tree.select.settings import JointSettings, SelectionSettings
    from calibration_core.tree.select.weight_limits import WeightLimits
    from calibration_core.tree.solve.losses import (
        RobustLoss,
        RobustTreeResult,
        calibrate_tree_robust,
    )
    from calibration_core.tree.solve.newton import calibrate_tree
    from calibration_core.tree.totals import pair_totals, pool_totals

_TREE = "calibration_core.tree"
_PUBLIC = {
    "AreaSharesProblem": f"{_TREE}.reconcile.share_problem",
    "AreaSharesResult": f"{_TREE}.reconcile.area_shares",
    "AreaSharesSettings": f"{_TREE}.reconcile.share_problem",
    "CalibrationWarning": "calibration_core.common.warnings",
    "CategoryResult": f"{_TREE}.reconcile.categories",
    "GeographyTree": f"{_TREE}.geography",
    "Group": f"{_TREE}.reconcile.categories",
    "JointSettings": f"{_TREE}.select.settings",
    "PairProblem": f"{_TREE}.problem",
    "Pool": f"{_TREE}.select.pool",
    "PoolProblem": f"{_TREE}.problem",
    "ReconcileResult": f"{_TREE}.reconcile.levels",
    "RefinedPairs": f"{_TREE}.select.joint",
    "RobustLoss": f"{_TREE}.solve.losses",
    "RobustTreeResult": f"{_TREE}.solve.losses",
    "Selection": f"{_TREE}.select.pairs",
    "SelectionLoss": f"{_TREE}.select.loss_report",
    "SelectionSettings": f"{_TREE}.select.settings",
    "Targets": f"{_TREE}.problem",
    "TreeConflicts": f"{_TREE}.conflicts",
    "TreeNewtonResult": f"{_TREE}.result",
    "TreeNewtonSettings": f"{_TREE}.result",
    "WeightLimits": f"{_TREE}.select.weight_limits",
    "calibrate_shares": f"{_TREE}.reconcile.area_shares",
    "calibrate_tree": f"{_TREE}.solve.newton",
    "calibrate_tree_robust": f"{_TREE}.solve.losses",
    "make_targets": f"{_TREE}.problem",
    "pair_totals": f"{_TREE}.totals",
    "pool_totals": f"{_TREE}.totals",
    "reconcile_categories": f"{_TREE}.reconcile.categories",
    "reconcile_tree": f"{_TREE}.reconcile.levels",
    "refine_pairs": f"{_TREE}.select.joint",
    "select_jointly": f"{_TREE}.select.joint",
    "selection_loss": f"{_TREE}.select.loss_report",
    "tree_conflicts": f"{_TREE}.conflicts",
}
__all__ = [
    "AreaSharesProblem",
    "AreaSharesResult",
    "AreaSharesSettings",
    "CalibrationWarning",
    "CategoryResult",
    "GeographyTree",
    "Group",
    "JointSettings",
    "PairProblem",
    "Pool",
    "PoolProblem",
    "ReconcileResult",
    "RefinedPairs",
    "RobustLoss",
    "RobustTreeResult",
    "Selection",
    "SelectionLoss",
    "SelectionSettings",
    "Targets",
    "TreeConflicts",
    "TreeNewtonResult",
    "TreeNewtonSettings",
    "WeightLimits",
    "calibrate_shares",
    "calibrate_tree",
    "calibrate_tree_robust",
    "make_targets",
    "pair_totals",
    "pool_totals",
    "reconcile_categories",
    "reconcile_tree",
    "refine_pairs",
    "select_jointly",
    "selection_loss",
    "tree_conflicts",
]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'calibration_core.tree' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
