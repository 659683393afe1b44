"""What a new user meets when something is wrong: every message in one run, to be read line by line.

    python -m benchmarks.messages [--cases DIR] [--only WORD]

Each situation is a call that cannot go well, on small invented problems; with --cases the
infeasible bounds are also asked of the real ``api_linear`` in DIR, a folder of known answers.
Printed are the call, and the error or the result's summary, as they come.

Belongs here: situations and their printing. Does not belong here: the messages
(``calibration_core``), assertions on them (tests).
"""

from __future__ import annotations

import argparse
import csv
import json
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from calibration_core import CalibrationProblem, advise, calibrate
from calibration_core.errors import GeocalError


@dataclass(frozen=True)
class Situation:
    """A title, the call in words, and the call."""

    title: str
    call: str
    run: Callable[[], object]


def survey(seed: int = 1, records: int = 200) -> CalibrationProblem:
    """Two margins (sex, age in four bands) and an amount; the targets can be met."""
    rng = np.random.default_rng(seed)
    sex, age = rng.integers(0, 2, records), rng.integers(0, 4, records)
    income = np.round(np.exp(rng.normal(10, 0.8, records)))
    matrix = np.vstack([np.eye(2)[:, sex], np.eye(4)[:, age], income])
    design = rng.gamma(4.0, 25.0, records)
    true = design * np.exp(0.2 * rng.normal(size=records)) * 1.05
    names = [
        "sex: female",
        "sex: male",
        "age: 0-17",
        "age: 18-34",
        "age: 35-64",
        "age: 65+",
        "income",
    ]
    return CalibrationProblem(matrix, matrix @ true, design, target_names=names)


def inflated_margin(share: float = 0.05) -> CalibrationProblem:
    """``survey`` with the age targets raised by ``share``: sex and age then count different
    populations.
    """
    problem = survey()
    targets = problem.targets.copy()
    targets[2:6] *= 1 + share
    return problem.change(targets=targets)


def schools() -> CalibrationProblem:
    """An invented stand-in for api_linear: 183 equal weights, a total, two kinds of school and a
    score; asks for ratios from 0.42 to 1.9.
    """
    rng = np.random.default_rng(2)
    kind, score = rng.choice(3, 183, p=[0.78, 0.08, 0.14]), rng.normal(607, 100, 183).round()
    matrix = np.vstack([np.ones(183), kind == 1, kind == 2, score])
    return CalibrationProblem(
        matrix,
        [6194.0, 755.0, 1018.0, 6194 * 632.0],
        np.full(183, 33.847),
        target_names=["all schools", "kind: high", "kind: middle", "score"],
    )


