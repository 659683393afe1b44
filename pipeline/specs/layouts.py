"""How a raw file is laid out: sheets of a workbook, names of columns, traits that betray a vintage.

Belongs here: the models of a file's form, which a source spec holds. Does not belong here: the
publication itself, its vintages and columns (``sources.py``), or reading (``pipeline/sources/``).
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipeline.specs.base import SpecModel


class SheetSpec(SpecModel):
    """One kind of worksheet. ``name`` may hold {state}, the state's name: then there is a sheet per
    state.

    ``labels`` are the columns in one of which an area's name stands (in a county sheet "Total, ..."
    means the state); ``code`` is the column of area codes. ``columns`` maps a column letter to the
    published measure, whose heading (all header cells above the data in that column) must match
    ``headings``. ``title``: a pattern that the text above the data must match. ``adds_up``:
    measures of which the first is the sum of the others in every row.
    """

    name: str
    holds: Literal["states", "counties"]
    title: str | None = None
    labels: tuple[str, ...] = Field(min_length=1)
    code: str | None = None
    columns: dict[str, str]
    headings: dict[str, str] = Field(default_factory=dict)
    adds_up: tuple[tuple[str, ...], ...] = ()
    optional: bool = False

    @model_validator(mode="after")
    def _sums_of_its_own_measures(self) -> Self:
        unknown = sorted({n for group in self.adds_up for n in group} - set(self.columns.values()))
        if unknown:
            raise ValueError(f"adds_up names measures the sheet has not: {', '.join(unknown)}")
        if any(len(group) < 3 for group in self.adds_up):
            raise ValueError("adds_up needs a total and at least two classes")
        return self


class Fingerprint(SpecModel):
    """Traits by which a file betrays its vintage. ``has_areas`` counts only where the file covers
    that state at all.

    ``equal_columns``: pairs of columns whose values agree in every area, where both are present;
    ``unequal_columns``: pairs that agree in every area only under another year's numbering.
    """

    has_columns: tuple[str, ...] = ()
    lacks_columns: tuple[str, ...] = ()
    has_areas: tuple[str, ...] = ()
    lacks_areas: tuple[str, ...] = ()
    equal_columns: tuple[tuple[str, str], ...] = ()
    unequal_columns: tuple[tuple[str, str], ...] = ()


class Layout(SpecModel):
    """How a delimited, JSON or workbook form is laid out. Each reader uses the keys that concern
    it.

    ``parts`` says how a column's name tells estimate from margin: by suffix (DP05_0001E,
    DP05_0001M), infix (B19001_E001, B19001_M001), prefix (E_TOTPOP, M_TOTPOP) or not at all (plain:
    no margins). ``category_column`` names the column of a tidy file whose value completes a
    column's ``rename`` at {category}. ``items`` maps labels of a workbook's rows to columns.
    ``period_years`` is how many interview years a survey's file holds, the vintage being the last.
    """

    separator: str = ","
    header_rows: int = Field(default=1, ge=1)
    ignore_case: bool = False
    parts: Literal["plain", "suffix", "infix", "prefix"] = "plain"
    estimate_mark: str = ""
    margin_mark: str = ""
    geography: str | None = None
    name_column: str | None = None
    stratum_columns: tuple[str, ...] = ()
    category_column: str | None = None
    sheets: tuple[SheetSpec, ...] = ()
    items: dict[str, str] = Field(default_factory=dict)
    year_pattern: str | None = None
    period_years: int = Field(default=1, ge=1)
