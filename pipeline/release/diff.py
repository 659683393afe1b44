"""What differs between two sets of tables: totals, targets, weights, records, fit, raw files.

A move is relative to the earlier figure, ``(b - a) / |a|``, and to the later one where the earlier
is next to zero. States that only one of the two has are named and take no part in anything else:
the nation is the sum of the states that both have.

Belongs here: the comparison as tables. Does not belong here: how it is shown (``show_diff.py``), or
what may not be released (``gate.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from pipeline.errors import StoreError
from pipeline.release.contents import FIT, RECORD_TABLES, TableSet
from pipeline.release.figures import KIND_RANK, figures, target_values
from pipeline.reports.fit import by_level, smallest, summary_by, weight_summary
from pipeline.vocabulary import (
    CALIBRATE,
    LEVEL_RANK,
    NATION,
    STATE,
    TARGET_KEY,
    VARIABLE_KEY,
    WEIGHTS,
)

THRESHOLD = 0.01
"""Moves of at most one per cent are counted and not named. No source: below it a reader of a
release of sixty pairs per tract sees draws."""

LARGEST = 12
NAMED_FROM = {"persons": 100.0, "households": 100.0, "returns": 100.0, "usd": 1e6}
NAMED_RECORDS = 30
"""Moves are named where there is something to move: of states and the nation figures that rest on
so many records, of counties and tracts figures of such a size. All are counted. No source: of a
tract's five persons a draw takes or adds two."""

QUANTILES = (0.01, 0.1, 0.5, 0.9, 0.99)
_PAIR = ("household_id", "tract", "county")


@dataclass(frozen=True)
class Difference:
    """From ``a`` to ``b``.

    Attributes
    ----------
    threshold : moves up to it are not named.
    states, states_gone, states_new : those both have, only the first has, only the second has.
    totals : TARGET_KEY, ``family``, ``unit``, ``kind``, ``a``, ``b``, ``move`` (relative),
        ``standard_errors`` (of the move, states and nation), ``records``, ``target``,
        ``concept_error`` (of ``b``), ``target_move`` (relative); a figure that only one has has
        null in the other's place.
    targets : per level, variable and domain: ``areas_a``, ``areas_b`` (with a fitted target),
        ``gone``, ``new``, ``moved`` (values beyond the threshold), ``largest`` move.
    weights : by state, figures of both, and what became of pairs and records.
    fit : by level, ``summary_by`` of both.
    files : raw files that changed, went or came, by name.
    versions : what differs of code, specs, seed, geocal and packages: (a, b) by name.
    """

    a: TableSet
    b: TableSet
    threshold: float
    states: tuple[str, ...]
    states_gone: tuple[str, ...]
    states_new: tuple[str, ...]
    totals: pl.DataFrame
    targets: pl.DataFrame
    weights: dict[str, dict[str, Any]]
    fit: dict[str, dict[str, Any]]
    files: dict[str, str] = field(default_factory=dict)
    versions: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def moved(self) -> pl.DataFrame:
        """Totals that moved more than the threshold, the largest relative move first per level."""
        far = self.totals.filter(pl.col("move").abs() > self.threshold)
        size = pl.col("move").abs()
        return by_level(far.sort(size, *TARGET_KEY, descending=[True, *[False] * 4]))

    @property
    def worth_naming(self) -> pl.DataFrame:
        """Of ``moved`` those that are large enough to be named: see ``NAMED_FROM``."""
        least = pl.col("unit").replace_strict(NAMED_FROM, return_dtype=pl.Float64)
        large = pl.max_horizontal(pl.col("a").abs(), pl.col("b").abs()) >= least
        above = pl.col("level").is_in([NATION, STATE])
        enough = pl.when(above).then(pl.col("records") >= NAMED_RECORDS).otherwise(large)
        return self.moved.filter(enough.fill_null(False))

    @property
    def figures_gone(self) -> pl.DataFrame:
        """Figures that only the first has."""
        return self.totals.filter(pl.col("a").is_not_null() & pl.col("b").is_null())

    @property
    def same(self) -> bool:
        """Whether every figure, target and weight is the same to the last bit."""
        kept = (
            w["pairs_same_weight"] == w["pairs_a"] == w["pairs_b"] for w in self.weights.values()
        )
        figures = self.totals.filter(pl.col("a").eq_missing(pl.col("b"))).height
        whole = not self.states_gone and not self.states_new
        return whole and figures == self.totals.height and all(kept)


