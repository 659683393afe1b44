"""The bystander report: what calibration did to every measured total of a state, told or not.

For each variable, with the survey's own estimate, carried to the target year by age and sex, and
its standard error (80 replicate weights):

    moved = (fitted - survey) / standard_error

``beyond`` is the part of a move that nobody asked for: how far the fitted total lies outside the
interval from the survey to the official figure, in standard errors; without an official figure it
is the whole move. A told variable is asked for by its targets and not judged, nor is one that told
variables add up to. Any other figure is *bent* where it rests on enough records and lies beyond the
profile's limit.

Who pulls is told by ``calibration_core/common/pull.py``: the move from prior to dense weights,
apart by told variable. ``start`` is what prior weights differ from the survey by before that (a
household's weight stands for all its persons), ``rest`` what differs between areas, and what rows
that hold figures to the survey itself push back.

Belongs here: that table. Does not belong here: estimates and errors of the survey
(``records/survey_estimates.py``), which figures are standard (``data_specs/bystanders.yaml``), how
it is shown (``show_bystanders.py``, ``bystander_plot.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.common.pull import Pull, pull_on
from calibration_core.common.threads import one_thread
from pipeline.errors import TargetError
from pipeline.records.expressions import Measured
from pipeline.reports.bystander_schema import (
    BY_CALIBRATION,
    BY_SELECTION,
    BYSTANDER_SCHEMA,
    IMPLIED,
    NOT_MEASURED,
    OBSERVED,
    PULL,
    PULLS_KEPT,
    TOLD,
    UNTOLD,
)
from pipeline.specs.method import BystanderRule
from pipeline.specs.variables import Variable
from pipeline.targets.concept_gap import state_targets
from pipeline.vocabulary import (
    CALIBRATE,
    DROPPED,
    POPULATION,
    SMALLEST,
    STATE,
    VALIDATION,
    VARIABLE_KEY,
    Key,
)
from pipeline.weights.problem import SolvableState
from pipeline.weights.table import StoredWeights

# Where the survey's error is a smaller share of what simple sampling of as many records would have,
# its weights were made to meet the figure, or nearly, and its error says nothing of a move. It is
# 0.00 to 0.01 for group quarters, 0.11 to 0.31 for race by age (RI), 0.15 for white persons and
# 0.24 for citizens of 18 and over (VT); of all other untold figures of RI, VT and DE 0.36 and more.
_CONTROLLED = 1 / 3
# Own share of squares below which told variables add up to a variable; rounding leaves 1e-20.
_ADDS_UP = 1e-10


@dataclass(frozen=True, eq=False)
class Watched:
    """What the report is made from, beside the state and its weights.

    Attributes
    ----------
    variables : every variable, by key.
    headings : heading of each standard figure, in the order shown.
    measured : what each unit adds to every variable the records express; rows as the units.
    estimates : ESTIMATE_SCHEMA of ``records/survey_estimates.py``; other levels than the state are
        not used.
    """

    variables: Mapping[Key, Variable]
    headings: Mapping[Key, str]
    measured: Measured
    estimates: pl.DataFrame


def bystander_report(state: SolvableState, stored: StoredWeights, watched: Watched) -> pl.DataFrame:
    """BYSTANDER_SCHEMA: a row for every variable that is measured or standard, the standard ones
    first, in their order. Raises TargetError if the survey's population is not known.
    """
    weights = {
        "prior": state.units["prior_weight"].to_numpy(),
        "dense": stored.dense.by_record(),
        "selected": np.bincount(stored.record, stored.weight, minlength=state.units.height),
    }
    with one_thread():
        found = watched.measured.totals(np.stack(list(weights.values())))
    sums = dict(zip(weights, map(pl.Series, found), strict=True))
    schema = dict.fromkeys(VARIABLE_KEY, pl.String)
    named = pl.DataFrame(watched.measured.expressible, schema=schema, orient="row")
    totals = named.with_columns(**sums)
    told = told_at(state)
    frame = (
        _listed(watched)
        .join(totals, on=VARIABLE_KEY, how="left", maintain_order="left")
        .join(_survey(watched.estimates), on=VARIABLE_KEY, how="left", maintain_order="left")
        .join(_official(state), on=VARIABLE_KEY, how="left", maintain_order="left")
        .join(told, on=VARIABLE_KEY, how="left", maintain_order="left")
    )
    pulled = _pulls(_moved(_with_status(frame)), watched.measured, weights, told)
    rule = state.profile.method.bystanders
    return _judged(pulled, rule).select(list(BYSTANDER_SCHEMA)).cast(pl.Schema(BYSTANDER_SCHEMA))


def told_at(state: SolvableState) -> pl.DataFrame:
    """``variable, domain, told_at, source``: variables that some target fits, at which levels, and
    by which publications."""
    grid = state.problem.grid
    rows = np.concatenate([level[level >= 0] for level in grid.rows])
    # Other rows that are fitted hold a figure to the survey itself, and tell nothing.
    fitted = state.targets[np.sort(rows)].filter(pl.col("role") == CALIBRATE)
    # In the order of the levels, then of the names: nothing depends on the order of rows.
    levels = [pl.when(pl.col("level") == name).then(pl.lit(name)) for name in grid.tree.levels]
    return (
        fitted.group_by(VARIABLE_KEY)
        .agg(
            told_at=pl.concat_str(
                [x.drop_nulls().first() for x in levels], ignore_nulls=True, separator=", "
            ),
            source=pl.col("source").unique().sort().str.join(", "),
        )
        .sort(VARIABLE_KEY)
    )


def _listed(watched: Watched) -> pl.DataFrame:
    """Every variable of the report with its words, standard ones first."""
    measured = set(watched.measured.expressible)
    reasons = {(x.variable, x.domain): x.reason for x in watched.measured.inexpressible}
    others = sorted(key for key in measured if key not in watched.headings)
    rows = [
        {
            "heading": watched.headings.get(key, ""),
            "variable": key[0],
            "domain": key[1],
            "label": watched.variables[key].label,
            "unit": watched.variables[key].unit,
            "is_measured": key in measured,
            "why_not": reasons.get(key, ""),
        }
        for key in [*watched.headings, *others]
    ]
    return pl.DataFrame(rows, infer_schema_length=None)


def _survey(estimates: pl.DataFrame) -> pl.DataFrame:
    """The survey's own figures of the target year."""
    own = estimates.filter(pl.col("level") == STATE)
    if own["carried"].null_count() == own.height:
        raise TargetError(
            "The survey's estimates are not carried to the target year, so nothing can be compared",
            where=f"survey_estimates, column carried, variable {'/'.join(POPULATION)}",
            expected="the population of the target year among the targets",
            remedy="Materialise survey_estimates of the state again",
        )
    return own.select(
        *VARIABLE_KEY, "records", survey="carried", standard_error="carried_standard_error"
    )


