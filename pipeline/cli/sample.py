"""The command ``geocal sample``: the SYNTHETIC raw files in a folder, with an error on request.

Short because the files and their errors are made in ``pipeline/sample``. Belongs here: what is
said. Does not belong here: making a file, or a kind of error.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.cli.terminal import Terminal
from pipeline.errors import ProfileError

LIST = "list"


def write_sample(terminal: Terminal, folder: Path | None, kind: str | None) -> int:
    """Write the files, plant ``kind`` in one, and say what finds it; the list of kinds needs
    no folder. Raises ProfileError for a kind that there is not, and without a folder.
    """
    from pipeline.sample.breaks import break_sample, listed, refuse_unknown
    from pipeline.sample.generate import generate_sample

    if kind == LIST:
        terminal.text(listed())
        return 0
    if kind is not None:
        refuse_unknown(kind)
    if folder is None:
        raise ProfileError(
            "No folder is named for the sample's files",
            where="geocal sample",
            expected="geocal sample DIR",
            remedy="Name one; it is made if it is not there",
        )
    made = generate_sample(folder)
    terminal.result(f"SYNTHETIC: {len(made.files):,} files in {folder}", markup=False)
    if kind is not None:
        planted = break_sample(folder, kind)
        terminal.result(
            f"Planted in {planted.path}: {planted.title}. Meant to be found by {planted.found_by}.",
            markup=False,
        )
    return 0
