"""Returns of a state as arrays: their persons, weights and classes, and where a donated amount may
land.

Belongs here: arrays over filed returns and over persons, and the search for returns that lie in a
class once they are given an amount. Does not belong here: how much is to be given
(``return_income.py``, ``top_tail.py``), or the rules of tax units.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl

from pipeline.records.tax_rules import AGI_CLASS_STARTS, SocialSecurityRule, taxable_social_security

_KEYS = ["household_id", "person_number"]


@dataclass(frozen=True, eq=False)
class Places:
    """``rows`` (returns) and the ``amounts`` (dollars) given to each; ``lacking``: weighted dollars
    for which there was no place.
    """

    rows: np.ndarray
    amounts: np.ndarray
    lacking: float


@dataclass(frozen=True, eq=False)
class Returns:
    """Filed returns of one state: ``table``, rows of tax units that file, sorted by key, with
    ``design_weight`` of the primary person; ``persons``: keys of all persons in their order.
    """

    table: pl.DataFrame
    persons: pl.DataFrame
    rule: SocialSecurityRule

    @property
    def size(self) -> int:
        return self.table.height

    @cached_property
    def weight(self) -> np.ndarray:
        """Design weight, float64 (returns,)."""
        return self.table["design_weight"].to_numpy()

    @cached_property
    def class_number(self) -> np.ndarray:
        """Class of adjusted gross income, 1 to 10, int64 (returns,)."""
        return self.table["agi_class"].cast(pl.Int64).to_numpy()

    @property
    def dependent(self) -> np.ndarray:
        """Whether a return is a dependent's own, bool (returns,)."""
        return self.table["is_dependent_return"].to_numpy()

    @property
    def typical_weight(self) -> float:
        """The median weight of a return."""
        return float(np.median(self.weight)) if self.size else 1.0

    @cached_property
    def keys(self) -> pl.DataFrame:
        """household_id and person_number of the primary person."""
        return self.table.select("household_id", person_number="primary_person")

    @cached_property
    def _members(self) -> pl.DataFrame:
        both = [
            self.table.select(
                "household_id",
                pl.col(name).cast(pl.Int32).alias("person_number"),
                pl.int_range(pl.len()).alias("return"),
            )
            for name in ("primary_person", "secondary_person")
        ]
        members = pl.concat(both).drop_nulls("person_number")
        return self.persons.select(_KEYS).join(members, on=_KEYS, how="left", maintain_order="left")

    @cached_property
    def of_person(self) -> np.ndarray:
        """The return of each person, int64 (persons,); -1 for persons on none as a member."""
        return self._members["return"].fill_null(-1).to_numpy()

    @cached_property
    def weight_of_person(self) -> np.ndarray:
        """The weight of a person's amounts on his return, float64 (persons,); zero off returns."""
        at = self.of_person
        return np.where(at >= 0, self.weight[at], 0.0)

    @cached_property
    def class_of_person(self) -> np.ndarray:
        """The class of each person's return, int64 (persons,); 0 for persons on none."""
        at = self.of_person
        return np.where(at >= 0, self.class_number[at], 0)

    def amount(self, name: str) -> np.ndarray:
        """An amount by return, dollars, float64 (returns,)."""
        return self.table[name].to_numpy()

    def holds(self, names: tuple[str, ...]) -> np.ndarray:
        """Whether any of the amounts is not zero, bool (returns,)."""
        return np.any([self.amount(name) != 0 for name in names], axis=0)

    def agi_with(self, given: np.ndarray | float) -> np.ndarray:
        """AGI of every return once it has ``given`` more dollars, taxable benefits included."""
        frame = self.table.select(
            "social_security",
            other=pl.col("agi") - pl.col("taxable_social_security"),
            joint=pl.col("filing_status") == "joint",
        ).with_columns(other=pl.col("other") + pl.Series(np.broadcast_to(given, self.size)))
        taxable = taxable_social_security(
            pl.col("social_security"), pl.col("other"), pl.col("joint"), self.rule
        )
        return frame.select(agi=pl.col("other") + taxable)["agi"].to_numpy()

    def landing(
        self, name: int, dollars: float, receivers: float, free: np.ndarray, race: np.ndarray
    ) -> Places:
        """Returns that get ``dollars`` (weighted) in class ``name``, about ``receivers`` (weighted)
        of them, and lie in the class once they have it.

        Amounts are the quantiles of an exponential distribution, the largest placed first; a return
        takes part if it is ``free``. Among those that fit, the one first in ``race`` is taken. The
        last amount is cut, so that dollars are exact.
        """
        low, high = (-np.inf, *AGI_CLASS_STARTS, np.inf)[name - 1 : name + 1]
        count = max(round(receivers / self.typical_weight), 1)
        level = (np.arange(count)[::-1] + 0.5) / count
        shape = -np.log1p(-level)
        sizes = shape * (dollars / (shape.sum() * self.typical_weight))
        rows: list[int] = []
        amounts: list[float] = []
        open_, left = free.copy(), dollars
        for size in sizes:
            if left <= 0:
                break
            reached = self.agi_with(size)
            fits = np.flatnonzero(open_ & (reached >= low) & (reached < high) & (self.weight > 0))
            if not len(fits):
                continue
            at = fits[np.argmin(race[fits])]
            open_[at] = False
            rows.append(int(at))
            amounts.append(float(size))
            left -= size * self.weight[at]
        return self._exact(np.array(rows, dtype=np.int64), np.array(amounts), dollars, low, high)

    def _exact(
        self, rows: np.ndarray, amounts: np.ndarray, dollars: float, low: float, high: float
    ) -> Places:
        """Amounts times one number, so that they total ``dollars``, as far as returns stay in
        class.
        """
        held = float((self.weight[rows] * amounts).sum())
        if held <= 0:
            return Places(rows, amounts, dollars)
        scaled = np.zeros(self.size)
        scaled[rows] = amounts * (dollars / held)
        reached = self.agi_with(scaled)[rows]
        stays = (reached >= low) & (reached < high)
        final = np.where(stays, scaled[rows], amounts)
        lacking = dollars - float((self.weight[rows] * final).sum())
        return Places(rows, final, max(lacking, 0.0) if abs(lacking) > 1.0 else 0.0)

    def pay(self, persons: pl.DataFrame, name: str, given: np.ndarray) -> pl.DataFrame:
        """``persons`` with ``given`` (returns,) added to the primary persons' amount ``name``."""
        paid = self.keys.with_columns(pl.Series("__given", given))
        joined = persons.join(
            paid.with_columns(pl.col("person_number").cast(pl.Int32)),
            on=_KEYS,
            how="left",
            maintain_order="left",
        )
        total = pl.col(name).fill_null(0.0) + pl.col("__given").fill_null(0.0)
        changed = pl.col("__given").fill_null(0.0) != 0
        return joined.with_columns(
            pl.when(changed).then(total).otherwise(pl.col(name)).alias(name)
        ).drop("__given")
