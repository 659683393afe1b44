"""Who receives a benefit, and how much, so that a group's persons and dollars meet two controls.

Belongs here: draws that depend on nothing but a person's key, who is added or taken out, amounts of
those added, the scale of all. Does not belong here: which groups and controls there are
(``data_specs/alignment.yaml``), traits and rates (``benefits.py``), files.

Persons of a group are put in an order, and the first of them are added (or taken out) as long as
that brings the weighted count nearer to its control: it then errs by at most half of one weight.
The order is a race: person i arrives at time

    t_i = -log(u_i) / odds_i,     u_i uniform in (0, 1) from (seed, state, what, person's key)

so that in each step the next person is drawn with probability proportional to odds_i among those
left (Efraimidis and Spirakis 2006). Taking out runs with 1 / odds_i. Amounts are then multiplied by
one number, so that dollars are exact.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True, eq=False)
class Aligned:
    """``amount``: dollars by person, float64 (n,); ``added``, ``taken_out``: persons; ``factor``:
    what amounts were multiplied by; ``short``: persons (weighted) that no candidate was there for.
    """

    amount: np.ndarray
    added: int
    taken_out: int
    factor: float
    short: float


def draws(keys: pl.DataFrame, seed: int, what: str) -> np.ndarray:
    """A number in (0, 1) for every row of ``keys`` (household_id, person_number): float64 (n,),
    from a digest of seed, ``what`` and key. The same on every machine and in any order of rows.
    """
    prefix = f"{seed}|{what}|".encode()
    digests = (
        hashlib.blake2b(prefix + f"{household}|{number}".encode(), digest_size=8).digest()
        for household, number in keys.select("household_id", "person_number").iter_rows()
    )
    whole = np.array([int.from_bytes(d, "big") >> 11 for d in digests], dtype=np.float64)
    return (whole + 0.5) / 2.0**53


def nearest_prefix(weights: np.ndarray, wanted: float) -> int:
    """How many of the first ``weights`` (positive, (n,)) come nearest to ``wanted`` in sum; the
    fewer where two are as near.
    """
    reached = np.concatenate(([0.0], np.cumsum(weights)))
    return int(np.argmin(np.abs(reached - wanted)))


def aligned_receipt(
    amount: np.ndarray,
    weight: np.ndarray,
    odds: np.ndarray,
    race: np.ndarray,
    level: np.ndarray,
    controls: tuple[float, float],
    *,
    offered: np.ndarray | None = None,
    pool: tuple[np.ndarray, np.ndarray] | None = None,
) -> Aligned:
    """Amounts of one group, all arrays float64 (n,).

    Parameters
    ----------
    amount, weight : reported dollars (zero or more), design weights above zero.
    odds : of receiving, above zero.
    race, level : two draws in (0, 1): who is next, and where in the distribution his amount lies.
    controls : persons and dollars, in weighted units.
    offered : amounts of persons who are added before all others; zero for the others.
    pool : amounts and weights that the amounts of added persons are drawn from; the group's own
        receivers where absent.
    """
    persons, dollars = controls
    receives = amount > 0
    result = amount.copy()
    missing = persons - float(weight[receives].sum())
    changed = np.zeros(len(amount), bool)
    rest = np.flatnonzero(receives if missing < 0 else ~receives)
    times = -np.log(race[rest]) * (odds[rest] if missing < 0 else 1.0 / odds[rest])
    last = np.zeros(len(rest), bool) if offered is None or missing < 0 else offered[rest] <= 0
    order = rest[np.lexsort((race[rest], times, last))]
    chosen = order[: nearest_prefix(weight[order], abs(missing))]
    changed[chosen] = True
    if missing < 0:
        result[chosen] = 0.0
    elif len(chosen):
        amounts, weights = (amount[receives], weight[receives]) if pool is None else pool
        result[chosen] = _at_level(level[chosen], amounts, weights)
        if offered is not None:
            kept = chosen[offered[chosen] > 0]
            result[kept] = offered[kept]
    held = float((result * weight).sum())
    factor = dollars / held if held > 0 else 1.0
    short = max(missing - float(weight[chosen].sum()), 0.0) if len(chosen) == len(rest) else 0.0
    added, out = (0, len(chosen)) if missing < 0 else (len(chosen), 0)
    return Aligned(result * factor, added, out, factor, short)


def _at_level(level: np.ndarray, amounts: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The weighted quantiles of ``amounts`` at ``level``; one dollar each where there are none, for
    the scale to correct.
    """
    if not len(amounts):
        return np.ones(len(level))
    order = np.lexsort((weights, amounts))
    reach = np.cumsum(weights[order])
    at = np.searchsorted(reach / reach[-1], level, side="left")
    return amounts[order][np.minimum(at, len(order) - 1)]
