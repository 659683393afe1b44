"""What `geocal fetch` says of each fault of a publisher, and what its second run does.

    python -m benchmarks.fetch_faults              print what a user sees, fault by fault
    python -m benchmarks.fetch_faults --markdown   print the table of docs/fetching.md

A publisher on 127.0.0.1 plays each fault; no other network is used. Waits are shortened, and words
that differ from run to run (port, seconds, folders) are written as such.

Belongs here: the faults and the table. Does not belong here: the server (``loopback.py``), or what
must be true of each fault (``tests/pipeline/fetch/``).
"""

from __future__ import annotations

import argparse
import io
import re
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from benchmarks.loopback import Answer, Publisher, Served, cut, in_seconds, says, unannounced, whole
from pipeline.cli.fetch import print_outcomes
from pipeline.cli.progress import FetchProgress
from pipeline.cli.terminal import LOG_WIDTH, Terminal, Verbosity
from pipeline.fetch.fetching import Outcome, fetch_files
from pipeline.fetch.network import MIRROR_VARIABLE
from pipeline.fetch.wanted import Wanted, wanted_files
from pipeline.specs.catalog import load_catalog
from pipeline.specs.download import load_download

# A server that is silent this long counts as stalled here; a person's machine waits a minute.
SILENT = 1.0
QUICK = load_download().model_copy(
    update={
        "read_seconds": SILENT,
        "attempts": 3,
        "first_wait_seconds": 0.01,
        "longest_wait_seconds": 0.01,
        "pause_seconds": 0.0,
    }
)
_ROWS = "".join(
    f"050,44,{county:03},SYNTHETIC,{county * 7},{county * 9}\n" for county in range(999)
)
TABLE = Served(f"SUMLEV,STATE,COUNTY,CTYNAME,POPESTIMATE2023,POPESTIMATE2024\n{_ROWS}".encode())
HALF = len(TABLE.content) // 2
KEPT = "What was there before is kept"
PAGE = "<!DOCTYPE html><html><head><title>Request Rejected</title></head></html>"


