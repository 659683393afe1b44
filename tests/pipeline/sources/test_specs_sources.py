"""Every source spec loads, says what it must, and a wrong one is refused by key."""

from __future__ import annotations

import re

import pytest
import yaml

from pipeline.errors import SpecError
from pipeline.specs.addresses import fill
from pipeline.specs.base import SPEC_ROOT
from pipeline.specs.sources import CodeSpec, ColumnSpec, load_source, load_sources
from pipeline.specs.states import ALL_AREAS, BY_FIPS, STATES, state_of

IDS = sorted(path.stem for path in (SPEC_ROOT / "sources").glob("*.yaml"))
SHEET = {"name": "S", "holds": "states", "labels": ["A"], "columns": {"B": "nothing"}}
COMMON = {
    "acs_pums_1yr",
    "cps_asec",
    "acs5_profile_tracts",
    "census2020_dp_tracts",
    "census2020_pl_tracts",
    "acs5_detailed_tracts",
    "acs5_s1901_counties",
    "svi_counties",
    "acs1_detailed",
    "acs1_s1901",
    "irs_historic_table_2",
    "irs_county",
    "irs_county_2009",
    "ssa_ssi_counties",
    "ssa_oasdi_counties",
    "ssa_oasdi_zip",
    "pep_counties",
    "pep_states",
    "pep_age_sex",
    "tract_puma",
}


def test_the_sources_of_the_project_are_there():
    assert set(IDS) >= COMMON
    assert sorted(load_sources()) == IDS


@pytest.mark.parametrize("source_id", IDS)
def test_a_spec_is_complete(source_id):
    spec = load_source(source_id)
    for vintage in spec.vintages:
        assert not re.search(r"\{(year|yy|table)\}", spec.url_of(vintage))
        assert spec.columns_of(vintage, spec.files_of(vintage)[0].role)
        for file in spec.files_of(vintage):
            address = spec.url_of(vintage, STATES[0], file=file, table="T")
            assert "{" not in address, f"an unknown placeholder in {address}"
            for path in file.paths:
                known = fill(path, vintage, state=STATES[0], table="T")
                assert "{" not in known, f"an unknown placeholder in {path}"
                assert not known.startswith("/")
    assert any(column.required for column in spec.columns)
    assert spec.caveats
    for code in spec.suppression:
        assert code.status != "controlled" or code.applies_to == "margin", (
            "only a margin says that an estimate is controlled"
        )


def test_the_address_of_a_file_beats_the_vintages_and_that_the_sources():
    spec = load_source("pep_counties")
    special = spec.vintages["2019"].model_copy(update={"url": "https://vintage/{yy}"})
    spec = spec.model_copy(
        update={"url": "https://source/{year}", "vintages": spec.vintages | {"2019": special}}
    )
    file = spec.files[0].model_copy(update={"url": "https://file/{st}/{table}"})
    assert spec.url_of("2024") == "https://source/2024"
    assert spec.url_of("2019", file=spec.files[0]) == "https://vintage/19"
    assert spec.url_of("2019", state_of("RI"), file=file, table="B1") == "https://file/ri/B1"


def test_amounts_in_thousands_become_dollars_and_months_stay_months():
    column = ColumnSpec(
        name="A", unit="usd_thousands_month", type="amount", description="an amount"
    )
    assert (column.scale, column.plain_unit) == (1000.0, "usd_month")
    assert ColumnSpec(name="A", unit="percent", type="rate", description="a share").scale == 1.0
    assert (
        ColumnSpec(name="A", unit="weight_hundredths", type="rate", description="a weight").scale
        == 0.01
    )


def test_acs_sources_know_every_sentinel():
    sentinels = {-666666666.0, -999999999.0, -888888888.0, -222222222.0, -333333333.0, -555555555.0}
    for spec in load_sources().values():
        if spec.id.startswith("acs") and spec.kind == "published":
            assert {code.number for code in spec.suppression} >= sentinels, spec.id
            assert {code.code for code in spec.suppression} >= {
                "(X)",
                "N",
                "-",
                "**",
                "***",
                "*****",
                "null",
                "",
            }


