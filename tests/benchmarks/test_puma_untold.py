"""What the benchmark of PUMAs says of figures made by hand."""

import numpy as np
import polars as pl
import pytest

from benchmarks.puma_untold import summary, totals_by_puma
from calibration_core.common.area_weights import TableWeights


def test_totals_are_sums_over_the_areas_of_a_puma():
    weights = TableWeights(np.array([[1.0, 2.0], [0.0, 3.0], [4.0, 0.0]]))
    values = np.array([[1.0, 10.0], [2.0, 0.0]])
    found = totals_by_puma(weights, np.array([0, 1, 0]), values)
    # PUMA 0 holds areas 0 and 2: units weigh 5 and 2; PUMA 1 holds area 1: 0 and 3.
    assert found.tolist() == [[9.0, 50.0], [6.0, 0.0]]


def test_a_line_says_which_of_two_figures_is_nearer_and_what_a_mixture_gains():
    found = pl.DataFrame(
        {
            "truth": [1000.0, 1000.0],
            "survey": [1200.0, 1200.0],
            "dense": [900.0, 900.0],
            "selected": [950.0, 1150.0],
            "standard_error": [100.0, 150.0],
        }
    )
    line = summary(found)
    assert line["survey"] == pytest.approx(20.0)
    assert line["dense"] == pytest.approx(10.0)
    assert line["selected"] == pytest.approx(10.0)
    assert line["nearer"] == 100.0
    # 3 and 2 standard errors apart.
    assert line["apart"] == pytest.approx(np.sqrt((9.0 + 4.0) / 2.0))
    # A third of the survey's figure would be the truth.
    assert line["of survey"] == pytest.approx(35.0)
    assert line["blend"] == pytest.approx(0.5)
