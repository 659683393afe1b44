"""The survey's own estimates as soft targets for what no publication states.

Belongs here: which estimates become rows of the target table, carried to the target year, and with
what error. Does not belong here: the estimates (``pipeline/records/survey_estimates.py``), or what
a row weighs in the loss (``pipeline/weights/problem.py``).

Calibration moves every figure of the records, and nothing stops those that nobody stated. So each
measured variable without a target of its own at the state is held, softly, to what the survey says:

    value          = estimate, carried to the target year by age and sex
    standard_error = sqrt( (its sampling error)^2 + (carry_error * years * value)^2 )

Amounts are in dollars of the target year already. The second part is the error of carrying: a share
of an age changes with the years, whatever the population does. Told figures have errors a
tenth of such a row's and less, so the row gives way as far as they ask for it, and no further.

Such rows have role ``evidence``. They are fitted and reported, and are no published target: no
share inside a margin counts them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import polars as pl

from pipeline.specs.method import SurveyEvidence
from pipeline.specs.provenance import load_provenance
from pipeline.specs.variables import Variable
from pipeline.targets.build import TARGET_SCHEMA
from pipeline.vocabulary import EVIDENCE, STATE, VARIABLE_KEY, is_area

SOURCE = "survey"
_REASON = "no target states it: the survey's own estimate, carried by age and sex"
# What a survey asks: returns are put together from persons by a rule, nobody was asked for them.
_ASKED = ("persons", "households")


def survey_evidence(
    estimates: pl.DataFrame,
    targets: pl.DataFrame,
    variables: Iterable[Variable],
    rule: SurveyEvidence,
    *,
    state_fips: str,
    vintage: str,
    years: int,
    held_out: Collection[str] = (),
) -> pl.DataFrame:
    """Rows of the target table (TARGET_SCHEMA, role evidence) for one state; none without standard
    errors, or where the rule is not in use.

    Parameters
    ----------
    estimates : ``survey_estimates`` of the state.
    targets : its reconciled targets; a variable with a row of any role at the state is left to it.
    variables : of the catalogue: families, and what a variable counts over.
    vintage, years : of the survey, and from it to the target year.
    held_out : classes of provenance that are not fitted; the survey's own figures have one too.
    """
    none = pl.DataFrame(schema=TARGET_SCHEMA)
    own = estimates.filter(is_area(STATE, state_fips))
    stated = targets.filter(is_area(STATE, state_fips))
    if why_none(estimates, rule, state_fips=state_fips):
        return none
    of_survey = load_provenance().of_survey
    asked = [(*v.key, v.family, of_survey(v.family)) for v in variables if v.over in _ASKED]
    schema = dict.fromkeys((*VARIABLE_KEY, "family", "provenance"), pl.String)
    families = pl.DataFrame(asked, schema=schema, orient="row")
    families = families.filter(~pl.col("provenance").is_in(list(held_out)))
    rows = (
        own.filter(pl.col("records") >= rule.least_records)
        .join(stated.select(VARIABLE_KEY), on=VARIABLE_KEY, how="anti")
        .join(families, on=VARIABLE_KEY, how="inner")
        .sort(VARIABLE_KEY)
    )
    value = pl.col("carried")
    carrying = rule.carry_error_per_year * abs(years) * value
    error = (pl.col("carried_standard_error") ** 2 + carrying**2).sqrt()
    facts = {
        "margin_published": False,
        "source": SOURCE,
        "vintage": vintage,
        "carry_rule": "age_and_sex" if years else "none",
        "treatment": "fitted",
        "concept_error": 0.0,
        "status": "estimated",
        "role": EVIDENCE,
        "reason": _REASON,
    }
    made = rows.with_columns(
        value=value,
        standard_error=error,
        published_value=value,
        published_standard_error=error,
        margin_standard_error=pl.lit(None, pl.Float64),
        carry_factor=pl.when(pl.col("estimate") != 0).then(value / pl.col("estimate")),
        **{name: pl.lit(fact) for name, fact in facts.items()},
    )
    return pl.concat([none, made.select(pl.col(n).cast(t) for n, t in TARGET_SCHEMA.items())])


def why_none(estimates: pl.DataFrame, rule: SurveyEvidence, *, state_fips: str) -> str:
    """Why nothing is held to the survey, in words; empty where something may be. Arguments as of
    ``survey_evidence``.
    """
    own = estimates.filter(is_area(STATE, state_fips))
    if not rule.use:
        return "the profile leaves it out (survey_evidence: use)"
    if own["standard_error"].null_count() == own.height:
        return "the survey's files hold no replicate weights, so its errors are unknown"
    if own["carried"].null_count() == own.height:
        return "total persons of the target year is not known, so nothing can be carried to it"
    return ""
