"""The nation is the sum of its states, and only of all of them."""

import polars as pl

from pipeline.reports.national import national_fits


def targets() -> pl.DataFrame:
    rows = [
        ("nation", "", "persons", "total", 30.0),
        ("state", "10", "persons", "total", 10.0),
        ("state", "44", "persons", "total", 20.0),
    ]
    rows += [
        ("nation", "", "persons", "poor", 3.0),
        ("state", "10", "persons", "poor", 1.0),
        ("state", "44", "persons", "poor", 2.0),
    ]
    frame = pl.DataFrame(
        rows, schema=["level", "geoid", "variable", "domain", "value"], orient="row"
    )
    return frame.with_columns(role=pl.lit("calibrate"), reason=pl.lit(""))


def fit(fips: str, total: float, poor: float | None) -> pl.DataFrame:
    rows = [
        ("state", fips, "persons", "total", total, total + 1),
        ("state", fips, "persons", "poor", poor, poor),
        ("county", fips + "001", "persons", "total", 9.0, 9.0),
    ]
    schema = {
        "level": pl.String,
        "geoid": pl.String,
        "variable": pl.String,
        "domain": pl.String,
        "fitted": pl.Float64,
        "fitted_dense": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_all_states_add_up():
    result = national_fits(targets(), {"44": fit("44", 21.0, 2.0), "10": fit("10", 10.0, 1.0)})
    total = result.filter(pl.col("domain") == "total").row(0, named=True)
    assert (total["fitted"], total["fitted_dense"], total["not_fitted_reason"]) == (31.0, 33.0, "")


def test_a_partial_sum_is_no_fit_and_says_so():
    one = national_fits(targets(), {"44": fit("44", 21.0, 2.0)})
    assert one["fitted"].null_count() == one.height
    assert set(one["not_fitted_reason"]) == {
        "the nation is reached through its states: 1 of 2 have weights that fit it"
    }
    without_poor = national_fits(
        targets(), {"44": fit("44", 21.0, None), "10": fit("10", 10.0, 1.0)}
    )
    assert without_poor.filter(pl.col("domain") == "poor")["fitted"][0] is None
    assert without_poor.filter(pl.col("domain") == "total")["fitted"][0] == 31.0
    assert national_fits(targets(), {})["fitted"].null_count() == 2
