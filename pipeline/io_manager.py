"""Tables on disk: one Parquet file for each asset, or for each asset and state, replaced
atomically.

Belongs here: paths, the write-then-rename, digests, and the facts every file carries about its own
making. Does not belong here: what a table means, or whether its values are right (hard rules are
checked by the asset before it returns; thresholds are asset checks).

A table that is kept by state has no column ``state``: the name of its folder, ``state=RI``, holds
it, and a reader of the whole folder adds the column. In the file as well it would be of another
type than pyarrow gives the folder's name, which is one type in ``pyarrow.dataset`` and another in
``pandas.read_parquet``, so that no file could suit both.

A file's key-value metadata has one entry ``geocal``: JSON with the profile, ``synthetic``, the
digests of the raw files (``provenance``), of the content of every table it was made from
(``inputs``), of the specs, the code version and the seed; and ``making``, by which the next run
knows whether it would be made in the same way (``pipeline/currency``). It holds no time and no
folder of this machine, so that the same inputs give the same bytes.

A step whose inputs are of two makings is refused (``stored.OneMaking``).
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import io
import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
from upath import UPath

from pipeline.errors import StoreError
from pipeline.processor import processor_line
from pipeline.settings import RunEnvironment, peak_memory_mb
from pipeline.stored import (
    DAMAGED,
    METADATA_KEY,
    OneMaking,
    content_digest,
    stored_of,
    table_name,
    tables_of,
)
from pipeline.stored import file_digest as file_digest

Making = Callable[[str, str | None, Mapping[str, Any]], Mapping[str, Any]]
"""What a table is made with, by asset, state and the step's configuration."""

PARTITION_COLUMN = "state"
SYNTHETIC_LABEL = "SYNTHETIC"
# A process that was once this large looks for what it can free before each step (0.2 s).
_LARGE_MB = 2000


@dataclass(frozen=True)
class Table:
    """A frame on its way to disk with facts of its own (``provenance`` of raw files, ``notes``);
    downstream gets the frame.
    """

    frame: pl.DataFrame
    facts: Mapping[str, Any] = field(default_factory=dict)


def encode(frame: pl.DataFrame, facts: Mapping[str, Any]) -> bytes:
    """``frame`` as Parquet (zstd) with ``facts`` as its ``geocal`` entry; the same arguments give
    the same bytes.
    """
    buffer = io.BytesIO()
    # In one piece: polars cuts row groups where the pieces end that its threads made.
    frame.rechunk().write_parquet(
        buffer,
        compression="zstd",
        metadata={METADATA_KEY: json.dumps(facts, sort_keys=True, default=str)},
    )
    return buffer.getvalue()


