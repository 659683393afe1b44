"""What a target file says: published columns of one source, at which levels, and how sure and how
old they are.

Belongs here: the model of ``data_specs/targets/*.yaml``. Does not belong here: reading published
tables (``pipeline/sources``), turning them into target rows (``pipeline/targets/build.py``) or what
a record contributes (``specs/variables.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.specs.base import SpecModel
from pipeline.specs.provenance import Provenance
from pipeline.specs.variables import VariableKey
from pipeline.vocabulary import Level


class StandardErrorRule(SpecModel):
    """How the standard error of one published cell is had; ``why`` defends it.

    ``acs_margin``: margin / 1.645 (zero where controlled). ``relative``: max(share * |value|,
    floor). ``rounding``: sqrt(unit^2 / 12 + (relative * value)^2). ``exact``: zero.
    """

    rule: Literal["acs_margin", "relative", "rounding", "exact"]
    share: float = Field(0.0, ge=0)
    floor: float = Field(0.0, ge=0)
    unit: float = Field(0.0, ge=0)
    relative: float = Field(0.0, ge=0)
    why: str

    @model_validator(mode="after")
    def _has_size(self) -> StandardErrorRule:
        if self.rule == "relative" and self.share + self.floor <= 0:
            raise ValueError("rule `relative` needs a share or a floor above zero")
        if self.rule == "rounding" and self.unit + self.relative <= 0:
            raise ValueError("rule `rounding` needs a unit or a relative part above zero")
        return self


class CarryRule(SpecModel):
    """How a value of another year is carried to the target year.

    ``rule`` names one factor, or several that are multiplied, or ``none``. The standard error of
    carrying over L years, as a share of the value, is relative_error + relative_error_per_year * L.
    It is added in quadrature, and only where the data year differs from the target year. Errors of
    one table at 2, 4, 6 and 8 years lie on a line (``benchmarks/carry_errors.py``), hence no root.

    ``share_error_per_year``: the same for the area's share of its state. Where it is given and the
    state's own figure is of the target year, the areas of the state are scaled to that figure, and
    this error replaces the other (``pipeline/targets/shares.py``). ``shares_of: any`` scales them
    where the state's figure was carried too, because it is carried better than the areas' are.
    """

    rule: tuple[str, ...]
    relative_error: float = Field(0.0, ge=0)
    relative_error_per_year: float = Field(0.0, ge=0)
    share_error_per_year: float | None = Field(None, ge=0)
    shares_of: Literal["target_year", "any"] = "target_year"
    why: str

    def error(self, years: float) -> float:
        """Relative standard error of a figure carried over ``years``; 0 over none."""
        return self.relative_error + self.relative_error_per_year * abs(years) if years else 0.0

    def share_error(self, years: float) -> float | None:
        """The same of a share of the state, or None where shares are not taken."""
        per_year = self.share_error_per_year
        return None if per_year is None else per_year * abs(years)

    @field_validator("rule", mode="before")
    @classmethod
    def _one_or_more(cls, rule: object) -> object:
        if isinstance(rule, str):
            return () if rule == "none" else (rule,)
        return rule


class Sum(SpecModel):
    """Sum of columns less other columns; margins propagate as the root of the sum of squares."""

    plus: tuple[str, ...] = Field(min_length=1)
    minus: tuple[str, ...] = ()


class Product(SpecModel):
    """``scale * a * b``; the margin by the delta method (relative errors added in quadrature)."""

    columns: tuple[str, str]
    scale: float = 1.0


class RecordsFrom(SpecModel):
    """The table is comparable only with records of ``year`` or later (a question or its coding
    changed then).
    """

    year: int
    reason: str


class Treatment(SpecModel):
    """What a published figure may claim of records, which answered other questions than it counts.

    ``fitted``: as published, with the model error that the concept gap measures. ``restated``:
    times ``factor``, which brings it to the records' concept; ``factor_error`` is the relative
    standard error of that factor and stands in for the measured gap, ``source`` says where both
    were measured. ``observed``: compared with, never fitted. A table made from the very questions
    the records answer (``same_concept``) has no concept error.
    """

    how: Literal["fitted", "restated", "observed"]
    why: str = Field(min_length=1)
    factor: float = Field(default=1.0, gt=0)
    factor_error: float = Field(default=0.0, ge=0)
    source: str = ""

    @model_validator(mode="after")
    def _factor_where_restated(self) -> Treatment:
        stated = {name for name in ("factor", "factor_error", "source") if getattr(self, name)}
        wanted = {"factor", "factor_error", "source"} if self.how == "restated" else {"factor"}
        if stated != wanted or (self.how != "restated" and self.factor != 1.0):
            raise ValueError(
                "`factor`, `factor_error` and `source` are all stated where a figure is restated,"
                " and nowhere else"
            )
        return self


FITTED = Treatment(how="fitted", why="The default: the measured gap is its model error.")


class TargetItem(VariableKey):
    """One published column, or a sum or product of columns, that says what one variable x domain
    totals.

    ``times`` multiplies the column or sum (12 months of one). ``years_ahead``: the column speaks of
    so many years after its vintage, for carrying; benefits of December hold the adjustment of next
    year. ``vintages`` limits the item to vintages that have the column. ``treatment`` over the
    file's; ``validation_only`` is short for the treatment ``observed``, with its why.
    ``validation_only_when_carried`` keeps the target out of calibration where it had to be carried
    from another year, ``records_from`` where the records are older; each says why.
    """

    column: str | None = None
    sum: Sum | None = None
    product: Product | None = None
    stratum: str = ""
    times: float = Field(1.0, gt=0)
    years_ahead: int = Field(0, ge=0, le=1)
    vintages: tuple[str, ...] = ()
    carry: CarryRule | None = None
    standard_error: StandardErrorRule | None = None
    treatment: Treatment | None = None
    provenance: Provenance | None = None
    validation_only: str = ""
    validation_only_when_carried: str = ""
    records_from: RecordsFrom | None = None
    concept_note: str = ""

    @model_validator(mode="after")
    def _one_origin(self) -> TargetItem:
        if sum(x is not None for x in (self.column, self.sum, self.product)) != 1:
            raise ValueError(
                f"{self.variable}/{self.domain}: exactly one of `column`, `sum`, `product` is"
                " needed"
            )
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column the item reads (templates such as ``POPESTIMATE{target_year}`` unfilled)."""
        if self.product is not None:
            return self.product.columns
        if self.sum is not None:
            return self.sum.plus + self.sum.minus
        return (self.column,) if self.column is not None else ()


