"""What a person does on the pages of the UI, and how long to wait for what is then to be seen.

Belongs here: addresses, buttons and marks of Dagster's pages, and the pictures. Does not belong
here: what must be seen (the tests), or the processes behind it (``served.py``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.pipeline.browser.served import Served

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

# Three states take two minutes on two free cores, and ten times that beside other work.
SECONDS_TO_MAKE = 2400.0
# Until the words of a page are there: the first page waits for the code location.
SECONDS_TO_SEE = 300.0
_SECONDS_TO_SETTLE = 60.0
_BUSY = ("Loading", "Refreshing data", "fetching statuses")


@dataclass
class Browser:
    """A page of ``served`` in a browser; ``pictures``: folder of what was seen."""

    page: Page
    served: Served
    pictures: Path

    def open(self, path: str, *words: str) -> None:
        """Go to a page, and wait until these words stand on it."""
        self.page.goto(f"{self.served.url}/{path}")
        for word in words:
            self.sees(word)

    def sees(self, words: str | re.Pattern[str]) -> Locator:
        """Wait until these words are visible; where they stand."""
        where = self.page.get_by_text(words).filter(visible=True).first
        where.wait_for()
        return where

    def says(self) -> str:
        """All words that the page shows now."""
        return self.page.locator("body").inner_text()

    def until(
        self, holds: Callable[[], object], what: str, seconds: float = SECONDS_TO_SEE
    ) -> None:
        """Look every half second, the page living on meanwhile, until something holds."""
        end = time.monotonic() + seconds
        while not holds():
            if time.monotonic() > end:
                raise AssertionError(f"No {what} after {seconds:.0f} s:\n{self.says()[-3000:]}")
            self.page.wait_for_timeout(500)

    def picture(self, name: str) -> None:
        """Keep what is seen, after a minute at most also of a page that still waits for answers."""
        end = time.monotonic() + _SECONDS_TO_SETTLE
        while any(word in self.says() for word in _BUSY) and time.monotonic() < end:
            self.page.wait_for_timeout(500)
        self.page.screenshot(path=self.pictures / f"{name}.png")

    def materialize(self, path: str, states: tuple[str, ...], picture: str) -> None:
        """*Materialize all* on a page with a graph, for these partitions."""
        self.open(path)
        self.page.get_by_role("button", name="Materialize all").click()
        dialog = self.page.get_by_role("dialog").first
        dialog.get_by_text("Select a partition").click()
        for state in states:
            named = self.page.get_by_text(state, exact=True)
            self.page.get_by_role("menuitem").filter(has=named).click()
        # Closes the list of partitions, not the dialog.
        self.page.keyboard.press("Escape")
        self.sees("1 partition" if len(states) == 1 else f"{len(states)} partitions")
        self.picture(picture)
        dialog.get_by_role("button", name=re.compile("^Launch")).click()
        dialog.wait_for(state="hidden")

    def linked(self, pattern: str) -> list[str]:
        """Addresses on this page that match, once there is one; in its order, each once."""
        script = "links => links.map(link => link.getAttribute('href'))"

        def found() -> list[str]:
            every = self.page.locator("a[href]").evaluate_all(script)
            return [
                re.sub(r"\?.*", "", each).strip("/") for each in every if re.search(pattern, each)
            ]

        self.until(found, f"link like {pattern}")
        return list(dict.fromkeys(found()))

    def runs(self, path: str = "runs") -> list[str]:
        """Pages of the runs that a list shows, the newest first."""
        self.open(path)
        return self.linked(r"^/runs/[0-9a-f]{8}-[0-9a-f-]{27}")

    def newest_backfill(self) -> str:
        """Page of the newest backfill."""
        self.open("runs?view=backfills")
        return self.linked(r"^/runs/b/\w+")[0]

    def ended(self, run: str) -> str:
        """Watch the page of a run until it has ended: what the page then says."""
        self.open(run)
        ends = re.compile(r"^(Success|Failure|Canceled)$", re.MULTILINE)
        self.until(lambda: ends.search(self.says()), "end of the run", SECONDS_TO_MAKE)
        return ends.findall(self.says())[0]
