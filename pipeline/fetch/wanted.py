"""Which files a profile wants, from which addresses, and where each is kept.

Belongs here: going through the sources of a profile, and the words for a file that only a person
can bring. Does not belong here: asking for a file (``transfer.py``), or what a file's path is
(``pipeline/sources/base.py``).

Short because it only joins what specs and sources already say.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DownloadRefusedError
from pipeline.sources.base import SourceFile, files_to_have
from pipeline.specs.catalog import Catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import SourceSpec

BROWSER = "Download it with a browser"


@dataclass(frozen=True)
class Wanted:
    """One file to have: of which publication and vintage, and ``members`` of which an archive must
    hold one.
    """

    spec: SourceSpec
    vintage: str
    file: SourceFile
    members: tuple[str, ...]

    @property
    def path(self) -> Path:
        return self.file.path

    def by_a_person(self, why: DownloadRefusedError | None = None) -> DownloadRefusedError:
        """What a person has to do: address, the name to save as, and the folder. ``why``: how the
        publisher refused a program; None where none need ask.
        """
        file, title = self.file, f"{self.spec.title}, {self.vintage}"
        place = f"as {self.path.name} in {self.path.parent}, and run `geocal fetch` again"
        if not self.spec.vintage(self.vintage).publishers_form:
            return DownloadRefusedError(
                "The file is not in the publisher's form, so no address has it",
                where=str(self.path),
                expected=f"{title}. {file.by_hand}",
                remedy=(
                    f"Save the file described there {place}; its figures are those of"
                    f" {self.spec.publisher}, {file.url}"
                ),
            )
        return DownloadRefusedError(
            why.found if why else f"No program can ask for this file: {file.by_hand}",
            where=f"{self.spec.publisher}, {file.url}",
            expected=title,
            remedy=f"{why.remedy if why else BROWSER}: open the address, save the file {place}",
        )


def wanted_files(
    catalog: Catalog, profile: Profile, data: Path, states: Iterable[str]
) -> list[Wanted]:
    """Every file that the profile reads for ``states``, each path once, optional ones too."""
    states = list(states)
    found: dict[Path, Wanted] = {}
    for source, vintages in sorted(profile.sources.items()):
        spec = catalog.sources[source]
        for vintage in vintages:
            for file in files_to_have(spec, vintage, data, states):
                first = found.get(file.path)
                # Several roles may be members of one archive, and any of them tells it.
                members = (*first.members, *file.members) if first else file.members
                found[file.path] = Wanted(spec, vintage, first.file if first else file, members)
    return list(found.values())
