"""Boundaries of areas out of a file that the user names: GeoJSON or TopoJSON.

Belongs here: reading such a file, and putting its coordinates on a plane. Does not belong here:
drawing (``maps.py``). geocal holds no boundaries of its own: the Census Bureau publishes them as
cartographic boundary files, which any program turns into GeoJSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.errors import SourceFileError, SourceLayoutError

ID_NAMES = ("GEOID", "GEOID20", "GEOID10", "GEO_ID", "AFFGEOID", "geoid", "id")
"""Where a feature may say which area it is; what stands before ``US`` in it is left out."""

SHAPES = ("Polygon", "MultiPolygon")
LARGEST_FILE_MB = 500
Ring = list[tuple[float, float]]
Shape = list[list[Ring]]


def read_boundaries(path: Path) -> dict[str, Shape]:
    """By GEOID the polygons of each area: lists of rings of (longitude, latitude).

    Raises SourceFileError for a file that cannot be read, SourceLayoutError for one that is no
    GeoJSON or TopoJSON of areas in degrees.
    """
    document = _document(path)
    found: dict[str, Shape] = {}
    for feature, shape in _features(document, path):
        geoid = _geoid(feature)
        if geoid:
            found.setdefault(geoid, []).extend(shape)
    if not found:
        raise _layout(path, f"no polygon has an id ({', '.join(ID_NAMES)})")
    widest = max(
        abs(v) for shape in found.values() for p in shape for r in p for at in r for v in at
    )
    if widest > 360:
        raise _layout(path, f"its coordinates go up to {widest:,.0f} and are no degrees")
    return found


def _document(path: Path) -> Any:
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE_MB * 1_000_000:
            raise SourceFileError(
                f"The file of boundaries has {size / 1e6:,.0f} MB",
                where=str(path),
                expected=f"at most {LARGEST_FILE_MB} MB",
                remedy="Take the generalised boundaries (1:500,000), or those of one state",
            )
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SourceFileError(
            f"The file of boundaries cannot be read: {error}",
            where=str(path),
            expected="GeoJSON or TopoJSON",
            remedy="Name another file; a shapefile becomes one with `ogr2ogr out.geojson in.shp`",
        ) from error


def _features(document: Any, path: Path) -> Iterator[tuple[Mapping[str, Any], Shape]]:
    kind = document.get("type") if isinstance(document, dict) else None
    try:
        if kind == "FeatureCollection":
            for feature in document["features"]:
                geometry = feature.get("geometry") or {}
                if geometry.get("type") in SHAPES:
                    yield feature, _polygons(geometry["type"], geometry["coordinates"])
        elif kind == "Topology":
            arcs = _arcs(document)
            for item in _objects(document):
                if item.get("type") in SHAPES:
                    lines = _stitched(item["type"], item["arcs"], arcs)
                    yield item, _polygons(item["type"], lines)
        else:
            raise _layout(path, f"its type is {kind!r}")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _layout(path, f"{type(error).__name__}: {error}") from error


def _polygons(kind: str, coordinates: Any) -> Shape:
    polygons = [coordinates] if kind == "Polygon" else coordinates
    return [
        [[(float(at[0]), float(at[1])) for at in ring] for ring in polygon] for polygon in polygons
    ]


def _arcs(document: Mapping[str, Any]) -> list[Ring]:
    """Arcs of a topology in degrees: quantised ones are sums of steps."""
    transform = document.get("transform")
    if not transform:
        return [[(float(at[0]), float(at[1])) for at in arc] for arc in document["arcs"]]
    (sx, sy), (tx, ty) = transform["scale"], transform["translate"]
    arcs = []
    for arc in document["arcs"]:
        x = y = 0.0
        line: Ring = []
        for step in arc:
            x, y = x + step[0], y + step[1]
            line.append((x * sx + tx, y * sy + ty))
        arcs.append(line)
    return arcs


def _objects(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for item in document["objects"].values():
        yield from item["geometries"] if item.get("type") == "GeometryCollection" else [item]


def _stitched(kind: str, rings: Any, arcs: list[Ring]) -> Any:
    """Arc numbers of rings as coordinates; ``~n`` is arc n backwards."""

    def ring(numbers: list[int]) -> Ring:
        line: Ring = []
        for number in numbers:
            part = arcs[number] if number >= 0 else arcs[~number][::-1]
            line += part[1:] if line else part
        return line

    polygons = [rings] if kind == "Polygon" else rings
    made = [[ring(numbers) for numbers in polygon] for polygon in polygons]
    return made[0] if kind == "Polygon" else made


def _geoid(feature: Mapping[str, Any]) -> str:
    properties = feature.get("properties") or {}
    for name in ID_NAMES:
        value = properties.get(name, feature.get(name) if name == "id" else None)
        text = str(value or "").rpartition("US")[2]
        if text.isdigit():
            return text
    return ""


def on_a_plane(shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Coordinates with east and north in one unit: longitudes shrink with the cosine of the middle
    latitude. Longitudes beyond the date line are counted on (the Aleutians).
    """
    points = [
        at for shape in shapes.values() for polygon in shape for ring in polygon for at in ring
    ]
    wraps = max(x for x, _ in points) - min(x for x, _ in points) > 180
    middle = (max(y for _, y in points) + min(y for _, y in points)) / 2
    shrink = math.cos(math.radians(middle))

    def moved(at: tuple[float, float]) -> tuple[float, float]:
        x = at[0] - 360 if wraps and at[0] > 0 else at[0]
        return (x * shrink, at[1])

    return {
        geoid: [[[moved(at) for at in ring] for ring in polygon] for polygon in shape]
        for geoid, shape in shapes.items()
    }


def _layout(path: Path, why: str) -> SourceLayoutError:
    return SourceLayoutError(
        f"The file holds no boundaries that can be drawn: {why}",
        where=str(path),
        expected="GeoJSON (FeatureCollection) or TopoJSON of polygons in degrees, with their GEOID",
        remedy="Name another file, or leave --boundaries out: a grid of tiles is drawn then",
    )
