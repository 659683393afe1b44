"""What a map shows: one figure for each tract and each county of a state.

Belongs here: the figures of a map, their words and units, names of counties. Does not belong here:
where an area lies (``tile_grid.py``, ``boundaries.py``), how it is drawn (``maps.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import polars as pl

from pipeline.errors import ProfileError
from pipeline.reports.fit import smallest
from pipeline.targets.standard_errors import MARGIN_90
from pipeline.vocabulary import COUNTY, EVIDENCE, TRACT, Key, design_column, design_columns

LEVELS_SHOWN = (COUNTY, TRACT)
SHARE_WITH_MARGIN = 0.5
"""Of a level's targets so many must have a margin before errors are shown as shares of it."""

_KIND_OF_COUNTY = re.compile(
    r"( \(SYNTHETIC\)|,.*| County| Parish| Borough| Census Area| Municipality| Planning Region"
    r"| city)+$"
)


@dataclass(frozen=True)
class MapFigures:
    """``rows``: ``level``, ``geoid``, ``figure``, areas that have one; ``title``; ``legends``: by
    level, what the figure is, with its unit; ``form``: by level, a d3 number format; ``signed``:
    whether figures may be below zero; ``from_zero``: whether colours begin there, not at the least.
    """

    rows: pl.DataFrame
    title: str
    legends: Mapping[str, str]
    forms: Mapping[str, str]
    signed: bool = False
    from_zero: bool = False

    @property
    def levels(self) -> tuple[str, ...]:
        """Levels that have figures, counties first."""
        held = set(self.rows["level"])
        return tuple(level for level in LEVELS_SHOWN if level in held)


def fit_figures(fit: pl.DataFrame, state: str) -> MapFigures:
    """How well targets are met, area by area: the mean error as a share of the published 90 %
    margin, or, at a level that publishes few margins, the median absolute relative error.
    """
    fitted = fit.filter(
        pl.col("level").is_in(LEVELS_SHOWN)
        & pl.col("fitted").is_not_null()
        & (pl.col("role") != EVIDENCE)
    )
    error = (pl.col("fitted") - pl.col("value")).abs()
    known = pl.col("margin_standard_error") > 0
    errors = fitted.with_columns(
        margin=pl.when(known).then(error / (MARGIN_90 * pl.col("margin_standard_error"))),
        relative=pl.when(pl.col("value").abs() >= smallest()).then(error / pl.col("value").abs()),
    )
    parts, legends, forms = [], {}, {}
    for (level,), part in errors.group_by("level", maintain_order=True):
        name = str(level)
        of_margin = part["margin"].is_not_null().mean() or 0.0
        by_margin = float(of_margin) >= SHARE_WITH_MARGIN  # type: ignore[arg-type]
        figure = pl.col("margin").mean() if by_margin else pl.col("relative").median()
        parts.append(part.group_by("level", "geoid").agg(figure=figure).drop_nulls("figure"))
        forms[name] = ".2f" if by_margin else ".2%"
        legends[name] = (
            "mean error, in published 90 % margins" if by_margin else "median relative error"
        )
    rows = pl.concat(parts or [_EMPTY]).select(_EMPTY.columns).sort("level", "geoid")
    return MapFigures(rows, f"Fit of {state}", legends, forms, from_zero=True)


_EMPTY = pl.DataFrame(schema={"level": pl.String, "geoid": pl.String, "figure": pl.Float64})


def variable_figures(
    weights: pl.DataFrame,
    units: pl.DataFrame,
    key: Key,
    per: Key | None,
    state: str,
    words: Mapping[Key, tuple[str, str]],
) -> MapFigures:
    """A variable as the weights give it, told or not; ``per``: divided by another.

    Parameters
    ----------
    weights, units : the stored tables ``weights`` and ``candidate_units``.
    words : label and unit of each variable.

    Raises ProfileError for a variable that no column of ``units`` measures.
    """
    names = {"figure": key} if per is None else {"figure": key, "whole": per}
    for asked in names.values():
        _require(asked, units.columns)
    chosen = units.select(
        "household_id", *(pl.col(design_column(k)).alias(name) for name, k in names.items())
    )
    joined = weights.join(chosen, on="household_id", how="left").with_columns(
        pl.col(name) * pl.col("weight") for name in names
    )
    parts = [
        joined.filter(pl.col(level).is_not_null())
        .group_by(geoid=pl.col(level))
        .agg(pl.col(*names).sort_by("household_id").sum())
        .with_columns(level=pl.lit(level))
        for level in LEVELS_SHOWN
    ]
    rows = pl.concat(parts)
    label, unit = words.get(key, ("/".join(key), ""))
    legend, form = ("dollars per year", "$.3~s") if unit == "usd" else (unit, ".3~s")
    if per is not None:
        whole = pl.col("whole").abs()
        rows = rows.with_columns(figure=pl.when(whole > 0).then(pl.col("figure") / whole))
        over, of = words.get(per, ("/".join(per), ""))
        legend, form = _share_words(unit, of, over.lower())
        label = f"{label}, for {over.lower()}"
    rows = rows.drop_nulls("figure").select(_EMPTY.columns).sort("level", "geoid")
    signed = bool((rows["figure"] < 0).any())
    levels = dict.fromkeys(LEVELS_SHOWN, legend)
    forms = dict.fromkeys(LEVELS_SHOWN, form)
    return MapFigures(rows, f"{label}, {state}", levels, forms, signed)


def _share_words(unit: str, of: str, whole: str) -> tuple[str, str]:
    if unit == "usd":
        return f"dollars per year per {of.removesuffix('s')}", "$,.3~s"
    return (
        (f"share of {whole}", ".1%")
        if unit == of
        else (f"{unit} per {of.removesuffix('s')}", ".3~r")
    )


def _require(key: Key, columns: Iterable[str]) -> None:
    measured = sorted(name.replace("|", "/") for name in design_columns(columns))
    asked = "/".join(key)
    if asked in measured:
        return
    close = get_close_matches(asked, measured, n=4)
    same = [name for name in measured if name.split("/")[0] == key[0] and name not in close]
    near = [*close, *same] or measured
    more = f" and {len(near) - 12} more" if len(near) > 12 else ""
    raise ProfileError(
        f"No record of the state measures {asked}",
        where="--variable",
        expected=f"variable/domain, such as {', '.join(near[:12])}{more}",
        remedy="`geocal show STATE --bystanders --verbose` lists what is measured",
    )


def key_of_text(text: str) -> Key:
    """``persons/total`` as a key; a name without a domain is that of the total."""
    variable, _, domain = text.strip().partition("/")
    return variable, domain or "total"


def short_name(name: str) -> str:
    """A county's name without what kind of county it is, and without its state."""
    return _KIND_OF_COUNTY.sub("", name).strip() or name
