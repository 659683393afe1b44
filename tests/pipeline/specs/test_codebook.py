"""The codebook says what stands in the stored tables: no column, type or code more or less."""

from __future__ import annotations

import re

import pytest
import yaml

from pipeline.errors import SpecError
from pipeline.records.align import ALIGNMENT_SCHEMA, ORIGIN
from pipeline.records.donation_table import DONATION_SCHEMA
from pipeline.records.donation_table import STATUSES as DONATION_STATUSES
from pipeline.records.survey_estimates import ESTIMATE_SCHEMA
from pipeline.reports.bystander_schema import BYSTANDER_SCHEMA, STATUSES
from pipeline.reports.selection_report import SCHEMA as LOSS_SCHEMA
from pipeline.sources.microdata import schema
from pipeline.sources.microdata.donor_schema import DonorHouseholdTable, DonorPersonTable
from pipeline.sources.microdata.schema import HouseholdTable, PersonTable
from pipeline.sources.tables.schemas import PublishedTable, TractPumaTable
from pipeline.specs.alignment import STEPS
from pipeline.specs.base import SPEC_ROOT
from pipeline.specs.codebook import CODEBOOK_FILE, Codebook, load_codebook
from pipeline.specs.sources import load_sources
from pipeline.targets.build import TARGET_SCHEMA
from pipeline.vocabulary import LEVELS, ROLES, SMALLEST
from pipeline.weights.table import WEIGHTS_SCHEMA
from tests.pipeline.codebook_faults import type_of

BOOK = load_codebook()
SCHEMAS = {
    "weights": WEIGHTS_SCHEMA,
    "bystander_report": BYSTANDER_SCHEMA,
    "record_alignment": ALIGNMENT_SCHEMA,
    "record_donation": DONATION_SCHEMA,
    "survey_estimates": ESTIMATE_SCHEMA,
    "reconciled_targets": TARGET_SCHEMA,
    "state_targets": TARGET_SCHEMA,
    "national_targets": TARGET_SCHEMA,
    "selection_report": LOSS_SCHEMA,
    "microdata_persons": PersonTable.create_empty().schema,
    "cps_asec_persons": DonorPersonTable.create_empty().schema,
    "cps_asec_households": DonorHouseholdTable.create_empty().schema,
    "microdata_households": HouseholdTable.create_empty().schema,
    "irs_county": PublishedTable.create_empty().schema,
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_table_has_the_columns_that_its_schema_has(name):
    table = BOOK.table(name)
    wanted = SCHEMAS[name]
    assert sorted(BOOK.names_of(table)) == sorted(wanted)
    said = {column: BOOK.column(table, column).type for column in wanted}
    assert said == {c: type_of(t() if isinstance(t, type) else t) for c, t in wanted.items()}


def test_the_geography_has_what_its_reader_gives():
    table = BOOK.table("geography")
    assert set(BOOK.names_of(table)) == {*TractPumaTable.create_empty().schema, "vintage"}


def codes(name: str) -> tuple:
    return tuple(BOOK.codes[name])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("sex", schema.SEX),
        ("relationship", schema.RELATIONSHIP),
        ("marital_status", schema.MARITAL_STATUS),
        ("race", schema.RACE),
        ("school", schema.SCHOOL),
        ("employment", schema.EMPLOYMENT),
        ("class_of_worker", schema.CLASS_OF_WORKER),
        ("commute", schema.COMMUTE),
        ("moved", schema.MOVED),
        ("tenure", schema.TENURE),
        ("education", range(1, 25)),
        ("origin", ORIGIN),
        ("donation_status", DONATION_STATUSES),
        ("bystander_status", STATUSES),
        ("step", STEPS),
        ("level", LEVELS),
        ("role", ROLES),
        ("unit", SMALLEST),
        ("agi_class", [str(number) for number in range(1, 11)]),
        ("agi_class_county", [str(number) for number in range(1, 9)]),
    ],
)
def test_every_code_has_a_label_and_no_other_is_there(name, values):
    assert codes(name) == tuple(values)


def test_marks_of_withheld_cells_are_codes_of_their_status():
    used = {code.status for spec in load_sources().values() for code in spec.suppression}
    assert used < set(codes("cell_status"))


def test_what_is_measured_has_a_unit_and_what_is_coded_has_labels():
    """Amounts and shares without a unit are what a reader cannot use."""
    numbers = {"person_number", "tax_unit", "primary_person", "secondary_person", "cell"}
    for table in BOOK.tables:
        every = {name: BOOK.column(table, name) for name in BOOK.names_of(table)}
        for name, column in (every | table.patterns).items():
            if column.type == "number" or (column.type == "integer" and name not in numbers):
                assert column.unit or column.codes or name in ("order", "row"), name
            assert not column.codes or column.type in ("text", "integer")


def test_every_list_of_codes_is_used():
    used = {c.codes for c in BOOK.columns.values()}
    for table in BOOK.tables:
        used |= {c.codes for c in (*table.own.values(), *table.patterns.values())}
    assert used - {""} == set(BOOK.codes)
    listed = {n for t in BOOK.tables for n in (*t.columns, *t.sometimes)}
    assert listed == set(BOOK.columns)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"columns": {}}, "no column", id="unknown column"),
        pytest.param({"codes": {}}, "no list of codes", id="unknown codes"),
        pytest.param({"colour": 1}, "colour", id="unknown key"),
    ],
)
def test_a_codebook_that_contradicts_itself_is_refused(tmp_path, change, words):
    content = yaml.safe_load((SPEC_ROOT / CODEBOOK_FILE).read_text(encoding="utf-8"))
    (tmp_path / CODEBOOK_FILE).write_text(yaml.safe_dump(content | change, allow_unicode=True))
    with pytest.raises(SpecError, match=re.escape(words)):
        load_codebook(tmp_path)


def test_a_key_that_is_no_column_and_a_column_twice_are_refused():
    content = BOOK.model_dump()
    first = content["tables"][0]
    for change, words in (
        ({"key": ["nothing"]}, "its key has"),
        ({"columns": ["tract"] * 2}, "twice"),
    ):
        tables = [first | {"key": ["tract"]} | change, *content["tables"][1:]]
        with pytest.raises(ValueError, match=words):
            Codebook.model_validate(content | {"tables": tables})
