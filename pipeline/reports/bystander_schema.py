"""The columns of the bystander report and its words.

Belongs here: what the report's maker and its readers must spell alike, so that showing a stored one
loads no numerics. Does not belong here: making it (``bystanders.py``), showing it
(``show_bystanders.py``).
"""

from __future__ import annotations

import polars as pl

from pipeline.vocabulary import VARIABLE_KEY

STATUSES = ("told", "implied", "observed", "untold", "not_measured")
TOLD, IMPLIED, OBSERVED, UNTOLD, NOT_MEASURED = STATUSES
"""A target fits it; told figures add up to it; an official figure is only compared with; nobody
publishes it here; the records cannot express it."""

BY_CALIBRATION, BY_SELECTION = "calibration", "selection"

PULLS_KEPT = 8
"""Of the told variables, those that pull a figure most, kept with it."""

PULL = pl.Struct(
    {
        "variable": pl.String(),
        "domain": pl.String(),
        "source": pl.String(),
        "told_moved": pl.Float64(),
        "standard_errors": pl.Float64(),
    }
)
"""A told variable: where it is published, the relative move of its own total from prior to dense
weights, and what that adds to the figure."""

BYSTANDER_SCHEMA: dict[str, pl.DataType] = {
    "heading": pl.String(),
    **dict.fromkeys(VARIABLE_KEY, pl.String()),
    "label": pl.String(),
    "unit": pl.String(),
    "records": pl.Int64(),
    "status": pl.String(),
    "told_at": pl.String(),
    **dict.fromkeys(("survey", "standard_error", "prior", "dense", "selected"), pl.Float64()),
    "official": pl.Float64(),
    "official_level": pl.String(),
    "official_source": pl.String(),
    "official_role": pl.String(),
    "reason": pl.String(),
    **dict.fromkeys(("moved_dense", "moved_selected"), pl.Float64()),
    **dict.fromkeys(("beyond_dense", "beyond_selected"), pl.Float64()),
    "bent": pl.String(),
    "start": pl.Float64(),
    "pulls": pl.List(PULL),
    "rest": pl.Float64(),
}
