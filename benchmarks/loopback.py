"""A publisher on 127.0.0.1 that answers as publishers do on bad days.

Belongs here: the server and its ways to answer. Does not belong here: which faults are tried and
what is said of them (``fetch_faults.py``, tests).

    with Publisher() as publisher:
        publisher.answers["/a.csv"] = [cut(FILE, 1000), whole(FILE)]

Each request of a path takes the next answer; the last one stays.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[["Handler"], None]


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A client that goes away is what is tried here."""


@dataclass(frozen=True)
class Served:
    """A file as a publisher has it; ``etag`` and ``date`` "" where it says nothing of them."""

    content: bytes
    etag: str = '"first"'
    date: str = "Tue, 03 Nov 2026 10:00:00 GMT"
    kind: str = "text/csv"
    ranges: bool = True

    def headers(self) -> dict[str, str]:
        named = {"ETag": self.etag, "Last-Modified": self.date, "Content-Type": self.kind}
        return {name: value for name, value in named.items() if value}


@dataclass
class Publisher:
    """The server. ``answers`` by path (with the query); ``asked``: path, and the headers of note of
    each request so far.
    """

    answers: dict[str, list[Answer]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    other: Answer | None = None

    def __enter__(self) -> Publisher:
        self._server = _Server(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.publisher = self  # type: ignore[attr-defined]
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.closing = threading.Event()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()


class Handler(BaseHTTPRequestHandler):
    """One request."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "Loopback", ""

    def do_GET(self) -> None:
        publisher: Publisher = self.server.publisher  # type: ignore[attr-defined]
        noted = ("Range", "If-Range", "If-None-Match", "If-Modified-Since", "User-Agent")
        publisher.asked.append(
            (self.path, {n: self.headers[n] for n in noted if n in self.headers})
        )
        queue = publisher.answers.get(self.path)
        answer = (queue.pop(0) if len(queue) > 1 else queue[0]) if queue else publisher.other
        with contextlib.suppress(ConnectionError):
            (answer or says(404))(self)

    def head(self, status: int, headers: dict[str, Any]) -> None:
        """Status line and headers, sent at once."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.flush()

    def rest(self, seconds: float) -> None:
        """Say nothing for so long, or until the publisher closes."""
        publisher: Publisher = self.server.publisher  # type: ignore[attr-defined]
        publisher.closing.wait(seconds)

    def hang_up(self) -> None:
        """End the connection without another word."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing on standard error."""


def _part(handler: Handler, served: Served) -> tuple[int, int, dict[str, str]] | None:
    """Status, first byte and headers of an answer to this request; None once 304 is sent."""
    headers = {**served.headers(), "Accept-Ranges": "bytes" if served.ranges else "none"}
    asked = handler.headers
    if asked.get("If-None-Match") == served.etag != "" or (
        "If-None-Match" not in asked and asked.get("If-Modified-Since") == served.date != ""
    ):
        handler.head(304, {**served.headers(), "Content-Length": 0})
        return None
    start = re.fullmatch(r"bytes=(\d+)-", asked.get("Range", ""))
    same = asked.get("If-Range", served.etag) in (served.etag, served.date)
    if not start or not served.ranges or not same:
        return 200, 0, headers
    first, total = int(start[1]), len(served.content)
    if first >= total:
        handler.head(416, {"Content-Range": f"bytes */{total}", "Content-Length": 0})
        return None
    return 206, first, headers | {"Content-Range": f"bytes {first}-{total - 1}/{total}"}


def _pieces(served: Served, start: int, end: int, pieces: int) -> Iterator[bytes]:
    size = max(1, -(-(end - start) // pieces))
    yield from (served.content[at : min(at + size, end)] for at in range(start, end, size))


def whole(served: Served, *, pieces: int = 1, pause: float = 0.0) -> Answer:
    """The file, or the rest of it; in so many ``pieces`` with a ``pause`` after each."""
    return _sent(served, None, pieces, pause)


def cut(served: Served, after: int, *, silent: float = 0.0) -> Answer:
    """``after`` more bytes of the file, then ``silent`` for so long, then the connection ends."""
    return _sent(served, after, 1, silent)


def _sent(served: Served, after: int | None, pieces: int, pause: float) -> Answer:
    def answer(handler: Handler) -> None:
        part = _part(handler, served)
        if part is None:
            return
        status, start, headers = part
        total = len(served.content)
        handler.head(status, {**headers, "Content-Length": total - start})
        end = total if after is None else min(start + after, total)
        for piece in _pieces(served, start, end, pieces):
            handler.wfile.write(piece)
            handler.wfile.flush()
            handler.rest(pause)
        if end < total:
            handler.hang_up()

    return answer


def unannounced(served: Served, after: int | None = None) -> Answer:
    """The file, or its first bytes, without a length: it ends where the connection does."""

    def answer(handler: Handler) -> None:
        handler.head(200, {**served.headers(), "Connection": "close"})
        handler.wfile.write(served.content[:after])
        handler.wfile.flush()
        handler.hang_up()

    return answer


def says(status: int, body: str = "", **headers: str) -> Answer:
    """A status with a few words; headers by name, with _ for -."""

    def answer(handler: Handler) -> None:
        content = body.encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        handler.head(status, {**named, "Content-Length": len(content)})
        handler.wfile.write(content)

    return answer


def in_seconds(seconds: float) -> str:
    """The date in so many seconds, as headers write it."""
    return time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + seconds))
