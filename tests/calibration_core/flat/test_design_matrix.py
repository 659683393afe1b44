"""The matrix gives the same figures in every form it can be given in, belongs to nobody else, and
refuses what is not a matrix.
"""

import numpy as np
import pytest
from scipy import sparse

from calibration_core.errors import ProblemError
from calibration_core.flat.design_matrix import DesignMatrix

FORMS = {
    "dense": np.array,
    "fortran": np.asfortranarray,
    "csr": sparse.csr_array,
    "csc": sparse.csc_array,
    "coo": sparse.coo_array,
    "old csc": sparse.csc_matrix,
    "float32": lambda a: a.astype(np.float32),
}


def dense(targets=7, records=300, density=0.4, seed=0):
    rng = np.random.default_rng(seed)
    values = np.round(rng.normal(size=(targets, records)) * 8) / 4
    return values * (rng.random((targets, records)) < density)


@pytest.mark.parametrize("form", FORMS)
def test_every_product_is_that_of_the_dense_matrix(form):
    a, rng = dense(), np.random.default_rng(1)
    w, y, index = rng.random(300), rng.normal(size=7), np.array([5, 0, 3])
    x = DesignMatrix(FORMS[form](a))
    np.testing.assert_allclose(x.totals(w), a @ w, rtol=1e-12)
    np.testing.assert_allclose(x.exponents(y), a.T @ y, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(x.gram(w), (a * w) @ a.T, rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(x.squares(w), (a**2) @ w, rtol=1e-12)
    np.testing.assert_allclose(x.absolute_totals(w), np.abs(a) @ w, rtol=1e-12)
    np.testing.assert_array_equal(x.support, (a != 0).sum(axis=1))
    np.testing.assert_array_equal(x.row(4), a[4])
    np.testing.assert_array_equal(np.vstack([block for _, block in x.blocks()]), a.T)
    major = x.target_major()
    np.testing.assert_array_equal(major.toarray() if x.is_sparse else major, a)
    np.testing.assert_allclose(x.take_targets(index).totals(w), a[index] @ w, rtol=1e-12)
    np.testing.assert_allclose(
        x.take_records(index).gram(w[index]),
        (a[:, index] * w[index]) @ a[:, index].T,
        rtol=1e-12,
        atol=1e-12,
    )
    assert x.is_sparse == (form in ("csr", "csc", "coo", "old csc"))


def test_the_sparse_and_the_blocked_square_agree():
    """Very sparse rows take the sparse product, others blocks of dense records; both are A diag(s)
    A'.
    """
    a = dense(targets=60, records=2_000, density=0.01)
    x, scale = DesignMatrix(sparse.csr_array(a)), np.random.default_rng(2).random(2_000)
    assert x._sparse_is_cheaper and not DesignMatrix(sparse.csr_array(dense())).__dict__.get(
        "_sparse_is_cheaper", False
    )
    np.testing.assert_allclose(x.gram(scale), DesignMatrix(a).gram(scale), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_what_the_caller_does_to_the_matrix_later_changes_nothing(form):
    a = FORMS[form](dense())
    x = DesignMatrix(a)
    before = x.totals(np.ones(300))
    (a.data if sparse.issparse(a) else a)[:] = 7.0
    np.testing.assert_array_equal(x.totals(np.ones(300)), before)


def test_duplicate_entries_are_summed_and_the_callers_matrix_is_left_alone():
    a = sparse.csc_matrix(
        (np.array([1.0, 2.0, 3.0]), np.array([0, 0, 1]), np.array([0, 2, 3])), shape=(2, 2)
    )
    x = DesignMatrix(a)
    np.testing.assert_array_equal(x.totals(np.ones(2)), [3.0, 3.0])
    np.testing.assert_array_equal(x.support, [1, 1])
    assert a.nnz == 3


def test_it_cannot_be_written_to():
    for a in (dense(), sparse.csr_array(dense())):
        x = DesignMatrix(a)
        for part in (x, x.take_targets(np.arange(3)), x.take_records(np.arange(3))):
            values = part.by_record.data if part.is_sparse else part.by_record
            with pytest.raises(ValueError, match="read-only"):
                values[:] = 0.0


@pytest.mark.parametrize("make", [np.array, sparse.csr_array])
def test_the_place_of_a_bad_entry_is_named(make):
    a = dense()
    a[3, 17] = np.nan
    with pytest.raises(
        ProblemError, match=r"1 of 2,100 matrix entries is NaN.*target 3 \(row\), record 17"
    ):
        DesignMatrix(make(a))
    a[5, 2] = np.inf
    with pytest.raises(ProblemError, match="2 of 2,100 matrix entries are"):
        DesignMatrix(make(a))


@pytest.mark.parametrize(
    ("matrix", "says"),
    [
        (np.array([["a", "b"]]), "type <U1"),
        (np.array([[1 + 2j]]), "type complex128"),
        (sparse.csr_array(np.array([[1 + 2j]])), "type complex128"),
        (np.ones(3), "For a single target"),
        (np.ones((2, 2, 2)), "two dimensions"),
        ([[1, 2], [3]], "not rectangular"),
        (None, "type object"),
    ],
)
def test_what_is_not_a_matrix_is_refused_in_words(matrix, says):
    with pytest.raises(ProblemError, match=says):
        DesignMatrix(matrix)
