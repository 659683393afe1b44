"""Rows of small PUMS files as published, and reading them.

Used by the tests of the PUMS reader.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

from pipeline.sources.microdata.acs_pums import read_pums

ADULT = {
    "RT": "P",
    "SERIALNO": "2018HU0000001",
    "SPORDER": "01",
    "PUMA": "00101",
    "ST": "44",
    "ADJINC": "1013097",
    "PWGTP": "30",
    "AGEP": "40",
    "SEX": "1",
    "RELP": "00",
    "MAR": "1",
    "RAC1P": "1",
    "HISP": "01",
    "SCHL": "21",
    "SCH": "1",
    "SCHG": "",
    "ESR": "1",
    "COW": "1",
    "JWTR": "01",
    "JWRIP": "01",
    "DIS": "2",
    "MIL": "4",
    "NATIVITY": "1",
    "CIT": "1",
    "LANX": "2",
    "MIG": "1",
    "MIGSP": "",
    "FER": "",
    "POVPIP": "501",
    "WKW": "1",
    "WKHP": "40",
    "WAGP": "50000",
    "SEMP": "0",
    "INTP": "-100",
    "SSP": "0",
    "SSIP": "0",
    "PAP": "0",
    "RETP": "0",
    "OIP": "0",
    "PINCP": "49900",
}
CHILD = {
    **ADULT,
    "SPORDER": "02",
    "AGEP": "2",
    "SEX": "2",
    "RELP": "02",
    "MAR": "5",
    "PWGTP": "28",
    **dict.fromkeys(
        (
            "SCHL",
            "SCH",
            "ESR",
            "COW",
            "JWTR",
            "JWRIP",
            "MIL",
            "LANX",
            "WKW",
            "WKHP",
            "WAGP",
            "SEMP",
            "INTP",
            "SSP",
            "SSIP",
            "PAP",
            "RETP",
            "OIP",
            "PINCP",
        ),
        "",
    ),
}
STUDENT = {
    **ADULT,
    "SERIALNO": "2018GQ0000031",
    "AGEP": "19",
    "RELP": "17",
    "MAR": "5",
    "SCH": "3",
    "SCHG": "15",
    "SCHL": "18",
    "ESR": "6",
    "COW": "",
    "JWTR": "",
    "JWRIP": "",
    "WKW": "",
    "WKHP": "",
    "WAGP": "0",
    "INTP": "0",
    "PINCP": "0",
    "PWGTP": "11",
    "POVPIP": "",
}
HOME = {
    "RT": "H",
    "SERIALNO": "2018HU0000001",
    "PUMA": "00101",
    "ST": "44",
    "ADJINC": "1013097",
    "WGTP": "29",
    "NP": "2",
    "TYPE": "1",
    "TEN": "2",
    "FS": "1",
    "HINCP": "49900",
}
VACANT = {
    **HOME,
    "SERIALNO": "2018HU0000002",
    "WGTP": "7",
    "NP": "0",
    "TEN": "",
    "FS": "",
    "HINCP": "",
}
DORM = {
    **HOME,
    "SERIALNO": "2018GQ0000031",
    "WGTP": "0",
    "NP": "1",
    "TYPE": "3",
    "TEN": "",
    "FS": "2",
    "HINCP": "",
}


def text(rows: list[dict[str, str]]) -> str:
    return (
        "\n".join([",".join(rows[0]), *(",".join(row[name] for name in rows[0]) for row in rows)])
        + "\n"
    )


def archive(
    folder: Path,
    rows: list[dict[str, str]],
    member: str = "psam_p44.csv",
    name: str = "csv_pri.zip",
) -> Path:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(member, text(rows))
        file.writestr("ACS2018_PUMS_README.pdf", "%PDF")
    path = folder / name
    path.write_bytes(buffer.getvalue())
    return path


def read(folder: Path, rows: list[dict[str, str]], **options: object):
    return read_pums(archive(folder, rows), **{"year": 2018, "state_fips": "44", **options})


def counts(notes: tuple) -> dict[str, int]:
    return {note.code: note.count for note in notes}
