"""What a result tells is in its materialization, and in no second place of the run's record."""

import dagster as dg
import pytest

from pipeline.assets.common import inline_picture, permanent, permanent_tables
from pipeline.errors import SourceFileError

PICTURES = {"svg+xml": b"<svg>a</svg>", "png": b"\x89PNG\r\n\x1a\nabc"}
STATES = dg.StaticPartitionsDefinition(["DE", "RI"])


def told(name: str) -> dict:
    return {"rows": 3, "plot": inline_picture(PICTURES["png"], name), "worst": {"a": [1.5]}}


@dg.asset(partitions_def=STATES)
@permanent
def one(context: dg.AssetExecutionContext):
    return dg.MaterializeResult(value=1, metadata=told("one"))


@dg.multi_asset(
    can_subset=True, outs={name: dg.AssetOut(is_required=False) for name in ("left", "right")}
)
@permanent_tables
def several(context: dg.AssetExecutionContext):
    return [
        dg.MaterializeResult(asset_key=name, value=name, metadata=told(name))
        for name in ("left", "right")
    ]


@dg.asset
@permanent
def silent(context: dg.AssetExecutionContext):
    return dg.MaterializeResult(value=0)


@dg.asset
@permanent
def broken(context: dg.AssetExecutionContext):
    raise SourceFileError("No file", where="a.csv", expected="a file", remedy="Download it")


@pytest.mark.parametrize(
    ("asset", "chosen", "partition"),
    [
        pytest.param(one, ["one"], "RI", id="an asset of a state"),
        pytest.param(several, ["left", "right"], None, id="several tables"),
        pytest.param(several, ["right"], None, id="one of several"),
    ],
)
def test_metadata_is_told_to_the_materialization_alone(asset, chosen, partition):
    result = dg.materialize([asset], selection=chosen, partition_key=partition)
    made = {
        event.asset_key.to_user_string(): event.step_materialization_data.materialization
        for event in result.all_events
        if event.is_step_materialization
    }
    assert sorted(made) == chosen
    for name, materialization in made.items():
        assert materialization.partition == partition
        shown = {key: value.value for key, value in materialization.metadata.items()}
        expected = {key: getattr(v, "value", v) for key, v in told(name).items()}
        assert {key: shown[key] for key in expected} == expected
    outputs = [event for event in result.all_events if event.is_successful_output]
    assert outputs and not any(event.step_output_data.metadata for event in outputs)


def test_a_result_that_tells_nothing_is_stored_as_well():
    result = dg.materialize([silent])
    assert result.output_for_node("silent") == 0


def test_a_failure_tells_its_answers_as_before():
    result = dg.materialize([broken], raise_on_error=False)
    (event,) = [event for event in result.all_events if event.is_step_failure]
    failure = event.step_failure_data.user_failure_data
    assert failure.metadata["remedy"].value == "Download it" and "No file" in failure.description


@pytest.mark.parametrize("kind", PICTURES)
def test_a_picture_says_what_it_is(kind):
    value = inline_picture(PICTURES[kind], "Fit").value
    assert value.startswith(f"![Fit](data:image/{kind};base64,") and value.endswith(")")
