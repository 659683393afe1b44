"""Whether survey totals by PUMA would tell the calibration anything: against the known truth.

    python -m benchmarks.puma_untold --data DIR [--profile sample] [--states DE RI] [--json FILE]

Survey totals of a state are soft targets of the dense problem (``evidence``). Those of its PUMAs
could be too. A PUMA has a few hundred records, so its estimates carry large errors, and its tracts
draw on those very records already: prior weights of a PUMA's tracts add up to the PUMA. So here,
for every measured variable and PUMA of a made-up state whose population is known, three figures are
compared with the truth: the survey's own estimate, the dense weights, the selected ones.

A line per state and group of variables: those that tracts or counties are told, those that only the
state is, those that nobody is. ``survey``, ``dense``, ``selected``: median error in percent of the
truth. ``nearer``: share of figures where dense weights are nearer to the truth than the survey.
``apart``: root mean square of dense less survey, in the survey's standard errors; 1.0 is what the
survey differs by from the truth itself. ``blend``: the median error of the best mixture of the two,
and ``of survey`` its share in percent: what evidence by PUMA could gain at the most.

Belongs here: that comparison. Does not belong here: evidence (``pipeline/targets/evidence.py``).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.state import LoadedState, load_state
from calibration_core.common.area_weights import AreaWeights
from pipeline import steps
from pipeline.records.expressions import measure
from pipeline.reports.truth import truth_totals
from pipeline.specs.catalog import load_catalog
from pipeline.specs.states import state_of
from pipeline.vocabulary import AREA_COLUMN, CALIBRATE, COUNTY, PUMA, TRACT, VARIABLE_KEY
from pipeline.weights.problem import SolvableState
from pipeline.weights.settings import pairs_of
from pipeline.weights.table import stored_dense, stored_weights

# A figure of fewer persons, households or dollars is left out: a percentage says nothing there.
_LEAST = 200.0
_SHARES = np.linspace(0.0, 1.0, 21)
GROUPS = ("tracts or counties", "state only", "nobody")


def totals_by_puma(weights: AreaWeights, puma: np.ndarray, values: np.ndarray) -> np.ndarray:
    """(PUMAs, variables) from weights (areas, units), the PUMA of each area and values (units,
    variables)."""
    held = np.zeros((int(puma.max()) + 1, values.shape[0]))
    for number, areas in enumerate(weights.block_areas):
        block = weights.read(number)
        for row, area in enumerate(areas):
            held[puma[area], block.record] += block.weight[row]
    return held @ values


def group_of(state: SolvableState) -> dict[tuple[str, str], str]:
    """Who is told a variable, by its key."""
    fitted = state.targets.filter(pl.col("role") == CALIBRATE)
    below = fitted.filter(pl.col("level").is_in([COUNTY, TRACT]))
    found = dict.fromkeys(fitted.select(VARIABLE_KEY).unique().iter_rows(), GROUPS[1])
    return found | dict.fromkeys(below.select(VARIABLE_KEY).unique().iter_rows(), GROUPS[0])


def figures(loaded: LoadedState, data: Path) -> pl.DataFrame:
    """A row per PUMA and variable: ``survey``, ``standard_error``, ``dense``, ``selected``,
    ``truth``, ``told`` (one of GROUPS)."""
    state, catalog = loaded.ready, load_catalog()
    table, _ = steps.dense_weights(state)
    pairs = pairs_of(state.profile, len(state.leaves))
    chosen, _ = steps.selected_pairs(state, table, pairs)
    kept, _ = steps.refined_weights(state, table, chosen)
    stored = stored_weights(state, table, kept)
    of_tract = dict(state.geography.select(AREA_COLUMN[TRACT], PUMA).iter_rows())
    names = pl.DataFrame({TRACT: state.leaves, PUMA: [of_tract[leaf] for leaf in state.leaves]})
    labels, puma = np.unique(names[PUMA].to_numpy(), return_inverse=True)
    ordered = [catalog.variables[key] for key in sorted(catalog.variables)]
    measured = measure(loaded.inputs.records, ordered, state.units["household_id"])
    values = np.asarray(measured.values)
    dense = totals_by_puma(stored_dense(state, table), puma, values)
    selected = np.zeros_like(dense)
    np.add.at(selected, puma[stored.leaf], stored.weight[:, None] * values[stored.record])
    place, key = np.divmod(np.arange(dense.size), dense.shape[1])
    fitted = pl.DataFrame(
        {
            "geoid": labels[place],
            "variable": [measured.expressible[i][0] for i in key],
            "domain": [measured.expressible[i][1] for i in key],
            "dense": dense.ravel(),
            "selected": selected.ravel(),
        }
    )
    variables = [catalog.variables[key] for key in measured.expressible]
    known = truth_totals(data, variables, state_of(state.postal).fips)
    truth = (
        known.filter(pl.col("level") == TRACT)
        .join(names, left_on="geoid", right_on=TRACT, how="inner")
        .group_by(pl.col(PUMA).alias("geoid"), *VARIABLE_KEY)
        .agg(pl.col("truth").sum())
    )
    survey = loaded.inputs.estimates.filter(pl.col("level") == PUMA).select(
        "geoid",
        *VARIABLE_KEY,
        pl.coalesce("carried", "estimate").alias("survey"),
        pl.coalesce("carried_standard_error", "standard_error").alias("standard_error"),
    )
    told, on = group_of(state), ["geoid", *VARIABLE_KEY]
    found = fitted.join(truth, on=on, how="inner").join(survey, on=on, how="inner").sort(on)
    keys = found.select(VARIABLE_KEY).iter_rows()
    return found.with_columns(told=pl.Series([told.get(k, GROUPS[2]) for k in keys])).filter(
        (pl.col("truth") >= _LEAST) & (pl.col("standard_error") > 0)
    )


def summary(found: pl.DataFrame) -> dict[str, float]:
    """The line of some figures."""
    truth, survey, dense, selected, error = (
        found[name].to_numpy()
        for name in ("truth", "survey", "dense", "selected", "standard_error")
    )

    def off(value: np.ndarray) -> float:
        return float(np.median(np.abs(value - truth) / truth)) * 100.0

    mixed = [off(share * survey + (1.0 - share) * dense) for share in _SHARES]
    best = int(np.argmin(mixed))
    return {
        "figures": float(truth.size),
        "survey": off(survey),
        "dense": off(dense),
        "selected": off(selected),
        "nearer": float((np.abs(dense - truth) < np.abs(survey - truth)).mean()) * 100.0,
        "apart": float(np.sqrt(np.mean(((dense - survey) / error) ** 2))),
        "blend": mixed[best],
        "of survey": float(_SHARES[best]) * 100.0,
    }


def main(arguments: list[str] | None = None) -> None:
    """Print the table; write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else "")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--profile", default="sample")
    parser.add_argument("--states", nargs="+", default=["DE", "RI"])
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args(arguments)
    shown = Table(title="Figures of PUMAs against the truth")
    rows: list[dict[str, object]] = []
    for postal in chosen.states:
        found = figures(load_state(chosen.profile, postal, chosen.data), chosen.data)
        pumas = found["geoid"].n_unique()
        for group in GROUPS:
            some = found.filter(pl.col("told") == group)
            if some.height:
                rows.append({"state": postal, "PUMAs": pumas, "told to": group} | summary(some))
    for name in rows[0] if rows else ():
        shown.add_column(name, justify="left" if name in ("state", "told to") else "right")
    for row in rows:
        shown.add_row(*(f"{v:,.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    Console(width=120).print(shown)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
