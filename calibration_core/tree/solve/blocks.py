"""What both forms of records share: columns of the designs, the chain of ancestors of every leaf,
scales.

Multipliers come per level, top first, already divided by their scales (D y); u of a pair is the sum
over levels of its design row times its area's multipliers, and its weight is q G(u) (``link.py``).
Both forms answer in torch float64 on the chosen device:

    evaluate(multipliers, link)            totals per level and sum q H(u)
    factor(multipliers, link, ridge)       Cholesky factors of the dual Hessian, an ArrowFactor
    largest_rise(multipliers, direction)   how far a step would push exponents up
    weights(multipliers, link)             the weights themselves

A variable with targets at several levels has the same column in each design. Such columns are kept,
and their products taken, once.

Belongs here: bookkeeping common to ``pool_blocks.py`` and ``pair_blocks.py``. Does not belong here:
passes over records, the linear solve (``arrow.py``), the iteration (``tree/solve/newton.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import numpy as np
import torch

from calibration_core.common.columns import Columns, Design, largest_of, of_one_store, side_by_side
from calibration_core.common.memory import kept_bytes
from calibration_core.common.threads import stream_blocks
from calibration_core.tree.geography import GeographyTree

# Entries of the designs looked at together: they stay in a core's cache.
_ENTRIES_AT_A_TIME = 30_000
# Columns whose largest entry is between 2^-10 and 2^10 are taken as they are.
_PLAIN = 10

# Couplings of leaves that take more bytes than this are kept in single precision: of California's
# 9,129 tracts, 100 variables and 370 above it is 1.4 GB instead of 2.7.
_SINGLE = 1_000_000_000

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class TreeBlocks:
    """Columns, scales and the tree's indices on one device.

    Attributes
    ----------
    columns, width : p + e, the number of distinct columns, and p: those of the leaves, which come
        first; e are columns that only levels above have. ``rows`` gives those of some records.
    every : (records, p + e) float64, rows of all records, where they are few; else None.
    shared : (s,) int64: the columns of the leaves that levels above have too. Distinct columns of
        those are these, then the e.
    place : (sum of widths,) int64: which distinct column each column of the levels above is,
        nearest level first.
    deep : whether there are levels above the leaves.
    unit : what one unit of weight is, in the problem's own; prior weights are over it.
    column_units : per level, (variables,) float64 what one unit of a contribution is, in its own.
    inverse : per level, (areas, variables) float64 1 / scale in those units, 0 where there is no
        target.
    parents : per level, (areas,) int64 index of the parent; ``parent`` is that of the leaves.
    widths : number of variables of each level above the leaves, nearest first.
    prior_total : sum of prior weights.
    single : whether factors keep the leaves' coupling in single precision.
    """

    def __init__(
        self,
        tree: GeographyTree,
        designs: tuple[Design, ...],
        scales: tuple[np.ndarray, ...],
        device: str,
        unit: float = 1.0,
    ) -> None:
        self.tree, self.device, self.deep = tree, torch.device(device), len(designs) > 1
        self.unit = unit
        self.parents = [torch.as_tensor(p, device=self.device) for p in tree.parents]
        self.parent = self.parents[-1]
        self.widths = tuple(d.shape[1] for d in reversed(designs[:-1]))
        self.width = width = designs[-1].shape[1]
        index, first = match_columns(designs[::-1])
        every = _side_by_side(designs[::-1], first)
        units = column_units(every)
        self._design, self._units = every, units if (units != 1.0).any() else None
        self.columns, self._is_store = every.shape[1], isinstance(every, Columns)
        self.every: torch.Tensor | None = None
        # Rows of an array are had at once, those of a store are put together.
        fits = every.size * 8 <= kept_bytes("records")
        if self.device.type != "cpu" or not isinstance(every, Columns) or fits:
            every = np.asarray(every)
            self.every = self.send(every if self._units is None else every / self._units)
        self.column_units = _by_level(units, index, [d.shape[1] for d in designs])
        self.inverse = [
            self.send(np.where(np.isfinite(s), unit * u / s, 0.0))
            for u, s in zip(self.column_units, scales, strict=True)
        ]
        distinct, place = np.unique(
            np.concatenate([index, np.arange(width, self.columns)]), return_inverse=True
        )
        self.shared = torch.as_tensor(
            distinct[distinct < width].astype(np.int64), device=self.device
        )
        self.place = torch.as_tensor(place[: index.size], device=self.device)
        self.prior_total = 0.0
        self.single = _is_single(tree.sizes[-1], width, self.distinct)

    @property
    def distinct(self) -> int:
        """Number of distinct columns of the levels above."""
        return self.shared.numel() + self.beyond

    @property
    def beyond(self) -> int:
        """Number of distinct columns of levels above that leaves do not have."""
        return self.columns - self.width

    def rows(self, record: np.ndarray | slice) -> torch.Tensor:
        """(..., p + e) float64 rows of some records."""
        if self.every is not None:
            some = record if isinstance(record, slice) else torch.as_tensor(record)
            return self.every[some if isinstance(some, slice) else some.to(self.device)]
        # A store's rows are a new array.
        found = self._design[record]
        if self._units is not None:
            found = np.divide(found, self._units, out=found if self._is_store else None)
        return self.send(found)

    def send(self, array: np.ndarray) -> torch.Tensor:
        """An array as a float64 tensor on the device: on the CPU the same memory where torch takes
        it, and nothing here writes to it.
        """
        array = np.ascontiguousarray(array, dtype=np.float64)
        return torch.as_tensor(array if array.flags.writeable else array.copy(), device=self.device)

    def stream(self, function: Callable[[Item], Answer], items: Iterable[Item]) -> Iterator[Answer]:
        """``function`` of every item, in order: by threads of our own on a CPU, which is what a
        GPU does by itself.
        """
        return stream_blocks(function, items) if self.device.type == "cpu" else map(function, items)

    def zeros(self, *size: int) -> torch.Tensor:
        """Float64 zeros on the device."""
        return torch.zeros(size, dtype=torch.float64, device=self.device)

    def chain(self, per_level: list[torch.Tensor]) -> torch.Tensor:
        """Rows of each chain of ancestors side by side, nearest first, one row per node just above
        the leaves: (nodes, sum of widths).
        """
        rows, index = [], torch.arange(self.tree.sizes[-2], device=self.device)
        for depth in range(len(per_level) - 2, -1, -1):
            rows.append(per_level[depth][index])
            if depth:
                index = self.parents[depth][index]
        return torch.cat(rows, dim=1)

    def gather(self, chained: torch.Tensor) -> torch.Tensor:
        """Sum what belongs to one distinct column: (nodes, sum of widths) to (nodes, distinct)."""
        return self.zeros(chained.shape[0], self.distinct).index_add_(1, self.place, chained)

    def totals_above(self, held: torch.Tensor) -> list[torch.Tensor]:
        """Totals of every level above the leaves, top first, from those of distinct columns by node
        just above them: (nodes, distinct).
        """
        answers, held = [], held[:, self.place]
        for step, width in enumerate(self.widths):
            depth = len(self.widths) - 1 - step
            answers.append(held[:, :width])
            if depth:
                rest = held[:, width:]
                held = self.zeros(self.tree.sizes[depth - 1], rest.shape[1]).index_add_(
                    0, self.parents[depth], rest
                )
        return answers[::-1]


def _is_single(leaves: int, own: int, above: int) -> bool:
    return leaves * own * above * 8 > _SINGLE


def coupling_bytes(leaves: int, own: int, above: int) -> int:
    """Bytes of the couplings that a factor keeps: of so many leaves with so many variables of their
    own and distinct columns above.
    """
    return leaves * own * above * (4 if _is_single(leaves, own, above) else 8)


def column_units(columns: Design) -> np.ndarray:
    """(variables,) float64 powers of two: what a unit of each column of (records, variables) is
    best taken to be. One where its largest entry lies between 2^-10 and 2^10, as counts of persons
    do; else such that the largest entry over it lies between a half and one.
    """
    most = largest_of(columns)
    exponent = np.frexp(most)[1]
    return np.ldexp(1.0, np.where((most > 0) & (np.abs(exponent) > _PLAIN), exponent, 0))


def _by_level(units: np.ndarray, index: np.ndarray, widths: list[int]) -> list[np.ndarray]:
    """Units of the columns of each level, top first, from those of the distinct columns; ``index``
    as ``match_columns`` gives it for designs from the leaves up.
    """
    above = np.split(units[index], np.cumsum(widths[-2::-1])[:-1]) if len(widths) > 1 else []
    return [*above[::-1], units[: widths[-1]]]


def match_columns(designs: Sequence[Design]) -> tuple[np.ndarray, list[list[int]]]:
    """Which columns of the later designs stand in the first, or in one before them.

    Parameters
    ----------
    designs : each (records, variables) float64, C-ordered.

    Returns
    -------
    index : int64, one a column of all designs but the first: its column in the first, or the width
        of that plus a number for each column met for the first time.
    first : per design, its columns met for the first time (of the first design: all), in order.

    Columns of one store are told apart by their place in it, others by a 64-bit hash and, where
    that agrees, entry by entry.
    """
    views = [design for design in designs if isinstance(design, Columns)]
    if len(views) == len(designs) and of_one_store(views):
        return _matched([view.index.tolist() for view in views])
    return _matched_arrays([np.ascontiguousarray(d, dtype=np.float64) for d in designs])


def _matched_arrays(designs: Sequence[np.ndarray]) -> tuple[np.ndarray, list[list[int]]]:
    """``match_columns`` of arrays."""
    width = designs[0].shape[1]
    found = {key: (0, c) for c, key in reversed(list(enumerate(_hashes(designs[0]))))}
    candidates: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for level in range(1, len(designs)):
        for column, key in enumerate(_hashes(designs[level])):
            level0, column0 = found.setdefault(key, (level, column))
            if (level0, column0) != (level, column):
                candidates.setdefault((level0, level), []).append((column0, column))
    same: dict[tuple[int, int], tuple[int, int]] = {}
    for (level0, level), pairs in candidates.items():
        left, right = np.array(pairs).T
        equal = np.ones(left.size, dtype=bool)
        for rows in _chunks(designs[level]):
            equal &= (designs[level0][rows][:, left] == designs[level][rows][:, right]).all(axis=0)
        same |= {
            (level, int(b)): (level0, int(a))
            for a, b, agrees in zip(left, right, equal, strict=True)
            if agrees
        }
    first, number = [list(range(width))], {(0, c): c for c in range(width)}
    index = []
    for level in range(1, len(designs)):
        first.append([c for c in range(designs[level].shape[1]) if (level, c) not in same])
        number |= {(level, c): len(number) + i for i, c in enumerate(first[-1])}
        index += [number[same.get((level, c), (level, c))] for c in range(designs[level].shape[1])]
    return np.array(index, dtype=np.int64), first


def _matched(keys: Sequence[Sequence[int]]) -> tuple[np.ndarray, list[list[int]]]:
    """``match_columns`` by a key of every column; those of the first are all their own."""
    found: dict[int, int] = {}
    for column, key in enumerate(keys[0]):
        found.setdefault(key, column)
    first, index, count = [list(range(len(keys[0])))], [], len(keys[0])
    for level in keys[1:]:
        first.append([])
        for column, key in enumerate(level):
            if key not in found:
                found[key], count = count, count + 1
                first[-1].append(column)
            index.append(found[key])
    return np.array(index, dtype=np.int64), first


def _side_by_side(designs: Sequence[Design], columns: Sequence[Sequence[int]]) -> Design:
    """(records, all columns) of those columns of each design; the first design itself where no
    other has any.
    """
    width = sum(len(c) for c in columns)
    if width == designs[0].shape[1]:
        return designs[0]
    if of_one_store(designs):
        return side_by_side(
            *(d[:, np.array(c, int)] for d, c in zip(designs, columns, strict=True))
        )
    out, at = np.empty((designs[0].shape[0], width)), 0
    for design, chosen in zip(map(np.asarray, designs), columns, strict=True):
        together = chosen and chosen[-1] - chosen[0] == len(chosen) - 1
        which = slice(chosen[0], chosen[-1] + 1) if together else np.array(chosen, dtype=np.int64)
        for rows in _chunks(design):
            out[rows, at : at + len(chosen)] = design[rows][:, which]
        at += len(chosen)
    return out


def _chunks(design: np.ndarray) -> list[slice]:
    step = max(1, _ENTRIES_AT_A_TIME // max(design.shape[1], 1))
    return [slice(a, a + step) for a in range(0, design.shape[0], step)]


def _hashes(design: np.ndarray) -> list[int]:
    """A number for every column: sum over rows, modulo 2^64, of its mixed bits times an odd number
    of the row.
    """
    half = np.random.default_rng(0).integers(0, 2**63, design.shape[0], dtype=np.uint64)
    odd: np.ndarray = np.asarray(half * np.uint64(2) + np.uint64(1))
    total: np.ndarray = np.zeros(design.shape[1], dtype=np.uint64)
    for rows in _chunks(design):
        # Adding zero makes one of the two zeros.
        bits = (design[rows] + 0.0).view(np.uint64)
        bits *= np.uint64(0x9E3779B97F4A7C15)
        bits ^= bits >> np.uint64(32)
        total += odd[rows] @ bits
    return total.tolist()
