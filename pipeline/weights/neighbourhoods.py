"""Which units an area may draw on: those of its own PUMAs, and a sample of the rest of the state.

Areas with the same PUMAs are one neighbourhood. Its pool holds every unit of these PUMAs, which
lies there for sure, and a sample of the others with known probabilities. The prior of a sampled
unit counts for all that it stands for: it is divided by its probability. So the prior of the pool
is that of the whole state on average, at a fraction of the pairs.

The sample is systematic, with probability proportional to prior weight, along the list of the other
units sorted by cell, order and id: so it holds cells in proportion (W. G. Madow, Annals of
Mathematical Statistics 20 (1949) 333-354). Where a pool's own units hardly support a variable that
its areas have targets for, units from elsewhere that do come first, in a list of their own.

Where a state has no more units than pools are to have, its areas are one neighbourhood with all of
them, and nothing is sampled.

Belongs here: neighbourhoods, their pools. Does not belong here: where a unit of a PUMA may lie
(``places.py``), how weights are solved.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.sampling.probabilities import inclusion_probabilities
from pipeline.specs.profiles import ProfileCandidates
from pipeline.vocabulary import design_column
from pipeline.weights.problem import state_seed

POOLS_SCHEMA = {"neighbourhood": pl.Int64, "household_id": pl.String, "expansion": pl.Float64}


@dataclass(frozen=True, eq=False)
class Pools:
    """Attributes: ``of_area`` (areas,) int64 neighbourhood of each area; ``table`` POOLS_SCHEMA, a
    row per unit of a pool; ``notes``, counted facts.
    """

    of_area: np.ndarray
    table: pl.DataFrame
    notes: tuple[str, ...]


def build_pools(
    units: pl.DataFrame,
    near: np.ndarray,
    pumas: Sequence[str],
    targeted: Sequence[str],
    rule: ProfileCandidates,
    seed: int,
    state: str,
) -> Pools:
    """The neighbourhoods of a state and the pool of each.

    Parameters
    ----------
    units : ``household_id, puma, prior_weight, cell, order`` and a column per variable.
    near : (areas, pumas) bool: whether units of a PUMA lie in an area but for the share elsewhere.
    pumas : names of the PUMAs. Units without one are in every pool.
    targeted : columns of ``units`` that areas below the state have targets for.
    rule : sizes of pools. seed, state : of the run, and FIPS of the state, for its samples.
    """
    kinds, of_area = np.unique(near, axis=0, return_inverse=True)
    of_area = of_area.ravel().astype(np.int64)
    number = {puma: i for i, puma in enumerate(pumas)}
    of_unit = np.array([number.get(puma, -1) for puma in units["puma"]], dtype=np.int64)
    own = np.array([(kind[of_unit] & (of_unit >= 0)) | (of_unit < 0) for kind in kinds])
    wanted = np.maximum(rule.elsewhere, rule.units - own.sum(axis=1))
    if rule.elsewhere_share == 0:
        wanted = np.zeros(len(kinds), dtype=np.int64)
    elif bool((own.sum(axis=1) + wanted >= units.height).all()):
        ids = units["household_id"]
        nothing = {"neighbourhood": np.zeros(units.height, dtype=np.int64)}
        table = pl.DataFrame({**nothing, "household_id": ids, "expansion": np.ones(units.height)})
        return Pools(np.zeros_like(of_area), table.select(list(POOLS_SCHEMA)), ())
    drawn = _Elsewhere(units, list(targeted), rule)
    parts, thin = [], []
    for i, kind in enumerate(kinds):
        name = " ".join(puma for puma, here in zip(pumas, kind, strict=True) if here)
        expansion = np.where(own[i], 1.0, 0.0)
        scarce, seeds = drawn.scarce(own[i]), state_seed(seed, f"{state} {name}", "neighbourhood")
        drawn.sample(expansion, int(wanted[i]), scarce, seeds)
        here = np.flatnonzero(expansion > 0)
        thin += [] if not scarce else [len(scarce)]
        parts.append(
            pl.DataFrame(
                {
                    "neighbourhood": np.full(here.size, i),
                    "household_id": units["household_id"].gather(here),
                    "expansion": expansion[here],
                },
                schema=POOLS_SCHEMA,
            )
        )
    sizes = [part.height for part in parts]
    owned = own.sum(axis=1)
    notes = [
        f"{len(kinds)} neighbourhoods with {min(sizes):,} to {max(sizes):,} of {units.height:,}"
        f" units each, {int(owned.min()):,} to {int(owned.max()):,} of them of their own PUMAs"
    ]
    if thin:
        notes.append(
            f"in {len(thin)} neighbourhoods fewer than {rule.least_support} own units add to"
            f" targeted variables ({max(thin)} at most); units from elsewhere that do were sampled"
            " apart"
        )
    return Pools(of_area, pl.concat(parts), tuple(notes))


class _Elsewhere:
    """Samples of the units that are not of a neighbourhood's own PUMAs."""

    def __init__(self, units: pl.DataFrame, targeted: list[str], rule: ProfileCandidates) -> None:
        self.rule, self.prior = rule, units["prior_weight"].to_numpy()
        keys = units.select("cell", "order", "household_id").with_row_index("row")
        self.path = keys.sort("cell", "order", "household_id")["row"].to_numpy().astype(np.int64)
        self.adds = [(units[name] != 0).to_numpy() for name in targeted]

    def scarce(self, own: np.ndarray) -> list[np.ndarray]:
        """Of each variable that few own units add to, while others do: which do. The rarest come
        first, so that no other list takes their units.
        """
        found = []
        for adds in self.adds if own.any() else ():
            away = int(np.count_nonzero(adds & ~own))
            if away and int(np.count_nonzero(adds & own)) < self.rule.least_support:
                found.append((away, adds))
        found.sort(key=lambda pair: pair[0])
        return [adds for _, adds in found]

    def sample(
        self, expansion: np.ndarray, wanted: int, scarce: list[np.ndarray], seed: int
    ) -> None:
        """Set the expansion of what is sampled; own units have one of 1 already. Each unit belongs
        to one list: that of the first scarce variable it adds to, or that of the others.
        """
        random = np.random.default_rng(seed)
        free = expansion == 0
        for adds in scarce:
            lack = self.rule.least_support - int(np.count_nonzero(adds & (expansion > 0)))
            if lack <= 0:
                continue
            listed = self.path[(free & adds)[self.path]]
            self._draw(expansion, listed, lack, float(random.random()))
            free[listed] = False
        listed = self.path[free[self.path]]
        self._draw(expansion, listed, wanted, float(random.random()))

    def _draw(self, expansion: np.ndarray, listed: np.ndarray, count: int, start: float) -> None:
        weights = self.prior[listed]
        listed, weights = listed[weights > 0], weights[weights > 0]
        if count <= 0 or not listed.size:
            return
        probability = inclusion_probabilities(weights, min(count, listed.size))
        # Running sums end at a whole number up to rounding, and a tick there decides nothing.
        ticks = np.floor(np.round(np.cumsum(probability), 9) + start)
        taken = np.diff(ticks, prepend=np.floor(start)) > 0
        expansion[listed[taken]] = 1.0 / probability[taken]


def targeted_columns(units: pl.DataFrame, keys: Sequence[tuple[str, str]]) -> list[str]:
    """The columns of ``units`` that variables ``keys`` have, in order, each once."""
    wanted = (design_column(key) for key in keys)
    return [name for name in dict.fromkeys(wanted) if name in units.columns]
