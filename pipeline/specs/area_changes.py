"""County equivalents that were divided anew, as ``data_specs/area_changes.yaml`` lists them.

Belongs here: the model, and which codes are of the past or the future in a year. Does not belong
here: counties that only changed their code (target files and lists of tracts say so), or what
becomes of a figure (``pipeline/targets/published_cells.py``).
"""

from __future__ import annotations

from collections.abc import Collection
from functools import cache
from typing import Self

from pydantic import Field, model_validator

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml


class AreaChange(SpecModel):
    """``old`` areas together are the ``new`` ones; from ``year`` on statistics carry the new."""

    name: str
    year: int
    old: tuple[str, ...] = Field(min_length=1)
    new: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _several(self) -> Self:
        if len(self.old) == len(self.new) == 1:
            raise ValueError(f"{self.name}: one area for one is a new code, no new division")
        return self

    def left_out(self, geoids: Collection[str], year: int) -> list[str]:
        """Those of ``geoids`` whose figures speak of other areas than statistics of ``year`` know:
        all of the other side, if a code that only that side has is among them."""
        there, other = (self.new, self.old) if year >= self.year else (self.old, self.new)
        betrayed = any(code in geoids for code in set(other) - set(there))
        return [code for code in other if code in geoids] if betrayed else []


class AreaChanges(SpecModel):
    """``data_specs/area_changes.yaml``."""

    changes: tuple[AreaChange, ...]


@cache
def load_area_changes() -> AreaChanges:
    """The list. Raises SpecError."""
    return load_yaml(SPEC_ROOT / "area_changes.yaml", AreaChanges)
