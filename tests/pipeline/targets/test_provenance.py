"""Classes of provenance: carried to the target table, held out by a profile's rule."""

from __future__ import annotations

from typing import get_args

import polars as pl
import pytest
import yaml

from pipeline.errors import SpecError
from pipeline.specs.base import SPEC_ROOT
from pipeline.specs.catalog import load_catalog
from pipeline.specs.method import SurveyEvidence
from pipeline.specs.provenance import Provenance, load_provenance
from pipeline.specs.targets import TargetSpec
from pipeline.specs.variables import Variable
from pipeline.targets.evidence import survey_evidence
from tests.pipeline.targets.target_rows import row, table
from tests.pipeline.targets.toy_tables import ACS, NONE, build, cells, only

TOTAL = {"variable": "persons", "domain": "total", "column": "A"}
TRACT = ("44001000100", "A", 100.0, 16.45)


def test_a_target_carries_its_class_and_an_item_its_own():
    assert only(build([TOTAL], cells(TRACT)))["provenance"] == "survey_demographic"
    own = TOTAL | {"provenance": "census"}
    made = only(build([own], cells(TRACT)))
    assert (made["provenance"], made["role"], made["reason"]) == ("census", "calibrate", "")


def test_a_class_that_is_held_out_is_compared_with_and_says_so():
    made = only(build([TOTAL], cells(TRACT), held_out=("survey_demographic",)))
    assert made["role"] == "validation" and made["value"] == 100.0
    assert made["reason"] == "the profile holds out figures of class survey_demographic"
    census = TOTAL | {"provenance": "census"}
    made = only(build([census], cells(TRACT), held_out=("survey_demographic",)))
    assert made["role"] == "calibrate"


def test_a_projection_is_held_out_unless_the_profile_says_otherwise():
    item = TOTAL | {"provenance": "projection"}
    assert only(build([item], cells(TRACT)))["role"] == "validation"
    assert only(build([item], cells(TRACT), held_out=()))["role"] == "calibrate"


def test_a_target_file_without_a_class_or_with_an_unknown_one_is_refused():
    parts = {"id": "one", "source": "src", "levels": ["tract"], "title": "t", "carry": NONE}
    parts |= {"standard_error": ACS, "items": [TOTAL]}
    with pytest.raises(ValueError, match="provenance"):
        TargetSpec.model_validate(parts)
    with pytest.raises(ValueError, match="provenance"):
        TargetSpec.model_validate(parts | {"provenance": "hearsay"})


def variable(domain: str, family: str) -> Variable:
    return Variable(
        variable="persons", domain=domain, label="l", unit="persons", over="persons", family=family
    )


@pytest.mark.parametrize(
    ("held_out", "kept"),
    [((), ["poor", "veterans"]), (("survey_tax_benefit",), ["veterans"])],
    ids=["nothing", "money as surveys measure it"],
)
def test_the_surveys_own_figures_have_a_class_too(held_out, kept):
    domains = ("total", "poor", "veterans")
    estimates = pl.DataFrame(
        {
            "level": "state",
            "geoid": "44",
            "variable": "persons",
            "domain": domains,
            "unit": "persons",
            "estimate": [100.0, 10.0, 5.0],
            "standard_error": [0.0, 1.0, 1.0],
            "carried": [100.0, 10.0, 5.0],
            "carried_standard_error": [0.0, 1.0, 1.0],
            "records": [90, 90, 90],
        }
    )
    variables = [variable("poor", "poverty"), variable("veterans", "veterans")]
    made = survey_evidence(
        estimates,
        table(row("44", 100.0)),
        variables,
        SurveyEvidence(use=True, scale_share=1.0, least_records=30, carry_error_per_year=0.01),
        state_fips="44",
        vintage="2018",
        years=0,
        held_out=held_out,
    )
    assert made["domain"].to_list() == kept
    due = {"poor": "survey_tax_benefit", "veterans": "survey_demographic"}
    assert made["provenance"].to_list() == [due[name] for name in kept]


def test_every_class_is_in_use_or_explained_and_families_exist():
    catalog, stated = load_catalog(), load_provenance()
    used = {spec.provenance_of(item) for spec in catalog.targets.values() for item in spec.items}
    assert used == set(get_args(Provenance)) - {"projection"}
    families = {variable.family for variable in catalog.variables.values()}
    assert set(stated.money) <= families


@pytest.mark.parametrize(
    ("held_out", "says"),
    [
        (["administrative_count"], "Class administrative_count is held out, and persons/total"),
        (["survey_tax_benefits"], "held_out_classes"),
    ],
)
def test_what_weights_are_scaled_to_cannot_be_held_out(tmp_path, monkeypatch, held_out, says):
    content = yaml.safe_load((SPEC_ROOT / "profiles" / "sample.yaml").read_text())
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content | {"id": "own", "held_out_classes": held_out}))
    monkeypatch.setenv("GEOCAL_PROFILE", str(path))
    with pytest.raises(SpecError, match=says):
        load_catalog().profile("own")


def test_a_surveys_figure_of_money_cannot_pass_for_another(tmp_path, monkeypatch):
    folder = tmp_path / "targets"
    folder.mkdir()
    text = (SPEC_ROOT / "targets" / "state_b17001.yaml").read_text()
    changed = text.replace("provenance: survey_tax_benefit", "provenance: survey_demographic")
    (folder / "state_b17001.yaml").write_text(changed)
    monkeypatch.setenv("GEOCAL_SPECS", str(tmp_path))
    with pytest.raises(SpecError, match="its family is poverty"):
        load_catalog().targets["state_b17001"]
