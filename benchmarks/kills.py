"""Random kills while backfills of made-up states go on, and what is left of them.

    python -m benchmarks.kills --kills 50 --states 4
    python -m benchmarks.kills --kills 50 --states 4 --graph light

Rounds of backfills go through the services of ``services.py``. At random moments, drawn by
``--seed``, one of three is killed with -9: a process that does a run, the daemon, or the command
``geocal backfill``. Daemon and workers are started again at once, as a service manager would; the
command is given again. A round ends when nothing is queued or under way; states that it lost are
then asked for once more. After every kill the tables that were there are compared, and after every
round it is counted what must not be:

    torn            a table that cannot be read, or whose bytes are not those of the undisturbed
                    run; a manifest that does not list the tables that are there
    lost            a table that stood before a kill and is gone after it
    left over       temporary files once each state's next run has ended
    wrong statuses  runs under way in the record whose process is gone; states that ``geocal
                    status`` does not call current

``--graph light`` has stand-ins for the assets (``light_graph.py``): a state takes seconds. What is
killed, stored, locked, recorded and started again is the same; a state is then current if its
newest run succeeded.

Belongs here: victims, moments and counts. Does not belong here: the processes (``services.py``) or
times of undisturbed runs (``backfill.py``).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from benchmarks.backfill import backfill, digests, make_states, stale_states
from benchmarks.generated_folder import PROFILE
from benchmarks.generated_settings import facts
from benchmarks.machine import this_machine
from benchmarks.services import Launcher, Services, environment_of
from pipeline.jobs import NATIONAL_OUTPUTS, STATES
from pipeline.processes import RUN_PROCESS_TAG, process_lives
from pipeline.run_history import PARTITION_TAG
from pipeline.settings import RunEnvironment

VICTIMS = ("run", "run", "run", "daemon", "command")
"""Of five kills three meet a run, one the daemon, one the command."""
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# Seconds between two kills: a state's run takes about as long.
_LEAST, _MOST = 4.0, 25.0
# Of the light graph, whose states take five seconds and their process's start.
_LIGHT_LEAST, _LIGHT_MOST = 2.0, 12.0
# Seconds into a run at which it is killed, and how long one is waited for.
_INTO_A_RUN, _WAIT_FOR_A_RUN = (0.0, 4.0), 60.0
# A round that has not ended by then has lost something.
_PATIENCE = 600.0


@dataclass
class Counts:
    """What was killed, and what was found that must not be."""

    kills: Counter[str] = field(default_factory=Counter)
    torn: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    asked_again: int = 0

    @property
    def faults(self) -> int:
        return sum(map(len, (self.torn, self.lost, self.left_over, self.wrong)))


@dataclass
class Round:
    """One backfill under fire."""

    services: Services
    instance: dg.DagsterInstance
    states: Sequence[str]
    undisturbed: dict[str, str]
    rng: random.Random
    counts: Counts
    log: Path
    light: bool
    command: subprocess.Popen[bytes] | None = None

    def play(self, kills: int) -> None:
        """Ask for the states, kill ``kills`` times, wait, ask again for what was lost, count."""
        self._ask()
        for _ in range(kills):
            self._pause()
            if not self._under_way() and not self._asking():
                self._ask()
                self._pause()
            self._kill()
        self._wait()
        stale = self._stale()
        if again := [name for name in stale if name != "nation"]:
            self.counts.asked_again += len(again)
            backfill(self.services, again, self.log, "--force")
            self._wait()
        elif stale:
            backfill(self.services, list(self.states)[:1], self.log, "--force")
            self._wait()
        self._judge()

    def _pause(self) -> None:
        between = (_LIGHT_LEAST, _LIGHT_MOST) if self.light else (_LEAST, _MOST)
        time.sleep(self.rng.uniform(*between))

    def _stale(self) -> dict[str, str]:
        """States that are not current, and the nation, with why."""
        if not self.light:
            return stale_states(self.services)[0]
        found = {}
        for name in (*self.states, "nation"):
            job = NATIONAL_OUTPUTS if name == "nation" else STATES
            tags = {} if name == "nation" else {PARTITION_TAG: name}
            runs = self.instance.get_runs(dg.RunsFilter(job_name=job, tags=tags), limit=1)
            if not runs or not runs[0].is_success:
                found[name] = f"newest run: {runs[0].status.value if runs else 'none'}"
        return found

    def _ask(self) -> None:
        with self.log.open("ab") as file:
            self.command = self.services.geocal(
                "backfill",
                "--states",
                ",".join(self.states),
                "--force",
                stdout=file,
                stderr=subprocess.STDOUT,
            )

    def _asking(self) -> bool:
        return self.command is not None and self.command.poll() is None

    def _under_way(self) -> Sequence[dg.DagsterRun]:
        return self.instance.get_runs(dg.RunsFilter(statuses=_UNDER_WAY))

    def _kill(self) -> None:
        victim = self.rng.choice(VICTIMS)
        before = digests(self.services.environment.root)
        killed = self._strike(victim)
        if not killed:
            # Nothing of the kind is there at this moment: the daemon always is.
            victim, killed = "daemon", self._strike("daemon")
        self.counts.kills[victim] += 1
        after = digests(self.services.environment.root)
        self._compare(before, after, f"kill {sum(self.counts.kills.values())} ({victim})")

    def _strike(self, victim: str) -> bool:
        if victim == "daemon":
            self.services.revive("daemon")
            return True
        if victim == "command":
            if not self._asking() or self.command is None:
                return False
            self.command.kill()
            self.command.wait()
            return True
        return self._strike_run()

    def _strike_run(self) -> bool:
        """Kill a process that does a run now, as the run itself says; False where none comes."""
        moment, until = self.rng.uniform(*_INTO_A_RUN), time.monotonic() + _WAIT_FOR_A_RUN
        started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
        while time.monotonic() < until:
            for run in self.instance.get_runs(started):
                if (tag := run.tags.get(RUN_PROCESS_TAG)) and process_lives(tag):
                    time.sleep(moment)
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(tag.split(":")[1]), signal.SIGKILL)
                    return True
            time.sleep(0.2)
        return False

    def _compare(self, before: dict[str, str], after: dict[str, str], where: str) -> None:
        self.counts.lost += [f"{where}: {name}" for name in sorted(before.keys() - after.keys())]
        self.counts.torn += [
            f"{where}: {name}"
            for name, digest in after.items()
            if self.undisturbed.get(name) != digest and _of_a_state(name)
        ]

    def _wait(self) -> None:
        """Until nothing is queued, under way, or still to be asked for."""
        until, quiet = time.monotonic() + _PATIENCE, 0
        while quiet < 10 and time.monotonic() < until:
            self.services.revive_dead()
            quiet = 0 if self._under_way() or self._asking() else quiet + 1
            time.sleep(2.0)
        for run in self._under_way():
            self.counts.wrong.append(f"run {run.run_id} stands as {run.status.value}")

    def _judge(self) -> None:
        root = self.services.environment.root
        stale = self._stale()
        self.counts.wrong += [f"{name} {why}" for name, why in stale.items()]
        self.counts.left_over += [str(p.relative_to(root)) for p in sorted(root.rglob(".*.tmp"))]
        now = digests(root)
        self.counts.lost += [f"end: {n}" for n in sorted(self.undisturbed.keys() - now.keys())]
        self.counts.torn += [f"end: {n}" for n in now if not self._stands(root, n, now)]

    def _stands(self, root: Path, name: str, now: Mapping[str, str]) -> bool:
        """Whether a file is that of the undisturbed run; of a manifest, which has times in it,
        whether it lists the tables that are there."""
        if not name.startswith("manifests/"):
            return self.undisturbed.get(name) == now[name]
        return lists_what_is_there((root / name).read_bytes(), now)


def lists_what_is_there(manifest: bytes, now: Mapping[str, str]) -> bool:
    """Whether a manifest can be read, lists a table, and each with the digest that it has."""
    try:
        tables = json.loads(manifest)["tables"].values()
    except (ValueError, KeyError):
        return False
    return bool(tables) and all(now.get(each["path"]) == each["sha256"] for each in tables)


def _of_a_state(name: str) -> bool:
    """Tables of the nation are made of the states at hand: they are compared at the end alone."""
    return "state=" in name


def main(arguments: list[str] | None = None) -> int:
    """The command; the exit status is 1 if anything was found that must not be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--a-round", type=int, default=5, help="kills in one backfill")
    parser.add_argument("--states", type=int, default=4, help="of a backfill")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--launcher", choices=("celery", "processes"), default="celery")
    parser.add_argument("--tracts", type=int, default=12, help="of each state")
    parser.add_argument("--graph", choices=("real", "light"), default="real")
    parser.add_argument("--seed", type=int, default=20240711)
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary one")
    parser.add_argument("--redis", type=int, default=7, help="first of two numbers of Redis")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="geocal_kills_") as temporary:
        return _measured(asked, asked.folder or Path(temporary))


