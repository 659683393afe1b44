"""Growth of the population since the survey, by age and sex: what carries a record to the target
year.

Belongs here: the growth of each record. Does not belong here: estimates that are made with it
(``survey_estimates.py``), how published ages are carried (``pipeline/targets/carry.py``), or which
groups divide the population (``data_specs/method.yaml``, ``growth_by``).

A survey of 2018 knows nothing of 2022 but what its persons are like. With c(i) the age and sex of
person i, N_c the published persons of c in the target year and w_i the design weights:

    growth_i = N_c(i) / sum of w_j over persons j of c(i), times one number, so that
    sum over i of w_i growth_i = published total persons

A household grows as its householder does, a person in group quarters as himself, a tax unit as its
primary person: habits of an age stay, and ages change. This is post-stratification (Holt and Smith
1979, *Post Stratification*, JRSS A 142) to the ages of another year.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.common.threads import one_thread
from pipeline.errors import RecordsError
from pipeline.records.design_totals import DESIGN_WEIGHT
from pipeline.records.expressions import VariableLike, measure
from pipeline.records.units import IS_HOUSEHOLDER
from pipeline.sources.base import SourceNote
from pipeline.vocabulary import POPULATION, Key

_PERSON = ("household_id", "person_number")


@dataclass(frozen=True, eq=False)
class Growth:
    """``persons``: household_id, person_number, growth, a row each person; ``groups``: how many
    groups grow apart, 1 where the population grows by one number; ``notes``.
    """

    persons: pl.DataFrame
    groups: int
    notes: tuple[SourceNote, ...] = ()

    def of(self, over: str, table: pl.DataFrame, persons: pl.DataFrame) -> np.ndarray:
        """(rows,) growth of each row of the record table ``over``, in its order. ``persons`` have
        ``relationship`` and ``is_group_quarters`` where ``over`` is households.
        """
        if over == "households":
            heads = persons.filter(IS_HOUSEHOLDER).select(_PERSON)
            keys = table.select("household_id").join(
                heads, on="household_id", how="left", maintain_order="left"
            )
        else:
            number = "person_number" if over == "persons" else "primary_person"
            keys = table.select("household_id", person_number=pl.col(number))
        found = keys.with_columns(pl.col("person_number").cast(pl.Int64)).join(
            self.persons, on=list(_PERSON), how="left", maintain_order="left"
        )
        return found["growth"].to_numpy().astype(np.float64)


def population_growth(
    persons: pl.DataFrame, published: Mapping[Key, float | None], groups: Sequence[VariableLike]
) -> Growth | None:
    """Growth of every person of one state.

    Parameters
    ----------
    persons : household_id, person_number, design_weight, and the columns that ``groups`` read.
    published : figures of the target year, by (variable, domain), with total persons.
    groups : variables over persons that divide them; none, and everybody grows by one number.

    None where total persons is not published. Where a group is not published, or its persons have
    no weight, everybody grows by one number, which is noted. Raises RecordsError if the groups do
    not divide the persons.
    """
    total = published.get(POPULATION)
    table = persons.sort(_PERSON)
    weight = table[DESIGN_WEIGHT].to_numpy().astype(np.float64)
    if not total or not weight.sum() > 0:
        return None
    keys = table.select("household_id", pl.col("person_number").cast(pl.Int64))
    inside = _inside(table, groups)
    goal = [published.get((g.variable, g.domain)) for g in groups]
    with one_thread():
        now = inside.T @ weight
    bare = [
        f"{g.variable}/{g.domain}"
        for g, figure, weighs in zip(groups, goal, now, strict=True)
        if figure is None or (figure > 0 and not weighs > 0)
    ]
    notes = []
    growth = np.ones(table.height)
    if bare:
        detail = (
            f"everybody grows by one number since the survey: {bare[0]} is not published for the"
            " target year, or no record is of it"
        )
        notes.append(SourceNote("growth_by_one_number", len(bare), detail))
    elif groups:
        ratio = np.array(goal, dtype=np.float64) / np.where(now > 0, now, 1.0)
        growth = ratio[inside.argmax(axis=1)]
    growth *= total / float((growth * weight).sum())
    made = keys.with_columns(growth=pl.Series(growth, dtype=pl.Float64))
    return Growth(made, 1 if bare or not groups else len(groups), tuple(notes))


def _inside(persons: pl.DataFrame, groups: Sequence[VariableLike]) -> np.ndarray:
    """(persons, groups) float64, 1 where a person is of a group. Raises RecordsError unless each is
    of exactly one."""
    if not groups:
        return np.zeros((persons.height, 0))
    # Each row its own unit: what a person is in is wanted, not what his household adds up to.
    ids = pl.Series("household_id", [f"{i:010d}" for i in range(persons.height)], dtype=pl.String)
    inside = measure({"persons": persons.with_columns(ids)}, groups, ids).matrix
    counted = inside.sum(axis=1)
    if inside.shape[1] == len(groups) and (counted == 1).all():
        return inside
    first = int(np.flatnonzero(counted != 1)[0]) if (counted != 1).any() else 0
    row = persons.row(first, named=True)
    raise RecordsError(
        f"The groups by which a population grows do not divide it: {int((counted != 1).sum()):,}"
        " persons are in none or in several",
        where=f"method.growth_by, household {row['household_id']} person {row['person_number']}",
        expected="groups of categories.yaml that divide all persons by age and sex",
        remedy="Name groups of ages that leave nobody out, such as male_age and female_age",
    )
