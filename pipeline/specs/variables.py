"""What a variable is: a measure over a domain, and how one record contributes to it.

Belongs here: the model of ``data_specs/variables/*.yaml`` and its checks. Does not belong here:
published columns (``specs/targets.py``) or the evaluation of expressions on records
(``pipeline/records/expressions.py``).
"""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from pipeline.specs.base import SpecModel
from pipeline.specs.sql import SqlExpression
from pipeline.vocabulary import Unit

RecordTable = Literal["persons", "households", "tax_units"]


class VariableKey(SpecModel):
    """The pair that names a variable everywhere: the measure and the subset of it."""

    variable: str
    domain: str

    @property
    def key(self) -> tuple[str, str]:
        """``(variable, domain)``."""
        return self.variable, self.domain


class Variable(VariableKey):
    """One measure x domain.

    ``value`` (a SQL number, default 1) is summed over the rows of table ``over`` for which
    ``where`` (a SQL condition) holds; dollar amounts in expressions are annual dollars of the
    profile's target year. ``over: null`` declares a published variable that no record of any source
    here can express; ``not_expressible`` then says why, and its targets are reported with role
    ``dropped``.
    """

    label: str
    unit: Unit
    over: RecordTable | None
    where: SqlExpression = "true"
    value: SqlExpression = "1"
    family: str
    concept_note: str = ""
    not_expressible: str = ""

    @property
    def expressible(self) -> bool:
        """Whether some record table can express the variable at all."""
        return self.over is not None

    @property
    def counts(self) -> bool:
        """Whether it counts rows, each as one."""
        return self.value.strip() == "1"

    @model_validator(mode="after")
    def _says_why_not(self) -> Variable:
        if (self.over is None) != bool(self.not_expressible):
            raise ValueError(
                f"{self.variable}/{self.domain}: `not_expressible` must give the reason exactly"
                " when `over` is null"
            )
        return self


class VariableFile(SpecModel):
    """One file of variables; ``title`` says what the file gathers."""

    title: str
    variables: tuple[Variable, ...]


class CategoryGroup(SpecModel):
    """Children that partition a parent: every record that counts for the parent counts for exactly
    one child.
    """

    id: str
    parent: VariableKey
    children: tuple[VariableKey, ...]

    @model_validator(mode="after")
    def _several(self) -> CategoryGroup:
        keys = [(c.variable, c.domain) for c in self.children]
        if len(keys) < 2 or len(set(keys)) != len(keys):
            raise ValueError(f"group {self.id}: at least two different children are needed")
        return self


class CategoryFile(SpecModel):
    """``data_specs/categories.yaml``."""

    groups: tuple[CategoryGroup, ...]
