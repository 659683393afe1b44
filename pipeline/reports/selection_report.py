"""What selection lost, as one long table of a state, and what a reader is told of it.

A row is a measure of one area: ``measure, level, geoid, variable, family, unit, dense, selected,
difference, reference``. ``difference`` is selected - dense in the measure's unit, or the distance
itself where the measure is one between the two (``DISTANCES``: dense and selected are null).
``reference`` is the published value of a held-out target, carried to the target year. A held-out
target is one whose role is validation: nobody fitted it.

Belongs here: laying out and summarising figures. Does not belong here: the figures' formulas
(``calibration_core/tree/select/loss_report.py``), charts, or the terminal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from pipeline.ordered_sums import mean_in_order, sum_in_order
from pipeline.reports.fit import LEAST_DENOMINATOR, LEVEL_ORDER

if TYPE_CHECKING:
    # For annotations only: showing a stored result needs no numerics.
    from calibration_core.tree.geography import GeographyTree
    from calibration_core.tree.select.loss_report import AreaLoss, SelectionLoss

INCOME = "usd_household_income|total"
_AMOUNT, _WHOLE_DOMAINS = "usd_", ("total", "households")
BETWEEN = " × "
HELD_OUT = "held_out"
# Columns of candidate_cells that are no class.
_NO_CLASS = ("cell", "label", "records", "weight", "thin")
SCHEMA = {
    **dict.fromkeys(("measure", "level", "geoid", "variable", "family", "unit"), pl.String),
    **dict.fromkeys(("dense", "selected", "difference", "reference"), pl.Float64),
}
# Measures between the two sets of weights, with their unit.
DISTANCES = {
    "cell_distance": "share",
    "uncovered_share": "share",
    "pearson_largest": "correlation",
    "pearson_rms": "correlation",
    "rank_largest": "correlation",
    "rank_rms": "correlation",
}
# Measure of the weights -> field of WeightShape, unit.
SHAPES = {
    "pairs": ("count", "pairs"),
    "sum_of_weights": ("total", "households"),
    "ess": ("ess", "pairs"),
    "design_effect": ("design_effect", "ratio"),
    "largest_weight": ("largest", "households"),
    "smallest_weight": ("smallest", "households"),
    "largest_weight_share": ("largest_share", "share"),
    "share_of_top_1pct": ("top_share", "share"),
}


def amount_columns(units: pl.DataFrame) -> list[str]:
    """The continuous variables of the candidates: dollar amounts over all households or returns.
    Where there is none, the order of the list within a cell.
    """
    names = [
        c for c in units.columns if c.startswith(_AMOUNT) and c.rpartition("|")[2] in _WHOLE_DOMAINS
    ]
    return names or ["order"]


def measured_loss(
    tree: GeographyTree,
    units: pl.DataFrame,
    cells: pl.DataFrame,
    dense: np.ndarray,
    leaf: np.ndarray,
    record: np.ndarray,
    weights: np.ndarray,
) -> tuple[SelectionLoss, pl.DataFrame]:
    """The losses of a state as arrays, and laid out as rows. ``cells`` names them: ``cell``,
    ``label`` and a column for each class they are made of; ``dense`` (leaves, records), the pairs'
    places and weights (k,).
    """
    from calibration_core.tree.select.loss_report import selection_loss

    amounts = amount_columns(units)
    continuous = units.select(amounts).to_numpy().astype(np.float64, copy=False)
    loss = selection_loss(
        dense,
        leaf,
        record,
        weights,
        cell=units["cell"].to_numpy(),
        continuous=continuous,
        tree=tree,
    )
    parts = [*_overall_rows(loss, tree, amounts), *_cell_rows(loss, tree, cells)]
    for level, geoids, area in zip(loss.level_names, tree.geoids, loss.levels, strict=True):
        parts += _area_rows(area, level, geoids, amounts, loss.percentiles)
    return loss, _gathered(parts)


def held_out_rows(
    targets: pl.DataFrame,
    tree: GeographyTree,
    units: pl.DataFrame,
    dense: np.ndarray,
    leaf: np.ndarray,
    record: np.ndarray,
    weights: np.ndarray,
) -> pl.DataFrame:
    """A row for each target kept for validation that these records can express, fitted by both sets
    of weights, beside what was published.
    """
    from calibration_core.tree.totals import pair_totals, pool_totals
    from pipeline.weights.candidates import design_matrix

    name = pl.concat_str("variable", "domain", separator="|")
    kept = targets.filter(
        (pl.col("role") == "validation") & pl.col("published_value").is_not_null()
    ).with_columns(variable=name)
    kept = kept.filter(pl.col("variable").is_in([c for c in units.columns if "|" in c]))
    keys = [
        sorted(kept.filter(pl.col("level") == level)["variable"].unique()) for level in tree.levels
    ]
    designs = [design_matrix(units, [tuple(key.split("|", 1)) for key in level]) for level in keys]
    both = pool_totals(tree, designs, dense), pair_totals(tree, designs, leaf, record, weights)
    parts = []
    for depth, level in enumerate(tree.levels):
        place, column = (
            {g: i for i, g in enumerate(tree.geoids[depth])},
            {k: i for i, k in enumerate(keys[depth])},
        )
        rows = kept.filter((pl.col("level") == level) & pl.col("geoid").is_in(list(place))).sort(
            "geoid", "variable"
        )
        at = [place[g] for g in rows["geoid"]], [column[k] for k in rows["variable"]]
        values = (fitted[depth][at] if rows.height else np.empty(0) for fitted in both)
        parts.append(
            _rows(
                HELD_OUT,
                level,
                rows["geoid"],
                rows["variable"],
                rows["unit"],
                *values,
                rows["published_value"],
                rows["family"],
            )
        )
    return _gathered(parts)


def _rows(
    measure: str,
    level: str,
    geoid: Any,
    variable: Any,
    unit: Any,
    dense: Any,
    selected: Any,
    reference: Any = None,
    family: Any = "",
) -> pl.DataFrame:
    """Rows of one measure; every argument but the first two is a column or one value for all.
    ``difference`` follows from the two before it.
    """
    given = {
        "geoid": geoid,
        "variable": variable,
        "family": family,
        "unit": unit,
        "dense": dense,
        "selected": selected,
        "reference": reference,
    }
    lengths = [
        len(value) for value in given.values() if value is not None and not isinstance(value, str)
    ]
    height = max(lengths)
    columns = {
        name: pl.Series(
            name,
            [value] * height if value is None or isinstance(value, str) else value,
            dtype=SCHEMA[name],
        )
        for name, value in given.items()
    }
    frame = pl.DataFrame(columns).with_columns(
        pl.col("dense", "selected", "reference").fill_nan(None),
        measure=pl.lit(measure),
        level=pl.lit(level),
    )
    return frame.with_columns(difference=pl.col("selected") - pl.col("dense")).select(list(SCHEMA))


def _gathered(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat([pl.DataFrame(schema=SCHEMA), *parts])


def _distances(
    measure: str, level: str, geoid: Any, variable: Any, unit: str, distance: Any
) -> pl.DataFrame:
    """Rows of a measure between the two sets of weights."""
    nothing = np.full(len(distance), np.nan)
    return _rows(measure, level, geoid, variable, unit, nothing, nothing).with_columns(
        difference=pl.Series(distance, dtype=pl.Float64).fill_nan(None)
    )


def _overall_rows(
    loss: SelectionLoss, tree: GeographyTree, amounts: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """Correlations of the whole state, one by one, and pairs that dense weights leave out."""
    level, geoid = tree.levels[0], tree.geoids[0][0]
    outside = [float(loss.pairs_outside)]
    yield _rows("pairs_without_dense_weight", level, [geoid], "", "pairs", [0.0], outside)
    above = np.triu_indices(len(amounts), 1)
    pairs = [amounts[i] + BETWEEN + amounts[j] for i, j in zip(*above, strict=True)]
    if pairs:
        yield _rows(
            "pearson",
            level,
            geoid,
            pairs,
            "correlation",
            loss.pearson_dense[above],
            loss.pearson_selected[above],
        )
        yield _rows(
            "rank_correlation",
            level,
            geoid,
            pairs,
            "correlation",
            loss.rank_dense[above],
            loss.rank_selected[above],
        )


def _cell_rows(
    loss: SelectionLoss, tree: GeographyTree, cells: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Share of each cell in the whole state, and of each value of the classes that cells are made
    of (``type: married couple``).
    """
    level, geoid = tree.levels[0], tree.geoids[0][0]
    shares = pl.DataFrame(
        {
            "cell": loss.cell_numbers,
            "dense": loss.cell_share_dense,
            "selected": loss.cell_share_selected,
        }
    )
    named = shares.join(cells, on="cell", how="left", maintain_order="left").with_columns(
        pl.col("label").fill_null("")
    )
    # Two cells of one name, or a cell without, keep their number.
    number = pl.format("cell {}", "cell")
    label = (
        pl.when(pl.col("label") == "")
        .then(number)
        .when(pl.col("label").is_duplicated())
        .then(pl.format("{} ({})", "label", number))
        .otherwise("label")
    )
    yield _rows(
        "cell_share",
        level,
        geoid,
        named.select(name=label)["name"],
        "share",
        named["dense"],
        named["selected"],
    )
    for name in [c for c in cells.columns if c not in _NO_CLASS]:
        category = pl.format("{}: {}", pl.lit(name), pl.col(name).fill_null("unknown"))
        of_class = (
            named.group_by(category.alias("category"))
            .agg(sum_in_order("dense", "cell"), sum_in_order("selected", "cell"))
            .sort("category")
        )
        yield _rows(
            "category_share",
            level,
            geoid,
            of_class["category"],
            "share",
            of_class["dense"],
            of_class["selected"],
        )


