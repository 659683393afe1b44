"""What a factor is: a published reason why a number of one year becomes a number of another.

Belongs here: the model of ``data_specs/factors/*.yaml`` (except ``tax_rules.yaml``, which is no
factor) and the arithmetic of pure series. Does not belong here: ratios of published cells, which
need tables (``pipeline/targets/carry.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, TypeVar

from pydantic import Field, TypeAdapter, model_validator

from pipeline.errors import TargetError
from pipeline.specs.base import SpecModel

Area = Literal["own", "finest", "county", "state", "nation"]


class SeriesFactor(SpecModel):
    """An index by year, as published: factor(from, to) = values[to] / values[from].

    A series published as changes (cost-of-living adjustments) gives ``percent_changes`` instead:
    the change of each year on the one before.
    """

    id: str
    kind: Literal["series"]
    title: str
    publisher: str
    url: str
    unit: str
    note: str = ""
    values: dict[int, float] = Field(default_factory=dict)
    percent_changes: dict[int, float] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_form(self) -> SeriesFactor:
        if bool(self.values) == bool(self.percent_changes):
            raise ValueError(f"factor {self.id}: give either `values` or `percent_changes`")
        years = sorted(self.percent_changes)
        if years and years != list(range(years[0], years[-1] + 1)):
            raise ValueError(f"factor {self.id}: percent_changes must not skip a year")
        if any(v <= 0 for v in self.index.values()):
            raise ValueError(f"factor {self.id}: values must be above zero")
        return self

    @property
    def index(self) -> dict[int, float]:
        """Index by year; a series of changes starts at 100 in the year before its first change."""
        if self.values:
            return dict(self.values)
        result = {min(self.percent_changes) - 1: 100.0}
        for year in sorted(self.percent_changes):
            result[year] = result[year - 1] * (1.0 + self.percent_changes[year] / 100.0)
        return result

    def factor(self, from_year: int, to_year: int) -> float:
        """Ratio of the index. Raises TargetError naming the series and the year that is missing."""
        index = self.index
        for year in (from_year, to_year):
            if year not in index:
                raise TargetError(
                    f"Series {self.id} has no value for {year}",
                    where=f"data_specs/factors ({self.title})",
                    expected=(
                        f"years {from_year} and {to_year}; it has {min(index)} to {max(index)}"
                    ),
                    remedy=f"Add the published value of {year} from {self.url}",
                )
        return index[to_year] / index[from_year]


class VintageYears(SpecModel):
    """Which vintage of a source gives which years (first and last, both included)."""

    vintage: str
    years: tuple[int, int]


class RatioFactor(SpecModel):
    """Ratio of one published column in two years: factor = cell(to) / cell(from), for the area
    named.

    ``column`` holds ``{year}``. ``area``: ``finest`` is the target's own area, or its county for a
    tract. A nation (or state) without a row of its own is the sum of its states (counties).
    """

    id: str
    kind: Literal["ratio"]
    title: str
    source: str
    column: str
    area: Area
    vintages: tuple[VintageYears, ...] = Field(min_length=1)
    note: str = ""


class GrowthPoint(SpecModel):
    """One published cell and the year it speaks of."""

    source: str
    vintage: str
    column: str
    stratum: str = ""
    year: int


class GrowthFactor(SpecModel):
    """Geometric growth between two published points: factor = (end / start)^((to - from) /
    (end.year - start.year)).

    With ``area: own`` a tract has its own growth; where either point is zero or withheld there, the
    factor is one.
    """

    id: str
    kind: Literal["growth"]
    title: str
    area: Area
    start: GrowthPoint
    end: GrowthPoint
    note: str = ""

    @model_validator(mode="after")
    def _forwards(self) -> GrowthFactor:
        if self.end.year <= self.start.year:
            raise ValueError(f"factor {self.id}: the end must lie after the start")
        return self


class TrendFactor(SpecModel):
    """Geometric growth of the item's own column between two vintages of its own source, going on:
    factor = (end / start)^((to - from) / (end_year - start_year)).

    ``start_year``, ``end_year``: years that the two vintages speak of (of a five-year table the
    middle ones). ``area``: where the growth is measured; a state without a row is the sum of its
    counties.
    """

    id: str
    kind: Literal["trend"]
    title: str
    source: str
    area: Area
    start_vintage: str
    start_year: int
    end_vintage: str
    end_year: int
    note: str = ""

    @model_validator(mode="after")
    def _forwards(self) -> TrendFactor:
        if self.end_year <= self.start_year:
            raise ValueError(f"factor {self.id}: the end must lie after the start")
        return self


class AgeGroupFactor(SpecModel):
    """Growth of the persons of ``ages`` (first and last, both included) as the age-by-sex factor
    ``of`` carries them: for what goes with their number, such as households that hold one.

    factor(a) = sum over cells c within the ages of carried(a, c) / sum of B(a, c); one where the
    area has nobody of these ages.
    """

    id: str
    kind: Literal["age_group"]
    title: str
    of: str
    ages: tuple[int, int]
    note: str = ""


class AgeSexFactor(SpecModel):
    """Cohort carrying of the cells of an age-by-sex partition, then scaled so that they add up to
    the area's published population.

    For cell c of area a inside control area A (A = a, or its county for a tract):

        carried(a, c) = B(a, c) * g(c) * P(A, to) / sum over a in A, c of B(a, c) * g(c)

    g(c) is the national change of the cell: US population in c at ``to`` (``national``) over the
    national base. The base is the target's own table where it has a nation row (``base:
    own_nation``), else ``base_column`` of ``national`` (``base: national``). ``stratum`` is the
    class of a single year of age, with {sex} (1 male, 2 female, 0 both) and {age}; ``top_age`` is
    the open one. ``population`` names the ratio factor whose column gives P.

    Where ``control`` is given, tracts are control areas of their own and P is that cell of the
    tract. A tract with nobody in the cells, or nobody in the control, keeps its cells times g.
    """

    id: str
    kind: Literal["age_sex"]
    title: str
    national: str
    national_vintage: str
    national_column: str
    stratum: str
    top_age: int
    base: Literal["own_nation", "national"]
    base_column: str = ""
    population: str
    control: GrowthPoint | None = None
    note: str = ""

    @model_validator(mode="after")
    def _base_named(self) -> AgeSexFactor:
        if (self.base == "national") != bool(self.base_column):
            raise ValueError(
                f"factor {self.id}: `base_column` is needed exactly when `base` is `national`"
            )
        return self


Factor = Annotated[
    SeriesFactor | RatioFactor | GrowthFactor | TrendFactor | AgeGroupFactor | AgeSexFactor,
    Field(discriminator="kind"),
]
FACTOR_ADAPTER: TypeAdapter[Factor] = TypeAdapter(Factor)


_Kind = TypeVar(
    "_Kind", SeriesFactor, RatioFactor, GrowthFactor, TrendFactor, AgeGroupFactor, AgeSexFactor
)


def factor_of(factors: Mapping[str, Factor], name: str, kind: type[_Kind]) -> _Kind:
    """The factor called ``name``. Raises TargetError if there is none, or it is of another kind."""
    found = factors.get(name)
    if isinstance(found, kind):
        return found
    raise TargetError(
        f"Factor {name!r} is {f'of kind {found.kind}' if found else 'missing'}",
        where="data_specs/factors",
        expected=f"a factor that is a {kind.__name__}",
        remedy="Correct the rule, or add the factor",
    )


class FactorFile(SpecModel):
    """One file of factors."""

    title: str
    factors: tuple[Factor, ...]
