"""The wheel on its own: complete, usable from any folder, from a read-only installation."""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from pipeline.assets.common import PROJECT_ROOT, code_version
from pipeline.errors import InvariantError
from pipeline.specs.base import spec_digest

_PARTS = ("pipeline", "calibration_core", "data_specs")
_BESIDE = ("pyproject.toml", "README.md", "LICENSE")
# Root may write anything, whatever the modes say, unless the process gives this up
# (capabilities(7)).
_CAP_DAC_OVERRIDE, _PR_CAPBSET_DROP = 1, 24


@dataclass(frozen=True)
class Installation:
    """An installed wheel. ``folder``: its packages, read-only. ``elsewhere``: a folder that is no
    checkout. ``home``: a home that cannot be written."""

    wheel: Path
    folder: Path
    elsewhere: Path
    home: Path

    def run(self, *command: str, timeout: int = 120) -> subprocess.CompletedProcess[str]:
        """Run Python with ``command`` as an account that can write ``elsewhere`` only."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("XDG_", "NUMBA_"))}
        environ = {
            **kept,
            "PYTHONPATH": str(self.folder),
            "HOME": str(self.home),
            "TMPDIR": str(self.elsewhere / "tmp"),
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.elsewhere,
            env=environ,
            capture_output=True,
            text=True,
            timeout=timeout,
            preexec_fn=_powerless(),
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return done

    def geocal(self, *arguments: str, timeout: int = 120) -> str:
        program = str(self.folder / "bin" / "geocal")
        return self.run(program, *arguments, timeout=timeout).stdout


def _powerless() -> Callable[[], None] | None:
    """What a child process does to be bound by file modes; None where it is bound anyway."""
    if os.geteuid() != 0:
        return None
    libc = ctypes.CDLL(None, use_errno=True)

    def drop() -> None:
        if libc.prctl(_PR_CAPBSET_DROP, _CAP_DAC_OVERRIDE, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "the capability cannot be given up")

    return drop


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", "-q"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def _close(folder: Path) -> None:
    for path in [folder, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode & 0o555)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Installation:
    """A wheel built from a copy of this checkout, without a network, and installed in a folder."""
    try:
        metadata.version("pip")
        builder = int(metadata.version("setuptools").split(".")[0])
    except metadata.PackageNotFoundError:
        pytest.skip("no wheel can be built here: pip or setuptools is not installed")
    if builder < 77:
        pytest.skip(f"no wheel can be built here: setuptools {builder} is older than 77")
    if sys.platform != "linux" and os.geteuid() == 0:
        pytest.skip("root writes everywhere on this system")
    root = tmp_path_factory.mktemp("packaging")
    source = root / "source"
    for part in _PARTS:
        shutil.copytree(
            PROJECT_ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    for name in _BESIDE:
        shutil.copy(PROJECT_ROOT / name, source)
    _pip("wheel", str(source), "--no-build-isolation", "-w", str(root))
    (wheel,) = root.glob("*.whl")
    folder, home, elsewhere = root / "installed", root / "home", root / "elsewhere"
    _pip("install", str(wheel), "--no-compile", "--target", str(folder))
    home.mkdir()
    (elsewhere / "tmp").mkdir(parents=True)
    _close(folder)
    _close(home)
    yield Installation(wheel, folder, elsewhere, home)
    for path in [folder, home, *folder.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_the_wheel_holds_every_module_specification_and_type_mark(installed):
    with zipfile.ZipFile(installed.wheel) as wheel:
        held = set(wheel.namelist())
    wanted = {
        path.relative_to(PROJECT_ROOT).as_posix()
        for part in _PARTS
        for path in (PROJECT_ROOT / part).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"pipeline/py.typed", "calibration_core/py.typed", "data_specs/sample.yaml"} <= wanted
    assert wanted <= held
    assert {name.split("/")[0] for name in held - wanted} == {
        next(name.split("/")[0] for name in held if ".dist-info" in name)
    }


def test_every_profile_loads_from_the_wheel_with_the_same_digests(installed):
    script = """
import json, pipeline
from pathlib import Path
from pipeline.definitions import build_definitions, run_facts
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import load_catalog
catalog = load_catalog()
for name, profile in catalog.profiles.items():
    build_definitions(profile, RunEnvironment(name, Path("raw"), Path("output")))
facts = run_facts(catalog.profile("sample"))
print(json.dumps({"from": pipeline.__file__, "profiles": sorted(catalog.profiles), **facts}))
"""
    found = json.loads(installed.run("-c", script).stdout)
    assert Path(found["from"]).is_relative_to(installed.folder)
    assert "sample" in found["profiles"]
    assert found["specs_sha256"] == spec_digest()
    assert found["code_sha256"] == code_version("calibration_core", "pipeline")


def test_compiled_loops_are_kept_where_the_account_may_write(installed):
    script = """
import importlib, json, pkgutil
import calibration_core
from numba import config
from numba.core.dispatcher import Dispatcher
places = set()
for found in pkgutil.walk_packages(calibration_core.__path__, "calibration_core."):
    held = vars(importlib.import_module(found.name)).values()
    loops = [loop for loop in held if isinstance(loop, Dispatcher)]
    # Parts have no way in from Python: they go into the loops that call them.
    called = [loop for loop in loops if not loop.targetoptions.get("no_cpython_wrapper")]
    places |= {loop.stats.cache_path for loop in called}
print(json.dumps({"kept": config.CACHE_DIR, "loops": sorted(places)}))
"""
    found = json.loads(installed.run("-c", script).stdout)
    assert Path(found["kept"]).parent == installed.elsewhere / "tmp"
    assert found["loops"]
    assert all(Path(place).is_relative_to(found["kept"]) for place in found["loops"])


@pytest.mark.timeout(1200)
def test_the_sample_runs_from_the_wheel_in_a_folder_that_is_no_checkout(installed):
    """``profiles``, ``run`` and ``show``, end to end, and nothing is written into the packages."""
    before = sorted(installed.folder.rglob("*"))
    assert "rhode_island" in installed.geocal("profiles")
    script = """
import sys
from pipeline.cli import main
sys.argv = ["geocal", "run", "--states", "DE"]
try:
    main()
finally:
    print("loaded:", *({"pandas", "pyarrow", "duckdb"} & set(sys.modules)))
"""
    # Readers of the outputs are extras: geocal itself works, and is tried here, without them.
    assert installed.run("-c", script, timeout=1100).stdout.splitlines()[-1] == "loaded:"
    shown = json.loads(installed.geocal("show", "DE", "--json"))
    assert shown["state"] == "DE"
    assert (installed.elsewhere / "output" / "sample" / "weights" / "state=DE").is_dir()
    assert sorted(installed.folder.rglob("*")) == before
    assert not list(installed.home.iterdir())


def test_the_version_of_code_that_is_gone_is_an_error():
    for place in ("pipeline/no_such_module.py", "pipeline/no_such_folder", "docs/images"):
        with pytest.raises(InvariantError, match=f"no code at '{place}'"):
            code_version("pipeline", place)
    assert code_version("pipeline/jobs.py", "pipeline") == code_version(
        "pipeline", "pipeline/jobs.py"
    )
