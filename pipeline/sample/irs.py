"""IRS Statistics of Income of the sample: Historic Table 2 and the county data.

Belongs here: columns in the published order, AGI classes, rounding, disclosure. Does not belong
here: tax law (``taxes.py``). Counts are rounded to 10, amounts to $1,000; a state's class with
fewer than 10 returns is merged into its neighbour. A cell with fewer than 10 returns, in a county
with fewer than 20, is written as 0 with its amount. The state row of the county file and Historic
Table 2 are rounded apart and differ a little.
"""

from __future__ import annotations

import polars as pl

from pipeline.sample.files import Folder
from pipeline.sample.settings import SampleSettings

STUBS = tuple(range(1, 11))
_DISCLOSURE = 10
_COUNTY_DISCLOSURE = 20

_COUNTS = {
    "MARS1": pl.col("filing_status") == "single",
    "MARS2": pl.col("filing_status") == "joint",
    "MARS4": pl.col("filing_status") == "head_of_household",
}
# Published pairs Nxxxxx / Axxxxx and the tax unit's column; a return counts where the amount is not
# zero.
_PAIRS = {
    "02650": "total_income",
    "00200": "wages",
    "00300": "interest",
    "00400": "exempt_interest",
    "00600": "dividends",
    "00650": "qualified_dividends",
    "00900": "business",
    "01000": "capital_gains",
    "01400": "ira",
    "01700": "pensions",
    "02300": "unemployment_compensation",
    "02500": "taxable_social_security",
    "02900": "adjustments",
    "04450": "standard_used",
    "04470": "itemized_deduction",
    "04800": "taxable_income",
    "05800": "tax_before_credits",
    "07100": "credits",
    "07225": "child_credit",
    "09400": "self_employment_tax",
    "59660": "eitc",
    "59661": "eitc_0",
    "59662": "eitc_1",
    "59663": "eitc_2",
    "59664": "eitc_3",
    "11070": "additional_child_credit",
    "06500": "income_tax",
    "10300": "total_tax",
}
_HEAD = ("N1", "MARS1", "MARS2", "MARS4", "N2", "ELDERLY", "A00100")


def _columns() -> list[str]:
    """Column order of the published file: counts, AGI, then pairs."""
    return [*_HEAD, *(f"{kind}{code}" for code in _PAIRS for kind in ("N", "A"))]


def _tabulate(returns: pl.DataFrame, keys: list[str]) -> pl.DataFrame:
    """Exact counts and dollars by ``keys``; each row counts ``times`` times."""

    def total(each: pl.Expr, name: str) -> pl.Expr:
        return (each * pl.col("times")).sum().cast(pl.Float64).alias(name)

    made = [
        total(pl.lit(1), "N1"),
        *(total(condition, name) for name, condition in _COUNTS.items()),
        total(pl.col("individuals"), "N2"),
        total(pl.col("elderly"), "ELDERLY"),
        total(pl.col("agi"), "A00100"),
    ]
    for code, column in _PAIRS.items():
        made += [total(pl.col(column) != 0, f"N{code}"), total(pl.col(column), f"A{code}")]
    return returns.group_by(keys).agg(made).sort(keys)


def _disclosed(frame: pl.DataFrame, below: int = _DISCLOSURE) -> pl.DataFrame:
    """Counts to 10 and amounts to thousands; items with fewer than ``below`` returns become zero,
    amount included.
    """
    counts = [c for c in _columns() if c[0] in "NME"]
    hidden = [
        pl.when(pl.col(f"N{code}") >= below)
        .then(pl.col(f"{kind}{code}"))
        .otherwise(0.0)
        .alias(f"{kind}{code}")
        for code in _PAIRS
        for kind in ("N", "A")
    ]
    hidden += [
        pl.when(pl.col(name) >= below).then(pl.col(name)).otherwise(0.0).alias(name)
        for name in (*_COUNTS, "ELDERLY")
    ]
    frame = frame.with_columns(hidden)
    return frame.with_columns(
        *((pl.col(c) / 10.0).round(0) * 10.0 for c in counts),
        *((pl.col(c) / 1000.0).round(0) for c in _columns() if c not in counts),
    )


def _filed(tax_units: pl.DataFrame) -> pl.DataFrame:
    """The returns; ``times`` says how many there are of each, one where nothing says."""
    children = pl.col("children").clip(0, 3)
    if "times" not in tax_units.columns:
        tax_units = tax_units.with_columns(times=pl.lit(1, pl.Int64))
    return tax_units.filter("is_filer").with_columns(
        pl.col("agi_class").cast(pl.Int32).alias("stub"),
        *(pl.when(children == k).then("eitc").otherwise(0.0).alias(f"eitc_{k}") for k in range(4)),
        (0.75 * pl.col("dividends")).round(0).alias("qualified_dividends"),
        pl.when(pl.col("itemizes"))
        .then(0.0)
        .otherwise(pl.col("standard_deduction"))
        .alias("standard_used"),
    )


