"""What settings may be, as data: one table per settings class, one checker, one form of message.

A settings class is a frozen dataclass with a table of rules, one per field,

    RULES: ClassVar[dict[str, Rule]] = {"tolerance": Number(above=0, most=1e-2), "strict": Switch()}

and calls ``check(self)`` in ``__post_init__``. What two settings may be together is for the class
itself to say after that. The tables are what a test goes through, for all classes alike.

Belongs here: rules and the check. Does not belong here: any settings.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from calibration_core.errors import SettingsError


class Rule(Protocol):
    """What one setting may be."""

    @property
    def words(self) -> str:
        """The same in words, to follow "Expected:"."""
        ...

    def allows(self, value: Any) -> bool:
        """Whether ``value`` may be the setting."""
        ...

    def wrong(self) -> list[Any]:
        """Values that it may not be, at and beyond each end, of each wrong kind: for tests."""
        ...


@dataclass(frozen=True)
class Number:
    """A finite number between two ends.

    Attributes
    ----------
    least, most : ends that are allowed; above, below : ends that are not. None where there is none.
    whole : whether it must be a whole number.
    none : whether None is allowed too.
    """

    least: float | None = None
    most: float | None = None
    above: float | None = None
    below: float | None = None
    whole: bool = False
    none: bool = False

    @property
    def words(self) -> str:
        ends = (
            ("at least", self.least),
            ("above", self.above),
            ("at most", self.most),
            ("below", self.below),
        )
        told = [f"{word} {end:g}" for word, end in ends if end is not None]
        kind = "a whole number" if self.whole else "a number"
        return " ".join([kind, ", ".join(told)]).strip() + (", or None" if self.none else "")

    def allows(self, value: Any) -> bool:
        if value is None:
            return self.none
        if isinstance(value, (bool, np.bool_)):
            return False
        if not isinstance(value, (int, float, np.integer, np.floating)):
            return False
        if not math.isfinite(value) or (self.whole and value != int(value)):
            return False
        if self.whole and not isinstance(value, (int, np.integer)):
            return False
        return bool(
            (self.least is None or value >= self.least)
            and (self.most is None or value <= self.most)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )

    def wrong(self) -> list[Any]:
        step = 1 if self.whole else 1e-9
        beyond = [end - step * max(abs(end), 1) for end in (self.least,) if end is not None]
        beyond += [end + step * max(abs(end), 1) for end in (self.most,) if end is not None]
        beyond += [end for end in (self.above, self.below) if end is not None]
        fraction = [1.5, 2.0] if self.whole else []
        none = [] if self.none else [None]
        return [*beyond, *fraction, *none, "1", True, float("nan"), float("inf"), (1, 2)]


@dataclass(frozen=True)
class Choice:
    """One of some words."""

    choices: tuple[str, ...]
    none: bool = False

    @property
    def words(self) -> str:
        quoted = [repr(x) for x in self.choices] + (["None"] if self.none else [])
        return f"{', '.join(quoted[:-1])} or {quoted[-1]}" if len(quoted) > 1 else quoted[0]

    def allows(self, value: Any) -> bool:
        return self.none if value is None else isinstance(value, str) and value in self.choices

    def wrong(self) -> list[Any]:
        return ["no such word", self.choices[0].upper() + "!", 1, *([] if self.none else [None])]


@dataclass(frozen=True)
class Word:
    """Any word in quotes."""

    none: bool = False

    @property
    def words(self) -> str:
        return "a word in quotes" + (", or None" if self.none else "")

    def allows(self, value: Any) -> bool:
        return self.none if value is None else isinstance(value, str)

    def wrong(self) -> list[Any]:
        return [1, 1.5, ("a",), *([] if self.none else [None])]


@dataclass(frozen=True)
class Switch:
    """True or False."""

    words: str = "True or False"

    def allows(self, value: Any) -> bool:
        return isinstance(value, (bool, np.bool_))

    def wrong(self) -> list[Any]:
        return [0, 1, None, "yes"]


@dataclass(frozen=True)
class Numbers:
    """Several finite numbers, each as ``each`` says: a tuple, list or array."""

    each: Number = Number()

    @property
    def words(self) -> str:
        return f"several numbers, each {self.each.words}"

    def allows(self, value: Any) -> bool:
        if isinstance(value, (str, Mapping)) or value is None or np.ndim(value) != 1:
            return False
        return all(self.each.allows(x) for x in np.asarray(value).tolist())

    def wrong(self) -> list[Any]:
        return ["1, 2", None, *[(1.0, x) for x in self.each.wrong() if isinstance(x, float)]]


@dataclass(frozen=True)
class Kind:
    """An object of one class, which checks itself."""

    kind: type

    @property
    def words(self) -> str:
        return f"{'an' if self.kind.__name__[0] in 'AEIOU' else 'a'} {self.kind.__name__}"

    def allows(self, value: Any) -> bool:
        return isinstance(value, self.kind)

    def wrong(self) -> list[Any]:
        return [None, 1, {"a": 1}, self.kind]


@dataclass(frozen=True)
class Either:
    """What one of several rules allows."""

    rules: tuple[Rule, ...]

    @property
    def words(self) -> str:
        return ", or ".join(rule.words for rule in self.rules)

    def allows(self, value: Any) -> bool:
        return any(rule.allows(value) for rule in self.rules)

    def wrong(self) -> list[Any]:
        return [x for rule in self.rules for x in rule.wrong() if not self.allows(x)]


def check(settings: Any) -> None:
    """Hold every field of a settings object against its rule in ``RULES``. Raises SettingsError."""
    for field in dataclasses.fields(settings):
        value, rule = getattr(settings, field.name), settings.RULES[field.name]
        if rule.allows(value):
            continue
        missing = dataclasses.MISSING
        default = "" if field.default is missing else f"Its default is {field.default!r}"
        raise SettingsError(f"{field.name} is {_shown(value)}", expected=rule.words, remedy=default)


def _shown(value: Any) -> str:
    """A value, short enough for a message."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
