"""The published figures against the truth: errors as large as the margins say, levels that
disagree, concepts that differ.

Truth is counted here from the truth tables with polars, not with the generator's own counters.
"""

import io
import json
import zipfile

import numpy as np
import polars as pl
import pytest

from pipeline.sample.generate import read_truth
from pipeline.sample.pums import replicate_weights
from pipeline.sample.surveys import five_year_factor

TRACT_VARIABLES = {
    "DP05_0002": pl.col("sex") == "male",
    "DP05_0024": pl.col("age") >= 65,
    "DP05_0073": pl.col("hispanic"),
    "DP05_0038": pl.col("race") == "black",
    "DP02_0068": (pl.col("age") >= 25) & (pl.col("education") >= 21),
    "DP02_0072": pl.col("disability") & pl.col("civilian_noninstitutional"),
    "DP02_0056": pl.col("school") == "grades_1_8",
    "DP02_0082": pl.col("moved") == "different_house_us",
    "DP02_0095": pl.col("foreign_born"),
    "DP02_0114": pl.col("other_language"),
    "DP03_0004": pl.col("employment") == "employed",
    "DP03_0019": pl.col("commute") == "drove_alone",
    "DP03_0024": pl.col("commute") == "worked_home",
}
STATE_VARIABLES = {
    ("B01001", 2): pl.col("sex") == "male",
    ("B01001", 18): (pl.col("sex") == "male") & pl.col("age").is_between(60, 61),
    ("B01001", 44): (pl.col("sex") == "female") & pl.col("age").is_between(65, 66),
    ("B01001", 49): (pl.col("sex") == "female") & (pl.col("age") >= 85),
    ("B03002", 4): ~pl.col("hispanic") & (pl.col("race") == "black"),
    ("B03002", 12): pl.col("hispanic"),
    ("B15003", 22): (pl.col("age") >= 25) & (pl.col("education") == 21),
    ("B15003", 17): (pl.col("age") >= 25) & (pl.col("education") == 16),
    ("B17001", 2): pl.col("poverty_ratio") < 100,
}


@pytest.fixture(scope="module")
def truth(folder):
    return read_truth(folder)


@pytest.fixture(scope="module")
def tracts(folder):
    frames = []
    for state in ("ri", "de"):
        parts = []
        for part in ("pophousing", "socialecon"):
            rows = json.loads(
                (
                    folder / f"acs_tables/{state}_tracts/tracts_acs2022_{part}_retrieved_data.json"
                ).read_text()
            )
            parts.append(pl.DataFrame(rows[1:], schema=rows[0], orient="row"))
        frames.append(parts[0].join(parts[1].drop("NAME"), on="GEO_ID"))
    return pl.concat(frames).with_columns(pl.col("GEO_ID").str.slice(9).alias("tract"))


@pytest.fixture(scope="module")
def factor(population):
    return pl.DataFrame(
        {"tract": population.geography.tract, "factor": five_year_factor(population)}
    )


def _standardised(tracts, truth_by_tract, code, factor):
    cells = tracts.select(
        "tract",
        pl.col(f"{code}E").cast(float).alias("e"),
        pl.col(f"{code}M").cast(float).alias("m"),
    )
    joined = (
        cells.join(truth_by_tract, on="tract")
        .join(factor, on="tract")
        .with_columns((pl.col("true") * pl.col("factor")).alias("true"))
    )
    return (
        joined.filter((pl.col("true") >= 60) & (pl.col("m") > 0))
        .select((pl.col("e") - pl.col("true")) / (pl.col("m") / 1.645))
        .to_series()
        .to_numpy()
    )


def test_tract_estimates_err_as_much_as_their_margins_say(truth, tracts, factor):
    z = [
        _standardised(tracts, truth.persons.filter(c).group_by("tract").len("true"), code, factor)
        for code, c in TRACT_VARIABLES.items()
    ]
    homes = truth.households.filter(~pl.col("is_group_quarters"))
    z.append(_standardised(tracts, homes.group_by("tract").len("true"), "DP02_0001", factor))
    z.append(
        _standardised(
            tracts,
            homes.filter(pl.col("tenure") == "owner").group_by("tract").len("true"),
            "DP04_0046",
            factor,
        )
    )
    for values in z:
        assert len(values) > 5
    whole = np.concatenate(z)
    assert len(whole) > 450
    assert 0.8 < whole.std() < 1.2
    assert abs(whole.mean()) < 0.25
    assert 0.85 < (np.abs(whole) < 1.645).mean() < 0.96


