"""The picture of the README: what the weights of the sample give against what was asked.

    geocal run
    python -m benchmarks.readme_figure [--output output] [--profile sample] [--state RI]
        [--file docs/images/sample_fit.png]

Belongs here: one state's fit as a small PNG. Does not belong here: drawing (``pipeline/reports``),
compressing (``small_png.py``).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import polars as pl

from benchmarks.small_png import small_png
from pipeline.reports.chart_style import render_png
from pipeline.reports.plots import fit_chart
from pipeline.specs.catalog import load_catalog


def picture(folder: Path, profile: str, state: str) -> bytes:
    """The PNG of one state's stored fit report. SystemExit says what to run if there is none."""
    stored = folder / profile / "fit_report" / f"state={state}" / "fit_report.parquet"
    if not stored.is_file():
        raise SystemExit(f"There is no {stored}. Run: geocal run --profile {profile}")
    fit = pl.read_parquet(stored).filter(pl.col("fitted").is_not_null())
    synthetic = load_catalog().profile(profile).synthetic
    chart = fit_chart(fit, f"Targets of {state}: asked and given", synthetic=synthetic)
    return small_png(render_png(chart))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("output"), help="folder of results")
    parser.add_argument("--profile", default="sample")
    parser.add_argument("--state", default="RI")
    parser.add_argument("--file", type=Path, default=Path("docs/images/sample_fit.png"))
    given = parser.parse_args(argv)
    content = picture(given.output, given.profile, given.state)
    given.file.write_bytes(content)
    print(f"{given.file}  {len(content) / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
