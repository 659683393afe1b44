"""``geocal map`` as a shell sees it, on a stored result of two counties."""

from __future__ import annotations

import json

import polars as pl
import pytest

from tests.pipeline.release.result import environment_at, put, tracts_of, write_result


@pytest.fixture
def output(tmp_path):
    """A result with the table that measures variables, and one with names of counties."""
    environment = write_result(tmp_path)
    records = [f"RI{n:03d}" for n in range(40)]
    units = pl.DataFrame({"household_id": records}).with_columns(
        pl.lit(2.0).alias("persons|total"), pl.lit(0.5).alias("persons|veteran")
    )
    put(environment, "candidate_units", "RI", units, {})
    names = pl.DataFrame(
        {"level": ["county"] * 2, "geoid": ["44001", "44003"], "name": ["Kent County", "Bristol"]}
    )
    put(environment, "pep_counties", None, names, {})
    return ("--output", str(tmp_path))


def test_the_fit_and_a_variable(tmp_path, output, invoke):
    status, said, _ = invoke("map", "ri", str(tmp_path / "fit.svg"), *output)
    svg = (tmp_path / "fit.svg").read_text()
    assert status == 0 and "Fit of RI" in said
    assert "Fit of RI · SYNTHETIC" in svg and "Kent" in svg and "Bristol" in svg
    share = ("--variable", "persons/veteran", "--per", "persons/total")
    status, said, _ = invoke("map", "RI", str(tmp_path / "v.png"), *share, *output)
    assert status == 0 and (tmp_path / "v.png").read_bytes()[:4] == b"\x89PNG"
    status, _, wrong = invoke("map", "RI", str(tmp_path / "w.png"), "--variable", "a/b", *output)
    assert status == 1 and "No record of the state measures a/b" in wrong
    assert not (tmp_path / "w.png").exists()


def test_boundaries_from_a_file(tmp_path, output, invoke):
    ring = [[0.0, 41.0], [1.0, 41.0], [1.0, 42.0], [0.0, 41.0]]
    features = [
        {
            "type": "Feature",
            "properties": {"GEOID": tract},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
        for tract in tracts_of("RI")
    ]
    file = tmp_path / "ri.geojson"
    file.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    picture = tmp_path / "fit.svg"
    status, _, wrong = invoke("map", "RI", str(picture), "--boundaries", str(file), *output)
    assert status == 0, wrong
    assert "Tracts: mean error" in picture.read_text()
    status, _, wrong = invoke("map", "DE", str(picture), "--boundaries", str(file), *output)
    assert status == 1 and "None of the state's areas" in wrong


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["fit.gif"], "ending in .png, .svg, .html", id="ending"),
        pytest.param(["no/where/fit.png"], "in a folder that exists", id="folder"),
        pytest.param(["f.png", "--fit", "--variable", "a/b"], "exclude each other", id="both"),
        pytest.param(["f.png", "--per", "a/b"], "which is not named", id="per-what"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_any_work(
    tmp_path, invoke, monkeypatch, options, words
):
    monkeypatch.chdir(tmp_path)
    status, _, wrong = invoke("map", "RI", *options, "--output", str(environment_at(tmp_path).root))
    assert status == 1 and words in wrong and list(tmp_path.iterdir()) == []
