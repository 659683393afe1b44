"""A state up to its calibration problem in one go, without Dagster, for validation and benchmarks.

Belongs here: taking the steps of ``pipeline/steps.py`` one after another, and their seconds. Does
not belong here: a step, or anything after the problem.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.checks.of_profile import refuse_wrong
from pipeline.records.assemble import assemble_records
from pipeline.sources.of_profile import read_donor, read_geography, read_survey, read_tables
from pipeline.sources.settled import settle
from pipeline.specs.alignment import Step
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile
from pipeline.steps import (
    StateInputs,
    candidates,
    concept_gaps,
    national_targets,
    reconciled_targets,
    solvable,
    state_targets,
    survey_estimates,
    with_gaps,
)
from pipeline.weights.candidates import Candidates
from pipeline.weights.problem import SolvableState


@dataclass(frozen=True, eq=False)
class LoadedState:
    """A state ready to be calibrated, what it was made from, and the seconds each step
    before took.
    """

    inputs: StateInputs
    candidates: Candidates
    ready: SolvableState
    seconds: Mapping[str, float] = field(default_factory=dict)


def load_state(
    profile_id: str, postal: str, data: Path, record_steps: Sequence[Step] | None = None
) -> LoadedState:
    """Every step up to the calibration problem of one state.

    ``data``: the folder of raw files; of a synthetic profile, the generated ones. ``record_steps``:
    alignments of the records in place of the profile's own.

    Raises a GeocalError that names file, column and row if a file is missing or not what it should
    be.
    """
    clock = _Clock()
    catalog = load_catalog()
    profile = settle(catalog, catalog.profile(profile_id), data).of(postal)
    if record_steps is not None:
        records = profile.records.model_copy(update={"steps": tuple(record_steps)})
        profile = profile.model_copy(update={"records": records})
    tables = read_tables(catalog, profile, postal, data)
    geography = read_geography(profile, data, [postal]).frame
    clock.lap("published tables")
    donor = profile.records.donor
    lent = None if donor is None else read_donor(donor, data)
    survey = read_survey(profile, data, postal)
    refuse_wrong(profile, tables, survey, geography, data, postal)
    clock.lap("microdata")
    _, above = national_targets(catalog, profile, tables)
    clock.lap("national targets")
    made = assemble_records(
        catalog,
        profile,
        survey.persons,
        survey.households,
        None if lent is None else lent.persons,
        above.frame,
        None if lent is None else lent.households,
    )
    clock.lap("records")
    below = state_targets(catalog, profile, tables, postal).frame
    estimates, _ = survey_estimates(
        catalog, profile, postal, made.tables, survey.replicate_weights, below, above.frame
    )
    gaps = concept_gaps(catalog, profile, postal, estimates, below, above.frame)
    below, national = with_gaps(gaps, postal, below, above.frame)
    inputs = StateInputs(below, national, geography, made.tables, estimates)
    clock.lap("targets")
    loaded = prepared(catalog, profile, postal, inputs)
    clock.lap("reconciliation, candidates and problem")
    return LoadedState(inputs, loaded.candidates, loaded.ready, clock.seconds)


def prepared(catalog: Catalog, profile: Profile, postal: str, inputs: StateInputs) -> LoadedState:
    """The steps from reconciliation to the problem."""
    below, national, geography = inputs.below, inputs.national, inputs.geography
    targets = reconciled_targets(
        catalog, profile, postal, below, national, geography, inputs.estimates
    ).frame
    made = candidates(catalog, profile, postal, inputs.records, targets, geography)
    cells = made.cells.table
    tables = made.units, made.areas, made.pools, cells
    ready = solvable(profile, postal, targets, geography, *tables)
    return LoadedState(inputs, made, ready)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now
