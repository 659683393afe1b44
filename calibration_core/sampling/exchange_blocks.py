"""Which places of a large area meet which candidates: blocks of a list, in sweeps, so that the work
is linear in places.

To compare every place with every candidate costs places x candidates for each exchange, sixteen
times the square of the places. An area of ``WHOLE`` places or fewer is one block, compared whole. A
larger one is cut along its list, sorted by cell and size: each block is ``_PLACES`` places that
follow each other and the candidates of the same stretch, those that could stand for them. (The
candidates are a sample in proportion to dense weight: so many of the places lie beside as many of
them.) Blocks are worked on one after another, each seeing the errors that those before it left
(block coordinate descent). The first sweep makes only exchanges that gain much, and so leaves them
to the blocks that have the best; the last makes all. The cuts move from sweep to sweep.

Errors after the draw's pass are root mean squares of ``benchmarks/selection_spread``;
docs/selection.md compares them with those of the whole comparison.

Belongs here: blocks and sweeps, as index arrays. Does not belong here: the exchanges of a block
(``exchange.py``), rows, errors and weights (``tree/select/exchange.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from calibration_core.sampling.exchange import LEAST_GAIN

# Places of an area that are compared with all its candidates. Tracts of 114 to 160 take 8.7 s of
# the processor whole and 9.4 in blocks, and keep 1.5 % less of the squares (Rhode Island); at 600
# the whole comparison takes 1.7 times as long.
WHOLE = 240
# Places of a block. At 600 per area, 306 variables, blocks of 30, 60 and 120 leave errors of 0.145,
# 0.143 and 0.145 scales, and a pass over 15,000 pairs takes 0.7, 0.8 and 1.3 seconds.
_PLACES = 60
# Of each sweep, the share of the sum of squares that an exchange must gain, and by how much of a
# block the cuts have moved. One sweep leaves 0.183 scales, the first three 0.153, these 0.143, and
# eight as much. Where all five make whatever gains they leave 0.157, by a third more exchanges.
_SWEEPS = ((3e-2, 0.0), (3e-3, 0.5), (LEAST_GAIN, 0.25), (LEAST_GAIN, 0.75), (LEAST_GAIN, 0.125))


class Block(NamedTuple):
    """``places``, ``candidates`` int64: positions in the area's places and candidates, in the order
    of the list."""

    places: np.ndarray
    candidates: np.ndarray


class Sweep(NamedTuple):
    """``least`` share of the sum of squares that an exchange must gain; ``blocks`` that hold every
    place and every candidate once."""

    least: float
    blocks: list[Block]


def in_sweeps(places: np.ndarray, candidates: np.ndarray) -> Iterator[Sweep]:
    """The sweeps of one area.

    Parameters
    ----------
    places, candidates : int64, the area's places and its candidates in the order of the list.
    """
    if places.size <= WHOLE:
        yield Sweep(LEAST_GAIN, [Block(places, candidates)])
        return
    for least, moved in _SWEEPS:
        yield Sweep(least, _cut(places, candidates, moved))


def _cut(places: np.ndarray, candidates: np.ndarray, moved: float) -> list[Block]:
    """Blocks of like size; the list is a ring, entered ``moved`` blocks after its beginning."""
    count = -(-places.size // _PLACES)
    ring = [np.roll(part, -int(moved * part.size / count)) for part in (places, candidates)]
    cuts = [np.arange(count + 1) * part.size // count for part in ring]
    return [
        Block(*(part[cut[b] : cut[b + 1]] for part, cut in zip(ring, cuts, strict=True)))
        for b in range(count)
    ]
