"""How far a release may move from the one before, and who allowed more.

Belongs here: the models of ``data_specs/release_gate.yaml`` and of a file of approvals. Does not
belong here: comparing releases (``pipeline/release/diff.py``) or judging (``release/gate.py``).
"""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.vocabulary import Level, Unit

GATE_FILE = SPEC_ROOT / "release_gate.yaml"

Kind = Literal["told", "implied", "observed", "untold"]
What = Literal["moved", "target_moved", "target_gone", "figure_gone", "state_gone", "missed"]


class MoveRule(SpecModel):
    """How far figures may move. A figure falls under the first rule that fits it.

    ``figures``: patterns of ``variable/domain``; ``levels``, ``units``, ``kinds``: empty for all;
    ``share``: largest relative move; ``standard_errors``: where given, a move is too far only if
    it is also more than so many standard errors of the survey; ``least_records``: figures that
    rest on fewer are not judged.
    """

    name: str = Field(min_length=3)
    figures: tuple[str, ...] = ("*",)
    levels: tuple[Level, ...] = ()
    units: tuple[Unit, ...] = ()
    kinds: tuple[Kind, ...] = ()
    share: float = Field(gt=0)
    standard_errors: float = Field(default=0.0, ge=0)
    least_records: int = Field(default=0, ge=0)
    why: str = Field(min_length=10)

    def fits(self, level: str, unit: str, kind: str, figure: str) -> bool:
        """Whether a figure falls under this rule."""
        return (
            (not self.levels or level in self.levels)
            and (not self.units or unit in self.units)
            and (not self.kinds or kind in self.kinds)
            and any(fnmatchcase(figure, pattern) for pattern in self.figures)
        )


class GoneRule(SpecModel):
    """Targets that may go. ``share``: by level, the largest share of the areas of one variable
    that may lose their target; a level that is not named is not judged.
    """

    share: dict[Level, float]
    why: str = Field(min_length=10)


class MissRule(SpecModel):
    """How far a state's or the nation's fitted figure may lie from its own target, which needs no
    release before: ``share`` beyond the target's concept error; figures that rest on fewer than
    ``least_records`` are not judged.
    """

    levels: tuple[Level, ...] = Field(min_length=1)
    share: float = Field(gt=0)
    least_records: int = Field(default=0, ge=0)
    why: str = Field(min_length=10)


class ReleaseGate(SpecModel):
    """``data_specs/release_gate.yaml``."""

    moved: tuple[MoveRule, ...] = Field(min_length=1)
    targets_gone: GoneRule
    missed: MissRule

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        names = [rule.name for rule in self.moved]
        if len(names) != len(set(names)):
            raise ValueError("two rules have one name")
        return self

    def rule_of(self, level: str, unit: str, kind: str, figure: str) -> MoveRule | None:
        """The rule that a figure falls under; None where it is not judged."""
        return next((r for r in self.moved if r.fits(level, unit, kind, figure)), None)


class Approval(SpecModel):
    """One approved change.

    ``figure``: pattern of ``variable/domain``, for a state that went its postal code; ``level``,
    ``geoid``: patterns too; ``what``: kinds of change it speaks of; ``largest``: the largest
    relative move it covers (none: any); ``expires``: the last day on which it counts.
    """

    figure: str = Field(min_length=1)
    level: str = "*"
    geoid: str = "*"
    what: tuple[What, ...] = ("moved",)
    largest: float | None = Field(default=None, gt=0)
    reason: str = Field(min_length=10)
    approved_by: str = Field(min_length=2)
    expires: date

    @model_validator(mode="after")
    def _not_of_everything(self) -> Self:
        if self.largest is None and not self.figure.strip("*/"):
            raise ValueError("`figure` names everything: state `largest`, or name what moved")
        return self

    def covers(self, what: str, level: str, geoid: str, figure: str, size: float) -> bool:
        """Whether it approves this change, if it has not expired."""
        return (
            what in self.what
            and fnmatchcase(figure, self.figure)
            and fnmatchcase(level, self.level)
            and fnmatchcase(geoid, self.geoid)
            and (self.largest is None or size <= self.largest)
        )

    def words(self) -> str:
        """It in one line."""
        where = "" if (self.level, self.geoid) == ("*", "*") else f" ({self.level} {self.geoid})"
        return (
            f"{', '.join(self.what)} {self.figure}{where}, approved by {self.approved_by} until"
            f" {self.expires.isoformat()}: {self.reason}"
        )


class ApprovalFile(SpecModel):
    """A file of approvals: YAML with one list, ``approvals``."""

    approvals: tuple[Approval, ...] = ()


def load_gate(path: Path = GATE_FILE) -> ReleaseGate:
    """The thresholds. Raises SpecError naming file and key."""
    return load_yaml(path, ReleaseGate)


def load_approvals(path: Path | None) -> tuple[Approval, ...]:
    """The approvals in a file; none without one. Raises SpecError naming file and key."""
    return load_yaml(path, ApprovalFile).approvals if path is not None else ()
