"""The method of a profile: the core's settings by the core's names, over the numbers
of the file.
"""

from __future__ import annotations

import re
from dataclasses import fields

import pytest
import yaml
from pydantic import ValidationError

from calibration_core.tree.result import TreeNewtonSettings
from calibration_core.tree.select.settings import SelectionSettings
from calibration_core.tree.select.weight_limits import WeightLimits
from pipeline.errors import SpecError
from pipeline.specs.base import SPEC_ROOT, load_yaml
from pipeline.specs.catalog import load_catalog
from pipeline.specs.method import METHOD_FILE, Limits, Method, PairSelection, TreeNewton
from pipeline.specs.profiles import Profile

TEXT = (SPEC_ROOT / METHOD_FILE).read_text()
STATED = yaml.safe_load(TEXT)


@pytest.fixture
def profile_with(tmp_path):
    """The sample profile's file with a ``method`` of its own, in a folder of specs of its own."""

    def load(method: dict | None, defaults: str = TEXT) -> Profile:
        (tmp_path / "profiles").mkdir(exist_ok=True)
        (tmp_path / METHOD_FILE).write_text(defaults)
        content = yaml.safe_load((SPEC_ROOT / "profiles" / "sample.yaml").read_text())
        content.pop("method", None)
        content |= {} if method is None else {"method": method}
        path = tmp_path / "profiles" / "sample.yaml"
        path.write_text(yaml.safe_dump(content))
        return load_yaml(path, Profile)

    return load


@pytest.mark.parametrize(
    ("spec", "settings"),
    [(TreeNewton, TreeNewtonSettings), (PairSelection, SelectionSettings), (Limits, WeightLimits)],
)
def test_keys_and_defaults_are_those_of_the_core(spec, settings):
    stated = {each.name: each.default for each in fields(settings) if each.name not in spec.given}
    assert {
        name: f.default for name, f in spec.model_fields.items() if not f.is_required()
    } == stated
    assert spec().settings(**spec.given) == settings(**spec.given)


def test_every_number_of_the_file_reaches_the_core():
    method = load_catalog().profile("sample").method
    for part in ("dense", "refine", "selection", "limits"):
        spec = getattr(method, part)
        built = spec.settings(**spec.given)
        for name, number in STATED[part].items():
            found = getattr(built, name)
            assert found == (tuple(number) if isinstance(number, list) else number), (part, name)


def test_every_number_of_the_file_says_what_it_rests_on():
    """Each key under which numbers stand has a comment of its own above it."""
    silent, commented = [], False
    for line in TEXT.splitlines():
        if line.strip().startswith("#"):
            commented = True
        elif re.match(r"\s*\w+: *\S", line) and not re.match(r"\s*\w+: *$", line):
            silent += [] if commented else [line.strip()]
            commented = False
        else:
            commented = False
    assert not silent


def test_a_profile_states_what_differs_and_no_more(profile_with):
    plain = profile_with(None).method
    assert plain == load_catalog().profile("sample").method
    changed = profile_with({"selection": {"rounds": 1}, "limits": {"smallest": 2.0}}).method
    assert changed.selection.rounds == 1 and changed.limits.smallest == 2.0
    assert changed.selection.candidates == plain.selection.candidates
    assert changed.limits.largest_share == plain.limits.largest_share
    assert (changed.dense, changed.refine) == (plain.dense, plain.refine)
    floors = profile_with({"scale": {"relative_floor": {"tract": 0.01}}}).method.scale
    assert floors.relative_floor == {**plain.scale.relative_floor, "tract": 0.01}


def test_a_folder_of_specs_has_its_own_numbers(profile_with):
    other = TEXT.replace("anchor_strength: 0.25", "anchor_strength: 0.5")
    assert profile_with(None, other).method.anchor_strength == 0.5


@pytest.mark.parametrize(
    ("method", "said"),
    [
        pytest.param({"tau_path": [1.0]}, "`tau_path` is now `method.dense.tau_path`", id="tau"),
        pytest.param(
            {"refine_tau_path": [1.0]}, "is now `method.refine.tau_path`", id="refine tau"
        ),
        pytest.param({"ratio_bounds": [0, 2]}, "is now `method.refine.ratio_bounds`", id="bounds"),
        pytest.param({"weight_limits": {}}, "is now `method.limits`", id="limits"),
        pytest.param({"tract_target_share": 0.9}, "`method.dense_share.finest`", id="share"),
        pytest.param({"relative_scale_floor": {}}, "`method.scale.relative_floor`", id="floor"),
        pytest.param({"selection": {"allocation": "equal"}}, "`method.selection.rule`", id="rule"),
        pytest.param(
            {"selection": {"candidates_per_pair": 4}}, "`method.selection.candidates`", id="some"
        ),
        pytest.param(
            {"selection": {"anchor_strength": 0}}, "`method.anchor_strength`", id="anchor"
        ),
    ],
)
def test_a_key_of_an_earlier_version_is_refused_by_its_present_name(profile_with, method, said):
    with pytest.raises(SpecError, match=re.escape(said)):
        profile_with(method)


@pytest.mark.parametrize(
    ("method", "said"),
    [
        pytest.param({"dense": {"tau_path": [0.1, 1.0]}}, "strictly decreasing", id="tau rises"),
        pytest.param({"dense": {"tau_path": []}}, "strictly decreasing", id="no tau"),
        pytest.param({"selection": {"design": "dice"}}, "one of cube", id="design"),
        pytest.param({"selection": {"rounds": -1}}, "0 or more", id="rounds"),
        pytest.param({"selection": {"pairs": 60}}, "selection", id="k is no number of the method"),
        pytest.param({"selection": {"seed": 1}}, "selection.seed", id="nor is the seed"),
        pytest.param({"limits": {"largest_share": 1.5}}, "at most 1", id="limits"),
        pytest.param({"dense": {"tolerence": 1e-3}}, "dense.tolerence", id="a slip of the pen"),
        pytest.param({"dense_share": {"finest": 2}}, "dense_share.finest", id="share"),
        pytest.param({"tau": 1}, "method.tau", id="unknown"),
        pytest.param({"dense": {"stop": "guess"}}, "one of share", id="rule of tau"),
        pytest.param({"goals": "prior"}, "method.goals", id="goals"),
        pytest.param([1], "method", id="a list"),
    ],
)
def test_a_number_the_core_would_refuse_is_refused_with_file_and_key(profile_with, method, said):
    with pytest.raises(SpecError, match=re.escape(said)) as refused:
        profile_with(method)
    assert "sample.yaml" in str(refused.value)


def test_a_faulty_method_file_is_named(profile_with):
    with pytest.raises(SpecError, match="tau_path") as refused:
        profile_with(None, TEXT.replace("[1.0, 0.3, 0.1, 0.03, 0.01]", "[0.1, 1.0]"))
    assert METHOD_FILE in str(refused.value)


def test_the_model_itself_is_strict_and_frozen():
    method = Method.model_validate(STATED)
    with pytest.raises(ValidationError):
        method.anchor_strength = 1.0
    with pytest.raises(ValidationError):
        Method.model_validate({k: v for k, v in STATED.items() if k != "dense"})
