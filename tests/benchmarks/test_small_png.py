"""The smaller PNG shows the same picture. Belongs here: ``benchmarks/small_png.py``. Does not
belong here: charts.
"""

import struct
import zlib

import numpy as np
import pytest

from benchmarks.small_png import _chunk, small_png

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def rendered(pixels: np.ndarray, filtered: int = 1) -> bytes:
    """(height, width, 4) uint8 as the renderer writes it: each row differenced to the left."""
    height, width = pixels.shape[:2]
    rows = pixels.copy()
    rows[:, 1:] -= pixels[:, :-1]
    lines = np.concatenate(
        [np.full((height, 1), filtered, dtype=np.uint8), rows.reshape(height, -1)], axis=1
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0)
    return (
        SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(lines.tobytes()))
        + _chunk(b"IEND", b"")
    )


def shown(content: bytes) -> np.ndarray:
    """(height, width, 3) of a PNG with a palette."""
    place, parts = len(SIGNATURE), {}
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        parts[content[place + 4 : place + 8]] = content[place + 8 : place + 8 + length]
        place += 12 + length
    width, height = struct.unpack(">II", parts[b"IHDR"][:8])
    palette = np.frombuffer(parts[b"PLTE"], dtype=np.uint8).reshape(-1, 3)
    rows = np.frombuffer(zlib.decompress(parts[b"IDAT"]), dtype=np.uint8).reshape(height, width + 1)
    return palette[rows[:, 1:]]


def test_few_colours_are_kept_exactly():
    rng = np.random.default_rng(1)
    colours = rng.integers(0, 256, (200, 4)).astype(np.uint8)
    colours[:, 3] = 255
    pixels = colours[rng.integers(0, 200, (40, 60))]
    assert (shown(small_png(rendered(pixels))) == pixels[..., :3]).all()


def test_what_is_transparent_becomes_white():
    assert (shown(small_png(rendered(np.zeros((3, 5, 4), dtype=np.uint8)))) == 255).all()


def test_rare_shades_take_the_nearest_colour():
    pixels = np.full((10, 10, 4), 255, dtype=np.uint8)
    pixels[:5, :, :3] = 0
    pixels[0, 0, :3] = 10
    assert (shown(small_png(rendered(pixels), colours=2))[0, 0] == 0).all()


@pytest.mark.parametrize(
    "content", [b"GIF89a", rendered(np.zeros((2, 2, 4), dtype=np.uint8), filtered=4)]
)
def test_other_files_are_refused(content):
    with pytest.raises(ValueError, match="PNG"):
        small_png(content)
