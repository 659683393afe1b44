"""What records borrow from another survey: the model of ``data_specs/donation.yaml``.

Belongs here: items, whom they are asked of, in what donor and recipient must be alike. Does not
belong here: profiles (``profiles.py``), but for what one says of a donor, or the draw
(``pipeline/records``).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.specs.sql import SqlExpression

DONATION_PATH = SPEC_ROOT / "donation.yaml"
ALL = "all"


class DonorSurvey(SpecModel):
    """``income_lag``: years from the incomes asked for to the vintage of the survey."""

    income_lag: int = Field(ge=0, le=1)


class Trait(SpecModel):
    """A number as a class: how many of ``breaks`` it reaches; ``null_as``: what a null counts as,
    else it is a class of its own.
    """

    column: str
    breaks: tuple[float, ...] = Field(min_length=1)
    null_as: float | None = None

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if list(self.breaks) != sorted(set(self.breaks)):
            raise ValueError("`breaks` must ascend")
        return self


class PartsOf(SpecModel):
    """The amount that an item's columns are parts of: see the YAML."""

    records: tuple[str, ...] = Field(min_length=1)
    less: tuple[str, ...] = ()
    donors: tuple[str, ...] = Field(min_length=1)
    complete: bool = False


class DonationItem(SpecModel):
    """What one donor gives at once: see the YAML."""

    name: str
    level: Literal["person", "household"]
    columns: tuple[str, ...] = Field(min_length=1)
    universe: SqlExpression
    cells: tuple[str, ...] = Field(min_length=1)
    min_donors: int = Field(default=10, ge=1)
    parts_of: PartsOf | None = None
    given: str = ""
    carried_as: str = ""
    instead_of: tuple[str, ...] = ()
    why: str = Field(min_length=20)

    @property
    def keys(self) -> list[str]:
        """The key of the table that the item is of."""
        return ["household_id"] + ["person_number"] * (self.level == "person")

    @model_validator(mode="after")
    def _one_condition(self) -> Self:
        if self.given and self.parts_of:
            raise ValueError(f"{self.name}: `given` and `parts_of` exclude each other")
        for name, values in (("columns", self.columns), ("cells", self.cells)):
            if len(set(values)) < len(values):
                raise ValueError(f"{self.name}: `{name}` names one twice")
        return self


class DonationLimits(SpecModel):
    """Shares by which records may differ from the donors of the nation before they are marked."""

    receiving: float = Field(gt=0)
    dollars: float = Field(gt=0)
    least_receivers: int = Field(ge=1)


class Donation(SpecModel):
    """The content of ``data_specs/donation.yaml``."""

    surveys: dict[str, DonorSurvey]
    traits: dict[str, Trait]
    items: tuple[DonationItem, ...]
    limits: DonationLimits

    @model_validator(mode="after")
    def _references(self) -> Self:
        names = [item.name for item in self.items]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"items: twice {', '.join(twice)}")
        for item in self.items:
            if unknown := sorted(set(item.instead_of) - set(names)):
                raise ValueError(f"{item.name}: `instead_of` names no item {', '.join(unknown)}")
        self.chosen(ALL)
        return self

    def item(self, name: str) -> DonationItem:
        """The item called ``name``. Raises KeyError if there is none."""
        return {item.name: item for item in self.items}[name]

    def income_year(self, source: str, vintage: str) -> int:
        """The year of the dollars of a survey."""
        return int(vintage) - self.surveys[source].income_lag

    def chosen(self, names: Iterable[str]) -> tuple[DonationItem, ...]:
        """The items of ``names`` in the order of the file; ALL for each that stands in place of no
        other. Raises ValueError naming what is unknown, a column that two of them fill, or an
        amount taken off (``less``) that none of them fills before.
        """
        if names == ALL:
            found = [item for item in self.items if not item.instead_of]
        else:
            asked = list(names)
            if unknown := [name for name in asked if name not in {i.name for i in self.items}]:
                raise ValueError(f"{', '.join(unknown)} is no item of donation.yaml")
            found = [item for item in self.items if item.name in asked]
        filled: dict[str, str] = {}
        for item in found:
            before = item.parts_of.less if item.parts_of else ()
            if lacking := [column for column in before if column not in filled]:
                raise ValueError(
                    f"{item.name} needs an item that fills {', '.join(lacking)} before"
                )
            for column in item.columns:
                if column in filled:
                    raise ValueError(f"{filled[column]} and {item.name} both fill {column}")
                filled[column] = item.name
        return tuple(found)


@cache
def load_donation(path: Path = DONATION_PATH) -> Donation:
    """The items. Raises SpecError."""
    return load_yaml(path, Donation)


class Donor(SpecModel):
    """A second survey, and the items of ``data_specs/donation.yaml`` that the records borrow from
    it: names, or ``all``.
    """

    source: str
    vintage: str
    items: tuple[str, ...] | Literal["all"] = ("unemployment_compensation",)
