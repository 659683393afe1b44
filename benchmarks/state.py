"""One state without Dagster: the arrays every benchmark of the pipeline starts from.

Belongs here: calling readers, records and target builders in order, with the time each took. Does not belong here: anything the
tests need, or a comparison (a module each beside this one).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipeline.records.assemble import assemble_records
from pipeline.records.design_totals import design_totals
from pipeline.sources.acs_pums import read_pums
from pipeline.sources.base import resolve_files
from pipeline.sources.cps_asec import read_asec
from pipeline.sources.registry import read_source
from pipeline.specs.catalog import load_catalog
from pipeline.specs.cross_categories import load_cross_categories
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import load_source
from pipeline.specs.states import state_of
from pipeline.targets.build import build_targets
from pipeline.targets.concept_gap import apply_gaps, concept_gaps
from pipeline.targets.reconcile import reconcile_national, reconcile_state
from pipeline.weights.calibrate import StateProblem, build_problem
from pipeline.weights.candidates import Candidates, build_candidates


@dataclass(frozen=True)
class LoadedState:
    """A state ready to be calibrated, and the seconds each step before took."""

    profile: Profile
    targets: pl.DataFrame
    candidates: Candidates
    problem: StateProblem
    seconds: dict[str, float] = field(default_factory=dict)


def load_state(profile_id: str, postal: str, data: Path) -> LoadedState:
    """Everything up to the calibration problem of one state."""
    clock = _Clock()
    catalog = load_catalog()
    profile, state = catalog.profile(profile_id), state_of(postal)
    tables = {}
    for source, vintage in sorted(catalog.required_tables(profile)):
        spec = load_source(source)
        tables[source, vintage] = read_source(spec, vintage, data, [postal] if spec.coverage == "state" else list(profile.states)).frame
    geography, link = (
        read_source(load_source("tract_puma"), v, data, [postal]).frame for v in (profile.geography.vintage, profile.geography.puma_link_vintage)
    )
    clock.lap("published tables")
    records_spec = load_source(profile.records.source)
    files = {file.role: file.path for file in resolve_files(records_spec, profile.records.vintage, data, [postal])}
    survey = read_pums(files["persons"], files.get("housing"), year=int(profile.records.vintage), state_fips=state.fips, source=records_spec.id)
    donors = None
    if profile.records.donor is not None:
        archive = resolve_files(load_source(profile.records.donor.source), profile.records.donor.vintage, data)[0].path
        donors = read_asec(archive, year=int(profile.records.donor.vintage)).persons
    records = assemble_records(catalog, profile, survey.persons, survey.households, donors)
    clock.lap("microdata and records")
    groups = list(catalog.categories.values())
    national = reconcile_national(build_targets(catalog, profile, tables, ("nation", "state")).frame, groups).frame
    below = build_targets(catalog, profile, tables, [level for level in profile.levels if level not in ("nation", "state")], state.fips).frame
    keys = {(item.variable, item.domain) for spec in catalog.specs_of(profile) for item in spec.items}
    variables = [catalog.variables[key] for key in sorted(keys) if catalog.variables[key].expressible]
    totals, _ = design_totals(records.tables, variables)
    gaps = concept_gaps(
        totals,
        pl.concat([national.filter(pl.col("geoid") == state.fips), below]),
        profile.concept_gap_limit,
        state_fips=state.fips,
        same_concept=catalog.same_concept(profile),
        same_concept_limit=profile.same_concept_gap_limit,
    )
    below, above = (apply_gaps(frame, gaps, state.fips) for frame in (below, national))
    targets = reconcile_state(below, above, geography, profile.levels, groups).frame
    clock.lap("targets and reconciliation")
    made = build_candidates(
        records.tables,
        variables,
        targets,
        geography,
        link,
        load_cross_categories(),
        finest_level=profile.finest_level,
        elsewhere_share=profile.candidates.elsewhere_share,
    )
    problem = build_problem(targets, made.units, geography, profile)
    clock.lap("candidates and problem")
    return LoadedState(profile, targets, made, problem, clock.seconds)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now
