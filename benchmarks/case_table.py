"""The CSV of a known answer, read column by column with messages that name file, column and row.

Belongs here: the table of a case, its bounds, CaseError. Does not belong here: the JSON beside it
(``case_files.py``), solving.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from calibration_core.errors import GeocalError

_LOW_NAMES, _HIGH_NAMES = ("lower", "low", "lo", "min"), ("upper", "high", "hi", "max")
_EXPANSION = (
    "max_expansion_factor",
    "min_expansion_factor",
    "absolute_upper",
    "absolute_lower",
    "absolute_upper_bound",
    "absolute_lower_bound",
)


class CaseError(GeocalError):
    """A case cannot be read; the message names file, column and what to do."""


def number_of(value, what: str, path: Path) -> float:
    """``value`` as a number that is not NaN; CaseError names ``what`` and the file."""
    try:
        number = float(value)
    except (TypeError, ValueError) as error:
        raise CaseError(f"{what} is {value!r}", where=str(path), expected="a number") from error
    if np.isnan(number):
        raise CaseError(f"{what} is NaN", where=str(path), expected="a number")
    return number


def expansion_factors(bounds) -> bool:
    """Whether bounds are given as PopulationSim gives them, by factors."""
    return isinstance(bounds, dict) and any(name in bounds for name in _EXPANSION)


class CaseTable:
    """The CSV of a case, with messages that name file, column and row."""

    def __init__(self, path: Path, content: dict, geography: str | None) -> None:
        self.path = self._find(path, content)
        text = {geography: pl.String} if geography is not None else {}
        try:
            self.frame = pl.read_csv(
                self.path, infer_schema_length=None, null_values=["NA", ""], schema_overrides=text
            )
        except (OSError, pl.exceptions.PolarsError) as error:
            raise CaseError(
                f"The table cannot be read: {error}",
                where=str(self.path),
                expected="comma-separated columns with a heading",
            ) from error
        if self.frame.height == 0:
            raise CaseError(
                "The table has no rows", where=str(self.path), expected="one row per record"
            )

    @staticmethod
    def _find(path: Path, content: dict) -> Path:
        names = [str(content["csv"])] if content.get("csv") else []
        names += [f"{path.stem}.csv", f"{path.stem}.csv.gz"]
        for name in names:
            if (path.parent / name).is_file():
                return path.parent / name
        raise CaseError(
            f"There is no table {names[0]!r}",
            where=str(path),
            expected=f"one of {', '.join(dict.fromkeys(names))} beside it",
        )

    def column(self, name: str) -> np.ndarray:
        """(records,) float64. Raises CaseError if it is missing, not numeric, or has holes."""
        series = self._series(name)
        numbers = series.cast(pl.Float64, strict=False)
        bad = (numbers.is_null() | numbers.is_nan()).arg_true()
        if bad.len():
            row = int(bad[0])
            raise CaseError(
                f"{bad.len()} of {series.len()} values are not numbers, the first is"
                f" {series[row]!r}",
                where=f"{self.path}, column {name!r}, row {row + 2}",
                expected="a number",
                remedy="Correct or remove the record; nothing is filled in",
            )
        return numbers.to_numpy().astype(np.float64)

    def is_empty(self, name: str) -> bool:
        """Whether a column holds nothing at all, as where the source has no answer."""
        series = self._series(name)
        return series.null_count() == series.len() or (
            series.dtype.is_float() and bool(series.fill_null(float("nan")).is_nan().all())
        )

    def _series(self, name: str) -> pl.Series:
        if name not in self.frame.columns:
            raise CaseError(
                f"There is no column {name!r}",
                where=str(self.path),
                expected=(
                    "one of"
                    f" {', '.join(self.frame.columns[:12])}"
                    f"{' ...' if self.frame.width > 12 else ''}"
                ),
                remedy='Correct the name in "columns" of the JSON, or add the column',
            )
        return self.frame[name]

    def areas(self, geography: str, targets: dict) -> list[tuple[str, np.ndarray, object]]:
        """(label, rows, targets) of every area; an area with records and no targets, or the
        reverse, is an error.
        """
        labels = np.array([_plain(v) for v in self._series(geography).to_list()])
        wanted = {_plain(k): v for k, v in targets.items()}
        alone = sorted(set(labels) ^ set(wanted))
        if alone:
            side = "records and no targets" if alone[0] in set(labels) else "targets and no records"
            raise CaseError(
                f"The area {alone[0]!r} has {side}",
                where=f"{self.path}, column {geography!r}",
                expected="the same areas in both",
            )
        return [(label, np.flatnonzero(labels == label), wanted[label]) for label in wanted]

    def bounds(
        self, bounds, rows: np.ndarray, initial: np.ndarray, total: float | None
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """(low, high), each (rows,) with infinite ends, or (None, None)."""
        if bounds is None:
            return None, None
        if expansion_factors(bounds):
            return self._expansion(bounds, initial, total)
        if isinstance(bounds, dict):
            ends = [
                next((bounds[n] for n in names if n in bounds), None)
                for names in (_LOW_NAMES, _HIGH_NAMES)
            ]
        elif isinstance(bounds, list) and len(bounds) == 2:
            ends = bounds
        else:
            raise CaseError(
                f'"bounds" is {bounds!r}',
                where=str(self.path),
                expected="null, [low, high] or {lower, upper}; an end may be null",
            )
        return self._end(ends[0], -np.inf, rows), self._end(ends[1], np.inf, rows)

    def _end(self, value, none: float, rows: np.ndarray) -> np.ndarray:
        if value is None or (
            isinstance(value, str) and value.strip().lower() in ("", "na", "none", "null")
        ):
            return np.full(rows.size, none)
        if isinstance(value, str) and value in self.frame.columns:
            return (
                self.frame[value]
                .cast(pl.Float64, strict=False)
                .fill_null(none)
                .fill_nan(none)
                .to_numpy()
                .astype(np.float64)[rows]
            )
        if isinstance(value, list):
            if len(value) != self.frame.height:
                raise CaseError(
                    f"A bound lists {len(value)} values for {self.frame.height} records",
                    where=str(self.path),
                    expected="one per record",
                )
            return np.array([none if v is None else float(v) for v in value])[rows]
        return np.full(rows.size, number_of(value, 'An end of "bounds"', self.path))

    def _expansion(
        self, bounds: dict, initial: np.ndarray, total: float | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds on w from expansion factors, relative to the initial weights scaled to the area's
        total; upper ones are whole numbers >= 1.
        """
        if total is None:
            raise CaseError(
                '"bounds" has expansion factors, but no constraint is the total',
                where=str(self.path),
                expected='"importance" or "total_hh_control"',
            )
        scaled = initial * (total / initial.sum())
        least, most = bounds.get("min_expansion_factor"), bounds.get("max_expansion_factor")
        floor = bounds.get("absolute_lower", bounds.get("absolute_lower_bound")) or 0.0
        ceiling = bounds.get("absolute_upper", bounds.get("absolute_upper_bound")) or np.inf
        low = np.maximum(
            scaled * float(least) if least else np.where(floor > 0, initial, 0.0), float(floor)
        )
        high = (
            np.clip(np.round(scaled * float(most)), 1.0, float(ceiling))
            if most
            else np.full(initial.size, float(ceiling))
        )
        return low, high


def _plain(value) -> str:
    """An area's name as a string: "4", 4 and "4.0" are one area."""
    text = str(value).strip()
    return text[:-2] if text.endswith(".0") and text[:-2].lstrip("-").isdigit() else text
