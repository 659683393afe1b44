"""The UI as a person uses it: the graph, a backfill of three states, one state's page, a state that
fails, and its rerun.

Belongs here: what must be seen on the way. Does not belong here: how it is clicked (``pages.py``).
Each stage is a fixture that needs the one before, so that any test may run alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import pytest

from tests.pipeline.browser.pages import SECONDS_TO_MAKE, Browser
from tests.pipeline.browser.served import OWNER, STATES

pytestmark = pytest.mark.timeout(2 * SECONDS_TO_MAKE)

FAILS = "RI"
OTHERS = tuple(state for state in STATES if state != FAILS)
GROUPS = ("raw_files", "sources", "targets", "candidates", "weights", "reports")
STATE_JOB = "locations/geocal/jobs/states"
# What a server in trouble sends in place of the file.
_NO_ARCHIVE = b"<html>Service unavailable</html>"


@dataclass(frozen=True)
class Ended:
    """A run or backfill, as the UI shows it. ``page``: its address; ``status``: what it says;
    ``tables``: digests of all states' tables afterwards."""

    page: str
    status: str
    tables: dict[str, str]


def status_of_backfill(browser: Browser) -> str:
    """The word below *Status*; empty while the page has none."""
    said = re.search(r"^Status\n+(.+)$", browser.says(), re.MULTILINE)
    return said[1] if said else ""


@pytest.fixture(scope="module")
def backfilled(browser) -> Ended:
    """All assets of three states, chosen and launched in the UI, and watched to the end."""
    browser.materialize("asset-groups", STATES, "3_backfill_chosen")
    page = browser.newest_backfill()
    browser.open(page)
    browser.until(lambda: status_of_backfill(browser) == "In progress", "backfill in progress")
    browser.picture("4_backfill_in_progress")
    going_on = ("", "Requested", "In progress")
    browser.until(
        lambda: status_of_backfill(browser) not in going_on, "end of the backfill", SECONDS_TO_MAKE
    )
    browser.picture("5_backfill_ended")
    return Ended(page, status_of_backfill(browser), browser.served.digests(*STATES))


@pytest.fixture(scope="module")
def failed(browser, backfilled) -> Ended:
    """One state whose microdata are no archive, launched in the UI; they are put back after it."""
    raw = browser.served.microdata(FAILS)
    published = raw.read_bytes()
    raw.write_bytes(_NO_ARCHIVE)
    try:
        browser.materialize(STATE_JOB, (FAILS,), "9_one_state_chosen")
        page = browser.runs()[0]
        status = browser.ended(page)
    finally:
        raw.write_bytes(published)
    browser.picture("10_failed_run")
    return Ended(page, status, browser.served.digests(*STATES))


@pytest.fixture(scope="module")
def rerun(browser, failed) -> Ended:
    """The failed run executed again from its page, the file being as published."""
    browser.open(failed.page)
    # From the failure on, or all of it: whichever the page offers first.
    browser.page.get_by_role("button", name=re.compile("^Re-execute")).first.click()
    browser.page.wait_for_url(lambda url: "/runs/" in url and failed.page not in url)
    page = browser.page.url.removeprefix(f"{browser.served.url}/").partition("?")[0]
    status = browser.ended(page)
    browser.picture("13_rerun")
    return Ended(page, status, browser.served.digests(*STATES))


def test_the_graph_shows_every_group(browser):
    browser.open("asset-groups", *GROUPS)
    browser.picture("1_groups")


def test_an_asset_says_what_it_is_whose_it_is_and_where_it_stands(browser):
    browser.open("assets/weights", "The product: household_id, tract, county, weight.")
    browser.sees("selected_pairs")
    browser.sees("fit_report")
    browser.picture("2_asset")
    said = browser.says()
    assert re.search(rf"^Owners\n+{OWNER}$", said, re.MULTILINE)
    assert "cost_centre: micro" in said


def test_a_backfill_of_three_states_ends_with_one_run_for_each(browser, backfilled):
    assert backfilled.status in ("Succeeded", "Completed")
    runs = browser.runs(f"{backfilled.page}?tab=runs")
    browser.sees(f"partition: {STATES[0]}")
    browser.picture("6_runs_of_the_backfill")
    said = browser.says()
    assert len(runs) == 2 + len(STATES), said  # national inputs, states, national tables
    for state in STATES:
        # Once as the run's tag, once as its target.
        assert len(re.findall(rf"^partition: {state}$", said, re.MULTILINE)) == 2
    assert len(re.findall(r"^Success$", said, re.MULTILINE)) == len(runs)


def test_a_partition_shows_its_fit_and_its_plot(browser, backfilled):
    browser.open(f"assets/weights?view=partitions&partition={FAILS}", "sum_of_weights")
    browser.sees("fit_by_level")
    browser.picture("7_partition")
    plot = browser.page.get_by_role("row").filter(has=browser.page.get_by_text("plot", exact=True))
    plot.get_by_text("Show Markdown").click()
    picture = browser.page.get_by_role("dialog").locator("img").first
    picture.wait_for()
    width = picture.evaluate("drawn => drawn.naturalWidth")
    browser.picture("8_plot")
    assert width > 100


def test_the_checks_of_a_state_are_shown(browser, backfilled):
    browser.open("assets/weights?view=checks", "The solver met its tolerance.")
    # The asset has a tab of this name, too; the check's comes after it.
    browser.page.get_by_role("tab", name="Partitions").last.click()
    browser.sees(f"Passed ({len(STATES)})")
    browser.page.get_by_text(FAILS, exact=True).filter(visible=True).last.click()
    browser.sees("Latest execution")
    browser.picture("8_checks_of_a_state")
    said = browser.says()
    assert re.search(r"^Passed$", said, re.MULTILINE)
    assert re.search(r"^status\s+converged$", said, re.MULTILINE)


def test_a_state_that_fails_says_what_was_found_and_where(browser, backfilled, failed):
    assert failed.status == "Failure"
    browser.open(failed.page)
    browser.sees("The file is a web page, not data (it begins with HTML).")
    said = browser.says()
    assert re.search(rf"Where: \S+/csv_p{FAILS.lower()}\.zip", said)
    assert "What to do: The server answered with an error or a log-in page" in said
    # Nothing of any state is another than before, the failed one's product among it.
    assert failed.tables == backfilled.tables


def test_other_states_stay_as_they_were_shown(browser, failed):
    browser.open(f"assets/microdata_persons?view=partitions&partition={FAILS}", "Failed (1)")
    browser.sees(f"Materialized ({len(OTHERS)})")
    browser.picture("12_failed_partition")


def test_the_rerun_succeeds_and_makes_the_same_tables(browser, backfilled, rerun):
    assert rerun.status == "Success"
    assert rerun.tables == backfilled.tables
    browser.open(f"assets/microdata_persons?view=partitions&partition={FAILS}", "Failed (0)")
    browser.sees(f"Materialized ({len(STATES)})")
    browser.picture("14_partition_after_rerun")
