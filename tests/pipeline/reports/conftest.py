"""Every chart that a test of reports draws is held against Vega-Lite's schema, since drawing leaves
altair's own check out.
"""

import pytest

from pipeline.reports import bystander_plot, chart_style, maps


@pytest.fixture(autouse=True)
def charts_hold_to_the_schema(monkeypatch):
    render = chart_style.render

    def checked(chart, *args, **kwargs):
        chart.to_json(validate=True)
        return render(chart, *args, **kwargs)

    for module in (bystander_plot, maps):
        monkeypatch.setattr(module, "render", checked)