def _area_rows(
    area: AreaLoss,
    level: str,
    geoids: Sequence[str],
    amounts: Sequence[str],
    percentiles: np.ndarray,
) -> Iterator[pl.DataFrame]:
    """Every measure of the areas of one level."""
    for measure, unit in DISTANCES.items():
        yield _distances(measure, level, geoids, "", unit, getattr(area, measure))
    for measure, (field, unit) in SHAPES.items():
        yield _rows(
            measure,
            level,
            geoids,
            "",
            unit,
            getattr(area.dense, field),
            getattr(area.selected, field),
        )
    yield _rows(
        "record_ess", level, geoids, "", "records", area.record_ess_dense, area.record_ess_selected
    )
    yield _rows("cells", level, geoids, "", "cells", area.cells, area.cells - area.cells_uncovered)
    for v, name in enumerate(amounts):
        yield _distances("kolmogorov", level, geoids, name, "share", area.kolmogorov[:, v])
        yield _rows(
            "positive_share",
            level,
            geoids,
            name,
            "share",
            area.positive_dense[:, v],
            area.positive_selected[:, v],
        )
        yield _rows(
            "mean", level, geoids, name, "usd", area.mean_dense[:, v], area.mean_selected[:, v]
        )
        for q, percent in enumerate(percentiles):
            yield _rows(
                f"quantile_{percent:g}",
                level,
                geoids,
                name,
                "usd",
                area.quantiles_dense[:, v, q],
                area.quantiles_selected[:, v, q],
            )


