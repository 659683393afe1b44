"""Changed raw files ask for exactly the states that read them."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg
import pytest

from pipeline.automation.changed_files import SENSOR, Content, changed_files_sensor
from pipeline.automation.history import BEGINS, FAILED_TAG, WANTED_TAG
from pipeline.automation.watched import (
    ALL_STATES,
    Looks,
    compare,
    look_at,
    states_of_changed,
    watched_files,
)
from pipeline.definitions import build_definitions
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, PRODUCTION_TAG, STATES
from pipeline.sample.generate import ensure_sample
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import load_catalog
from tests.pipeline.automation.test_production import carry_on, look, run
from tests.pipeline.toy import toy_definitions


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> RunEnvironment:
    folder = tmp_path_factory.mktemp("sample")
    environment = RunEnvironment("sample", folder, folder / "output").generated()
    ensure_sample(environment.data)
    return environment


@pytest.fixture(scope="module")
def definitions(sample) -> dg.Definitions:
    return build_definitions(load_catalog().profile("sample"), sample)


def change(path: Path) -> None:
    """Another time of change, as a new download has it."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))


def file_of(sample: RunEnvironment, *states: str) -> Path:
    """A raw file that exactly these states read; none: the nation."""
    files = watched_files(load_catalog().profile("sample"), sample.data)
    wanted = frozenset(states) or ALL_STATES
    return next(
        sample.data / n for n, s in files.items() if s == wanted and (sample.data / n).exists()
    )


def test_every_raw_file_of_the_profile_is_watched(sample):
    files = watched_files(load_catalog().profile("sample"), sample.data)
    there = {
        path.relative_to(sample.data).as_posix()
        for path in sample.data.rglob("*.*")
        if path.is_file()
    }
    watched = {name for name in files if (sample.data / name).exists()}
    # What is read of the folder, and not the generator's own marks.
    assert watched and watched <= there
    assert {frozenset({"RI"}), frozenset({"DE"}), ALL_STATES} <= set(files.values())
    assert any(name.endswith("csv_pri.zip") for name, s in files.items() if s == {"RI"})


@pytest.mark.parametrize("profile", sorted(load_catalog().profiles))
def test_the_files_of_every_profile_can_be_listed(profile, tmp_path):
    files = watched_files(load_catalog().profile(profile), tmp_path)
    assert files and all(look_at(files, tmp_path)[name] == "" for name in files)


def test_the_first_look_asks_for_nothing(sample, definitions):
    with dg.DagsterInstance.ephemeral() as instance:
        tick, requests = look(definitions, instance, sensor=SENSOR)
    assert requests == [] and "First look" in tick.skip_message


def settled_looks(definitions, instance, cursor, times: int = 2):
    """Look ``times`` times; the requests of the last."""
    for _ in range(times):
        tick, requests = look(definitions, instance, cursor, SENSOR)
        cursor = tick.cursor
    return tick, requests


def test_a_state_file_asks_for_that_state_once_it_stands_still(sample, definitions):
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = look(definitions, instance, sensor=SENSOR)[0].cursor
        change(file_of(sample, "RI"))
        tick, early = look(definitions, instance, cursor, SENSOR)
        assert early == [] and "changed" in tick.skip_message
        tick, (request,) = look(definitions, instance, tick.cursor, SENSOR)
        assert (request.job_name, request.partition_key) == (STATES, "RI")
        assert request.tags[WANTED_TAG] == "RI"
        again, none = look(definitions, instance, tick.cursor, SENSOR)
        assert none == [] and "No file changed" in again.skip_message