BASE = load_source("pep_counties").model_dump(mode="json", exclude_defaults=True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"colour": "red"}, "colour", id="unknown key"),
        pytest.param({"url": "ftp://x"}, "url", id="address"),
        pytest.param({"licence": None}, "licence", id="no licence"),
        pytest.param({"vintages": {"22": {}}}, "four-digit years", id="vintage of two digits"),
        pytest.param(
            {"columns": [{"unit": "persons", "description": "nameless"}]},
            "exactly one of name and pattern",
            id="nameless column",
        ),
        pytest.param(
            {"columns": [{"pattern": "(", "unit": "persons", "description": "broken"}]},
            "no regular expression",
            id="broken pattern",
        ),
        pytest.param(
            {"columns": [{"name": "A", "unit": "acres", "description": "unit"}]},
            "columns.0.unit",
            id="unknown unit",
        ),
        pytest.param(
            {"columns": [{"name": "A", "unit": "persons", "description": "same"}] * 2},
            "declared twice: A",
            id="column twice",
        ),
        pytest.param(
            {"files": [{"paths": ["a/{table}.csv"]}]}, "lists no tables", id="tables not listed"
        ),
        pytest.param(
            {"files": [{"paths": ["a.csv"], "url": "https://a/{table}"}]},
            "no single table",
            id="address of no table",
        ),
        pytest.param(
            {"url": "https://a/{table}"}, "no single table", id="table in the source's address"
        ),
        pytest.param(
            {"files": [{"paths": ["a.csv"], "url": "a.csv"}]}, "files.0.url", id="address of a file"
        ),
        pytest.param(
            {"vintages": {"2024": {"publishers_form": False}}},
            "say in its notes",
            id="another form without notes",
        ),
        pytest.param(
            {"layout": {"sheets": [SHEET]}}, "no columns: nothing", id="sheet of no column"
        ),
        pytest.param(
            {"layout": {"sheets": [SHEET | {"adds_up": [["nothing", "more", "other"]]}]}},
            "measures the sheet has not: more, other",
            id="sum of no column",
        ),
        pytest.param(
            {"layout": {"sheets": [SHEET | {"adds_up": [["nothing", "nothing"]]}]}},
            "a total and at least two classes",
            id="sum of one class",
        ),
        pytest.param(
            {"suppression": [{"code": "x", "status": "hidden", "meaning": "wrong"}]},
            "status",
            id="unknown status",
        ),
    ],
)
def test_a_wrong_spec_is_refused_by_key(tmp_path, change, words):
    (tmp_path / "sources").mkdir()
    content = {key: value for key, value in (BASE | change).items() if value is not None}
    (tmp_path / "sources" / "pep_counties.yaml").write_text(
        yaml.safe_dump(content, allow_unicode=True), encoding="utf-8"
    )
    with pytest.raises(SpecError, match=re.escape(words)) as caught:
        load_source("pep_counties", tmp_path)
    assert "pep_counties.yaml" in str(caught.value)


def test_an_unchanged_spec_survives_the_same_path(tmp_path):
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "pep_counties.yaml").write_text(
        yaml.safe_dump(BASE, allow_unicode=True), encoding="utf-8"
    )
    assert load_source("pep_counties", tmp_path) == load_source("pep_counties")
    (tmp_path / "sources" / "other.yaml").write_text(
        yaml.safe_dump(BASE, allow_unicode=True), encoding="utf-8"
    )
    with pytest.raises(SpecError, match="id is 'pep_counties'"):
        load_source("other", tmp_path)


def test_an_unknown_source_names_the_known_ones():
    with pytest.raises(SpecError, match=r"no source 'pep_county'.*pep_counties"):
        load_source("pep_county")


def test_a_code_that_reads_as_a_number_is_compared_as_one():
    assert (
        CodeSpec(code="-666666666", status="not_available", meaning="sentinel").number == -666666666
    )
    assert CodeSpec(code="(X)", status="suppressed", meaning="withheld").number is None
    assert CodeSpec(code="", status="not_available", meaning="blank").number is None


def test_states_are_the_51_and_five_areas():
    assert len(STATES) == 51
    assert len(ALL_AREAS) == len(BY_FIPS) == 56
    assert (state_of("ri").fips, state_of("RI").name, state_of("DC").fips, state_of("PR").fips) == (
        "44",
        "Rhode Island",
        "11",
        "72",
    )


def test_a_publication_of_a_known_form_needs_yaml_only(read, cell):
    """A made-up publication in the SVI's form: other columns, another code, no line of Python."""
    spec = load_source("svi_counties").model_dump(mode="json", exclude_defaults=True)
    spec |= {
        "id": "made_up",
        "layout": {
            "geography": "CODE",
            "name_column": "PLACE",
            "parts": "prefix",
            "estimate_mark": "V_",
            "margin_mark": "S_",
        },
        "files": [{"paths": ["made/{year}.csv"]}],
        "vintages": {"2031": {}},
        "columns": [
            {
                "name": "SALES",
                "rename": "sales",
                "type": "amount",
                "unit": "usd_thousands",
                "description": "invented",
            }
        ],
        "suppression": [{"code": "?", "status": "suppressed", "meaning": "invented mark"}],
    }
    from pipeline.specs.sources import SourceSpec

    table = read(
        SourceSpec.model_validate(spec),
        "2031",
        {"made/2031.csv": "CODE,PLACE,V_SALES,S_SALES\n44001,SYNTHETIC,7,2\n44003,SYNTHETIC,?,1\n"},
    )
    assert cell(table.frame, "44001", "sales")["estimate"] == 7000
    assert cell(table.frame, "44001", "sales")["margin_of_error"] == 2000
    assert cell(table.frame, "44003", "sales")["status"] == "suppressed"
