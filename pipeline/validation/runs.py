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
DEFAULT_PAIRS_PER_AREA = (20, 40, 60, 100)


@dataclass(frozen=True)
class ValidationSettings:
    """What is asked.

    Attributes
    ----------
    methods : of PAIR_METHODS, in the order run.
    pairs_per_area : budgets, on average over the areas.
    seeds : how many draws of each.
    reference : the method that the others are compared with in pairs.

    Raises
    ------
    SettingsError, BudgetError : none, an unknown or a repeated one; names the option.
    """

    methods: tuple[str, ...]
    pairs_per_area: tuple[int, ...] = DEFAULT_PAIRS_PER_AREA
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
        budgets = self.pairs_per_area
        if not budgets or min(budgets) < 1 or len(set(budgets)) != len(budgets):
            raise BudgetError(
                f"The budgets are {', '.join(map(str, budgets)) or 'none'}",
                where="--pairs-per-area",
                expected="whole numbers of pairs per area, at least 1, each once",
                remedy="Name such numbers, for example --pairs-per-area 20 40 60 100",
            )
        if self.seeds < 1:
            raise SettingsError(
                f"The number of seeds is {self.seeds}",
                where="--seeds",
                expected="1 or more; intervals need 2",
                remedy="Give such a number",
            )

    @property
    def steps(self) -> int:
        """Steps of one state and group: the dense calibration, and every method's every draw."""
        return 1 + self.seeds * len(self.pairs_per_area) * len(self.methods)


@dataclass(frozen=True)
class Run:
    """One method on one problem.

    Attributes
    ----------
    postal, group : the state and the group withheld.
    method : of PAIR_METHODS, or "dense".
    pairs_per_area, seed : budget and number of the seed; None for dense.
    pairs : k, pairs with weight.
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
    pairs_per_area: int | None = None
    seed: int | None = None
    pairs: int = 0
    seconds_selection: float | None = None
    seconds_refit: float | None = None
    converged: bool = False
    status: str = "failed"
    warnings: tuple[str, ...] = ()
    weights: dict = field(default_factory=dict)
    inside: tuple[dict, ...] = ()
    outside: tuple[dict, ...] = ()
    failure: str = ""


@dataclass(frozen=True, eq=False)
class Validation:
    """All of it.

    Attributes
    ----------
    held : facts of each state and group, without arrays.
    degenerate : the targets named, a dictionary each.
    skipped : what could not be withheld, in words.
    paired : rows of ``paired.paired_differences``.
    interrupted : Ctrl-C came, and this is what was done before.
    """

    profile: Profile
    settings: ValidationSettings
    groups: tuple[HoldOutGroup, ...]
    held: tuple[dict, ...]
    degenerate: tuple[dict, ...]
    skipped: tuple[str, ...]
    runs: tuple[Run, ...]
    paired: tuple[dict, ...] = ()
    interrupted: bool = False

    @property
    def failures(self) -> tuple[Run, ...]:
        """Runs without a result."""
        return tuple(run for run in self.runs if run.failure)
