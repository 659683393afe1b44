"""Specs by name, each file read when somebody first asks for what it holds.

Belongs here: mappings over folders of YAML files, in which one faulty file stops only those who
need it. Does not belong here: what any kind of spec contains, or references between files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from pipeline.errors import ProfileError, SpecError

Key = TypeVar("Key")
Value = TypeVar("Value")
Entries = Callable[[Path], Mapping[Key, Value]]


class SpecFolder(Mapping[str, Value]):
    """One spec per file, by its name without ``.yaml``: all names at once, a spec when asked for.

    A faulty file raises its error whenever its spec is asked for, and nowhere else.
    """

    def __init__(self, files: Callable[[], dict[str, Path]], read: Callable[[Path], Value]) -> None:
        self._files, self._read = files, read
        self._found: dict[str, Value] = {}

    @cached_property
    def _paths(self) -> dict[str, Path]:
        return dict(sorted(self._files().items()))

    def path(self, name: str) -> Path | None:
        """The file of that name, or None."""
        return self._paths.get(name)

    def __getitem__(self, name: str) -> Value:
        if name not in self._found:
            self._found[name] = self._read(self._paths[name])
        return self._found[name]

    def __contains__(self, name: object) -> bool:
        return name in self._paths

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)

    def faults(self) -> dict[str, SpecError | ProfileError]:
        """What is wrong with each faulty file, by name; every file is read for it."""
        found = {}
        for name in self:
            try:
                self[name]
            except (SpecError, ProfileError) as error:
                found[name] = error
        return found


class SpecEntries(Mapping[Key, Value], Generic[Key, Value]):
    """Many specs per file, all files read at the first question.

    A faulty file takes nothing else with it: entries of the others are found, and only a key that
    none of them has raises its error, because the faulty file may declare it. A walk over all
    entries passes by what a faulty file declares, unless they are needed ``whole``: then it raises.

    Within one layer (``layer_of`` a file) a key declared twice is a fault; one of a later layer
    stands in place of an earlier, and ``overrides`` names it.
    """

    def __init__(
        self,
        files: Callable[[], list[Path]],
        read: Entries,
        what: str,
        *,
        whole: bool = False,
        layer_of: Callable[[Path], int] = lambda path: 0,
    ) -> None:
        self._files, self._read, self._what, self._whole = files, read, what, whole
        self._layer_of, self._overrides = layer_of, list[str]()

    @cached_property
    def _loaded(self) -> tuple[dict[Key, Value], list[SpecError], dict[Key, SpecError]]:
        """Entries by key, the error of each faulty file, and that of each key declared twice."""
        found: dict[Key, Value] = {}
        faults: list[SpecError] = []
        twice: dict[Key, SpecError] = {}
        declared: dict[Key, Path] = {}
        for path in self._files():
            try:
                entries = self._read(path)
            except SpecError as error:
                faults.append(error)
                continue
            for key in (key for key in entries if key in declared):
                if self._layer_of(path) == self._layer_of(declared[key]):
                    twice[key] = self._twice(key, declared[key], path)
                else:
                    name = f"{self._what.lower()} {self._named(key)}"
                    self._overrides.append(f"{name}: {path} in place of {declared[key]}")
            found.update(entries)
            declared.update(dict.fromkeys(entries, path))
        return found, faults, twice

    def _twice(self, key: Key, first: Path, path: Path) -> SpecError:
        return SpecError(
            f"{self._what} {self._named(key)} is declared twice",
            where=str(path),
            expected=f"each one once; {first.name} declares it too",
            remedy="Take one of them out",
        )

    @staticmethod
    def _named(key: object) -> str:
        return "/".join(key) if isinstance(key, tuple) else str(key)

    def overrides(self) -> list[str]:
        """Entries that stand in place of an earlier layer's, in words."""
        return self._overrides if self._loaded else []

    def _require_known(self, key: object) -> None:
        found, faults, twice = self._loaded
        if key in twice:
            raise twice[key]
        if key not in found and faults:
            raise faults[0]

    def __getitem__(self, key: Key) -> Value:
        self._require_known(key)
        return self._loaded[0][key]

    def __contains__(self, key: object) -> bool:
        self._require_known(key)
        return key in self._loaded[0]

    def __iter__(self) -> Iterator[Key]:
        if self._whole and (faults := self.faults()):
            raise faults[0]
        return iter(self._loaded[0])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def faults(self) -> list[SpecError]:
        """What is wrong with each faulty file, and with each key that two files declare."""
        _, faults, twice = self._loaded
        return [*faults, *twice.values()]
