"""Files of the nation's size in the publishers' formats: PUMS of every state, tables of all tracts.

Rows are those of the SYNTHETIC sample, repeated under new serial numbers and codes. Columns are as
many as the publisher's, and a row is as long: figures mean nothing, sizes do.

Belongs here: writing such files. Does not belong here: reading and timing (``ingest_size.py``).

Sizes: PUMS of 2018 has 286 columns and 705 bytes per person, 234 columns and 560 bytes per housing
record (csv_pri.zip, csv_hal.zip). DP02 to DP05 of 2021 have 154, 137, 143 and 89 lines of eight
columns each (data.census.gov). The table-based summary file has every level of area.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.sample.generate import generate_sample
from pipeline.sample.settings import small_settings
from pipeline.specs.sources import load_source
from pipeline.specs.states import STATES, State

YEAR = "2022"
PERSONS = 3_000_000
TRACTS = 84_414  # Of the 50 states and DC in the relationship file of 2020.
# Census of 2020, thousands: https://www.census.gov/data/tables/2020/dec/2020-apportionment-data.html
_THOUSANDS = (
    "AL 5024 AK 733 AZ 7152 AR 3012 CA 39538 CO 5774 CT 3606 DE 990 DC 690 FL 21538 GA 10712"
    " HI 1455 ID 1839 IL 12813 IN 6786 IA 3190 KS 2938 KY 4506 LA 4658 ME 1362 MD 6177 MA 7030"
    " MI 10077 MN 5706 MS 2961 MO 6155 MT 1084 NE 1962 NV 3105 NH 1378 NJ 9289 NM 2118 NY 20201"
    " NC 10439 ND 779 OH 11799 OK 3959 OR 4237 PA 13003 RI 1097 SC 5118 SD 887 TN 6911 TX 29146"
    " UT 3272 VT 643 VA 8631 WA 7705 WV 1794 WI 5894 WY 577"
)
POPULATION = dict(zip(_THOUSANDS.split()[::2], map(int, _THOUSANDS.split()[1::2]), strict=True))
_COLUMNS = {"p": (286, 705), "h": (234, 560)}
_LINES = {"DP02": 154, "DP03": 137, "DP04": 143, "DP05": 94}
_PARTS = ("E", "EA", "M", "MA", "PE", "PEA", "PM", "PMA")
_TEMPLATES = 40
# Rows of other levels per tract in a file of the summary file's kind: block groups (242,000 of
# 84,414 tracts), places, ZIP areas and the rest (90,000).
_BLOCK_GROUPS, _OTHER = 2.87, 1.07
_PIECE = 60_000


def shares(total: int) -> dict[str, int]:
    """``total`` by postal code, in proportion to population, at least one each."""
    whole = sum(POPULATION.values())
    return {code: max(1, round(total * count / whole)) for code, count in POPULATION.items()}


def tracts_of(state: State, tracts: int) -> list[str]:
    """GEOIDs: 25 tracts per county, counties by odd numbers; Alaska has one that marks 2020."""
    counties = [f"{2 * k + 1:03}" for k in range(-(-tracts // 25))]
    if state.postal == "AK":
        counties[0] = "158"
    return [f"{state.fips}{counties[k // 25]}{k % 25 + 1:04}00" for k in range(tracts)]


def write_pums(folder: Path, persons: int) -> None:
    """``csv_p<st>.zip`` and ``csv_h<st>.zip`` of every state; in a folder ``nation`` of its own
    ``csv_pus.zip``, which has all persons in two members.
    """
    sample = folder / "sample"
    generate_sample(sample, small_settings())
    place = folder / "acs_pums" / f"{YEAR}_1yr"
    place.mkdir(parents=True)
    template = {kind: _template(sample, kind) for kind in "ph"}
    units = template["h"]["SERIALNO"].to_list()
    rank = {serial: at for at, serial in enumerate(dict.fromkeys(units))}
    numbered = {
        kind: frame.with_columns(
            _rank=pl.col("SERIALNO").replace_strict(rank, return_dtype=pl.Int64),
            _kind=pl.col("SERIALNO").str.slice(4, 2),
        )
        for kind, frame in template.items()
    }
    copies = {c: -(-count // template["p"].height) for c, count in shares(persons).items()}
    nation = folder / "nation" / place.relative_to(folder)
    nation.mkdir(parents=True)
    with zipfile.ZipFile(nation / "csv_pus.zip", "w", zipfile.ZIP_DEFLATED, True, 1) as whole:
        for letter, states in zip("ab", _halves(copies), strict=True):
            with whole.open(f"psam_pus{letter}.csv", "w", force_zip64=True) as member:
                member.write(_csv(numbered["p"].head(0), STATES[0], 0, 1, 0, header=True))
                for state in states:
                    for kind in "ph":
                        pieces = _pieces(numbered[kind], state, copies[state.postal], len(rank))
                        archive = place / f"csv_{kind}{state.postal.lower()}.zip"
                        also = member if kind == "p" else None
                        _write_archive(archive, f"psam_{kind}{state.fips}.csv", pieces, also)


def _halves(copies: dict[str, int]) -> tuple[list[State], list[State]]:
    """The states of the two members of the nation's archive, about equally many records each."""
    done, first = 0, []
    for state in STATES:
        if 2 * done < sum(copies.values()):
            first.append(state)
            done += copies[state.postal]
    return first, [state for state in STATES if state not in first]


