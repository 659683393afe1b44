"""The command ``geocal validate``: held-out validation of the sparse methods.

Belongs here: its options, their checks before any work, progress, and where results go. Does not
belong here: the validation (``pipeline/validation``), or what all commands share
(``pipeline/cli.py``, which registers this one).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from calibration_core.errors import SettingsError
from pipeline.cli_progress import StepProgress
from pipeline.errors import StoreError

INTERRUPTED = 130
LISTS = ("--hold-out", "--pairs", "--methods", "--states", "-s")


class ListOptions(typer.core.TyperCommand):
    """A command whose list options take several words (``--pairs 20 40 60``), commas (``--pairs
    20,40,60``), or both.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        for word in args:
            follows = len(joined) >= 2 and joined[-2] in LISTS
            if follows and not word.startswith("-"):
                joined[-1] += f",{word}"
            else:
                joined.append(word)
        return super().parse_args(ctx, joined)


HoldOutOption = Annotated[
    list[str],
    typer.Option(
        "--hold-out",
        help=(
            "Groups of data_specs/holdout.yaml (education, income, race, ssa, irs ...) or target"
            " families; each is withheld in turn."
        ),
        show_default=False,
    ),
]
PairsOption = Annotated[str, typer.Option("--pairs", help="Budgets, in pairs an area on average.")]
SeedsOption = Annotated[int, typer.Option("--seeds", help="How many draws of each.", min=1)]
MethodsOption = Annotated[
    str | None,
    typer.Option(
        "--methods", help="Sparse methods to compare. Default: all there are.", show_default=False
    ),
]
JsonFileOption = Annotated[
    Path | None,
    typer.Option(
        "--json",
        help="Also write everything to this file; docs/validation.md describes it.",
        show_default=False,
    ),
]
PlotOption = Annotated[
    Path | None,
    typer.Option(
        "--plot", help="Also draw error against pairs kept, to this PNG file.", show_default=False
    ),
]


def run_validation(
    loaded,
    environment,
    chosen: list[str],
    hold_out: list[str],
    pairs: str,
    seeds: int,
    methods: str | None,
    json_file: Path | None,
    plot: Path | None,
    out: Console,
) -> int:
    """Check the options, validate, print, write. Returns the exit status: 0, 1 where a method gave
    no result, 130 after Ctrl-C.

    Raises a GeocalError, before any work, for an option that cannot be served.
    """
    from calibration_core.tree.rivals import PAIR_METHODS
    from pipeline.specs.catalog import load_catalog
    from pipeline.validation.compare import REFERENCE, ValidationSettings, steps_of, validate
    from pipeline.validation.families import hold_out_groups
    from pipeline.validation.report import document, print_validation

    catalog = load_catalog()
    named = tuple(_words(methods)) if methods is not None else tuple(PAIR_METHODS)
    reference = REFERENCE if REFERENCE in named else (named[0] if named else REFERENCE)
    settings = ValidationSettings(named, tuple(_numbers(pairs, "--pairs")), seeds, reference)
    groups = hold_out_groups([word for text in hold_out for word in _words(text)], catalog, loaded)
    _writable(json_file, "--json", ".json")
    _writable(plot, "--plot", ".png")
    load = _loader(loaded, environment, catalog)

    def write(so_far) -> None:
        if json_file is not None:
            json_file.write_text(
                json.dumps(document(so_far), indent=1, allow_nan=False) + "\n", encoding="utf-8"
            )

    with StepProgress(out, steps_of(chosen, groups, settings)) as steps:
        found = validate(
            chosen, load, groups, settings, loaded, catalog, progress=steps, keep=write
        )
    print_validation(found, out)
    for run in found.failures:
        text = (
            f"FAILED {run.postal} without {run.group}, {run.method}, {run.pairs} pairs an area,"
            f" seed {run.seed}: {run.failure}"
        )
        out.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
    write(found)
    if json_file is not None:
        out.print(f"Everything: {json_file}", highlight=False, soft_wrap=True)
    if plot is not None:
        from pipeline.validation.frontier import frontier

        plot.write_bytes(frontier(found))
        out.print(f"Chart: {plot}", highlight=False, soft_wrap=True)
    return INTERRUPTED if found.interrupted else int(bool(found.failures))


def _loader(loaded, environment, catalog) -> Callable:
    """Loads a state; of the synthetic sample after making its files, and with the truth."""
    from pipeline.weights.state import load_state

    if loaded.synthetic:
        from pipeline.sample.generate import ensure_sample
        from pipeline.settings import ensure_writable

        ensure_writable(environment, environment.data)
        ensure_sample(environment.data)

    def load(postal: str):
        from pipeline.reports.truth import truth_totals
        from pipeline.specs.states import state_of

        state = load_state(loaded.id, postal, environment.data)
        return state, (
            truth_totals(environment.data, state.inputs.variables, state_of(postal).fips)
            if loaded.synthetic
            else None
        )

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
