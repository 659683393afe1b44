"""Is this row a count? Asked once, whatever the unit, and however the matrix is stored.

Belongs here: ``common/counts.py``. Does not belong here: what follows from the answer.
"""

import numpy as np
import pytest
from scipy import sparse

from calibration_core.common.counts import LARGEST_COUNT, is_count, split_rows, split_units
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.tree.rivals.cross_category import count_rows

ROWS = {
    "indicator": ([0, 1, 1, 0], True),
    "persons": ([0, 3, 1, 2], True),
    "the largest household": ([1, LARGEST_COUNT, 0, 2], True),
    "more than any household": ([1, LARGEST_COUNT + 1, 0, 2], False),
    "a benefit that is the same for all": ([0, 250, 250, 0], True),
    "pairs": ([0, 2, 4, 2], True),
    "income": ([0, 31_250.0, 17_003.5, 40.0], False),
    "halves": ([0.5, 1.5, 1.0, 0.0], True),
    "thirds of nothing common": ([1.0, np.pi, 2.0, 0.0], False),
    "signed": ([1, -1, 0, 1], False),
    "nothing": ([0, 0, 0, 0], False),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("unit", [1.0, 1e-12, 1e-8, 1e-3, 1 / 3, 7.0, 1e8, 1e12])
def test_a_row_is_a_count_in_every_unit(name, unit):
    row, wanted = ROWS[name]
    values = np.array(row, float) * unit
    assert is_count(values) == wanted
    assert (count_rows(values[:, None]).tolist() == [0]) == wanted


def matrix(seed=0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    rows = [
        rng.random(40) < 0.5,
        rng.integers(0, 5, 40) * 1e-3,
        np.exp(rng.normal(size=40) * 3) * 1e7,
        np.zeros(40),
        rng.choice([-2.0, 0.0, 2.0], 40),
        np.full(40, 0.1),
        rng.normal(size=40) * 1e-9,
    ]
    return np.array(rows, float)


FORMS = {
    "dense": np.asarray,
    "fortran": np.asfortranarray,
    "csr": sparse.csr_array,
    "csc": sparse.csc_array,
    "coo": sparse.coo_array,
    "unsorted": lambda a: _unsorted(sparse.csr_array(a)),
    "explicit zeros": lambda a: _with_zeros(sparse.csr_array(a)),
    "int": lambda a: sparse.csr_array(np.round(a * 0 + (a != 0)).astype(int)),
}


def _unsorted(x):
    """The entries of every row in descending order of their columns."""
    y = x.copy()
    for j in range(x.shape[0]):
        span = slice(x.indptr[j], x.indptr[j + 1])
        y.indices[span], y.data[span] = x.indices[span][::-1], x.data[span][::-1]
    y.has_sorted_indices = False
    return y


def _with_zeros(x):
    rows, columns = np.nonzero(x.toarray() == 0)
    i, j = x.coords if hasattr(x, "coords") else x.nonzero()
    data = np.concatenate([x.toarray()[i, j], np.zeros(rows.size)])
    return sparse.csr_array((data, (np.r_[i, rows], np.r_[j, columns])), shape=x.shape)


@pytest.mark.parametrize("form", FORMS)
def test_units_do_not_hang_on_how_a_matrix_is_stored(form):
    given = FORMS[form](matrix())
    dense = given.toarray() if sparse.issparse(given) else given
    before = dense.copy()
    found, plain = DesignMatrix(given), DesignMatrix(np.array(dense, float))
    np.testing.assert_array_equal(found.unit, plain.unit)
    np.testing.assert_array_equal(found.counts, plain.counts)
    np.testing.assert_array_equal(found.indicators, plain.indicators)
    stored = found.stored.toarray() if found.is_sparse else found.stored
    np.testing.assert_array_equal(stored, plain.stored)
    np.testing.assert_allclose(found.target_major() @ np.eye(40), before, rtol=1e-15)
    np.testing.assert_array_equal(given.toarray() if sparse.issparse(given) else given, before)


def test_stored_entries_lie_between_one_and_two_or_are_whole():
    found = DesignMatrix(matrix())
    most = np.abs(found.stored).max(axis=0)
    amounts = ~found.counts & (most > 0) & (found.unit != 2.0)
    assert ((most[amounts] >= 1.0) & (most[amounts] < 2.0)).all()
    counts = found.stored[:, found.counts]
    np.testing.assert_array_equal(counts, np.round(counts))
    power = np.frexp(found.unit[amounts])[0]
    assert (power == 0.5).all(), "powers of two change no bit"


def test_what_is_not_finite_is_left_for_the_caller_to_name():
    bad = np.array([[1.0, np.nan], [2.0, np.inf]])
    assert np.isnan(split_units(bad.T.copy()).unit).any()
    x = sparse.csr_array(bad)
    assert np.isnan(split_rows(x.data.copy(), x.indptr).unit).any()


def test_products_are_those_of_the_matrix_as_given():
    a = matrix()
    found = DesignMatrix(a)
    rng = np.random.default_rng(1)
    w, y = rng.uniform(size=40), rng.normal(size=7) / np.maximum(np.abs(a).max(axis=1), 1e-3)
    np.testing.assert_allclose(found.totals(w), a @ w, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(found.exponents(y), a.T @ y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.gram(w), (a * w) @ a.T, rtol=1e-12)
    size = np.sqrt(np.maximum((a**2) @ w, 1e-300))
    rough = found.gram(w, single=True) / size / size[:, None]
    np.testing.assert_allclose(rough, ((a * w) @ a.T) / size / size[:, None], atol=1e-5)
    np.testing.assert_allclose(found.squares(w), (a**2) @ w, rtol=1e-13)
    np.testing.assert_allclose(found.absolute_totals(w), np.abs(a) @ w, rtol=1e-13)
    part = found.take_targets([2, 1]).take_records(np.array([5, 3]))
    np.testing.assert_allclose(part.target_major(), a[[2, 1]][:, [5, 3]], rtol=1e-15)
    np.testing.assert_allclose(found.row(2), a[2], rtol=1e-15)
    blocks = np.concatenate([block for _, block in found.blocks()])
    np.testing.assert_allclose(blocks, a.T, rtol=1e-15)
    assert found.unitless.stored is found.stored
