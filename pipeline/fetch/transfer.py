"""One file over HTTP: attempts, waits, continuing what broke off, and what an answer means.

Belongs here: the request and its answer (RFC 9110), until the file lies whole in a partial file.
Does not belong here: whether it takes its place (``fetching.py``), what it must contain
(``content.py``), or keys and proxies (``network.py``).

A file that breaks off is continued by Range and If-Range where the publisher gives an ETag or a
date; else it begins anew. A file that is there is asked for by If-None-Match and If-Modified-Since.
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import httpx
import tenacity

from pipeline.errors import DownloadError, DownloadRefusedError
from pipeline.fetch.content import Fault
from pipeline.fetch.network import Network
from pipeline.fetch.record import Stamp
from pipeline.fetch.wanted import BROWSER
from pipeline.specs.download import Download

# Persons only (401, 403), not in this form (406), withheld by law (451); a proxy's 407 is its own.
REFUSED = frozenset({401, 403, 406, 451})
GONE = frozenset({404, 410})
# Not now: too slow, too many requests, or a fault of the server that may pass.
NOT_NOW = frozenset({408, 425, 429, 500, 502, 503, 504})
_PAGES = ("text/html", "application/xhtml+xml")


class Watch(Protocol):
    """Who is told how a download goes."""

    def moved(self, have: int, total: int | None) -> None:
        """``have`` bytes are there, of ``total`` where that is known."""

    def waits(self, why: str, seconds: float) -> None:
        """The next attempt comes in ``seconds``."""


class NotThereError(DownloadError):
    """There is no file at the address (404, 410)."""


class _AgainError(Exception):
    """An attempt that failed in a way that may pass. ``gained``: bytes that it brought."""

    def __init__(self, words: str, *, gained: int = 0, after: float | None = None) -> None:
        super().__init__(words)
        self.gained, self.after = gained, after


@dataclass(frozen=True)
class Asked:
    """One file to bring. ``part``: where bytes gather; ``held``: what the publisher said of the
    file that is there, None to have it whatever happens; ``begun``: of the partial one. ``begin``
    is called before bytes come, ``fault_of`` when all are there. ``about``: the publisher's page.
    """

    address: str
    about: str
    part: Path
    held: Stamp | None
    begun: Stamp | None
    begin: Callable[[Stamp], None]
    fault_of: Callable[[Path], Fault | None]
    watch: Watch


@dataclass
class Transfer:
    """Requests to publishers, one after the other, with a pause between two to one host."""

    network: Network
    settings: Download
    client: httpx.Client
    sleep: Callable[[float], Any] = time.sleep
    _last: dict[str, float] = field(default_factory=dict)

    def bring(self, asked: Asked) -> Stamp | None:
        """Bring a file into ``asked.part``, whole and without fault; None where the publisher has
        no other than is there.

        Raises NotThereError, DownloadRefusedError, and DownloadError for all else.
        """
        attempts = _Attempts(self.settings, asked.watch)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_AgainError),
            stop=attempts.enough,
            wait=attempts.wait,
            sleep=self.sleep,
            reraise=True,
        )
        begun = [asked.begun]
        try:
            return retrying(self._attempt, asked, begun)
        except _AgainError as error:
            raise DownloadError(
                f"The file did not come: {error}",
                where=asked.address,
                expected="the whole file",
                remedy=attempts.remedy(),
            ) from None

    def _attempt(self, asked: Asked, begun: list[Stamp | None]) -> Stamp | None:
        """One request; ``begun`` holds the stamp of what is in the partial file, and is kept so."""
        have = asked.part.stat().st_size if asked.part.exists() else 0
        known = begun[0]
        if not (have and known and known.address == asked.address and known.resumable):
            have, known = 0, None
        headers = _range(have, known) if known else _condition(asked.held)
        self._pause(asked.address)
        route = self.network.route(asked.address)
        extensions = {"asked_by": urlsplit(route).scheme}
        with (
            self._in_words(asked, have),
            self.client.stream("GET", route, headers=headers, extensions=extensions) as answer,
        ):
            if answer.status_code == 304 and asked.held is not None:
                return None
            self._refuse(asked, answer)
            start = self._start(asked, answer, have, known)
            stamp = _stamp(asked.address, answer, start)
            begun[0] = stamp
            asked.begin(stamp)
            self._write(asked, answer, start, stamp)
        self._judge(asked, stamp)
        return stamp

    def _start(self, asked: Asked, answer: httpx.Response, have: int, known: Stamp | None) -> int:
        """At which byte the answer begins: 0, or where the partial file ends."""
        if answer.status_code != 206:
            return 0
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", answer.headers.get("Content-Range", ""))
        same = known is not None and answer.headers.get("ETag", known.etag) == known.etag
        if not found or int(found[1]) != have or not same:
            asked.part.unlink(missing_ok=True)
            raise _AgainError("the server continues another file than the one begun")
        return have

    def _write(self, asked: Asked, answer: httpx.Response, start: int, stamp: Stamp) -> None:
        have = start
        with asked.part.open("r+b" if start else "wb") as file:
            file.seek(start)
            for block in answer.iter_bytes():
                file.write(block)
                have += len(block)
                asked.watch.moved(have, stamp.bytes)
        if stamp.bytes is not None and have != stamp.bytes:
            asked.part.unlink()
            raise _AgainError(f"{have:,} bytes came, and {stamp.bytes:,} were announced")

    def _judge(self, asked: Asked, stamp: Stamp) -> None:
        fault = asked.fault_of(asked.part)
        if fault is None:
            return
        asked.part.unlink()
        if fault.kind == "page":
            raise self._refused(asked.address, f"The publisher answers, but {fault.words}")
        if fault.kind == "cut":
            raise _AgainError(fault.words)
        raise DownloadError(
            f"What came is not the file: {fault.words}",
            where=asked.address,
            expected="the file as published",
            remedy=(
                "Open the address in a browser and look what it gives; if the publisher has moved"
                " the file, correct `url` in the source's YAML"
            ),
        )

    def _refuse(self, asked: Asked, answer: httpx.Response) -> None:
        """Raise for every answer that is not the file."""
        status, kind = answer.status_code, answer.headers.get("Content-Type", "").split(";")[0]
        via = self._redirected(asked.address, answer)
        if status in REFUSED:
            raise self._refused(asked.address, f"The publisher refuses programs ({status}{via})")
        if status in GONE:
            raise NotThereError(
                f"There is no file at the address ({status}{via})",
                where=asked.address,
                expected="the file as published",
                remedy=(
                    f"Look at {asked.about} whether this vintage is out and how its file is called;"
                    " correct `url` in the source's YAML"
                ),
            )
        if status in NOT_NOW:
            raise self._not_now(asked, answer)
        if status == 416:
            asked.part.unlink(missing_ok=True)
            raise _AgainError("the server has no more bytes than were there (416)")
        if status not in (200, 206):
            raise self._other(asked, answer, via)
        if kind.strip().lower() in _PAGES:
            words = f"The publisher answers with a web page instead of the file{via}"
            raise self._refused(asked.address, words)

    def _not_now(self, asked: Asked, answer: httpx.Response) -> Exception:
        status, after = answer.status_code, _retry_after(answer.headers)
        if after is not None and after > self.settings.longest_retry_after_seconds:
            return DownloadError(
                f"The publisher asks to come back in {after:,.0f} s ({status})",
                where=asked.address,
                expected=f"an answer within {self.settings.longest_retry_after_seconds:,.0f} s",
                remedy="Run `geocal fetch` again then; what is there is not asked for again",
            )
        return _AgainError(f"the server says not now ({status})", after=after)

    def _other(self, asked: Asked, answer: httpx.Response, via: str) -> DownloadError:
        # The Census API says in a line of text what it does not like about a request.
        said = self.network.hide(answer.read()[:200].decode("utf-8", errors="replace")).strip()
        said = f": {said}" if said and not said.startswith("<") else ""
        return DownloadError(
            f"The publisher answers {answer.status_code}{via}{said}",
            where=asked.address,
            expected="the file (200)",
            remedy="Open the address in a browser; if it is wrong, correct it in the source's YAML",
        )

    def _refused(self, address: str, words: str) -> DownloadRefusedError:
        rule = self.network.rule(address)
        remedy = BROWSER
        if rule is not None:
            remedy = (
                f"Correct the key in {rule.key_variable}, or with a browser"
                if self.network.has_key(address)
                else f"Set {rule.key_variable} to a key, free at {rule.key_from}, or with a browser"
            )
        return DownloadRefusedError(words, where=address, expected="the file", remedy=remedy)

    def _redirected(self, address: str, answer: httpx.Response) -> str:
        """Where the publisher sent the request on, without what may follow the path."""
        if not answer.history:
            return ""
        return self.network.hide(f", after it was sent on to {answer.url.copy_with(query=None)}")

    def _pause(self, address: str) -> None:
        host = urlsplit(address).netloc
        since = time.monotonic() - self._last.get(host, float("-inf"))
        if since < self.settings.pause_seconds:
            self.sleep(self.settings.pause_seconds - since)
        self._last[host] = time.monotonic()

    @contextmanager
    def _in_words(self, asked: Asked, have: int) -> Any:
        """Errors of the connection as ours; no library's words with a key in them get out."""
        try:
            yield
        except httpx.ProxyError as error:
            raise self._no_way(asked, f"The proxy refuses: {error}", "HTTPS_PROXY") from None
        except httpx.TooManyRedirects:
            words = f"The publisher sends the request on more than {self.settings.redirects} times"
            raise self._no_way(asked, words, "`url` in the source's YAML") from None
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            words = f"The address cannot be asked for: {error}"
            raise self._no_way(asked, words, "`url` in the source's YAML") from None
        except (httpx.TransportError, httpx.DecodingError) as error:
            said = self.network.hide(str(error)) or type(error).__name__
            if "CERTIFICATE" in said:
                raise self._no_way(asked, said, "SSL_CERT_FILE") from None
            there = asked.part.stat().st_size if asked.part.exists() else 0
            raise _AgainError(_broken(error, said, there), gained=there - have) from None

    def _no_way(self, asked: Asked, words: str, where: str) -> DownloadError:
        return DownloadError(
            self.network.hide(words),
            where=asked.address,
            expected="a connection to the publisher",
            remedy=f"Look at {where}, then run `geocal fetch` again",
        )


