"""From tables to weights on a small invented state: candidates, dense calibration, exactly k,
refinement, and what is refused.
"""

import hashlib

import numpy as np
import polars as pl
import pytest

from calibration_core.errors import BudgetError
from calibration_core.tree.problem import PairProblem
from calibration_core.tree.select.weight_limits import WeightLimits
from pipeline.errors import InvariantError, RecordsError, TargetError
from pipeline.reports.fit import (
    fitted_targets,
    summary_by,
    weight_summary,
    with_errors,
    worst_targets,
)
from pipeline.specs.catalog import load_catalog
from pipeline.specs.cross_categories import load_cross_categories
from pipeline.specs.variables import Variable
from pipeline.targets.build import TARGET_SCHEMA
from pipeline.weights.calibrate import (
    budget_of,
    build_problem,
    dense_calibration,
    joint_settings,
    refine,
    refine_settings,
    require_sound_weights,
    selection,
    state_seed,
    weights_table,
)
from pipeline.weights.candidates import build_candidates, candidate_pairs

GEOGRAPHY = pl.DataFrame(
    {
        "state_fips": ["44"] * 6,
        "county_fips": ["44001"] * 3 + ["44003"] * 3,
        "tract": [f"44001000{i}00" for i in range(3)] + [f"44003000{i}00" for i in range(3)],
        "puma": ["4400100"] * 3 + ["4400300"] * 3,
    }
)
VARIABLES = [
    Variable(
        variable="persons",
        domain="total",
        label="Persons",
        unit="persons",
        over="persons",
        family="age",
    ),
    Variable(
        variable="persons",
        domain="age_65_plus",
        label="65+",
        unit="persons",
        over="persons",
        where="age >= 65",
        family="age",
    ),
    Variable(
        variable="households",
        domain="total",
        label="Households",
        unit="households",
        over="households",
        where="not is_group_quarters",
        family="households",
    ),
    Variable(
        variable="persons",
        domain="never",
        label="Nobody",
        unit="persons",
        over="persons",
        where="age > 200",
        family="age",
    ),
]


def tables(count: int = 120, seed: int = 1) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, count)
    ids = [f"h{i:04d}" for i in range(count)]
    owner = np.repeat(np.arange(count), sizes)
    age = rng.integers(0, 95, owner.size)
    households = pl.DataFrame(
        {
            "household_id": ids,
            "puma": np.where(np.arange(count) % 2 == 0, "4400100", "4400300"),
            "weight": rng.integers(5, 30, count).astype(float),
            "is_group_quarters": [False] * count,
            "household_type": ["married_couple" if n > 1 else "female_householder" for n in sizes],
            "persons": sizes,
            "household_income": rng.gamma(2.0, 30000.0, count),
            "persons_65_plus": np.bincount(owner, weights=age >= 65, minlength=count).astype(int),
            "children_under_18": np.bincount(owner, weights=age < 18, minlength=count).astype(int),
        }
    )
    persons = pl.DataFrame(
        {
            "household_id": [ids[i] for i in owner],
            "person_number": np.arange(owner.size),
            "age": age,
        }
    )
    return {
        "persons": persons,
        "households": households,
        "tax_units": pl.DataFrame({"household_id": ids}),
    }


def targets(records: dict[str, pl.DataFrame], scale: float = 1.0) -> pl.DataFrame:
    """Tract, county and state targets around equal shares of the records' own totals."""
    weight = dict(records["households"].select("household_id", "weight").iter_rows())
    people = records["persons"].with_columns(w=pl.col("household_id").replace_strict(weight))
    totals = {
        ("persons", "total"): people["w"].sum(),
        ("persons", "age_65_plus"): people.filter(pl.col("age") >= 65)["w"].sum(),
        ("households", "total"): records["households"]["weight"].sum(),
        ("persons", "never"): 5.0,
    }
    shares = np.array([0.1, 0.2, 0.15, 0.2, 0.3, 0.05])
    tilt = {
        "age_65_plus": np.array([1.3, 0.8, 1.0, 1.1, 0.9, 1.2]),
        "total": np.ones(6),
        "never": np.ones(6),
    }
    rows = []
    for (variable, domain), total in totals.items():
        leaf = scale * total * shares * tilt[domain]
        parts = [("tract", g, v) for g, v in zip(GEOGRAPHY["tract"], leaf, strict=True)]
        parts += [
            ("county", "44001", leaf[:3].sum()),
            ("county", "44003", leaf[3:].sum()),
            ("state", "44", leaf.sum()),
        ]
        for level, geoid, v in parts:
            rows.append(
                {
                    "level": level,
                    "geoid": geoid,
                    "variable": variable,
                    "domain": domain,
                    "family": "f",
                    "unit": "households" if variable == "households" else "persons",
                    "value": float(v),
                    "standard_error": 0.05 * float(v),
                    "published_value": float(v),
                    "published_standard_error": 0.05 * float(v),
                    "margin_standard_error": 0.05 * float(v) if level == "tract" else None,
                    "margin_published": level == "tract",
                    "source": "s",
                    "vintage": "2022",
                    "carry_rule": "none",
                    "carry_factor": 1.0,
                    "status": "published",
                    "role": "calibrate",
                    "reason": "",
                }
            )
    return pl.DataFrame(rows, schema=TARGET_SCHEMA)


