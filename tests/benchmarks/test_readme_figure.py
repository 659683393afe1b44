"""The picture of the README: drawn from stored fits, small, and clear about what is missing."""

import polars as pl
import pytest

from benchmarks.readme_figure import main


def test_a_stored_fit_becomes_a_small_picture(tmp_path, capsys):
    folder = tmp_path / "sample" / "fit_report" / "state=RI"
    folder.mkdir(parents=True)
    pl.DataFrame(
        {
            "level": ["state", "tract", "tract", "tract"],
            "value": [100.0, 30.0, 70.0, 5.0],
            "fitted": [101.0, 29.0, 72.0, None],
        }
    ).write_parquet(folder / "fit_report.parquet")
    file = tmp_path / "fit.png"
    assert main([f"--output={tmp_path}", f"--file={file}"]) == 0
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size < 80_000
    assert "fit.png" in capsys.readouterr().out


def test_a_state_that_was_not_run_is_named(tmp_path):
    with pytest.raises(SystemExit, match="geocal run --profile sample"):
        main([f"--output={tmp_path}", "--state=DE"])
