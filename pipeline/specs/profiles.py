"""What a profile is: which files of which vintages, which states, which year, how many pairs.

Belongs here: the model of ``data_specs/profiles/*.yaml``. Does not belong here: where files lie on
disk, or what a target is.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, ValidationInfo, model_validator

from pipeline.specs.alignment import Step
from pipeline.specs.base import SPEC_ROOT, SpecModel
from pipeline.specs.method import Method, with_defaults
from pipeline.specs.states import BY_POSTAL, OUTLYING_AREAS
from pipeline.specs.targets import CarryRule
from pipeline.vocabulary import COUNTY, LEVELS, TRACT, Level


class ProfileGeography(SpecModel):
    """``vintage``: census year of the tracts and counties of the targets; ``puma_link_vintage``: of
    the PUMAs in the microdata.
    """

    source: str
    vintage: str
    puma_link_vintage: str


class Donor(SpecModel):
    """A second survey whose items the records borrow."""

    source: str
    vintage: str


class ProfileRecords(SpecModel):
    """The microdata: source and vintage, the year whose dollars they hold, and the series that
    carries each amount to the target year. ``steps``: alignments with administrative data that the
    records of this profile undergo (``data_specs/alignment.yaml``); none unless listed.
    """

    source: str
    vintage: str
    income_year: int
    donor: Donor | None = None
    uprating: dict[str, str] = Field(default_factory=dict)
    steps: tuple[Step, ...] = ()


class Budget(SpecModel):
    """k: ``pairs_per_area`` on average over the finest areas, at least
    ``minimum_pairs`` in each.
    """

    pairs_per_area: int = Field(gt=0)
    minimum_pairs: int = Field(gt=0)

    @model_validator(mode="after")
    def _ordered(self) -> Budget:
        if self.minimum_pairs > self.pairs_per_area:
            raise ValueError("minimum_pairs exceeds pairs_per_area")
        return self


class ProfileCandidates(SpecModel):
    """``elsewhere_share``: prior weight of records from outside the area's own PUMA, as a share."""

    elsewhere_share: float = Field(default=0.2, ge=0, le=1)


class AcceptedMove(SpecModel):
    """Figures that reconciliation may move beyond the limit (``pipeline/targets/moves.py``), and
    why. Without ``geoids`` every area of the level.
    """

    level: Level
    variable: str
    domain: str
    geoids: tuple[str, ...] = ()
    reason: str = Field(min_length=20)


class AcceptedCheck(SpecModel):
    """What a named check (``data_specs/checks.yaml``) finds and the profile takes, and why. Without
    ``source``, ``geoids`` or ``columns`` any of them.
    """

    check: str
    source: str = ""
    geoids: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    reason: str = Field(min_length=20)

    def covers(self, check: str, source: str, geoid: str, column: str) -> bool:
        """Whether it is this finding that is accepted."""
        return (
            self.check == check
            and self.source in ("", source)
            and (not self.geoids or geoid in self.geoids)
            and (not self.columns or column in self.columns)
        )


class Profile(SpecModel):
    """``data_specs/profiles/<id>.yaml``; ``sources`` maps a source id to the vintages wanted,
    ``targets`` lists target files by id.

    ``concept_gap_limit``: the widest relative gap between records and target that still calibrates.
    ``same_concept_gap_limit``: the same for tables made from the very questions the records answer,
    where the gap is sampling and change over time, not concept.
    ``cross_categories``: the file in ``data_specs/cross_categories/`` whose cells records are
    selected by. ``carry_overrides``: by target file, or item of one (``file:variable/domain``),
    another carry rule than the file's own, for a profile that lacks the series it needs.
    ``accepted_moves``: what reconciliation may move beyond the limit. ``accepted_checks``: findings
    of named checks that the profile takes.
    """

    id: str
    title: str
    synthetic: bool
    states: tuple[str, ...] = Field(min_length=1)
    target_year: int
    levels: tuple[Level, ...] = Field(min_length=2)
    geography: ProfileGeography
    records: ProfileRecords
    sources: dict[str, tuple[str, ...]]
    targets: tuple[str, ...] = Field(min_length=1)
    carry_overrides: dict[str, CarryRule] = Field(default_factory=dict)
    accepted_moves: tuple[AcceptedMove, ...] = ()
    accepted_checks: tuple[AcceptedCheck, ...] = ()
    budget: Budget
    seed: int
    concept_gap_limit: float = Field(0.25, gt=0)
    same_concept_gap_limit: float = Field(0.75, gt=0)
    candidates: ProfileCandidates = ProfileCandidates()
    cross_categories: str = "default"
    method: Method

    @model_validator(mode="before")
    @classmethod
    def _method_over_the_defaults(cls, stated: Any, info: ValidationInfo) -> Any:
        if not isinstance(stated, Mapping) or isinstance(stated.get("method"), Method):
            return stated
        # A profile's file lies in ``profiles`` below the root of its specs.
        file = (info.context or {}).get("path")
        root = SPEC_ROOT if file is None else file.resolve().parent.parent
        method = with_defaults(stated.get("method", {}), root)
        return {**stated, "method": method}

    @property
    def finest_level(self) -> Literal["county", "tract"]:
        """The level of the areas that get records."""
        return TRACT if TRACT in self.levels else COUNTY

    @property
    def state_fips(self) -> tuple[str, ...]:
        """FIPS codes of ``states``, in the same order."""
        return tuple(BY_POSTAL[s].fips for s in self.states)

    @model_validator(mode="after")
    def _coherent(self) -> Profile:
        outlying = {area.postal for area in OUTLYING_AREAS}
        if unknown := [s for s in self.states if s not in BY_POSTAL or s in outlying]:
            raise ValueError(f"unknown state postal codes: {', '.join(unknown)}")
        if tuple(self.levels) not in {LEVELS[:3], LEVELS}:
            raise ValueError(
                "levels must be nation, state, county and, if there are tract tables, tract"
            )
        used = {
            self.geography.source: {self.geography.vintage, self.geography.puma_link_vintage},
            self.records.source: {self.records.vintage},
        }
        if self.records.donor is not None:
            used.setdefault(self.records.donor.source, set()).add(self.records.donor.vintage)
        for source, vintages in used.items():
            if missing := vintages - set(self.sources.get(source, ())):
                raise ValueError(
                    f"source {source} vintage {', '.join(sorted(missing))} is used but not listed"
                    " under `sources`"
                )
        return self
