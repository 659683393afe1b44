"""The steps that align a state's records with administrative data, and what each changed.

Belongs here: the order of the steps, the table ``record_alignment``, the columns that say what was
reported. Does not belong here: any one step (``benefits.py``, ``return_income.py``,
``top_tail.py``), or which figures control it (``data_specs/alignment.yaml``).

Persons keep every amount as they reported it: a changed amount x has ``x_reported`` and
``x_origin`` beside it. ``total_income``, ``poverty_ratio`` and the households (``any_*``,
``aggregate_*``, ``household_income``) stay as reported, for the tables they are compared with were
made from the same answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from pipeline.errors import RecordsError
from pipeline.records.benefits import align_benefits
from pipeline.records.controls import Controls, controls_of
from pipeline.records.design_totals import DESIGN_WEIGHT, design_totals
from pipeline.records.growth import Growth, population_growth
from pipeline.records.return_income import align_income, align_wages
from pipeline.records.return_places import Returns
from pipeline.records.tax_rules import load_rules
from pipeline.records.tax_units import build_tax_units
from pipeline.records.top_tail import add_top_tail
from pipeline.sources.base import SourceNote
from pipeline.specs.alignment import STEPS, Alignment, Step
from pipeline.specs.variables import Variable

Key = tuple[str, str]
ORIGIN = ("reported", "aligned", "donated")
"""``reported``: as the survey has it, carried to the target year; ``aligned``: the survey has an
amount, and it was scaled, moved or taken out; ``donated``: the survey has none, and it came from
administrative data or from a donor survey."""

ALIGNMENT_SCHEMA: dict[str, pl.DataType] = {
    "step": pl.String(),
    "variable": pl.String(),
    "domain": pl.String(),
    "unit": pl.String(),
    "controls": pl.Boolean(),
    "published": pl.Float64(),
    "before": pl.Float64(),
    "after": pl.Float64(),
}
_CHANGED = (
    *("social_security", "ssi", "taxable_wages", "self_employment", "investment_income"),
    *("retirement", "partnership", "capital_gains"),
)
_MADE_FROM = {
    "taxable_wages": "wages",
    "partnership": "self_employment",
    "capital_gains": "investment_income",
}


@dataclass(frozen=True, eq=False)
class Task:
    """What the steps of a state need: ``steps`` in any order, ``targets`` of the state (rows of the
    target table), ``variables`` that targets measure, ``groups`` by which the population grows, the
    profile's target year and seed.
    """

    steps: tuple[Step, ...]
    rules: Alignment
    targets: pl.DataFrame
    variables: Mapping[Key, Variable]
    state_fips: str
    year: int
    seed: int
    groups: tuple[Variable, ...] = ()


@dataclass(frozen=True, eq=False)
class AlignedRecords:
    """``persons`` after the steps; ``table`` (ALIGNMENT_SCHEMA): totals before and after each step
    by design weights, carried to the target year, beside the published figure; ``notes``: counted
    facts.
    """

    persons: pl.DataFrame
    table: pl.DataFrame
    notes: tuple[SourceNote, ...]


def align_records(persons: pl.DataFrame, households: pl.DataFrame, task: Task) -> AlignedRecords:
    """Take the steps of ``task`` in the order of STEPS. ``persons`` in dollars of the target year.

    Raises RecordsError if a control is no target of the state.
    """
    own = persons.sort("household_id", "person_number")
    controls = controls_of(task.targets, task.state_fips)
    growth = population_growth(own, controls.published, task.groups)
    if growth is None:
        raise RecordsError(
            "No person of the records has a design weight",
            where=f"alignment of records, state {task.state_fips}",
            expected="design weights above zero",
            remedy="Check the column of weights of the microdata",
        )
    given, households = _grown("persons", own, own, growth), households.sort("household_id")
    households = _grown("households", households, own, growth)
    made, notes = given, list(growth.notes)
    units = build_tax_units(made, task.year)[0]
    pieces = []
    for step in (name for name in STEPS if name in task.steps):
        before = _totals(made, households, units, step, task)
        made, more = _take(step, made, controls, task)
        units, told = build_tax_units(made, task.year)
        after = _totals(made, households, units, step, task)
        pieces.append(_compared(step, before, after, controls, task))
        notes += [*more, *(note for note in told if note.code == "filers")]
    made = made.with_columns(own[DESIGN_WEIGHT])
    return AlignedRecords(_with_origins(given, made), pl.concat(pieces), tuple(notes))


def _grown(over: str, table: pl.DataFrame, persons: pl.DataFrame, growth: Growth) -> pl.DataFrame:
    """The table with the weights that its rows have in the target year."""
    grown = table[DESIGN_WEIGHT] * pl.Series(growth.of(over, table, persons))
    return table.with_columns(grown.alias(DESIGN_WEIGHT))


def _take(
    step: Step, persons: pl.DataFrame, controls: Controls, task: Task
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    rules = task.rules

    def returns_of(people: pl.DataFrame) -> Returns:
        return filed_returns(people, task.year)

    if step == "ssa_benefits":
        return align_benefits(persons, rules.benefits, controls, task.seed, task.state_fips)
    if step == "taxable_wages":
        return align_wages(persons, rules.wages, controls, returns_of)
    if step == "return_income":
        return align_income(persons, rules, controls, returns_of, task.seed, task.state_fips)
    return add_top_tail(persons, rules, controls, returns_of)


def filed_returns(persons: pl.DataFrame, year: int) -> Returns:
    """Returns of ``persons`` (sorted by key) under the rules of ``year``."""
    units = build_tax_units(persons, year)[0].filter("is_filer")
    weights = persons.select("household_id", "design_weight", primary_person="person_number")
    table = units.join(weights, on=["household_id", "primary_person"], how="left").sort(
        "household_id", "tax_unit"
    )
    keys = persons.select("household_id", pl.col("person_number").cast(pl.Int32))
    return Returns(table, keys, load_rules().social_security)


def _totals(
    persons: pl.DataFrame, households: pl.DataFrame, units: pl.DataFrame, step: Step, task: Task
) -> pl.DataFrame:
    tables = {"persons": persons, "households": households, "tax_units": units}
    asked = [task.variables[key] for key in _shown(step, task)]
    return design_totals(tables, asked)[0]


def _shown(step: Step, task: Task) -> list[Key]:
    """Controls of the step that records can hold, and what is watched, each once."""
    shown = dict.fromkeys([*task.rules.keys_of(step), *task.rules.watched_keys])
    return [key for key in shown if key in task.variables]


def _compared(
    step: Step, before: pl.DataFrame, after: pl.DataFrame, controls: Controls, task: Task
) -> pl.DataFrame:
    aims = set(task.rules.keys_of(step))
    was, now = ({(v, d): total for v, d, total in t.iter_rows()} for t in (before, after))
    rows = [
        {
            "step": step,
            "variable": key[0],
            "domain": key[1],
            "unit": task.variables[key].unit,
            "controls": key in aims,
            "published": controls.published.get(key),
            "before": was.get(key),
            "after": now.get(key),
        }
        for key in _shown(step, task)
    ]
    return pl.DataFrame(rows, schema=ALIGNMENT_SCHEMA)


def _with_origins(given: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    """``made`` with ``x_reported`` (of amounts the survey has) and ``x_origin`` for every amount x
    that any step changed for anybody.
    """
    result = made
    for name in _CHANGED:
        if name not in made.columns:
            continue
        own = name if name in given.columns else _MADE_FROM[name]
        if name in given.columns and given[name].equals(made[name]):
            continue
        was = given[own].fill_null(0.0)
        result = result.with_columns(_origin(name, was, made[name].fill_null(0.0), name in given))
        if name in given.columns:
            result = result.with_columns(given[name].alias(f"{name}_reported"))
    return result


def _origin(name: str, was: pl.Series, now: pl.Series, asked: bool) -> pl.Series:
    if asked or name == "taxable_wages":
        same, from_nothing = was == now, was == 0
    else:
        # A new amount: moved from what its holder reported, or donated.
        same, from_nothing = now == 0, was == 0
    text = [
        "reported" if equal else "donated" if nothing else "aligned"
        for equal, nothing in zip(same, from_nothing, strict=True)
    ]
    return pl.Series(f"{name}_origin", text, dtype=pl.String)


def changes_by_origin(persons: pl.DataFrame) -> pl.DataFrame:
    """Persons with an amount, or with one that was taken out, by amount and origin: ``amount``,
    ``origin``, ``persons``.
    """
    schema = {"amount": pl.String, "origin": pl.String, "persons": pl.Int64}
    names = [c.removesuffix("_origin") for c in persons.columns if c.endswith("_origin")]
    pieces = []
    for name in names:
        origin = pl.col(f"{name}_origin")
        amount = pl.col(name).cast(pl.Float64).fill_null(0.0)
        counted = persons.filter((amount != 0) | (origin == "aligned"))
        found = counted.group_by(origin=origin).agg(persons=pl.len().cast(pl.Int64))
        pieces.append(found.select(pl.lit(name).alias("amount"), "origin", "persons"))
    return pl.concat(pieces).sort("amount", "origin") if pieces else pl.DataFrame(schema=schema)
