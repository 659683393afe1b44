"""Every bad input: the error that names file, column, row and remedy, or the counted note; and what
was there before stays as it was.

One small SYNTHETIC sample is run once; each test damages a file, materialises the assets that meet
it, and undoes both.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from pipeline.definitions import build_definitions
from pipeline.jobs import NATIONAL_INPUTS, STATES
from pipeline.run_events import failure_message
from pipeline.runs import run_profile
from pipeline.settings import RunEnvironment, ensure_instance_home
from tests.pipeline.faults import (
    FAULTS,
    SAMPLE,
    Fault,
    apply,
    catalog_with,
    files_profile,
    restore,
    small_sample,
)

STEPS = {"microdata": ("microdata_persons", "microdata_households")}
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def stored(environment: RunEnvironment) -> dict[Path, bytes]:
    """Every file below the profile's folder but Dagster's history."""
    home = environment.dagster_home
    memory = (environment.root / "currency", environment.root / "locks")
    return {
        path: path.read_bytes()
        for path in environment.root.rglob("*")
        # Remembered digests and locks are no results.
        if path.is_file() and not {home, *memory} & set(path.parents)
    }


@dataclass
class World:
    """A finished run of Rhode Island, the raw files it was made from, and the instance that
    remembers it.
    """

    environment: RunEnvironment
    definitions: dg.Definitions
    instance: dg.DagsterInstance
    before: dict[Path, bytes]

    def materialise(
        self, asset: str, state: str, pairs: int | None = None
    ) -> dg.ExecuteInProcessResult:
        """One step of the job that holds ``asset``, for ``state`` if it is partitioned."""
        wanted = {dg.AssetKey(name) for name in STEPS.get(asset, (asset,))}
        job = next(
            j
            for j in map(self.definitions.resolve_job_def, (NATIONAL_INPUTS, STATES))
            if wanted <= set(j.asset_layer.executable_asset_keys)
        )
        config = QUIET | ({"ops": {asset: {"config": {"pairs": pairs}}}} if pairs else {})
        partition = state if job.name == STATES else None
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=list(wanted),
            partition_key=partition,
            run_config=config,
            raise_on_error=False,
        )

    def undo(self) -> None:
        for path in set(stored(self.environment)) - set(self.before):
            path.unlink()
        restore(self.before)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("bad_inputs")
    profile = files_profile()
    environment = RunEnvironment(profile.id, folder / "raw", folder / "output")
    small_sample(environment.data)
    definitions = build_definitions(profile, environment)
    outcome = run_profile(definitions, environment, ["RI"])
    assert outcome.success, outcome.jobs
    with dg.DagsterInstance.from_config(str(ensure_instance_home(environment))) as instance:
        yield World(environment, definitions, instance, stored(environment))


@pytest.fixture
def damaged(world: World, request: pytest.FixtureRequest) -> Iterator[Fault]:
    files = apply(request.param, world.environment.data, SAMPLE)
    yield request.param
    restore(files)
    world.undo()


def failures(result: dg.ExecuteInProcessResult) -> list[dg.DagsterEvent]:
    return [event for event in result.all_events if event.is_step_failure]


def faults(note: bool) -> list:
    return [pytest.param(fault, id=fault.id) for fault in FAULTS if fault.note is note]


@pytest.mark.parametrize("damaged", faults(note=False), indirect=True)
def test_a_bad_input_is_refused_by_name_and_nothing_is_overwritten(world: World, damaged: Fault):
    *upstream, last = damaged.assets
    for asset in upstream:
        assert world.materialise(asset, "RI").success
    before = stored(world.environment)
    result = world.materialise(last, "RI", damaged.pairs)
    assert not result.success
    (failure,) = failures(result)
    assert failure.step_failure_data.user_failure_data is not None, (
        "an error of another kind would show its traceback"
    )
    message = failure_message(failure)
    for words in (*damaged.says, "Where: ", "Expected: ", "What to do: "):
        assert words in message
    assert stored(world.environment) == before
    products = [
        path
        for path in world.before
        if path.parent.parent.name in {"weights", "weights_fit", "selected_pairs", "fit_report"}
    ]
    assert products
    assert all(path.read_bytes() == world.before[path] for path in products)
    if not damaged.national and not upstream and damaged.pairs is None:
        assert world.materialise(last, "DE").success, "another state's files are as they were"


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        pytest.param(3, "3 pairs are fewer than the 13 tracts of RI", id="too few"),
        pytest.param(10**9, "1,000,000,000 pairs are more than", id="too many"),
    ],
)
def test_a_number_of_pairs_that_cannot_be_kept_is_refused_before_the_dense_solve(
    world: World, pairs: int, says: str
):
    before = stored(world.environment)
    config = {"selected_pairs": {"config": {"pairs": pairs}}}
    outcome = run_profile(world.definitions, world.environment, ["RI"], state_config=config)
    failures = outcome.jobs[1].failures
    assert list(failures) == ["dense_weights"]
    assert says in failures["dense_weights"] and "--pairs" in failures["dense_weights"]
    after = stored(world.environment)
    assert all(after[path] == before[path] for path in before if "weights" in str(path))
    world.undo()


@pytest.mark.parametrize("damaged", faults(note=True), indirect=True)
def test_a_withheld_cell_is_a_counted_note_and_no_error(world: World, damaged: Fault):
    (asset,) = damaged.assets
    result = world.materialise(asset, "RI")
    assert result.success
    (made,) = [
        event.materialization for event in result.all_events if event.is_step_materialization
    ]
    notes = made.metadata["notes"].value
    for words in damaged.says:
        assert words in notes


def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str]:
    """Exit status and what ``geocal`` prints, with the profile of files among the profiles."""
    from pipeline.cli import main

    catalog = catalog_with(files_profile())
    monkeypatch.setattr("pipeline.specs.catalog.load_catalog", lambda *_: catalog)
    monkeypatch.setattr(sys, "argv", ["geocal", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return int(ended.value.code or 0), " ".join((printed.out + printed.err).split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(
            ("--profile", "nowhere"),
            ("no profile 'nowhere'", "sample", "Choose one of these"),
            id="unknown_profile",
        ),
        pytest.param(
            ("--profile", "sample_files", "--states", "RI,ZZ"),
            ("no state ZZ", "states of this profile: RI, DE", "Name states"),
            id="unknown_state",
        ),
        pytest.param(
            ("--profile", "sample_files", "--states", "VT"),
            ("no state VT", "--states"),
            id="state_of_another_profile",
        ),
    ],
)
@pytest.mark.parametrize("verb", ["run", "check"])
def test_a_name_that_is_not_known_is_refused_before_any_work(
    world, monkeypatch, capsys, verb, arguments, says
):
    places = ("--data", str(world.environment.data), "--output", str(world.environment.output))
    status, text = command(monkeypatch, capsys, verb, *arguments, *places)
    assert status == 1
    assert all(words in text for words in says)
    assert "Traceback" not in text
    assert stored(world.environment) == world.before


@pytest.mark.parametrize(
    "damaged",
    [pytest.param(f, id=f.id) for f in FAULTS if f.id == "missing_national_file"],
    indirect=True,
)
def test_the_command_stops_before_any_state_and_says_which(world, monkeypatch, capsys, damaged):
    places = ("--data", str(world.environment.data), "--output", str(world.environment.output))
    status, text = command(monkeypatch, capsys, "run", "--profile", "sample_files", *places)
    assert status == 1
    assert all(words in text for words in damaged.says)
    assert "Not started: RI, DE" in text
    assert "Traceback" not in text
    assert stored(world.environment) == world.before


@pytest.mark.parametrize(
    "damaged", [pytest.param(f, id=f.id) for f in FAULTS if f.id == "negative_count"], indirect=True
)
def test_check_finds_the_fault_and_goes_on_to_the_other_files(world, monkeypatch, capsys, damaged):
    status, text = command(
        monkeypatch,
        capsys,
        "check",
        "--profile",
        "sample_files",
        "--data",
        str(world.environment.data),
    )
    assert status == 1
    assert all(words in text for words in damaged.says)
    assert text.count("FAULTY") == 1
    assert "files are ready" in text
