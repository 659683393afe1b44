"""The invented tracts: codes, PUMAs, and the features that make them differ.

Belongs here: one row per tract, and the county and state lists. Does not belong here: people.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.sample.settings import CountySetting, SampleSettings


@dataclass(frozen=True)
class Geography:
    """Tracts in ascending GEOID order within the order of ``settings.counties``; all arrays have
    one entry per tract.

    ``features`` holds float arrays by name (affluence, age, urban, hispanic, black, asian, kids,
    owner, student, military), ``sizes`` integer arrays (households, nursing, dorm, prison,
    barracks). Tracts without people come with zero sizes.
    """

    tract: np.ndarray
    county: np.ndarray
    state: np.ndarray
    puma: np.ndarray
    name: np.ndarray
    growth: np.ndarray
    features: dict[str, np.ndarray]
    sizes: dict[str, np.ndarray]

    @property
    def count(self) -> int:
        return len(self.tract)

    @property
    def populated(self) -> np.ndarray:
        return self.sizes["households"] > 0


FEATURES = (
    *("affluence", "age", "urban", "hispanic", "black", "asian"),
    *("kids", "owner", "student", "military"),
)
SIZES = ("households", "nursing", "dorm", "prison", "barracks")


def _of_county(county: CountySetting, states: dict[str, str]) -> dict[str, Any]:
    """What every tract of a county has in common."""
    place = f"{county.name}; {states[county.fips[:2]]}"
    return {"county": county.fips, "growth": county.growth, "place": place}


def build_geography(settings: SampleSettings) -> Geography:
    """Lay out the tracts: kind plus a shift common to the county (neighbours are alike) plus a
    tract's own deviation.
    """
    rng = settings.stream("geography")
    names = {s.fips: s.name for s in settings.states}
    rows: list[dict[str, Any]] = []
    for county in settings.counties:
        shift = rng.normal(0.0, 0.06, 2)
        for place, kind_name in enumerate(county.tracts):
            kind = settings.kinds[kind_name]
            row: dict[str, Any] = {f: float(getattr(kind, f)) for f in FEATURES}
            row |= {s: round(getattr(kind, s) * settings.scale) for s in SIZES}
            own = rng.normal(0.0, 1.0, 6)
            row["affluence"] += county.affluence + shift[0] + 0.10 * own[0]
            row["age"] += shift[1] + 0.10 * own[1]
            for i, share in enumerate(("hispanic", "black", "asian")):
                row[share] = float(np.clip(row[share] * np.exp(0.25 * own[2 + i]), 0.005, 0.85))
            row["households"] = max(8, round(row["households"] * float(np.exp(0.10 * own[5]))))
            number = f"{place + 101}"
            row |= {"tract": f"{county.fips}{number.zfill(4)}00", "number": number}
            row["puma"] = county.pumas[place * len(county.pumas) // len(county.tracts)]
            rows.append(row | _of_county(county, names))
        for place in range(county.empty_tracts):
            row = {**dict.fromkeys(FEATURES, 0.0), **dict.fromkeys(SIZES, 0)}
            number = "9900" if place == 0 else f"9900.{place:02d}"
            row |= {"tract": f"{county.fips}9900{place:02d}", "number": number}
            row["puma"] = county.pumas[-1]
            rows.append(row | _of_county(county, names))
    titles = [f"Census Tract {r['number']}; {r['place']} {settings.label}" for r in rows]
    return Geography(
        tract=np.array([r["tract"] for r in rows]),
        county=np.array([r["county"] for r in rows]),
        state=np.array([r["county"][:2] for r in rows]),
        puma=np.array([r["puma"] for r in rows]),
        name=np.array(titles),
        growth=np.array([r["growth"] for r in rows]),
        features={f: np.array([r[f] for r in rows]) for f in FEATURES},
        sizes={s: np.array([r[s] for r in rows], dtype=np.int64) for s in SIZES},
    )