class AgeSexCell(SpecModel):
    """A column that counts persons of one sex in ages ``from`` .. ``to`` (both included, 120 = no
    upper end).
    """

    column: str
    sex: Literal["male", "female", "both"]
    ages: tuple[int, int]


class TargetSpec(SpecModel):
    """``data_specs/targets/<id>.yaml``. ``like: ID`` in the file takes over what that other target
    file says, items included, where this one says nothing (``completed``).

    ``provenance``: who says the figures and how (``data_specs/provenance.yaml``); an item may state
    its own. ``nation_minus``: areas of level ``other`` to take out of the national row.
    ``exclude_geoids``: codes (or their beginnings) to leave out. ``recode_geoids``: areas renamed
    since, old code to present code. ``states_without``: FIPS codes of states that the publication
    has no areas of, and why; elsewhere none is an error. ``age_sex_partition_of``: another target
    file of the same source, whose partition the carry rules of this one use. ``period_years``:
    years that the table averages, of which the vintage is the last; its figures speak of the middle
    one. Carrying from there always adds error, so that a figure the table controls (margin 0) is
    not exact for a single year.
    """

    id: str
    source: str
    levels: tuple[Level, ...] = Field(min_length=1)
    title: str
    vintages: tuple[str, ...] = ()
    data_year: Literal["vintage", "target_year"] = "vintage"
    period_years: Literal[1, 3, 5] = 1
    same_concept: bool = False
    provenance: Provenance
    treatment: Treatment = FITTED
    standard_error: StandardErrorRule
    carry: CarryRule
    nation_minus: tuple[str, ...] = ()
    exclude_geoids: tuple[str, ...] = ()
    recode_geoids: dict[str, str] = Field(default_factory=dict)
    states_without: dict[str, str] = Field(default_factory=dict)
    age_sex_partition: tuple[AgeSexCell, ...] = ()
    age_sex_partition_of: str = ""
    items: tuple[TargetItem, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _keys_unique(self) -> TargetSpec:
        seen: dict[tuple[str, str], list[set[str]]] = {}
        for item in self.items:
            others = seen.setdefault((item.variable, item.domain), [])
            own = set(item.vintages)
            # Two items of one variable must be of different vintages; an item without is of all.
            if any(not own or not other or own & other for other in others):
                raise ValueError(
                    f"{item.variable}/{item.domain} appears twice; one file states a variable once"
                    " in a vintage"
                )
            others.append(own)
        return self

    def items_of(self, vintage: str) -> tuple[TargetItem, ...]:
        """Items that ``vintage`` of the source has."""
        return tuple(item for item in self.items if not item.vintages or vintage in item.vintages)

    def carry_of(self, item: TargetItem) -> CarryRule:
        """The item's own carry rule, or the file's."""
        return item.carry or self.carry

    def treatment_of(self, item: TargetItem) -> Treatment:
        """The item's own treatment, or the file's."""
        if item.validation_only:
            return Treatment(how="observed", why=item.validation_only)
        return item.treatment or self.treatment

    def provenance_of(self, item: TargetItem) -> Provenance:
        """The item's own class of provenance, or the file's."""
        return item.provenance or self.provenance

    def standard_error_of(self, item: TargetItem) -> StandardErrorRule:
        """The item's own standard-error rule, or the file's."""
        return item.standard_error or self.standard_error


def completed(other: Any, own: Any) -> Any:
    """The content of a target file that is ``like`` another: what ``own`` says, else the
    ``other``'s; items of both, its own first and in place of the other's of the same name.
    """
    if not isinstance(other, Mapping):
        return own
    items = list(own.get("items") or ())
    stated = {_name(item) for item in items}
    items += [item for item in other.get("items") or () if _name(item) not in stated]
    return {**other, **own, "items": items}


def _name(item: Any) -> Any:
    return (item.get("variable"), item.get("domain")) if isinstance(item, Mapping) else None
