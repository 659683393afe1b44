"""The command ``geocal dense``: dense weights of a state as long rows, Parquet files in a folder.

A run stores what determines dense weights, a rate for each target; who wants the weights themselves
has them written here, a neighbourhood at a time.

Belongs here: the command. Does not belong here: what a weight is (``weights/table.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli.asked import asked_for, one_state
from pipeline.cli.progress import Waiting
from pipeline.cli.terminal import Terminal
from pipeline.errors import StoreError

if TYPE_CHECKING:
    import polars as pl


def write_dense(
    terminal: Terminal,
    state: str,
    folder: Path,
    profile: str | None,
    data: Path | None,
    output: Path | None,
    least: float,
) -> None:
    """Write ``household_id, area, weight`` of dense weights of at least ``least`` into ``folder``.

    Raises StoreError if tables of an earlier run are not there, or the folder is; InvariantError if
    the tables do not belong to each other.
    """
    from pipeline import steps
    from pipeline.assets.names import AREAS, DENSE, GEOGRAPHY, POOLS, RECONCILED, UNITS
    from pipeline.reports.show import stored
    from pipeline.weights.table import long_weights, stored_dense

    asked = asked_for(profile, state, data, output)
    postal, environment = one_state(state, asked.profile), asked.environment
    geography = stored(environment, GEOGRAPHY, None)
    names = RECONCILED, UNITS, AREAS, POOLS, DENSE
    targets, units, areas, pools, table = (stored(environment, name, postal) for name in names)
    profile_of = asked.profile.of(postal)
    found = steps.solvable(profile_of, postal, targets, geography, units, areas, pools)
    dense = stored_dense(found, table)
    with Waiting(terminal, f"writing dense weights of {postal}"):
        rows = _write(folder, long_weights(found, dense, least))
    terminal.text(f"{rows:,} rows in {folder}")


def _write(folder: Path, frames: Iterator[pl.DataFrame]) -> int:
    """A file for each block, in a folder of another name, which then takes its name."""
    import shutil

    if folder.exists():
        raise StoreError(
            "There is something of that name already",
            where=str(folder),
            expected="a folder that is not there yet",
            remedy="Name another, or remove it first",
        )
    written, making = 0, folder.with_name(f".{folder.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        for number, frame in enumerate(frames):
            frame.write_parquet(making / f"part-{number:05d}.parquet")
            written += frame.height
        making.replace(folder)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return written