@pytest.fixture(scope="module")
def profile():
    return load_catalog().profile("sample")


def candidates(records, goal, *, elsewhere=0.2, link=GEOGRAPHY):
    return build_candidates(
        records,
        VARIABLES,
        goal,
        GEOGRAPHY,
        link,
        load_cross_categories(),
        finest_level="tract",
        elsewhere_share=elsewhere,
    )


def solve(records, goal, profile, budget=90):
    made = candidates(records, goal)
    problem = build_problem(goal, made.units, GEOGRAPHY, profile)
    dense = dense_calibration(problem, made.units, made.areas, profile)
    drawn = selection(problem, dense.weights, made.units, made.cells.table, profile, budget)
    return (
        made,
        problem,
        dense,
        drawn,
        refine(problem, drawn, dense.weights, made.units, profile).result,
    )


def test_the_whole_path_fits_and_keeps_exactly_k(profile):
    records = tables()
    goal = targets(records)
    made, problem, dense, drawn, final = solve(records, goal, profile)
    assert dense.converged and final.converged
    frame = weights_table(problem, drawn, final.weights, made.units, GEOGRAPHY, "RI", "tract")
    require_sound_weights(frame, 90, "RI")
    assert (drawn.per_leaf == np.bincount(drawn.leaf)).all() and drawn.rounds > 0
    fit = fitted_targets(goal, problem, {"fitted_dense": dense.fitted, "fitted": final.fitted})
    summary = summary_by(fit, "fitted")
    assert summary["level"].to_list() == ["state", "county", "tract"]
    assert summary.filter(pl.col("level") == "tract")["share_inside_margin"][0] == 1.0
    assert summary.filter(pl.col("level") == "state")["worst_are"][0] < 0.005
    again = frame.join(records["households"].select("household_id", "persons"), on="household_id")
    people = (
        again.group_by("tract")
        .agg((pl.col("weight") * pl.col("persons")).sum())
        .sort("tract")["weight"]
        .to_list()
    )
    table = fit.filter(
        (pl.col("level") == "tract")
        & (pl.col("variable") == "persons")
        & (pl.col("domain") == "total")
    ).sort("geoid")
    assert people == pytest.approx(table["fitted"].to_list(), rel=1e-9)


def test_a_variable_nobody_supports_is_named_with_the_reason(profile):
    records = tables()
    goal = targets(records)
    _, problem, dense, _, _ = solve(records, goal, profile)
    assert problem.unsupported == (("persons", "never"),)
    fit = fitted_targets(goal, problem, {"fitted": dense.fitted})
    never = fit.filter(pl.col("domain") == "never")
    assert never["fitted"].null_count() == never.height
    assert set(never["not_fitted_reason"]) == {"no record of this state contributes to it"}


def test_row_order_changes_nothing(profile):
    records = tables()
    goal = targets(records)
    shuffled = {
        name: frame.sample(fraction=1.0, shuffle=True, seed=5) for name, frame in records.items()
    }
    digests = []
    for tab, g in ((records, goal), (shuffled, goal.sample(fraction=1.0, shuffle=True, seed=6))):
        made, problem, _, drawn, final = solve(tab, g, profile)
        frame = weights_table(problem, drawn, final.weights, made.units, GEOGRAPHY, "RI", "tract")
        digests.append(hashlib.sha256(frame.write_csv().encode()).hexdigest())
    assert digests[0] == digests[1]


def test_pairs_read_back_as_a_problem_are_refitted_alike(profile):
    records = tables()
    made, problem, dense, drawn, final = solve(records, targets(records), profile)
    pairs = PairProblem(problem.tree, problem.targets, drawn.leaf, drawn.record, drawn.weight)
    again = refine(problem, pairs, dense.weights, made.units, profile)
    assert (again.result.weights == final.weights).all()
    assert again.starting.shape == (90,)