def _merge_thin(frame: pl.DataFrame) -> pl.DataFrame:
    """Per area, add a class with fewer than ten returns to the class below it (class 1 to the one
    above); the thin class is left with zeros.
    """
    values = frame.select(_columns()).to_numpy().copy()
    for position in range(len(STUBS) - 1, -1, -1):
        if 0 < values[position, 0] < _DISCLOSURE:
            target = position - 1 if position else 1
            values[target] += values[position]
            values[position] = 0.0
    return pl.concat(
        [frame.select("STATE", "AGI_STUB"), pl.DataFrame(values, schema=_columns(), orient="row")],
        how="horizontal",
    )


def _other_areas(returns: pl.DataFrame) -> pl.DataFrame:
    """Returns filed from abroad and from post offices of the forces: every 211th return once more,
    as the nation's "other areas".
    """
    return returns.gather_every(211).with_columns(pl.lit("OA").alias("STATE"))


def write_historic_table_2(
    folder: Folder, tax_units: pl.DataFrame, settings: SampleSettings
) -> None:
    """``22in55cmcsv.csv``: STATE by AGI_STUB 0 to 10; numbers of 1,000 and more are quoted with
    separators; amounts in $1,000.
    """
    postal = {s.fips: s.postal for s in settings.states}
    returns = _filed(tax_units).with_columns(
        pl.col("state_fips").replace_strict(postal).alias("STATE")
    )
    returns = pl.concat([returns, _other_areas(returns)])
    blocks = []
    every = pl.DataFrame({"AGI_STUB": STUBS}, schema={"AGI_STUB": pl.Int32})
    states = sorted(postal.values())
    for state in (*states, "OA"):
        exact = _tabulate(returns.filter(pl.col("STATE") == state), ["stub"]).rename(
            {"stub": "AGI_STUB"}
        )
        filled = every.join(exact, on="AGI_STUB", how="left").with_columns(
            pl.col(_columns()).fill_null(0.0), pl.lit(state).alias("STATE")
        )
        blocks.append(_merge_thin(filled))
    states_exact = pl.concat(blocks)
    nation = (
        states_exact.group_by("AGI_STUB", maintain_order=True)
        .agg(pl.col(_columns()).sum())
        .with_columns(pl.lit("US").alias("STATE"))
    )
    whole = pl.concat([nation.select(states_exact.columns), states_exact])
    total = whole.group_by("STATE", maintain_order=True).agg(
        pl.lit(0, pl.Int32).alias("AGI_STUB"), pl.col(_columns()).sum()
    )
    table = _disclosed(pl.concat([total.select(whole.columns), whole]))
    rank = {state: i for i, state in enumerate(("US", *states, "OA"))}
    table = table.sort(pl.col("STATE").replace_strict(rank), "AGI_STUB")
    lines = [",".join(["STATE", "AGI_STUB", *_columns()])]
    for row in table.select("STATE", "AGI_STUB", *_columns()).iter_rows():
        lines.append(",".join([row[0], str(row[1]), *(_separated(v) for v in row[2:])]))
    folder.text(f"irs/{settings.year % 100:02d}in55cmcsv.csv", "\n".join(lines) + "\n")


def _separated(value: float) -> str:
    text = f"{value:,.0f}"
    text = "0" if text == "-0" else text
    return f'"{text}"' if "," in text else text


def write_county(folder: Folder, tax_units: pl.DataFrame, settings: SampleSettings) -> None:
    """``22incyallnoagi.csv``: state rows (COUNTYFIPS 000) and counties, counts with ``.0000``, AGI
    and total income with ``.000``.
    """
    returns = _filed(tax_units)
    # The county file is cut from the master file earlier than Historic Table 2: late returns are
    # missing.
    early = settings.stream("irs_county_cut").random(len(returns)) < 0.9985
    returns = returns.filter(pl.Series(early))
    counties = _disclosed(_tabulate(returns, ["county_fips"]), _COUNTY_DISCLOSURE)
    state = _tabulate(returns, ["state_fips"]).rename({"state_fips": "county_fips"})
    states = _disclosed(state)
    names = {c.fips: f"{c.name} {settings.label}" for c in settings.counties} | {
        s.fips: f"{s.name} {settings.label}" for s in settings.states
    }
    postal = {s.fips: s.postal for s in settings.states}
    lines = [",".join(["STATEFIPS", "STATE", "COUNTYFIPS", "COUNTYNAME", "agi_stub", *_columns()])]
    rows = {row[0]: row[1:] for row in pl.concat([states, counties]).iter_rows()}
    for code in sorted(rows, key=lambda c: (c[:2], c[2:])):
        fips, county = code[:2], code[2:] or "000"
        cells = (
            f"{v:.3f}" if name in ("A00100", "A02650", "A04800") else f"{v:.4f}"
            for name, v in zip(_columns(), rows[code], strict=True)
        )
        lines.append(
            ",".join(
                [
                    fips,
                    postal[fips],
                    county,
                    names[code],
                    "0",
                    *(c.replace("-0.0", "0.0") if float(c) == 0 else c for c in cells),
                ]
            )
        )
    folder.text(
        f"irs/{settings.year % 100:02d}incyallnoagi.csv", "\n".join(lines) + "\n", "latin-1"
    )
