"""A state without boundaries: each county a block of square tiles, one for each tract, in order.

A tile's place says to which county a tract belongs and nothing else: neither distance nor
direction. Counties stand in the order of their codes, row by row, tracts likewise within them.

Belongs here: where blocks and tiles lie. Does not belong here: figures (``map_rows.py``), drawing
(``maps.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

WIDTH, WIDER = 640.0, 900.0
LARGEST_TILE, SMALLEST_TILE = 28.0, 3.5
STRIP = 17.0
GAP = 12.0
NARROWEST, ROOMY, FEW = 104.0, 118.0, 24
"""Least width of a heading. More counties than ``FEW`` get a wider picture, and less room each."""
_ASPECT = 1.5
_AREA_OF_TILES = 150_000.0


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels, from the upper left corner, of one area."""

    geoid: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class TileGrid:
    """``strips``: a heading of each county; ``tiles``: a square of each tract; ``width`` and
    ``height`` of the whole.
    """

    strips: tuple[Box, ...]
    tiles: tuple[Box, ...]
    width: float
    height: float


def tile_grid(tracts: Mapping[str, Sequence[str]]) -> TileGrid:
    """Blocks of counties in rows.

    tracts : by GEOID of the county, those of its tracts; a county without tracts is a heading only.
    """
    number = sum(len(each) for each in tracts.values())
    size = math.sqrt(_AREA_OF_TILES / max(1, number))
    size = min(LARGEST_TILE, max(SMALLEST_TILE, size))
    few = len(tracts) <= FEW
    width, narrowest = (WIDTH, ROOMY) if few else (WIDER, NARROWEST)
    strips: list[Box] = []
    tiles: list[Box] = []
    x = y = tallest = right = 0.0
    for county in sorted(tracts):
        own = sorted(tracts[county])
        columns = max(1, math.ceil(math.sqrt(len(own) * _ASPECT)))
        columns = min(columns, max(1, int(width // size)))
        across = max(narrowest, columns * size)
        # A block is at least as wide as its heading: use that width before another row.
        columns = max(columns, min(len(own), int(across // size))) if own else columns
        down = STRIP + math.ceil(len(own) / columns) * size
        if x and x + across > width:
            x, y, tallest = 0.0, y + tallest + GAP, 0.0
        strips.append(Box(county, x, y, across, STRIP))
        for place, tract in enumerate(own):
            row, column = divmod(place, columns)
            at = (x + column * size, y + STRIP + row * size)
            tiles.append(Box(tract, *at, size, size))
        x, tallest, right = x + across + GAP, max(tallest, down), max(right, x + across)
    return TileGrid(tuple(strips), tuple(tiles), right, y + tallest)
