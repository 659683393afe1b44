"""``geocal release``, ``releases``, ``diff`` and ``clean`` as a shell sees them."""

from __future__ import annotations

import json

from tests.pipeline.release.conftest import store_of
from tests.pipeline.release.result import environment_at, write_result
from tests.pipeline.release.test_make import picture

SSA = "usd_social_security/households"


def test_release_diff_refusal_approval(tmp_path, invoke):
    out = ("--output", str(tmp_path))
    environment = write_result(tmp_path)
    status, said, _ = invoke("release", *out, "--pin", "first")
    assert status == 0 and "nothing to compare with" in said
    store = store_of(environment)
    first = store.latest()
    assert f"Release {first}" in said and store.pins() == {"first": first}

    status, said, _ = invoke("release", *out)
    assert status == 0 and "has this content already" in said

    write_result(tmp_path, factor={SSA: 0.56})
    before = picture(tmp_path)
    status, said, wrong = invoke("release", *out)
    assert status == 1 and picture(tmp_path) == before
    assert f"REFUSED nation {SSA} moved -44.0 %" in wrong and "--approvals" in wrong
    status, said, _ = invoke("diff", *out)
    assert status == 0 and SSA in said and "-44.0 %" in said

    approvals = tmp_path / "approvals.yaml"
    approvals.write_text(
        f"approvals:\n- {{figure: {SSA}, reason: SSA revised its table of 2022, approved_by: Ann,"
        " expires: 2999-01-01}\n"
    )
    status, said, wrong = invoke("release", *out, "--approvals", str(approvals), "--dry-run")
    assert status == 0 and "nothing was written" in said and store.latest() == first
    status, said, _ = invoke("release", *out, "--approvals", str(approvals))
    assert status == 0 and "Approved: nation" in said and "Ann until 2999-01-01" in said
    assert store.latest() != first
    status, said, _ = invoke("diff", "first", "latest", *out, "--json")
    found = json.loads(said)
    assert found["a"] == first and found["moved"][0]["move"] < -0.4
    status, said, _ = invoke("diff", str(store.folder / first), str(environment.root), *out)
    assert status == 0 and SSA in said


def test_what_does_not_belong_is_said_in_words(tmp_path, invoke):
    write_result(tmp_path, of_nation=("RI",))
    status, _, wrong = invoke("release", "--output", str(tmp_path))
    assert status == 1 and "The national tables do not belong together" in wrong
    assert "--partial" in wrong and not (environment_at(tmp_path).root / "releases").exists()
    status, _, wrong = invoke("release", "--output", str(tmp_path), "--partial")
    assert status == 0 and "Left out, nation" in wrong


def test_the_list_and_its_check(tmp_path, invoke):
    environment = write_result(tmp_path)
    out = ("--output", str(tmp_path))
    status, said, _ = invoke("releases", *out)
    assert status == 0 and "No release in" in said
    invoke("release", *out, "--pin", "first")
    status, said, _ = invoke("releases", *out, "--verify")
    assert status == 0 and "latest, first" in said
    status, said, _ = invoke("releases", *out, "--json")
    [row] = json.loads(said)
    assert row["latest"] and row["pins"] == ["first"] and row["states"] == ["RI", "DE"]
    path = store_of(environment).find("latest").folder / "codebook.json"
    path.chmod(0o644)
    path.write_text("{}")
    status, _, wrong = invoke("releases", *out, "--verify")
    assert status == 1 and "is damaged: codebook.json" in wrong


def test_cleaning_says_what_it_would_free(tmp_path, invoke):
    out = ("--output", str(tmp_path))
    for seed in range(3):
        environment = write_result(tmp_path, seed=seed)
        assert invoke("release", *out)[0] == 0
    store = store_of(environment)
    status, said, _ = invoke("clean", *out, "--keep", "1", "--dry-run")
    assert status == 0 and "Would free" in said and "2 x release" in said and len(store.ids()) == 3
    status, said, _ = invoke("clean", *out, "--keep", "1")
    assert "Freed" in said and store.ids() == [store.latest()]
    assert "nothing to remove" in invoke("clean", *out)[1]


def test_releases_in_another_folder(tmp_path, invoke):
    write_result(tmp_path / "out")
    out = ("--output", str(tmp_path / "out"), "--to", str(tmp_path / "shelf"))
    assert invoke("release", *out)[0] == 0
    assert (tmp_path / "shelf" / "latest" / "release.json").exists()
    assert "is the same" in invoke("diff", *out)[1]
    status, _, wrong = invoke("diff", "nowhere", "current", *out)
    assert status == 1 and "There is no release 'nowhere'" in wrong
    status, _, wrong = invoke("diff", str(tmp_path), "current", *out)
    assert status == 1 and "holds no weights of a state" in wrong
