"""What the states of a folder of made-up states have in common: the profile, the README and the
word that the files are made up.

Belongs here: these. Does not belong here: one state's files (``generate_state.py``).
"""

from __future__ import annotations

from pathlib import Path

import yaml

from benchmarks.generated_settings import Size
from pipeline.sample.files import Folder
from pipeline.specs.known_totals import FILE

PROFILE = "generated"
_README = """SYNTHETIC. Nothing in this folder was published by any agency, and no person or
household in it exists. `python -m benchmarks.generate_state` wrote it in the publishers' formats, to
try out size (docs/large_states.md). Codes of states are real; figures, counties, tracts and
households are invented.
"""


def finish_folder(out: Path, sizes: list[Size], pairs: int) -> None:
    """Write what is common to the states of the folder, those of earlier calls among them."""
    folder = Folder(out)
    folder.text("README.txt", _README)
    folder.text(FILE, "# SYNTHETIC: no published totals apply to these files.\n{}\n")
    states = [size.postal for size in sizes]
    profile = {
        "id": PROFILE,
        "like": "sample",
        "title": "SYNTHETIC states of any size, published as the real ones are",
        # Not the sample: its files are not made on the way.
        "synthetic": False,
        "states": states,
        "budget": {"pairs_per_area": pairs, "minimum_pairs": min(30, pairs)},
    }
    folder.text(f"specs/profiles/{PROFILE}.yaml", yaml.safe_dump(profile, sort_keys=False))
