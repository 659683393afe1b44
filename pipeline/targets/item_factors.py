"""Which factor each cell of one published table is carried by, at one level.

Belongs here: factors by area, and those that differ by column (cohorts of age and sex, trends).
Does not belong here: the factors themselves (``carry.py``), or rows of the target table
(``build.py``).
"""

from __future__ import annotations

import numpy as np

from pipeline.errors import TargetError
from pipeline.specs.factors import AgeSexFactor
from pipeline.specs.targets import AgeSexCell, TargetSpec
from pipeline.targets.carry import Carrier
from pipeline.targets.published_cells import Cells, Column


class ItemFactors:
    """Factors for the cells of one target file's table at one level.

    Parameters: ``carrier``; ``spec`` and ``vintage`` of the file; ``partition``, its age-by-sex
    cells, all among the columns of ``cells``; ``level``, that of the areas of ``cells``.
    """

    def __init__(
        self,
        carrier: Carrier,
        spec: TargetSpec,
        vintage: str,
        partition: tuple[AgeSexCell, ...],
        cells: Cells,
        level: str,
    ) -> None:
        self.carrier, self.spec, self.vintage = carrier, spec, vintage
        self.partition, self.cells, self.level = partition, cells, level
        self._cohorts: dict[str, np.ndarray] = {}

    def by_area(self, rule: tuple[str, ...], year: int) -> np.ndarray:
        """Factors from ``year`` to the target year that are the same for every column, shape
        (areas,).
        """
        moved = year != self.carrier.target_year
        group = self.carrier.age_group_rule(rule) if moved else None
        if group is None:
            return self.carrier.factors(rule, self.level, self.cells.geoids, year)
        cohort = self.carrier.age_sex_rule((group.of,))
        if cohort is None:
            raise TargetError(
                f"Factor {group.id} is of {group.of}, which carries no ages",
                where="data_specs/factors",
                expected="a factor of kind age_sex",
                remedy="Correct `of`",
            )
        factors, values = self._cohort(cohort), self._partition_values()
        low, high = group.ages
        inside = [low <= c.ages[0] and c.ages[1] <= high for c in self.partition]
        before = np.nansum(values[:, inside], axis=1)
        after = np.nansum(values[:, inside] * factors[:, inside], axis=1)
        return np.divide(after, before, out=np.ones_like(after), where=before > 0)

    def by_column(
        self, rule: tuple[str, ...], columns: list[Column], year: int, item: str
    ) -> np.ndarray | None:
        """Factors of ``columns`` that differ, shape (areas, columns), or None where they do not.

        ``item``: the variable and domain, for an error. Raises TargetError if a column is no cell
        of the partition.
        """
        cohort = self.carrier.age_sex_rule(rule)
        if cohort is not None:
            return self._of_cells(cohort, columns, item)
        if not self.carrier.follows_trend(rule):
            return None
        where = (rule, self.level, self.cells.geoids, year)
        return np.stack([self.carrier.factors(*where, column) for column in columns], axis=1)

    def _partition_values(self) -> np.ndarray:
        """Published values of the partition, (areas, cells)."""
        return self.cells.estimate[:, [self.cells.columns[c.column, ""] for c in self.partition]]

    def _cohort(self, factor: AgeSexFactor) -> np.ndarray:
        """Factors of the whole partition, (areas, cells)."""
        if factor.id not in self._cohorts:
            place = (self.spec.source, self.vintage, self.level, self.cells.geoids)
            values = self._partition_values()
            self._cohorts[factor.id] = self.carrier.age_sex(factor, self.partition, *place, values)
        return self._cohorts[factor.id]

    def _of_cells(self, factor: AgeSexFactor, columns: list[Column], item: str) -> np.ndarray:
        position = {cell.column: i for i, cell in enumerate(self.partition)}
        names = [name for name, _ in columns]
        if outside := [name for name in names if name not in position]:
            raise TargetError(
                f"Column {outside[0]} is carried by {factor.id} but is no cell of the age-by-sex"
                " partition",
                where=f"data_specs/targets/{self.spec.id}.yaml, {item}",
                expected="columns listed under `age_sex_partition`",
                remedy="Write the item as a sum of cells, or give it another carry rule",
            )
        return self._cohort(factor)[:, [position[name] for name in names]]
