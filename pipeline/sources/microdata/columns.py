"""Raw survey CSV columns turned into typed, decoded columns, with errors that name file, column and
line.

Belongs here: finding columns (any order, extra ones ignored, case ignored), reading only those,
strict numbers, code lists. Does not belong here: any one survey's columns or codes.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from pipeline.errors import SourceLayoutError, SourceValueError
from pipeline.sources.files import RawFile

LINE = "__line"
_BLANKS = ["", "NA", "."]
# Text taken at a time: as columns of text it is several times as large.
_PIECE = 64_000_000
# Of int32.
_LARGEST = 2**31 - 1


def _header(raw: RawFile) -> list[str]:
    first = raw.data[: raw.data.find(b"\n") if b"\n" in raw.data else len(raw.data)]
    return next(
        csv.reader(
            io.StringIO(first.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").rstrip("\r"))
        ),
        [],
    )


def _pieces(data: bytes) -> Iterator[bytes]:
    """A file's text in parts, each with its header; whole where a break may stand in quotes."""
    head = data.find(b"\n") + 1
    if len(data) <= _PIECE or not head or data.find(b'"', head) >= 0:
        yield data
        return
    begin = head
    while begin < len(data):
        end = data.rfind(b"\n", begin, begin + _PIECE) + 1 or len(data)
        end = len(data) if len(data) - begin <= _PIECE else end
        yield data[:head] + data[begin:end]
        begin = end


def _as_text(data: bytes, columns: list[str], place: str) -> pl.DataFrame:
    """Some columns of a table as text. Raises SourceLayoutError if it is no table."""
    try:
        return pl.read_csv(
            data,
            columns=columns,
            infer_schema=False,
            null_values=_BLANKS,
            encoding="utf8-lossy",
            raise_if_empty=False,
        )
    except pl.exceptions.PolarsError as error:
        raise SourceLayoutError(
            f"The text cannot be read as a table: {error}",
            where=place,
            expected="comma-separated lines with as many fields as the header",
            remedy="Download the file again",
        ) from error


