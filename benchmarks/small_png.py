"""A chart's PNG made small: opaque, with a palette of at most 256 colours, compressed well.

The renderer writes red, green, blue and opacity, every row filtered by difference to the pixel on
the left. A chart has few colours, so one byte a pixel is enough; rare shades of anti-aliasing take
the nearest colour that is in the palette.

Belongs here: this conversion, for PNG files of that one kind. Does not belong here: drawing.
"""

from __future__ import annotations

import struct
import zlib

import numpy as np

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_NO_FILTER, _LEFT = 0, 1


def small_png(content: bytes, colours: int = 256) -> bytes:
    """The same picture on white with a palette. Raises ValueError for a PNG of another kind than
    the renderer writes.
    """
    pixels = _pixels(content)
    opacity = pixels[..., 3:].astype(np.uint32)
    flat = ((pixels[..., :3] * opacity + 255 * (255 - opacity) + 127) // 255).reshape(-1, 3)
    packed = (flat[:, 0] << 16) | (flat[:, 1] << 8) | flat[:, 2]
    shades, member, count = np.unique(packed, return_inverse=True, return_counts=True)
    kept = np.sort(np.argsort(-count, kind="stable")[:colours])
    rgb = np.stack([shades >> 16, (shades >> 8) & 255, shades & 255], axis=1).astype(np.int64)
    nearest = np.array([((rgb[kept] - shade) ** 2).sum(axis=1).argmin() for shade in rgb])
    height, width = pixels.shape[:2]
    rows = np.zeros(
        (height, width + 1), dtype=np.uint8
    )  # the first byte of a row says that it is not filtered
    rows[:, 1:] = nearest[member.ravel()].reshape(height, width)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    palette = rgb[kept].astype(np.uint8).tobytes()
    return (
        _SIGNATURE
        + _chunk(b"IHDR", header)
        + _chunk(b"PLTE", palette)
        + _chunk(b"IDAT", zlib.compress(rows.tobytes(), 9))
        + _chunk(b"IEND", b"")
    )


def _pixels(content: bytes) -> np.ndarray:
    """(height, width, 4) uint8."""
    if not content.startswith(_SIGNATURE):
        raise ValueError("not a PNG")
    place, data, header = len(_SIGNATURE), b"", b""
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, body = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        header = body if kind == b"IHDR" else header
        data += body if kind == b"IDAT" else b""
        place += 12 + length
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", header)
    if (depth, colour, interlaced) != (8, 6, 0):
        raise ValueError(
            f"a PNG of depth {depth}, colour type {colour}, interlaced {interlaced}; only 8, 6, 0"
            " is read"
        )
    rows = np.frombuffer(zlib.decompress(data), dtype=np.uint8).reshape(height, 1 + 4 * width)
    filters = rows[:, 0]
    if not np.isin(filters, (_NO_FILTER, _LEFT)).all():
        raise ValueError("a PNG with filters other than none and left")
    plain = rows[:, 1:].reshape(height, width, 4)
    summed = np.cumsum(plain, axis=1, dtype=np.uint8)  # differences to the left, undone modulo 256
    return np.where((filters == _LEFT)[:, None, None], summed, plain)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
