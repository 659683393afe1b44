"""Where the targets of a tree contradict one another, level by level, and which of them the weights
followed.

Weights that reproduce every tract reproduce the county, so for a variable with targets at both
levels only one of

    b_upper      and      sum of b_lower over the areas inside

can be met where the two differ. Their difference is set against the error it may have,
sqrt(s_upper^2 + sum s_lower^2), the scales of the problem. A variable is known by its column of the
designs: columns that are the same at two levels are the same variable.

Belongs here: the comparison and its words. Does not belong here: conflicts among the targets of one
area (``conflicts/``), or changing any target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError
from calibration_core.tree.problem import PairProblem, PoolProblem
from calibration_core.tree.solve.newton import TreeNewtonResult

# The weights follow a level if the fitted total is at most this share of the difference away from
# it.
_FOLLOWS = 0.25


@dataclass(frozen=True)
class LevelFit:
    """One level's part of the loss.

    Attributes
    ----------
    level : its name.
    targets, beyond : number of targets in use, and of those more than ``inside`` scales off.
    share_of_loss : its share of the sum of squared residuals over scales; 0 where there is none.
    largest : largest |residual| in scales; ``area``, ``variable`` say where, ``percent`` is the
        signed residual there, nan where the target is 0.
    """

    level: str
    targets: int
    beyond: int
    share_of_loss: float
    largest: float
    area: str
    variable: str
    percent: float

    def words(self) -> str:
        """One sentence."""
        if not self.targets:
            return f"{self.level}: no targets."
        off = f", {self.percent:+.2f} %" if np.isfinite(self.percent) else ""
        return (
            f"{self.level}: {self.beyond:,} of {self.targets:,} targets beyond,"
            f" {self.share_of_loss:.1%} of the loss; largest {self.largest:.2f} scales at"
            f" {self.area} {self.variable!r}{off}."
        )


@dataclass(frozen=True)
class Disagreement:
    """One variable between two levels: the sum of the lower level's targets against the upper
    level's own.

    Attributes
    ----------
    variable, upper, lower : the variable and the two levels.
    areas, beyond : upper areas compared, and those whose difference is more than ``inside`` of its
        errors.
    incomplete : upper areas not compared, because an area inside has no target.
    percent : all compared areas together, lower sum less upper target, signed, in percent of the
        upper targets; nan where these are 0.
    errors : the same over the error of that sum.
    excess : sum over areas of squared differences in errors, those beyond only; what entries are
        ordered by.
    area : the area with the largest difference in errors; ``area_difference`` in the variable's
        units, ``area_percent``, ``area_errors`` signed.
    fitted_percent : the fitted total there, less the upper target, in percent.
    position : where the fitted total lies, 0 at the upper target, 1 at the lower sum.
    """

    variable: str
    upper: str
    lower: str
    areas: int
    beyond: int
    incomplete: int
    percent: float
    errors: float
    excess: float
    area: str
    area_difference: float
    area_percent: float
    area_errors: float
    fitted_percent: float
    position: float

    @property
    def follows(self) -> str:
        """Level the weights followed in that area: the name of one of the two, "between" or
        "neither".
        """
        if abs(self.position) <= _FOLLOWS:
            return self.upper
        if abs(self.position - 1.0) <= _FOLLOWS:
            return self.lower
        return "between" if 0.0 < self.position < 1.0 else "neither"

    def words(self) -> str:
        """One or two sentences."""
        amount = _amount(self.area_percent, self.area_difference)
        kept = {
            "between": "the weights lie between the two",
            "neither": "the weights follow neither",
        }.get(self.follows, f"the weights follow the {self.follows} level")
        moved = self.position * self.area_difference
        apart = _amount(self.fitted_percent, moved, "above", "below")
        fitted = f" (fitted {apart} its own target)"
        more = ""
        if self.areas > 1:
            together = f", {self.percent:+.2f} % in all" if np.isfinite(self.percent) else ""
            more = (
                f" {self.beyond:,} of {self.areas:,} {self.upper}-level areas differ beyond"
                f" error{together}."
            )
        return (
            f"{self.upper} {self.area} {self.variable!r}: the {self.lower} targets inside add up to"
            f" {amount} than its own, {abs(self.area_errors):.1f} errors; {kept}{fitted}.{more}"
        )


@dataclass(frozen=True)
class TreeConflicts:
    """The report: a LevelFit per level, top first; the worst disagreements, at most as many as
    asked; and how many more there are.

    ``compared`` is the number of (variable, pair of levels, area) that could be compared;
    ``single`` the number of targets whose variable has targets at no other level, so that nothing
    can be said about them.
    """

    levels: tuple[LevelFit, ...]
    disagreements: tuple[Disagreement, ...]
    further: int
    compared: int
    single: int
    inside: float

    def summary(self) -> str:
        """The report in words, a line per entry."""
        lines = [level.words() for level in self.levels]
        if not self.compared:
            return "\n".join(
                [*lines, "No variable has targets at two levels that could be compared."]
            )
        if not self.disagreements:
            return "\n".join(
                [
                    *lines,
                    (
                        f"No level contradicts another: of {self.compared:,} sums none differs by"
                        f" more than {self.inside:g} errors."
                    ),
                ]
            )
        lines += [entry.words() for entry in self.disagreements]
        if self.further:
            lines.append(f"{self.further:,} more variables disagree between levels, by less.")
        return "\n".join(lines)


@one_thread()
def tree_conflicts(
    problem: PoolProblem | PairProblem,
    result: TreeNewtonResult,
    *,
    names: Sequence[Sequence[str]] = (),
    inside: float = 1.645,
    most: int = 24,
) -> TreeConflicts:
    """Report what a calibration could not reconcile, and why.

    Parameters
    ----------
    problem : as given to ``calibrate_tree``.
    result : its result; only ``fitted`` is used.
    names : per level, top first, a name for each variable; numbers where empty.
    inside : how many scales, or errors of a difference, count as beyond; 1.645 is the 90 % margin.
    most : most disagreements to list, worst first.

    Raises
    ------
    ProblemError : names or fitted totals do not fit the targets.
    """
    targets = problem.targets
    shapes = [value.shape for value in targets.values]
    if [f.shape for f in result.fitted] != shapes:
        raise ProblemError(
            f"Fitted totals of shapes {[f.shape for f in result.fitted]}",
            expected=f"{shapes}, those of the targets",
        )
    if len(names) and [len(n) for n in names] != [shape[1] for shape in shapes]:
        raise ProblemError(
            f"{[len(n) for n in names]} names of variables",
            expected=f"{[shape[1] for shape in shapes]}, one per variable of each level",
        )
    called = [list(map(str, n)) for n in names] or [
        [f"variable {j}" for j in range(shape[1])] for shape in shapes
    ]
    report = _Report(problem, result.fitted, called, inside)
    found = sorted(report.disagreements(), key=lambda d: (-d.excess, d.upper, d.lower, d.variable))
    return TreeConflicts(
        report.levels(),
        tuple(found[:most]),
        max(0, len(found) - most),
        report.compared,
        report.single(),
        inside,
    )


class _Report:
    def __init__(
        self,
        problem: PoolProblem | PairProblem,
        fitted: Sequence[np.ndarray],
        names: list[list[str]],
        inside: float,
    ) -> None:
        self.tree, self.targets, self.fitted, self.names, self.inside = (
            problem.tree,
            problem.targets,
            fitted,
            names,
            inside,
        )
        self.used = [np.isfinite(s) for s in self.targets.scales]
        self.columns = [
            {d[:, j].tobytes(): j for j in reversed(range(d.shape[1]))}
            for d in self.targets.designs
        ]
        self.compared = 0

    def levels(self) -> tuple[LevelFit, ...]:
        scaled = [
            np.where(u, (f - b) / np.where(u, s, 1.0), 0.0)
            for f, b, s, u in zip(
                self.fitted, self.targets.values, self.targets.scales, self.used, strict=True
            )
        ]
        total = sum(float((r * r).sum()) for r in scaled)
        return tuple(self._level(depth, r, total) for depth, r in enumerate(scaled))

    def _level(self, depth: int, r: np.ndarray, total: float) -> LevelFit:
        level, count = self.tree.levels[depth], int(self.used[depth].sum())
        if not count:
            return LevelFit(level, 0, 0, 0.0, 0.0, "", "", float("nan"))
        area, variable = np.unravel_index(_largest(r), r.shape)
        value = self.targets.values[depth][area, variable]
        return LevelFit(
            level,
            count,
            int((np.abs(r) > self.inside).sum()),
            float((r * r).sum()) / total if total > 0 else 0.0,
            float(np.abs(r[area, variable])),
            f"{level} {self.tree.geoids[depth][area]}".rstrip(),
            self.names[depth][variable],
            _percent(self.fitted[depth][area, variable] - value, value),
        )

    def disagreements(self) -> list[Disagreement]:
        """Every column of a level against the nearest level below that has it."""
        found = []
        for upper in range(len(self.columns) - 1):
            by_level: dict[int, list[tuple[int, int]]] = {}
            for key, column in self.columns[upper].items():
                lower = next(
                    (
                        d
                        for d in range(upper + 1, len(self.columns))
                        if key in self.columns[d] and self.used[d][:, self.columns[d][key]].any()
                    ),
                    None,
                )
                if lower is not None and self.used[upper][:, column].any():
                    by_level.setdefault(lower, []).append((column, self.columns[lower][key]))
            for lower, pairs in by_level.items():
                found += self._compare(upper, lower, *np.array(pairs).T)
        return found

    def _compare(
        self, upper: int, lower: int, column: np.ndarray, inner: np.ndarray
    ) -> list[Disagreement]:
        values, scales = self.targets.values, self.targets.scales
        used = self.used[lower][:, inner]
        total = self._sum(np.where(used, values[lower][:, inner], 0.0), lower, upper)
        variance = self._sum(np.where(used, scales[lower][:, inner], 0.0) ** 2, lower, upper)
        holes = self._sum((~used).astype(np.int64), lower, upper)
        own, asked = values[upper][:, column], self.used[upper][:, column]
        whole = asked & (holes == 0)
        difference = np.where(whole, total - own, 0.0)
        spread = np.where(
            whole, variance + np.where(asked, scales[upper][:, column], 0.0) ** 2, 0.0
        )
        errors = np.divide(difference, np.sqrt(spread), out=np.zeros_like(difference), where=whole)
        beyond = np.abs(errors) > self.inside
        self.compared += int(whole.sum())
        found = []
        for k in np.flatnonzero(beyond.any(axis=0)).tolist():
            area = _largest(errors[:, k])
            gap, target, fitted = (
                float(difference[area, k]),
                float(own[area, k]),
                float(self.fitted[upper][area, column[k]]),
            )
            found.append(
                Disagreement(
                    self.names[upper][column[k]],
                    self.tree.levels[upper],
                    self.tree.levels[lower],
                    int(whole[:, k].sum()),
                    int(beyond[:, k].sum()),
                    int((asked & ~whole)[:, k].sum()),
                    _percent(
                        float(difference[:, k].sum()),
                        float(np.where(whole[:, k], own[:, k], 0.0).sum()),
                    ),
                    float(difference[:, k].sum() / np.sqrt(spread[:, k].sum())),
                    float((errors[beyond[:, k], k] ** 2).sum()),
                    self.tree.geoids[upper][area],
                    gap,
                    _percent(gap, target),
                    float(errors[area, k]),
                    _percent(fitted - target, target),
                    (fitted - target) / gap,
                )
            )
        return found

    def _sum(self, values: np.ndarray, lower: int, upper: int) -> np.ndarray:
        for depth in range(lower, upper, -1):
            values = self.tree.sum_to_parent(values, depth)
        return values

    def single(self) -> int:
        """Number of targets of variables that no other level has."""
        levels = range(len(self.columns))
        alone = [
            [
                j
                for key, j in self.columns[d].items()
                if not any(key in self.columns[e] for e in levels if e != d)
            ]
            for d in levels
        ]
        return int(
            sum(
                self.used[d][:, columns].sum()
                for d, columns in zip(levels, alone, strict=True)
                if columns
            )
        )


def _largest(values: np.ndarray) -> int:
    """Flat index of the largest absolute value; of those equal to rounding, the first."""
    size = np.abs(values).ravel()
    return int(np.flatnonzero(size >= size.max() * (1.0 - 1e-9))[0])


def _percent(difference: float, of: float) -> float:
    return float(100.0 * difference / abs(of)) if of else float("nan")


def _amount(percent: float, units: float, more: str = "more", less: str = "less") -> str:
    """ "4.2 % more", or in units where there is no percentage."""
    size, word = (
        (percent, f"{abs(percent):.1f} %")
        if np.isfinite(percent)
        else (units, f"{abs(units):,.6g}")
    )
    return f"{word} {more if size >= 0 else less}"
