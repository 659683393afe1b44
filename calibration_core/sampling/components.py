"""What a balanced draw holds: the strongest principal components of what its open units add.

The variables of an area are many (239 in Rhode Island) and the units to draw few (60), so a draw
cannot hold them all. So it holds the leading eigenvectors of the covariance of what a unit adds:
holding these reduces the sum of squared errors most. Each unit counts by p (1 - p), as the variance
of its draw does, and cells are taken out since their counts are held anyway.

They are found by orthogonal iteration (Golub and Van Loan, Matrix Computations, 4th ed. 2013,
section 8.2.4) from the rows of a Cholesky factorisation with pivoting, which spans nearly the same
space. No library of linear algebra is used: sums are taken in one order, so that the same numbers
give the same bits on every processor, and the units drawn do not depend on it.

Belongs here: those components. Does not belong here: the flight that holds them (``flight.py``).
"""

from __future__ import annotations

import math

import numpy as np

from calibration_core.common.compiled import loop, part
from calibration_core.common.lists import Lists

# Components with less than this share of the largest variance are rounding.
_NO_VARIANCE = 1e-10
# Variance below this share of the squared mean is rounding too: it is a difference of squares.
_CONSTANT = 1e-13
# Steps of the iteration. Errors of draws are the same with 2 and with 10 (Delaware of the sample).
_STEPS = 2


@loop
def components(
    added: Lists, variables: int, probability: np.ndarray, cell: np.ndarray, alike: bool, held: int
) -> np.ndarray:
    """(units, components) float64, strongest first, the largest entry of each 1.

    Parameters
    ----------
    added : (units, variables): what a drawn unit adds, in units of error, as lists.
    probability : (units,) float64 in (0, 1).
    cell : (units,) int64 >= 0.
    alike : each variable counts in units of its own standard deviation.
    held : components wanted; fewer come out where fewer vary.
    """
    n, f = probability.size, variables
    mean, sums = _means(added, f, probability, cell)
    gram = _gram(added, probability, cell, sums)
    factor, largest_mean = np.ones(f), 0.0
    for v in range(f):
        if alike:
            varies = gram[v, v] > _CONSTANT * n * mean[v] * mean[v]
            factor[v] = 1.0 / math.sqrt(gram[v, v]) if varies else 0.0
        largest_mean = max(largest_mean, abs(mean[v]) * factor[v])
    for v in range(f):
        for u in range(f):
            gram[v, u] *= factor[v] * factor[u]
    axes = _pivoted(gram, min(held, f, n), _CONSTANT * n * largest_mean * largest_mean)
    _orthonormal(axes)
    for _ in range(_STEPS):
        axes = _times(axes, gram)
        _orthonormal(axes)
    return _scores(added, mean, factor, axes)


@part
def _means(added, variables, probability, cell):
    """Mean of each variable, and of each cell's, (cells, variables), by p (1 - p)."""
    n, f = probability.size, variables
    kinds = cell.max() + 1 if n else 0
    heft, sums, mean = np.zeros(kinds), np.zeros((kinds, f)), np.zeros(f)
    for i in range(n):
        spread = probability[i] * (1.0 - probability[i])
        heft[cell[i]] += spread
        here = sums[cell[i]]
        for m in range(added.ends[i], added.ends[i + 1]):
            mean[added.column[m]] += added.entry[m]
            here[added.column[m]] += spread * added.entry[m]
    for v in range(f):
        mean[v] /= n
        for c in range(kinds):
            if heft[c] > 0:
                sums[c, v] /= heft[c]
    return mean, sums


@part
def _gram(added, probability, cell, sums):
    """x'x of the deviations x from the cell's mean times the root of p (1 - p): squares of what
    units add, which is mostly nothing, less those of the means. Squares of 1,700 units with 56 of
    424 variables take 3.1 ms along lists, and 7.4 in rows of which zeros are left out."""
    f = sums.shape[1]
    out, less = np.zeros((f, f)), np.zeros(sums.shape[0])
    for i in range(probability.size):
        heft, end = probability[i] * (1.0 - probability[i]), added.ends[i + 1]
        less[cell[i]] -= heft
        for m in range(added.ends[i], end):
            x, row = heft * added.entry[m], out[added.column[m]]
            for k in range(m, end):
                row[added.column[k]] += x * added.entry[k]
    for c in range(sums.shape[0]):
        for v in range(f):
            x = less[c] * sums[c, v]
            if x != 0.0:
                for u in range(v, f):
                    out[v, u] += x * sums[c, u]
    for v in range(f):
        for u in range(v):
            out[v, u] = out[u, v]
    return out


