"""What every asset module shares: errors as Dagster failures, metadata of a frame, code versions,
plots inline.

Belongs here: helpers without knowledge of any one table. Does not belong here: assets.
"""

import base64
import functools
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg
import polars as pl

from calibration_core.errors import GeocalError
from pipeline.errors import InvariantError, MemoryBudgetError
from pipeline.specs.roots import beside_ours

PROJECT_ROOT = Path(__file__).resolve().parents[2]
PREVIEW_ROWS = 12
_PNG = b"\x89PNG"

Function = TypeVar("Function", bound=Callable[..., Any])

# A file on a network share can be away for a moment; what a file says cannot change by asking
# again, so `permanent` marks every GeocalError as not to be retried.
INGEST_RETRY = dg.RetryPolicy(max_retries=2, delay=2, backoff=dg.Backoff.EXPONENTIAL)


def permanent(function: Function) -> Function:
    """Turn a GeocalError of an asset body into a ``dg.Failure`` that is never retried, its four
    answers as metadata; and a MemoryError, which asking again does not mend. Metadata of a result
    is told once (``_told_once``).
    """

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            made = function(*args, **kwargs)
            return _told_once(args[0] if args else None, made)
        except MemoryError as error:
            raise dg.Failure(str(_no_memory(error)), allow_retries=False) from error
        except GeocalError as error:
            answers = {
                "found": error.found,
                "where": error.where,
                "expected": error.expected,
                "remedy": error.remedy,
                "error": type(error).__name__,
            }
            raise dg.Failure(
                str(error), metadata={k: v for k, v in answers.items() if v}, allow_retries=False
            ) from error

    return wrapped  # type: ignore[return-value]


def _told_once(context: Any, made: Any) -> Any:
    """What a body made, its metadata told to the materialization alone: with the step's output
    Dagster would store all of it again, and pictures are most of a run's record.
    """
    told = isinstance(context, dg.AssetExecutionContext) and isinstance(made, dg.MaterializeResult)
    if not told or not made.metadata:
        return made
    context.add_asset_metadata(made.metadata, asset_key=made.asset_key)
    return made._replace(metadata=None)


def _no_memory(error: MemoryError) -> MemoryBudgetError:
    return MemoryBudgetError(
        f"The system gave this process no more memory ({error or 'no size is said'})",
        where="this step",
        expected="as much as docs/large_states.md says of a state of this size",
        remedy=(
            "Run fewer states at a time, or set GEOCAL_MEMORY to what there is: a state that needs"
            " more is then refused before the work"
        ),
    )


def permanent_tables(function: Function) -> Function:
    """``permanent`` for a step that makes several tables: the body returns a list of results, and
    those this run asks for are kept, so that ``dg launch --assets record_persons`` may name one
    table alone.
    """
    body = permanent(function)

    @functools.wraps(function)
    def wrapped(
        context: dg.AssetExecutionContext, *args: Any, **kwargs: Any
    ) -> Iterator[dg.MaterializeResult]:
        made = {
            dg.AssetKey.from_coercible(result.asset_key): result
            for result in body(context, *args, **kwargs)
        }
        # An output that is not required may stay away without a word, so every table asked for is
        # looked up by name.
        yield from (_told_once(context, made[key]) for key in sorted(context.selected_asset_keys))

    return wrapped  # type: ignore[return-value]


@functools.cache
def code_version(*places: str) -> str:
    """Twelve hex digits over the Python, YAML and JSON files of ``places``, for a run's record; of
    ``data_specs`` the folders of a team's own count too (``specs/roots.py``). Which assets are
    stale follows from what each uses (``currency/making.py``).

    A place is a file or folder relative to the project, which is the checkout or, where geocal was
    installed, the folder that holds the installed packages. Raises InvariantError for a place that
    is not there or holds no such file, for its changes would go unseen.
    """
    total = hashlib.sha256()
    for place in sorted(places):
        for file in _code_files(place):
            total.update(file.relative_to(PROJECT_ROOT).as_posix().encode())
            total.update(file.read_bytes())
        kind = place.removeprefix("data_specs/")
        for root in beside_ours() if kind != place else ():
            for file in _spec_files(root, kind):
                total.update(file.name.encode() + file.read_bytes())
    return total.hexdigest()[:12]