def _measured(asked: argparse.Namespace, folder: Path) -> int:
    folder.mkdir(parents=True, exist_ok=True)
    data, states = folder / "data", list(facts().states)[: asked.states]
    make_states(data, states, asked.tracts, 1, 30)
    launcher: Launcher = asked.launcher
    light = asked.graph == "light"
    services = Services(
        RunEnvironment(PROFILE, data, folder / "output"),
        folder / f"services_{int(time.time())}",
        asked.workers,
        launcher,
        redis=asked.redis,
        webserver=False,
        poll_seconds=5,
        specs=data / "specs",
        module="benchmarks.light_graph" if light else "pipeline.definitions",
    )
    counts, rng = Counts(), random.Random(asked.seed)
    print(f"{len(states)} SYNTHETIC states of {asked.tracts} tracts; {this_machine()}", flush=True)
    with (
        services.running(),
        environment_of(services.variables),
        dg.DagsterInstance.from_config(str(services.home)) as instance,
    ):
        log = folder / "kills.log"
        seconds, status = backfill(services, states, log, "--force")
        if status:
            print(f"The undisturbed backfill failed; see {log}", file=sys.stderr)
            return 1
        undisturbed = digests(services.environment.root)
        print(f"undisturbed: {seconds:.0f} s, {len(undisturbed)} files", flush=True)
        began, left = time.perf_counter(), asked.kills
        while left:
            now = min(asked.a_round, left)
            left -= now
            Round(services, instance, states, undisturbed, rng, counts, log, light).play(now)
            _say(counts, time.perf_counter() - began)
        print(f"Runs by what they came to: {_statuses(instance)}")
    for name in ("torn", "lost", "left_over", "wrong"):
        for line in getattr(counts, name):
            print(f"  {name}: {line}")
    return 1 if counts.faults else 0


def _say(counts: Counts, seconds: float) -> None:
    kills = ", ".join(f"{number} {victim}" for victim, number in sorted(counts.kills.items()))
    print(
        f"{sum(counts.kills.values())} kills ({kills}) in {seconds:.0f} s:"
        f" torn {len(counts.torn)}, lost {len(counts.lost)}, left over {len(counts.left_over)},"
        f" wrong statuses {len(counts.wrong)}; states asked for again {counts.asked_again}",
        flush=True,
    )


def _statuses(instance: dg.DagsterInstance) -> dict[str, Any]:
    return dict(Counter(run.status.value for run in instance.get_runs()))


if __name__ == "__main__":
    sys.exit(main())
