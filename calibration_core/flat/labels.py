"""Labelled input: data frames and series are put in one order by their labels, or refused.

A value has labels if it has an ``index`` as pandas objects do (a frame's ``columns`` are labels
too), or if it is a mapping. Two labelled values with the same labels are aligned, whatever order
each is in. If their labels differ they are refused, unless one is merely numbered 0, 1, 2, ...;
then, as for plain arrays, position decides. Masked arrays are refused where something is masked.

Belongs here: reading labels and aligning by them. Nothing here imports a library of data frames.
Does not belong here: what the values must be (``problem.py``), categories (``margins.py``).
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from calibration_core.errors import ProblemError


def name_of(label) -> str:
    """A label as a name: parts of a compound label are joined, ("sex", "F") to "sex:F"."""
    return ":".join(map(str, label)) if isinstance(label, tuple) else str(label)


def labels_of(value, axis: str = "index") -> tuple | None:
    """The labels of ``value`` along "index" or "columns"; None if it has none.

    A mapping's index are its keys. Lists and tuples have a method of that name and no labels.
    """
    if isinstance(value, Mapping):
        return tuple(value) if axis == "index" else None
    found = getattr(value, axis, None)
    if found is None or callable(found) or getattr(value, "index", None) is None:
        return None
    # A frame without ``index`` (polars) has named columns and no labels.
    if callable(getattr(value, "index", None)):
        return None
    return tuple(found)


def is_numbering(labels: Sequence | None) -> bool:
    """Whether there are no labels, or they are 0, 1, 2, ... in order: then position decides."""
    return labels is None or all(
        isinstance(x, (int, np.integer)) and x == i for i, x in enumerate(labels)
    )


def is_shuffled_numbering(labels: Sequence) -> bool:
    """Whether labels are 0, 1, 2, ... in another order: what is left of a table that was sorted."""
    whole = all(isinstance(x, (int, np.integer)) for x in labels)
    return whole and not is_numbering(labels) and sorted(labels) == list(range(len(labels)))


def plain(value, what: str) -> np.ndarray:
    """``value`` as an array without labels or mask. Raises ProblemError if something is masked."""
    if isinstance(value, Mapping):
        return np.array(list(value.values()))
    if np.ma.isMaskedArray(value):
        masked = np.ma.getmaskarray(value)
        if masked.any():
            first = tuple(int(i) for i in np.argwhere(masked)[0])
            raise ProblemError(
                f"{int(masked.sum()):,} of {masked.size:,} values of {what} are masked",
                where=f"{what}[{', '.join(map(str, first))}]",
                expected="values, none of them masked",
                remedy="Fill the masked values, or leave those targets or records out",
            )
        return np.ma.getdata(value)
    return np.asarray(value)


def aligned(value, labels: Sequence | None, what: str, whose: str) -> np.ndarray:
    """``value`` as an array in the order of ``labels``.

    Parameters
    ----------
    value : anything; only its own labels and ``labels`` together decide whether it is reordered.
    labels : of the other side, or None.
    what, whose : names of the value and of the side whose labels these are, for messages.

    Raises
    ------
    ProblemError : both have labels and they differ, or one label occurs twice.
    """
    own = labels_of(value)
    array = plain(value, what)
    if own is None or labels is None:
        return array
    order = order_by_labels(own, labels, what, whose)
    return array if order is None else array[order]


def order_by_labels(own: Sequence, labels: Sequence, what: str, whose: str) -> np.ndarray | None:
    """Positions in ``own`` of each of ``labels``; None where position decides. See ``aligned``."""
    if list(own) == list(labels):
        return None
    # Compound labels and joined names are the same thing.
    mine, theirs = [name_of(x) for x in own], [name_of(x) for x in labels]
    for side, names in ((what, mine), (whose, theirs)):
        twice = [name for name, times in Counter(names).items() if times > 1]
        if twice and set(mine) == set(theirs):
            raise ProblemError(
                f"The label {twice[0]!r} occurs twice in {side}",
                expected="every label once, so that values can be told apart",
                remedy="Make the labels unique, or pass plain arrays in one order",
            )
    if set(mine) == set(theirs):
        if mine == theirs:
            return None
        place = {name: i for i, name in enumerate(mine)}
        return np.array([place[name] for name in theirs], dtype=np.intp)
    if is_numbering(own) or is_numbering(labels):
        return None
    raise _differ(mine, theirs, what, whose)


def _differ(mine: list[str], theirs: list[str], what: str, whose: str) -> ProblemError:
    missing = [x for x in theirs if x not in set(mine)]
    extra = [x for x in mine if x not in set(theirs)]
    parts = []
    if missing:
        parts.append(f"{len(missing):,} of {whose} are not in {what} ({_some(missing)})")
    if extra:
        parts.append(f"{len(extra):,} of {what} are not in {whose} ({_some(extra)})")
    return ProblemError(
        f"The labels of {what} and of {whose} differ: {'; '.join(parts)}",
        expected="the same labels, in any order",
        remedy=f"Reindex {what}, or pass it as a plain array in the order of {whose}",
    )


def _some(names: list[str]) -> str:
    return ", ".join(repr(x) for x in names[:3]) + (", ..." if len(names) > 3 else "")


def labelled(values: np.ndarray, labels: Sequence | None, name: str) -> Any:
    """``values`` under their labels (0, 1, 2, ... where there are none): a series where pandas is
    loaded already, else a mapping.
    """
    index = range(len(values)) if labels is None else list(labels)
    pandas = sys.modules.get("pandas")
    if pandas is None:
        return dict(zip(index, values.tolist(), strict=True))
    return pandas.Series(values, index=index, name=name)


def record_labels(matrix, vectors: Mapping[str, object]) -> tuple[tuple | None, str]:
    """The labels of the records and where they come from.

    Parameters
    ----------
    matrix : its columns count first.
    vectors : values with one entry per record, by name; the first labelled one counts next.

    Raises
    ------
    ProblemError : only a vector has labels, and they are 0, 1, 2, ... in another order. Whether the
        matrix is in that order cannot be known.
    """
    columns = labels_of(matrix, "columns")
    if columns is not None:
        return columns, "the columns of the matrix"
    for what, value in vectors.items():
        own = labels_of(value)
        if own is None or is_numbering(own):
            continue
        if is_shuffled_numbering(own):
            raise ProblemError(
                f"The index of {what} is 0 to {len(own) - 1:,} in another order, and the matrix "
                "has no labels",
                where=f"{what}, which begins with the label {own[0]}",
                expected="the matrix as a frame with the same labels, or plain arrays in one order",
                remedy=f"Pass {what}.to_numpy() if it is in the order of the matrix, or sort it",
            )
        return own, f"the index of {what}"
    return None, ""


def target_labels(matrix, vectors: Mapping[str, object]) -> tuple[tuple | None, str]:
    """The labels of the targets and where they come from: the matrix's index, or a vector's."""
    index = labels_of(matrix)
    for what, value in vectors.items():
        own = labels_of(value)
        if own is not None and not is_numbering(own):
            _not_columns(own, matrix, what)
    if index is not None and not is_numbering(index):
        return index, "the index of the matrix"
    for what, value in vectors.items():
        own = labels_of(value)
        if own is not None and not is_numbering(own):
            return own, f"the labels of {what}"
    return index, "the index of the matrix" if index is not None else ""


def _not_columns(own: Sequence, matrix, what: str) -> None:
    columns = getattr(matrix, "columns", None)
    if columns is None or callable(columns):
        return
    if {name_of(x) for x in own} == {name_of(x) for x in columns}:
        raise ProblemError(
            f"The labels of {what} are the columns of the matrix, and targets are its rows",
            expected="one row per target, one column per record",
            remedy="Transpose the matrix: matrix.T",
        )


def names_beside_labels(names: Sequence[str], labels: Sequence | None, whose: str) -> None:
    """Refuse names in another order than the labels of the rows they name.

    Names that have nothing in common with the labels rename the rows, in order.
    """
    if labels is None or is_numbering(labels) or not names:
        return
    theirs = [name_of(x) for x in labels]
    if list(names) == theirs or len(names) != len(theirs) or not set(names) & set(theirs):
        return
    place = next(i for i, (a, b) in enumerate(zip(names, theirs, strict=True)) if a != b)
    raise ProblemError(
        f"target_names and {whose} disagree: {names[place]!r} stands where {theirs[place]!r} does",
        where=f"position {place}",
        expected="the same names in the same order, or names that are all new",
        remedy="Leave target_names out: the labels are the names",
    )
