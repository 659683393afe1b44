"""Hard rules of a target table about to be written.

Belongs here: what must hold of every target table, published or reconciled. Does not belong here:
schemas, or thresholds of quality, which are asset checks.
"""

from __future__ import annotations

import polars as pl

from pipeline.invariants import require, require_no_rows
from pipeline.vocabulary import CALIBRATE, TARGET_KEY


def require_targets(frame: pl.DataFrame, table: str) -> None:
    """A row for each key, finite values, no negative standard error, and a reason wherever a target
    does not calibrate.

    ``table`` : its name, for the error. Raises InvariantError naming the first faulty rows.
    """
    require(
        frame.height > 0,
        "There is no target at all",
        where=table,
        expected="at least one target",
        remedy="Check the profile's list of targets",
    )
    calibrates = pl.col("role") == CALIBRATE
    not_finite = calibrates & pl.col("value").is_not_null() & ~pl.col("value").is_finite()
    silent = ~calibrates & (pl.col("reason").fill_null("") == "")
    faults = {
        "state the same target twice": pl.struct(TARGET_KEY).is_duplicated(),
        "have a value that is not finite": not_finite,
        "have a negative standard error": pl.col("standard_error") < 0,
        "do not calibrate and give no reason": silent,
    }
    for found, faulty in faults.items():
        require_no_rows(
            frame.filter(faulty),
            found,
            table=table,
            columns=TARGET_KEY,
            remedy="This is a fault of the target builder or of a spec; the rows named show which",
        )