class SurveyColumns:
    """The columns of one survey file that were asked for, still as text, with the line each row
    came from.

    ``frame`` holds String columns (Int32 of those asked for as ``whole``) under their upper-case
    published names (null where blank or "NA") and ``__line`` (1-based line of the file).
    ``absent``: optional columns that the file has not; they are null on every line.
    """

    def __init__(
        self, frame: pl.DataFrame, label: str, absent: frozenset[str] = frozenset()
    ) -> None:
        self.frame = frame
        self.label = label
        self.absent = absent

    @classmethod
    def read(
        cls,
        raw: RawFile,
        required: Sequence[str | tuple[str, ...]],
        optional: Sequence[str] = (),
        *,
        first_line: int = 2,
        whole: Sequence[str] = (),
    ) -> SurveyColumns:
        """Read the ``required`` and those ``optional`` columns that exist; a tuple means any one of
        several published names. ``first_line``: the line of the file in which the first row stands.
        ``whole``: optional columns too, of whole numbers, kept as int32: a quarter of their text.

        Raises SourceLayoutError naming every missing column and the nearest one found, or saying
        that the text is not a table; SourceValueError for one of ``whole`` that is none.
        """
        header = _header(raw)
        member = f" member {raw.provenance.member}" if raw.provenance.member else ""
        place = f"{raw.provenance.path}{member}"
        label = raw.provenance.label
        known = {name.strip().upper(): name for name in reversed(header) if name.strip()}
        missing = [
            alternatives
            for alternatives in ((r,) if isinstance(r, str) else r for r in required)
            if not any(a in known for a in alternatives)
        ]
        if missing:
            described = []
            for alternatives in missing:
                near = difflib.get_close_matches(alternatives[0], list(known), n=1, cutoff=0.5)
                described.append(
                    " or ".join(alternatives) + (f" (nearest: {near[0]})" if near else "")
                )
            raise SourceLayoutError(
                f"{len(missing)} column(s) are missing: {', '.join(described)}",
                where=f"{place}, line 1",
                expected="the columns of the published file",
                remedy=(
                    "Check publication and vintage; if the publisher renamed the column, add the"
                    " new name to the reader"
                ),
            )
        wanted = [
            name
            for group in required
            for name in ((group,) if isinstance(group, str) else group)
            if name in known
        ]
        more = [*optional, *whole]
        wanted += [name for name in more if name in known and name not in wanted]
        absent = [name for name in more if name not in known]
        parts, line = [], first_line
        for data in _pieces(raw.data):
            frame = _as_text(data, [known[name] for name in wanted], place)
            frame = frame.select(
                pl.col(known[name]).str.strip_chars().alias(name) for name in wanted
            ).with_row_index(LINE, offset=line)
            part = cls(frame, label)
            parts.append(frame.with_columns(part.integer(name) for name in whole if name in known))
            line += frame.height
        frame = pl.concat(parts, rechunk=True).with_columns(
            pl.lit(None, dtype=pl.String).alias(name) for name in absent
        )
        return cls(frame, label, frozenset(absent))

    def has(self, name: str) -> bool:
        """True if the file itself has this column."""
        return name in self.frame.columns and name not in self.absent

    def first_of(self, *names: str) -> str:
        """The first of several published names that this file has."""
        return next(name for name in names if self.has(name))

    def only(self, *names: str) -> SurveyColumns:
        """Those of ``names`` that there are, with their lines: the others' memory is given back."""
        kept = [name for name in names if name in self.frame.columns]
        return SurveyColumns(self.frame.select(LINE, *kept), self.label, self.absent)

    def filter(self, condition: pl.Expr | pl.Series) -> SurveyColumns:
        return SurveyColumns(self.frame.filter(condition), self.label, self.absent)

    def fail(self, column: str, bad: pl.Series, expected: str) -> SourceValueError:
        """The error for rows where ``bad`` is true: names the column, the first line, its value,
        and how many lines are affected.
        """
        index = bad.arg_true()[0]
        return SourceValueError(
            f"{column} is {self.frame[column][index]!r}"
            + (
                f", and {int(bad.sum()) - 1:,} more lines have such a value"
                if int(bad.sum()) > 1
                else ""
            ),
            where=f"{self.label}, line {self.frame[LINE][index]}, column {column}",
            expected=expected,
            remedy=(
                "Compare the line with the publisher's data dictionary; download the file again if"
                " it was edited"
            ),
        )

    def require_each_once(self, *keys: str) -> None:
        """Raises SourceValueError naming the first line whose ``keys`` an earlier line has."""
        repeats = ~self.frame.select(pl.struct(keys).is_first_distinct()).to_series()
        if not repeats.any():
            return
        line, *values = self.frame.filter(repeats).select(LINE, *keys).row(0)
        found = " and ".join(f"{key} {value}" for key, value in zip(keys, values, strict=True))
        raise SourceValueError(
            f"{found} appears twice ({int(repeats.sum()):,} repeated lines)",
            where=f"{self.label}, line {line}, column {' and '.join(keys)}",
            expected="each person and each household once",
            remedy="The file was concatenated or edited: download it again",
        )

    def text(self, name: str, *, nullable: bool = False) -> pl.Series:
        series = self.frame[name]
        if not nullable and series.null_count():
            raise self.fail(name, series.is_null(), "a value on every line")
        return series

    def number(
        self,
        name: str,
        *,
        low: float | None = None,
        high: float | None = None,
        nullable: bool = True,
    ) -> pl.Series:
        """The column as float64. Raises SourceValueError on text, a blank where none is allowed, or
        a value outside [low, high].
        """
        text = self.text(name, nullable=nullable)
        series = text.cast(pl.Float64, strict=False)
        # "nan" and "inf", which spreadsheets and data frames write, are read as floats.
        bad = text.is_not_null() & ~series.is_finite().fill_null(False)
        if bad.any():
            raise self.fail(name, bad, "a number")
        for bound, outside, words in (
            (low, lambda: series < low, f"at least {low}"),
            (high, lambda: series > high, f"at most {high}"),
        ):
            if bound is not None and (bad := outside().fill_null(False)).any():
                raise self.fail(name, bad, words)
        return series

    def integer(
        self, name: str, *, low: int | None = None, high: int | None = None, nullable: bool = True
    ) -> pl.Series:
        """The column as int32; "07", "7" and "7.0" are the same number."""
        series = self.number(name, low=low, high=high, nullable=nullable)
        wrong = (series != series.round(0)) | (series.abs() > _LARGEST)
        if (bad := wrong.fill_null(False)).any():
            raise self.fail(name, bad, "a whole number")
        return series.cast(pl.Int32)

    def coded(
        self,
        name: str,
        codes: Mapping[int, object],
        *,
        dtype: pl.DataType | type[pl.DataType] = pl.String,
        nullable: bool = True,
    ) -> pl.Series:
        """Decode by a code list; a code mapped to None is a published code that means nothing here.
        Raises SourceValueError on a code not in the list.
        """
        numbers = self.integer(name, nullable=nullable)
        unknown = numbers.is_not_null() & ~numbers.is_in(list(codes))
        if unknown.any():
            raise self.fail(
                name, unknown, f"one of the published codes {', '.join(map(str, codes))}"
            )
        return numbers.replace_strict(
            list(codes), list(codes.values()), default=None, return_dtype=dtype
        )


def yes_no(
    yes: Sequence[int], no: Sequence[int], neither: Sequence[int] = ()
) -> dict[int, bool | None]:
    """A code list with two meanings; ``neither`` are codes for "not in universe"."""
    return {**dict.fromkeys(yes, True), **dict.fromkeys(no, False), **dict.fromkeys(neither)}