def _spec_files(root: Path, kind: str) -> list[Path]:
    """Files of one kind (``targets``, ``categories.yaml``) in a folder of specs; ``root`` may be a
    profile's file."""
    if root.is_file():
        return [root] if kind == "profiles" else []
    place = root / kind
    return [place] if place.is_file() else sorted(place.glob("*.yaml"))


def _code_files(place: str) -> list[Path]:
    path = PROJECT_ROOT / place
    if path.is_file():
        return [path]
    found = sorted(p for p in path.rglob("*") if p.suffix in {".py", ".yaml", ".json"})
    if not found:
        raise InvariantError(
            f"There is no code at {place!r}, whose digest an asset's version is made of",
            where=str(path),
            expected="a file, or a folder with Python or YAML files",
            remedy="Name the file's new place where code_version is called; if geocal was "
            "installed, install it again: the installation is not complete",
        )
    return found


def markdown_table(frame: pl.DataFrame, limit: int = PREVIEW_ROWS) -> str:
    """The first ``limit`` rows as a GitHub Markdown table; numbers with six significant digits,
    pipes escaped.
    """

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:,.6g}" if abs(value) < 1e6 else f"{value:,.0f}"
        return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")

    lines = ["| " + " | ".join(frame.columns) + " |", "|" + "---|" * frame.width]
    lines += [
        "| " + " | ".join(cell(v) for v in row) + " |" for row in frame.head(limit).iter_rows()
    ]
    if frame.height > limit:
        lines.append(f"\n{frame.height - limit:,} more rows")
    return "\n".join(lines)


def inline_picture(image: bytes, title: str) -> dg.MetadataValue:
    """A PNG or SVG inside a Markdown metadata value, so that the UI shows it without another
    server.
    """
    kind = "png" if image.startswith(_PNG) else "svg+xml"
    return dg.MetadataValue.md(
        f"![{title}](data:image/{kind};base64,{base64.b64encode(image).decode()})"
    )


def frame_metadata(
    frame: pl.DataFrame, *, notes: Iterable[Any] = (), **more: Any
) -> dict[str, Any]:
    """Metadata of a table beside what the IO manager adds (rows, schema, digest): preview, notes as
    a list, and whatever else is given.
    """
    listed = [str(note) for note in notes]
    metadata: dict[str, Any] = {"preview": dg.MetadataValue.md(markdown_table(frame)), **more}
    if listed:
        metadata["notes"] = dg.MetadataValue.md("\n".join(f"* {note}" for note in listed))
    return metadata


def check_spec(
    name: str,
    asset: str,
    description: str,
    *,
    blocking: bool,
    partitions: dg.PartitionsDefinition | None = None,
) -> dg.AssetCheckSpec:
    """A check of ``asset``; with ``partitions``, those of the asset, each state has its own result,
    so that one state's pass does not hide another's failure.
    """
    with warnings.catch_warnings():
        # Checks with partitions are a preview in Dagster 1.13; a test holds what is used of them.
        warnings.filterwarnings("ignore", message=".*partitions_def", category=dg.PreviewWarning)
        return dg.AssetCheckSpec(
            name, asset=asset, description=description, blocking=blocking, partitions_def=partitions
        )


def check_specs(
    asset: str,
    checks: Mapping[str, str],
    *,
    blocking: bool = True,
    partitions: dg.PartitionsDefinition | None = None,
) -> list[dg.AssetCheckSpec]:
    """Check specs of ``asset`` from name -> description; a blocking one stops what is downstream in
    the same run. ``partitions``: see ``check_spec``.
    """
    return [
        check_spec(name, asset, description, blocking=blocking, partitions=partitions)
        for name, description in checks.items()
    ]
