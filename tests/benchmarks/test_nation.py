"""The nation benchmark: whole on a few tracts, and no invented list where a real one was asked for."""

import json

import pytest

from benchmarks.nation import main
from benchmarks.nation_population import tract_list
from calibration_core.errors import ProblemError


def test_a_small_nation_keeps_exactly_the_pairs_asked_for(tmp_path):
    out = tmp_path / "figures.json"
    assert main(["--tracts", "70", "--pool", "300", "--pairs", "30", "--draws", "2", "--json", str(out)]) == 0
    (figures,) = json.loads(out.read_text())
    assert figures["pairs_kept"] == 30 * figures["tracts"]
    assert figures["candidate_pairs"] == 300 * figures["tracts"]
    assert figures["all_converged"] == (not figures["stopped_early"])


def test_a_folder_without_the_list_is_an_error_and_not_an_invented_nation(tmp_path, capsys):
    with pytest.raises(ProblemError, match="no list of tracts"):
        tract_list(tmp_path, None, None, 1)
    assert main(["--geo", str(tmp_path)]) == 1
    assert "no list of tracts" in capsys.readouterr().out
