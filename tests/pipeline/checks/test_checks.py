"""Named checks on small tables: what each sees, and what it lets pass."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.checks import agreements, areas, of_profile, rows, run
from pipeline.checks.results import SourceCells, worst_rows
from pipeline.errors import CheckError
from pipeline.sources.base import resolve_files
from pipeline.specs.base import SPEC_ROOT, load_yaml
from pipeline.specs.checks import (
    FILE,
    AgreeRule,
    AreaRule,
    CheckFile,
    Columns,
    MarginRule,
    PercentRule,
    RatioRule,
    StrataRule,
    SumRule,
    VintageRule,
    band,
    load_checks,
    spelt_out,
)
from pipeline.specs.profiles import AcceptedCheck
from pipeline.specs.sources import load_sources


def table(*cells: tuple, name: str | None = None) -> pl.DataFrame:
    """Rows of a source table: (level, geoid, column, estimate[, stratum[, margin]])."""
    return pl.DataFrame(
        [
            {
                "level": cell[0],
                "geoid": cell[1],
                "name": name,
                "column": cell[2],
                "stratum": cell[4] if len(cell) > 4 else "",
                "estimate": cell[3],
                "margin_of_error": cell[5] if len(cell) > 5 else None,
            }
            for cell in cells
        ],
        schema={
            **dict.fromkeys(("level", "geoid", "name", "column", "stratum"), pl.String),
            **dict.fromkeys(("estimate", "margin_of_error"), pl.Float64),
        },
    )


def bad(found) -> list[str]:
    return [m.geoid for m in found[1] if m.badness > 1]


SUM = SumRule(sources=("a",), whole="T", parts=("A", "B"))


def test_parts_that_do_not_add_up_are_found_and_a_withheld_part_excuses_what_is_missing():
    def of(a, b, whole=100.0):
        return table(
            ("county", "44001", "T", whole),
            *[("county", "44001", c, v) for c, v in (("A", a), ("B", b))],
        )

    assert bad(rows.sums(SourceCells(of(60.0, 40.0)), SUM)) == []
    assert bad(rows.sums(SourceCells(of(60.0, 4.0)), SUM)) == ["44001"]
    assert bad(rows.sums(SourceCells(of(60.0, None)), SUM)) == []
    assert bad(rows.sums(SourceCells(of(101.0, None)), SUM)) == ["44001"]
    at_most = SUM.model_copy(update={"at_most": True})
    assert bad(rows.sums(SourceCells(of(60.0, 4.0)), at_most)) == []
    assert bad(rows.sums(SourceCells(of(60.0, 41.0)), at_most)) == ["44001"]
    assert rows.sums(SourceCells(table(("county", "44001", "T", 1.0))), SUM)[0] == 0


def test_a_percentage_that_is_not_its_counts_is_found():
    rule = PercentRule(sources=("a",), base="T", columns=("A",))

    def of(count, percent):
        cells = (("T", 1000.0), ("A", count), ("AP", percent))
        return table(*[("tract", "44001010100", c, v) for c, v in cells])

    assert bad(rows.percents(SourceCells(of(123.0, 12.3)), rule)) == []
    assert bad(rows.percents(SourceCells(of(12.0, 12.3)), rule)) == ["44001010100"]
    assert bad(rows.percents(SourceCells(of(123.0, 0.123)), rule)) == ["44001010100"]


def test_a_base_that_is_not_printed_is_implied():
    rule = PercentRule(sources=("a",), base="T", columns=("A",), low=0.4, high=1.06, without="G")

    def of(count, percent, living_in_groups=0.0):
        cells = (("T", 1000.0), ("A", count), ("AP", percent), ("G", living_in_groups))
        return table(*[("tract", "44001010100", c, v) for c, v in cells])

    assert bad(rows.percents(SourceCells(of(180.0, 20.0)), rule)) == []
    assert bad(rows.percents(SourceCells(of(18.0, 20.0)), rule)) == ["44001010100"]
    assert bad(rows.percents(SourceCells(of(18.0, 20.0, 950.0)), rule)) == [], (
        "a prison: few are counted"
    )
    assert bad(rows.percents(SourceCells(of(300.0, 20.0)), rule)) == ["44001010100"]


@pytest.mark.parametrize(
    ("value", "fits"), [(5e7, True), (5e10, False), (5e4, False), (-5e7, False)]
)
def test_amounts_in_another_unit_leave_the_band(value, fits):
    rule = RatioRule(
        sources=("a",), numerator=("A",), denominator=("N",), low=1e4, high=1e5, levels=("county",)
    )
    frame = table(("county", "44001", "A", value), ("county", "44001", "N", 1000.0))
    assert (bad(rows.ratios(SourceCells(frame), rule)) == []) is fits


def test_classes_are_compared_with_all():
    rule = StrataRule(sources=("a",), whole="0", parts=("1", "2"), columns="N1", slack=5)

    def of(one, two):
        return table(
            ("state", "44", "N1", 100.0, "0"),
            ("state", "44", "N1", one, "1"),
            ("state", "44", "N1", two, "2"),
        )

    assert bad(rows.strata(of(60.0, 45.0), rule)) == []
    assert bad(rows.strata(of(60.0, 4.0), rule)) == ["44"]
    assert bad(rows.strata(of(60.0, None), rule)) == []


def test_counties_are_compared_with_their_state_and_withheld_ones_excuse_twenty_returns():
    rule = AreaRule(sources=("a",), levels=("county",), above="state", slack=1, withheld=20)

    def of(first, second, state=1000.0):
        return table(
            ("state", "44", "N1", state),
            ("county", "44001", "N1", first),
            ("county", "44003", "N1", second),
        )

    assert bad(areas.areas(of(600.0, 400.0), rule)) == []
    assert bad(areas.areas(of(600.0, 40.0), rule)) == ["44"]
    assert bad(areas.areas(of(985.0, None), rule)) == []
    assert bad(areas.areas(of(600.0, None), rule)) == ["44"]


@pytest.mark.parametrize(
    ("level", "geoid", "name", "fits"),
    [
        ("tract", "44001030100", "Census Tract 301; Bristol County; Rhode Island", True),
        ("tract", "44001030200", "Census Tract 301; Bristol County; Rhode Island", False),
        ("tract", "10001030100", "Census Tract 301; Bristol County; Rhode Island", False),
        ("state", "44", "Rhode Island", True),
        ("state", "10", "Rhode Island", False),
        ("county", "01129", "Washington", True),
        ("county", "16001", "Ada County, Rhode Island", False),
    ],
)
def test_names_are_those_of_their_codes(level, geoid, name, fits):
    frame = table((level, geoid, "A", 1.0), name=name)
    assert (bad(areas.names_fit(frame)) == []) is fits


def test_a_margin_under_the_estimates_name_is_found():
    rule = MarginRule(sources=("a",), columns="A", at_least=100, times=1, share_above=0.5)
    right = [("tract", f"4400101010{n}", "A", 500.0, "", 90.0) for n in range(5)]
    swapped = [(*cell[:3], cell[5], "", cell[3]) for cell in right]
    assert areas.margins(table(*right), rule)[1][0].badness < 1
    assert areas.margins(table(*swapped), rule)[1][0].badness > 1


AGREE = AgreeRule(
    id="x",
    left=Columns(source="a", columns=("N",)),
    right=Columns(source="b", columns=("H",)),
    level="county",
    low=0.999999,
    high=1.000001,
)


def test_two_files_that_count_the_same_are_compared_by_area_with_tracts_added_up():
    left = table(*[("tract", f"4400101010{n}", "N", 50.0) for n in range(2)])
    tables = {("a", "2022"): left, ("b", "2022"): table(("county", "44001", "H", 100.0))}
    assert bad(agreements.agree(tables, AGREE, ["44"])) == []
    tables["b", "2022"] = table(("county", "44001", "H", 10.0))
    assert bad(agreements.agree(tables, AGREE, ["44"])) == ["44001"]
    assert agreements.agree(tables, AGREE, ["10"])[0] == 0
    assert agreements.agree({**tables, ("b", "2021"): left}, AGREE, [])[0] == 1, "of one year"


def test_areas_exchanged_between_vintages_grow_as_no_area_does():
    rule = VintageRule(
        sources=("a",), columns=("N",), level="county", at_least=1, start=1.3, per_year=0.1
    )
    sizes = {"44001": 100.0, "44003": 400.0, "44005": 150.0, "44007": 900.0}
    old = table(*[("county", g, "N", n) for g, n in sizes.items()])
    new = table(*[("county", g, "N", n * 1.05) for g, n in sizes.items()])
    assert bad(agreements.vintages(new, old, rule, ("2022", "2021"))) == []
    sizes["44001"], sizes["44003"] = sizes["44003"], sizes["44001"]
    wrong = table(*[("county", g, "N", n * 1.05) for g, n in sizes.items()])
    assert bad(agreements.vintages(wrong, old, rule, ("2022", "2021"))) == ["44001", "44003"]


def test_a_county_with_another_name_in_one_file_is_found():
    one = table(("county", "44003", "A", 1.0), name="Kent County, Rhode Island")
    two = table(("county", "44003", "A", 1.0), name="Kent")
    assert bad(agreements.county_names({("a", "1"): one, ("b", "1"): two}, [])) == []
    three = table(("county", "44003", "A", 1.0), name="Providence County")
    found = agreements.county_names({("a", "1"): one, ("b", "1"): two, ("c", "1"): three}, [])
    assert bad(found) == ["44003"] and "c 1 says 'Providence County'" in found[1][0].words


def test_ranges_of_columns_are_spelt_out():
    assert spelt_out(("B01001_003..005", "X")) == ("B01001_003", "B01001_004", "B01001_005", "X")
    assert spelt_out(("DP1_0009C..0011",)) == ("DP1_0009C", "DP1_0010C", "DP1_0011C")


def test_an_exception_needs_a_name_and_a_reason_and_takes_what_it_names():
    frame = table(
        ("state", "44", "N1", 100.0),
        ("state", "44", "MARS1", 300.0),
        ("state", "44", "MARS2", 1.0),
        ("state", "44", "MARS4", 1.0),
    )
    (found,) = [r for r in run.within("irs_county", "2022", frame) if r.name == "parts_add_up"]
    assert not found.passed and found.failing[0].geoid == "44"
    with pytest.raises(CheckError, match=r"parts_add_up fails: .*state 44"):
        run.refuse_failed([found], "RI")
    with pytest.raises(ValueError, match="at least 20 characters"):
        AcceptedCheck(check="parts_add_up", reason="short")
    taken = AcceptedCheck(
        check="parts_add_up", geoids=("44",), reason="the agency says so in its notes of 2022"
    )
    (found,) = [
        r
        for r in run.within("irs_county", "2022", frame, accepted=[taken])
        if r.name == "parts_add_up"
    ]
    assert found.passed and dict(found.accepted) == {taken.reason: 1}
    run.refuse_failed([found], "RI")


def test_every_rule_names_sources_there_are():
    sources = set(load_sources())
    for check in load_checks().values():
        for kind in (check.sums, check.percents, check.ratios, check.areas, check.margins):
            assert {name for rule in kind for name in rule.sources} <= sources
        named = [c.source for rule in check.agreements for c in (rule.left, rule.right)]
        assert {*named, *(rule.source for rule in check.survey)} <= sources


def test_the_worst_that_passes_is_kept():
    frame = pl.DataFrame(
        {"number": [0.1, 0.9, 0.5], "threshold": [1.0, 1.0, 1.0], "geoid": list("abc")}
    )
    assert [row["geoid"] for row in worst_rows(frame)] == ["b"]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        pytest.param(0.5, 2.0, (0.25, 4.0), id="of-logarithms"),
        pytest.param(1.0, 1.0, (1.0, 1.0), id="exact-stays-exact"),
        pytest.param(-1.0, 3.0, (-3.0, 5.0), id="below-zero"),
        pytest.param(0.0, 2.0, (-1.0, 3.0), id="at-zero"),
    ],
)
def test_a_band_twice_as_wide(low: float, high: float, expected: tuple) -> None:
    assert band(low, high, 2.0) == pytest.approx(expected)
    assert band(low, high, 1.0) == pytest.approx((low, high))


def test_bands_have_headroom_and_what_is_printed_twice_has_none() -> None:
    """Against the file itself, whose limits stand where real files stand."""
    stated, used = load_yaml(SPEC_ROOT / FILE, CheckFile), load_checks()
    times = stated.headroom
    assert times > 1
    for name, check in stated.checks.items():
        assert used[name].sums == check.sums and used[name].medians == check.medians
        assert [r.points for r in used[name].percents] == [r.points for r in check.percents]
        for rule, wider in zip(check.ratios, used[name].ratios, strict=True):
            assert wider.low < rule.low < rule.high < wider.high
        for rule, wider in zip(check.survey, used[name].survey, strict=True):
            assert wider.points == pytest.approx(times * rule.points)
        for rule, wider in zip(check.agreements, used[name].agreements, strict=True):
            assert (wider.high - wider.low > rule.high - rule.low) == (rule.low < rule.high)


def test_a_vintage_that_was_read_is_not_read_again(tmp_path, monkeypatch) -> None:
    spec = load_sources()["pep_counties"]
    for vintage in ("2019", "2024"):
        (path,) = (file.path for file in resolve_files(spec, vintage, tmp_path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    held = {"2019": table(), "2024": table()}
    read: list[str] = []
    monkeypatch.setattr(of_profile, "read_source", lambda spec, vintage, *_: read.append(vintage))
    found = of_profile.other_vintage(spec, tuple(held), "2019", tmp_path, ["RI"], held)
    assert found["2024"] is held["2024"] and not read


def test_only_sources_with_a_rule_are_compared_with_another_vintage() -> None:
    assert run.compares_vintages("pep_counties")
    assert not run.compares_vintages("acs1_detailed")