def _official(state: SolvableState) -> pl.DataFrame:
    """One published figure a variable, of any role of a publication, with where it comes from."""
    fips = state.problem.tree.geoids[0][0]
    published = state.targets.filter(pl.col("role").is_in([CALIBRATE, VALIDATION, DROPPED]))
    found = state_targets(published, fips).filter(pl.col("target").is_not_null())
    source = (
        published.group_by("level", *VARIABLE_KEY)
        .agg(pl.concat_str("source", "vintage", separator=" ").unique().sort().str.join(", "))
        .rename({"source": "official_source", "level": "target_level"})
    )
    keys = ["target_level", *VARIABLE_KEY]
    return found.join(source, on=keys, how="left").select(
        *VARIABLE_KEY,
        official="target",
        official_level="target_level",
        official_source="official_source",
        official_role="role",
        why_observed="reason",
    )


def _with_status(frame: pl.DataFrame) -> pl.DataFrame:
    status = (
        pl.when(~pl.col("is_measured"))
        .then(pl.lit(NOT_MEASURED))
        .when(pl.col("told_at").is_not_null())
        .then(pl.lit(TOLD))
        .when(pl.col("official").is_not_null())
        .then(pl.lit(OBSERVED))
        .otherwise(pl.lit(UNTOLD))
    )
    reason = pl.when(pl.col("is_measured")).then("why_observed").otherwise("why_not")
    return frame.with_columns(
        status=status, told_at=pl.col("told_at").fill_null(""), reason=reason.fill_null("")
    )


