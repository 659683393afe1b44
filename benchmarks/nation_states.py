"""One state of the invented nation from problem to weights, with seconds and memory of every stage;
and many states on several processes.

States are problems of their own: so many processes take them from a queue, the largest first, each
with threads of its own. One thread is the default: two libraries that wait for each other's threads
on two busy cores can be fifty times slower. A state's figures do not depend on how many processes
there are.

Belongs here: dense calibration, selection and refinement of a state as the pipeline does them, and
the processes. Does not belong here: the population, reconciliation across states, tables
(``nation.py``).
"""

from __future__ import annotations

import os
import platform
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from calibration_core.common.threads import workers
from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.select.joint import refine_pairs, select_jointly
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import JointSettings, SelectionSettings
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree

MARGIN_90 = 1.645
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass
class Clock:
    """Seconds by stage, and the peak memory of the process up to the end of each, in MB."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    peak_mb: dict[str, float] = field(default_factory=dict)

    def lap(self, stage: str, began: float) -> float:
        now = time.perf_counter()
        self.seconds[stage] += now - began
        self.peak_mb[stage] = peak_mb()
        return now


def peak_mb() -> float:
    """Largest resident memory of this process, in MB. Of a program only: the system's own count
    begins with that of the process it came from.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 1e6 if platform.system() == "Darwin" else largest * 1024 / 1e6


@dataclass(frozen=True)
class StateOptions:
    """``pairs`` a tract, ``candidates`` a pair, ``rounds`` of refitting and exchanging, ``seed``,
    torch ``device``, ``threads`` of each process.
    """

    pairs: int
    candidates: int
    rounds: int
    seed: int
    device: str
    threads: int


@dataclass(frozen=True, eq=False)
class StateWork:
    """A state to solve: its ``index`` and FIPS code, problem, published 90 % ``margin`` of its
    tracts (tracts, variables), ``cell`` and ``order`` of its households (records,).
    """

    index: int
    state: str
    problem: PoolProblem
    margin: np.ndarray
    cell: np.ndarray
    order: np.ndarray


@dataclass(frozen=True, eq=False)
class StateFigures:
    """What a state came to.

    Attributes
    ----------
    index, state, tracts, targets, pairs : of the state; anchored: soft targets beside its own in
        the refinement.
    seconds : by stage. process : the process it was solved by, and peak_mb by stage of that process
        so far.
    stopped : stages that did not converge, in words.
    exchanges, rescued, without_support : of the selection, counted.
    cells_lost, mass_lost : (tract, cell) with dense weight that have no pair, and their share of
        it.
    fits : by (weights, level, kind).
    totals : (variables of the finest level,) float64 of the state, refined.
    """

    index: int
    state: str
    tracts: int
    targets: int
    pairs: int
    anchored: int
    seconds: dict[str, float]
    process: int
    peak_mb: dict[str, float]
    stopped: tuple[str, ...]
    exchanges: int
    rescued: int
    without_support: int
    cells_lost: int
    mass_lost: float
    fits: dict[tuple[str, str, str], list[np.ndarray]]
    totals: np.ndarray


def dense_settings(device: str) -> TreeNewtonSettings:
    """Of the dense calibration."""
    return TreeNewtonSettings(
        tau_path=(1.0, 0.3, 0.1, 0.03, 0.01),
        share=(0.0, 0.0, 0.995),
        tolerance=1e-6,
        path_tolerance=0.5,
        max_iterations=200,
        device=device,
    )


def joint_settings(tracts: int, options: StateOptions) -> JointSettings:
    """Of selection and refinement."""
    selection = SelectionSettings(
        options.pairs * tracts,
        options.seed,
        floor=min(20, options.pairs),
        candidates=options.candidates,
        rounds=options.rounds,
        threads=workers(),
    )
    refine = TreeNewtonSettings(
        tau_path=(1.0, 0.3, 0.1, 0.03, 0.01),
        share=(0.0, 0.0, 0.999),
        ratio_bounds=(0.05, 10.0),
        tolerance=1e-6,
        path_tolerance=0.5,
        device=options.device,
    )
    return JointSettings(selection, refine, inside=MARGIN_90)


