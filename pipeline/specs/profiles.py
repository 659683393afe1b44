"""What a profile is: which files of which vintages, which states, which year, how many pairs.

Belongs here: the model of ``data_specs/profiles/*.yaml``, and what becomes of a profile once an
option of each of its choices is taken. Does not belong here: where files lie on disk and which
option that makes it (``pipeline/sources/settled.py``), or what a target is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, model_validator

from pipeline.errors import InvariantError
from pipeline.specs.alignment import Step
from pipeline.specs.base import SPEC_ROOT, SpecModel
from pipeline.specs.donation import Donor
from pipeline.specs.method import Method, changed, with_defaults
from pipeline.specs.operation import Owner, Schedule, TagKey, TagValue
from pipeline.specs.provenance import Provenance
from pipeline.specs.states import BY_POSTAL, OUTLYING_AREAS, STATES
from pipeline.specs.targets import CarryRule
from pipeline.vocabulary import COUNTY, LEVELS, TRACT, Level

_CHOSEN = ("levels", "geography", "records", "budget")
"""Keys that an option states in place of the profile."""


class ProfileGeography(SpecModel):
    """``vintage``: census year of the tracts and counties of the targets; ``puma_link_vintage``: of
    the PUMAs in the microdata.
    """

    source: str
    vintage: str
    puma_link_vintage: str


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
    """Which units an area may draw on (``pipeline/weights/neighbourhoods.py``).

    ``elsewhere_share``: prior weight of records from outside the area's own PUMA, as a share.
    ``units``: that the pool of a neighbourhood has at least, those of its own PUMAs and sampled
    ones together; ``elsewhere``: sampled ones at least, however many its own are.
    ``least_support``: own units that add to a targeted variable, below which units from elsewhere
    that do are sampled apart. docs/large_states.md has the figures these rest on.
    """

    elsewhere_share: float = Field(default=0.2, ge=0, le=1)
    units: int = Field(default=2500, ge=0)
    elsewhere: int = Field(default=1000, ge=0)
    least_support: int = Field(default=20, ge=0)


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


class Option(SpecModel):
    """One way to fill a need: taken where all its ``sources`` have their files.

    ``sources``, ``targets``, ``accepted_moves`` and ``carry_overrides`` are added to the profile's,
    ``method`` states what differs, ``donor`` becomes that of the records, whichever are taken; the
    rest stands in place of the profile's. ``costs`` says what is lost against the option before.
    """

    name: str
    costs: str = ""
    sources: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    targets: tuple[str, ...] = ()
    carry_overrides: dict[str, CarryRule] = Field(default_factory=dict)
    accepted_moves: tuple[AcceptedMove, ...] = ()
    levels: tuple[Level, ...] | None = None
    geography: ProfileGeography | None = None
    records: ProfileRecords | None = None
    donor: Donor | None = None
    budget: Budget | None = None
    method: dict[str, Any] = Field(default_factory=dict)


class Choice(SpecModel):
    """A need and the ways to fill it, best first; the first whose files are there is taken.

    ``by``: whether the nation's files decide, once for all states, or each state's own. Where no
    option has all its files, the first of which one is there is taken, else the first, so that the
    run names what is missing; an option without ``sources`` needs none.
    """

    need: str
    by: Literal["nation", "state"]
    options: tuple[Option, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _costs_told(self) -> Choice:
        if silent := [option.name for option in self.options[1:] if not option.costs]:
            raise ValueError(f"{self.need}: say what {', '.join(silent)} costs, under `costs`")
        if self.by == "nation" and any(o.levels or o.records for o in self.options):
            raise ValueError(f"{self.need}: levels and records are chosen by state")
        if self.by == "state" and any(option.donor for option in self.options):
            raise ValueError(f"{self.need}: a donor is one for all states, chosen by nation")
        return self


@dataclass(frozen=True)
class Taken:
    """A choice made. ``postal``: the state, or None for the nation; ``passed_by``: each better
    option with the files it lacks; ``lacking``: files that the option taken lacks itself, where
    none has all of its own, so that the run stops at them.
    """

    postal: str | None
    need: str
    option: Option
    passed_by: tuple[tuple[str, tuple[str, ...]], ...]
    lacking: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """The choice as plain data, for the manifest."""
        without = {name: list(files) for name, files in self.passed_by}
        names = {"need": self.need, "option": self.option.name, "costs": self.costs}
        return {**names, "without": without, "lacking": list(self.lacking)}

    @property
    def costs(self) -> str:
        """What is lost against the best option; "" where it was taken."""
        return self.option.costs if self.passed_by and not self.lacking else ""


class Profile(SpecModel):
    """``data_specs/profiles/<id>.yaml``; ``sources`` maps a source id to the vintages wanted,
    ``targets`` lists target files by id. ``like: ID`` in the file takes over what another profile
    says where this one says nothing, key by key; {target_year} in a text stands for that year.

    ``concept_gap_limit``: the widest relative gap between records and target that still calibrates.
    ``same_concept_gap_limit``: the same for tables made from the very questions the records answer,
    where the gap is sampling and change over time, not concept.
    ``cross_categories``: the file in ``data_specs/cross_categories/`` whose cells records are
    selected by. ``carry_overrides``: by target file, or item of one (``file:variable/domain``),
    another carry rule than the file's own, for a profile that lacks the series it needs.
    ``accepted_moves``: what reconciliation may move beyond the limit; ``accepted_checks``: findings
    of named checks that the profile takes. ``held_out_classes``: targets of these classes of
    provenance are compared with, never fitted. ``states: all`` means the 50 states and DC.
    ``choices``: needs that are filled by the files at hand; ``of`` gives the profile of one state
    once ``pipeline/sources/settled.py`` has looked.
    ``schedule``, ``owners`` and ``tags`` say how the profile is operated, and change no number.
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
    choices: tuple[Choice, ...] = ()
    budget: Budget
    seed: int
    concept_gap_limit: float = Field(0.25, gt=0)
    same_concept_gap_limit: float = Field(0.75, gt=0)
    held_out_classes: tuple[Provenance, ...] = ("projection",)
    candidates: ProfileCandidates = ProfileCandidates()
    cross_categories: str = "default"
    method: Method
    schedule: Schedule = Schedule()
    owners: tuple[Owner, ...] = ()
    tags: dict[TagKey, TagValue] = Field(default_factory=dict)
    _of: dict[str | None, Profile] = PrivateAttr(default_factory=dict)
    _made: tuple[Taken, ...] = PrivateAttr(default=())

    @model_validator(mode="before")
    @classmethod
    def _all_states(cls, stated: Any) -> Any:
        if isinstance(stated, Mapping) and stated.get("states") == "all":
            return {**stated, "states": [state.postal for state in STATES]}
        return stated

    @model_validator(mode="before")
    @classmethod
    def _first_option_where_unstated(cls, stated: Any) -> Any:
        if not isinstance(stated, Mapping):
            return stated
        # What is no choice at all is refused by the model of choices, in words.
        choices = stated.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            options = choice.get("options") if isinstance(choice, Mapping) else None
            first = options[0] if isinstance(options, list) and options else {}
            if isinstance(first, Mapping):
                stated = {name: first[name] for name in _CHOSEN if name in first} | dict(stated)
        return stated

    @model_validator(mode="before")
    @classmethod
    def _method_over_the_defaults(cls, stated: Any, info: ValidationInfo) -> Any:
        if not isinstance(stated, Mapping) or isinstance(stated.get("method"), Method):
            return stated
        # A profile's file lies in ``profiles`` below the root of its specs, or anywhere.
        file = (info.context or {}).get("path")
        folder = Path(file).resolve().parent if file is not None else None
        root = folder.parent if folder is not None and folder.name == "profiles" else SPEC_ROOT
        method = with_defaults(stated.get("method", {}), root)
        return {**stated, "method": method}

    def taking(self, options: Iterable[Option]) -> Profile:
        """The profile without choices that follows from ``options``, one for each of them."""
        parts: dict[str, Any] = {name: getattr(self, name) for name in type(self).model_fields}
        parts["sources"] = dict(self.sources)
        donor = self.records.donor
        for option in options:
            donor = option.donor or donor
            for source, vintages in option.sources.items():
                known = parts["sources"].get(source, ())
                parts["sources"][source] = tuple(dict.fromkeys((*known, *vintages)))
            parts["targets"] = tuple(dict.fromkeys((*parts["targets"], *option.targets)))
            parts["accepted_moves"] += option.accepted_moves
            parts["carry_overrides"] = {**parts["carry_overrides"], **option.carry_overrides}
            stated = {name: getattr(option, name) for name in _CHOSEN}
            parts |= {name: value for name, value in stated.items() if value is not None}
            if option.method:
                parts["method"] = changed(parts["method"], option.method)
        if donor != parts["records"].donor:
            parts["records"] = parts["records"].model_copy(update={"donor": donor})
        return self.model_copy(update={**parts, "choices": ()})

    @property
    def examples(self) -> tuple[Profile, ...]:
        """Profiles without choices in which every option is taken once, beside the first of the
        others; the profile itself where it has no choices."""
        first = [choice.options[0] for choice in self.choices]
        found = [self.taking(first)] if first else [self]
        for at, choice in enumerate(self.choices):
            for option in choice.options[1:]:
                found.append(self.taking([*first[:at], option, *first[at + 1 :]]))
        return tuple(found)

    def settled(self, of: Mapping[str | None, Profile], made: Iterable[Taken]) -> Profile:
        """The profile of the whole graph: all that the nation (key None) and some state take."""
        nation = of[None]
        sources: dict[str, tuple[str, ...]] = {}
        for each in of.values():
            for source, vintages in each.sources.items():
                sources[source] = tuple(dict.fromkeys((*sources.get(source, ()), *vintages)))
        whole = nation.model_copy(
            update={
                "sources": {name: tuple(sorted(sources[name])) for name in sources},
                "targets": tuple(dict.fromkeys(t for each in of.values() for t in each.targets)),
                "levels": max((each.levels for each in of.values()), key=len),
            }
        )
        whole._of, whole._made = dict(of), tuple(made)
        return whole

    def made(self, *postals: str) -> tuple[Taken, ...]:
        """Choices that the weights of these states rest on, the nation's first."""
        return tuple(each for each in self._made if each.postal is None or each.postal in postals)

    def of(self, postal: str | None) -> Profile:
        """What the state takes, the nation for None; a profile without choices is the same for all.

        Raises InvariantError if choices are still open.
        """
        if self.choices:
            raise InvariantError(
                f"Profile {self.id} has choices that nobody made",
                where=f"profile {self.id}, {postal or 'nation'}",
                expected="a profile settled by the files at hand",
                remedy="Report this: `settled` of pipeline/sources/settled.py was not called",
            )
        return self._of.get(postal, self)

    @property
    def variants(self) -> tuple[Profile, ...]:
        """The different profiles of nation and states; the profile itself where it has no
        choices."""
        found: list[Profile] = []
        for each in self._of.values():
            if each not in found:
                found.append(each)
        return tuple(found) or (self,)

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
        if self.choices:
            return self
        if unlisted := self.unlisted_sources():
            raise ValueError(f"{unlisted} is used but not listed under `sources`")
        return self

    def unlisted_sources(self) -> str:
        """The first source and vintage that geography or records name and `sources` does not; ""
        where there is none."""
        used = {
            self.geography.source: {self.geography.vintage, self.geography.puma_link_vintage},
            self.records.source: {self.records.vintage},
        }
        if self.records.donor is not None:
            used.setdefault(self.records.donor.source, set()).add(self.records.donor.vintage)
        for source, vintages in used.items():
            if missing := vintages - set(self.sources.get(source, ())):
                return f"source {source} vintage {', '.join(sorted(missing))}"
        return ""