def compare(a: TableSet, b: TableSet, threshold: float = THRESHOLD) -> Difference:
    """What differs from ``a`` to ``b``. Raises StoreError for a table that is missing, damaged or
    of another form, and where the two have no state in common.
    """
    states = tuple(state for state in b.states if state in a.states)
    if not states:
        raise StoreError(
            f"{a.name} and {b.name} have no state in common",
            where=f"{a.root} and {b.root}",
            expected="a state that both have",
            remedy="Compare results of one profile; releases of other states go elsewhere (--to)",
        )
    try:
        return _compared(a, b, states, threshold)
    except (pl.exceptions.ColumnNotFoundError, pl.exceptions.SchemaError) as error:
        raise StoreError(
            f"A table has not the columns that are compared: {str(error).splitlines()[0]}",
            where=f"{a.root} and {b.root}",
            expected="tables that this version of geocal makes",
            remedy="Compare with a release of this version, or with the version that made it",
        ) from error


def _compared(a: TableSet, b: TableSet, states: tuple[str, ...], threshold: float) -> Difference:
    first, second = a.only(states), b.only(states)
    return Difference(
        a,
        b,
        threshold,
        states,
        tuple(s for s in a.states if s not in b.states),
        tuple(s for s in b.states if s not in a.states),
        _totals(figures(first), figures(second)),
        _targets(target_values(first), target_values(second), threshold),
        {state: _weights(first, second, state) for state in states},
        _fit(first, second),
        *_made_of(first, second),
    )


def relative_move(a: str, b: str) -> pl.Expr:
    """(b - a) / |a|; where |a| is below the least amount of the unit (column ``unit``), / |b|; 0
    where both are; null where one is.
    """
    difference = pl.col(b) - pl.col(a)
    known = pl.col(a).is_not_null() & pl.col(b).is_not_null()
    by = (
        pl.when(pl.col(a).abs() >= smallest())
        .then(difference / pl.col(a).abs())
        .when(pl.col(b).abs() >= smallest())
        .then(difference / pl.col(b).abs())
        .otherwise(0.0)
    )
    return pl.when(known).then(by)


def _totals(a: pl.DataFrame, b: pl.DataFrame) -> pl.DataFrame:
    both = a.join(b, on=TARGET_KEY, how="full", suffix="_b", coalesce=True)
    kinds = {
        name: pl.col(name).replace_strict(KIND_RANK, default=len(KIND_RANK), return_dtype=pl.Int64)
        for name in ("kind", "kind_b")
    }
    strict = pl.when(kinds["kind"] <= kinds["kind_b"]).then("kind").otherwise("kind_b")
    told = both.with_columns(
        kind=pl.coalesce(strict, "kind", "kind_b"),
        family=pl.coalesce("family", "family_b"),
        unit=pl.coalesce("unit", "unit_b"),
        standard_error=pl.coalesce("standard_error", "standard_error_b"),
        records=pl.max_horizontal("records", "records_b"),
    ).rename({"figure": "a", "figure_b": "b"})
    known = pl.col("standard_error") > 0
    rows = told.with_columns(
        move=relative_move("a", "b"),
        target_move=relative_move("target", "target_b"),
        standard_errors=pl.when(known).then((pl.col("b") - pl.col("a")) / pl.col("standard_error")),
    ).select(
        *TARGET_KEY,
        "family",
        "unit",
        "kind",
        "a",
        "b",
        "move",
        "standard_errors",
        "records",
        "target_move",
        target="target_b",
        concept_error="concept_error_b",
    )
    return by_level(rows, *TARGET_KEY[1:])


