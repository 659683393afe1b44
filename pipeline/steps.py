"""The chain of a state, written once: from raw files to weights and their fit.

Each step is one function: tables in, a table out, and beside it whatever is worth telling. The
assets of ``pipeline/assets`` store what a step makes and say what is worth telling;
``load_state`` (``pipeline/loaded_state.py``) takes the same steps in one go, without Dagster.

    read_tables, read_geography, read_survey, read_donor         raw files (sources/of_profile)
    national_targets, state_targets                              published targets
    assemble_records (pipeline/records), survey_estimates        records, and what they say
    concept_gaps, reconciled_targets                             one consistent tree
    candidates, solvable                                         the problem as arrays
    dense_weights, selected_pairs, refined_weights               weights
    fit_of_stored, loss_of_stored, bystanders                    what they give

Belongs here: the order of the steps and the inputs of each. Does not belong here: any step itself
(a module each in ``sources``, ``records``, ``targets``, ``weights``, ``reports``), files of
results, Dagster.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from calibration_core.tree.select.joint import RefinedPairs
from calibration_core.tree.select.loss_report import SelectionLoss
from calibration_core.tree.select.pairs import Selection
from calibration_core.tree.solve.newton import TreeNewtonResult
from calibration_core.tree.totals import pair_totals, pool_totals
from pipeline.records.expressions import measure
from pipeline.records.growth import population_growth
from pipeline.records.survey_estimates import survey_estimates as estimates_of_records
from pipeline.reports.bystanders import Watched, bystander_report
from pipeline.reports.fit import fitted_targets
from pipeline.reports.loss_rows import held_out_rows, measured_loss
from pipeline.reports.truth import truth_totals
from pipeline.sources.base import SourceNote
from pipeline.sources.of_profile import Tables
from pipeline.specs.alignment import load_alignment
from pipeline.specs.bystanders import load_bystanders
from pipeline.specs.catalog import Catalog
from pipeline.specs.cross_categories import load_cross_categories
from pipeline.specs.profiles import Profile
from pipeline.specs.states import state_of
from pipeline.specs.variables import Variable
from pipeline.targets import concept_gap
from pipeline.targets.build import BuiltTargets, build_targets
from pipeline.targets.evidence import survey_evidence, why_none
from pipeline.targets.hard_rules import require_targets
from pipeline.targets.moves import refuse_large_moves
from pipeline.targets.reconcile import Reconciled, reconcile_national, reconcile_state
from pipeline.targets.shares import share_rules
from pipeline.vocabulary import (
    EVIDENCE,
    NATION,
    STATE,
    TARGET_KEY,
    VARIABLE_KEY,
    is_area,
    levels_below,
)
from pipeline.weights.areas import areas_of, owned
from pipeline.weights.candidates import Candidates, build_candidates
from pipeline.weights.places import Places
from pipeline.weights.problem import SolvableState, build_problem
from pipeline.weights.solve import (
    StepProgress,
    WordProgress,
    dense_calibration,
    pool_of,
    refine,
    select,
)
from pipeline.weights.table import (
    StoredWeights,
    dense_table,
    pairs_table,
    stored_dense,
    stored_pairs,
    stored_weights,
    weights_table,
)

# Targets.


def target_variables(catalog: Catalog, profile: Profile) -> tuple[Variable, ...]:
    """Variables that some target of the profile states and that records can express, by name."""
    keys = {(item.variable, item.domain) for s in catalog.specs_of(profile) for item in s.items}
    found = (catalog.variables[key] for key in sorted(keys))
    return tuple(variable for variable in found if variable.expressible)


def evidence_variables(catalog: Catalog, targets: pl.DataFrame) -> tuple[Variable, ...]:
    """Variables that only the survey's own estimates speak of, by name."""
    keys = targets.filter(pl.col("role") == EVIDENCE).select(VARIABLE_KEY).unique()
    stated = targets.filter(pl.col("role") != EVIDENCE).select(VARIABLE_KEY)
    only = keys.join(stated, on=VARIABLE_KEY, how="anti")
    return tuple(catalog.variables[key] for key in sorted(only.iter_rows()))


