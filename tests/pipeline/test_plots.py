"""Charts: real PNG files, honest about what they leave out, and labelled where the data are made up."""

from __future__ import annotations

import json

import polars as pl
import pytest

from pipeline.reports import plots

PNG = b"\x89PNG\r\n\x1a\n"
FIT = pl.DataFrame(
    {"level": ["state", "county", "tract", "tract"], "value": [1e6, 1e4, 100.0, 0.0], "fitted": [1.01e6, 0.9e4, 140.0, 3.0], "weight": [0.5, 2.0, 30.0, 0.0]}
)
CHARTS = {
    "scatter": lambda frame, synthetic: plots.fit_scatter(frame, "Fit", synthetic=synthetic),
    "errors": lambda frame, synthetic: plots.error_curves(frame, "Errors", synthetic=synthetic),
    "histogram": lambda frame, synthetic: plots.histogram(frame, "weight", "Weights", "weight", synthetic=synthetic),
    "bars": lambda frame, synthetic: plots.bars(frame, "level", "weight", "Bars", "weight", synthetic=synthetic),
}


@pytest.fixture
def drawn(monkeypatch) -> list[dict]:
    """The Vega-Lite documents handed to the renderer."""
    documents: list[dict] = []
    render = plots.render

    def spy(chart):
        documents.append(json.loads(chart.to_json()))
        return render(chart)

    monkeypatch.setattr(plots, "render", spy)
    return documents


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_a_png_and_its_title_tells_made_up_data(name, drawn):
    for synthetic in (True, False):
        assert CHARTS[name](FIT, synthetic).startswith(PNG)
        assert ("SYNTHETIC" in drawn[-1]["title"]["text"]) is synthetic


@pytest.mark.parametrize("name", CHARTS)
def test_a_table_without_rows_still_draws(name):
    assert CHARTS[name](FIT.clear(), False).startswith(PNG)


@pytest.mark.parametrize(
    ("name", "said"), [("scatter", "1 at zero are not shown"), ("errors", "1 targets of zero left out"), ("histogram", "1 not above zero are not shown")]
)
def test_rows_left_out_are_counted(name, said, drawn):
    CHARTS[name](FIT, False)
    assert said in drawn[-1]["title"]["subtitle"]


def test_many_targets_are_thinned_evenly_and_the_ends_stay(drawn):
    many = pl.DataFrame({"level": ["tract"] * 9000, "value": [float(i + 1) for i in range(9000)]}).with_columns(fitted=pl.col("value"))
    plots.fit_scatter(many, "Fit", synthetic=False, limit=300)
    points = next(layer for layer in drawn[-1]["layer"] if layer["mark"]["type"] == "circle")["data"]["values"]
    assert len(points) == 300
    values = [point["value"] for point in points]
    assert min(values) == 1.0
    assert max(values) > 8900
