"""Expressions of records against the tables made from the same answers, on real files.

A record's contribution to a same-concept target must mean what the table counts: households with
wage income are not households with earnings (4.6 %, 29 standard errors in Rhode Island).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline.records.assemble import assemble_records
from pipeline.records.design_totals import design_totals
from pipeline.sources.of_profile import read_survey, read_tables
from pipeline.specs.catalog import load_catalog
from pipeline.specs.states import state_of
from pipeline.steps import target_variables
from pipeline.targets.build import build_targets

# The public file is a subsample of the survey, drawn so that totals are near: of 142 cells the
# largest differences are 1.9 (RI) and 3.5 (VT) standard errors of the table.
LIMIT = 4.0
CONTROLLED_RELATIVE = 0.005
"""Hispanic persons are controlled in the table; records of RI miss them by 0.24 %."""


@pytest.mark.parametrize("postal", ["RI", "VT"])
def test_records_of_2018_say_what_the_state_tables_of_2018_say(postal: str, realdata: Path) -> None:
    catalog = load_catalog()
    profile = catalog.profile("counties_2018")
    wanted = tuple(
        name
        for name in profile.targets
        if catalog.targets[name].same_concept and catalog.targets[name].source == "acs1_detailed"
    )
    as_surveyed = profile.records.model_copy(update={"steps": ()})
    profile = profile.model_copy(update={"targets": wanted, "records": as_surveyed})
    tables = read_tables(catalog, profile, postal, realdata)
    published = build_targets(catalog, profile, tables, ["state"], state_of(postal).fips).frame
    survey = read_survey(profile, realdata, postal)
    records = assemble_records(catalog, profile, survey.persons, survey.households, None).tables
    totals, _ = design_totals(records, target_variables(catalog, profile))
    both = published.join(totals, on=["variable", "domain"]).filter("margin_published")
    assert both.height > 140
    difference, error = pl.col("total") - pl.col("value"), pl.col("margin_standard_error")
    off = both.with_columns(
        errors=pl.when(error > 0).then(difference / error).fill_null(0.0),
        relative=difference / pl.col("value"),
    )
    sampled = off.filter((error > 0) & (pl.col("errors").abs() > LIMIT))
    exact = off.filter((error == 0) & (pl.col("relative").abs() > CONTROLLED_RELATIVE))
    shown = ["variable", "domain", "value", "total", "errors"]
    assert sampled.is_empty(), sampled.select(shown)
    assert exact.is_empty(), exact.select(shown)