def test_tract_margins_are_as_wide_as_real_ones(tracts, realdata):
    """Median margin over estimate within a third of Rhode Island's, whose tracts are three times as
    large.
    """
    rows = json.loads(
        (
            realdata / "acs_tables/ri_tracts/tracts_acs2022_pophousing_retrieved_data.json"
        ).read_text()
    )
    real = pl.DataFrame(rows[1:], schema=rows[0], orient="row")
    for code in ("DP05_0001", "DP05_0024", "DP04_0002", "DP04_0046"):
        relative = [
            frame.select(
                pl.col(f"{code}E").cast(float).alias("e"), pl.col(f"{code}M").cast(float).alias("m")
            )
            .filter((pl.col("e") > 0) & (pl.col("m") > 0))
            .select(pl.col("m") / pl.col("e"))
            .to_series()
            .median()
            for frame in (tracts, real)
        ]
        assert 0.6 < relative[0] / relative[1] < 1.5, (code, relative)


def test_state_estimates_err_as_much_as_their_margins_say(folder, truth):
    z = []
    for (table, number), condition in STATE_VARIABLES.items():
        frame = pl.read_csv(
            folder / f"acs_tables/state_us_2022_1yr/bystate/acs-acs1-2022-GROUP_{table}_DATA.csv",
            schema_overrides={"state": pl.String},
        )
        for row in frame.iter_rows(named=True):
            true = truth.persons.filter(condition & (pl.col("state_fips") == row["state"])).height
            z.append(
                (row[f"{table}_{number:03d}E"] - true) / (row[f"{table}_{number:03d}M"] / 1.645)
            )
    assert 0.5 < np.std(z) < 1.6
    assert np.abs(z).max() < 4


def test_margins_of_states_are_relatively_smaller_than_those_of_tracts(folder, tracts):
    state = pl.read_csv(
        folder / "acs_tables/state_us_2022_1yr/bystate/acs-acs1-2022-GROUP_B19001_DATA.csv"
    )
    share = (state["B19001_001M"] / state["B19001_001E"]).max()
    tract = (
        tracts.filter(pl.col("DP02_0001E") != "0")
        .select(pl.col("DP02_0001M").cast(float) / pl.col("DP02_0001E").cast(float))
        .to_series()
    )
    assert share < 0.25 * tract.median()


def test_levels_disagree_within_a_few_percent_and_outside_rounding(folder, tracts):
    by = (
        tracts.with_columns(pl.col("tract").str.slice(0, 5).alias("county"))
        .group_by("county")
        .agg(pl.col("DP02_0001E").cast(float).sum().alias("sum"))
        .sort("county")
    )
    s1901 = pl.read_csv(
        folder / "acs_tables/county_us/ACSST5Y2022.S1901-Data.csv",
        skip_rows_after_header=1,
        infer_schema=False,
    )
    county = s1901.select(
        pl.col("GEO_ID").str.slice(9).alias("county"),
        pl.col("S1901_C01_001E").cast(float).alias("published"),
        pl.col("S1901_C01_001M").cast(float).alias("margin"),
    )
    gap = (
        by.join(county, on="county")
        .with_columns((pl.col("sum") / pl.col("published") - 1).alias("gap"))["gap"]
        .abs()
    )
    assert (gap > 0.002).sum() >= 6
    assert gap.max() < 0.10
    state = pl.read_csv(
        folder / "acs_tables/state_us_2022_1yr/bystate/acs-acs1-2022-GROUP_B01001_DATA.csv",
        schema_overrides={"state": pl.String},
    )
    whole = (
        tracts.group_by(pl.col("tract").str.slice(0, 2).alias("state"))
        .agg(pl.col("DP05_0001E").cast(float).sum().alias("sum"))
        .join(state, on="state")
    )
    five_year = (whole["sum"] / whole["B01001_001E"] - 1).abs()
    assert (five_year > 0.003).all()
    assert (five_year < 0.04).all()


def test_the_one_year_population_is_the_official_estimate_and_that_of_the_microdata(folder):
    pep = pl.read_csv(
        folder / "pep/co-est2024-alldata.csv",
        encoding="latin-1",
        schema_overrides={"STATE": pl.String},
    ).filter(pl.col("SUMLEV") == 40)
    acs = pl.read_csv(
        folder / "acs_tables/state_us_2022_1yr/bystate/acs-acs1-2022-GROUP_B01001_DATA.csv",
        schema_overrides={"state": pl.String},
    )
    for postal, fips in (("ri", "44"), ("de", "10")):
        with zipfile.ZipFile(folder / f"acs_pums/2022_1yr/csv_p{postal}.zip") as archive:
            weights = pl.read_csv(io.BytesIO(archive.read(f"psam_p{fips}.csv")), columns=["PWGTP"])[
                "PWGTP"
            ]
        official = pep.filter(pl.col("STATE") == fips)["POPESTIMATE2022"][0]
        assert acs.filter(pl.col("state") == fips)["B01001_001E"][0] == official == weights.sum()


