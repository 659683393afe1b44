"""Pinned packages: none is under a licence that binds us, and what is allowed all the same has a
reason and a date. This needs no network; advisories are asked for by `pip-audit` where one answers.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from datetime import date
from importlib import metadata
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
ALLOWED = yaml.safe_load((ROOT / "deploy" / "audit.yaml").read_text(encoding="utf-8"))
PINNED = dict(re.findall(r"(?m)^([\w.-]+)==([\w.+!]+)", (ROOT / "constraints.txt").read_text()))
# Names of the GPL family, and of licences that forbid uses.
BINDING = re.compile(
    r"\b[AL]?GPL|General Public License|SSPL|BUSL|Commons Clause|Hippocratic", re.I
)


def licence_of(package: str) -> str:
    """What an installed package says of its licence; "" where it is not installed."""
    try:
        found = metadata.metadata(package)
    except metadata.PackageNotFoundError:
        return ""
    stated = [found.get("License-Expression") or (found.get("License") or "").split("\n")[0]]
    stated += [c for c in found.get_all("Classifier") or [] if c.startswith("License ::")]
    return "; ".join(text for text in stated if text)


def binding(text: str) -> bool:
    return bool(BINDING.search(text))


def test_a_binding_licence_is_noticed():
    assert binding("GPL-3.0-or-later") and binding("GNU Lesser General Public License")
    assert binding("LGPL with exceptions") and not binding("Apache-2.0") and not binding("MIT")


@pytest.mark.parametrize("package", sorted(PINNED))
def test_no_pinned_package_is_under_a_binding_licence(package):
    allowed = {entry["package"] for entry in ALLOWED["licences"]}
    said = licence_of(package)
    assert not binding(said) or package in allowed, said


@pytest.mark.parametrize("kind", ["advisories", "licences"])
def test_what_is_allowed_has_a_reason_and_has_not_ended(kind):
    for entry in ALLOWED[kind]:
        assert entry["package"] in PINNED, f"{entry['package']} is not pinned: remove the entry"
        assert len(entry["reason"]) > 20, entry
        assert entry["expires"] >= date.today(), f"{entry['package']}: look at it again"
        assert entry["id"] if kind == "advisories" else binding(entry["licence"]), entry


def test_no_pinned_package_has_an_advisory_that_is_not_allowed():
    program = shutil.which("pip-audit")
    if program is None:
        pytest.skip("pip-audit is not installed")
    asked = [program, "-r", str(ROOT / "constraints.txt"), "--no-deps", "--disable-pip", "-f"]
    done = subprocess.run([*asked, "json"], capture_output=True, text=True, timeout=250)
    if not done.stdout.startswith("{"):
        pytest.skip(f"no database of advisories answers: {done.stderr.strip()[-200:]}")
    allowed = {entry["id"] for entry in ALLOWED["advisories"]}
    found = {
        f"{each['name']} {each['version']}: {known['id']}"
        for each in json.loads(done.stdout)["dependencies"]
        for known in each.get("vulns", ())
        if known["id"] not in allowed
    }
    assert not found, "move the version, or allow it in deploy/audit.yaml with a reason and a date"