@pytest.mark.parametrize(
    ("changed", "nation", "stale", "asked"),
    [
        # A state's file that says what it said; one that does not.
        (("RI",), False, [], []),
        (("RI",), False, ["RI"], [(STATES, "RI")]),
        # The nation's own state is nothing to a state's file.
        (("RI",), True, [], []),
        # A national file: nothing new, some states alone, the nation.
        ((), False, [], []),
        ((), False, ["DE"], [(STATES, "DE")]),
        ((), True, ["DE", "RI"], [(NATIONAL_INPUTS, None)]),
        ((), True, [], [(NATIONAL_INPUTS, None)]),
    ],
)
def test_what_is_current_all_the_same_is_not_asked_for(
    sample, definitions, changed, nation, stale, asked
):
    profile, looked = load_catalog().profile("sample"), []

    def observed(instance, scopes):
        looked.append(list(scopes))
        return [dg.AssetObservation("raw_of_this_test")]

    content = Content(lambda instance, states: (nation, stale), observed)
    jobs = {name: definitions.resolve_job_def(name) for name in (NATIONAL_INPUTS, STATES)}
    sensor = changed_files_sensor(
        jobs, ["RI", "DE"], lambda: watched_files(profile, sample.data), sample.data, content
    )

    def tick(instance, cursor):
        context = dg.build_sensor_context(instance, cursor, definitions=definitions)
        return sensor.evaluate_tick(context)

    with dg.DagsterInstance.ephemeral() as instance:
        cursor = tick(instance, None).cursor
        change(file_of(sample, *changed))
        found = tick(instance, tick(instance, cursor).cursor)
        after = tick(instance, found.cursor)
    requests = [(r.job_name, r.partition_key) for r in found.run_requests or ()]
    assert requests == asked
    assert bool(asked) != ("same content" in (found.skip_message or ""))
    # Told to Dagster whatever is asked for, once.
    assert len(found.asset_events) == 1
    assert looked == [["nation", *(sorted(changed) or ["RI", "DE"])]]
    assert "No file changed" in after.skip_message


def test_a_national_file_begins_a_whole_production_run(sample, definitions):
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = look(definitions, instance, sensor=SENSOR)[0].cursor
        change(file_of(sample))
        change(file_of(sample, "DE"))
        _, (request,) = settled_looks(definitions, instance, cursor)
    assert request.job_name == NATIONAL_INPUTS
    assert request.tags[PRODUCTION_TAG] == BEGINS


def test_a_file_that_is_gone_asks_for_nothing_until_another_stands_there():
    known = {"a": "1:1", "b": "1:1"}
    first = compare(None, known).after
    gone = compare(first, {"a": "", "b": "1:1"})
    assert gone.changed == () and gone.gone == ("a",)
    back = compare(gone.meanwhile, {"a": "2:2", "b": "1:1"})
    assert back.settling == ("a",)
    assert compare(back.meanwhile, {"a": "2:2", "b": "1:1"}).changed == ("a",)


def test_a_file_that_keeps_growing_is_left_alone():
    looks, asked = compare(None, {"a": "1:1"}).after, []
    for size in range(2, 6):
        change_now = compare(looks, {"a": f"{size}:1"})
        asked += change_now.changed
        looks = change_now.meanwhile
    assert asked == []


def test_a_cursor_of_another_kind_is_a_first_look():
    assert Looks.from_cursor("12") is None and Looks.from_cursor(None) is None
    looks = Looks({"a": "1"}, {"a": "2"})
    assert Looks.from_cursor(looks.cursor()) == looks


def test_states_of_several_files_add_up():
    files = {"a": frozenset({"RI"}), "b": frozenset({"DE"}), "c": ALL_STATES}
    assert states_of_changed(("a", "b"), files) == {"RI", "DE"}
    assert states_of_changed(("a", "c"), files) == ALL_STATES


def test_national_tables_follow_the_states_whose_files_changed(tmp_path):
    environment = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    definitions = toy_definitions(environment, ("CA", "DE", "RI"), broken=("DE",))
    tags = {"geocal/begun_by": "changed_files", WANTED_TAG: "DE,RI", PRODUCTION_TAG: "files-1"}
    with dg.DagsterInstance.ephemeral() as instance:
        run(definitions, instance, NATIONAL_INPUTS)
        run(definitions, instance, STATES, tags, "RI")
        run(definitions, instance, STATES, tags, "DE")
        asked = carry_on(definitions, instance)
    assert [(r.job_name, r.partition_key) for r in asked] == [
        (STATES, "DE"),
        (NATIONAL_OUTPUTS, None),
    ]
    assert asked[-1].tags[FAILED_TAG] == "DE"
