"""Where weights were allowed to differ from what was published, and what held the rest.

Belongs here: from a fit report to the targets of another concept and to the survey's own estimates,
each beside what the weights give. Does not belong here: concept errors and evidence themselves
(``pipeline/targets``), or printing (``show_tables.py``).
"""

from __future__ import annotations

import polars as pl

from pipeline.vocabulary import EVIDENCE, STATE, VARIABLE_KEY

MODEL_ERROR = (*VARIABLE_KEY, "source", "treatment", "value", "concept_error", "difference")
"""``concept_error`` and ``difference`` (fitted less value) as shares of the value."""

SURVEY = (*VARIABLE_KEY, "unit", "value", "standard_error", "dense", "fitted", "errors_in_se")
"""``value``: the survey's estimate, carried to the target year; ``errors_in_se`` of ``fitted``."""


def model_errors(fit: pl.DataFrame) -> pl.DataFrame:
    """Targets of the state with a concept error, the largest first: MODEL_ERROR."""
    size = pl.col("value").abs()
    own = fit.filter(
        (pl.col("level") == STATE)
        & (pl.col("concept_error") > 0)
        & pl.col("fitted").is_not_null()
        & (size > 0)
    ).with_columns(
        concept_error=pl.col("concept_error") / size,
        difference=(pl.col("fitted") - pl.col("value")) / size,
    )
    order = ["concept_error", *VARIABLE_KEY]
    return own.select(MODEL_ERROR).sort(order, descending=[True, False, False])


def survey_held(fit: pl.DataFrame) -> pl.DataFrame:
    """Estimates of the survey that weights were held to, the furthest off first: SURVEY."""
    own = fit.filter((pl.col("role") == EVIDENCE) & pl.col("fitted").is_not_null())
    off = (pl.col("fitted") - pl.col("value")) / pl.col("standard_error")
    own = own.with_columns(
        dense=pl.col("fitted_dense"), errors_in_se=pl.when(pl.col("standard_error") > 0).then(off)
    )
    order = [pl.col("errors_in_se").abs(), *map(pl.col, VARIABLE_KEY)]
    return own.select(SURVEY).sort(order, descending=[True, False, False], nulls_last=True)
