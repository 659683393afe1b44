"""One published table, one target file and the rows built from them.

Used by the tests of ``pipeline/targets/build.py``.
"""

from __future__ import annotations

import polars as pl

from pipeline.specs.catalog import Catalog
from pipeline.specs.factors import FACTOR_ADAPTER
from pipeline.specs.profiles import Profile
from pipeline.specs.targets import TargetSpec
from pipeline.specs.variables import Variable
from pipeline.targets.build import BuiltTargets, build_targets

LEVEL = {0: "nation", 2: "state", 5: "county", 11: "tract"}
ACS = {"rule": "acs_margin", "why": "a test"}
NONE = {"rule": "none", "why": "a test"}


def cells(*rows: tuple, level: str | None = None) -> pl.DataFrame:
    """Published cells from (geoid, column, estimate, margin[, stratum[, status]])."""
    full = [
        (
            level or LEVEL.get(len(r[0]), "other"),
            r[0],
            r[1],
            r[4] if len(r) > 4 else "",
            r[2],
            r[3],
            r[5] if len(r) > 5 else "published",
        )
        for r in rows
    ]
    return pl.DataFrame(
        full,
        schema={
            "level": pl.String,
            "geoid": pl.String,
            "column": pl.String,
            "stratum": pl.String,
            "estimate": pl.Float64,
            "margin_of_error": pl.Float64,
            "status": pl.String,
        },
        orient="row",
    )


def variable(name: str, domain: str, **parts: object) -> Variable:
    return Variable(
        **(
            {
                "variable": name,
                "domain": domain,
                "label": "l",
                "unit": "persons",
                "over": "persons",
                "family": "f",
            }
            | parts
        )
    )


VARIABLES = [
    variable("persons", "total"),
    variable("persons", "young"),
    variable("usd_income", "total", unit="usd"),
    variable(
        "households", "broadband", unit="households", over=None, not_expressible="nobody asks"
    ),
]
CPI = FACTOR_ADAPTER.validate_python(
    {
        "id": "cpi",
        "kind": "series",
        "title": "t",
        "publisher": "p",
        "url": "u",
        "unit": "i",
        "values": {2018: 100.0, 2022: 110.0},
    }
)


def build(
    items: list[dict],
    table: pl.DataFrame,
    *,
    levels: tuple[str, ...] = ("tract",),
    state: str | None = "44",
    target_year: int = 2018,
    records: str = "2018",
    held_out: tuple[str, ...] = ("projection",),
    **spec: object,
) -> BuiltTargets:
    parts = {
        "id": "one",
        "source": "src",
        "levels": list(levels),
        "title": "t",
        "provenance": "survey_demographic",
        "standard_error": ACS,
        "carry": NONE,
        "items": items,
    } | spec
    profile = Profile(
        id="p",
        title="t",
        synthetic=True,
        states=("RI",),
        target_year=target_year,
        levels=("nation", "state", "county", "tract"),
        geography={"source": "geo", "vintage": "2020", "puma_link_vintage": "2010"},
        records={"source": "pums", "vintage": records, "income_year": 2018},
        sources={"geo": ["2010", "2020"], "pums": [records], "src": ["2018"]},
        targets=("one",),
        budget={"pairs_per_area": 2, "minimum_pairs": 1},
        seed=1,
        held_out_classes=held_out,
    )
    catalog = Catalog(
        {},
        {v.key: v for v in VARIABLES},
        {},
        {"cpi": CPI},
        {"one": TargetSpec.model_validate(parts)},
        {"p": profile},
    )
    return build_targets(catalog, profile, {("src", "2018"): table}, levels, state)


TRACT, OTHER = "44001000100", "44001000200"
TOTAL = {"variable": "persons", "domain": "total", "column": "A"}


def only(built: BuiltTargets) -> dict:
    assert built.frame.height == 1
    return built.frame.row(0, named=True)
