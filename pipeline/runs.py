"""Running the whole graph of a profile in this one process, recorded in the profile's Dagster
instance.

Belongs here: the order of the jobs, what happens when one fails or is interrupted, and timings out
of Dagster's events. Does not belong here: how progress looks (``pipeline/cli``) or what the
assets do.

One warm process costs half a second of bookkeeping per state where a run process of Dagster's own
costs several, and the UI shows the same history.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from pipeline import interrupts
from pipeline.errors import BusyError
from pipeline.history_files import write_back
from pipeline.instances import profile_instance
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.locks import NATION, held
from pipeline.processes import PROCESS_TAG, process_tag
from pipeline.run_events import AssetEvent, JobOutcome, asset_event, job_outcome
from pipeline.run_history import end_dead_runs
from pipeline.settings import RunEnvironment


@dataclass(frozen=True)
class ProfileOutcome:
    """All jobs of one call, in the order they ran, the states that were never started, whether
    Ctrl-C ended it, and the states that were ``current``, so that nothing ran for them.
    """

    jobs: list[JobOutcome] = field(default_factory=list)
    not_started: list[str] = field(default_factory=list)
    interrupted: bool = False
    current: list[str] = field(default_factory=list)

    @property
    def success(self) -> bool:
        return (
            bool(self.jobs or self.current)
            and all(job.success for job in self.jobs)
            and not self.not_started
            and not self.interrupted
        )

    @property
    def failed_states(self) -> list[str]:
        return [
            job.partition
            for job in self.jobs
            if job.partition and not job.success and not job.interrupted
        ]

    @property
    def interruption(self) -> str:
        """What a person should read of Ctrl-C: where it came and which states it kept from
        starting; empty where none came.
        """
        job = next((job for job in self.jobs if job.interrupted), None)
        if job is None:
            return ""
        place = (job.partition or "nation") + (
            f", asset {job.interrupted_step}" if job.interrupted_step else ""
        )
        not_started = f" Not started: {', '.join(self.not_started)}." if self.not_started else ""
        return f"Interrupted during {place}.{not_started} What was made before is kept."


Listener = Callable[[AssetEvent], None]
LOCK = "lock"
NOT_CURRENT = (
    "{number} assets were made in this run and are not current: {because}. Where: the tables of"
    " this state. Expected: files, specifications and tables that stay as they are while a run goes"
    " on. What to do: see who changes or removes them, and run again"
)


class NextWave(Protocol):
    """What is made next: ``assets``, in so many ``steps``, and ``words`` for why."""

    @property
    def assets(self) -> tuple[str, ...]: ...

    @property
    def steps(self) -> int: ...

    @property
    def words(self) -> str: ...


class Needed(Protocol):
    """Says what a job has to make next; None where all is current."""

    def wave(self, job: str, state: str | None) -> NextWave | None: ...

    def needs(self, job: str, state: str | None) -> bool: ...


_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def job_steps(definitions: dg.Definitions, job: str) -> int:
    """Number of steps of a job: the denominator of a progress bar."""
    return len(definitions.resolve_job_def(job).graph.node_defs)


def run_job(
    definitions: dg.Definitions,
    job: str,
    instance: dg.DagsterInstance,
    *,
    partition: str | None = None,
    listener: Listener | None = None,
    config: Mapping[str, Any] | None = None,
    assets: Sequence[str] | None = None,
) -> JobOutcome:
    """Run one job in this process, or those ``assets`` of it; ``config`` is run configuration by
    step, of which a step that does not run needs none. A failure or Ctrl-C is an outcome, not an
    exception; a Ctrl-C that a library swallowed is sent again.
    """
    definition = definitions.resolve_job_def(job)
    run_id = str(uuid.uuid4())
    running = True

    def forward(entry: dg.EventLogEntry) -> None:
        if running:
            interrupts.again()
        event = asset_event(entry, job, partition)
        if event is not None and event.kind == "failed":
            # A stored table whose step failed is current if that is forgotten.
            write_back()
        if listener is not None and event is not None:
            listener(event)

    instance.add_event_listener(run_id, forward)
    chosen = None if assets is None else [dg.AssetKey.from_user_string(name) for name in assets]
    if chosen is not None:
        steps = definition.get_subset(asset_selection=set(chosen)).graph.node_dict
        config = {name: value for name, value in (config or {}).items() if name in steps}
    try:
        result = definition.execute_in_process(
            instance=instance,
            partition_key=partition,
            run_id=run_id,
            run_config={**_QUIET, **({"ops": dict(config)} if config else {})},
            raise_on_error=False,
            asset_selection=chosen,
            tags={PROCESS_TAG: process_tag()},
        )
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        running = False
        interrupts.answered()
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_canceled(run)
        return JobOutcome(job, partition, run_id, False, {}, {}, interrupted=True)
    finally:
        write_back()
    outcome = job_outcome(result.all_events, result.success, job, partition, run_id)
    asked = interrupts.answered()
    return replace(outcome, interrupted=outcome.interrupted or asked)


@dataclass
class _Call:
    """One call of ``run_profile``: what its jobs have in common."""

    definitions: dg.Definitions
    environment: RunEnvironment
    instance: dg.DagsterInstance
    listener: Listener | None
    needed: Needed | None
    wait: bool
    id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def tell(self, job: str, state: str | None, words: str, steps: int = 0) -> None:
        """Let the listener hear what is made of a job, and why."""
        if self.listener is not None:
            self.listener(AssetEvent("planned", job, state, "", None, words, steps))

    def tidy(self) -> None:
        """Remove what killed runs left half written among the nation's tables, unless somebody
        writes there now; among a state's, whoever takes its lock does."""
        with (
            contextlib.suppress(BusyError),
            held(self.environment.root, NATION, self.id, "tidying"),
        ):
            pass

    def made(
        self, job: str, state: str | None, config: Mapping[str, Any] | None = None
    ) -> JobOutcome | None:
        """Make what the job needs, under the lock of its tables; None where all is current."""
        scope = state or NATION
        # Nobody waits for another's national run to find that there is nothing to do.
        if state is None and self.needed is not None and not self.needed.needs(job, None):
            return None
        try:
            say = partial(self.tell, job, state)
            root, by = self.environment.root, "geocal run"
            with held(root, scope, self.id, by, wait=self.wait, say=say):
                return self._waves(job, state, config)
        except BusyError as error:
            return JobOutcome(job, state, self.id, False, {}, {LOCK: str(error)})

    def _waves(
        self, job: str, state: str | None, config: Mapping[str, Any] | None
    ) -> JobOutcome | None:
        if self.needed is None:
            return self._run(job, state, config, None)
        outcome: JobOutcome | None = None
        done: set[str] = set()
        while (wave := self.needed.wave(job, state)) is not None:
            if again := sorted(done & set(wave.assets)):
                lost = {again[0]: NOT_CURRENT.format(number=len(again), because=wave.words)}
                return _joined(outcome, JobOutcome(job, state, self.id, False, {}, lost))
            self.tell(job, state, wave.words, wave.steps)
            done |= set(wave.assets)
            outcome = _joined(outcome, self._run(job, state, config, wave.assets))
            if not outcome.success or outcome.interrupted:
                break
        return outcome

    def _run(
        self,
        job: str,
        state: str | None,
        config: Mapping[str, Any] | None,
        assets: Sequence[str] | None,
    ) -> JobOutcome:
        return run_job(
            self.definitions,
            job,
            self.instance,
            partition=state,
            listener=self.listener,
            config=config,
            assets=assets,
        )


