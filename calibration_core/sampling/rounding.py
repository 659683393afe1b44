"""Controlled rounding: expected counts of cells made whole, with the sums of categories kept.

Expected counts m, whose sum is whole, become counts n with n_c the floor or the ceiling of m_c, E
n_c = m_c, the same sum, and the sum of every category within the floor and the ceiling of its own
expected sum. Where categories form two nested families (areas and cells; or two classes with their
coarser values) such an n always exists and is found by flow: sets are nodes of a network, expected
sums are flows, and cycles of fractional flow are pushed one way or the other, with probabilities
that keep each flow's mean, until all flow is whole (Causey, Cox and Ernst, JASA 80 (1985) 903-909;
Cox, JASA 82 (1987) 520-524). Fractions are counted in units of 2^-40, so that conservation of flow
is exact. One push makes an edge whole; work is linear in cells times the length of a cycle.

With three classes or more n need not exist. Then a random walk keeps all sums as long as it can
(flight phase of the cube method, Deville and Tille, Biometrika 91 (2004) 893-912); the few cells
still fractional are settled by the distribution of least expected misses that keeps all means
(landing phase by linear programming, ibid.), classes first in order counting most. What a category
misses is reported.

Belongs here: whole counts from expected counts. Does not belong here: which records are drawn, the
mass of cells left without a record (``moved_mass.py``), how many an area gets (``allocation.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration_core.errors import ProblemError
from calibration_core.sampling.flow_rounding import UNIT, nest, round_flow, two_families, units_of
from calibration_core.sampling.many_families import HARD, many_families, outside_by

# Row sums nearer to a whole number than this are whole.
_WHOLE = 1e-6


@dataclass(frozen=True)
class Miss:
    """A category whose count is outside the floor and ceiling of its expected count.

    Attributes: ``area``, ``family``, ``category`` indices; ``expected``; ``count``; ``by`` > 0 how
    far outside.
    """

    area: int
    family: int
    category: int
    expected: float
    count: int
    by: int


@dataclass(frozen=True, eq=False)
class Rounding:
    """Attributes: ``counts`` (areas, cells) int64; ``misses`` categories that could not be held;
    ``landed`` number of areas that needed the landing phase; ``relaxed`` number of (area, family)
    that the flight phase could not balance to its end.
    """

    counts: np.ndarray
    misses: tuple[Miss, ...] = ()
    landed: int = 0
    relaxed: int = 0


def round_table(
    expected: np.ndarray,
    seed: int | Sequence[int],
    *,
    family: np.ndarray | None = None,
    parent: np.ndarray | None = None,
) -> Rounding:
    """Round areas x cells in both directions; always possible, so there are never misses.

    Held: every entry; row sums exactly; column sums; with ``family``, its categories in each area;
    with ``parent``, column sums within each parent.

    Parameters
    ----------
    expected : (areas, cells) float64 >= 0, each row summing to a whole number.
    seed : of ``numpy.random.default_rng``; one number or several, for example (seed, state).
    family : (categories, cells) bool, nested: two categories are disjoint or one holds the other.
    parent : (areas,) int64 >= 0, for example the county of each tract.

    Raises ProblemError if expected counts are negative or not finite, a row does not sum to a whole
    number, or a family is not nested.
    """
    expected = _checked(expected)
    areas, cells = expected.shape
    unit = units_of(expected)
    home, above, members = nest(family, cells)
    sets = above.size
    group = (
        np.zeros(areas, dtype=np.int64) if parent is None else np.asarray(parent, dtype=np.int64)
    )
    if group.shape != (areas,) or (areas and group.min() < 0):
        raise ProblemError(
            f"parent has shape {group.shape}", expected=f"({areas},), numbers of at least 0"
        )
    parents = int(group.max(initial=-1)) + 1
    # Nodes: (area, 0 = the row itself, 1.. = categories), then (parent, cell), then cells. Roots of
    # both sides carry whole flow and need none.
    below, column = areas * (sets + 1), areas * (sets + 1) + parents * cells
    row, place = np.nonzero(unit)
    tails = [row * (sets + 1) + home[place] + 1]
    heads = [below + group[row] * cells + place]
    flows = [unit[row, place]]
    for s in range(sets):
        flow = unit[:, members[s]].sum(axis=1) % UNIT
        tails.append(np.arange(areas) * (sets + 1) + above[s] + 1)
        heads.append(np.arange(areas) * (sets + 1) + s + 1)
        flows.append(flow)
    by_parent = np.zeros((parents, cells), dtype=np.int64)
    np.add.at(by_parent, group, unit)
    tails.append(below + np.arange(parents * cells))
    heads.append(column + np.tile(np.arange(cells), parents))
    flows.append(by_parent.ravel() % UNIT)
    tails.append(column + np.arange(cells))
    heads.append(np.full(cells, column + cells))
    flows.append(unit.sum(axis=0) % UNIT)
    up = round_flow(
        np.concatenate(tails),
        np.concatenate(heads),
        np.concatenate(flows),
        column + cells + 1,
        np.random.default_rng(seed),
    )
    counts = np.floor(expected + 0.5 / UNIT).astype(np.int64)
    counts[row, place] += up[: row.size]
    return Rounding(counts)


def round_areas(
    expected: np.ndarray,
    families: Sequence[np.ndarray],
    seed: int,
    *,
    index: np.ndarray | None = None,
) -> Rounding:
    """Round the cells of each area by itself, holding the categories of several classes.

    Area t uses ``default_rng([seed, index[t]])``, so its counts do not depend on which other areas
    there are.

    Parameters
    ----------
    expected : (areas, cells) float64 >= 0, each row summing to a whole number.
    families : one (categories, cells) bool a class, most important first; each nested. The first
        two are held always, the others where possible, else missed by as little as can be expected,
        those first in order counting most.
    seed, index : the second (areas,) int64, default 0, 1, ...

    Raises ProblemError as ``round_table``.
    """
    expected = _checked(expected)
    areas, cells = expected.shape
    nests = [nest(f, cells) for f in families]
    sets = [np.asarray(f, dtype=bool).reshape(-1, cells) for f in families]
    label = np.arange(areas) if index is None else np.asarray(index)
    units = units_of(expected)
    counts = np.floor(expected + 0.5 / UNIT).astype(np.int64)
    misses: list[Miss] = []
    landed = relaxed = 0
    for t in range(areas):
        generator = np.random.default_rng([seed, int(label[t])])
        if len(nests) <= HARD:
            counts[t] += two_families(units[t], nests, generator)
            continue
        up, given_up = many_families(units[t] / UNIT, sets, nests, generator)
        counts[t] += up
        landed += given_up >= 0
        relaxed += max(given_up, 0)
        misses += _misses(t, expected[t], counts[t], sets)
    return Rounding(counts, tuple(misses), landed, relaxed)


def _checked(expected: np.ndarray) -> np.ndarray:
    expected = np.asarray(expected, dtype=np.float64)
    if expected.ndim != 2:
        raise ProblemError(f"Expected counts of shape {expected.shape}", expected="(areas, cells)")
    if not np.isfinite(expected).all() or (expected < 0).any():
        raise ProblemError(
            "An expected count is negative or not finite", expected="finite numbers >= 0"
        )
    total = expected.sum(axis=1)
    off = np.abs(total - np.rint(total)) > _WHOLE
    if off.any():
        first = int(np.flatnonzero(off)[0])
        raise ProblemError(
            f"The expected counts of an area sum to {total[first]:.9g}",
            where=f"area {first}",
            expected="a whole number in every area",
        )
    return expected


def _misses(
    area: int, expected: np.ndarray, counts: np.ndarray, sets: list[np.ndarray]
) -> list[Miss]:
    found = []
    for f, family in enumerate(sets):
        sums, got = family @ expected, family.astype(np.int64) @ counts
        outside = outside_by(sums, got)
        found += [
            Miss(area, f, int(c), float(sums[c]), int(got[c]), int(outside[c]))
            for c in np.flatnonzero(outside)
        ]
    return found
