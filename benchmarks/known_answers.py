"""Every case of a folder whose answer other software produced, solved by this project and compared,
in one run.

    python -m benchmarks.known_answers DIR [--only NAME ...] [--figures]

DIR holds ``NAME.json`` (a "distance", "targets", "columns", optional "bounds", "compare_rtol",
"importance") beside ``NAME.csv`` or ``NAME.csv.gz``. Exit status 0: every case met. 1: one missed
its tolerance, left its bounds, claimed convergence falsely, or could not be read or solved. 2:
there is no case to run.

Belongs here: comparing, the table. Does not belong here: reading the files (``case_files.py``),
which method solves a case (``case_problems.py``), solvers.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.case_figures import figures_of
from benchmarks.case_files import Case, Part, case_paths, read_case
from benchmarks.case_problems import solve
from calibration_core import CalibrationResult
from calibration_core.errors import GeocalError

EXACT = ("linear", "truncated_linear", "logit", "raking", "raking_bounded", "ipf", "entropy")
# Two weights that are both below this share of the initial weight differ by nothing that matters;
# differences are relative to it there.
_SMALL_SHARE = 1e-3
# A target further off than this is not met, whatever a result says of itself.
_NOT_MET = 1e-6


@dataclass(frozen=True)
class Outcome:
    """One line of the table; ``verdict`` is "met" or says in capitals what is wrong, ``remark``
    why.
    """

    case: Case | None
    name: str
    method: str
    verdict: str
    difference: float = float("nan")
    converged: bool | None = None
    target_error: float = float("nan")
    seconds: float = 0.0
    remark: str = ""
    figures: tuple[tuple[str, float, float], ...] = ()

    @property
    def met(self) -> bool:
        return self.verdict == "met"


def relative_differences(
    weights: np.ndarray, expected: np.ndarray, initial: np.ndarray
) -> np.ndarray:
    """(records,) |w - e| over the larger of |e| and a thousandth of the initial weight, so that an
    expected zero can be compared.
    """
    typical = float(np.abs(expected).mean()) if expected.size else 0.0
    scale = np.maximum(np.abs(expected), _SMALL_SHARE * np.where(initial > 0, initial, typical))
    difference = np.abs(weights - expected)
    return np.divide(difference, scale, out=np.where(difference > 0, np.inf, 0.0), where=scale > 0)


def target_errors(part: Part, weights: np.ndarray) -> np.ndarray:
    """(targets,) |A w - b| over |b|, or over what the initial weights add to the target where b is
    zero; from the file's own columns.
    """
    size = np.abs(part.targets)
    size = np.where(size > 0, size, np.maximum(np.abs(part.matrix) @ part.initial, 1.0))
    return np.abs(part.matrix @ weights - part.targets) / size


def _outside(part: Part, weights: np.ndarray, on_weights: bool) -> int:
    if part.low is None:
        return 0
    scale = 1.0 if on_weights else part.initial
    with np.errstate(invalid="ignore"):
        low, high = (
            np.nan_to_num(part.low * scale, nan=-np.inf),
            np.nan_to_num(part.high * scale, nan=np.inf),
        )
    slack = 1e-9 * np.maximum(np.abs(weights), 1e-300)
    return int(((weights < low - slack) | (weights > high + slack)).sum())


def judge(case: Case, method: str, results: list[CalibrationResult]) -> Outcome:
    """Compare the results of a case's parts with what it expects, and with what they say of
    themselves.
    """
    pairs = list(zip(case.parts, results, strict=True))
    weights = [r.weights for r in results]
    converged = all(r.converged for r in results)
    errors = [target_errors(p, w).max() for p, w in zip(case.parts, weights, strict=True)]
    holds_targets = method in EXACT or (method == "trim" and results[0].settings.keep_totals)
    held = np.array([name not in case.unheld for name in case.constraints])
    false_claims = [
        p.label
        for p, r in pairs
        if holds_targets
        and r.converged
        and target_errors(p, r.weights)[held].max(initial=0.0) > _NOT_MET
    ]
    outside = sum(
        _outside(p, w, case.bounds_on_weights) for p, w in zip(case.parts, weights, strict=True)
    )
    difference = float("nan")
    if case.has_expected:
        difference = max(
            float(relative_differences(w, p.expected, p.initial).max())
            for p, w in zip(case.parts, weights, strict=True)
        )
    verdict, remark = (
        "met",
        (
            ""
            if converged
            else results[0].status
            if len(results) == 1
            else "not every area converged"
        ),
    )
    if false_claims:
        verdict, remark = (
            "FALSE CLAIM",
            f"says converged while a target is off by {max(errors):.2g}"
            + (f" in {', '.join(false_claims)}" if case.areas else ""),
        )
    elif outside:
        verdict, remark = "OUT OF BOUNDS", f"{outside} weights are outside the bounds asked for"
    elif case.feasible is False and converged:
        verdict, remark = "FALSE CLAIM", "the case says that its targets cannot be met"
    elif not case.has_expected:
        remark = "no expected weights: judged by what the result says of itself" + (
            f"; {remark}" if remark else ""
        )
    elif not difference <= case.rtol:
        verdict = "MISSED"
        expected_error = max(target_errors(p, p.expected).max() for p in case.parts)
        if holds_targets and expected_error > 100 * max(case.rtol, _NOT_MET):
            remark = (
                f"the expected weights miss a target by {expected_error:.2g} themselves;"
                f" {remark or 'ours meet all'}"
            )
    if case.unheld:
        note = (
            f"{', '.join(case.unheld)} left out: by the source's own report its run did not hold it"
            " (an empty row there)"
        )
        remark = f"{remark}; {note}" if remark else note
    seconds = sum(r.seconds for r in results)
    return Outcome(
        case,
        case.name,
        method,
        verdict,
        difference,
        converged,
        max(errors),
        seconds,
        remark,
        figures_of(case, weights),
    )


def run_case(path: Path) -> Outcome:
    """Read, solve and judge one file. Whatever goes wrong with it is its outcome, so that the other
    cases are still run.
    """
    name, case, began = path.stem, None, time.perf_counter()
    try:
        case = read_case(path)
        solved = [solve(case, part) for part in case.parts]
        return judge(case, solved[0][0], [result for _, result in solved])
    except GeocalError as error:
        return Outcome(
            case,
            name,
            case.distance if case else "",
            "ERROR",
            seconds=time.perf_counter() - began,
            remark=str(error),
        )
    except Exception as error:
        remark = f"{type(error).__name__}: {error}"
        return Outcome(
            case,
            name,
            case.distance if case else "",
            "ERROR",
            seconds=time.perf_counter() - began,
            remark=remark,
        )


def report(outcomes: list[Outcome], console: Console, *, figures: bool) -> None:
    """Print the table, then remarks and figures."""
    table = Table(title="known answers")
    headings = (
        "case",
        "records x constraints",
        "method",
        "largest relative difference",
        "required",
        "converged",
        "largest target error",
        "verdict",
        "seconds",
    )
    for heading in headings:
        table.add_column(
            heading, justify="left" if heading in ("case", "method", "verdict") else "right"
        )

    def number(x):
        return "-" if np.isnan(x) else f"{x:.1e}"

    for o in outcomes:
        size = o.case.size_text if o.case else "-"
        required = (
            f"{o.case.rtol:.0e}" + ("" if o.case.rtol_given else " (default)")
            if o.case and o.case.has_expected
            else "-"
        )
        said = "-" if o.converged is None else "yes" if o.converged else "no"
        table.add_row(
            o.name,
            size,
            o.method,
            number(o.difference),
            required,
            said,
            number(o.target_error),
            o.verdict,
            f"{o.seconds:.3f}",
        )
    console.print(table)
    for o in outcomes:
        if o.remark:
            console.print(f"{o.name}: {o.remark}", markup=False, highlight=False)
    if figures:
        for o in outcomes:
            for label, ours, theirs in o.figures:
                off = abs(ours - theirs) / max(abs(theirs), 1e-300)
                console.print(
                    f"{o.name}: {label} {ours:.10g}, published {theirs:.10g}, off by {off:.1e}",
                    markup=False,
                    highlight=False,
                )
    else:
        compared = [
            (abs(ours - theirs) / max(abs(theirs), 1e-300), o.name, label)
            for o in outcomes
            for label, ours, theirs in o.figures
        ]
        if compared:
            worst, name, label = max(compared)
            console.print(
                f"{len(compared)} published figures recomputed; the furthest off is {label} of"
                f" {name}, by {worst:.1e}",
                markup=False,
                highlight=False,
            )
    met = sum(o.met for o in outcomes)
    console.print(f"{met} of {len(outcomes)} cases met", highlight=False)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these cases only")
    parser.add_argument(
        "--figures", action="store_true", help="list every published figure beside ours"
    )
    arguments = parser.parse_args(argv)
    console = Console()
    if console.width < 180 and not console.is_terminal:
        console = Console(width=180)
    try:
        paths = case_paths(arguments.folder, arguments.only)
    except GeocalError as error:
        console.print(str(error), markup=False, highlight=False)
        return 2
    outcomes = [run_case(path) for path in paths]
    report(outcomes, console, figures=arguments.figures)
    return 0 if all(o.met for o in outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
