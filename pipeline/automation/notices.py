"""What is told of runs that ended: a plain summary, and where it goes.

Belongs here: the words, the file they are written to, and the webhook. Does not belong here: which
runs there are (``summaries.py``).

``GEOCAL_WEBHOOK_URL`` names an address that gets each summary as JSON with one key ``text``, which
is what chat programs take. Such an address is a secret: nothing here shows more of it than its
host, nor passes on an error's own words, which hold the address.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import requests

from pipeline.automation.progress import Progress
from pipeline.errors import DeliveryError

WEBHOOK_VARIABLE = "GEOCAL_WEBHOOK_URL"
FOLDER, FILE = "notices", "notices.log"
_SECONDS_TO_ANSWER = 10


@dataclass(frozen=True)
class Notice:
    """Something that is told. ``headline``: one line; ``lines``: more of it; ``calls``: whether a
    person should hear of it at once, by webhook, and not only find it in the file.
    """

    headline: str
    lines: tuple[str, ...] = ()
    calls: bool = False

    @property
    def text(self) -> str:
        return "\n".join([self.headline, *(f"  {line}" for line in self.lines)])


def of_production(
    profile: str, progress: Progress, failures: Mapping[str, Iterable[str]], seconds: float | None
) -> Notice:
    """The end of a production run; ``failures``: what failed, by state or ``nation``; ``seconds``:
    from its first run to its last."""
    total = len(progress.made) + len(progress.failed) + len(progress.canceled)
    took = "" if seconds is None else f" in {seconds / 60:,.1f} minutes"
    tables = {
        "made": "made from them" if progress.made else "made",
        "failed": "FAILED",
        "canceled": "cancelled",
        None: "not made, since no state was",
    }[progress.national if progress.national != "waiting" else None]
    word = "ended clean" if progress.clean else "ended with faults"
    named = (("failed", progress.failed), ("cancelled", progress.canceled))
    lines = [
        f"states made: {len(progress.made)} of {total}{took}",
        *(f"{what}: {', '.join(states)}" for what, states in named if states),
        f"national tables: {tables}",
        *(f"{place}: {text}" for place, texts in sorted(failures.items()) for text in texts),
    ]
    return Notice(f"Production run {progress.origin} of {profile} {word}", tuple(lines), calls=True)


def append_to_file(folder: Path, notice: Notice, when: datetime) -> Path:
    """Add the notice with its time to ``notices.log`` in ``folder``; returns the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / FILE
    stamp = when.isoformat(timespec="seconds")
    with file.open("a", encoding="utf-8") as log:
        log.write(f"{stamp} {notice.text}\n")
    return file


def webhook(environ: Mapping[str, str] | None = None) -> str | None:
    """The address that notices go to, or None."""
    return (os.environ if environ is None else environ).get(WEBHOOK_VARIABLE, "").strip() or None


def redacted(url: str) -> str:
    """An address as it may be shown: the host alone."""
    host = urlsplit(url).hostname
    return f"the webhook at {host}" if host else "the webhook"


def deliver(url: str, notice: Notice) -> None:
    """Send the notice once. Raises DeliveryError, which does not hold the address."""
    if urlsplit(url).scheme not in {"http", "https"}:
        raise DeliveryError(
            f"{WEBHOOK_VARIABLE} is not the address of a webhook",
            where=WEBHOOK_VARIABLE,
            expected="an address that begins with https:// or http://",
            remedy="Set it to the address that the receiving program gives, or unset it",
        )
    try:
        answer = requests.post(url, json={"text": notice.text}, timeout=_SECONDS_TO_ANSWER)
        found = f"the answer {answer.status_code}" if not answer.ok else ""
    except requests.RequestException as error:
        found = type(error).__name__
    if found:
        # The cause holds the address: it is neither kept nor chained.
        raise DeliveryError(
            f"A notice could not be delivered ({found})",
            where=redacted(url),
            expected="an answer of 200 to 299 within ten seconds",
            remedy=f"Check {WEBHOOK_VARIABLE}; the notice stands in {FOLDER}/{FILE} in any case",
        ) from None
