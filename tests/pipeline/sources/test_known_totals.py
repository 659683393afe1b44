"""Files of the right form and another year, or a part of them: refused by what they add up to."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import pytest

from pipeline.errors import KnownTotalError, SourceLayoutError, SpecError
from pipeline.sources.registry import check_source, read_source
from pipeline.specs.known_totals import load_known_totals
from pipeline.specs.sources import load_source, load_sources

COUNTY = "acs_tables/county_us"
S1901 = COUNTY + "/ACSST5Y{}.S1901-Data.csv"
SVI = COUNTY + "/SVI_{}_US_county.csv"


def placed(realdata: Path, folder: Path, real: str, name: str) -> Path:
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(realdata / real, target)
    return target


def edited(path: Path, column: str, edit) -> None:
    """Each cell of one column through ``edit``."""
    rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    for row in rows:
        row[column] = edit(row[column])
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.write_text(text.getvalue(), encoding="utf-8")


@pytest.mark.parametrize(
    ("held", "asked"),
    [("2019", "2018"), ("2020", "2021"), ("2010", "2012"), ("2013", "2012"), ("2021", "2022")],
)
def test_s1901_of_another_year_is_refused_by_its_households(realdata, tmp_path, held, asked):
    placed(realdata, tmp_path, S1901.format(held), S1901.format(asked))
    with pytest.raises((KnownTotalError, SourceLayoutError)) as caught:
        read_source(load_source("acs5_s1901_counties"), asked, tmp_path)
    assert held in str(caught.value) or isinstance(caught.value, SourceLayoutError)
    (line,) = check_source(load_source("acs5_s1901_counties"), asked, tmp_path)
    assert not line.ok


def test_the_message_names_the_year_that_the_file_holds(realdata, tmp_path):
    placed(realdata, tmp_path, S1901.format("2013"), S1901.format("2012"))
    with pytest.raises(KnownTotalError, match=r"115,610,216.*115,226,802.*it is that of 2013"):
        read_source(load_source("acs5_s1901_counties"), "2012", tmp_path)


def test_svi_of_2016_as_2018_is_refused(realdata, tmp_path):
    """CDC's file of 2016 has the columns and counties of 2018: here 2018 with 2016's population."""
    path = placed(realdata, tmp_path, SVI.format("2018"), SVI.format("2018"))
    share = 318_558_162 / 322_903_030
    edited(path, "E_TOTPOP", lambda cell: str(round(float(cell) * share)))
    with pytest.raises(KnownTotalError, match="TOTPOP of"):
        read_source(load_source("svi_counties"), "2018", tmp_path)


def test_a_meaning_that_changed_under_one_name_has_a_name_for_each(realdata):
    old = read_source(load_source("svi_counties"), "2018", realdata).frame
    new = read_source(load_source("svi_counties"), "2020", realdata).frame
    assert "SNGPNT" not in set(old["column"]) and "SNGPNT_NO_SPOUSE" in set(old["column"])
    assert "SNGPNT" in set(new["column"]) and "SNGPNT_NO_SPOUSE" not in set(new["column"])


def test_the_new_meaning_in_a_file_of_the_old_one_is_refused(realdata, tmp_path):
    path = placed(realdata, tmp_path, SVI.format("2018"), SVI.format("2018"))
    edited(path, "E_SNGPNT", lambda cell: str(round(float(cell) * 7_888_778 / 10_694_673)))
    with pytest.raises(KnownTotalError, match="SNGPNT_NO_SPOUSE of US"):
        read_source(load_source("svi_counties"), "2018", tmp_path)


def test_irs_county_file_of_2023_is_refused(realdata, tmp_path):
    """Its columns N07262 and N07265 are told, and else its returns."""
    real = "irs/22incyallnoagi_ri.csv"
    path = placed(realdata, tmp_path, real, real)
    text = path.read_text("latin-1")
    path.write_text(text.replace("N07260", "N07262").replace("A07260", "A07262"), "latin-1")
    with pytest.raises(SourceLayoutError, match="N07262 is present"):
        read_source(load_source("irs_county"), "2022", tmp_path, ["RI"])
    path.write_text(text, "latin-1")
    edited(path, "N1", lambda cell: f"{float(cell) * 1.008:.4f}")
    with pytest.raises(KnownTotalError, match="N1 of RI"):
        read_source(load_source("irs_county"), "2022", tmp_path, ["RI"])


def test_a_county_that_is_missing_is_told(realdata, tmp_path):
    path = placed(realdata, tmp_path, SVI.format("2022"), SVI.format("2022"))
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    kept = [line for line in lines if "44005" not in line]
    assert len(kept) == len(lines) - 1
    path.write_text("\n".join(kept) + "\n", encoding="utf-8")
    with pytest.raises(KnownTotalError, match="RI"):
        read_source(load_source("svi_counties"), "2022", tmp_path)


def test_a_part_of_a_state_is_not_judged_where_parts_are_allowed(realdata, tmp_path):
    real = "acs_tables/tx_bexar_tracts/ACSDP5Y2021.DP05-Data.csv"
    placed(realdata, tmp_path, real, "acs_tables/download/tx/ACSDP5Y2021.DP05-Data.csv")
    table = read_source(load_source("acs5_tables_download"), "2021", tmp_path, ["TX"])
    notes = [note for note in table.notes if note.code == "known_total_missing"]
    assert len(notes) == 1 and "only a part" in notes[0].detail


def test_a_year_without_a_known_total_says_so(realdata, tmp_path):
    """A new year is a line of YAML; until its total is listed, every read says that none is."""
    spec = load_source("svi_counties")
    newer = spec.model_copy(update={"vintages": {**spec.vintages, "2025": spec.vintages["2022"]}})
    placed(realdata, tmp_path, SVI.format("2022"), SVI.format("2025"))
    (line,) = check_source(newer, "2025", tmp_path)
    assert line.ok and "no known total of TOTPOP for 2025" in line.message


def test_a_transcription_is_marked(realdata):
    table = read_source(load_source("ssa_oasdi_states"), "2022", realdata)
    assert [n.count for n in table.notes if n.code == "transcription"] == [1]
    lines = check_source(load_source("ssa_oasdi_states"), "2022", realdata)
    assert all("TRANSCRIPTION" in line.message for line in lines)


def test_every_series_is_used_and_every_use_is_a_series():
    known = load_known_totals()
    used = {entry.series for spec in load_sources().values() for entry in spec.known_totals}
    assert used == set(known) - {"county_count"}


def test_states_of_a_series_add_up_to_its_nation():
    for series in load_known_totals().values():
        for areas in series.years.values():
            if series.states_add_up and len(areas) == 52:
                assert sum(areas.values()) - areas["US"] == areas["US"]


def test_a_series_that_nothing_declares_is_a_fault(realdata):
    spec = load_source("pep_counties")
    entry = spec.known_totals[0].model_copy(update={"series": "nothing"})
    with pytest.raises(SpecError, match="no series 'nothing'"):
        read_source(spec.model_copy(update={"known_totals": (entry,)}), "2024", realdata)


def test_made_up_files_have_known_totals_of_their_own(tmp_path):
    (tmp_path / "known_totals.yaml").write_text("# SYNTHETIC\n{}\n")
    assert load_known_totals(tmp_path) == {}
    assert len(load_known_totals(tmp_path / "none")) > 10
