"""What a release holds, and reading the same tables from a release or from the working output.

Both have one layout: ``<asset>/state=RI/<asset>.parquet``, ``<asset>/<asset>.parquet``,
``manifests/RI.json``. What reads one reads the other.

Belongs here: names of the tables of a release, sets of tables, the codebook that goes with them.
Does not belong here: how a release is stored (``store.py``), or whether tables belong to each other
(``belonging.py``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from upath import UPath

from pipeline.errors import StoreError
from pipeline.io_manager import decode, file_digest
from pipeline.settings import RunEnvironment
from pipeline.specs.codebook import load_codebook
from pipeline.vocabulary import WEIGHTS

Place = Path | UPath

RECORD_TABLES = ("selected_households", "selected_persons")
FIT, BYSTANDERS = "fit_report", "bystander_report"
STATE_TABLES = (WEIGHTS, *RECORD_TABLES, FIT, BYSTANDERS)
"""Tables of each state: weights, the records they weigh, targets with fit, figures told or not."""

NATIONAL_TARGETS, NATIONAL_FIT, NATIONAL_REPORT = NATIONAL_TABLES = (
    *("national_targets", "national_fit", "national_report"),
)
MANIFESTS, CODEBOOK, CERTIFICATE = "manifests", "codebook.json", "certificate.json"


def relative_path(asset: str, state: str | None = None) -> str:
    """Where a table lies below a profile's folder and below a release."""
    return f"{asset}/state={state}/{asset}.parquet" if state else f"{asset}/{asset}.parquet"


def manifest_path(state: str) -> str:
    """Where the manifest of a state lies."""
    return f"{MANIFESTS}/{state}.json"


@dataclass(frozen=True)
class TableSet:
    """The tables of some states below one folder.

    Attributes
    ----------
    name : what it is called: the id of a release, or the working output of a profile.
    root : the folder.
    states : postal codes of the states it has.
    digests : SHA-256 by relative path, of a release; every file read is compared. Empty for the
        working output.
    release : whether it is one.
    """

    name: str
    root: Place
    states: tuple[str, ...]
    digests: Mapping[str, str] = field(default_factory=dict)
    release: bool = False

    def has(self, asset: str, state: str | None = None) -> bool:
        """Whether there is such a table."""
        return (self.root / relative_path(asset, state)).exists()

    def bytes_of(self, path: str) -> bytes:
        """A file by its relative path. Raises StoreError where it is missing, or not what the
        release lists.
        """
        place = self.root / path
        if not place.exists():
            raise StoreError(
                f"{self.name} has no {path}",
                where=str(place),
                expected="a file of the release" if self.release else "a table of an earlier run",
                remedy=self._remedy(),
            )
        data = place.read_bytes()
        stated = self.digests.get(path)
        if stated is not None and file_digest(data) != stated:
            raise StoreError(
                f"A file of release {self.name} is not what the release lists: SHA-256"
                f" {file_digest(data)[:16]}",
                where=str(place),
                expected=f"SHA-256 {stated[:16]}, as release.json says",
                remedy=(
                    "Somebody changed it: restore it from a copy, or remove the release's folder"
                    " and release again"
                ),
            )
        return data

    def table(self, asset: str, state: str | None = None) -> pl.DataFrame:
        """A table. Raises StoreError as ``bytes_of``, or where it is no complete Parquet file."""
        path = relative_path(asset, state)
        return decode(self.root / path, self.bytes_of(path))

    def manifest(self, state: str) -> dict[str, Any]:
        """The manifest of a state; empty where there is none or it cannot be read."""
        try:
            found = json.loads(self.bytes_of(manifest_path(state)))
        except (StoreError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def only(self, states: tuple[str, ...]) -> TableSet:
        """The same with these states."""
        return TableSet(self.name, self.root, states, self.digests, self.release)

    def _remedy(self) -> str:
        if self.release:
            return "Restore it from a copy, or remove the release's folder and release again"
        return "Run `geocal run` for the state with the same --output"


def working_output(environment: RunEnvironment, states: tuple[str, ...]) -> TableSet:
    """What stands below the profile's folder now, of those of ``states`` that have weights."""
    there = tuple(s for s in states if environment.table_path(WEIGHTS, s).exists())
    return TableSet(f"the output of {environment.profile}", environment.root, there)


def codebook_document() -> dict[str, Any]:
    """The codebook of the tables of a release: for each its key, its columns with type, unit and
    meaning, and labels of all codes they use.
    """
    book = load_codebook()
    tables, used = {}, set()
    for name in (*STATE_TABLES, *NATIONAL_TABLES):
        of = book.table(name)
        forms = [of]
        while forms[-1].includes:
            forms.append(book.table(forms[-1].includes))
        sometimes = [column for form in forms for column in form.sometimes]
        columns = {}
        for column in dict.fromkeys([*book.names_of(of), *sometimes]):
            entry = book.column(of, column)
            if entry is not None:
                columns[column] = entry.model_dump(exclude_defaults=True)
                used.add(entry.codes)
        each = [item for form in forms for item in form.patterns.items()]
        patterns = {p: c.model_dump(exclude_defaults=True) for p, c in each}
        used |= {c.codes for _, c in each}
        tables[name] = {
            "title": of.title,
            "key": list(of.key),
            "columns": columns,
            **({"patterns": patterns} if patterns else {}),
            **({"notes": of.notes} if of.notes else {}),
        }
    codes = {
        name: {str(code): label for code, label in labels.items()}
        for name, labels in book.codes.items()
        if name in used
    }
    return {"tables": tables, "codes": codes}


def as_json(document: Any) -> bytes:
    """JSON as files of a release hold it."""
    text = json.dumps(document, indent=2, sort_keys=False, allow_nan=False, default=str)
    return (text + "\n").encode()
