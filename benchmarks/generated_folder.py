"""What the states of a folder of made-up states have in common: which they are, the profile, the
README and the word that the files are made up.

``DIR/parts/<STATE>`` holds what a state publishes in national files, and its size; the rest of a
state's files lies at its place in ``DIR``.

Belongs here: these. Does not belong here: one state's files (``generate_state.py``), how national
files are joined (``generated_merge.py``).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import yaml

from benchmarks.generated_merge import Part, merge_parts
from benchmarks.generated_settings import Size
from pipeline.sample.files import Folder
from pipeline.specs.known_totals import FILE
from pipeline.specs.states import STATES

PROFILE = "generated"
PARTS, _SIZE = "parts", "size.json"
# Means of amounts that a few records hold, in files of returns: capital gains, business.
_HEAVY_TAILED = ("A01000", "A00900")
_README = """SYNTHETIC. Nothing in this folder was published by any agency, and no person or
household in it exists. `python -m benchmarks.generate_state` wrote it in the publishers' formats,
to try out size (docs/large_states.md). Codes of states are real; figures, counties, tracts and
households are invented.

    geocal run --profile generated --specs {folder}/specs --data {folder}

parts/ holds what each state publishes in national files, so that states can be added:

{states}
"""


def part_folder(out: Path, postal: str) -> Path:
    """Where a state's share of the national files lies."""
    return out / PARTS / postal


def note_size(out: Path, size: Size, counts: dict[str, int]) -> None:
    """Write a state's size beside its files, last: a state without it was not finished."""
    content = {"label": "SYNTHETIC", **asdict(size), **counts}
    Folder(part_folder(out, size.postal)).text(_SIZE, json.dumps(content, indent=1) + "\n")


def finish_folder(out: Path, pairs: int) -> list[str]:
    """Write what is common to all finished states of the folder, those of earlier calls among them;
    returns their postal codes. ``pairs`` per tract goes into the profile.
    """
    known = {state.postal: out / PARTS / state.postal for state in STATES}
    parts = [Part(p, path) for p, path in known.items() if (path / _SIZE).is_file()]
    folder, states = Folder(out), [part.postal for part in parts]
    merge_parts(folder, parts)
    folder.text(FILE, "# SYNTHETIC: no published totals apply to these files.\n{}\n")
    profile = {
        "id": PROFILE,
        "like": "sample",
        "title": "SYNTHETIC states of any size, published as the real ones are",
        # Not the sample: its files are not made on the way.
        "synthetic": False,
        "states": states,
        "budget": {"pairs_per_area": pairs, "minimum_pairs": min(30, pairs)},
        "accepted_checks": [
            {
                "check": "ratios_in_band",
                "source": source,
                "columns": list(_HEAVY_TAILED),
                "reason": "SYNTHETIC: in a small area few records hold all gains and businesses",
            }
            for source in ("irs_county", "irs_historic_table_2")
        ],
    }
    text = "# SYNTHETIC. Written by `python -m benchmarks.generate_state`.\n"
    text += yaml.safe_dump(profile, sort_keys=False)
    folder.text(f"specs/profiles/{PROFILE}.yaml", text)
    sizes = [json.loads((part.folder / _SIZE).read_text(encoding="utf-8")) for part in parts]
    listed = "\n".join(
        f"    {s['postal']}: {s['tracts']:,} tracts, {s['pumas']:,} PUMAs, seed {s['seed']}"
        f", {s['household_records']:,} household records, {s['person_records']:,} person records"
        for s in sizes
    )
    folder.text("README.txt", _README.format(folder=out.name, states=listed))
    return states