def api_linear(folder: Path) -> CalibrationProblem:
    """The real case of that name in a folder of known answers."""
    facts = json.loads((folder / "api_linear.json").read_text())
    with (folder / "api_linear.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = facts["columns"]["constraints"]

    def column(name):
        return [float(row[name]) for row in rows]

    return CalibrationProblem(
        np.array([column(n) for n in names]),
        [facts["targets"][n] for n in names],
        column(facts["columns"]["weight"]),
        target_names=names,
    )


def situations(cases: Path | None = None) -> Iterator[Situation]:
    """Everything that is shown, in order."""
    p, conflict = survey(), inflated_margin()
    matrix, targets, weights = p.matrix.target_major(), p.targets, p.start
    names = p.target_names

    def spoilt(values: np.ndarray, place, value: float) -> np.ndarray:
        out = np.array(values)
        out[place] = value
        return out

    def build(**fields) -> Callable[[], object]:
        given = {
            "matrix": matrix,
            "targets": targets,
            "initial_weights": weights,
            "target_names": names,
            **fields,
        }
        return lambda: CalibrationProblem(**given)

    yield Situation("one margin inflated by 5 %", "calibrate(problem)", lambda: calibrate(conflict))
    yield Situation(
        "one margin inflated by 5 %, minimax",
        'calibrate(problem, compromise="minimax")',
        lambda: calibrate(conflict, compromise="minimax"),
    )
    yield Situation(
        "one margin inflated by 5 %, strict",
        "calibrate(problem, strict=True)",
        lambda: calibrate(conflict, strict=True),
    )
    yield Situation(
        "one margin inflated by 5 %, ipf",
        'calibrate(problem, "ipf")',
        lambda: calibrate(conflict.take_targets(range(6)), "ipf"),
    )
    yield Situation(
        "one margin inflated by 5 %, advice", "advise(problem)", lambda: advise(conflict)
    )
    empty = CalibrationProblem(
        np.vstack([matrix, np.zeros(200)]),
        np.r_[targets, 340.0],
        weights,
        target_names=[*names, "age: 85+, abroad"],
    )
    yield Situation(
        "a target that no record contributes to", "calibrate(problem)", lambda: calibrate(empty)
    )
    yield Situation(
        "a target that no record contributes to, strict",
        "calibrate(problem, strict=True)",
        lambda: calibrate(empty, strict=True),
    )
    for title, case in (
        ("an invented api_linear", schools()),
        *([("the real api_linear", api_linear(cases))] if cases else []),
    ):
        narrow = case.change(ratio_bounds=(0.9, 1.1))
        for method in ("truncated_linear", "raking_bounded", "logit"):
            call = f'calibrate(problem with ratio_bounds=(0.9, 1.1), "{method}")'
            yield Situation(
                f"infeasible bounds on {title}",
                call,
                lambda narrow=narrow, method=method: calibrate(narrow, method),
            )
        call = 'calibrate(problem with ratio_bounds=(0.9, 1.1), "truncated_linear", strict=True)'
        yield Situation(
            f"infeasible bounds on {title}, strict",
            call,
            lambda narrow=narrow: calibrate(narrow, "truncated_linear", strict=True),
        )
    yield Situation(
        "NaN in the matrix",
        "CalibrationProblem(matrix, ...)",
        build(matrix=spoilt(matrix, (6, 12), np.nan)),
    )
    yield Situation(
        "NaN in the targets",
        "CalibrationProblem(..., targets, ...)",
        build(targets=spoilt(targets, 3, np.nan)),
    )
    yield Situation(
        "NaN in the weights",
        "CalibrationProblem(..., weights)",
        build(initial_weights=spoilt(weights, 3, np.nan)),
    )
    yield Situation(
        "a negative weight",
        "CalibrationProblem(..., weights)",
        build(initial_weights=spoilt(weights, 77, -2.5)),
    )
    yield Situation(
        "all weights zero", "CalibrationProblem(..., weights)", build(initial_weights=0 * weights)
    )
    yield Situation(
        "a standard error of zero",
        "CalibrationProblem(..., standard_errors)",
        build(standard_errors=spoilt(targets, 0, 0.0)),
    )
    yield Situation(
        "the matrix transposed", "CalibrationProblem(matrix.T, ...)", build(matrix=matrix.T)
    )
    yield Situation(
        "one target too few", "CalibrationProblem(..., targets[:-1])", build(targets=targets[:-1])
    )
    yield Situation(
        "one weight too few",
        "CalibrationProblem(..., weights[:-1])",
        build(initial_weights=weights[:-1]),
    )
    yield Situation(
        "targets as text", "CalibrationProblem(..., targets)", build(targets=["many"] * 7)
    )
    yield Situation(
        "a matrix of text", "CalibrationProblem(matrix, ...)", build(matrix=[["a", "b"]])
    )
    yield Situation(
        "a vector for a matrix", "CalibrationProblem(matrix[0], ...)", build(matrix=matrix[0])
    )
    yield Situation(
        "two targets of one name",
        "CalibrationProblem(..., target_names)",
        build(target_names=[*names[:-1], "age: 65+"]),
    )
    yield Situation(
        "one name too few", "CalibrationProblem(..., target_names)", build(target_names=names[:-1])
    )
    yield Situation(
        "one string for all names",
        "CalibrationProblem(..., target_names)",
        build(target_names="targets"),
    )
    yield Situation(
        "bounds the wrong way round",
        "CalibrationProblem(..., ratio_bounds=(2, 0.5))",
        build(ratio_bounds=(2, 0.5)),
    )
    yield Situation(
        "one bound only", "CalibrationProblem(..., ratio_bounds=2)", build(ratio_bounds=2)
    )
    both = build(ratio_bounds=(0.5, 2.0), weight_bounds=(1e4, 1e5))
    yield Situation(
        "bounds that exclude each other",
        "CalibrationProblem(..., ratio_bounds=(0.5, 2), weight_bounds=(1e4, 1e5))",
        both,
    )
    yield Situation(
        "unknown method", 'calibrate(problem, "rakeing")', lambda: calibrate(p, "rakeing")
    )
    yield Situation("unknown method", 'calibrate(problem, "greg")', lambda: calibrate(p, "greg"))
    yield Situation(
        "misspelt setting",
        "calibrate(problem, max_iteration=5)",
        lambda: calibrate(p, max_iteration=5),
    )
    yield Situation(
        "setting out of range",
        "calibrate(problem, tolerance=-1)",
        lambda: calibrate(p, tolerance=-1),
    )
    yield Situation(
        "setting of the wrong type",
        'calibrate(problem, max_iterations="10")',
        lambda: calibrate(p, max_iterations="10"),
    )
    yield Situation(
        "setting of the wrong type",
        'calibrate(problem, tolerance="1e-9")',
        lambda: calibrate(p, tolerance="1e-9"),
    )
    yield Situation(
        "unknown compromise",
        'calibrate(problem, compromise="best")',
        lambda: calibrate(p, compromise="best"),
    )
    yield Situation("wrong type of problem", "calibrate(matrix)", lambda: calibrate(matrix))
    yield Situation(
        "bounds for a method without",
        'calibrate(problem with bounds, "raking")',
        lambda: calibrate(p.change(ratio_bounds=(0.5, 2)), "raking"),
    )
    yield Situation(
        "no bounds for a method with", 'calibrate(problem, "logit")', lambda: calibrate(p, "logit")
    )
    outside = p.change(ratio_bounds=(1.1, 2.0))
    yield Situation(
        "logit bounds that leave out one",
        'calibrate(problem with ratio_bounds=(1.1, 2), "logit")',
        lambda: calibrate(outside, "logit"),
    )
    yield Situation("amounts for ipf", 'calibrate(problem, "ipf")', lambda: calibrate(p, "ipf"))
    yield Situation(
        "no initial weights",
        "calibrate(problem without weights)",
        lambda: calibrate(p.change(initial_weights=None)),
    )
    yield Situation(
        "too few iterations",
        "calibrate(problem, max_iterations=1)",
        lambda: calibrate(p, max_iterations=1),
    )
    yield Situation(
        "more records than there are",
        "advise(problem, records=500)",
        lambda: advise(p, records=500),
    )


def met(situation: Situation) -> str:
    """The message, the summary or the advice; warnings of other libraries, which a user would see
    too, in front.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            outcome = situation.run()
        except GeocalError as error:
            text = f"{type(error).__name__}: {error}"
        except Exception as error:
            text = f"UNEXPECTED {type(error).__name__}: {error}"
        else:
            text = outcome.summary() if hasattr(outcome, "summary") else f"ACCEPTED: {outcome}"
    return "\n".join(
        [*(f"python warning {w.category.__name__}: {w.message}" for w in caught), text]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--cases", type=Path, help="folder of known answers, for the real api_linear"
    )
    parser.add_argument("--only", default="", help="situations whose title has this word")
    arguments = parser.parse_args()
    for situation in situations(arguments.cases):
        if arguments.only in situation.title:
            print(f"## {situation.title}\n>>> {situation.call}\n{met(situation)}\n")


if __name__ == "__main__":
    main()
