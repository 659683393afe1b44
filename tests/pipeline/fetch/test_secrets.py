"""Keys and passwords reach the publisher or the proxy, and no file, log or message."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.fetch_faults import PAGE, QUICK, TABLE
from benchmarks.loopback import says, whole
from pipeline.errors import DownloadError
from pipeline.fetch.network import HIDDEN, MIRROR_VARIABLE, Network
from pipeline.specs.addresses import saved_as
from pipeline.specs.download import HostRule
from pipeline.specs.sources import SourceSpec, load_source
from tests.pipeline.fetch.conftest import Silent

KEY = "5ecret+key/of=mine"
RULE = HostRule(
    key_parameter="key", key_variable="CENSUS_API_KEY", key_from="https://census.example/sign"
)
WANTS_KEY = QUICK.model_copy(update={"hosts": {"127.0.0.1": RULE}})


@pytest.fixture
def api(publisher, wanted):
    """The wanted file at an address of the publisher itself, which wants a key."""
    return replace(wanted, file=replace(wanted.file, url=f"{publisher.address}/api?get=group(P1)"))


def everything_written(folder: Path) -> str:
    return "".join(p.read_text(errors="replace") for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([whole(TABLE)], id="the file"),
        pytest.param([says(403)], id="refused"),
        pytest.param([says(400, f"error: invalid key {KEY}")], id="the key in the answer"),
        pytest.param([says(500)], id="not now"),
        pytest.param([lambda handler: handler.hang_up()], id="hung up"),
        pytest.param([says(302, Location="/elsewhere?key=5ecret%2Bkey%2Fof%3Dmine")], id="moved"),
        pytest.param([says(302, Location="http://127.0.0.1:1/?key=" + KEY)], id="nobody there"),
    ],
)
def test_a_key_goes_to_its_host_and_nowhere_else(fetch, publisher, api, tmp_path, caplog, answers):
    caplog.set_level(logging.DEBUG)
    asked_as = "/api?get=group(P1)&key=5ecret%2Bkey%2Fof%3Dmine"
    publisher.answers = {asked_as: answers}
    publisher.other = says(200, PAGE, Content_Type="text/html")
    listener = Silent()
    outcome = fetch(api, settings=WANTS_KEY, environ={"CENSUS_API_KEY": KEY}, listener=listener)
    assert publisher.asked[0][0] == asked_as
    said = outcome.message + caplog.text + "".join(listener.heard) + everything_written(tmp_path)
    for secret in (KEY, "5ecret%2Bkey%2Fof%3Dmine", "5ecret"):
        assert secret not in said


def test_a_key_is_kept_from_other_hosts_mirrors_and_open_connections():
    environ = {"CENSUS_API_KEY": KEY}
    there = Network(QUICK, environ)
    assert "key=" in there.route("https://api.census.gov/data?get=group(B1)")
    for other in (
        "https://www2.census.gov/data?x=1",
        "https://api.census.gov.example/data?x=1",
        "http://api.census.gov/data?x=1",
    ):
        assert there.route(other) == other
    mirror = Network(QUICK, environ | {MIRROR_VARIABLE: "http://mirror.example/copy/"})
    route = mirror.route("https://api.census.gov/data?get=group(B1)")
    assert route == "http://mirror.example/copy/api.census.gov/data?get=group(B1)"


def test_without_a_key_it_is_said_where_to_get_one(fetch, publisher, api):
    publisher.other = says(200, PAGE, Content_Type="text/html")
    outcome = fetch(api, settings=WANTS_KEY, environ={})
    assert outcome.result == "refused"
    assert "Set CENSUS_API_KEY to a key, free at https://census.example/sign" in outcome.message
    outcome = fetch(api, settings=WANTS_KEY, environ={"CENSUS_API_KEY": KEY})
    assert "Correct the key in CENSUS_API_KEY" in outcome.message


@pytest.mark.parametrize("status", [407, 502])
def test_a_proxy_of_the_environment_is_used_and_its_password_hidden(
    fetch, publisher, wanted, tmp_path, monkeypatch, caplog, status
):
    """The publisher plays the proxy: it is asked for another host's address."""
    caplog.set_level(logging.DEBUG)
    proxy = publisher.address.replace("http://", "http://somebody:pass%20word@")
    environ = {"HTTP_PROXY": proxy}
    monkeypatch.setenv("HTTP_PROXY", proxy)
    elsewhere = replace(wanted, file=replace(wanted.file, url="http://publisher.example/co.csv"))
    publisher.other = whole(TABLE)
    assert fetch(elsewhere, environ=environ).result == "fetched"
    assert publisher.asked[0][0] == "http://publisher.example/co.csv"
    wanted.path.unlink()
    publisher.other = says(status, f"no {proxy}")
    outcome = fetch(elsewhere, environ=environ)
    assert outcome.result == "failed"
    said = outcome.message + caplog.text + everything_written(tmp_path)
    assert "pass%20word" not in said
    assert "pass word" not in said
    assert "somebody" not in said


def test_a_proxy_that_cannot_be_is_told_without_its_password(fetch, wanted, monkeypatch):
    proxy = "ftp://somebody:hush-hush@proxy.example"
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    with pytest.raises(DownloadError, match="settings of the network") as caught:
        fetch(wanted, environ={"HTTPS_PROXY": proxy})
    assert "hush-hush" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_secrets_are_hidden_however_they_are_spelt():
    network = Network(QUICK, {"CENSUS_API_KEY": KEY, "https_proxy": "http://me%40x:p%C3%A9p@h:1"})
    for text in (KEY, "5ecret%2Bkey%2Fof%3Dmine", "pép", "p%C3%A9p", "me@x:pép"):
        assert network.hide(f"<{text}>") == f"<{HIDDEN}>"
    assert network.hide("nothing of it") == "nothing of it"


def test_the_program_says_who_it_is(fetch, publisher, wanted):
    fetch(wanted, whole(TABLE))
    assert publisher.asked[0][1]["User-Agent"].startswith("geocal/")


def test_no_redirection_leaves_https():
    """A hook sees every request that a redirection makes."""
    import httpx

    network = Network(QUICK, {})
    hook = network.client().event_hooks["request"][0]
    asked = {"extensions": {"asked_by": "https"}}
    hook(httpx.Request("GET", "https://a.example/x", **asked))
    with pytest.raises(DownloadError, match=r"plain http at a\.example"):
        hook(httpx.Request("GET", "http://a.example/x", **asked))


def test_an_address_with_a_key_is_refused_in_a_spec():
    spec = load_source("acs1_s0101").model_dump(mode="json", exclude_defaults=True)
    with pytest.raises(ValueError, match="keys come from the environment"):
        SourceSpec.model_validate(spec | {"url": f"{spec['url']}&key=abc"})


def test_the_publishers_own_name_is_kept():
    paths = ["a/SVI2022.csv", "a/SVI_2022_US.csv"]
    assert saved_as(paths, "https://x.example/d/SVI_2022_US.csv") == paths[1]
    assert saved_as(paths, "https://x.example/d?get=SVI_2022_US.csv") == paths[0]
