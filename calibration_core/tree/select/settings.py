"""Settings of the choice of pairs: of the draw, of exchanges, of both with the refit.

Belongs here: those frozen objects and the rules their numbers keep; reading them loads no compiled
code. Does not belong here: the steps they drive (``pairs.py``, ``exchange.py``, ``joint.py``),
limits on weights (``weight_limits.py``), the solver's settings (``tree/result.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from calibration_core.errors import SettingsError
from calibration_core.sampling.area_sizes import RULES
from calibration_core.tree.result import TreeNewtonSettings
from calibration_core.tree.select.weight_limits import WeightLimits

DESIGNS = ("cube", "systematic", "sampford")
GOALS = ("targets", "dense")


@dataclass(frozen=True)
class ExchangeSettings:
    """Of one pass of exchanges.

    Attributes
    ----------
    limit : most exchanges for each place of an area, a stop that is never reached in practice.
    cell_penalty : kappa, the cost, in squared scales, of a cell's count moving by one; inf
        exchanges within cells only.
    threads : areas are shared out among so many; results do not depend on it.
    """

    limit: float = 8.0
    cell_penalty: float = 0.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in (("limit", 0), ("cell_penalty", 0), ("threads", 1)):
            found = getattr(self, name)
            if not found >= least:
                raise SettingsError(
                    f"The {name} of the exchanges is {found}", expected=f"at least {least}"
                )


@dataclass(frozen=True)
class SelectionSettings:
    """How pairs are chosen.

    Attributes
    ----------
    pairs : k, in all.
    seed : >= 0, of every random number.
    floor : fewest pairs of an area, where k allows it.
    rule, power : how the rest is shared out (``area_sizes.area_size``): "equal", "population"
        (dense total to ``power``), "effective", "neyman".
    design : of the draw: "cube", "systematic" or "sampford".
    candidates : for each pair to be drawn.
    exchanges : most exchanges for each place of an area; 0 makes none, and every pair keeps its
        inclusion probability.
    cell_penalty : cost, in squared scales, of a cell's count moving by one in an exchange; inf
        exchanges within cells only.
    rounds : how often refitting and exchanging are repeated after the draw
        (``joint.py``).
    threads : areas are shared out among so many; results do not depend on it.
    """

    pairs: int
    seed: int
    floor: int = 20
    rule: str = "population"
    power: float = 0.25
    design: str = "cube"
    candidates: int = 16
    exchanges: float = 8.0
    cell_penalty: float = 1.0
    rounds: int = 3
    threads: int = 1

    def __post_init__(self) -> None:
        for name, least in (
            ("pairs", 1),
            ("seed", 0),
            ("floor", 1),
            ("power", 0),
            ("candidates", 1),
            ("exchanges", 0),
            ("cell_penalty", 0),
            ("rounds", 0),
            ("threads", 1),
        ):
            found = getattr(self, name)
            if not found >= least:
                raise SettingsError(
                    f"The {name} of the selection is {found}",
                    expected=f"{least} or more",
                    remedy=f"Give a {name} of at least {least}",
                )
        for name, allowed in (("design", DESIGNS), ("rule", RULES)):
            if getattr(self, name) not in allowed:
                raise SettingsError(
                    f"The {name} of the selection is {getattr(self, name)!r}",
                    expected=f"one of {', '.join(allowed)}",
                    remedy="Correct the name",
                )

    @property
    def exchange_settings(self) -> ExchangeSettings:
        """Of one pass of exchanges."""
        return ExchangeSettings(self.exchanges, self.cell_penalty, self.threads)


@dataclass(frozen=True)
class JointSettings:
    """How pairs are chosen and weighed.

    Attributes
    ----------
    selection : k, the seed, the draw, exchanges and rounds.
    refine : the solver of the refits, of the last one too.
    anchor_strength : of soft targets at the dense totals of what has no target
        above the leaves (``anchors.anchored``); 0 for none.
    limits : smallest and largest weights; None for none.
    inside : a leaf's target is worth a pair where no pair at all would leave it further off than so
        many scales.
    goals : what the refit aims at in the leaves: the "targets", or the totals that the "dense"
        weights give for them.
    anchor_finest : as ``anchor_strength``, in the leaves, of the pool's ``anchors``.
    """

    selection: SelectionSettings
    refine: TreeNewtonSettings
    anchor_strength: float = 0.25
    limits: WeightLimits | None = None
    inside: float = 1.645
    goals: str = "targets"
    anchor_finest: float = 0.0

    def __post_init__(self) -> None:
        if self.goals not in GOALS:
            raise SettingsError(
                f"The goals of the refit are {self.goals!r}",
                expected=f"one of {', '.join(GOALS)}",
                remedy="Correct the name",
            )
