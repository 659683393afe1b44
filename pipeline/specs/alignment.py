"""What aligns records with administrative data: the model of ``data_specs/alignment.yaml``.

Belongs here: which published figures control which amounts, by step. Does not belong here: which
steps a profile takes (``profiles.py``), or how records change (``pipeline/records``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.specs.sql import SqlExpression

ALIGNMENT_PATH = SPEC_ROOT / "alignment.yaml"
Step = Literal["ssa_benefits", "taxable_wages", "return_income", "top_tail"]
Trait = Literal["age_band", "disability", "poverty", "work", "family_receives", "one_parent"]
Key = tuple[str, str]


class Control(SpecModel):
    """A published figure: the sum of some targets less others, each ``variable/domain``; a
    ``variable`` alone stands for the domain of each class of adjusted gross income.
    """

    plus: tuple[str, ...] = Field(min_length=1)
    minus: tuple[str, ...] = ()

    def signed(self, domain: str = "") -> Iterator[tuple[Key, float]]:
        """Keys of the targets with their signs; ``domain`` completes those without one. Domains of
        ``returns/with_<source>`` are completed with ``_<domain>``.
        """
        for names, sign in ((self.plus, 1.0), (self.minus, -1.0)):
            for name in names:
                variable, _, own = name.partition("/")
                completed = f"{own}_{domain}" if own and domain else own or domain
                yield (variable, completed), sign


class BenefitGroup(SpecModel):
    """Persons whose receipt of one benefit has a control of its own; see the YAML."""

    name: str
    where: SqlExpression
    persons: Control
    dollars: Control
    traits: tuple[Trait, ...] = Field(min_length=1)
    rates_from: SqlExpression | None = None


class Benefit(SpecModel):
    """One amount and its groups, which must not overlap; ``first``: an amount whose losers come
    first.
    """

    amount: Literal["ssi", "social_security"]
    first: Literal["ssi"] | None = None
    groups: tuple[BenefitGroup, ...] = Field(min_length=1)


class WageRule(SpecModel):
    """The part of a person's wages (dollars a year) that exclusions are taken from."""

    start: float = Field(alias="from", ge=0)
    up_to: float
    dollars: Control

    @model_validator(mode="after")
    def _ordered(self) -> WageRule:
        if self.up_to <= self.start:
            raise ValueError("`up_to` must exceed `from`")
        return self


class SourceSplit(SpecModel):
    """An amount of the survey that returns show as two: see the YAML."""

    source: Literal["self_employment", "investment_income"] = Field(alias="from")
    to: Literal["partnership", "capital_gains"]
    own: Control
    dollars: Control
    returns: Control


class IncomeRule(SpecModel):
    retirement: Control
    sources: tuple[SourceSplit, ...]


class TailRule(SpecModel):
    """``returns`` and ``dollars``: variables of the top classes; ``amounts``: what each is made
    of.
    """

    returns: str
    dollars: str
    amounts: dict[str, Control]


class Alignment(SpecModel):
    """The content of ``data_specs/alignment.yaml``; ``classes``: domain by class of AGI."""

    benefits: tuple[Benefit, ...]
    wages: WageRule
    income: IncomeRule
    tail: TailRule
    classes: dict[str, str]
    watched: tuple[str, ...]

    @property
    def watched_keys(self) -> list[Key]:
        """``watched`` as (variable, domain)."""
        return [key for name in self.watched for key, _ in Control(plus=(name,)).signed()]

    def keys_of(self, step: Step) -> list[Key]:
        """Targets that a step is controlled by, in the order of the file, each once."""
        return list(dict.fromkeys(key for key in self._keys(step)))

    def keys_of_steps(self, steps: Iterable[Step]) -> list[Key]:
        """Targets that any of ``steps`` is controlled by, each once."""
        return list(dict.fromkeys(key for step in steps for key in self.keys_of(step)))

    def _keys(self, step: Step) -> Iterator[Key]:
        if step == "ssa_benefits":
            for group in (group for benefit in self.benefits for group in benefit.groups):
                yield from (key for key, _ in group.persons.signed())
                yield from (key for key, _ in group.dollars.signed())
        elif step == "taxable_wages":
            yield from (key for key, _ in self.wages.dollars.signed())
        elif step == "return_income":
            yield from (key for key, _ in self.income.retirement.signed())
            for split in self.income.sources:
                for control in (split.own, split.dollars, split.returns):
                    yield from self._by_class(control, LOWER_CLASSES)
        else:
            for domain in (self.classes[name] for name in TOP_CLASSES):
                yield from ((name, domain) for name in (self.tail.returns, self.tail.dollars))
            for control in self.tail.amounts.values():
                yield from self._by_class(control, TOP_CLASSES)

    def _by_class(self, control: Control, classes: tuple[str, ...]) -> Iterator[Key]:
        for name in classes:
            yield from (key for key, _ in control.signed(self.classes[name]))


STEPS: tuple[Step, ...] = ("ssa_benefits", "taxable_wages", "return_income", "top_tail")
"""All steps in the order they are taken, whatever order a profile lists them in."""

LOWER_CLASSES = tuple(str(number) for number in range(1, 9))
TOP_CLASSES = ("9", "10")
"""Classes of adjusted gross income below and from 500,000 dollars."""


@cache
def load_alignment(path: Path = ALIGNMENT_PATH) -> Alignment:
    """The rules. Raises SpecError."""
    return load_yaml(path, Alignment)
