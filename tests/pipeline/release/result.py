"""A small result of two states as a run leaves it, made in a moment: tables, facts, manifests.

``write_result`` takes what a test wants to be otherwise. Every table names the digests of the
tables it was made from, as the IO manager writes them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from pipeline.io_manager import encode, write_atomic
from pipeline.reports.bystander_schema import BYSTANDER_SCHEMA
from pipeline.reports.national import national_fits, states_table
from pipeline.settings import RunEnvironment
from pipeline.specs.states import state_of
from pipeline.stored import content_digest, file_digest
from pipeline.vocabulary import TARGET_KEY

STATES = ("RI", "DE")
TRACTS = 6
COUNTIES = 2
# Figures per tract: variable, domain, unit, contribution of a household, told.
FIGURES = (
    ("persons", "total", "persons", 2.0, True),
    ("households", "total", "households", 1.0, True),
    ("usd_social_security", "households", "usd", 9_000.0, True),
    ("persons", "oasdi", "persons", 0.5, True),
    ("persons", "veterans", "persons", 0.3, False),
    ("usd_wages", "persons", "usd", 30_000.0, False),
)
Change = Callable[[pl.DataFrame], pl.DataFrame]


def environment_at(folder: Path) -> RunEnvironment:
    """Where such a result lies: the profile ``sample``."""
    return RunEnvironment("sample", folder / "sample" / "raw", folder)


def tracts_of(state: str) -> list[str]:
    """GEOIDs of the tracts, in two counties."""
    fips = state_of(state).fips
    return [f"{fips}{1 + 2 * (n % COUNTIES):03d}{100 + n:06d}" for n in range(TRACTS)]


def weights_table(state: str, seed: int = 0) -> pl.DataFrame:
    """Ten households in each tract; ``seed`` draws others."""
    rows = []
    for number, tract in enumerate(tracts_of(state)):
        for pair in range(10):
            record = (7 * number + pair + seed) % 40
            weight = 10.0 + pair + 0.01 * seed
            rows.append((f"{state}{record:03d}", tract, tract[:5], weight))
    return pl.DataFrame(rows, orient="row", schema=["household_id", "tract", "county", "weight"])


def fit_table(state: str, weights: pl.DataFrame, factor: dict[str, float]) -> pl.DataFrame:
    """Targets of state, counties and tracts, each met; ``factor`` by variable/domain scales the
    fitted figures of one variable, as wrong inputs would.
    """
    rows = []
    levels = (("state", 2), ("county", 5), ("tract", 11))
    for variable, domain, unit, each, told in FIGURES:
        if not told:
            continue
        times = each * factor.get(f"{variable}/{domain}", 1.0)
        for level, length in levels:
            sums = weights.group_by(pl.col("tract").str.head(length).alias("geoid")).agg(
                pl.col("weight").sum()
            )
            for geoid, weight in sums.sort("geoid").iter_rows():
                rows.append((level, geoid, variable, domain, unit, weight * times))
    columns = [*TARGET_KEY, "unit", "fitted"]
    frame = pl.DataFrame(rows, orient="row", schema=columns)
    return frame.with_columns(
        family=pl.col("variable"),
        value=pl.col("fitted"),
        published_value=pl.col("fitted"),
        standard_error=pl.col("fitted") * 0.01,
        published_standard_error=pl.col("fitted") * 0.01,
        margin_standard_error=pl.col("fitted") * 0.01,
        concept_error=pl.lit(0.0),
        source=pl.lit("made_up"),
        vintage=pl.lit("2022"),
        role=pl.lit("calibrate"),
        reason=pl.lit(""),
        status=pl.lit("published"),
        not_fitted_reason=pl.lit(""),
        fitted_dense=pl.col("fitted"),
    )


def bystander_table(state: str, weights: pl.DataFrame, factor: dict[str, float]) -> pl.DataFrame:
    """Every figure of the state, told or not."""
    total = weights["weight"].sum()
    rows = []
    for variable, domain, unit, each, told in FIGURES:
        figure = total * each * factor.get(f"{variable}/{domain}", 1.0)
        rows.append(
            {
                "variable": variable,
                "domain": domain,
                "label": f"{variable} {domain}",
                "unit": unit,
                "records": 400,
                "status": "told" if told else "untold",
                "survey": total * each,
                "standard_error": total * each * 0.02,
                "selected": figure,
                "beyond_selected": 0.0,
                "bent": "",
            }
        )
    return pl.DataFrame(rows, schema=BYSTANDER_SCHEMA)


def write_result(
    folder: Path,
    *,
    states: tuple[str, ...] = STATES,
    seed: int = 0,
    factor: dict[str, float] | None = None,
    change_fit: Change = lambda fit: fit,
    change_bystanders: Change = lambda report: report,
    national_seed: int = 0,
    of_nation: tuple[str, ...] | None = None,
) -> RunEnvironment:
    """Write the whole result of ``states``. ``factor``: see ``fit_table``; ``national_seed``: other
    national targets; ``of_nation``: the states of the national tables, where others.
    """
    environment, factor = environment_at(folder), factor or {}
    national = pl.DataFrame(
        [("nation", "", "persons", "total", "persons", float(national_seed))],
        orient="row",
        schema=[*TARGET_KEY, "unit", "value"],
    ).with_columns(role=pl.lit("calibrate"), reason=pl.lit(""))
    nation = {"national_targets": put(environment, "national_targets", None, national, {})}
    made: dict[str, tuple[pl.DataFrame, pl.DataFrame]] = {}
    for state in states:
        weights = weights_table(state, seed)
        fit = change_fit(fit_table(state, weights, factor))
        report = change_bystanders(bystander_table(state, weights, factor))
        write_state(environment, state, weights, fit, report, nation)
        made[state] = (fit, weights)
    write_nation(environment, {s: made[s] for s in of_nation or states})
    return environment


def write_state(
    environment: RunEnvironment,
    state: str,
    weights: pl.DataFrame,
    fit: pl.DataFrame,
    report: pl.DataFrame,
    nation: dict[str, str],
) -> None:
    """The tables of one state and its manifest."""
    made_from = put(environment, "reconciled_targets", state, fit.select(*TARGET_KEY), nation)
    inputs = {f"reconciled_targets[{state}]": made_from}
    digest = put(environment, "weights", state, weights, inputs, pairs=weights.height)
    of_weights = {f"weights[{state}]": digest}
    households = weights.select("household_id").unique().sort("household_id")
    tables = {
        "selected_households": households.with_columns(persons=pl.lit(2)),
        "selected_persons": households.with_columns(person_number=pl.lit(1)),
        "fit_report": fit,
        "bystander_report": report,
    }
    for name, table in tables.items():
        put(environment, name, state, table, {**inputs, **of_weights})
    manifest = {
        "profile": "sample",
        "synthetic": True,
        "state": state,
        "seed": 1,
        "code_sha256": "c0de",
        "specs_sha256": "5bec",
        "geocal": "0",
        "inputs": [{"file": "a.csv", "member": "", "sha256": "00"}],
        "tables": {
            name: {
                "sha256": file_digest(environment.table_path(name, state).read_bytes()),
                "run_id": "",
                "path": f"{name}/state={state}/{name}.parquet",
            }
            for name in ("weights", *tables)
        },
    }
    place = environment.manifests / f"{state}.json"
    write_atomic(place, json.dumps(manifest).encode())


def write_nation(
    environment: RunEnvironment, made: dict[str, tuple[pl.DataFrame, pl.DataFrame]]
) -> None:
    """The two national tables."""
    fits = {state_of(s).fips: fit for s, (fit, _) in made.items()}
    own = pl.concat([fit.filter(pl.col("level") == "state") for fit in fits.values()])
    above = own.with_columns(level=pl.lit("nation"), geoid=pl.lit("")).unique(
        TARGET_KEY, maintain_order=True
    )
    targets = pl.concat([above, own]).drop("fitted", "fitted_dense", "not_fitted_reason")
    inputs = {
        f"fit_report[{s}]": content_digest(environment.table_path("fit_report", s).read_bytes())
        for s in made
    }
    put(environment, "national_fit", None, national_fits(targets, fits), inputs)
    put(environment, "national_report", None, states_table(made), inputs)


def put(
    environment: RunEnvironment,
    asset: str,
    state: str | None,
    table: pl.DataFrame,
    inputs: dict[str, str],
    **facts: Any,
) -> str:
    """Store a table; the digest of its content."""
    said = {"profile": "sample", "synthetic": True, "asset": asset, "inputs": inputs, **facts}
    data = encode(table, said)
    write_atomic(environment.table_path(asset, state), data)
    return content_digest(data)
