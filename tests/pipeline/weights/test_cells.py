"""Cells: thin ones collapse in the declared order, whatever the order of records; what was
collapsed is told.
"""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from calibration_core.sampling.rounding import round_areas
from pipeline.errors import RecordsError
from pipeline.specs.base import SPEC_ROOT
from pipeline.specs.cross_categories import CrossCategories, load_cross_categories
from pipeline.weights.cells import affinity_of, build_cells, categories_of

SPEC = {
    "id": "t",
    "title": "Test",
    "order": "income",
    "classes": [
        {"name": "old", "value": "old", "values": {0: "young", 1: "old"}},
        {
            "name": "size",
            "value": "size",
            "values": {1: "1", 2: "2", 3: "3", 4: "4"},
            "coarser": [{"3+": [3, 4]}, {"2+": [2, 3, 4]}],
        },
    ],
    "collapse_order": ["size", "size", "size", "old"],
    "fewest_records": 10,
}


def spec(**changes):
    return CrossCategories.model_validate(SPEC | changes)


def households(counts, weight=1.0):
    """One row a record from {(old, size): records}."""
    rows = [code for code, n in counts.items() for _ in range(n)]
    return pl.DataFrame(
        {
            "household_id": [f"h{i}" for i in range(len(rows))],
            "old": [r[0] for r in rows],
            "size": [r[1] for r in rows],
            "design_weight": weight,
        }
    )


def test_only_the_thin_cell_and_its_siblings_are_collapsed():
    """Old 4s are thin and join old 3s; young 4s are thick and stay."""
    made = build_cells(
        households({(0, 1): 30, (0, 3): 12, (0, 4): 11, (1, 1): 20, (1, 3): 15, (1, 4): 2}), spec()
    )
    assert made.labels == ("young, 1", "young, 3", "young, 4", "old, 1", "old, 3+")
    assert made.table["records"].to_list() == [30, 12, 11, 20, 17]
    assert made.before == 6
    assert made.collapsed.rows() == [
        (1, "size", "old, 3", "old, 3+", 15, 15.0),
        (1, "size", "old, 4", "old, 3+", 2, 2.0),
    ]
    assert not made.table["thin"].any()
    assert made.notes == (
        (
            "6 cross-category cells before collapsing, 5 after: 2 were joined to others; first old,"
            " 3 -> old, 3+"
        ),
    )


def test_a_cell_still_thin_takes_the_next_steps():
    """Old 3s and 4s together are still thin; they take in the 2s at the second step, then the 1s,
    and at last the young.
    """
    made = build_cells(households({(0, 1): 30, (1, 1): 2, (1, 2): 2, (1, 3): 2, (1, 4): 2}), spec())
    assert made.labels == ("any old, any size",)
    assert made.collapsed["step"].to_list() == [1, 1, 2, 2, 3, 3, 4, 4]
    assert made.collapsed.filter(pl.col("step") == 4)["from"].to_list() == [
        "young, 1",
        "old, any size",
    ]


def test_thin_cells_that_no_step_helps_are_named():
    made = build_cells(
        households({(0, 1): 30, (1, 2): 2}), spec(collapse_order=["size", "size", "size"])
    )
    assert made.labels == ("young, 1", "old, 2")
    assert made.table["thin"].to_list() == [False, True]
    assert "1 cells are still thin" in made.notes[1] and "old, 2 (2 records)" in made.notes[1]


