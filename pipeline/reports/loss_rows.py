"""What selection lost, laid out as one long table of a state.

A row is a measure of one area: ``measure, level, geoid, variable, family, unit, dense, selected,
difference, reference``. ``difference`` is selected - dense in the measure's unit, or the distance
itself where the measure is one between the two (``DISTANCES``: dense and selected are null).
``reference`` is the published value of a held-out target, carried to the target year. A held-out
target is one whose role is validation: nobody fitted it.

Belongs here: from arrays to those rows. Does not belong here: the figures' formulas
(``calibration_core/tree/select/loss_report.py``), summaries of the table (``selection_report.py``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.select.area_losses import AreaLoss
from calibration_core.tree.select.loss_report import SelectionLoss, selection_loss
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.totals import pair_totals, pool_totals
from pipeline.ordered_sums import sum_in_order
from pipeline.reports.selection_report import BETWEEN, DISTANCES, HELD_OUT, SCHEMA, SHAPES
from pipeline.targets.grid import TargetGrid
from pipeline.vocabulary import (
    DESIGN_SEPARATOR,
    USD,
    VALIDATION,
    VARIABLE_KEY,
    Key,
    design_column,
    design_columns,
    key_of,
)
from pipeline.weights.problem import design_matrix
from pipeline.weights.table import StoredWeights

_WHOLE_DOMAINS = ("total", "households")
# Columns of candidate_cells that are no class.
_NO_CLASS = ("cell", "label", "records", "design_weight", "thin")
Place = tuple[str, Any]
"""A level, and a GEOID or one for each row."""


def amount_columns(units: pl.DataFrame, unit_of: Mapping[Key, str]) -> list[str]:
    """The continuous variables of the candidates: dollar amounts over all households or returns.

    ``unit_of``: unit of each variable. Where no amount is among them, the order of the list within
    a cell stands in.
    """
    columns = {name: key_of(name) for name in design_columns(units.columns)}
    dollars = [name for name, key in columns.items() if unit_of.get(key) == USD]
    return [name for name in dollars if columns[name][1] in _WHOLE_DOMAINS] or ["order"]


def measured_loss(
    pool: Pool,
    units: pl.DataFrame,
    cells: pl.DataFrame,
    stored: StoredWeights,
    unit_of: Mapping[Key, str],
) -> tuple[SelectionLoss, pl.DataFrame]:
    """The losses of a state as arrays, and laid out as rows.

    ``pool``: areas and cells. ``cells`` names the cells: ``cell``, ``label`` and a
    column for each class they are made of. ``unit_of``: unit of each variable.
    """
    amounts, tree = amount_columns(units, unit_of), pool.tree
    continuous = units.select(amounts).to_numpy().astype(np.float64, copy=False)
    loss = selection_loss(
        pool, stored.leaf, stored.record, stored.weight, continuous=continuous, dense=stored.dense
    )
    parts = [*_overall_rows(loss, tree, amounts), *_cell_rows(loss, tree, cells)]
    for level, geoids, area in zip(loss.level_names, tree.geoids, loss.levels, strict=True):
        parts += _area_rows(area, (level, geoids), amounts, loss.percentiles)
    return loss, pl.concat([pl.DataFrame(schema=SCHEMA), *parts])


def held_out_rows(
    targets: pl.DataFrame, tree: GeographyTree, units: pl.DataFrame, stored: StoredWeights
) -> pl.DataFrame:
    """A row for each target kept for validation that these records can express, fitted by both sets
    of weights, beside what was published."""
    kept = (pl.col("role") == VALIDATION) & pl.col("published_value").is_not_null()
    stated = targets.filter(kept).select("level", *VARIABLE_KEY).unique()
    keys = []
    for level in tree.levels:
        of_level = stated.filter(pl.col("level") == level).select(VARIABLE_KEY).iter_rows()
        held = [key for key in of_level if design_column(key) in units.columns]
        keys.append(sorted(held, key=design_column))
    grid = TargetGrid.of(targets, kept, tree, keys)
    designs = [design_matrix(units, level) for level in keys]
    rows = grid.long(
        grid.used,
        _row=grid.rows,
        dense=pool_totals(tree, designs, stored.dense),
        selected=pair_totals(tree, designs, stored.leaf, stored.record, stored.weight),
    )
    facts = targets[rows["_row"].cast(pl.Int64)].select("family", "unit", "published_value")
    return (
        pl.concat([rows, facts], how="horizontal")
        .with_columns(
            measure=pl.lit(HELD_OUT),
            variable=pl.concat_str(VARIABLE_KEY, separator=DESIGN_SEPARATOR),
            difference=pl.col("selected") - pl.col("dense"),
            reference=pl.col("published_value"),
        )
        .select(list(SCHEMA))
    )


def _rows(
    measure: str, place: Place, variable: Any, unit: str, dense: Any, selected: Any
) -> pl.DataFrame:
    """Rows of one measure, of one level; ``place`` holds the level and its GEOIDs, and these and
    ``variable`` are a column or one value for all. ``difference`` follows from the last two."""
    level, geoid = place
    given = {"geoid": geoid, "variable": variable, "dense": dense, "selected": selected}
    height = max(len(value) for value in given.values() if not isinstance(value, str))
    columns = {
        name: pl.Series([value] * height if isinstance(value, str) else value, dtype=SCHEMA[name])
        for name, value in given.items()
    }
    said = {"measure": measure, "level": level, "family": "", "unit": unit}
    frame = pl.DataFrame(columns).with_columns(
        pl.col("dense", "selected").fill_nan(None),
        **{name: pl.lit(value) for name, value in said.items()},
        reference=pl.lit(None, pl.Float64),
    )
    return frame.with_columns(difference=pl.col("selected") - pl.col("dense")).select(list(SCHEMA))


def _distances(
    measure: str, place: Place, variable: Any, unit: str, distance: np.ndarray
) -> pl.DataFrame:
    """Rows of a measure between the two sets of weights."""
    nothing = np.full(len(distance), np.nan)
    return _rows(measure, place, variable, unit, nothing, nothing).with_columns(
        difference=pl.Series(distance, dtype=pl.Float64).fill_nan(None)
    )


def _overall_rows(
    loss: SelectionLoss, tree: GeographyTree, amounts: Sequence[str]
) -> Iterator[pl.DataFrame]:
    """Correlations of the whole state, one by one, and pairs that dense weights leave out."""
    place = tree.levels[0], tree.geoids[0][0]
    outside = [float(loss.pairs_outside)]
    yield _rows("pairs_without_dense_weight", place, "", "pairs", [0.0], outside)
    above = np.triu_indices(len(amounts), 1)  # in the order of combinations
    pairs = [one + BETWEEN + other for one, other in combinations(amounts, 2)]
    if pairs:
        for measure, dense, selected in (
            ("pearson", loss.pearson_dense, loss.pearson_selected),
            ("rank_correlation", loss.rank_dense, loss.rank_selected),
        ):
            yield _rows(measure, place, pairs, "correlation", dense[above], selected[above])


def _cell_rows(
    loss: SelectionLoss, tree: GeographyTree, cells: pl.DataFrame
) -> Iterator[pl.DataFrame]:
    """Share of each cell in the whole state, and of each value of the classes that cells are made
    of (``type: married couple``)."""
    place = tree.levels[0], tree.geoids[0][0]
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
    names = named.select(name=label)["name"]
    yield _rows("cell_share", place, names, "share", named["dense"], named["selected"])
    for name in [c for c in cells.columns if c not in _NO_CLASS]:
        category = pl.format("{}: {}", pl.lit(name), pl.col(name).fill_null("unknown"))
        by_category = named.group_by(category.alias("category"))
        found = by_category.agg(
            sum_in_order("dense", "cell"), sum_in_order("selected", "cell")
        ).sort("category")
        yield _rows(
            "category_share", place, found["category"], "share", found["dense"], found["selected"]
        )


def _area_rows(
    area: AreaLoss, place: Place, amounts: Sequence[str], percentiles: np.ndarray
) -> Iterator[pl.DataFrame]:
    """Every measure of the areas of one level."""
    for measure, unit in DISTANCES.items():
        yield _distances(measure, place, "", unit, getattr(area, measure))
    for measure, (field, unit) in SHAPES.items():
        figures = getattr(area.dense, field), getattr(area.selected, field)
        yield _rows(measure, place, "", unit, *figures)
    figures = area.record_ess_dense, area.record_ess_selected
    yield _rows("record_ess", place, "", "records", *figures)
    yield _rows("cells", place, "", "cells", area.cells, area.cells - area.cells_uncovered)
    for v, name in enumerate(amounts):
        yield _distances("kolmogorov", place, name, "share", area.kolmogorov[:, v])
        figures = area.positive_dense[:, v], area.positive_selected[:, v]
        yield _rows("positive_share", place, name, "share", *figures)
        yield _rows("mean", place, name, USD, area.mean_dense[:, v], area.mean_selected[:, v])
        for q, percent in enumerate(percentiles):
            figures = area.quantiles_dense[:, v, q], area.quantiles_selected[:, v, q]
            yield _rows(f"quantile_{percent:g}", place, name, USD, *figures)
