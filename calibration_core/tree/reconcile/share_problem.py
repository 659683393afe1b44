"""The problem and the settings of one national file reweighted to every area at once.

Belongs here: what is asked (``AreaSharesProblem``), how it is looked for (``AreaSharesSettings``),
and the checks of both. Does not belong here: the formulas, the result and the iteration
(``area_shares.py``), passes over records (``share_passes.py``).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from calibration_core.errors import ProblemError, SettingsError


@dataclass(frozen=True, eq=False)
class AreaSharesProblem:
    """A national file and what every area should add up to.

    Attributes
    ----------
    design : (records, variables) float64: what one record adds to each variable.
    national_weight : (records,) float64 >= 0: W.
    values, scales : (areas, variables) float64: targets b, and the error s > 0 one unit of loss
        stands for; inf where there is no target.
    group : (records,) int64 in [0, groups): records that share their prior over areas.
    prior_share : (groups, areas) float64 >= 0; each row is scaled to sum to one. Zero: no record of
        the group can be in the area.

    Raises
    ------
    ProblemError : shapes disagree, an entry is not finite, a scale is not positive, a group has no
        area, or none is of use to a record.
    """

    design: np.ndarray
    national_weight: np.ndarray
    values: np.ndarray
    scales: np.ndarray
    group: np.ndarray
    prior_share: np.ndarray

    def __post_init__(self) -> None:
        records, variables = self.design.shape if self.design.ndim == 2 else (-1, -1)
        areas = self.prior_share.shape[1] if self.prior_share.ndim == 2 else -1
        wanted = {
            "design": (records, variables),
            "national_weight": (records,),
            "group": (records,),
            "values": (areas, variables),
            "scales": (areas, variables),
            "prior_share": (len(self.prior_share), areas),
        }
        for name, shape in wanted.items():
            if getattr(self, name).shape != shape:
                raise ProblemError(
                    f"{name} has shape {getattr(self, name).shape}",
                    expected=f"{shape}: records, variables and areas agree",
                )
        for name in ("design", "national_weight", "prior_share"):
            array = getattr(self, name)
            if not np.isfinite(array).all() or (name != "design" and (array < 0).any()):
                raise ProblemError(
                    f"{name} holds a value that is not finite, or negative",
                    expected="finite numbers; weights and shares >= 0",
                )
        if np.isnan(self.scales).any() or (self.scales <= 0).any():
            area, variable = (int(i) for i in np.argwhere(~(self.scales > 0))[0])
            raise ProblemError(
                "A scale is NaN, zero or negative",
                where=f"area {area}, variable {variable}",
                expected="above 0; inf for no target",
            )
        if not np.isfinite(self.values[np.isfinite(self.scales)]).all():
            raise ProblemError(
                "A target in use is not finite",
                expected="finite targets, or scale inf to leave one out",
            )
        if self.group.size and (self.group.min() < 0 or self.group.max() >= len(self.prior_share)):
            raise ProblemError(
                "A record's group is outside prior_share",
                expected=f"0 to {len(self.prior_share) - 1}",
            )
        nowhere = np.flatnonzero(self.prior_share.sum(axis=1) <= 0)
        if nowhere.size:
            raise ProblemError(
                "A group has no prior share in any area",
                where=f"group {int(nowhere[0])}",
                expected="a positive share in at least one area",
            )

    @property
    def shares(self) -> np.ndarray:
        """(groups, areas) prior shares, rows summing to one."""
        return self.prior_share / self.prior_share.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class AreaSharesSettings:
    """Knobs of the solver.

    Attributes
    ----------
    tau_path : decreasing prior strengths to follow.
    inside, share : tau stops falling once this share of all targets is within ``inside`` scales;
        share 0: the whole path.
    tolerance : largest scaled gradient |(A w - b)/s + tau y| at the final tau; ``path_tolerance``
        the same before.
    max_iterations : Newton steps in all.
    forcing : relative residual at which the conjugate gradients stop; ``max_products`` products at
        most.
    """

    tau_path: tuple[float, ...] = (1.0, 0.1, 0.01, 0.001)
    inside: float = 1.0
    share: float = 0.0
    tolerance: float = 1e-6
    path_tolerance: float = 1e-1
    max_iterations: int = 200
    forcing: float = 0.05
    max_products: int = 200
    device: str = "cpu"

    def __post_init__(self) -> None:
        path = self.tau_path
        if (
            not path
            or any(t <= 0 for t in path)
            or any(a <= b for a, b in itertools.pairwise(path))
        ):
            raise SettingsError(
                f"tau_path is {path}", expected="positive numbers, strictly decreasing"
            )
        if not 0 < self.forcing < 1 or not 0 <= self.share <= 1:
            raise SettingsError(
                f"forcing is {self.forcing}, share {self.share}",
                expected="forcing between 0 and 1, share from 0 to 1",
            )
        if (
            min(self.tolerance, self.path_tolerance, self.inside) <= 0
            or min(self.max_iterations, self.max_products) < 1
        ):
            raise SettingsError("A tolerance or limit is not positive", expected="positive numbers")