def solve_state(work: StateWork, options: StateOptions) -> StateFigures:
    """Calibrate, select, refine. The selection contains its rounds of refitting and exchanging."""
    clock, problem = Clock(), work.problem
    tree, targets = problem.tree, problem.targets
    began = time.perf_counter()
    dense = calibrate_tree(problem, dense_settings(options.device))
    began = clock.lap("dense calibration", began)
    settings = joint_settings(len(tree.leaves), options)
    # The design of the state holds every variable.
    known, classes = targets.designs[0], tuple(classes_of(work.cell))
    pool = Pool(tree, targets, dense.weights, work.cell, work.order, known, classes)
    drawn = select_jointly(pool, settings)
    began = clock.lap("selection", began)
    refined = refine_pairs(pool, drawn, settings)
    began = clock.lap("refinement", began)
    fits: dict[tuple[str, str, str], list[np.ndarray]] = defaultdict(list)
    both = {"dense": dense, "selected": refined.result}
    for name, result in both.items():
        _fit(fits, name, problem, result, work.margin)
    clock.lap("fit", began)
    return StateFigures(
        work.index,
        work.state,
        len(tree.leaves),
        targets.count,
        int(drawn.leaf.size),
        refined.anchored,
        dict(clock.seconds),
        os.getpid(),
        clock.peak_mb,
        tuple(
            f"{work.state} ({name}): {result.summary()}"
            for name, result in both.items()
            if not result.converged
        ),
        int(drawn.exchanges.sum()),
        len(drawn.rescued),
        len(drawn.without_support),
        drawn.lost.count,
        drawn.lost.share,
        dict(fits),
        refined.result.fitted[-1].sum(axis=0),
    )


def classes_of(cell: np.ndarray) -> list[np.ndarray]:
    """Classes of the invented cells, income x size of household: (categories, cells) bool each."""
    number = np.arange(int(cell.max()) + 1)
    return [part[None, :] == np.unique(part)[:, None] for part in (number // 5, number % 5)]


def _fit(fits, name: str, problem: PoolProblem, result, margin: np.ndarray) -> None:
    for level, fitted, value in zip(
        problem.tree.levels, result.fitted, problem.targets.values, strict=True
    ):
        used = value != 0
        fits[name, level, "error"].append(
            (np.abs(fitted - value)[used] / np.abs(value[used])).astype(np.float32)
        )
    fits[name, "tract", "inside"].append(
        (np.abs(result.fitted[-1] - problem.targets.values[-1]) <= margin).ravel()
    )
    weights = result.weights
    # Kish's size over all pairs of the state, from sums that add up over states.
    fits[name, "all", "sums"].append(np.array([weights.sum(), float((weights.ravel() ** 2).sum())]))


def solve_states(
    work: Iterator[StateWork], options: StateOptions, processes: int
) -> Iterator[StateFigures]:
    """Figures of each state as it is done. ``work`` is asked for no more than two states ahead of
    each process.
    """
    if processes == 1:
        before = torch.get_num_threads()
        torch.set_num_threads(options.threads)
        try:
            with threadpool_limits(options.threads, user_api="blas"):
                for item in work:
                    yield solve_state(item, options)
        finally:
            torch.set_num_threads(before)
        return
    with (
        _threads_in_environment(options.threads),
        ProcessPoolExecutor(processes, get_context("spawn"), _begin, (options.threads,)) as pool,
    ):
        waiting = set()
        for item in work:
            waiting.add(pool.submit(solve_state, item, options))
            while len(waiting) >= 2 * processes:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield future.result()
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                yield future.result()


def _begin(threads: int) -> None:
    torch.set_num_threads(threads)


@contextmanager
def _threads_in_environment(threads: int):
    """A new process reads its number of threads before its libraries are loaded."""
    before = {name: os.environ.get(name) for name in _THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