def write_atomic(path: Path | UPath, data: bytes) -> None:
    """Put ``data`` at ``path`` whole or not at all: a temporary name beside it, then a rename over
    what stood there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as handle:
            handle.write(data)
            handle.flush()
            if hasattr(handle, "fileno"):
                os.fsync(handle.fileno())
        if isinstance(temporary, Path):
            temporary.replace(str(path))
        else:
            temporary.rename(path)
    finally:
        if temporary.exists():
            temporary.unlink()


def read_facts(path: Path | UPath) -> dict[str, Any]:
    """The ``geocal`` facts of a stored table. Raises StoreError if the file is missing or not one
    of ours.
    """
    _require(path, asset=path.stem, partition=None)
    try:
        stored = pl.read_parquet_metadata(io.BytesIO(path.read_bytes())).get(METADATA_KEY)
    except DAMAGED as error:
        raise _unreadable(path, error) from error
    if stored is None:
        raise StoreError(
            "A stored table carries no geocal facts",
            where=str(path),
            expected="a file written by geocal",
            remedy="Materialise its asset again",
        )
    return json.loads(stored)


def decode(path: Path | UPath, data: bytes) -> pl.DataFrame:
    """The frame in ``data``, which was read from ``path``. Raises StoreError if it is no complete
    Parquet file.
    """
    try:
        return pl.read_parquet(io.BytesIO(data))
    except DAMAGED as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path | UPath, error: BaseException) -> StoreError:
    return StoreError(
        f"A stored table cannot be read ({error})",
        where=str(path),
        expected="a complete Parquet file written by geocal",
        remedy="Delete the file and materialise its asset again",
    )


def _require(path: Path | UPath, *, asset: str, partition: str | None) -> None:
    if path.exists():
        return
    state = f" for state {partition}" if partition else ""
    launch = f"`dg launch --assets {asset}" + (f" --partition {partition}`" if partition else "`")
    raise StoreError(
        f"The table {asset}{state} has not been made",
        where=str(path),
        expected="a table of an earlier run of this profile",
        remedy=(
            f"Run `geocal run --profile P{f' --states {partition}' if partition else ''}`, or"
            f" {launch}, or materialise {asset} in the UI"
        ),
    )


def _release(context: dg.OutputContext) -> None:
    """Let go of what Dagster holds of a run in one process: every table, to the end of the run, for
    a caller that would ask for it. Stored tables are read from disk; California's are 5 GB.
    """
    try:
        captured = context.step_context.output_capture
    except dg.DagsterInvariantViolationError:
        return
    if captured:
        captured.clear()


def _collect() -> None:
    """Free what earlier steps of this process left in circles of references, which Python looks for
    too seldom where a state's tables are gigabytes; and hand it back to the system.
    """
    if peak_memory_mb() < _LARGE_MB:
        return
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


class ParquetIOManager(dg.UPathIOManager):
    """Stores polars frames of one profile; see the module's docstring for layout and facts.

    A downstream asset without partitions gets a dict of the partitions that exist in its upstream,
    ``{"RI": frame, ...}``, if the input's metadata says ``allow_missing_partitions``; otherwise
    every state must exist.
    """

    extension = ".parquet"

    def __init__(
        self,
        environment: RunEnvironment,
        facts: Mapping[str, Any] | None = None,
        making: Making | None = None,
        words: Callable[[str, str], str | None] = lambda asset, column: None,
    ) -> None:
        """``words``: what is said of a column of an asset's table, for the UI."""
        super().__init__(base_path=UPath(environment.root))
        self.root = environment.root
        self._facts, self._words = dict(facts or {}), words
        self._making = making
        self._inputs: dict[tuple[str, str], dict[str, str]] = {}
        self._begun: tuple[str, str] | None = None
        self._tables = tables_of(self._base_path)
        self._met: dict[tuple[str, str], OneMaking] = {}

    def get_path_for_partition(
        self, context: dg.InputContext | dg.OutputContext, path: UPath, partition: str
    ) -> UPath:
        """``<asset>/state=RI/<asset>``: the hive layout that polars, DuckDB and arrow read as a
        column ``state``.
        """
        return path / f"state={partition}" / path.name

    def _get_path(self, context: dg.InputContext | dg.OutputContext) -> UPath:
        path = self._get_path_without_extension(context)
        return self._with_extension(path / path.name)

    def load_partitions(self, context: dg.InputContext) -> pl.DataFrame | dict[str, pl.DataFrame]:
        """One frame for a partitioned downstream; a dict by state, always, for an unpartitioned
        one.
        """
        if context.has_partition_key:
            return super().load_partitions(context)
        paths = self._get_paths_for_partitions(context)
        if self._tolerant(context):
            paths = {key: path for key, path in paths.items() if not self._why_left_out(path)}
        frames = {key: self._of_state(context, key, path) for key, path in paths.items()}
        return {key: frame for key, frame in frames.items() if frame is not None}

    def _of_state(self, context: dg.InputContext, key: str, path: UPath) -> pl.DataFrame | None:
        """One state's table; None where it may be left out, and is not there or cannot be read."""
        try:
            return self._load_partition_from_path(context, key, path)
        except StoreError as error:
            if not self._tolerant(context):
                raise
            context.log.warning(f"{key} is left out: {error}")
            return None

    def _why_left_out(self, path: UPath) -> str:
        """Why a state's table is no part of the nation's: it is not there, cannot be read, or what
        it was made from is not what lies there now."""
        partition = path.parent.name.removeprefix("state=")
        return self._tables.broken_link(table_name(path.stem, partition))

    @staticmethod
    def _tolerant(context: dg.InputContext) -> bool:
        return bool((context.definition_metadata or {}).get("allow_missing_partitions", False))

    def load_from_path(self, context: dg.InputContext, path: UPath) -> pl.DataFrame:
        if self._tolerant(context) and not path.exists():
            raise FileNotFoundError(str(path))
        asset = "/".join(context.asset_key.path)
        partition = (
            path.parent.name.removeprefix("state=") if context.has_asset_partitions else None
        )
        _require(path, asset=asset, partition=partition)
        if self._step(context) != self._begun:
            self._begun = self._step(context)
            _collect()
        data = path.read_bytes()
        frame = decode(path, data)
        name, stored, step = table_name(asset, partition), stored_of(data), self._step(context)
        self._met.setdefault(step, OneMaking(self._tables)).add(name, stored)
        self._inputs.setdefault(step, {})[name] = stored.content
        return frame

    def dump_to_path(
        self, context: dg.OutputContext, obj: pl.DataFrame | Table, path: UPath
    ) -> None:
        table = obj if isinstance(obj, Table) else Table(obj)
        if not isinstance(table.frame, pl.DataFrame):
            raise StoreError(
                f"The asset returned {type(table.frame).__name__}, not a table",
                where="/".join(context.asset_key.path),
                expected="a polars DataFrame",
                remedy="Return MaterializeResult(value=frame, ...) from the asset",
            )
        if context.has_asset_partitions and PARTITION_COLUMN in table.frame.columns:
            raise StoreError(
                f"The table has a column {PARTITION_COLUMN!r}, which its folder's name holds",
                where="/".join(context.asset_key.path),
                expected="a table by state without that column",
                remedy="Leave the column out: readers of the folder add it",
            )
        asset = "/".join(context.asset_key.path)
        partition = context.partition_key if context.has_asset_partitions else None
        making = self._making(asset, partition, self._config(context)) if self._making else {}
        facts = {
            **self._facts,
            **table.facts,
            "asset": asset,
            "partition": partition,
            "inputs": dict(sorted(self._inputs.get(self._step(context), {}).items())),
            **({"making": making} if making else {}),
        }
        data = encode(table.frame, facts)
        content = content_digest(data)
        try:
            write_atomic(path, data)
        except OSError as error:
            raise StoreError(
                f"A table cannot be written ({error.strerror or error})",
                where=str(path),
                expected=f"room for {len(data):,} bytes, and a folder that may be written",
                remedy=(
                    "Free room or change the permission, and run again: tables that were stored"
                    " before are whole, and the next run makes the others"
                ),
            ) from error
        self._version(context, content)
        context.add_output_metadata(
            {
                "sha256": file_digest(data),
                "content_sha256": content,
                "bytes": len(data),
                "peak_memory_mb": peak_memory_mb(),
                "processor": processor_line(),
                "dagster/row_count": table.frame.height,
                "dagster/column_schema": dg.TableSchema(
                    columns=[
                        dg.TableColumn(name, str(dtype), self._words(asset, name))
                        for name, dtype in table.frame.schema.items()
                    ]
                ),
                **({"label": SYNTHETIC_LABEL} if self._facts.get("synthetic") else {}),
            }
        )

        _release(context)

    @staticmethod
    def _step(context: dg.InputContext | dg.OutputContext) -> tuple[str, str]:
        """The step a context belongs to; contexts built by hand (in tests) belong to none and share
        one entry.
        """
        try:
            step = context.step_context
        except dg.DagsterInvariantViolationError:
            return ("", "")
        return (step.run_id, step.step.key)

    @staticmethod
    def _config(context: dg.OutputContext) -> Mapping[str, Any]:
        """What the step was asked for beside its inputs; nothing where that is left to the
        profile."""
        try:
            stated = context.step_context.op_config
        except dg.DagsterInvariantViolationError:
            return {}
        given = stated if isinstance(stated, Mapping) else {}
        return {key: value for key, value in sorted(given.items()) if value is not None}

    @staticmethod
    def _version(context: dg.OutputContext, content: str) -> None:
        """Tell Dagster the table's data version: what it holds, so that the same again is no
        change."""
        try:
            step = context.step_context
        except dg.DagsterInvariantViolationError:
            return
        step.set_data_version(context.asset_key, dg.DataVersion(content))