def test_settings_of_selection_are_the_profiles(profile):
    records = tables()
    problem = build_problem(
        targets(records), candidates(records, targets(records)).units, GEOGRAPHY, profile
    )
    method = profile.method.model_copy(
        update={
            "weight_limits": profile.method.weight_limits.model_copy(
                update={"smallest": 4.0, "largest_share": 0.12}
            ),
            "selection": profile.method.selection.model_copy(
                update={"design": "sampford", "rounds": 7, "cell_penalty": None}
            ),
        }
    )
    settings = joint_settings(problem, profile.model_copy(update={"method": method}), 77)
    assert settings.limits == WeightLimits(smallest=4.0, largest_share=0.12)
    chosen = settings.selection
    assert (chosen.budget, chosen.design, chosen.rounds, chosen.cell_penalty) == (
        77,
        "sampford",
        7,
        np.inf,
    )
    assert (
        chosen.seed == state_seed(profile.seed, "44", "selection")
        and chosen.floor == profile.budget.minimum_pairs
    )
    assert settings.refine == refine_settings(problem, profile)


def test_threads_change_nothing(profile, monkeypatch):
    import torch

    records, before = tables(), torch.get_num_threads()
    goal = targets(records)
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            monkeypatch.setattr(
                "pipeline.weights.calibrate.workers", lambda threads=threads: threads
            )
            _, _, _, drawn, final = solve(records, goal, profile)
            results.append((drawn.leaf.tolist(), drawn.record.tolist(), final.weights))
    finally:
        torch.set_num_threads(before)
    assert results[0][:2] == results[1][:2]
    assert np.abs(results[0][2] / results[1][2] - 1).max() < 1e-9


def test_prior_lies_in_the_units_own_puma_but_for_the_share_elsewhere():
    records = tables()
    made = candidates(records, targets(records), elsewhere=0.3)
    shares = (
        made.areas.join(GEOGRAPHY.select(area="tract", home="puma"), on="area")
        .group_by("puma", same=pl.col("puma") == pl.col("home"))
        .agg(pl.col("share").sum())
    )
    total = shares.group_by("puma").agg(pl.col("share").sum())
    assert total["share"].to_list() == pytest.approx([1.0, 1.0])
    inside = dict(shares.filter("same").select("puma", "share").iter_rows())
    assert inside["4400100"] == pytest.approx(0.7 + 0.3 * 0.45)
    assert inside["4400300"] == pytest.approx(0.7 + 0.3 * 0.55)


def test_other_vintages_link_through_counties():
    records = tables()
    old = GEOGRAPHY.with_columns(tract=pl.col("tract").str.replace(r"..$", "99"))
    made = candidates(records, targets(records), elsewhere=0.0, link=old)
    local = made.areas.filter(pl.col("puma") == "4400100")
    assert local.filter(pl.col("area").str.starts_with("44003"))["share"].sum() == 0.0
    assert local["share"].sum() == pytest.approx(1.0)


def test_design_weights_are_scaled_to_the_population():
    records = tables()
    goal = targets(records, scale=2.0)
    made = candidates(records, goal)
    people = made.units.select((pl.col("prior_weight") * pl.col("persons|total")).sum()).item()
    assert people == pytest.approx(
        goal.filter(
            (pl.col("level") == "tract")
            & (pl.col("variable") == "persons")
            & (pl.col("domain") == "total")
        )["value"].sum()
    )
    assert any("multiplied by 2.0" in note for note in made.notes)


def test_no_records_no_population_and_a_stray_puma_are_refused():
    records = tables()
    goal = targets(records)
    with pytest.raises(RecordsError, match="no records"):
        candidates({name: frame.clear() for name, frame in records.items()}, goal)
    with pytest.raises(TargetError, match="no population target"):
        candidates(records, goal.filter(pl.col("geoid") != GEOGRAPHY["tract"][0]))
    stray = {**records, "households": records["households"].with_columns(puma=pl.lit("4499999"))}
    with pytest.raises(RecordsError, match="lies in no area"):
        candidates(stray, goal)


def test_an_area_without_people_gets_no_record_and_counts_for_no_pair(profile):
    records = tables()
    goal = targets(records).with_columns(
        value=pl.when(pl.col("geoid") == GEOGRAPHY["tract"][5]).then(0.0).otherwise("value")
    )
    made, problem, _, drawn, _ = solve(records, goal, profile)
    assert drawn.per_leaf[problem.tree.leaves.index(GEOGRAPHY["tract"][5])] == 0
    assert drawn.per_leaf.sum() == 90
    assert any("have no population" in note for note in made.notes)
    assert candidate_pairs(made.units, made.areas) == made.units.height * 5


