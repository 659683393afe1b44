"""What the shell completes: profiles and states, without checking the specs.

Belongs here: names for the Tab key, within a fraction of a second. Does not belong here: whether a
profile is sound (``cli/asked.py`` says so when the command runs).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def profile_names(ctx: Any, args: list[str], incomplete: str) -> Iterator[tuple[str, str]]:
    """Profiles that begin with ``incomplete``, with their titles."""
    del ctx, args
    for path in _paths():
        if path.stem.startswith(incomplete):
            yield path.stem, str(_content(path).get("title", ""))


def source_names(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """Sources that begin with ``incomplete``."""
    from pipeline.specs.base import SPEC_ROOT

    del ctx, args
    names = sorted(path.stem for path in (SPEC_ROOT / "sources").glob("*.yaml"))
    return [name for name in names if name.startswith(incomplete)]


def state_codes(ctx: Any, args: list[str], incomplete: str) -> list[str]:
    """States of the profile that the command line names; after a comma, the next one."""
    from pipeline.settings import run_environment

    del args
    profile = run_environment(ctx.params.get("profile")).profile
    there = [code for path in _paths() if path.stem == profile for code in _states(path)]
    before, comma, last = incomplete.rpartition(",")
    taken = {code.strip().upper() for code in before.split(",")}
    wanted = [c for c in there if c.startswith(last.strip().upper()) and c not in taken]
    return [f"{before}{comma}{code}" for code in wanted]


def _states(path: Any) -> list[str]:
    listed = _content(path).get("states")
    return [str(code) for code in listed] if isinstance(listed, list) else []


def _paths() -> list[Any]:
    from pipeline.errors import SpecError
    from pipeline.specs.roots import spec_roots

    try:
        return sorted(spec_roots().files("profiles").values())
    except SpecError:
        return []


def _content(path: Any) -> dict[str, Any]:
    """The YAML as it stands; nothing where it cannot be read, since nobody reads an error here."""
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return found if isinstance(found, dict) else {}
