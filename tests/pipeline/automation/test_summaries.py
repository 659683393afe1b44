"""What is told of ended runs, to the file and to a webhook that really answers."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import dagster as dg
import pytest

from pipeline.automation.history import BEGINS
from pipeline.automation.notices import WEBHOOK_VARIABLE, Notice, deliver, redacted
from pipeline.automation.summaries import SENSOR, TRIES
from pipeline.errors import DeliveryError
from pipeline.jobs import NATIONAL_INPUTS, PRODUCTION_TAG, STATES
from pipeline.settings import RunEnvironment
from tests.pipeline.automation.test_production import carry_on, look, run
from tests.pipeline.toy import toy_definitions

SECRET = "T0KEN-that-nobody-may-see"


class _Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, json.loads(body)))
        self.send_response(self.server.answer)
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def receiver():
    server = HTTPServer(("127.0.0.1", 0), _Receiver)
    server.got, server.answer = [], 200
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


def address(server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}/hooks/{SECRET}"


def log_of(environment) -> str:
    return (environment.root / "notices" / "notices.log").read_text()


def first_look(definitions, instance):
    return look(definitions, instance, sensor=SENSOR)[0].cursor


def test_the_end_of_a_production_run_names_what_failed(environment, receiver, monkeypatch):
    monkeypatch.setenv(WEBHOOK_VARIABLE, address(receiver))
    definitions = toy_definitions(environment, ("CA", "DE", "RI"), broken=("DE",))
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = first_look(definitions, instance)
        run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        carry_on(definitions, instance)
        tick, _ = look(definitions, instance, cursor, SENSOR)
        look(definitions, instance, tick.cursor, SENSOR)
    ((path, body),) = receiver.got
    assert path.endswith(SECRET)
    assert "ended with faults" in body["text"]
    assert "states made: 2 of 3" in body["text"] and "failed: DE" in body["text"]
    assert "The zip archive cannot be opened" in body["text"]
    log = log_of(environment)
    assert log.count("ended with faults") == 1
    assert log.count("succeeded") == 4 and log.count("FAILED") == 2
    assert SECRET not in log


def test_a_failure_outside_a_production_calls_and_a_success_does_not(
    environment, receiver, monkeypatch
):
    monkeypatch.setenv(WEBHOOK_VARIABLE, address(receiver))
    definitions = toy_definitions(environment, broken=("DE",))
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = first_look(definitions, instance)
        run(definitions, instance, NATIONAL_INPUTS)
        run(definitions, instance, STATES, partition="RI")
        run(definitions, instance, STATES, partition="DE")
        look(definitions, instance, cursor, SENSOR)
    ((_, body),) = receiver.got
    assert "(states, DE)" in body["text"]


def test_national_inputs_that_fail_are_told_at_once(environment, receiver, monkeypatch):
    monkeypatch.setenv(WEBHOOK_VARIABLE, address(receiver))
    definitions = toy_definitions(environment, nation_broken=True)
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = first_look(definitions, instance)
        run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        look(definitions, instance, cursor, SENSOR)
    ((_, body),) = receiver.got
    assert "A raw file is missing" in body["text"]


def test_a_webhook_that_refuses_is_given_up_after_some_tries(environment, receiver, monkeypatch):
    monkeypatch.setenv(WEBHOOK_VARIABLE, address(receiver))
    receiver.answer = 500
    definitions = toy_definitions(environment, nation_broken=True)
    with dg.DagsterInstance.ephemeral() as instance:
        cursor = first_look(definitions, instance)
        run(definitions, instance, NATIONAL_INPUTS)
        for _ in range(TRIES + 3):
            cursor = look(definitions, instance, cursor, SENSOR)[0].cursor
    assert len(receiver.got) == TRIES
    assert log_of(environment).count("FAILED") == 1
    assert SECRET not in cursor


def test_what_ended_before_the_sensor_was_turned_on_is_not_told(environment):
    definitions = toy_definitions(environment)
    with dg.DagsterInstance.ephemeral() as instance:
        run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        carry_on(definitions, instance)
        cursor = first_look(definitions, instance)
        tick, _ = look(definitions, instance, cursor, SENSOR)
    assert not (environment.root / "notices").exists()
    assert "0 told" in tick.skip_message


@pytest.mark.parametrize(
    "url",
    [
        pytest.param(f"http://127.0.0.1:9/{SECRET}", id="nobody listens"),
        pytest.param(f"http://name.invalid/{SECRET}", id="no such host"),
        pytest.param(f"ftp://127.0.0.1/{SECRET}", id="not the web"),
        pytest.param(SECRET, id="no address"),
    ],
)
def test_an_address_is_never_in_an_error(url):
    with pytest.raises(DeliveryError) as caught:
        deliver(url, Notice("something ended"))
    error = caught.value
    assert SECRET not in str(error)
    # A chained cause would bring the address into every traceback.
    assert error.__cause__ is None and error.__context__ is None


def test_only_the_host_of_an_address_is_shown():
    assert redacted(f"https://user:pw@chat.example.org/{SECRET}?key={SECRET}") == (
        "the webhook at chat.example.org"
    )
