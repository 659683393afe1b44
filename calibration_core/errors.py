"""The one base class of every geocal error, and the causes the numerics can raise.

Belongs here: exception classes whose cause is an array, a shape, a bound or a tree.
Does not belong here: anything about files, specs or Dagster (see ``pipeline/errors.py``).
"""

from __future__ import annotations


class GeocalError(Exception):
    """Base of all geocal errors.

    Every error answers four questions, each a plain string: what was ``found``, ``where``
    (file, column, row, target, tree node), what was ``expected``, and the ``remedy``.
    """

    def __init__(
        self, found: str, *, where: str = "", expected: str = "", remedy: str = ""
    ) -> None:
        self.found, self.where, self.expected, self.remedy = found, where, expected, remedy
        parts = (
            ("", found),
            ("Where: ", where),
            ("Expected: ", expected),
            ("What to do: ", remedy),
        )
        super().__init__(" ".join(label + _sentence(text) for label, text in parts if text))


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!")) else text.rstrip(".") + "."


class ProblemError(GeocalError):
    """A calibration problem is malformed: shapes disagree, values are not finite, weights are
    negative.
    """


class GeographyError(GeocalError):
    """A geography is not a tree: a tract without a county, a duplicate GEOID, an unknown parent."""


class ContradictionError(GeocalError):
    """Targets that are exact (zero variance) contradict one another across levels."""


class BudgetError(GeocalError):
    """A record budget cannot be met: smaller than the number of areas, or larger than the pairs."""


class SettingsError(GeocalError):
    """A solver or selection setting is outside its range."""


class InfeasibleError(GeocalError):
    """Strict mode: the targets, or the targets within the bounds, cannot all be met. ``findings``
    holds why, as data.
    """

    def __init__(self, found: str, *, findings: tuple = (), **answers: str) -> None:
        super().__init__(found, **answers)
        self.findings = findings