def _targets(a: pl.DataFrame, b: pl.DataFrame, threshold: float) -> pl.DataFrame:
    """See ``Difference.targets``: a target counts where weights are fitted to it."""
    parts = [
        frame.filter((pl.col("role") == CALIBRATE) & pl.col("fitted").is_not_null())
        for frame in (a, b)
    ]
    both = parts[0].join(parts[1], on=TARGET_KEY, how="full", suffix="_b", coalesce=True)
    moves = both.with_columns(unit=pl.coalesce("unit", "unit_b")).with_columns(
        move=relative_move("value", "value_b")
    )
    here, there = pl.col("value").is_not_null(), pl.col("value_b").is_not_null()
    far = pl.col("move").abs() > threshold
    rows = moves.group_by("level", *VARIABLE_KEY).agg(
        pl.coalesce("family", "family_b").first().alias("family"),
        pl.coalesce("source", "source_b").first().alias("source"),
        here.sum().alias("areas_a"),
        there.sum().alias("areas_b"),
        (here & ~there).sum().alias("gone"),
        (~here & there).sum().alias("new"),
        far.sum().alias("moved"),
        pl.col("move")
        .sort_by(pl.col("move").abs(), nulls_last=True)
        .drop_nulls()
        .last()
        .alias("largest"),
    )
    return by_level(rows, *VARIABLE_KEY)


def _weights(a: TableSet, b: TableSet, state: str) -> dict[str, Any]:
    frames = [tables.table(WEIGHTS, state) for tables in (a, b)]
    summaries = [weight_summary(frame) for frame in frames]
    pairs = frames[0].join(
        frames[1], on=_PAIR, how="full", suffix="_b", coalesce=True, nulls_equal=True
    )
    kept = pairs.filter(pl.col("weight").is_not_null() & pl.col("weight_b").is_not_null())
    records = [set(tables.table(RECORD_TABLES[0], state)["household_id"]) for tables in (a, b)]
    mass = float(kept["weight_b"].sum()) / summaries[1]["sum_of_weights"]
    return {
        **{
            f"{name}_{which}": summary[name]
            for name in ("pairs", "sum_of_weights", "ess", "smallest_weight", "largest_weight")
            for which, summary in zip("ab", summaries, strict=True)
        },
        **{
            f"quantile_{100 * q:g}_{which}": frame["weight"].quantile(q, "linear")
            for q in QUANTILES
            for which, frame in zip("ab", frames, strict=True)
        },
        "kolmogorov": _kolmogorov(frames[0]["weight"], frames[1]["weight"]),
        "pairs_kept": kept.height,
        "pairs_gone": frames[0].height - kept.height,
        "pairs_new": frames[1].height - kept.height,
        "pairs_same_weight": kept.filter(pl.col("weight") == pl.col("weight_b")).height,
        "weight_on_kept_pairs": mass,
        "records_kept": len(records[0] & records[1]),
        "records_gone": len(records[0] - records[1]),
        "records_new": len(records[1] - records[0]),
    }


def _kolmogorov(a: pl.Series, b: pl.Series) -> float:
    """Largest distance of the two distributions of weights over pairs."""
    import numpy as np

    first, second = np.sort(a.to_numpy()), np.sort(b.to_numpy())
    at = np.concatenate([first, second])
    shares = [np.searchsorted(w, at, side="right") / w.size for w in (first, second)]
    return float(np.abs(shares[0] - shares[1]).max())


def _fit(a: TableSet, b: TableSet) -> dict[str, dict[str, Any]]:
    """By level: median and worst error and share inside margins of both."""
    names = ("fitted", "share_inside_margin", "median_are", "mean_are", "worst_are")
    found: dict[str, dict[str, Any]] = {}
    for which, tables in (("a", a), ("b", b)):
        whole = pl.concat(
            [tables.table(FIT, state).drop("truth", strict=False) for state in tables.states]
        )
        for row in summary_by(whole, "fitted").to_dicts():
            held = found.setdefault(row["level"], {})
            held.update({f"{name}_{which}": row[name] for name in names})
    return dict(sorted(found.items(), key=lambda item: LEVEL_RANK.get(item[0], 9)))


