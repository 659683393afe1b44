"""Columns that weights were not told, tract by tract: what was published, what weights give, and
how far apart the two are.

A column is measured as its share of the persons (or households) of a tract, in percent, since the
Census counted in 2020 and the weights count another year. The error of weights over tracts t is

    sqrt( sum_t n_t ((share_t - published_t)^2 - se_t^2) / sum_t n_t ) ,

n_t the published persons or households, se_t the standard error where a margin is published (else
0): what the publication's own sampling adds is taken off. Median household income is measured the
same way, relative to the published median, with its sampling error left in and taken off: it comes
from the same interviews as targets do, so weights that fit their errors look better at it.

Belongs here: those figures. Does not belong here: weights, the table that compares them
(``untold_columns.py``), the list of columns (``untold_columns.yaml``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import yaml

from calibration_core.errors import GeocalError
from pipeline.errors import SpecError
from pipeline.loaded_state import LoadedState
from pipeline.records.expressions import measure
from pipeline.sources.registry import read_source
from pipeline.specs.sources import load_source
from pipeline.steps import areas_of

COLUMNS_FILE = Path(__file__).with_suffix(".yaml").with_name("untold_columns.yaml")
_CENSUS = ("census2020_dp_tracts", "2020")
# Median household income and the households it is of, of the ACS data profiles.
_MEDIAN, _OF_MEDIAN, _PROFILES = "DP03_0062", "DP02_0001", "acs5_profile_tracts"
_MARGIN_90 = 1.645
MEDIAN_INCOME = "median_income"


@dataclass(frozen=True, eq=False)
class Column:
    """One column.

    Attributes
    ----------
    id, label : its name, and in words.
    published : (areas,) float64 share published, in percent; of median income the median, dollars.
    error : (areas,) float64 its standard error, 0 without a margin.
    size : (areas,) float64 persons or households published; 0 where nothing was.
    group : (areas,) int64 PUMA of the area.
    net : whether the published figure's own sampling is taken off the error.
    part, whole : (records,) float64 contributions to the column, and to what it is a share of; of
        median income the household income, and whether a record has one.
    """

    id: str
    label: str
    published: np.ndarray
    error: np.ndarray
    size: np.ndarray
    group: np.ndarray
    part: np.ndarray
    whole: np.ndarray
    net: bool = True

    @property
    def is_income(self) -> bool:
        """Whether it is a median of income and no share."""
        return self.id == MEDIAN_INCOME

    @property
    def of_puma(self) -> np.ndarray:
        """(areas,) the published figure of the area's PUMA: the size-weighted mean of its areas."""
        sums = np.bincount(self.group, self.size)
        mean = np.bincount(self.group, self.size * self.published) / np.where(sums > 0, sums, 1.0)
        return mean[self.group]

    def given(self, leaf: np.ndarray, record: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """(areas,) the same figure from pairs: (k,) leaf, record and weight."""
        if self.is_income:
            return self._medians(leaf, record, weight)
        areas = self.published.size
        part = np.bincount(leaf, weight * self.part[record], areas)
        whole = np.bincount(leaf, weight * self.whole[record], areas)
        return 100.0 * part / np.where(whole > 0, whole, 1.0)

    def _medians(self, leaf: np.ndarray, record: np.ndarray, weight: np.ndarray) -> np.ndarray:
        weight = weight * self.whole[record]
        order = np.lexsort((self.part[record], leaf))
        leaf, income, weight = leaf[order], self.part[record[order]], weight[order]
        found = np.zeros(self.published.size)
        for area in np.unique(leaf):
            here = slice(*np.searchsorted(leaf, [area, area + 1]))
            sums = np.cumsum(weight[here])
            if sums[-1] > 0:
                found[area] = income[here][np.searchsorted(sums, 0.5 * sums[-1])]
        return found

    def rmse(self, given: np.ndarray) -> float:
        """The error of ``given`` (areas,): points of percent; of median income percent."""
        unit = 100.0 / np.where(self.published > 0, self.published, 1.0)
        unit = unit if self.is_income else np.ones(unit.size)
        error = self.error if self.net else np.zeros(unit.size)
        squares = ((given - self.published) * unit) ** 2 - (error * unit) ** 2
        return float(np.sqrt(max(0.0, self.size @ squares / self.size.sum())))


def untold_columns(loaded: LoadedState, data: Path) -> tuple[list[Column], list[str]]:
    """The columns of the file, median income last, with and net of its sampling; and the labels of
    those that are not published in ``data``."""
    said = yaml.safe_load(COLUMNS_FILE.read_text(encoding="utf-8"))
    tables = _Published(loaded, data)
    wanted = [{"source": _CENSUS[0], "minus": [], **item} for item in said["columns"]]
    found = [item for item in wanted if tables.has(item["source"], item["plus"] + item["minus"])]
    wholes = {name: {"id": f"all {name}", **item} for name, item in said["of"].items()}
    matrix = _contributions(loaded, [*found, *wholes.values()])
    columns = []
    for item in found:
        whole = wholes[item["of"]]
        size = tables.sums(_CENSUS[0], [whole["column"]])
        count = tables.sums(item["source"], item["plus"]) - tables.sums(
            item["source"], item["minus"]
        )
        share = 100.0 * count / np.where(size > 0, size, 1.0)
        columns.append(
            Column(
                item["id"],
                item["label"],
                share,
                np.zeros(size.size),
                size,
                tables.group,
                matrix[item["id"]],
                matrix[whole["id"]],
            )
        )
    income = _median_income(loaded, tables)
    missing = [item["label"] for item in wanted if item not in found]
    return [*columns, *income], missing


def _contributions(loaded: LoadedState, items: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """What every unit adds to each item, by its id."""
    specs = [
        SimpleNamespace(
            variable=item["id"],
            domain="",
            over=item.get("of", item["id"].removeprefix("all ")),
            where=item["where"],
            value=None,
        )
        for item in items
    ]
    measured = measure(loaded.inputs.records, specs, loaded.ready.units["household_id"])
    if measured.inexpressible:
        raise SpecError(
            f"The records do not tell {measured.inexpressible[0].variable}",
            where=str(COLUMNS_FILE),
            expected="expressions over columns that the survey has",
            remedy="Leave the column out",
        )
    return {item["id"]: measured.column(item["id"], "") for item in items}


def _median_income(loaded: LoadedState, tables: _Published) -> list[Column]:
    if not tables.has(_PROFILES, [_MEDIAN, _OF_MEDIAN]):
        return []
    median, size = tables.values(_PROFILES, _MEDIAN), tables.sums(_PROFILES, [_OF_MEDIAN])
    margin = tables.values(_PROFILES, _MEDIAN, "margin_of_error")
    known = np.isfinite(median) & np.isfinite(margin)
    homes = loaded.inputs.records["households"].sort("household_id")
    counted = ~homes["is_group_quarters"] & homes["household_income"].is_not_null()
    gross = Column(
        MEDIAN_INCOME,
        "Median household income (percent)",
        np.where(known, median, 0.0),
        np.where(known, margin, 0.0) / _MARGIN_90,
        np.where(known, size, 0.0),
        tables.group,
        homes["household_income"].fill_null(0.0).to_numpy().astype(np.float64),
        counted.to_numpy().astype(np.float64),
        net=False,
    )
    return [gross, replace(gross, label="the same, net of sampling", net=True)]


class _Published:
    """Published tables of one state by tract, in the order of its areas."""

    def __init__(self, loaded: LoadedState, data: Path) -> None:
        state = loaded.ready
        self.leaves, self.postal, self.data = state.leaves, state.postal, data
        vintage = state.profile.geography.vintage
        areas = areas_of(loaded.inputs.geography, state.postal, vintage)
        puma = dict(areas.select("tract", "puma").iter_rows())
        names = sorted({puma[leaf] or "" for leaf in self.leaves})
        self.group = np.array([names.index(puma[leaf] or "") for leaf in self.leaves])
        stated = dict(state.profile.sources)
        self.vintages = {_PROFILES: stated.get(_PROFILES, [""])[-1]}
        self.frames: dict[str, pl.DataFrame] = {}

    def frame(self, source: str) -> pl.DataFrame:
        if source not in self.frames:
            vintage = self.vintages.get(source, _CENSUS[1])
            table = read_source(load_source(source), vintage, self.data, [self.postal])
            self.frames[source] = table.frame.filter(pl.col("level") == "tract")
        return self.frames[source]

    def has(self, source: str, columns: list[str]) -> bool:
        """Whether the file is there and publishes all of ``columns``."""
        try:
            return set(columns) <= set(self.frame(source)["column"].unique())
        except GeocalError:
            return False

    def values(self, source: str, column: str, which: str = "estimate") -> np.ndarray:
        """(areas,) NaN where nothing is published."""
        frame = self.frame(source).filter(pl.col("column") == column)
        found = dict(frame.select("geoid", which).iter_rows())
        return np.array([np.nan if (v := found.get(a)) is None else v for a in self.leaves])

    def sums(self, source: str, columns: list[str]) -> np.ndarray:
        """(areas,) the sum of the columns, nothing counting as zero."""
        return sum(
            (np.nan_to_num(self.values(source, column)) for column in columns),
            np.zeros(len(self.leaves)),
        )