def measured_variables(catalog: Catalog, profile: Profile) -> tuple[Variable, ...]:
    """What is measured of every unit, by name: ``target_variables``, and those of the families that
    a selection keeps beside them (``method.balanced``)."""
    stated = {variable.key: variable for variable in target_variables(catalog, profile)}
    kept = {
        key: variable
        for key, variable in catalog.variables.items()
        if variable.family in profile.method.balanced and variable.expressible
    }
    both = {**kept, **stated}
    return tuple(both[key] for key in sorted(both))


def national_targets(
    catalog: Catalog, profile: Profile, tables: Tables
) -> tuple[BuiltTargets, Reconciled]:
    """Targets of the nation and all states: as published, and reconciled among themselves."""
    built = build_targets(catalog, profile, tables, (NATION, STATE))
    reconciled = reconcile_national(built.frame, catalog.categories.values())
    require_targets(reconciled.frame, "national_targets")
    return built, reconciled


def state_targets(catalog: Catalog, profile: Profile, tables: Tables, postal: str) -> BuiltTargets:
    """Targets of the levels below the state, as published and carried."""
    levels = levels_below(STATE, profile.levels)
    built = build_targets(catalog, profile, tables, levels, state_of(postal).fips)
    require_targets(built.frame, f"state_targets of {postal}")
    return built


def concept_gaps(
    catalog: Catalog,
    profile: Profile,
    postal: str,
    estimates: pl.DataFrame,
    below: pl.DataFrame,
    national: pl.DataFrame,
) -> pl.DataFrame:
    """How far records, carried to the target year by design weights, are from each target, the role
    that follows, and the concept error of those that calibrate. ``estimates``: of
    ``survey_estimates``."""
    fips = state_of(postal).fips
    carried = {"carried": "total", "carried_standard_error": "standard_error"}
    totals = estimates.filter(is_area(STATE, fips)).drop("standard_error").rename(carried)
    return concept_gap.concept_gaps(
        totals,
        pl.concat([national.filter(is_area(STATE, fips)), below]),
        profile.concept_gap_limit,
        state_fips=fips,
        same_concept=catalog.same_concept(profile),
        same_concept_limit=profile.same_concept_gap_limit,
        aligned=load_alignment().keys_of_steps(profile.records.steps),
    )