def _joined(before: JobOutcome | None, after: JobOutcome) -> JobOutcome:
    """Two runs of one job, one after the other, as one."""
    if before is None:
        return after
    return replace(
        after,
        success=before.success and after.success,
        seconds=before.seconds | after.seconds,
        failures=before.failures | after.failures,
        traceback=before.traceback + after.traceback,
    )


def run_profile(
    definitions: dg.Definitions,
    environment: RunEnvironment,
    states: Sequence[str],
    *,
    listener: Listener | None = None,
    state_config: Mapping[str, Any] | None = None,
    needed: Callable[[dg.DagsterInstance], Needed] | None = None,
    wait: bool = False,
) -> ProfileOutcome:
    """National inputs, then each state (with ``state_config`` by step), then the national tables.

    ``needed`` says what of each job has to be made (``currency/plan.py``); without it, all. Each
    job holds the lock of its tables; where another run holds it, ``wait`` for that, or the job
    fails.

    A failed state leaves the others standing; national tables are made whenever at least one state
    succeeded now or was current (they read every state whose tables are of one making with the
    nation's, whenever that was). If the national inputs fail, no state starts. Ctrl-C ends the
    call: no further state starts and the national tables stay as they were; what was made before is
    kept.

    Raises StoreError if the output folder or Dagster's databases in it cannot be used.
    """
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    outcomes: list[JobOutcome] = []
    current: list[str] = []
    with profile_instance(environment) as instance:
        end_dead_runs(instance)
        planned = needed(instance) if needed is not None else None
        call = _Call(definitions, environment, instance, listener, planned, wait)
        call.tidy()
        if NATIONAL_INPUTS in jobs and (above := call.made(NATIONAL_INPUTS, None)) is not None:
            outcomes.append(above)
            if not above.success or above.interrupted:
                return ProfileOutcome(outcomes, list(states), above.interrupted)
        for number, state in enumerate(states, start=1):
            outcome = call.made(STATES, state, state_config)
            if outcome is None:
                call.tell(STATES, state, "current, nothing to do")
                current.append(state)
                continue
            outcomes.append(outcome)
            if outcome.interrupted:
                return ProfileOutcome(outcomes, list(states[number:]), True, current)
        succeeded = any(outcome.success and outcome.job == STATES for outcome in outcomes)
        if NATIONAL_OUTPUTS in jobs and (succeeded or current):
            below = call.made(NATIONAL_OUTPUTS, None)
            outcomes += [below] if below is not None else []
    interrupted = any(outcome.interrupted for outcome in outcomes)
    return ProfileOutcome(outcomes, [], interrupted, current)
