"""Rows of a target table for the tests of shares, wholes and moves."""

from __future__ import annotations

import polars as pl

from pipeline.targets.build import TARGET_SCHEMA


def row(geoid: str, value: float | None, error: float | None = 1.0, **changes: object) -> dict:
    """A published row; its level follows from the length of the code."""
    level = {2: "state", 5: "county", 11: "tract"}[len(geoid)]
    made = {
        "level": level,
        "geoid": geoid,
        "variable": "persons",
        "domain": "total",
        "family": "age",
        "unit": "persons",
        "value": value,
        "standard_error": error,
        "published_value": value,
        "published_standard_error": error,
        "margin_standard_error": error,
        "margin_published": True,
        "source": f"{level} table",
        "vintage": "2018",
        "carry_rule": "none",
        "carry_factor": 1.0,
        "treatment": "fitted",
        "concept_error": 0.0,
        "status": "published",
        "role": "calibrate",
        "reason": "",
    }
    return made | changes


def table(*rows: dict) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=TARGET_SCHEMA)