def test_microdata_estimate_the_truth_within_their_replicate_errors(folder, truth):
    z = []
    conditions = (
        (pl.col("AGEP") >= 65, pl.col("age") >= 65),
        (pl.col("ESR").is_in([1, 2]), pl.col("employment") == "employed"),
        (pl.col("HISP") > 1, pl.col("hispanic")),
    )
    conditions += (
        (pl.col("SCHL").fill_null(0) >= 21, pl.col("education") >= 21),
        (pl.col("DIS") == 1, pl.col("disability")),
        (pl.col("NATIVITY") == 2, pl.col("foreign_born")),
    )
    conditions += (
        (pl.col("SSP").fill_null(0) > 0, pl.col("social_security") > 0),
        (pl.col("JWRIP").fill_null(0) == 2, pl.col("commute") == "carpooled"),
    )
    for postal, fips in (("ri", "44"), ("de", "10")):
        with zipfile.ZipFile(folder / f"acs_pums/2022_1yr/csv_p{postal}.zip") as archive:
            frame = pl.read_csv(io.BytesIO(archive.read(f"psam_p{fips}.csv")))
        for coded, true in conditions:
            chosen = frame.filter(coded)
            estimate = chosen["PWGTP"].sum()
            deviations = np.array([chosen[f"PWGTP{r}"].sum() - estimate for r in range(1, 81)])
            error = np.sqrt(4 / 80 * np.sum(deviations**2))
            z.append(
                (estimate - truth.persons.filter(true & (pl.col("state_fips") == fips)).height)
                / error
            )
    assert 0.5 < np.std(z) < 1.5
    assert np.abs(z).max() < 3.5


def test_replicates_of_a_constant_weight_give_the_variance_of_independent_units():
    weight = np.full(4000, 100.0)
    replicates = replicate_weights(np.random.default_rng(1), weight)
    assert replicates.shape == (4000, 80)
    variance = 4 / 80 * np.sum((replicates.sum(axis=0) - weight.sum()) ** 2)
    single = 4 / 80 * np.sum((replicates[0] - 100.0) ** 2)
    assert single == pytest.approx(100.0**2, rel=0.35)
    assert 0.3 < variance / (4000 * 100.0**2) < 3


def test_irs_and_ssa_count_what_the_truth_holds_but_not_exactly(folder, truth):
    filed = truth.tax_units.filter("is_filer")
    county = pl.read_csv(
        folder / "irs/22incyallnoagi.csv",
        encoding="latin-1",
        schema_overrides={"STATEFIPS": pl.String, "COUNTYFIPS": pl.String},
    )
    county = county.filter(pl.col("COUNTYFIPS") != "000").select(
        (pl.col("STATEFIPS") + pl.col("COUNTYFIPS")).alias("county_fips"),
        "N1",
        "N2",
        "A00100",
        "A02500",
    )
    true = filed.group_by("county_fips").agg(
        pl.len().alias("n"),
        pl.col("individuals").sum(),
        pl.col("agi").sum(),
        pl.col("taxable_social_security").sum(),
    )
    both = county.join(true, on="county_fips")
    assert both.height == 8
    for published, exact, scale in (
        ("N1", "n", 1),
        ("N2", "individuals", 1),
        ("A00100", "agi", 1000),
        ("A02500", "taxable_social_security", 1000),
    ):
        gap = (scale * both[published] / both[exact] - 1).abs()
        assert gap.max() < 0.012
        assert gap.max() > 0
    # By residence the same returns fall differently: the filing address is a concept of its own.
    home = (
        filed.group_by(pl.col("tract").str.slice(0, 5).alias("county_fips"))
        .len("home")
        .join(true, on="county_fips")
    )
    assert ((home["home"] / home["n"] - 1).abs() > 0.002).any()


def test_ssa_counts_children_whom_the_survey_does_not_ask(truth):
    everyone = (truth.persons["ssi_any_age"] > 0).sum()
    asked = (truth.persons["ssi"] > 0).sum()
    assert 1.02 < everyone / asked < 1.3


def test_the_census_of_2020_is_a_little_smaller_than_the_truth(folder, truth):
    people = 0
    for state in ("ri", "de"):
        rows = json.loads(
            (
                folder / f"acs_tables/{state}_tracts/tracts_census2020_count_retrieved_data.json"
            ).read_text()
        )
        table = pl.DataFrame(rows[1:], schema=rows[0], orient="row").select(
            pl.col("^DP1_.*C$").cast(float)
        )
        people += table["DP1_0001C"].sum()
        assert (table["DP1_0025C"] + table["DP1_0049C"] == table["DP1_0001C"]).all()
        assert (
            table.select(pl.sum_horizontal(f"DP1_{i:04d}C" for i in range(2, 20))).to_series()
            == table["DP1_0001C"]
        ).all()
        assert (table["DP1_0113C"] + table["DP1_0125C"] == table["DP1_0112C"]).all()
        shares = [f"DP1_{i:04d}C" for i in (133, 135, 137, 141)]
        assert (table.select(pl.sum_horizontal(shares)).to_series() == table["DP1_0132C"]).all()
    assert 0.965 < people / truth.persons.height < 0.998
