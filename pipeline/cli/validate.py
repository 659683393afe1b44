"""The command ``geocal validate``: held-out validation of the sparse methods.

Belongs here: checks of its options before any work, progress, and where results go. Does not belong
here: the options (``cli/app.py``) or the validation (``pipeline/validation``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from calibration_core.errors import SettingsError
from pipeline.cli import FAILED, INTERRUPTED
from pipeline.cli.progress import StepProgress, Waiting
from pipeline.cli.terminal import Terminal
from pipeline.errors import StoreError

if TYPE_CHECKING:
    import polars as pl

    from pipeline.cli.asked import Asked
    from pipeline.loaded_state import LoadedState
    from pipeline.specs.catalog import Catalog
    from pipeline.validation.runs import Validation


@dataclass(frozen=True)
class Wanted:
    """The options of ``geocal validate`` as they were given; ``json_file`` and ``plot`` or None."""

    hold_out: list[str]
    pairs_per_area: str
    seeds: int
    methods: str | None
    json_file: Path | None
    plot: Path | None


def run_validation(terminal: Terminal, asked: Asked, wanted: Wanted) -> int:
    """Check the options, validate, print, write.

    Returns the exit status: 0, 1 where a method gave no result, 130 after Ctrl-C. Raises a
    GeocalError, before any work, for an option that cannot be served.
    """
    _writable(wanted.json_file, "--json", ".json")
    _writable(wanted.plot, "--plot", ".png")
    budgets = tuple(_numbers(wanted.pairs_per_area, "--pairs-per-area"))
    with Waiting(terminal, "loading the numerics") as waiting:
        from calibration_core.tree.rivals import PAIR_METHODS
        from pipeline.specs.catalog import load_catalog
        from pipeline.validation.compare import steps_of, validate
        from pipeline.validation.families import hold_out_groups
        from pipeline.validation.report import document, print_validation
        from pipeline.validation.runs import REFERENCE, ValidationSettings

        catalog = load_catalog()
        methods = PAIR_METHODS if wanted.methods is None else _words(wanted.methods)
        named = tuple(methods)
        reference = REFERENCE if REFERENCE in named else (named[0] if named else REFERENCE)
        settings = ValidationSettings(named, budgets, wanted.seeds, reference)
        held_out = [word for text in wanted.hold_out for word in _words(text)]
        groups = hold_out_groups(held_out, catalog, asked.profile)
        load = _loader(asked, catalog, waiting)

    def write(so_far: Validation) -> None:
        if wanted.json_file is not None:
            text = json.dumps(document(so_far), indent=1, allow_nan=False)
            wanted.json_file.write_text(text + "\n", encoding="utf-8")

    with StepProgress(terminal, steps_of(asked.states, groups, settings)) as steps:
        found = validate(
            asked.states, load, groups, settings, asked.profile, catalog, progress=steps, keep=write
        )
    print_validation(found, terminal)
    for run in found.failures:
        terminal.error(
            f"FAILED {run.postal} without {run.group}, {run.method}, {run.pairs_per_area} pairs"
            f" per area, seed {run.seed}: {run.failure}"
        )
    write(found)
    if wanted.json_file is not None:
        terminal.note(f"Everything: {wanted.json_file}", markup=False)
    if wanted.plot is not None:
        from pipeline.validation.frontier import frontier

        wanted.plot.write_bytes(frontier(found))
        terminal.note(f"Chart: {wanted.plot}", markup=False)
    if found.interrupted:
        return INTERRUPTED
    return FAILED if found.failures else 0


def _loader(asked: Asked, catalog: Catalog, say: Callable[[str], None]) -> Callable:
    """Loads a state; of the synthetic sample after making its files, and with the truth."""
    from pipeline.loaded_state import load_state
    from pipeline.steps import truth_of

    data, synthetic = asked.environment.data, asked.profile.synthetic
    if synthetic:
        from pipeline.sample.generate import ensure_sample
        from pipeline.settings import ensure_writable

        ensure_writable(asked.environment, data)
        say("writing the SYNTHETIC sample")
        ensure_sample(data)

    def load(postal: str) -> tuple[LoadedState, pl.DataFrame | None]:
        state = load_state(asked.profile.id, postal, data)
        if not synthetic:
            return state, None
        return state, truth_of(catalog, asked.profile, postal, data)

    return load


def _words(text: str) -> list[str]:
    return [word for word in text.replace(",", " ").split() if word]


def _numbers(text: str, option: str) -> list[int]:
    words = _words(text)
    if wrong := [word for word in words if not word.isdigit()]:
        raise SettingsError(
            f"{', '.join(map(repr, wrong))} is no whole number",
            where=f"{option} {text}",
            expected="whole numbers, at least 1",
            remedy="For example 20 40 60 100",
        )
    return [int(word) for word in words]


def _writable(path: Path | None, option: str, ending: str) -> None:
    """Raise StoreError where a result could not be written after the work; the folder must be
    there.
    """
    if path is None:
        return
    remedy = "Name a file in a folder that exists and that you may write to"
    if path.suffix.lower() != ending:
        raise StoreError(
            f"The file {path} does not end in {ending}",
            where=option,
            expected=f"a file name ending in {ending}",
            remedy=remedy,
        )
    if path.is_dir() or not path.absolute().parent.is_dir():
        what = "is a folder" if path.is_dir() else "lies in a folder that does not exist"
        raise StoreError(
            f"The file {path} {what}",
            where=option,
            expected="a file in a folder that exists",
            remedy=remedy,
        )
    if not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
        raise StoreError(
            f"The file {path} cannot be written (no permission)",
            where=option,
            expected="a file that can be written",
            remedy=remedy,
        )
