"""Readers by name: how a reader says what it is called, and how it is found.

A module of ``readers`` or ``microdata`` marks each of its readers:

    @reader("pep_csv")
    def read_pep(request: ReadRequest) -> SourceTable: ...

and a source's YAML names it under ``reader``. Nothing else has to know of a new reader.

Belongs here: names. Does not belong here: reading through a spec (``registry.py``), any layout.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

from pipeline.errors import SpecError
from pipeline.sources.base import ReadRequest, SourceFile

Reader = Callable[[ReadRequest], Any]
Checker = Callable[[ReadRequest, SourceFile], str]
Marked = TypeVar("Marked", bound=Reader)
FOLDERS = ("pipeline.sources.readers", "pipeline.sources.microdata")


@dataclass(frozen=True)
class ReaderEntry:
    """A reader, and how to check one of its files: by reading it (None) or by a cheaper function.

    ``check(request, file)`` opens one file, raises a GeocalError if it cannot serve, and returns
    what it found, in words; of microdata it is asked after the header was found in order.
    """

    read: Reader
    check: Checker | None = None


_named: dict[str, ReaderEntry] = {}


def reader(name: str, check: Checker | None = None) -> Callable[[Marked], Marked]:
    """Mark a function as the reader ``name``. Raises SpecError if another has the name."""

    def mark(read: Marked) -> Marked:
        held = _named.get(name)
        if held is not None and held.read is not read:
            raise SpecError(
                f"A reader {name!r} exists",
                where=f"{read.__module__}.{read.__qualname__}",
                expected="a new name",
                remedy="Give the reader another name",
            )
        _named[name] = ReaderEntry(read, check)
        return read

    return mark


def reader_names() -> list[str]:
    """The names of all readers, sorted."""
    _load()
    return sorted(_named)


def reader_called(name: str, source: str) -> ReaderEntry:
    """The reader of that name. Raises SpecError, naming the ``source`` that asks for it."""
    _load()
    if name not in _named:
        raise SpecError(
            f"There is no reader {name!r}",
            where=f"data_specs/sources/{source}.yaml",
            expected=f"one of {', '.join(reader_names())}",
            remedy="Correct `reader` in the source's YAML, or add a module that marks a reader so",
        )
    return _named[name]


@cache
def _load() -> None:
    """Import every module that may hold a reader."""
    for folder in FOLDERS:
        package = importlib.import_module(folder)
        for module in pkgutil.iter_modules(package.__path__):
            importlib.import_module(f"{folder}.{module.name}")
