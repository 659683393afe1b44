"""What a profile is: which files of which vintages, which states, which year, how many pairs.

Belongs here: the model of ``data_specs/profiles/*.yaml``. Does not belong here: where files lie on
disk, or what a target is.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.specs.base import SpecModel
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
    carries each amount to the target year.
    """

    source: str
    vintage: str
    income_year: int
    donor: Donor | None = None
    uprating: dict[str, str] = Field(default_factory=dict)


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


class Candidates(SpecModel):
    """``elsewhere_share``: prior weight of records from outside the area's own PUMA, as a share."""

    elsewhere_share: float = Field(0.2, ge=0, le=1)


class SelectionMethod(SpecModel):
    """How exactly k pairs are chosen (``calibration_core.tree.select.pairs.SelectionSettings`` says
    what each does).

    ``allocation``, ``power``: how pairs are shared out among areas; ``design``: of the draw;
    ``candidates_per_pair``; ``rounds`` of refitting and exchanging; ``exchanges``: most for each
    pair, 0 for none; ``cell_penalty``: what an exchange pays for moving a cell's count by one, in
    squared scales (null: exchanges stay within cells); ``anchor_strength``: how tightly the refit
    holds the dense totals of variables without a target above the finest level, in standard errors
    of a simple random draw, 0 for not at all.
    """

    allocation: Literal["equal", "population", "effective", "neyman"] = "population"
    power: float = Field(0.25, ge=0)
    design: Literal["cube", "systematic", "sampford"] = "cube"
    candidates_per_pair: int = Field(16, ge=1)
    rounds: int = Field(3, ge=0)
    exchanges: float = Field(8.0, ge=0)
    cell_penalty: float | None = Field(1.0, ge=0)
    anchor_strength: float = Field(0.25, ge=0)


class WeightLimitsSpec(SpecModel):
    """``smallest``: fewest households a pair stands for; ``largest_share``: of its area's
    households that one pair may stand for.
    """

    smallest: float = Field(0.5, ge=0)
    largest_share: float = Field(0.25, gt=0, le=1)


class Method(SpecModel):
    """``tau_path`` is followed downwards until ``tract_target_share`` of finest-level targets lie
    inside their published 90 % margin.

    ``refine_tau_path``: the same for the selected pairs; ``ratio_bounds``: how far refinement may
    move a weight from its starting value; ``weight_limits``: how small and large any weight may be,
    so that no pair ends with a crumb of a household. ``relative_scale_floor``: by level, the least
    scale s_j of a target as a share of its value, so that exact targets stay finite.
    """

    tau_path: tuple[float, ...] = Field((1.0, 0.3, 0.1, 0.03, 0.01), min_length=1)
    refine_tau_path: tuple[float, ...] = Field((1.0, 0.3, 0.1, 0.03, 0.01, 0.003), min_length=1)
    ratio_bounds: tuple[float, float] = (0.05, 10.0)
    selection: SelectionMethod = SelectionMethod()
    weight_limits: WeightLimitsSpec = WeightLimitsSpec()
    tract_target_share: float = Field(0.995, gt=0, le=1)
    relative_scale_floor: dict[Level, float] = Field(
        default_factory=lambda: {"county": 0.002, "state": 0.001}
    )

    @model_validator(mode="after")
    def _falls(self) -> Method:
        for path in (self.tau_path, self.refine_tau_path):
            if any(t <= 0 for t in path) or list(path) != sorted(set(path), reverse=True):
                raise ValueError(
                    "tau_path and refine_tau_path must be positive and strictly falling"
                )
        if not 0 <= self.ratio_bounds[0] < 1 < self.ratio_bounds[1]:
            raise ValueError("ratio_bounds must lie either side of one")
        return self


class Profile(SpecModel):
    """``data_specs/profiles/<id>.yaml``; ``sources`` maps a source id to the vintages wanted,
    ``targets`` lists target files by id.

    ``concept_gap_limit``: the widest relative gap between records and target that still calibrates.
    ``same_concept_gap_limit``: the same for tables made from the very questions the records answer,
    where the gap is sampling and change over time, not concept.
    ``cross_categories``: the file in ``data_specs/cross_categories/`` whose cells records are
    selected by. ``carry_overrides``: by target file, another carry rule than the file's own, for a
    profile that lacks the series it needs.
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
    budget: Budget
    seed: int
    concept_gap_limit: float = Field(0.25, gt=0)
    same_concept_gap_limit: float = Field(0.75, gt=0)
    candidates: Candidates = Candidates()
    cross_categories: str = "default"
    method: Method = Method()

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
