"""A process always finds a folder for compiled loops, and takes the temporary one last."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from calibration_core.common.compile_cache import VARIABLE, ensure_compile_cache


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Folder of a package with one subpackage."""
    (tmp_path / "package" / "tree").mkdir(parents=True)
    return tmp_path / "package"


@pytest.fixture
def closed(monkeypatch) -> set[Path]:
    """Folders that no process may write, as ``os.access`` tells and as making folders shows."""
    closed: set[Path] = set()
    is_open, make = os.access, Path.mkdir

    def inside(path: Path) -> bool:
        return any(each == path or each in path.parents for each in closed)

    def access(path, mode):
        return not (mode & os.W_OK and inside(Path(path))) and is_open(path, mode)

    def mkdir(self, *args, **kwargs):
        if inside(self) and not self.exists():
            raise PermissionError(13, "Permission denied", str(self))
        make(self, *args, **kwargs)

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(Path, "mkdir", mkdir)
    return closed


@pytest.fixture
def temporary(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_writable_installation_is_left_alone(package, tmp_path, temporary):
    environ = {"HOME": str(tmp_path / "nowhere")}
    ensure_compile_cache(package, environ)
    assert VARIABLE not in environ
    assert not (tmp_path / "nowhere").exists()


def test_the_users_own_choice_is_left_alone(package, closed, temporary):
    closed.add(package)
    environ = {VARIABLE: "/somewhere", "HOME": "/nonexistent"}
    ensure_compile_cache(package, environ)
    assert environ[VARIABLE] == "/somewhere"


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME"])
def test_the_users_cache_folder_comes_before_a_temporary_one(
    package, closed, temporary, tmp_path, name
):
    closed.add(package)
    environ = {"HOME": "/nonexistent", name: str(tmp_path / "mine")}
    ensure_compile_cache(package, environ)
    assert VARIABLE not in environ


@pytest.mark.parametrize("shut", ["package", "package/tree", "package/tree/__pycache__"])
def test_without_a_home_every_process_of_the_user_takes_one_private_folder(
    package, closed, temporary, tmp_path, shut
):
    (tmp_path / shut).mkdir(exist_ok=True)
    closed |= {tmp_path / shut, tmp_path / "home"}
    found = []
    for _ in range(2):
        environ = {"HOME": str(tmp_path / "home")}
        ensure_compile_cache(package, environ)
        found.append(Path(environ[VARIABLE]))
    assert found[0] == found[1]
    assert found[0].parent == temporary
    assert stat.S_IMODE(found[0].stat().st_mode) == stat.S_IRWXU


@pytest.mark.parametrize("squatter", ["open to all", "a link", "a file"])
def test_a_folder_that_others_could_write_is_not_trusted(
    package, closed, temporary, tmp_path, squatter
):
    closed |= {package, tmp_path / "home"}
    taken = temporary / f"geocal-numba-{os.getuid()}"
    if squatter == "open to all":
        taken.mkdir()
        taken.chmod(0o777)
    elif squatter == "a link":
        (tmp_path / "elsewhere").mkdir(mode=0o700)
        taken.symlink_to(tmp_path / "elsewhere")
    else:
        taken.write_text("")
    environ = {"HOME": str(tmp_path / "home")}
    ensure_compile_cache(package, environ)
    found = Path(environ[VARIABLE])
    assert found != taken
    assert stat.S_IMODE(found.stat().st_mode) == stat.S_IRWXU