@pytest.mark.parametrize(("budget", "words"), [(5, "k is 5 for 6 areas"), (10_000, "pairs exist")])
def test_impossible_budgets(profile, budget, words):
    records = tables()
    with pytest.raises(BudgetError, match=words):
        solve(records, targets(records), profile, budget=budget)


def test_hard_rules_refuse_unsound_weights():
    good = pl.DataFrame(
        {
            "household_id": ["a", "b"],
            "tract": ["t", "t"],
            "county": ["c", "c"],
            "state": ["RI", "RI"],
            "weight": [1.0, 2.0],
        }
    )
    require_sound_weights(good, 2, "RI")
    for frame, words in (
        (good.head(1), "1 pairs for a budget of 2"),
        (good.with_columns(weight=pl.lit(float("nan"))), "2 weights are not finite"),
        (good.with_columns(weight=pl.lit(-1.0)), "2 are not positive"),
        (good.with_columns(household_id=pl.lit("a")), "occurs twice"),
    ):
        with pytest.raises(InvariantError, match=words):
            require_sound_weights(frame, 2, "RI")


def test_seeds_depend_on_run_state_and_purpose_only():
    assert state_seed(1, "44", "selection") == state_seed(1, "44", "selection")
    assert (
        len(
            {
                state_seed(s, f, p)
                for s in (1, 2)
                for f in ("44", "10")
                for p in ("selection", "other")
            }
        )
        == 8
    )


def test_budget_is_pairs_per_area_times_areas_unless_asked_otherwise(profile):
    assert budget_of(profile, 7) == 7 * profile.budget.pairs_per_area
    assert budget_of(profile, 7, 123) == 123


def test_errors_and_margins_by_hand():
    frame = (
        targets(tables())
        .head(2)
        .with_columns(
            value=pl.Series([100.0, 0.4]),
            published_value=pl.Series([90.0, 0.0]),
            published_standard_error=pl.Series(
                [100.0, 50.0]
            ),  # widened by carrying, which is no part of a margin
            margin_standard_error=pl.Series([10.0, 5.0]),
            fitted=pl.Series([110.0, 3.0]),
            margin_published=pl.lit(True),
        )
    )
    rows = with_errors(frame)
    assert rows["absolute_relative_error"].to_list() == [pytest.approx(0.1), None]
    assert rows["inside_margin"].to_list() == [True, True]
    assert rows["inside_published"].to_list() == [False, True]
    assert summary_by(frame, "fitted")["zero_targets"].sum() == 1
    assert worst_targets(frame).height == 1


def test_without_a_published_margin_a_target_is_neither_inside_nor_outside():
    frame = (
        targets(tables())
        .head(1)
        .with_columns(margin_standard_error=pl.lit(None, pl.Float64), fitted=pl.col("value"))
    )
    rows = with_errors(frame)
    assert (rows["inside_margin"][0], rows["inside_published"][0]) == (None, None)
    assert summary_by(frame, "fitted")["with_published_margin"][0] == 0
    assert worst_targets(frame)["errors_in_se"][0] is None


def test_a_carried_margin_sets_the_scale_of_a_tract_without_the_error_of_carrying(profile):
    records = tables()
    goal = targets(records)
    tract = pl.col("level") == "tract"
    wide = {
        name: pl.when(tract).then(4 * pl.col(name)).otherwise(name)
        for name in ("standard_error", "published_standard_error")
    }
    plain, carried, unstated = (
        build_problem(frame, candidates(records, frame).units, GEOGRAPHY, profile).targets.scales
        for frame in (
            goal,
            goal.with_columns(**wide),
            goal.with_columns(**wide, margin_standard_error=pl.lit(None, pl.Float64)),
        )
    )
    assert all(np.array_equal(a, b) for a, b in zip(plain, carried, strict=True))
    assert (unstated[-1] > 1.5 * plain[-1]).all()


def test_weight_summary_by_hand():
    summary = weight_summary(
        pl.DataFrame({"household_id": ["a", "a", "b"], "weight": [1.0, 1.0, 2.0]})
    )
    assert summary["pairs"] == 3
    assert summary["records"] == 2
    assert summary["ess"] == pytest.approx(16 / 6)
    assert summary["design_effect"] == pytest.approx(3 / (16 / 6))
    assert summary["largest_weight_share"] == pytest.approx(0.5)
