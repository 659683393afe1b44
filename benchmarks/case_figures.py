"""Figures that the known answers give beside the weights, recomputed from ours: means, totals, an
average treatment effect.

    sum_w             the sum of weights                         ess_*      (sum w)^2 / sum w^2
    svymean_NAME      the weighted mean of a raw column          svytotal_NAME   its weighted total
    att_NAME          mean over the treated less the weighted mean over the controls

Raw columns come from ``NAME_raw.csv``, or from the raw table of another case of the folder on the
same records.

Belongs here: these figures. Does not belong here: standard errors (they need the design, which the
cases do not hold).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.case_files import Case


def figures_of(case: Case, weights: list[np.ndarray]) -> tuple[tuple[str, float, float], ...]:
    """(label, ours, published) of every figure of the case that can be recomputed."""
    if case.areas:
        return ()
    w, out = weights[0], []
    published = {
        k: float(v)
        for k, v in case.content.items()
        if isinstance(v, int | float) and not isinstance(v, bool)
    }
    raw = (
        _raw_table(case)
        if any(k.startswith(("svymean_", "svytotal_", "att_")) for k in published)
        else None
    )
    for key, theirs in published.items():
        kind, _, name = key.partition("_")
        ours = None
        if key == "sum_w":
            ours = float(w.sum())
        elif kind == "ess":
            ours = float(w.sum()) ** 2 / float((w**2).sum())
        elif (
            kind in ("svymean", "svytotal")
            and raw is not None
            and name in raw.columns
            and raw.height == w.size
        ):
            total = float(w @ raw[name].to_numpy())
            ours = total / float(w.sum()) if kind == "svymean" else total
        elif kind == "att" and raw is not None and {name, "treat"} <= set(raw.columns):
            treated = raw["treat"].to_numpy() == 1
            if int((~treated).sum()) == w.size:
                values = raw[name].to_numpy()
                ours = float(values[treated].mean() - w @ values[~treated] / w.sum())
        if ours is not None:
            out.append((key, ours, theirs))
    return tuple(out)


def _raw_table(case: Case) -> pl.DataFrame | None:
    own = case.path.with_name(f"{case.path.stem}_raw.csv")
    if own.is_file():
        return _read(own)
    for path in sorted(case.path.parent.glob("*_raw.csv")):
        table = _read(path)
        if table is not None and _same_records(table, case):
            return table
    return None


def _read(path: Path) -> pl.DataFrame | None:
    try:
        return pl.read_csv(path, infer_schema_length=None, null_values=["NA"])
    except pl.exceptions.PolarsError:
        return None


def _same_records(table: pl.DataFrame, case: Case) -> bool:
    """Whether a raw table is about the case's records: as many, and one of its columns is the base
    weight or a constraint that varies.
    """
    part = case.parts[0]
    if table.height != part.initial.size:
        return False
    for name in table.columns:
        if table[name].dtype.is_numeric():
            values = table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
            row = (
                part.matrix[case.constraints.index(name)]
                if name in case.constraints
                else part.initial
                if name in ("pw", "weight", "d")
                else None
            )
            if row is not None and np.allclose(values, row, rtol=1e-6):
                return True
    return False
