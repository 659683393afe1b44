"""Mutated real files: what is caught, what is harmless, and what the table says."""

from __future__ import annotations

import pytest

from benchmarks import mutated_files, source_checks
from benchmarks.mutations import RI, Mutation, all_mutations
from pipeline.sample import lies

SVI = "acs_tables/county_us/SVI_2022_US_county.csv"


def of(kind: str, edit: lies.RowEdit) -> Mutation:
    own = (RI, "svi_counties", "2022", SVI, kind)
    return Mutation(kind, *own, lies.csv_file(edit), "RI")


def test_a_lie_is_caught_by_name_and_an_edit_that_no_target_sees_is_harmless(realdata):
    island = lies.starts(5, "44007")
    made = [
        of("digit", lies.digit_dropped("E_POV150", island)),
        of("missing", lies.rows_missing(island)),
        of("unread", lies.changed(["E_DAYPOP"], lies.times(2.0))),
    ]
    outcomes = mutated_files.try_all(realdata, mutations=made)
    assert [o.verdict for o in outcomes] == ["caught", "caught", "harmless"]
    assert "percents_fit" in outcomes[0].by and outcomes[1].by == "known total"
    assert outcomes[2].moved == pytest.approx(0.0)
    text = mutated_files.as_markdown(outcomes)
    assert "3 files of 3 kinds: 2 caught, 1 harmless." in text


def test_there_are_two_hundred_of_twenty_kinds_over_every_source():
    made = list(all_mutations())
    assert len(made) >= 200 and len({m.kind for m in made}) >= 20
    assert {m.source for m in made} >= {
        "acs1_detailed",
        "acs5_profile_tracts",
        "acs5_s1901_counties",
        "acs_pums_1yr",
        "census2020_dp_tracts",
        "irs_county",
        "irs_historic_table_2",
        "pep_counties",
        "ssa_oasdi_states",
        "ssa_ssi_counties",
        "svi_counties",
    }


def test_the_distance_of_a_real_file_from_its_thresholds(realdata):
    from pipeline.checks.run import within
    from pipeline.sources.registry import read_source
    from pipeline.specs.sources import load_source

    spec = load_source("pep_counties")
    assert source_checks.present(spec, "2024", realdata) == []
    assert source_checks.present(spec, "2022", realdata) is None
    found = within("pep_counties", "2024", read_source(spec, "2024", realdata).frame)
    text = source_checks.as_markdown(found)
    assert "| areas_add_up | pep_counties 2024 | 612 | 0.00 |" in text
    assert "* fails" not in text
