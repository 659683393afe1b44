"""Cross-categories: the classes whose combinations are the cells records are selected by, and how
thin cells are collapsed.

Belongs here: the model of ``data_specs/cross_categories/*.yaml``. Does not belong here: the draw,
or the cells of given records (``pipeline/weights/cells.py``).
"""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

from pydantic import Field, model_validator

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.specs.roots import spec_roots
from pipeline.specs.sql import SqlExpression

ANY = "any"


class CategoryClass(SpecModel):
    """One class of a unit.

    ``value`` is a SQL expression over the unit (household) table that gives one of the integers of
    ``values``, which names them in order. ``coarser``: one mapping per coarsening, from the name of
    a group to its values; values not named stay as they are. Each coarsening joins groups of the
    one before, never splits them. Coarser than all is the class dropped: ``any``.
    """

    name: str
    value: SqlExpression
    values: dict[int, str] = Field(min_length=1)
    coarser: tuple[dict[str, tuple[int, ...]], ...] = ()

    @model_validator(mode="after")
    def _nested(self) -> CategoryClass:
        for groups in self.coarser:
            named = Counter(v for group in groups.values() for v in group)
            if unknown := sorted(set(named) - set(self.values)):
                raise ValueError(
                    f"class {self.name}: a coarsening names values that are not declared:"
                    f" {', '.join(map(str, unknown))}"
                )
            if twice := sorted(v for v, n in named.items() if n > 1):
                raise ValueError(
                    f"class {self.name}: a coarsening names values twice:"
                    f" {', '.join(map(str, twice))}"
                )
        levels = [self.groups(level) for level in range(self.levels)]
        for fine, coarse in pairwise(levels):
            for label, members in fine.items():
                if not any(members <= other for other in coarse.values()):
                    raise ValueError(f"class {self.name}: {label!r} is split by a later coarsening")
        labels: dict[str, frozenset[int]] = {}
        for level in levels:
            for label, members in level.items():
                if labels.setdefault(label, members) != members:
                    raise ValueError(
                        f"class {self.name}: the name {label!r} stands for two groups of values"
                    )
        return self

    @property
    def levels(self) -> int:
        """Number of versions: as declared, each coarsening, dropped."""
        return len(self.coarser) + 2

    def groups(self, level: int) -> dict[str, frozenset[int]]:
        """Name and values of each group at a level: 0 as declared, 1 the first coarsening,
        ``levels`` - 1 dropped.
        """
        if level == self.levels - 1:
            return {ANY: frozenset(self.values)}
        named = {} if level == 0 else self.coarser[level - 1]
        home = {v: label for label, group in named.items() for v in group}
        groups: dict[str, set[int]] = {}
        for value, label in self.values.items():
            groups.setdefault(home.get(value, label), set()).add(value)
        return {label: frozenset(members) for label, members in groups.items()}


class CrossCategories(SpecModel):
    """``order``: the column the list is sorted by within a cell.

    ``collapse_order``: the steps a thin cell takes, first first. Each names a class, which takes
    its next coarsening; named once more than it has coarsenings, it is dropped. A class that is not
    named so often is never given up so far. ``fewest_records``, ``fewest_weight`` (households): a
    cell with fewer records or less design weight is thin.
    """

    id: str
    title: str
    order: str
    classes: tuple[CategoryClass, ...] = Field(min_length=1)
    collapse_order: tuple[str, ...] = ()
    fewest_records: int = Field(1, ge=1)
    fewest_weight: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _coherent(self) -> CrossCategories:
        names = [c.name for c in self.classes]
        if twice := sorted(n for n, count in Counter(names).items() if count > 1):
            raise ValueError(f"classes named twice: {', '.join(twice)}")
        for name, count in Counter(self.collapse_order).items():
            if name not in names:
                raise ValueError(
                    f"collapse_order names {name!r}, which is no class; there are"
                    f" {', '.join(names)}"
                )
            most = next(c for c in self.classes if c.name == name).levels - 1
            if count > most:
                raise ValueError(
                    f"collapse_order names {name!r} {count} times, but it has {most - 1}"
                    " coarsenings and can be dropped once"
                )
        return self

    def levels_at(self, step: int) -> tuple[int, ...]:
        """Level of each class after so many steps of ``collapse_order``."""
        taken = Counter(self.collapse_order[:step])
        return tuple(taken[c.name] for c in self.classes)


def load_cross_categories(name: str = "default") -> CrossCategories:
    """Read ``cross_categories/<name>.yaml`` of the last folder of specs that has it."""
    missing = SPEC_ROOT / "cross_categories" / f"{name}.yaml"
    path = spec_roots().files("cross_categories").get(name, missing)
    return load_yaml(path, CrossCategories)