def test_a_cell_may_be_thin_by_weight():
    counts = {(0, 1): 30, (0, 3): 12, (0, 4): 12}
    assert len(build_cells(households(counts, weight=2.0), spec(fewest_weight=24.0)).labels) == 3
    assert build_cells(households(counts, weight=1.9), spec(fewest_weight=24.0)).labels == (
        "young, 1",
        "young, 3+",
    )


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 60), st.floats(0, 30))
def test_no_cell_is_thin_and_the_order_of_records_does_not_matter(seed, fewest, weight):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 150))
    frame = pl.DataFrame(
        {
            "household_id": [f"h{i}" for i in range(n)],
            "old": rng.integers(0, 2, n),
            "size": np.minimum(rng.geometric(0.5, n), 4),
            "design_weight": rng.gamma(1.0, 1.0, n),
        }
    )
    cross = spec(fewest_records=fewest, fewest_weight=weight)
    made = build_cells(frame, cross)
    order = rng.permutation(n)
    again = build_cells(frame[order], cross)
    assert again.cell.tolist() == made.cell[order].tolist()
    assert again.table.equals(made.table) and again.collapsed.equals(made.collapsed)
    # The whole order drops every class: a cell can be thin only when it is the only one.
    assert not made.table["thin"].any() or made.table.height == 1
    assert made.table["records"].to_list() == np.bincount(made.cell).tolist()
    assert made.table["label"].is_unique().all()
    # Nothing is collapsed that need not be: a finest cell stands alone unless some step's label
    # over it covers a thin one.
    if (
        np.unique(frame.select("old", "size").to_numpy(), axis=0, return_counts=True)[1] >= fewest
    ).all() and weight == 0:
        assert made.collapsed.is_empty()


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**31))
def test_cells_hold_what_their_labels_say_and_categories_are_nested(seed):
    rng = np.random.default_rng(seed)
    n = 120
    frame = pl.DataFrame(
        {
            "household_id": [f"h{i}" for i in range(n)],
            "old": rng.integers(0, 2, n),
            "size": np.minimum(rng.geometric(0.4, n), 4),
            "design_weight": 1.0,
        }
    )
    made = build_cells(frame, spec(fewest_records=20))
    held = [frame.filter(pl.Series(made.cell == c)) for c in range(made.table.height)]
    for family in made.categories:
        groups = {
            label: set(g)
            for c in spec().classes
            if c.name == family.name
            for level in range(c.levels)
            for label, g in c.groups(level).items()
        }
        for label, members in zip(family.labels, family.members, strict=True):
            assert members.tolist() == [set(part[family.name]) <= groups[label] for part in held]
    # round_areas refuses categories that are not nested.
    expected = np.bincount(made.cell) / n * 12
    assert (
        round_areas(expected[None, :], [f.members for f in made.categories], seed).counts.sum()
        == 12
    )


def test_categories_and_affinity_come_back_from_the_stored_table():
    made = build_cells(
        households({(0, 1): 30, (0, 3): 12, (0, 4): 11, (1, 1): 20, (1, 3): 15, (1, 4): 2}), spec()
    )
    assert [f.labels for f in categories_of(made.table, spec())] == [
        ("young", "old"),
        ("1", "3", "4", "3+"),
    ]
    affinity = affinity_of(made.table, spec())
    # Cells: young 1, young 3, young 4, old 1, old 3+. The first class leads; of both equally near
    # in it, the one alike in more classes.
    assert affinity[0].argsort()[::-1].tolist()[0] == 0
    assert affinity[1, 2] == pytest.approx(1 + 1 / 3) and affinity[1, 0] == affinity[1, 2]
    assert affinity[4, 1] == pytest.approx(0 + 1 / 3) and affinity[4, 0] == 0.0
    assert (affinity == affinity.T).all()


def test_a_value_that_is_not_declared_is_refused():
    with pytest.raises(RecordsError, match="Class size gives 3 units the value 7"):
        build_cells(households({(0, 1): 5, (0, 7): 3}), spec())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        pytest.param({"collapse_order": ["size", "age"]}, "which is no class", id="unknown class"),
        pytest.param(
            {"collapse_order": ["old", "old"]},
            "0 coarsenings and can be dropped once",
            id="one step too many",
        ),
        pytest.param(
            {
                "classes": [
                    {
                        "name": "a",
                        "value": "a",
                        "values": {1: "x", 2: "y", 3: "z"},
                        "coarser": [{"xy": [1, 2]}, {"yz": [2, 3]}],
                    }
                ],
                "collapse_order": [],
            },
            "is split by a later coarsening",
            id="not nested",
        ),
        pytest.param(
            {
                "classes": [
                    {"name": "a", "value": "a", "values": {1: "x"}, "coarser": [{"xy": [1, 2]}]}
                ],
                "collapse_order": [],
            },
            "not declared",
            id="undeclared",
        ),
        pytest.param(
            {"classes": [SPEC["classes"][0]] * 2, "collapse_order": []},
            "named twice",
            id="two of a name",
        ),
        pytest.param(
            {
                "classes": [{"name": "a", "value": "persons +", "values": {1: "x"}}],
                "collapse_order": [],
            },
            "polars can parse",
            id="no SQL",
        ),
    ],
)
def test_faulty_specs_are_refused(changes, words):
    with pytest.raises(ValidationError, match=words):
        spec(**changes)


@pytest.mark.parametrize(
    "path", sorted((SPEC_ROOT / "cross_categories").glob("*.yaml")), ids=lambda p: p.stem
)
def test_every_file_loads_and_can_collapse_to_one_cell(path):
    cross = load_cross_categories(path.stem)
    assert cross.id == path.stem
    assert all(
        level == c.levels - 1
        for level, c in zip(cross.levels_at(len(cross.collapse_order)), cross.classes, strict=True)
    )
