"""The tables of the bystander benchmark: cells, counts, profiles."""

import io

import polars as pl
import pytest
from rich.console import Console

from benchmarks import bystanders
from pipeline.reports.bystander_schema import BYSTANDER_SCHEMA
from pipeline.specs.catalog import load_catalog


def figure(domain: str, moved: float | None, status: str, bent: str | None, official=None) -> dict:
    named = {"heading": "Employment and hours", "variable": "persons", "domain": domain}
    named |= {"label": domain, "unit": "persons"}
    numbers = {"survey": 100.0, "standard_error": 2.0, "dense": 100.0 + 2.0 * (moved or 0.0)}
    moves = {"moved_dense": moved, "beyond_dense": moved, "beyond_selected": moved}
    return named | numbers | moves | {"status": status, "bent": bent, "official": official}


REPORT = pl.DataFrame(
    [
        figure("employed", 3.0, "told", None, 106.0),
        figure("unemployed", -4.0, "untold", "calibration"),
        figure("employed_female", 1.0, "observed", "", 51.0),
        figure("hours_35_plus", None, "not_measured", None),
    ],
    schema=BYSTANDER_SCHEMA,
)


def test_a_cell_says_how_far_and_what_kind():
    told, untold, observed, absent = REPORT.to_dicts()
    cells = [bystanders.cell(row) for row in (told, untold, observed, absent, None)]
    assert cells == ["+3.0t", "-4.0!", "+1.0o", "-", ""]


def test_counts_are_of_judged_figures():
    found = bystanders.figures(REPORT)
    assert (found["judged"], found["bent"], found["worst beyond"]) == (2, 1, 4.0)
    assert found["root mean square beyond"] == pytest.approx((17 / 2) ** 0.5)
    assert bystanders.figures(REPORT.clear())["worst beyond"] == 0.0


def test_tables_have_a_column_per_state_and_official_figures_where_there_are_any():
    catalog, console = load_catalog(), Console(file=io.StringIO(), width=140)
    reports = {"RI": REPORT, "VT": REPORT.clear()}
    console.print(bystanders.moves_table(reports, catalog))
    console.print(bystanders.official_table(reports, catalog))
    text = console.file.getvalue()
    assert "-4.0!" in text and "judged" in text
    assert "+0.0t" in text and "+100.0o" in text
    assert bystanders.markdown(REPORT).count("\n") == 4


def test_a_state_runs_under_the_first_profile_that_has_it():
    catalog = load_catalog()
    profiles = ("rhode_island", "counties_2018")
    assert bystanders.profile_of(catalog, "RI", profiles) == "rhode_island"
    assert bystanders.profile_of(catalog, "VT", profiles) == "counties_2018"
    with pytest.raises(SystemExit, match="has the state CA"):
        bystanders.profile_of(catalog, "CA", profiles)
