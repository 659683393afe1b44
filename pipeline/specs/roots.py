"""Folders of specifications: ours, and those that a team keeps outside the checkout.

``GEOCAL_SPECS`` (or ``--specs DIR``, once per folder) names folders that hold what ``data_specs``
holds: ``profiles``, ``sources``, ``targets``, ``variables``, ``factors``, ``cross_categories`` and
``categories.yaml``. A file or entry of a later folder stands in place of an earlier one of the same
name, and ``overrides`` names it. ``GEOCAL_PROFILE`` (or ``--profile PATH``) may be the path of a
profile's YAML file anywhere.

Belongs here: which folders count, in which order, and which files of a kind they hold. Does not
belong here: what a file says (the models), or when it is read (``folders.py``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SpecError
from pipeline.settings import PROFILE_VARIABLE, SPECS_VARIABLE, profile_file
from pipeline.specs.base import SPEC_ROOT

FOLDERS = ("profiles", "sources", "targets", "variables", "factors", "cross_categories")
GROUPS = "categories.yaml"


@dataclass(frozen=True)
class Roots:
    """``folders``: of specifications, ours first; ``profile``: a profile's file anywhere, or
    None."""

    folders: tuple[Path, ...]
    profile: Path | None = None

    def layers(self, kind: str) -> list[list[Path]]:
        """YAML files of ``kind`` (a folder's name), sorted, one list for each folder."""
        found = [sorted((folder / kind).glob("*.yaml")) for folder in self.folders]
        return [*found, [self.profile]] if kind == "profiles" and self.profile else found

    def files(self, kind: str) -> dict[str, Path]:
        """Files of ``kind`` by name without ``.yaml``; of one name the last folder's."""
        return {path.stem: path for layer in self.layers(kind) for path in layer}

    def shown(self, kind: str, name: str) -> str:
        """Where a message says that a file lies: ``data_specs/...`` of ours, a path of a team's."""
        path = self.files(kind).get(name)
        ours = path is None or path.is_relative_to(self.folders[0])
        return f"data_specs/{kind}/{name}.yaml" if ours else str(path)

    def layer_of(self, path: Path) -> int:
        """The place of the folder that ``path`` lies in."""
        return next((i for i, f in enumerate(self.folders) if path.is_relative_to(f)), 0)

    @property
    def groups(self) -> list[Path]:
        """The files of category groups; a folder of a team may have none."""
        first, *others = (folder / GROUPS for folder in self.folders)
        return [first, *(path for path in others if path.exists())]

    def overrides(self) -> list[str]:
        """Files of ours, or of an earlier folder, in whose place another stands, in words."""
        found = []
        for kind in FOLDERS:
            taken: dict[str, Path] = {}
            for path in (path for layer in self.layers(kind) for path in layer):
                replaced = taken.get(path.stem)
                # Variables and factors are entries of files: they are compared one by one.
                if replaced is not None and kind not in ("variables", "factors"):
                    found.append(f"{kind}/{path.stem}: {path} in place of {replaced}")
                taken[path.stem] = path
        return found


def spec_roots(environ: Mapping[str, str] | None = None) -> Roots:
    """Ours, then the folders of ``GEOCAL_SPECS``, with the profile's file that the environment
    names.

    Raises SpecError for a folder that is not there or holds something that nobody reads.
    """
    environ = os.environ if environ is None else environ
    named = [part for part in environ.get(SPECS_VARIABLE, "").split(os.pathsep) if part.strip()]
    folders = tuple(_folder(Path(part).expanduser().resolve()) for part in named)
    return Roots((SPEC_ROOT, *folders), profile_file(environ.get(PROFILE_VARIABLE)))


def beside_ours() -> tuple[Path, ...]:
    """Folders and the profile's file that the environment adds to ours, in their order."""
    roots = spec_roots()
    return (*roots.folders[1:], *((roots.profile,) if roots.profile else ()))


def _folder(folder: Path) -> Path:
    if not folder.is_dir():
        raise SpecError(
            "There is no such folder of specifications",
            where=str(folder),
            expected=f"a folder with one or more of {', '.join(FOLDERS)}, {GROUPS}",
            remedy=f"Correct --specs (or {SPECS_VARIABLE})",
        )
    entries = [p for p in sorted(folder.iterdir()) if not p.name.startswith((".", "README"))]
    unread = [p.name for p in entries if p.name not in (FOLDERS if p.is_dir() else (GROUPS,))]
    if unread or not entries:
        held = ", ".join(unread) or "nothing"
        raise SpecError(
            f"The folder of specifications holds {held}, which nobody reads",
            where=str(folder),
            expected=f"{', '.join(FOLDERS)}, {GROUPS}, and a README",
            remedy="Put each YAML file into the folder of its kind",
        )
    return folder