def held_out_errors(table: pl.DataFrame, by: Sequence[str] = ("level",)) -> pl.DataFrame:
    """Held-out targets by level, or level and family: their number, those next to zero (without a
    relative error), the median and mean absolute relative error under both weights, and the median
    of |selected - dense| / published, which is what selection alone did.
    """
    least = pl.col("unit").replace_strict(LEAST_DENOMINATOR, default=1.0, return_dtype=pl.Float64)
    size = pl.when(pl.col("reference").abs() >= least).then(pl.col("reference").abs())
    rows = table.filter(pl.col("measure") == HELD_OUT).with_columns(
        *(
            ((pl.col(name) - pl.col("reference")).abs() / size).alias(f"error_{name}")
            for name in ("dense", "selected")
        ),
        moved=pl.col("difference").abs() / size,
    )
    order = pl.col("level").replace_strict(
        {level: i for i, level in enumerate(LEVEL_ORDER)},
        default=len(LEVEL_ORDER),
        return_dtype=pl.Int64,
    )
    return (
        rows.group_by(list(by))
        .agg(
            targets=pl.len().cast(pl.Int64),
            next_to_zero=pl.col("moved").null_count().cast(pl.Int64),
            median_error_dense=pl.col("error_dense").median(),
            median_error_selected=pl.col("error_selected").median(),
            mean_error_dense=mean_in_order("error_dense"),
            mean_error_selected=mean_in_order("error_selected"),
            median_moved=pl.col("moved").median(),
        )
        .with_columns(_order=order)
        .sort("_order", *by)
        .drop("_order")
    )


