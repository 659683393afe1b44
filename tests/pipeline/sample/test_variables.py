"""The specs' variables, counted on the truth, against the published targets: two independent
definitions of every column must agree.

A wrong code list, a wrong universe or a shifted column number on either side shows here as a target
many errors away from the truth.
"""

import numpy as np
import polars as pl
import pytest

from pipeline.records.expressions import measure
from pipeline.records.units import build_units
from pipeline.sample.generate import read_truth
from pipeline.sources.registry import read_source
from pipeline.specs.catalog import load_catalog
from pipeline.targets.build import build_targets

MICRODATA = ("acs_pums_1yr", "cps_asec", "tract_puma")


@pytest.fixture(scope="module")
def compared(folder):
    """Targets with the truth beside them: level, geoid, source, variable, domain, published_value,
    standard_error, truth.
    """
    catalog = load_catalog()
    profile = catalog.profile("sample")
    wanted = [
        (source, vintage)
        for source, vintages in profile.sources.items()
        for vintage in vintages
        if source not in MICRODATA
    ]
    tables = {
        (s, v): read_source(catalog.sources[s], v, folder, ["RI", "DE"]).frame for s, v in wanted
    }
    targets = build_targets(catalog, profile, tables, ["state", "county", "tract"]).frame
    truth = read_truth(folder)
    units = build_units(truth.persons, truth.households)
    keys = set(targets.select("variable", "domain").unique().rows())
    variables = [v for v in catalog.variables.values() if v.key in keys and v.expressible]
    measured = measure(
        {"persons": units.persons, "households": units.households, "tax_units": truth.tax_units},
        variables,
        truth.households["household_id"],
    )
    assert measured.inexpressible == ()
    rows = []
    for level, column in (("state", "state_fips"), ("county", "county_fips"), ("tract", "tract")):
        areas, index = np.unique(truth.households[column].to_numpy(), return_inverse=True)
        for j, (variable, domain) in enumerate(measured.expressible):
            totals = np.bincount(index, weights=measured.matrix[:, j])
            rows += [
                (level, str(a), variable, domain, float(t))
                for a, t in zip(areas, totals, strict=True)
            ]
    known = pl.DataFrame(
        rows, schema=["level", "geoid", "variable", "domain", "truth"], orient="row"
    )
    return targets.filter(pl.col("published_value").is_not_null()).join(
        known, on=["level", "geoid", "variable", "domain"]
    )


def _off(frame: pl.DataFrame, errors: float, share: float) -> list[tuple]:
    """Targets further from the truth than ``errors`` standard errors and ``share`` of it."""
    gap = (pl.col("published_value") - pl.col("truth")).abs()
    return (
        frame.filter((gap > errors * pl.col("standard_error")) & (gap > share * pl.col("truth")))
        .select("level", "geoid", "variable", "domain", "published_value", "truth")
        .rows()
    )


def test_state_tables_are_within_sampling_error_of_the_truth(compared):
    frame = compared.filter(
        (pl.col("level") == "state")
        & (pl.col("source") == "acs1_detailed")
        & (pl.col("truth") >= 100)
    )
    assert frame.height > 200
    assert _off(frame, 4.5, 0.0) == []


def test_state_returns_are_within_rounding_of_the_truth(compared):
    counted = pl.col("variable").is_in(["returns", "individuals"]) & (pl.col("truth") >= 300) | (
        pl.col("truth") >= 5e6
    )
    frame = compared.filter(
        (pl.col("level") == "state") & (pl.col("source") == "irs_historic_table_2") & counted
    )
    assert frame.height > 70
    assert _off(frame, 0.0, 0.015) == []


def test_county_tables_are_near_the_truth(compared):
    frame = compared.filter((pl.col("level") == "county") & (pl.col("truth") >= 300))
    assert frame.height > 150
    assert _off(frame, 5.0, 0.06) == []


def test_tract_tables_are_near_the_truth(compared):
    frame = compared.filter((pl.col("level") == "tract") & (pl.col("truth") >= 100))
    assert frame.height > 1500
    # Errors are estimated from the sample, so an estimate that came out low has too small an error:
    # a few of thousands are beyond 4.
    assert len(_off(frame, 4.0, 0.08)) <= 0.004 * frame.height
    assert _off(frame, 6.0, 0.08) == []
    ratio = (
        frame.group_by("variable", "domain")
        .agg((pl.col("published_value").sum() / pl.col("truth").sum()).alias("r"), pl.len())
        .filter(pl.col("len") >= 30)
    )
    assert ratio.height >= 20
    assert ratio.filter((pl.col("r") - 1).abs() > 0.06).rows() == []
