"""Which versions of this project and of other packages are installed.

Belongs here: look-ups in installed metadata. Does not belong here: what a manifest says of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import metadata


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions by package name; a package that is not installed is left out."""
    found: dict[str, str] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def geocal_version() -> str:
    """The installed version of this project; ``source`` in a folder that was never installed."""
    return package_versions(["geocal"]).get("geocal", "source")