def survey_estimates(
    catalog: Catalog,
    profile: Profile,
    postal: str,
    records: Mapping[str, pl.DataFrame],
    replicates: pl.DataFrame | None,
    below: pl.DataFrame,
    national: pl.DataFrame,
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """Every variable of the catalogue that the records express, by design weights, of the survey's
    year and of the target year, with standard errors of the replicate weights, for the state and
    its PUMAs; notes. ``below`` and ``national``: targets as published and carried."""
    fips = state_of(postal).fips
    own = pl.concat([national.filter(is_area(STATE, fips)), below])
    stated = concept_gap.state_targets(own, fips).select(*VARIABLE_KEY, "target").iter_rows()
    published = {(variable, domain): figure for variable, domain, figure in stated}
    growth = population_growth(records["persons"], published, catalog.growth_groups(profile))
    variables = list(catalog.variables.values())
    return estimates_of_records(records, replicates, variables, fips, growth)


@dataclass(frozen=True, eq=False)
class StateInputs:
    """What reconciliation and candidates are made from.

    Attributes
    ----------
    below : target rows of the levels below the state as published and carried, with the roles that
        concept gaps leave them.
    national : the same for the nation and all states, reconciled among themselves.
    geography : the areas, all vintages of the profile.
    records : ``persons``, ``households``, ``tax_units`` of the state.
    estimates : what the survey says of the state and its PUMAs.
    """

    below: pl.DataFrame
    national: pl.DataFrame
    geography: pl.DataFrame
    records: Mapping[str, pl.DataFrame]
    estimates: pl.DataFrame


def with_gaps(
    gaps: pl.DataFrame, postal: str, below: pl.DataFrame, national: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Both target tables with the roles that concept gaps leave them."""
    fips = state_of(postal).fips
    return concept_gap.apply_gaps(below, gaps, fips), concept_gap.apply_gaps(national, gaps, fips)


def reconciled_targets(
    catalog: Catalog,
    profile: Profile,
    postal: str,
    below: pl.DataFrame,
    national: pl.DataFrame,
    geography: pl.DataFrame,
    estimates: pl.DataFrame,
) -> Reconciled:
    """The state's targets as one consistent tree, in which only rows of role ``calibrate`` take
    part; then the survey's evidence for what none of them states.

    ``below`` and ``national`` have the roles of ``with_gaps``; ``estimates``: of
    ``survey_estimates``. Raises TargetError if sources contradict each other beyond
    ``moves.STOPPING_MOVE``.
    """
    listed = areas_of(geography, postal, profile.geography.vintage)
    areas = owned(listed, below)
    groups = catalog.categories.values()
    shares = share_rules(catalog, profile)
    reconciled = reconcile_state(below, national, areas, profile.levels, groups, shares)
    refuse_large_moves(reconciled.frame, profile.accepted_moves, postal)
    rule, fips = profile.method.survey_evidence, state_of(postal).fips
    evidence = survey_evidence(
        estimates,
        reconciled.frame,
        catalog.variables.values(),
        rule,
        state_fips=fips,
        vintage=profile.records.vintage,
        years=profile.target_year - int(profile.records.vintage),
        held_out=profile.held_out_classes,
    )
    frame = pl.concat([reconciled.frame, evidence]).sort(TARGET_KEY)
    require_targets(frame, f"reconciled_targets of {postal}")
    absent = why_none(estimates, rule, state_fips=fips)
    water = tuple(listed.join(areas, on="tract", how="anti")["tract"].sort())
    return replace(reconciled, frame=frame, no_evidence=absent, water=water)


def targets_lost(
    reconciled: pl.DataFrame, postal: str, below: pl.DataFrame, national: pl.DataFrame
) -> pl.DataFrame:
    """TARGET_KEY of those that went into a reconciliation and did not come out; none may."""
    own = national.filter(is_area(STATE, state_of(postal).fips))
    given = pl.concat([own.select(TARGET_KEY), below.select(TARGET_KEY)])
    return given.join(reconciled, on=TARGET_KEY, how="anti")


# Candidates and the problem.


def candidates(
    catalog: Catalog,
    profile: Profile,
    postal: str,
    records: Mapping[str, pl.DataFrame],
    targets: pl.DataFrame,
    geography: pl.DataFrame,
) -> Candidates:
    """The state's candidates; population by area is read from ``targets``, the reconciled ones."""
    places = Places(
        owned(areas_of(geography, postal, profile.geography.vintage), targets),
        areas_of(geography, postal, profile.geography.puma_link_vintage),
        profile.finest_level,
        profile.candidates.elsewhere_share,
    )
    cross = load_cross_categories(profile.cross_categories)
    measured = {variable.key: variable for variable in measured_variables(catalog, profile)}
    measured |= {variable.key: variable for variable in evidence_variables(catalog, targets)}
    variables = tuple(measured[key] for key in sorted(measured))
    rule, seed = profile.candidates, profile.seed
    return build_candidates(records, variables, targets, places, cross, rule, seed)


def solvable(
    profile: Profile,
    postal: str,
    targets: pl.DataFrame,
    geography: pl.DataFrame,
    units: pl.DataFrame,
    areas: pl.DataFrame | None = None,
    pools: pl.DataFrame | None = None,
    cells: pl.DataFrame | None = None,
) -> SolvableState:
    """The state as every later step takes it, from its reconciled targets and candidate tables."""
    own = owned(areas_of(geography, postal, profile.geography.vintage), targets)
    problem = build_problem(targets, units, own, profile)
    return SolvableState(profile, postal, own, targets, units, areas, pools, cells, problem)


# Weights.


def dense_weights(
    state: SolvableState, progress: StepProgress = None
) -> tuple[pl.DataFrame, TreeNewtonResult]:
    """``dense_weights``: a calibrated weight of every unit in every area, by what determines it."""
    result = dense_calibration(state, progress)
    return dense_table(state, result), result


def selected_pairs(
    state: SolvableState, dense: pl.DataFrame, pairs: int, progress: WordProgress = None
) -> tuple[pl.DataFrame, Selection]:
    """``selected_pairs``: exactly ``pairs`` pairs out of the table ``dense_weights``."""
    weights = stored_dense(state, dense)
    chosen = select(state, weights, pairs, progress)
    return pairs_table(state, chosen, weights, pairs), chosen


def refined_weights(
    state: SolvableState, dense: pl.DataFrame, selected: pl.DataFrame, progress: StepProgress = None
) -> tuple[pl.DataFrame, RefinedPairs]:
    """``weights``: the selected pairs, weighed so that their totals meet the targets."""
    pairs = stored_pairs(state, selected)
    refined = refine(state, stored_dense(state, dense), pairs, progress)
    return weights_table(state, pairs, refined.result.array), refined


# What they give.


def fit_of(state: SolvableState, **fitted: Sequence[np.ndarray]) -> pl.DataFrame:
    """The target table with a column for each of ``fitted``: totals per level, (areas,
    variables).
    """
    return fitted_targets(state.targets, state.problem, fitted)


def fit_of_stored(state: SolvableState, dense: pl.DataFrame, weights: pl.DataFrame) -> pl.DataFrame:
    """``fit_report``: targets with ``fitted_dense`` and ``fitted``, summed from the stored weights
    and not taken from the solver's own word."""
    stored = stored_weights(state, dense, weights)
    tree, designs = state.problem.tree, state.problem.targets.designs
    selected = pair_totals(tree, designs, stored.leaf, stored.record, stored.weight)
    return fit_of(state, fitted_dense=pool_totals(tree, designs, stored.dense), fitted=selected)


def truth_of(catalog: Catalog, profile: Profile, postal: str, data: Path) -> pl.DataFrame:
    """TARGET_KEY and ``truth``: totals of the known population behind the synthetic sample."""
    return truth_totals(data, target_variables(catalog, profile), state_of(postal).fips)


def loss_of_stored(
    catalog: Catalog, state: SolvableState, dense: pl.DataFrame, weights: pl.DataFrame
) -> tuple[pl.DataFrame, SelectionLoss, StoredWeights]:
    """``selection_report``: what was lost between dense and selected weights."""
    stored = stored_weights(state, dense, weights)
    unit_of = {key: variable.unit for key, variable in catalog.variables.items()}
    tree = state.problem.tree
    pool = pool_of(state, stored.dense)
    loss, table = measured_loss(pool, state.units, state.table("cells"), stored, unit_of)
    held_out = held_out_rows(state.targets, tree, state.units, stored)
    return pl.concat([table, held_out]), loss, stored


def bystanders(
    catalog: Catalog,
    state: SolvableState,
    records: Mapping[str, pl.DataFrame],
    estimates: pl.DataFrame,
    stored: StoredWeights,
) -> pl.DataFrame:
    """``bystander_report``: every measured variable, told or not, against the survey's own estimate
    (``estimates``, the table ``survey_estimates``)."""
    found, headings = catalog.variables, load_bystanders(catalog).group_of
    ordered = [found[key] for key in sorted(found)]
    measured = measure(records, ordered, state.units["household_id"])
    return bystander_report(state, stored, Watched(found, headings, measured, estimates))
