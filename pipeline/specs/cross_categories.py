"""Cross-categories: the classes whose combinations are the cells records are selected by.

Belongs here: the model of ``data_specs/cross_categories/*.yaml``. Does not belong here: the draw, or how thin cells are merged.
"""

from __future__ import annotations

import polars as pl
from pydantic import Field, field_validator

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml


class CategoryClass(SpecModel):
    """One class: ``value`` is a SQL expression over the unit (household) table that gives an integer."""

    name: str
    value: str

    @field_validator("value")
    @classmethod
    def _parses(cls, text: str) -> str:
        try:
            pl.sql_expr(text)
        except Exception as error:
            raise ValueError(f"{text!r} is not a SQL expression polars can parse ({error})") from error
        return text


class CrossCategories(SpecModel):
    """``order``: the column the list is sorted by within a cell; ``fewest_records``: a cell with fewer is merged into a neighbour."""

    id: str
    title: str
    order: str
    classes: tuple[CategoryClass, ...] = Field(min_length=1)
    fewest_records: int = Field(ge=1)


def load_cross_categories(name: str = "default") -> CrossCategories:
    """Read ``data_specs/cross_categories/<name>.yaml``."""
    return load_yaml(SPEC_ROOT / "cross_categories" / f"{name}.yaml", CrossCategories)
