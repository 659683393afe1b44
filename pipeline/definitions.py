"""The code location: every asset, job, schedule and sensor of one profile, made by a function.

Belongs here: putting the parts together. Does not belong here: anything heavy; this module is
imported by the web server, the daemon and every run process, so torch, scipy and altair stay inside
the functions that use them.

``defs`` is built for the profile that the environment names (``GEOCAL_PROFILE``, ``GEOCAL_DATA``,
``GEOCAL_OUTPUT``).
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

import dagster as dg

from calibration_core.common.memory import set_budget
from pipeline.assets.build import build_assets
from pipeline.assets.common import code_version
from pipeline.assets.raw_files import build_raw_files
from pipeline.automation.build import build_automation
from pipeline.automation.changed_files import Content
from pipeline.currency.making import Makings
from pipeline.currency.observed import observations
from pipeline.io_manager import ParquetIOManager
from pipeline.jobs import NATIONAL_INPUTS, STATES, build_jobs
from pipeline.locks import NATION, held
from pipeline.partitions import order_states, state_partitions
from pipeline.processes import PROCESS_TAG, RUN_PROCESS_TAG, process_tag
from pipeline.run_history import PARTITION_TAG, history_of
from pipeline.settings import RunEnvironment, memory_budget, run_environment
from pipeline.sources.settled import settle
from pipeline.specs.base import SPEC_ROOT, spec_digest
from pipeline.specs.catalog import load_catalog
from pipeline.specs.codebook import load_codebook
from pipeline.specs.profiles import Profile
from pipeline.specs.roots import beside_ours

WAIT_TAG = "geocal/wait"
"""A run with this tag waits where another run writes its state's tables, instead of failing."""


def table_facts(profile: Profile) -> dict[str, Any]:
    """The constants of a run that every stored table carries."""
    return {
        "profile": profile.id,
        "synthetic": profile.synthetic,
        "target_year": profile.target_year,
        "seed": profile.seed,
    }


def run_facts(profile: Profile) -> dict[str, Any]:
    """The constants of a run that its manifests carry. Digests of all specs and all code are no
    part of a table: of what it rests on it carries its own (``making``), so that a change of the
    rest leaves its bytes alone.
    """
    return {
        **table_facts(profile),
        "specs_sha256": spec_digest(SPEC_ROOT, *beside_ours()),
        "code_sha256": code_version("calibration_core", "pipeline"),
    }


def build_definitions(
    profile: Profile, environment: RunEnvironment, *, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Definitions of ``profile`` reading and writing where ``environment`` says; ``resources``
    override, for tests.
    """
    environment = environment.generated() if profile.synthetic else environment
    set_budget(memory_budget())
    catalog = load_catalog()
    stated, profile = profile, settle(catalog, profile, environment.data)
    facts = run_facts(profile)
    assets = build_assets(profile, environment, state_partitions(profile.states), facts)
    makings = Makings(catalog, profile, environment, assets)
    assets = [makings.versioned(asset) for asset in assets]
    jobs = build_jobs(assets, profile.owners)

    def observed(instance: dg.DagsterInstance, scopes: Sequence[str]) -> list[dg.AssetObservation]:
        states = [None if scope == NATION else scope for scope in scopes]
        return observations(instance, makings, states)

    def needed(instance: dg.DagsterInstance, states: Sequence[str]) -> tuple[bool, list[str]]:
        # Here, because a verdict on the sample loads scipy, and the code location need not.
        from pipeline.currency.plan import Planner
        from pipeline.currency.remembered import judging

        with judging(makings, lambda state: history_of(instance, state).failed) as judge:
            planner = Planner(judge, force=False)
            stale = [state for state in states if planner.stale(STATES, state)]
            return planner.needs(NATIONAL_INPUTS, None), stale

    def begin(instance: dg.DagsterInstance, scopes: Sequence[str]) -> None:
        makings.prepare()
        for observation in observed(instance, scopes):
            instance.report_runless_asset_event(observation)

    automation = build_automation(jobs, stated, environment, Content(needed, observed))
    words = load_codebook().words
    return dg.Definitions(
        assets=[*assets, *build_raw_files(profile, state_partitions(profile.states))],
        jobs=list(jobs.values()),
        schedules=automation.schedules,
        sensors=automation.sensors,
        resources={
            "io_manager": locking(
                ParquetIOManager(environment, table_facts(profile), makings.facts, words),
                profile,
                begin,
            ),
            **(resources or {}),
        },
        # One heavy step follows another and isolation buys nothing: a process for each would cost
        # more than the work.
        executor=dg.in_process_executor,
        metadata={
            "profile": profile.id,
            "title": profile.title,
            **({"label": "SYNTHETIC"} if profile.synthetic else {}),
        },
    )


def locking(
    manager: ParquetIOManager,
    profile: Profile,
    begin: Callable[[dg.DagsterInstance, Sequence[str]], None] = lambda instance, scopes: None,
) -> dg.IOManagerDefinition:
    """The IO manager, for a run that holds the locks of what it writes (``pipeline/locks.py``): a
    second run of the same state fails before its first step, or waits if its tag says so.
    ``begin`` is called when a run begins, with the states it writes, or the nation.
    """

    def under_locks(context: dg.InitResourceContext) -> Iterator[ParquetIOManager]:
        with contextlib.ExitStack() as locks:
            if (run := context.run) is not None:
                if context.instance is not None and PROCESS_TAG not in run.tags:
                    context.instance.add_run_tags(run.run_id, {RUN_PROCESS_TAG: process_tag()})
                scopes = _written(run, profile)
                for scope in scopes:
                    locks.enter_context(_lock(manager, scope, run))
                if context.instance is not None:
                    begin(context.instance, scopes)
            yield manager

    # Dagster takes a resource that gives back what it holds; its type says less.
    return dg.IOManagerDefinition(resource_fn=cast(Any, under_locks))


def _lock(
    manager: ParquetIOManager, scope: str, run: dg.DagsterRun
) -> contextlib.AbstractContextManager[None]:
    by = f"a run of Dagster's job {run.job_name}"
    return held(manager.root, scope, run.run_id, by, wait=WAIT_TAG in run.tags)


def _written(run: dg.DagsterRun, profile: Profile) -> list[str]:
    """Whose tables a run writes: a state's, those of a range of states, or the nation's."""
    first, last = (run.tags.get(f"dagster/asset_partition_range_{end}") for end in ("start", "end"))
    if first and last:
        states = order_states(profile.states)
        return states[states.index(first) : states.index(last) + 1]
    return [run.tags.get(PARTITION_TAG, NATION)]


@dg.definitions
def defs() -> dg.Definitions:
    """The code location: the profile that the environment names. Dagster calls this when it loads
    the module, an import does not.
    """
    environment = run_environment()
    return build_definitions(load_catalog().profile(environment.profile), environment)
