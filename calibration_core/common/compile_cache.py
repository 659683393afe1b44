"""Where compiled loops are kept when the folder of the installation cannot be written.

Belongs here: naming a folder for Numba's cache before Numba is loaded. Does not belong here: a
compiled loop, or any other file.

Numba keeps machine code beside the source, else in the user's cache folder, else it refuses to
define a cached function at all ("no locator available"). An installation that only root may write,
used by an account without a home (a container, a batch queue), then fails at its first import. Such
a process is given a folder of its own among the temporary files, through ``NUMBA_CACHE_DIR``.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "NUMBA_CACHE_DIR"
# Numba runs what it finds there, so nobody else may write to it.
_PRIVATE = stat.S_IRWXU


def ensure_compile_cache(package: Path, environ: MutableMapping[str, str] | None = None) -> None:
    """Set ``NUMBA_CACHE_DIR`` if the loops below folder ``package`` could be cached nowhere else.

    A variable that the user set, a writable installation and a writable cache folder of the user
    are left alone. Must run before Numba is first imported, for Numba reads the variable then.
    """
    environ = os.environ if environ is None else environ
    if environ.get(VARIABLE) or _is_writable_tree(package) or _can_make(_user_folder(environ)):
        return
    environ[VARIABLE] = str(_temporary_folder())


def _is_writable_tree(package: Path) -> bool:
    """Whether Numba can write beside every module of the package: into ``__pycache__``, or make
    it.
    """
    folders = [package, *(p for p in package.rglob("*") if p.is_dir() and "__" not in p.name)]
    caches = [(folder, folder / "__pycache__") for folder in folders]
    return all(_is_writable(cache if cache.is_dir() else folder) for folder, cache in caches)


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _user_folder(environ: MutableMapping[str, str]) -> Path:
    """The cache folder of this user under Numba's own name for it."""
    home = Path(environ.get("HOME") or os.path.expanduser("~"))  # noqa: PTH111 (may be unknown)
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "numba"
    return Path(environ.get("XDG_CACHE_HOME") or home / ".cache") / "numba"


def _can_make(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return _is_writable(folder)


def _temporary_folder() -> Path:
    """A folder of this user among the temporary files, the same for every process; a new one if
    somebody else holds that name.
    """
    folder = Path(tempfile.gettempdir()) / f"geocal-numba-{os.getuid()}"
    try:
        folder.mkdir(mode=_PRIVATE, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return Path(tempfile.mkdtemp(prefix="geocal-numba-"))
    private = stat.S_IMODE(found.st_mode) == _PRIVATE and found.st_uid == os.getuid()
    if stat.S_ISDIR(found.st_mode) and private:
        return folder
    return Path(tempfile.mkdtemp(prefix="geocal-numba-"))