def _made_of(a: TableSet, b: TableSet) -> tuple[dict[str, str], dict[str, tuple[Any, Any]]]:
    files: list[dict[str, str]] = []
    versions: list[dict[str, Any]] = []
    for tables in (a, b):
        manifests = [tables.manifest(state) for state in tables.states]
        files.append(
            {
                f"{item['file']} {item['member']}".strip(): item["sha256"]
                for manifest in manifests
                for item in manifest.get("inputs", [])
            }
        )
        versions.append(_versions(manifests))
    changed = {
        name: "changed"
        if name in files[0] and name in files[1]
        else ("gone" if name in files[0] else "new")
        for name in sorted(files[0].keys() | files[1].keys())
        if files[0].get(name) != files[1].get(name)
    }
    names = sorted(versions[0].keys() | versions[1].keys())
    pairs = {name: (versions[0].get(name), versions[1].get(name)) for name in names}
    return changed, {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _versions(manifests: list[dict[str, Any]]) -> dict[str, Any]:
    """What the states were made by; several values where they differ."""
    found: dict[str, set[str]] = {}
    for manifest in manifests:
        own: Mapping[str, Any] = {
            **{n: manifest.get(n) for n in ("geocal", "code_sha256", "specs_sha256", "seed")},
            **manifest.get("packages", {}),
        }
        for name, value in own.items():
            if value is not None:
                found.setdefault(name, set()).add(str(value))
    return {name: ", ".join(sorted(values)) for name, values in found.items()}


def summary_of_moves(totals: pl.DataFrame, threshold: float, *by: str) -> pl.DataFrame:
    """Per level and ``by``: number of figures, how many moved beyond the threshold, the median and
    the largest move with its name.
    """
    size = pl.col("move").abs()
    known = totals.filter(pl.col("move").is_not_null())
    largest = known.sort(size, *TARGET_KEY, descending=[True, *[False] * 4])
    rows = largest.group_by("level", *by, maintain_order=True).agg(
        pl.len().alias("figures"),
        (size > threshold).sum().alias("moved"),
        size.median().alias("median_move"),
        pl.col("move").first().alias("largest_move"),
        pl.col("geoid").first(),
        pl.concat_str(VARIABLE_KEY, separator="/").first().alias("of"),
    )
    return by_level(rows, *by)


def document(found: Difference) -> dict[str, Any]:
    """What ``geocal diff --json`` prints."""
    moved = found.moved
    targets = found.targets
    changed = targets.filter((pl.col("gone") > 0) | (pl.col("new") > 0) | (pl.col("moved") > 0))
    return {
        "a": found.a.name,
        "b": found.b.name,
        "threshold": found.threshold,
        "same": found.same,
        "states": list(found.states),
        "states_gone": list(found.states_gone),
        "states_new": list(found.states_new),
        "moves_by_kind": _rows(summary_of_moves(found.totals, found.threshold, "kind")),
        "moves_by_family": _rows(summary_of_moves(found.totals, found.threshold, "family")),
        "moved": _rows(moved.filter(pl.col("level").is_in([NATION, STATE]))),
        "moved_below": _rows(
            found.worth_naming.filter(~pl.col("level").is_in([NATION, STATE]))
            .group_by("level", maintain_order=True)
            .head(LARGEST)
        ),
        "figures_gone": _rows(found.figures_gone.select(*TARGET_KEY, "kind", "a")),
        "targets": _rows(changed),
        "weights": {s: {k: _finite(v) for k, v in w.items()} for s, w in found.weights.items()},
        "fit": {level: {k: _finite(v) for k, v in row.items()} for level, row in found.fit.items()},
        "raw_files": found.files,
        "versions": {name: list(pair) for name, pair in found.versions.items()},
    }


def _rows(frame: pl.DataFrame) -> list[dict[str, Any]]:
    return [{k: _finite(v) for k, v in row.items()} for row in frame.iter_rows(named=True)]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
