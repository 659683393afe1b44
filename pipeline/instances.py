"""Opening Dagster's record of runs, and saying in words why it cannot be used.

Belongs here: which record a profile has, and errors of its database. Does not belong here: what the
record says (``run_history.py``), or running (``runs.py``).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import dagster as dg
import yaml
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import StoreError
from pipeline.history_files import held_open
from pipeline.settings import (
    IN_PROCESS_SETTINGS,
    OUTPUT_VARIABLE,
    PROFILE_VARIABLE,
    RunEnvironment,
    ensure_instance_home,
    run_environment,
)

HOME_VARIABLE = "DAGSTER_HOME"


def operated_home(
    environment: RunEnvironment, environ: Mapping[str, str] | None = None
) -> Path | None:
    """Folder of the instance that daemon and workers use, where the variables name one for this
    profile and output (docs/operating.md); None where the profile has its own record alone.
    """
    environ = os.environ if environ is None else environ
    stated = [environ.get(n) for n in (HOME_VARIABLE, PROFILE_VARIABLE, OUTPUT_VARIABLE)]
    if not all(stated) or run_environment(environ=environ).root != environment.root:
        return None
    home = Path(str(stated[0])).expanduser()
    own = home == environment.dagster_home
    return home if not own and (home / "dagster.yaml").is_file() else None


@contextlib.contextmanager
def profile_instance(environment: RunEnvironment) -> Iterator[dg.DagsterInstance]:
    """The profile's own Dagster instance. Raises StoreError if its databases cannot be used."""
    with opened(ensure_instance_home(environment), IN_PROCESS_SETTINGS) as instance:
        yield instance


@contextlib.contextmanager
def opened(home: Path, settings: str = "dagster.yaml") -> Iterator[dg.DagsterInstance]:
    """The instance in ``home``. Raises StoreError if its databases cannot be used."""
    try:
        with held_open(home), dg.DagsterInstance.from_config(str(home), settings) as instance:
            yield instance
    except Exception as error:
        cause = _of_database(error)
        if cause is None:
            raise
        raise _unusable(home, cause) from error


def _of_database(error: BaseException) -> SQLAlchemyError | None:
    """What a database said; Dagster's helpers wrap it where they have tried several times."""
    seen: BaseException | None = error
    while seen is not None and not isinstance(seen, SQLAlchemyError):
        seen = seen.__cause__
    return seen


def _unusable(home: Path, error: SQLAlchemyError) -> StoreError:
    # The first line alone: what follows is SQL, and may hold an address with a password.
    said = next(iter(str(getattr(error, "orig", None) or error).split("\n")), "").strip()
    said = said or type(error).__name__
    if _on_server(home):
        return StoreError(
            f"The database of Dagster's record of runs does not answer: {said}",
            where=str(home / "dagster.yaml"),
            expected="a database server that takes connections",
            remedy=(
                "Start the server, or correct its address in the environment, and ask again:"
                " tables are not kept there, and those that were made are whole"
            ),
        )
    if not home.is_dir() or not any(home.rglob("*.db")):
        return StoreError(
            "Dagster's record of runs was removed while a run wrote to it",
            where=str(home),
            expected="a disk with room, and database files as Dagster wrote them",
            remedy="Leave the output folder in place, and run again: what is missing is made",
        )
    if not os.access(home, os.W_OK):
        return StoreError(
            f"Dagster's record of runs may only be read now: {said}",
            where=str(home),
            expected="a folder that may be written, as when the run began",
            remedy=(
                "See why (the system makes a disk with errors read-only), make it writable, and run"
                " again: tables that were stored are whole"
            ),
        )
    return StoreError(
        f"Dagster's record of runs cannot be read or written: {said}",
        where=str(home),
        expected="a disk with room, and database files as Dagster wrote them",
        remedy=(
            "Free room on the disk; if a file is damaged, move this folder away: results stay"
            " where they are, and only the record of earlier runs is lost"
        ),
    )


def _on_server(home: Path) -> bool:
    """Whether the instance's settings name a database of their own (``deploy/dagster``)."""
    try:
        stated = yaml.safe_load((home / "dagster.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError):
        return False
    return isinstance(stated, dict) and "storage" in stated
