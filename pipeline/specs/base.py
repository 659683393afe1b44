"""Loading YAML into frozen models, with errors that name the file and the key.

Belongs here: the folder of the specs, the strict base model, the loader. Does not belong here:
what any one kind of spec contains (a module each beside this one).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import SpecError

# The C parser of the same safe loader, where libyaml is there: ten times faster on a few thousand
# lines.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

SPEC_ROOT = Path(__file__).resolve().parents[2] / "data_specs"


class SpecModel(BaseModel):
    """Base of all specs: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Model = TypeVar("Model", bound=SpecModel)


def load_yaml(
    path: Path, model: type[Model], complete: Callable[[Any], Any] = lambda content: content
) -> Model:
    """Read ``path`` as one ``model``, after ``complete`` added what the file leaves to another.

    Raises SpecError naming the file and every faulty key.
    """
    content = complete(read_yaml(path, model.__name__))
    try:
        return model.model_validate(content, context={"path": path})
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, e['loc'])) or 'top level'}: {e['msg']}" for e in error.errors()
        )
        raise SpecError(
            f"The specification is not valid: {faults}",
            where=str(path),
            expected=f"the keys of {model.__name__}",
            remedy="Mend the keys named",
        ) from error


def load_once(path: Path, model: type[Model]) -> Model:
    """As ``load_yaml``, made once of one content: a run asks hundreds of times for a few files."""
    try:
        held = path.read_bytes()
    except OSError:
        # The loader says what is wrong with the file.
        return load_yaml(path, model)
    found = _loaded.get((path, held))
    if not isinstance(found, model):
        found = load_yaml(path, model)
        # Not if somebody wrote the file between the two readings.
        if path.read_bytes() == held:
            _loaded[path, held] = found
    return found


_loaded: dict[tuple[Path, bytes], SpecModel] = {}


def read_yaml(path: Path, what: str) -> Any:
    """The content of ``path`` as it stands. Raises SpecError that names it, and ``what`` it is."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_LOADER)
    except FileNotFoundError as error:
        raise SpecError(
            "A specification is missing",
            where=str(path),
            expected=f"a YAML file for {what}",
            remedy="Check the id, or add the file",
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpecError(
            f"The YAML cannot be parsed: {error}",
            where=str(path),
            expected="valid YAML",
            remedy="Mend the line named",
        ) from error
    # A date such as 2022-13-45 passes the parser and fails in the constructor.
    except (OSError, ValueError) as error:
        raise SpecError(
            f"The specification cannot be read: {error}",
            where=str(path),
            expected=f"a YAML file for {what}",
            remedy="Make it a readable file with valid values",
        ) from error


def spec_digest(root: Path = SPEC_ROOT, *more: Path) -> str:
    """SHA-256 over the names and contents of every spec file, in sorted order; ``more``: folders or
    files beside the ``root``, in their order.
    """
    total = hashlib.sha256()
    for each in (root, *more):
        for path in sorted(each.rglob("*.yaml")) if each.is_dir() else [each]:
            total.update(str(path.relative_to(each if each.is_dir() else each.parent)).encode())
            total.update(path.read_bytes())
    return total.hexdigest()


AND_MORE = "..."
"""As first item of a list: what the other file lists comes before."""


def over(below: Any, above: Any) -> Any:
    """Contents of YAML: ``above`` where it says something, ``below`` elsewhere, key by key. A list
    stands in place of the other, unless its first item is ``AND_MORE``.
    """
    if isinstance(below, list) and isinstance(above, list) and above[:1] == [AND_MORE]:
        return below + above[1:]
    if not (isinstance(below, Mapping) and isinstance(above, Mapping)):
        return above
    merged = {
        key: over(value, above[key]) if key in above else value for key, value in below.items()
    }
    return {**merged, **{key: value for key, value in above.items() if key not in below}}
