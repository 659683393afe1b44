"""What becomes of each wanted file: fetched, current, placed by hand, refused, failed.

Belongs here: the decision for each file, the check before it takes its place, and the record. Does
not belong here: requests (``transfer.py``), or how it is told (``cli/fetch.py``).

What is there is never removed: a new file replaces an old one only after it came whole and passed
the checks, in one step. A file that somebody placed, or changed, is left alone.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import filelock

from pipeline.errors import DownloadError, DownloadRefusedError, StoreError
from pipeline.fetch.content import fault_of
from pipeline.fetch.network import Network
from pipeline.fetch.record import Entry, Record, Stamp, now, sha256_of
from pipeline.fetch.transfer import Asked, NotThereError, Transfer, Watch
from pipeline.fetch.wanted import Wanted
from pipeline.specs.download import Download

Result = Literal["fetched", "current", "placed by hand", "not offered", "refused", "failed"]
PART = ".part"
LOCK = ".fetching"


@dataclass(frozen=True)
class Outcome:
    """What became of one file. ``path`` below the data folder; ``bytes`` of the file that lies
    there now; ``message`` says more, and what to do where a file is missing.
    """

    source: str
    vintage: str
    path: str
    result: Result
    bytes: int
    message: str

    @property
    def ready(self) -> bool:
        """Whether nothing has to be done about it."""
        return self.result not in ("refused", "failed")


class Listener(Watch, Protocol):
    """Who is told how the work goes."""

    def begins(self, wanted: Wanted, number: int, of: int) -> None:
        """A file is looked at, the ``number``-th of so many."""

    def ends(self, outcome: Outcome) -> None:
        """It is done with."""


def fetch_files(
    wanted: Iterable[Wanted],
    data: Path,
    settings: Download,
    listener: Listener,
    *,
    environ: Mapping[str, str] = os.environ,
    again: bool = False,
    sleep: Callable[[float], Any] = time.sleep,
) -> list[Outcome]:
    """Bring every file that is not there, and ask whether those that are have changed.

    ``again``: ask for the whole of each file that was fetched before, changed or not. One file's
    failure stops no other. Raises StoreError where another ``geocal fetch`` works in the folder or
    its record cannot be read, DownloadError for a proxy that cannot be.
    """
    wanted = list(wanted)
    network = Network(settings, environ)
    with _alone(data), network.client() as client:
        work = _Fetching(Record(data), Transfer(network, settings, client, sleep), listener, again)
        return [work.one(each, number, len(wanted)) for number, each in enumerate(wanted, 1)]


@dataclass
class _Fetching:
    record: Record
    transfer: Transfer
    listener: Listener
    again: bool

    def one(self, wanted: Wanted, number: int, of: int) -> Outcome:
        self.listener.begins(wanted, number, of)
        try:
            result, message = self._one(wanted)
        except NotThereError as error:
            optional = wanted.file.optional
            result, message = ("not offered" if optional else "failed"), str(error)
        except DownloadRefusedError as error:
            result, message = "refused", str(error)
        except DownloadError as error:
            result, message = "failed", str(error)
        name = self.record.name_of(wanted.path)
        size = wanted.path.stat().st_size if wanted.path.exists() else 0
        if result in ("refused", "failed") and size:
            message += " What was there before is kept."
        outcome = Outcome(wanted.spec.id, wanted.vintage, name, result, size, message)
        self.listener.ends(outcome)
        return outcome

    def _one(self, wanted: Wanted) -> tuple[Result, str]:
        path, entry = wanted.path, self.record.entry(wanted.path)
        if not path.exists():
            return self._missing(wanted)
        if entry is None or entry.origin == "by hand" or entry.sha256 != sha256_of(path):
            return self._placed(wanted, entry)
        stamp = entry.stamp if entry.stamp.address == wanted.file.url else None
        if stamp is not None and not stamp.comparable and not self.again:
            return "current", "the publisher gives nothing to compare by; --again asks for it anew"
        return self._bring(wanted, None if self.again else stamp, entry)

    def _missing(self, wanted: Wanted) -> tuple[Result, str]:
        if not wanted.file.by_hand:
            return self._bring(wanted, None, None)
        if wanted.file.optional:
            return "not offered", "optional, and only a person can bring it"
        raise wanted.by_a_person()

    def _placed(self, wanted: Wanted, entry: Entry | None) -> tuple[Result, str]:
        """A file that somebody put there is checked and noted, and never asked for."""
        path = wanted.path
        if fault := fault_of(path, path.name, wanted.members):
            raise DownloadError(
                f"The file that is there is not the one wanted: {fault.words}",
                where=str(path),
                expected=f"{wanted.spec.title}, {wanted.vintage}",
                remedy=f"Move it away and run `geocal fetch` again; it is at {wanted.file.url}",
            )
        sha, size = sha256_of(path), path.stat().st_size
        message = ""
        if entry is not None and entry.sha256 != sha:
            message = "changed since it was noted; left as it is"
        if entry is None or entry.sha256 != sha or entry.origin != "by hand":
            self._keep(wanted, Stamp(address=wanted.file.url, bytes=size), "by hand", sha)
        return "placed by hand", message

    def _bring(self, wanted: Wanted, held: Stamp | None, entry: Entry | None) -> tuple[Result, str]:
        path = wanted.path
        part = path.with_name(path.name + PART)
        path.parent.mkdir(parents=True, exist_ok=True)
        asked = Asked(
            wanted.file.url,
            wanted.spec.documentation,
            part,
            held,
            self.record.partial(path),
            lambda stamp: self.record.begin(path, stamp),
            lambda partial: fault_of(partial, path.name, wanted.members),
            self.listener,
        )
        try:
            stamp = self.transfer.bring(asked)
        except DownloadRefusedError as error:
            raise wanted.by_a_person(error) from None
        if stamp is None:
            self.record.drop_partial(path)
            part.unlink(missing_ok=True)
            return "current", ""
        sha = sha256_of(part)
        part.replace(path)
        self._keep(wanted, stamp, "fetched", sha)
        if entry is None:
            return "fetched", ""
        if entry.sha256 == sha:
            return "current", "asked for anew; nothing has changed"
        return "fetched", f"the publisher has changed it since {entry.noted}"

    def _keep(
        self, wanted: Wanted, stamp: Stamp, origin: Literal["fetched", "by hand"], sha: str
    ) -> None:
        entry = Entry(
            stamp=stamp,
            source=wanted.spec.id,
            vintage=wanted.vintage,
            origin=origin,
            sha256=sha,
            bytes=wanted.path.stat().st_size,
            noted=now(),
        )
        self.record.keep(wanted.path, entry)


@contextlib.contextmanager
def _alone(data: Path) -> Iterator[None]:
    """Two at once would write into one another's partial files."""
    lock = filelock.FileLock(data / LOCK, blocking=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise StoreError(
            "Another `geocal fetch` works in this folder",
            where=str(data),
            expected="one at a time",
            remedy="Wait until it has ended",
        ) from None
    try:
        yield
    finally:
        lock.release()
