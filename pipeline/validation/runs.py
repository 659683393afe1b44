"""Held-out validation as data: what is asked, one method on one problem, and everything together.

Belongs here: those frozen objects and the rules their fields keep. Does not belong here: running
methods (``compare.py``), withholding (``holdout.py``), statistics (``paired.py``), tables
(``report.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from calibration_core.errors import BudgetError, SettingsError
from calibration_core.tree.rivals import PAIR_METHODS
from pipeline.specs.profiles import Profile
from pipeline.validation.families import HoldOutGroup

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