def zipped(name: str, content: bytes = TABLE.content) -> bytes:
    """An archive with one member."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = Served(zipped("psam_p44.csv"), kind="application/zip")
_DAMAGED = replace(ARCHIVE, content=ARCHIVE.content[:200] + b"\x00" * 40 + ARCHIVE.content[240:])
_OTHER_STATE = replace(ARCHIVE, content=zipped("psam_p10.csv"))
_PDF = replace(TABLE, content=b"%PDF-1.7\n" + TABLE.content)
_CHANGED = replace(TABLE, content=TABLE.content + b"050,44,999,SYNTHETIC,1,2\n", etag='"second"')
_NO_STAMP = replace(TABLE, etag="", date="")


@dataclass(frozen=True)
class Fault:
    """``first``: answers of the first run; ``then``: of the second, when the publisher is well
    again (None: as before). ``source``: whose file it is.
    """

    name: str
    first: tuple[Answer, ...]
    then: Answer | None
    source: str = "pep_counties"


def _moved(to: str) -> Answer:
    return says(302, Location=to)


WELL = whole(TABLE)
FAULTS = (
    Fault("none: the file comes", (WELL,), None),
    Fault("slow, in 20 pieces", (whole(TABLE, pieces=20, pause=0.02),), None),
    Fault("silent in the middle, once", (cut(TABLE, HALF, silent=2 * SILENT), WELL), WELL),
    Fault("cut off in the middle, once", (cut(TABLE, HALF), WELL), WELL),
    Fault("cut off again and again", (cut(TABLE, 0), cut(TABLE, HALF), cut(TABLE, 0)), WELL),
    Fault(
        "cut off, and cannot continue",
        (cut(replace(TABLE, ranges=False), HALF), whole(replace(TABLE, ranges=False))),
        None,
    ),
    Fault("cut off, and no ETag or date", (cut(_NO_STAMP, HALF), whole(_NO_STAMP)), None),
    Fault("changed while it came", (cut(TABLE, HALF), whole(_CHANGED)), None),
    Fault(
        "truncated without a length (text)",
        (unannounced(_NO_STAMP, HALF), unannounced(_NO_STAMP)),
        None,
    ),
    Fault(
        "truncated without a length (archive)",
        (unannounced(ARCHIVE, 900), unannounced(ARCHIVE)),
        None,
        "acs_pums_1yr",
    ),
    Fault("archive damaged", (whole(_DAMAGED),), whole(ARCHIVE), "acs_pums_1yr"),
    Fault("archive of another state", (whole(_OTHER_STATE),), whole(ARCHIVE), "acs_pums_1yr"),
    Fault("moved, with a redirection", (_moved("/elsewhere/there.csv"),), None),
    Fault("sent round in a circle", (_moved("/round"),), WELL),
    Fault("sent on to a log-in page", (_moved("/login"),), WELL),
    Fault("web page, named text/html", (says(200, PAGE, Content_Type="text/html"),), WELL),
    Fault("web page, named text/csv", (says(200, PAGE, Content_Type="text/csv"),), WELL),
    Fault("another type: PDF", (whole(_PDF),), WELL),
    Fault("nothing: 0 bytes", (says(200, "", Content_Type="text/csv"),), WELL),
    Fault("403 to programs", (says(403, PAGE, Content_Type="text/html"),), WELL),
    Fault("404", (says(404, PAGE, Content_Type="text/html"),), WELL),
    Fault("429, Retry-After 1 s, once", (says(429, Retry_After="1"), WELL), WELL),
    Fault("429, Retry-After an hour", (says(429, Retry_After="3600"),), WELL),
    Fault(
        "503, Retry-After a date, once",
        (lambda handler: says(503, Retry_After=in_seconds(2))(handler), WELL),
        WELL,
    ),
    Fault("503 again and again", (says(503),), WELL),
    Fault(
        "API: no key", (says(200, PAGE, Content_Type="text/html"),), None, "census2020_pl_tracts"
    ),
    Fault(
        "API: unknown variable",
        (says(400, "error: unknown variable 'P1_999N'"),),
        whole(Served(b'[["GEO_ID","P1_001N"],["1400000US44001030100","7"]]', kind="text/json")),
        "census2020_pl_tracts",
    ),
    Fault("changed at the publisher", (WELL,), whole(_CHANGED)),
    Fault("changed, and cut off then", (WELL,), cut(_CHANGED, 0)),
)


@dataclass(frozen=True)
class Run:
    """One run of the command: what became of the file, its message, what stands on the terminal,
    and what was asked of the publisher.
    """

    outcome: Outcome
    message: str
    said: str
    asked: tuple[str, ...]
    content: bytes | None


def wanted_of(source: str, data: Path) -> Wanted:
    """The first file of the last vintage of a source, as a profile with that source wants it."""
    catalog = load_catalog()
    spec = catalog.sources[source]
    profile = catalog.profile("rhode_island").model_copy(
        update={"sources": {source: (max(spec.vintages),)}}
    )
    return wanted_files(catalog, profile, data, ["RI"])[0]


def mirrored(wanted: Wanted) -> str:
    """The path at which a mirror has the file."""
    return "/" + wanted.file.url.split("://", 1)[1]


def run_once(
    wanted: Wanted, data: Path, publisher: Publisher, plain: Callable[[str], str] = str
) -> Run:
    """One run of ``geocal fetch`` for one file, its terminal caught."""
    out = io.StringIO()
    consoles = [Console(file=out, width=LOG_WIDTH, no_color=True) for _ in range(2)]
    terminal = Terminal(*consoles, Verbosity(), None)
    publisher.asked.clear()
    with FetchProgress(terminal) as progress:
        outcomes = fetch_files(
            [wanted], data, QUICK, progress, environ={MIRROR_VARIABLE: publisher.address}
        )
    print_outcomes(terminal, outcomes)
    content = wanted.path.read_bytes() if wanted.path.exists() else None
    asked = tuple(_in_words(headers) for path, headers in publisher.asked)
    return Run(outcomes[0], plain(outcomes[0].message), plain(out.getvalue()), asked, content)


def _in_words(headers: dict[str, str]) -> str:
    if "Range" in headers:
        return f"from byte {int(headers['Range'][6:-1]):,}"
    known = "If-None-Match" in headers or "If-Modified-Since" in headers
    return "if changed" if known else "whole"


def try_fault(fault: Fault, data: Path) -> tuple[Run, Run]:
    """Two runs, between which the publisher gets well."""
    wanted = wanted_of(fault.source, data)
    with Publisher() as publisher:
        publisher.answers = {
            mirrored(wanted): list(fault.first),
            "/elsewhere/there.csv": [WELL],
            "/round": [_moved("/round")],
            "/login": [says(200, PAGE, Content_Type="text/html")],
        }

        def plain(text: str) -> str:
            text = text.replace(publisher.address, "http://MIRROR").replace(str(data), "DATA")
            text = re.sub(r"next attempt in \d+ s", "next attempt in N s", text)
            return re.sub(r"\d{4}-\d\d-\d\dT[\d:+]+", "TIME", text)

        first = run_once(wanted, data, publisher, plain)
        if fault.then is not None:
            publisher.answers[mirrored(wanted)] = [fault.then]
        return first, run_once(wanted, data, publisher, plain)


def _cell(run: Run) -> str:
    """What became of the file, the waits, and the message without what to do."""
    message = re.split(r" (?:Where|What to do): ", run.message)[0]
    waits = re.findall(r": (.*); next attempt", run.said)
    words = [wait for wait in dict.fromkeys(waits) if wait not in message] + [message]
    if KEPT in run.message:
        words.append(KEPT)
    said = "; ".join(word.rstrip(".") for word in words if word)
    return f"**{run.outcome.result}**" + (f": {said}" if said else "")


def markdown() -> str:
    """The table of docs/fetching.md."""
    lines = ["| fault | first run | second run | asked then |", "|---|---|---|---|"]
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            first, second = try_fault(fault, Path(folder))
        lines.append(row(fault, first, second))
    return "\n".join(lines)


def row(fault: Fault, first: Run, second: Run) -> str:
    """One line of the table."""
    asked = ", ".join(second.asked) or "nothing"
    return f"| {fault.name} | {_cell(first)} | {_cell(second)} | {asked} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--markdown", action="store_true", help="print the table of the document")
    if parser.parse_args().markdown:
        print(markdown())
        return
    for fault in FAULTS:
        with tempfile.TemporaryDirectory() as folder:
            first, second = try_fault(fault, Path(folder))
        print(f"=== {fault.name}\n--- first run\n{first.said}--- second run\n{second.said}")


if __name__ == "__main__":
    main()
