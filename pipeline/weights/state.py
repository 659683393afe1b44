"""One state without Dagster, from raw files to the problem its weights solve: readers, records,
targets and candidates in order.

Belongs here: the order of the steps, and everything a caller needs to take some of them again. Does
not belong here: any step itself (a module each in ``sources``, ``records``, ``targets`` and beside
this one), or storing what comes out (``pipeline/assets``).

The steps and their inputs are those of the assets, so targets, candidates and problem are the ones
a run of the profile has.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl

from pipeline.records.assemble import assemble_records
from pipeline.records.design_totals import design_totals
from pipeline.sources.acs_pums import read_pums
from pipeline.sources.base import resolve_files
from pipeline.sources.cps_asec import read_asec
from pipeline.sources.registry import read_source
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.cross_categories import load_cross_categories
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import load_source
from pipeline.specs.states import state_of
from pipeline.specs.variables import Variable
from pipeline.targets.build import build_targets
from pipeline.targets.concept_gap import apply_gaps, concept_gaps
from pipeline.targets.reconcile import reconcile_national, reconcile_state
from pipeline.weights.calibrate import StateProblem, build_problem
from pipeline.weights.candidates import Candidates, build_candidates


@dataclass(frozen=True)
class StateInputs:
    """What reconciliation and candidates are made from.

    Attributes
    ----------
    below : target rows of the levels below the state as published and carried, with the roles that
        concept gaps leave them.
    above : the same for the nation and all states, reconciled among themselves.
    geography, puma_link : the state's areas in the vintage of the targets, and of the records'
        PUMAs.
    records : ``persons``, ``households``, ``tax_units`` of the state.
    variables : what records are measured for.
    """

    below: pl.DataFrame
    above: pl.DataFrame
    geography: pl.DataFrame
    puma_link: pl.DataFrame
    records: Mapping[str, pl.DataFrame]
    variables: tuple[Variable, ...]


@dataclass(frozen=True)
class LoadedState:
    """A state ready to be calibrated, what it was made from, and the seconds each step
    before took.
    """

    profile: Profile
    targets: pl.DataFrame
    candidates: Candidates
    problem: StateProblem
    inputs: StateInputs
    seconds: Mapping[str, float] = field(default_factory=dict)


def load_state(profile_id: str, postal: str, data: Path) -> LoadedState:
    """Everything up to the calibration problem of one state. ``data``: the folder of raw files; of
    a synthetic profile, the generated ones.

    Raises a GeocalError that names file, column and row if a file is missing or not what it should
    be.
    """
    clock = _Clock()
    catalog = load_catalog()
    profile = catalog.profile(profile_id)
    tables = {}
    for source, vintage in sorted(catalog.required_tables(profile)):
        spec = load_source(source)
        # A nationwide file is read whole: the nation reconciles with all its states, not with the
        # profile's alone.
        tables[source, vintage] = read_source(
            spec, vintage, data, [postal] if spec.coverage == "state" else None
        ).frame
    vintages = profile.geography.vintage, profile.geography.puma_link_vintage
    geography, link = (
        read_source(load_source(profile.geography.source), vintage, data, [postal]).frame
        for vintage in vintages
    )
    clock.lap("published tables")
    records = _records(catalog, profile, postal, data)
    clock.lap("microdata and records")
    inputs = _inputs(catalog, profile, postal, tables, geography, link, records)
    targets = reconciled_targets(inputs, profile, catalog)
    clock.lap("targets and reconciliation")
    made = candidates_of(inputs, targets, profile)
    problem = build_problem(targets, made.units, geography, profile)
    clock.lap("candidates and problem")
    return LoadedState(profile, targets, made, problem, inputs, clock.seconds)


def reconciled_targets(inputs: StateInputs, profile: Profile, catalog: Catalog) -> pl.DataFrame:
    """The state's targets as one consistent tree; only rows of role ``calibrate`` take part."""
    return reconcile_state(
        inputs.below, inputs.above, inputs.geography, profile.levels, catalog.categories.values()
    ).frame


def candidates_of(inputs: StateInputs, targets: pl.DataFrame, profile: Profile) -> Candidates:
    """The state's candidates; population by area is read from ``targets``."""
    return build_candidates(
        inputs.records,
        inputs.variables,
        targets,
        inputs.geography,
        inputs.puma_link,
        load_cross_categories(profile.cross_categories),
        finest_level=profile.finest_level,
        elsewhere_share=profile.candidates.elsewhere_share,
    )


def _records(
    catalog: Catalog, profile: Profile, postal: str, data: Path
) -> Mapping[str, pl.DataFrame]:
    spec = load_source(profile.records.source)
    files = {
        file.role: file.path
        for file in resolve_files(spec, profile.records.vintage, data, [postal])
    }
    survey = read_pums(
        files["persons"],
        files.get("housing"),
        year=int(profile.records.vintage),
        state_fips=state_of(postal).fips,
        source=spec.id,
    )
    donors = None
    if profile.records.donor is not None:
        archive = resolve_files(
            load_source(profile.records.donor.source), profile.records.donor.vintage, data
        )[0].path
        donors = read_asec(archive, year=int(profile.records.donor.vintage)).persons
    return assemble_records(catalog, profile, survey.persons, survey.households, donors).tables


def _inputs(
    catalog: Catalog,
    profile: Profile,
    postal: str,
    tables,
    geography: pl.DataFrame,
    link: pl.DataFrame,
    records,
) -> StateInputs:
    fips = state_of(postal).fips
    national = reconcile_national(
        build_targets(catalog, profile, tables, ("nation", "state")).frame,
        catalog.categories.values(),
    ).frame
    below = build_targets(
        catalog,
        profile,
        tables,
        [level for level in profile.levels if level not in ("nation", "state")],
        fips,
    ).frame
    keys = {
        (item.variable, item.domain) for spec in catalog.specs_of(profile) for item in spec.items
    }
    variables = tuple(
        catalog.variables[key] for key in sorted(keys) if catalog.variables[key].expressible
    )
    totals, _ = design_totals(records, variables)
    gaps = concept_gaps(
        totals,
        pl.concat(
            [national.filter((pl.col("level") == "state") & (pl.col("geoid") == fips)), below]
        ),
        profile.concept_gap_limit,
        state_fips=fips,
        same_concept=catalog.same_concept(profile),
        same_concept_limit=profile.same_concept_gap_limit,
    )
    below, above = (apply_gaps(frame, gaps, fips) for frame in (below, national))
    return StateInputs(below, above, geography, link, records, variables)


class _Clock:
    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now
