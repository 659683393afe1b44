"""A browser before a running UI, where there is one to be had.

Belongs here: what is looked for and who starts it. Does not belong here: what is done and seen.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.pipeline.browser import served as ui
from tests.pipeline.browser.pages import SECONDS_TO_SEE, Browser

CHROMIUM_VARIABLE = "GEOCAL_CHROMIUM"
SCREENSHOTS_VARIABLE = "GEOCAL_SCREENSHOTS"
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# No sandbox: it cannot be had in many containers, and only our own pages are opened.
_ARGUMENTS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium or Chrome; without one, or without Playwright, the test is skipped."""
    pytest.importorskip(
        "playwright.sync_api", reason="Playwright is not installed (the extra `browser`)"
    )
    named = os.environ.get(CHROMIUM_VARIABLE)
    for program in (named,) if named else _PROGRAMS:
        if found := shutil.which(program):
            return found
    asked = named or ", ".join(_PROGRAMS)
    pytest.skip(f"no browser: {asked} not found (set {CHROMIUM_VARIABLE} to a Chromium)")


@pytest.fixture(scope="module")
def browser(chromium, tmp_path_factory) -> Iterator[Browser]:
    """One page, and the UI of three states behind it, for all tests of a module."""
    from playwright.sync_api import sync_playwright

    folder = tmp_path_factory.mktemp("browser")
    pictures = Path(os.environ.get(SCREENSHOTS_VARIABLE) or folder / "screenshots")
    pictures.mkdir(parents=True, exist_ok=True)
    with ui.serving(folder) as served, sync_playwright() as playwright:
        program = playwright.chromium.launch(executable_path=chromium, args=list(_ARGUMENTS))
        page = program.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(1000 * SECONDS_TO_SEE)
        try:
            yield Browser(page, served, pictures)
        finally:
            program.close()