def _template(sample: Path, kind: str) -> pl.DataFrame:
    """Records of the sample's Rhode Island with as many and as wide columns as the Bureau's."""
    archive = sample / "acs_pums" / f"{YEAR}_1yr" / f"csv_{kind}ri.zip"
    with zipfile.ZipFile(archive) as opened:
        content = opened.read(f"psam_{kind}44.csv")
    frame = pl.read_csv(content, infer_schema=False)
    wanted, width = _COLUMNS[kind]
    missing = wanted - frame.width
    spare = width - len(content) / frame.height - 2 * missing
    flags = [pl.lit("0").alias(f"F{k:03}P") for k in range(missing - 1)]
    filler = pl.lit("0" * max(1, int(spare) + 1)).alias("FILLER")
    return frame.with_columns(*flags, filler)


def _pieces(frame: pl.DataFrame, state: State, copies: int, units: int) -> Iterator[bytes]:
    step = max(1, _PIECE // frame.height)
    for first in range(0, copies, step):
        last = min(copies, first + step)
        yield _csv(frame, state, first, last, units, header=first == 0)


def _csv(
    frame: pl.DataFrame, state: State, first: int, last: int, units: int, *, header: bool
) -> bytes:
    """Copies ``first`` to ``last`` of the records under serial numbers of their own."""
    number = (pl.col("_rank") + pl.col("_copy") * units).cast(pl.String).str.zfill(7)
    made = [
        frame.with_columns(_copy=pl.lit(copy, pl.Int64)).with_columns(
            SERIALNO=pl.lit(YEAR) + pl.col("_kind") + number, ST=pl.lit(state.fips)
        )
        for copy in range(first, last)
    ]
    table = pl.concat(made).drop("_rank", "_kind", "_copy")
    return table.write_csv(include_header=header).encode()


def _write_archive(
    path: Path, member: str, pieces: Iterator[bytes], also: io.IOBase | None
) -> None:
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, True, 1) as archive,
        archive.open(member, "w", force_zip64=True) as file,
    ):
        for number, piece in enumerate(pieces):
            file.write(piece)
            if also is not None:
                also.write(piece if number else piece.split(b"\n", 1)[1])


def write_tract_tables(folder: Path, tracts: int) -> None:
    """Profiles (API) and SVI by state, B19001 of the nation (summary file), the tract list."""
    rng = np.random.default_rng(20240604)
    counts = shares(tracts)
    codes = {state.postal: tracts_of(state, counts[state.postal]) for state in STATES}
    for state in STATES:
        own = folder / "acs_tables" / f"{state.postal.lower()}_tracts"
        own.mkdir(parents=True)
        for group, lines in _LINES.items():
            _write_answer(own / f"acs5_{YEAR}_{group}.json", group, lines, codes[state.postal], rng)
    _write_summary(folder / "acs_tables" / "table_based", codes, rng)
    _write_svi(folder / "acs_tables" / f"svi_tracts_{YEAR}", codes, rng)
    _write_list(folder / "geo", codes)


