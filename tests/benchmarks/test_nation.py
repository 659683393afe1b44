"""The nation benchmark: whole on a few tracts, the same on one process and on two, and no invented
list where a real one was asked for.
"""

import json

import numpy as np
import pytest

from benchmarks.nation import main
from benchmarks.nation_population import tract_list
from benchmarks.nation_states import classes_of
from calibration_core.errors import ProblemError

# What a clock or a memory gauge says, and what was asked for.
MEASURED = {"seconds", "peak_mb", "wall_seconds_states", "device", "machine", "workers", "threads"}


def run(path, *arguments: str) -> dict:
    assert (
        main(["--tracts", "370", "--pool", "150", "--pairs", "30", "--json", str(path), *arguments])
        == 0
    )
    (figures,) = json.loads(path.read_text())
    return figures


def without_measures(item):
    if isinstance(item, dict):
        return {key: without_measures(value) for key, value in item.items() if key not in MEASURED}
    return [without_measures(value) for value in item] if isinstance(item, list) else item


@pytest.fixture(scope="module")
def figures(tmp_path_factory) -> dict:
    return run(tmp_path_factory.mktemp("one") / "figures.json", "--workers", "1")


def test_a_small_nation_keeps_exactly_the_pairs_asked_for(figures):
    assert figures["states"] == 2
    assert figures["pairs_kept"] == 30 * figures["tracts"]
    assert figures["candidate_pairs"] == 150 * figures["tracts"]
    assert figures["all_converged"] == (not figures["stopped_early"])
    assert figures["fit"]["selected tract"]["inside"] > 0.9


def test_stages_stay_apart_and_the_selection_is_told_by_state(figures):
    stages = figures["stages"]
    assert list(stages) == [
        "tree",
        "invent the population",
        "reconcile",
        "set up states",
        "dense calibration",
        "selection",
        "refinement",
        "fit",
    ]
    assert figures["seconds"] == pytest.approx(sum(stages[s]["seconds"] for s in list(stages)[2:7]))
    assert (
        figures["wall_seconds_states"] > 0
        and figures["peak_mb"] >= stages["selection"]["peak_mb"] > 0
    )
    selection = figures["selection"]
    assert sum(state["tracts"] for state in selection["states"]) == figures["tracts"]
    assert sum(state["pairs"] for state in selection["states"]) == figures["pairs_kept"]
    assert sum(state["seconds"] for state in selection["states"]) == pytest.approx(
        stages["selection"]["seconds"]
    )
    assert (
        selection["exchanges"] > 0
        and 0 <= selection["mass_lost"] < 0.5
        and selection["cells_lost"] > 0
    )


def test_two_processes_give_the_same_figures(figures, tmp_path):
    both = run(tmp_path / "figures.json", "--workers", "2")
    assert both["workers"] == 2
    assert without_measures(both) == without_measures(figures)


def test_settings_of_the_selection_reach_it(figures, tmp_path, capsys):
    other = run(tmp_path / "figures.json", "--workers", "1", "--rounds", "0", "--candidates", "2")
    assert other["selection"]["exchanges"] < figures["selection"]["exchanges"]
    out = capsys.readouterr().out
    assert "ms per tract (state" in out and "on 1 processes" in out


def test_classes_of_invented_cells_are_income_and_size():
    income, size = classes_of(np.array([0, 4, 7, 11]))
    assert income.astype(int).tolist() == [
        [1] * 5 + [0] * 7,
        [0] * 5 + [1] * 5 + [0] * 2,
        [0] * 10 + [1] * 2,
    ]
    assert size.shape == (5, 12) and (size.sum(axis=0) == 1).all() and size[1, [1, 6, 11]].all()


def test_a_folder_without_the_list_is_an_error_and_not_an_invented_nation(tmp_path, capsys):
    with pytest.raises(ProblemError, match="no list of tracts"):
        tract_list(tmp_path, None, None, 1)
    assert main(["--geo", str(tmp_path)]) == 1
    assert "no list of tracts" in capsys.readouterr().out
