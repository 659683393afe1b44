"""A problem in the form in which it is solved, and results back in the caller's.

In standard form every row is in a unit of its own (``design_matrix.py``) and weights are in a unit
near their mean, both powers of two where that is possible. Nothing that follows can then depend on
whether an amount was written in dollars or in millions. The matrix is shared, not copied.

For methods that draw records, records and targets are put in one order that their content decides,
so that the same seed draws the same records however the caller's table was sorted. Records go by a
projection of what they add to the targets, then by weight, bounds and cell, and are then shuffled;
two that agree in all of these may change places, which changes nothing but which twin is kept.
Targets go by the size of
their group, group and name, small groups first (of a cross-classification the coarsest margin);
targets without names go by their support, total and sums.

Belongs here: the rewriting, both ways. Does not belong here: solving, words.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np

from calibration_core.common.digits import SUM_BITS, rounded
from calibration_core.flat.origin import Origin
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult


def standard_form(problem: CalibrationProblem, *, ordered: bool = False) -> CalibrationProblem:
    """``problem`` rewritten, with ``origin`` set; itself if that is done already.

    Parameters
    ----------
    problem : as the caller wrote it.
    ordered : put records and targets in the order of their content too, which copies the matrix.
    """
    if problem.origin is not None:
        return problem
    row, weight = problem.matrix.unit, _weight_unit(problem)
    total = row * weight
    bounds = problem.weight_bounds
    origin = Origin(row, weight)
    form = problem.change(
        matrix=problem.matrix.unitless,
        targets=problem.targets / total,
        initial_weights=_over(problem.initial_weights, weight),
        standard_errors=_over(problem.standard_errors, total),
        weight_bounds=None if bounds is None else tuple(end / weight for end in bounds),
        origin=origin,
    )
    return _in_order(form, origin) if ordered else form


def as_given(result: CalibrationResult, problem: CalibrationProblem) -> CalibrationResult:
    """A result of ``standard_form(problem)`` as one of ``problem``."""
    origin = result.problem.origin
    if origin is None or result.problem is problem:
        return result
    weights, multipliers = result.weights * origin.weight, result.multipliers
    details = result.details
    if multipliers is not None:
        multipliers = multipliers / origin.row
    if origin.record is not None:
        weights = _back(weights, origin.record)
        details = {k: _detail_back(k, v, origin.record) for k, v in details.items()}
    if origin.target is not None and multipliers is not None:
        multipliers = _back(multipliers, origin.target)
    return replace(
        result, problem=problem, weights=weights, multipliers=multipliers, details=details
    )


def _weight_unit(problem: CalibrationProblem) -> float:
    start = problem.start
    mean = float(start[start > 0].mean()) if np.isfinite(start.sum()) else float(start.max())
    return float(np.ldexp(1.0, np.frexp(mean)[1] - 1))


def _over(values: np.ndarray | None, unit) -> np.ndarray | None:
    return None if values is None else values / unit


def _back(values: np.ndarray, place: np.ndarray) -> np.ndarray:
    out = np.empty_like(values)
    out[place] = values
    return out


def _detail_back(name: str, value: Any, record: np.ndarray) -> Any:
    if name == "selected":
        return np.sort(record[value])
    if isinstance(value, np.ndarray) and value.shape == record.shape:
        return _back(value, record)
    return value


def _in_order(problem: CalibrationProblem, origin: Origin) -> CalibrationProblem:
    target = _target_order(problem)
    problem = problem.take_targets(target)
    record = _record_order(problem)
    problem = problem.take_records(record)
    return problem.change(origin=origin.take_targets(target).take_records(record))


def _target_order(problem: CalibrationProblem) -> np.ndarray:
    if problem.named:
        size = Counter(problem.groups)
        keys = [
            (size[g], g, name) for g, name in zip(problem.groups, problem.target_names, strict=True)
        ]
        return np.array(sorted(range(len(keys)), key=keys.__getitem__), dtype=np.intp)
    matrix, start = problem.matrix, problem.start
    scale = matrix.absolute_totals(start)
    scale = np.where(scale > 0, scale, 1.0)
    content = (
        matrix.squares(start) / scale**2 * float(start.sum()),
        matrix.totals(start) / scale,
        problem.targets / scale,
    )
    return np.lexsort((*(rounded(x, SUM_BITS) for x in content), matrix.support))


def _record_order(problem: CalibrationProblem) -> np.ndarray:
    """Positions of the records in the order of their content; targets are in theirs already."""
    matrix, start = problem.matrix, problem.start
    scale = matrix.absolute_totals(start) / max(float(start.sum()), 1e-300)
    scale = np.where(scale > 0, scale, 1.0)
    # Fixed numbers between one and two: two records that differ anywhere differ in their sum.
    sketch = np.random.default_rng(0).uniform(1.0, 2.0, size=matrix.targets)
    size = float(start.mean())
    values = [matrix.exponents(sketch / scale), start / size]
    values += [] if problem.q is None else [problem.q / float(problem.q.mean())]
    if problem.bounded:
        values += [np.nan_to_num(end / size, posinf=0.0, neginf=0.0) for end in problem.limits]
    keys = [rounded(x, SUM_BITS) for x in values]
    if problem.cells is not None:
        keys.append(np.unique(problem.cells, return_inverse=True)[1].ravel())
    order = np.lexsort(keys[::-1])
    # Shuffled, always in the same way: a method that breaks ties by position would otherwise take
    # records of one kind before those of the next.
    return order[np.random.default_rng(1).permutation(order.size)]