def _write_answer(
    path: Path, group: str, lines: int, codes: list[str], rng: np.random.Generator
) -> None:
    """A group as api.census.gov answers it: a list of lists of text, a row per tract."""
    columns = [f"{group}_{k:04}{part}" for k in range(1, lines + 1) for part in _PARTS]
    header = json.dumps(["GEO_ID", "NAME", *columns, "state", "county", "tract"])
    bodies = []
    for _ in range(_TEMPLATES):
        values = rng.integers(1, 5_000, lines)
        if group == "DP05":
            values[71] = values[0]
        cells = [[str(v), None, "120", None, "12.5", None, "3.1", None] for v in values]
        bodies.append(json.dumps([cell for row in cells for cell in row])[1:-1])
    with path.open("w", encoding="utf-8") as file:
        file.write(f"[{header}")
        for at, code in enumerate(codes):
            name = f"Census Tract {int(code[5:9])}; SYNTHETIC County"
            area = f'"{code[:2]}", "{code[2:5]}", "{code[5:]}"'
            body = bodies[at % _TEMPLATES]
            file.write(f',\n["1400000US{code}", "{name}", {body}, {area}]')
        file.write("]")


def _write_summary(folder: Path, codes: dict[str, list[str]], rng: np.random.Generator) -> None:
    """``acsdt5y2022-b19001.dat``: all levels of area in one file of the nation."""
    folder.mkdir(parents=True)
    values = rng.integers(0, 400, (_TEMPLATES, 17))
    bodies = ["|".join(f"{v}|{v // 3 + 9}" for v in row) for row in values]
    names = "|".join(f"B19001_E{k:03}|B19001_M{k:03}" for k in range(1, 18))
    every = [code for own in codes.values() for code in own]
    groups = (
        f"1500000US{every[k % len(every)]}{k // len(every) + 1}"
        for k in _until(_BLOCK_GROUPS, every)
    )
    others = (f"8600000US{k:05}" for k in _until(_OTHER, every))
    tracts = (f"1400000US{code}" for code in every)
    with (folder / f"acsdt5y{YEAR}-b19001.dat").open("w", encoding="utf-8") as file:
        file.write(f"GEO_ID|{names}\n")
        for source in (tracts, groups, others):
            file.writelines(f"{g}|{bodies[k % _TEMPLATES]}\n" for k, g in enumerate(source))


def _until(share: float, every: list[str]) -> range:
    return range(int(share * len(every)))


def _write_svi(folder: Path, codes: dict[str, list[str]], rng: np.random.Generator) -> None:
    """CDC's file of each state: 158 columns, estimates and margins among them."""
    folder.mkdir(parents=True)
    spec = load_source("svi_tracts")
    own = (c for c in spec.columns if c.name and str(YEAR) in (c.vintages or (str(YEAR),)))
    named = sorted({column.name for column in own} - {"POV", "PCI"})
    measures = [f"{mark}_{name}" for name in named for mark in "EM"]
    first = ["ST", "STATE", "ST_ABBR", "STCNTY", "COUNTY", "FIPS", "LOCATION", "AREA_SQMI"]
    filler = [f"EPL_{k:03}" for k in range(158 - len(first) - len(measures))]
    values = rng.integers(1, 3_000, (_TEMPLATES, len(measures)))
    bodies = [",".join(map(str, row)) + ",0.5123" * len(filler) for row in values]
    for state in STATES:
        with (folder / f"{state.compact_name}.csv").open("w", encoding="utf-8") as file:
            file.write(",".join([*first, *measures, *filler]) + "\n")
            for at, code in enumerate(codes[state.postal]):
                area = f"{state.fips},{state.name},{state.postal},{code[:5]},SYNTHETIC"
                file.write(
                    f'{area},{code},"Census Tract; SYNTHETIC",1.5,{bodies[at % _TEMPLATES]}\n'
                )


def _write_list(folder: Path, codes: dict[str, list[str]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["STATEFP,COUNTYFP,TRACTCE,PUMA5CE"]
    lines += [f"{c[:2]},{c[2:5]},{c[5:]},00101" for own in codes.values() for c in own]
    path = folder / "2020_Census_Tract_to_2020_PUMA.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