class _Attempts:
    """When to try again, and when that is enough."""

    def __init__(self, settings: Download, watch: Watch) -> None:
        self._settings, self._watch = settings, watch
        self._fruitless = 0
        self._gained = False

    def enough(self, state: tenacity.RetryCallState) -> bool:
        error = state.outcome.exception() if state.outcome else None
        gained = getattr(error, "gained", 0) > 0
        self._gained |= gained
        self._fruitless = 1 if gained else self._fruitless + 1
        return self._fruitless >= self._settings.attempts

    def wait(self, state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        seconds = getattr(error, "after", None)
        if seconds is None:
            seconds = self._settings.first_wait_seconds * 2 ** (self._fruitless - 1)
            seconds = min(seconds, self._settings.longest_wait_seconds) * random.uniform(0.75, 1.25)
        self._watch.waits(str(error), seconds)
        return seconds

    def remedy(self) -> str:
        kept = "; it goes on where it broke off" if self._gained else ""
        return f"Look at the connection, and run `geocal fetch` again{kept}"


def _broken(error: Exception, said: str, there: int) -> str:
    if isinstance(error, httpx.ConnectTimeout | httpx.ConnectError):
        return f"no connection ({said})"
    if isinstance(error, httpx.TimeoutException):
        return f"the server fell silent when {there:,} bytes were there"
    # The words of the library are those of its counting: "peer closed connection without ...".
    why = "" if isinstance(error, httpx.RemoteProtocolError) else f" ({said})"
    return f"the connection broke off when {there:,} bytes were there{why}"


def _range(have: int, known: Stamp) -> dict[str, str]:
    return {"Range": f"bytes={have}-", "If-Range": known.resumable}


def _condition(held: Stamp | None) -> dict[str, str]:
    if held is None:
        return {}
    asked = {"If-None-Match": held.etag, "If-Modified-Since": held.last_modified}
    return {name: value for name, value in asked.items() if value}


def _stamp(address: str, answer: httpx.Response, start: int) -> Stamp:
    headers = answer.headers
    length = headers.get("Content-Length", "")
    coded = headers.get("Content-Encoding", "identity") != "identity"
    return Stamp(
        address=address,
        # What is packed on the way cannot be continued, so nothing marks the place.
        etag="" if coded else headers.get("ETag", ""),
        last_modified="" if coded else headers.get("Last-Modified", ""),
        bytes=int(length) + start if length.isdigit() and not coded else None,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the publisher asks to wait: a number, or a date (RFC 9110, 10.2.3)."""
    said = headers.get("Retry-After", "").strip()
    if said.isdigit():
        return float(said)
    try:
        date = parsedate_to_datetime(said)
    except ValueError:
        return None
    moment = date if date.tzinfo else date.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
