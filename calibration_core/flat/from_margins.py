"""A calibration problem from a table of records and named margins.

    from calibration_core import calibrate, from_margins
    problem = from_margins(people, {"sex": {"F": 510, "M": 490}, "income": 31_000_000}, "weight")
    people["weight"] = calibrate(problem).weights

The table is anything with named columns: a pandas or polars frame, a dictionary of arrays. Every
record must be in a category that has a total, or say so: records of a blank or unknown category are
refused by name, as they would silently lose their weight or keep it, by chance.

Belongs here: reading margins and columns. Nothing here imports a library of data frames. Does not
belong here: matrices given as such (``problem.py``), calibration.
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from calibration_core.common.warnings import few_names
from calibration_core.errors import ProblemError
from calibration_core.flat.api import calibrate
from calibration_core.flat.labels import is_numbering, labels_of, plain
from calibration_core.flat.options import Method
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult

# How far shares may be from adding up to one.
_SHARES = 1e-6
# What joins the columns of a crossed margin, and its categories, in names.
_CROSS = " x "


def from_margins(
    frame: Any,
    margins: Mapping[str | tuple[str, ...], Any],
    weights: str | Any | None = None,
    *,
    total: float | None = None,
    unmatched: str = "refuse",
    **fields: Any,
) -> CalibrationProblem:
    """A problem whose targets are margins of a table.

    Parameters
    ----------
    frame : table of records: whatever gives a column by ``frame[name]``, one value per record.
    margins : what to calibrate to, by column:

        * ``"sex": {"F": 510, "M": 490}``, a mapping or a labelled series: the total weight of the
          records in each category;
        * ``("sex", "age"): {("F", "young"): 120, ...}``: of two or more columns crossed; a
          frame with categories as index and as columns (a cross table) will do for two;
        * ``"income": 31_000_000``, a number: the total of a numeric column.
    weights : initial weights: the name of a column, or one number per record; None for none.
    total : if given, categorical margins are shares that add up to one, and are multiplied by it.
    unmatched : "refuse" raises an error where a record's category has no total; "keep" lets such
        records count in no category of that margin. Where the margin's totals leave them no weight,
        ``calibrate`` and ``diagnose`` then say so.
    fields : other fields of ``CalibrationProblem``: ratio_bounds, weight_bounds, q, cells, ...

    Returns
    -------
    CalibrationProblem : targets are named "sex:F", "sex x age:F x young", "income", in the order of
        ``margins``; records are in the order of the table, with the labels of its index.

    Raises
    ------
    ProblemError : a column is missing or has another length, a category of the table has no total,
        a total is not a number, a numeric column has blanks, shares do not add up to one.
    """
    if not isinstance(margins, Mapping) or len(margins) == 0:
        raise ProblemError(
            f"margins is {type(margins).__name__} of {len(margins)}"
            if hasattr(margins, "__len__")
            else f"margins is a {type(margins).__name__}",
            expected='a mapping with at least one margin, such as {"sex": {"F": 510, "M": 490}}',
        )
    if unmatched not in ("refuse", "keep"):
        raise ProblemError(f"unmatched is {unmatched!r}", expected="'refuse' or 'keep'")
    table = _Table(frame, margins)
    rows: list[sparse.csr_array] = []
    targets: list[float] = []
    names: list[str] = []
    groups: list[str] = []
    for key, wanted in margins.items():
        columns, group = _key(key)
        if len(columns) == 1 and _is_number(wanted):
            rows.append(sparse.csr_array(table.numbers(columns[0])[None, :]))
            targets, names, groups = [*targets, float(wanted)], [*names, group], [*groups, group]
            continue
        totals = _totals(wanted, group, len(columns))
        scale = 1.0 if total is None else _scale(totals, group, total)
        rows.append(table.indicators(columns, group, list(totals), unmatched))
        targets += [value * scale for value in totals.values()]
        names += [f"{group}:{_shown(category)}" for category in totals]
        groups += [group] * len(totals)
    if isinstance(weights, str):
        weights = table.numbers(weights)
    return CalibrationProblem(
        sparse.vstack(rows, format="csr"),
        np.array(targets),
        weights,
        target_names=names,
        groups=groups,
        record_labels=table.labels,
        **fields,
    )


def rake(
    frame: Any,
    margins: Mapping[str | tuple[str, ...], Any],
    weights: str | Any | None = None,
    *,
    method: Method = "raking",
    total: float | None = None,
    unmatched: str = "refuse",
    ratio_bounds: tuple | None = None,
    weight_bounds: tuple | None = None,
    **settings: Any,
) -> CalibrationResult:
    """``calibrate(from_margins(...), method)`` in one call.

    Parameters are those of ``from_margins``, and the settings of the method. ``weights`` of the
    result are in the order of the table; ``labelled_weights`` carry its index.
    """
    problem = from_margins(
        frame,
        margins,
        weights,
        total=total,
        unmatched=unmatched,
        ratio_bounds=ratio_bounds,
        weight_bounds=weight_bounds,
    )
    return calibrate(problem, method, **settings)


class _Table:
    """Columns of a table, by name."""

    def __init__(self, frame: Any, margins: Mapping) -> None:
        self.frame = frame
        first = _key(next(iter(margins)))[0][0]
        self.records = len(self.column(first))
        found = None if isinstance(frame, Mapping) else labels_of(frame)
        self.labels = None if is_numbering(found) else found

    def column(self, name: str) -> Any:
        known = [str(x) for x in getattr(self.frame, "columns", self.frame)]
        if name not in known:
            close = difflib.get_close_matches(str(name), known, 1)
            raise ProblemError(
                f"The table has no column {name!r}",
                expected=f"one of {few_names(known, 8)}",
                remedy=f"Did you mean {close[0]!r}?" if close else "",
            )
        return self.frame[name]

    def values(self, name: str) -> np.ndarray:
        array = plain(self.column(name), f"column {name!r}")
        if array.shape != (self.records,):
            raise ProblemError(
                f"Column {name!r} has shape {array.shape}",
                expected=f"({self.records},), as the first column of the margins has",
            )
        return array

    def categories(self, name: str) -> list:
        """(records,) values as they are: numpy would turn a blank among words into a word."""
        column = self.column(name)
        if isinstance(column, (list, tuple)) and len(column) == self.records:
            return list(column)
        return self.values(name).tolist()

    def numbers(self, name: str) -> np.ndarray:
        """(records,) float64 of a column without blanks."""
        values = self.values(name)
        try:
            array = values.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ProblemError(
                f"Column {name!r} is not numeric: {error}",
                expected="numbers, as its margin is one total",
                remedy=f"For a category give a total for each: {{{name!r}: {{category: total}}}}",
            ) from error
        blank = ~np.isfinite(array)
        if blank.any():
            raise ProblemError(
                f"{int(blank.sum()):,} of {array.size:,} values of column {name!r} are blank or "
                "infinite",
                where=f"first at row {int(np.flatnonzero(blank)[0])}",
                expected="a number for every record",
                remedy="Fill them, or leave those records out; nothing is dropped for you",
            )
        return array

    def indicators(
        self, columns: Sequence[str], group: str, categories: list, unmatched: str
    ) -> sparse.csr_array:
        """(categories, records) rows of zeros and ones."""
        lists = [self.categories(name) for name in columns]
        values = lists[0] if len(columns) == 1 else list(zip(*lists, strict=True))
        place = {category: code for code, category in enumerate(categories)}
        code = np.array([place.get(value, -1) if _hashable(value) else -1 for value in values])
        if unmatched == "refuse" and (code < 0).any():
            outside = [values[i] for i in np.flatnonzero(code < 0)]
            seen = set(code.tolist())
            unused = [c for c, k in place.items() if k not in seen]
            raise _no_total(group, outside, unused)
        counted = np.flatnonzero(code >= 0)
        shape = (len(categories), self.records)
        return sparse.csr_array((np.ones(counted.size), (code[counted], counted)), shape=shape)


def _no_total(group: str, outside: list, unused: list) -> ProblemError:
    """The error for records whose category has no total."""
    times = Counter("blank" if _blank(x) else repr(_shown_value(x)) for x in outside)
    listed = ", ".join(f"{name} ({n:,})" for name, n in times.most_common(5))
    listed += f" and {len(times) - 5:,} more" if len(times) > 5 else ""
    remedy = (
        "Give them a total, recode them, leave those records out, or pass unmatched='keep' to let "
        "them count in no category"
    )
    texts = {str(x) for x in outside}
    if any(str(x) in texts for x in unused):
        kinds = type(outside[0]).__name__, type(unused[0]).__name__
        remedy = f"The table holds them as {kinds[0]}, the margin as {kinds[1]}: use one type"
    found = f"{len(outside):,} records have a {group!r} without a total: {listed}"
    if unused:
        found += f"; no record has {few_names([repr(_shown_value(x)) for x in unused])}"
    return ProblemError(
        found, where=f"margin {group!r}", expected="a total for every category", remedy=remedy
    )


def _key(key: str | tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """The columns of a margin and its name."""
    columns = tuple(key) if isinstance(key, (tuple, list)) else (key,)
    return columns, _CROSS.join(map(str, columns))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _totals(wanted: Any, group: str, depth: int) -> dict[Hashable, float]:
    """Category -> total, in the order given."""
    pairs = list(_pairs(wanted, group))
    if not pairs:
        raise ProblemError(f"Margin {group!r} has no category", expected="at least one total")
    out: dict[Hashable, float] = {}
    for category, value in pairs:
        category = _plain_category(category)
        if depth > 1 and not (isinstance(category, tuple) and len(category) == depth):
            raise ProblemError(
                f"Margin {group!r} has the category {category!r}",
                expected=f"a tuple of {depth}, one category per column",
            )
        if category in out:
            raise ProblemError(f"Margin {group!r} has {category!r} twice", expected="it once")
        if not _is_number(value) or not math.isfinite(value):
            raise ProblemError(
                f"The total of {_shown(category)!r} in margin {group!r} is {value!r}",
                expected="a finite number",
            )
        out[category] = float(value)
    return out


def _pairs(wanted: Any, group: str) -> Iterable[tuple[Any, Any]]:
    if isinstance(wanted, Mapping):
        return wanted.items()
    index, columns = labels_of(wanted), labels_of(wanted, "columns")
    if index is not None and columns is not None:
        values = plain(wanted, f"margin {group!r}").tolist()
        return [
            ((row, column), value)
            for row, line in zip(index, values, strict=True)
            for column, value in zip(columns, line, strict=True)
        ]
    if index is not None:
        return zip(index, plain(wanted, f"margin {group!r}").tolist(), strict=True)
    raise ProblemError(
        f"Margin {group!r} is a {type(wanted).__name__}",
        expected="a mapping of categories to totals, a labelled series, or one number",
        remedy=f"For example {{{group!r}: {{'a': 100, 'b': 200}}}}",
    )


def _scale(totals: Mapping[Hashable, float], group: str, total: float) -> float:
    if not _is_number(total) or not (math.isfinite(total) and total > 0):
        raise ProblemError(f"total is {total!r}", expected="a finite number above zero")
    found = sum(totals.values())
    if abs(found - 1.0) > _SHARES:
        raise ProblemError(
            f"The shares of margin {group!r} add up to {found:.7g}",
            expected="one, as total is given and margins are shares",
            remedy="Give shares, or leave total out and give totals",
        )
    return float(total)


def _plain_category(category: Any) -> Hashable:
    """A category as Python's own object, so that 1 of numpy and 1 are the same key."""
    if isinstance(category, tuple):
        return tuple(_plain_category(x) for x in category)
    return category.item() if isinstance(category, np.generic) else category


def _hashable(value: Any) -> bool:
    return isinstance(value, Hashable)


def _blank(value: Any) -> bool:
    parts = value if isinstance(value, tuple) else (value,)
    return any(
        x is None
        or type(x).__name__ in ("NAType", "NaTType")
        or x == ""
        or (isinstance(x, float) and math.isnan(x))
        for x in parts
    )


def _shown_value(category: Any) -> Any:
    return _shown(category) if isinstance(category, tuple) else category


def _shown(category: Any) -> str:
    return _CROSS.join(map(str, category)) if isinstance(category, tuple) else str(category)