@part
def _pivoted(gram, held, least):
    """(components, variables): rows of a Cholesky factor, the variable with most variance left
    first; of variables that differ by rounding the first."""
    f = gram.shape[0]
    rows, left = np.zeros((held, f)), np.empty(f)
    for v in range(f):
        left[v] = gram[v, v]
    count, best = 0, 0.0
    while count < held:
        pivot = 0
        for v in range(f):
            if left[v] > left[pivot] * (1.0 + 1e-9):
                pivot = v
        best = max(best, left[pivot])
        if left[pivot] <= max(least, _NO_VARIANCE * best):
            break
        row, root = rows[count], math.sqrt(left[pivot])
        for u in range(f):
            row[u] = gram[pivot, u]
        for c in range(count):
            part = rows[c, pivot]
            for u in range(f):
                row[u] -= part * rows[c, u]
        for u in range(f):
            row[u] /= root
            left[u] -= row[u] * row[u]
        left[pivot] = 0.0
        count += 1
    return rows[:count].copy()


@part
def _orthonormal(rows):
    """Gram and Schmidt in place, each row twice against those before it."""
    count, f = rows.shape
    for c in range(count):
        row = rows[c]
        for _ in range(2):
            for other in range(c):
                part = _dot(row, rows[other])
                for u in range(f):
                    row[u] -= part * rows[other, u]
        size = math.sqrt(_dot(row, row))
        for u in range(f):
            row[u] = row[u] / size if size > 0.0 else 0.0


@part
def _dot(a, b):
    """Four sums beside each other, always in the same order."""
    n = a.size - a.size % 4
    s, t, u, v = 0.0, 0.0, 0.0, 0.0
    for i in range(0, n, 4):
        s += a[i] * b[i]
        t += a[i + 1] * b[i + 1]
        u += a[i + 2] * b[i + 2]
        v += a[i + 3] * b[i + 3]
    for i in range(n, a.size):
        s += a[i] * b[i]
    return (s + t) + (u + v)


@part
def _times(rows, matrix):
    """rows @ matrix, four rows of ``matrix`` at a time."""
    out, last = np.zeros((rows.shape[0], matrix.shape[1])), rows.shape[1] - rows.shape[1] % 4
    for c in range(rows.shape[0]):
        for v in range(0, last, 4):
            p, q, r, s = rows[c, v], rows[c, v + 1], rows[c, v + 2], rows[c, v + 3]
            for u in range(matrix.shape[1]):
                out[c, u] += (p * matrix[v, u] + q * matrix[v + 1, u]) + (
                    r * matrix[v + 2, u] + s * matrix[v + 3, u]
                )
        for v in range(last, rows.shape[1]):
            for u in range(matrix.shape[1]):
                out[c, u] += rows[c, v] * matrix[v, u]
    return out


@part
def _scores(added, mean, factor, axes):
    """What each unit adds along each axis, the largest of an axis 1."""
    n, f = added.ends.size - 1, mean.size
    turned, out = np.empty((f, axes.shape[0])), np.empty((n, axes.shape[0]))
    for v in range(f):
        for c in range(axes.shape[0]):
            turned[v, c] = factor[v] * axes[c, v]
    middle = np.zeros(axes.shape[0])
    for v in range(f):
        for c in range(axes.shape[0]):
            middle[c] += mean[v] * turned[v, c]
    for i in range(n):
        some = slice(added.ends[i], added.ends[i + 1])
        _add_turned(out[i], added.column[some], added.entry[some], turned, middle)
    for c in range(axes.shape[0]):
        largest = 0.0
        for i in range(n):
            largest = max(largest, abs(out[i, c]))
        for i in range(n):
            out[i, c] = out[i, c] / largest if largest > 0.0 else 0.0
    return out


@part
def _add_turned(out, column, entry, turned, middle):
    """A row of entries times ``turned`` less ``middle``, four entries at a time."""
    for c in range(out.size):
        out[c] = -middle[c]
    last = column.size - column.size % 4
    for k in range(0, last, 4):
        p, q = turned[column[k]], turned[column[k + 1]]
        r, s = turned[column[k + 2]], turned[column[k + 3]]
        a, b, c, d = entry[k], entry[k + 1], entry[k + 2], entry[k + 3]
        for u in range(out.size):
            out[u] += (a * p[u] + b * q[u]) + (c * r[u] + d * s[u])
    for k in range(last, column.size):
        a, p = entry[k], turned[column[k]]
        for u in range(out.size):
            out[u] += a * p[u]