def _moved(frame: pl.DataFrame) -> pl.DataFrame:
    """Moves, and the part of them that nobody asked for, in standard errors; null without one."""
    least = pl.col("unit").replace_strict(SMALLEST, return_dtype=pl.Float64)
    simple = _CONTROLLED * pl.col("survey").abs() / pl.col("records").sqrt()
    enough = pl.col("standard_error") >= pl.max_horizontal(least, simple)
    error = pl.when(enough).then("standard_error")
    asked = pl.col("official").fill_null(pl.col("survey"))
    low, high = pl.min_horizontal("survey", asked), pl.max_horizontal("survey", asked)
    columns = {}
    for name in ("dense", "selected"):
        fitted = pl.col(name)
        outside = pl.when(fitted > high).then(fitted - high).when(fitted < low).then(fitted - low)
        columns[f"moved_{name}"] = (fitted - pl.col("survey")) / error
        columns[f"beyond_{name}"] = (
            pl.when(pl.col("survey").is_not_null() & fitted.is_not_null()).then(
                outside.otherwise(0.0)
            )
            / error
        )
    return frame.with_columns(**columns)


def _judged(frame: pl.DataFrame, rule: BystanderRule) -> pl.DataFrame:
    """``bent``: by what, "" where not, null where not judged."""
    judged = pl.col("status").is_in([OBSERVED, UNTOLD])
    judged &= (pl.col("records") >= rule.least_records) & pl.col("beyond_dense").is_not_null()
    bent = (
        pl.when(pl.col("beyond_dense").abs() > rule.limit)
        .then(pl.lit(BY_CALIBRATION))
        .when(pl.col("beyond_selected").abs() > rule.limit)
        .then(pl.lit(BY_SELECTION))
        .otherwise(pl.lit(""))
    )
    return frame.with_columns(bent=pl.when(judged).then(bent))


def _pulls(
    frame: pl.DataFrame, measured: Measured, weights: Mapping[str, np.ndarray], told: pl.DataFrame
) -> pl.DataFrame:
    """``frame`` with ``start, pulls, rest`` of every figure that is not told and has an error to
    measure by; and the status ``implied`` of those that told figures add up to.
    """
    wanted = frame.filter(pl.col("status").is_in([OBSERVED, UNTOLD]))
    place = {key: i for i, key in enumerate(measured.expressible)}
    pulling = [key for key in told.select(VARIABLE_KEY).iter_rows() if key in place]
    outcomes = [place[key] for key in wanted.select(VARIABLE_KEY).iter_rows()]
    told_places = [place[key] for key in pulling]
    inside, values = measured.values[:, told_places], measured.values[:, outcomes]
    pull = pull_on(weights["prior"], weights["dense"], inside, values)
    source = dict(zip(told.select(VARIABLE_KEY).iter_rows(), told["source"], strict=True))
    prior = measured.totals(weights["prior"])[told_places]
    share = np.divide(pull.told_moved, prior, out=np.zeros_like(prior), where=prior != 0)
    error = wanted["standard_error"].fill_null(np.nan).to_numpy()
    known = wanted["moved_dense"].is_not_null().to_numpy()
    rows = [
        _largest(pull, column, error[column], pulling, source, share) if known[column] else None
        for column in range(wanted.height)
    ]
    rest = np.divide(pull.rest, error, out=np.full_like(error, np.nan), where=known)
    made = wanted.select(VARIABLE_KEY).with_columns(
        pl.Series("pulls", rows, dtype=pl.List(PULL)),
        pl.Series("rest", rest, dtype=pl.Float64).fill_nan(None),
        pl.Series("adds_up", pull.own_share < _ADDS_UP, dtype=pl.Boolean),
    )
    start = (pl.col("prior") - pl.col("survey")) / pl.col("standard_error")
    joined = frame.join(made, on=VARIABLE_KEY, how="left", maintain_order="left")
    implied = pl.col("adds_up").fill_null(False)
    return joined.with_columns(
        status=pl.when(implied).then(pl.lit(IMPLIED)).otherwise("status"),
        start=pl.when(pl.col("rest").is_not_null()).then(start),
    )


def _largest(
    pull: Pull,
    column: int,
    error: float,
    pulling: Sequence[Key],
    source: Mapping[Key, str],
    share: np.ndarray,
) -> list[dict]:
    """The told variables that pull one figure most, largest first; ties by name."""
    size = pull.by_told[:, column] / error
    # Rounded, so that another processor's last bit cannot change the order.
    order = sorted(range(len(pulling)), key=lambda j: (-round(float(abs(size[j])), 6), pulling[j]))
    return [
        {
            "variable": pulling[j][0],
            "domain": pulling[j][1],
            "source": source[pulling[j]],
            "told_moved": float(share[j]),
            "standard_errors": float(size[j]),
        }
        for j in order[:PULLS_KEPT]
        if size[j] != 0
    ]