def amounts_table(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each continuous variable of the whole state: Kolmogorov distance, shares with a
    positive amount, means, and the relative difference of each quantile of the positive amounts
    (null where there is none).
    """
    top = _top(table)
    quantiles = [m for m in top["measure"].unique(maintain_order=True) if m.startswith("quantile_")]

    def one(measure: str, **columns: pl.Expr) -> pl.DataFrame:
        return top.filter(pl.col("measure") == measure).select("variable", **columns)

    frame = one("kolmogorov", kolmogorov=pl.col("difference"))
    parts = [
        one(m, **{f"{m}_{side}": pl.col(side) for side in ("dense", "selected")})
        for m in ("positive_share", "mean")
    ]
    for part in [
        *parts,
        *(one(q, **{q: pl.col("selected") / pl.col("dense") - 1}) for q in quantiles),
    ]:
        frame = frame.join(part, on="variable", how="left", maintain_order="left")
    return frame


def weights_table(table: pl.DataFrame) -> pl.DataFrame:
    """Figures of both sets of weights in the whole state: ``measure, unit, dense, selected``."""
    wanted = [*SHAPES, "record_ess", "cells", "pairs_without_dense_weight"]
    return (
        _top(table)
        .filter(pl.col("measure").is_in(wanted))
        .select("measure", "unit", "dense", "selected")
    )


def by_area(table: pl.DataFrame) -> pl.DataFrame:
    """Median and worst area of each level: ``level, measure, variable, areas, median, worst,
    worst_geoid``. The worst has the largest distance or design effect and the least effective
    sample size. Areas without a figure (nobody lives there, or no pair) are not among ``areas``.
    """
    figures = {
        **dict.fromkeys(
            ("cell_distance", "uncovered_share", "pearson_rms", "rank_rms"), ("difference", True)
        ),
        "design_effect": ("selected", True),
    }
    figures |= {"ess": ("selected", False), "kolmogorov": ("difference", True)}
    parts = []
    for measure, (column, large) in figures.items():
        rows = table.filter(
            (pl.col("measure") == measure) & pl.col(column).is_not_null()
        ).with_columns(_value=pl.col(column))
        ordered = rows.sort("_value", "geoid", descending=[large, False])
        parts.append(
            ordered.group_by("level", "measure", "variable", maintain_order=True).agg(
                areas=pl.len().cast(pl.Int64),
                median=pl.col("_value").median(),
                worst=pl.col("_value").first(),
                worst_geoid=pl.col("geoid").first(),
            )
        )
    order = pl.col("level").replace_strict(
        {level: i for i, level in enumerate(LEVEL_ORDER)},
        default=len(LEVEL_ORDER),
        return_dtype=pl.Int64,
    )
    return (
        pl.concat(parts)
        .with_columns(_order=order)
        .sort("_order", maintain_order=True)
        .drop("_order")
    )


def correlations_table(table: pl.DataFrame) -> pl.DataFrame:
    """Pearson and rank correlations of the whole state by pair of variables, the largest
    differences first.
    """
    rows = (
        _top(table)
        .filter(pl.col("measure").is_in(["pearson", "rank_correlation"]))
        .select("measure", "variable", "dense", "selected", "difference")
    )
    return rows.sort(
        pl.col("difference").abs(),
        "measure",
        "variable",
        descending=[True, False, False],
        nulls_last=True,
    )


def cells_table(table: pl.DataFrame, measure: str = "cell_share") -> pl.DataFrame:
    """Shares of households by cell (or by value of a class: ``category_share``) of the whole state,
    the largest differences first.
    """
    rows = (
        _top(table)
        .filter(pl.col("measure") == measure)
        .select(cell="variable", dense="dense", selected="selected", difference="difference")
    )
    return rows.sort(pl.col("difference").abs(), "cell", descending=[True, False])


def _top(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of the whole state."""
    top = min(
        table["level"].unique(),
        key=lambda level: LEVEL_ORDER.index(level) if level in LEVEL_ORDER else len(LEVEL_ORDER),
        default="",
    )
    return table.filter(pl.col("level") == top)


def loss_summary(table: pl.DataFrame) -> dict[str, Any]:
    """The document that ``geocal show STATE --json`` has under ``selection_loss``; docs/dagster.md
    describes it.
    """
    top = _top(table)
    distance = dict(
        top.filter(pl.col("measure").is_in(list(DISTANCES)))
        .select("measure", "difference")
        .iter_rows()
    )
    correlations = correlations_table(table)
    document: dict[str, Any] = {
        "missing": "",
        "cell_distance": distance.get("cell_distance"),
        "uncovered_share": distance.get("uncovered_share"),
        "cells": cells_table(table).to_dicts(),
        "categories": cells_table(table, "category_share").rename({"cell": "category"}).to_dicts(),
        "amounts": amounts_table(table).to_dicts(),
        "correlations": {},
        "weights": {row.pop("measure"): row for row in weights_table(table).to_dicts()},
        "areas": by_area(table).to_dicts(),
        "areas_without_pairs": (
            table.filter(
                (pl.col("measure") == "pairs") & (pl.col("dense") > 0) & (pl.col("selected") == 0)
            )["geoid"].to_list()
        ),
        "held_out": held_out_errors(table).to_dicts(),
        "held_out_families": held_out_errors(table, ("level", "family")).to_dicts(),
    }
    for kind, measure in (("pearson", "pearson"), ("rank", "rank_correlation")):
        worst = correlations.filter(pl.col("measure") == measure).head(1)
        document["correlations"][kind] = {
            "rms": distance.get(f"{kind}_rms"),
            "largest": distance.get(f"{kind}_largest"),
            "largest_between": worst["variable"][0].split(BETWEEN) if worst.height else [],
        }
    return document


def income_points(
    units: pl.DataFrame,
    dense: np.ndarray,
    leaf: np.ndarray,
    record: np.ndarray,
    weights: np.ndarray,
) -> tuple[pl.DataFrame, str]:
    """Distribution functions of household income to draw, and a line that says what the picture
    leaves out.

    The records' ``order`` stands in where household income is no variable of the profile.
    """
    values = units[INCOME if INCOME in units.columns else "order"].to_numpy().astype(np.float64)
    of_records = {
        "dense": dense.sum(axis=0),
        "selected": np.bincount(record, weights=weights, minlength=values.size),
    }
    positive = {name: float(w[values > 0].sum() / w.sum()) for name, w in of_records.items()}
    points = distribution_points(values, of_records)
    note = "share of households with at most this income; above zero: " + ", ".join(
        f"{share:.1%} {name}" for name, share in positive.items()
    )
    return points, note


def correlation_points(table: pl.DataFrame) -> pl.DataFrame:
    """``dense, selected, kind`` of every correlation of the whole state."""
    kinds = {"pearson": "Pearson", "rank_correlation": "rank"}
    return (
        _top(table)
        .filter(pl.col("measure").is_in(list(kinds)))
        .select("dense", "selected", kind=pl.col("measure").replace(kinds))
    )


def cell_points(table: pl.DataFrame) -> pl.DataFrame:
    """``dense, selected, kind`` of every cell's share of the whole state."""
    return (
        _top(table)
        .filter(pl.col("measure") == "cell_share")
        .select("dense", "selected", kind=pl.lit("cell"))
    )


def sample_sizes(table: pl.DataFrame, level: str) -> pl.DataFrame:
    """``geoid, ess, pairs`` of the selected weights of each area of a level."""
    rows = table.filter((pl.col("level") == level) & pl.col("measure").is_in(["ess", "pairs"]))
    return rows.pivot(on="measure", index="geoid", values="selected").select(
        "geoid", "ess", "pairs"
    )


def distribution_points(
    values: np.ndarray, weights: dict[str, np.ndarray], *, least: float = 1000.0, points: int = 300
) -> pl.DataFrame:
    """Distribution functions to draw: ``weights`` (name, value, share of the weight at or below
    value) at up to ``points`` values from ``least`` up.

    values : (records,) float64. weights : by name, (records,) float64. What lies below ``least``
        counts in the first share.
    """
    upper = np.unique(values[values > least])
    grid = np.concatenate(
        [
            [least],
            (
                upper[
                    np.unique(
                        np.linspace(0, upper.size - 1, min(points, upper.size)).astype(np.int64)
                    )
                ]
                if upper.size
                else []
            ),
        ]
    )
    order = np.argsort(values, kind="stable")
    at = np.searchsorted(values[order], grid, side="right")
    parts = []
    for name, of_records in weights.items():
        cumulative = np.concatenate([[0.0], np.cumsum(of_records[order])])
        parts.append(
            pl.DataFrame(
                {
                    "weights": [name] * grid.size,
                    "value": grid,
                    "share": cumulative[at] / cumulative[-1],
                }
            )
        )
    return pl.concat(parts)
