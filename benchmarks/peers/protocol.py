"""What every runner does around its package's one call: load, time, measure memory, write weights,
report.

Seconds are those of the call alone: imports, reading and bringing the data into the form that the
package takes are not counted, nor is the memory of that form. The first call is reported apart (it
may compile); the seconds are the least of all calls.

Belongs here: that protocol. Does not belong here: any package's interface.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import json
import sys
import time
import warnings
from pathlib import Path

import numpy as np


class Data:
    """The problem in neutral form.

    codes (records, margins) int32, amounts (records, k) float64, weights (records,) float64,
    margin_targets (margins, levels), amount_targets (k,), low and high bounds on w/d for the
    bounded tasks. For the task "margins" there are no amounts.
    """

    def __init__(self, path: str, task: str) -> None:
        with np.load(path) as z:
            self.codes, self.weights, self.margin_targets = (
                z["codes"],
                z["weights"],
                z["margin_targets"],
            )
            self.low, self.high = float(z["low"]), float(z["high"])
            empty = task == "margins"
            self.amounts = np.zeros((self.codes.shape[0], 0)) if empty else z["amounts"]
            self.amount_targets = np.zeros(0) if empty else z["amount_targets"]
        self.task = task
        self.records, self.margins = self.codes.shape
        self.levels = self.margin_targets.shape[1]
        self.total = float(self.margin_targets[0].sum())

    def dense(self, *, first_level_from: int = 1) -> tuple[np.ndarray, np.ndarray]:
        """(records, columns) matrix of full column rank and its targets: margins from
        ``first_level_from`` on leave out a level, which the others and the total imply. Every row
        is checked afterwards, left out or not.
        """
        columns, targets = [], []
        for j in range(self.margins):
            for k in range(1 if j >= first_level_from else 0, self.levels):
                columns.append((self.codes[:, j] == k).astype(np.float64))
                targets.append(self.margin_targets[j, k])
        return np.column_stack([*columns, self.amounts]), np.array([*targets, *self.amount_targets])

    def controls(self) -> dict:
        """{margin name: {level name: total}}."""
        return {
            f"m{j}": {f"c{k}": float(self.margin_targets[j, k]) for k in range(self.levels)}
            for j in range(self.margins)
        }

    def frame(self):
        """pandas DataFrame: m0, m1, ... of strings c0, c1, ..., a0, a1, ... of numbers, and d."""
        import pandas as pd

        names = np.array([f"c{k}" for k in range(self.levels)], dtype=object)
        columns = {f"m{j}": names[self.codes[:, j]] for j in range(self.margins)}
        columns |= {f"a{j}": self.amounts[:, j] for j in range(self.amounts.shape[1])}
        return pd.DataFrame({**columns, "d": self.weights})


def serve(package: str, prepare, solve, note: str = "") -> None:
    """Run ``solve(prepare(data))`` as asked on the command line. ``solve`` returns (weights, what
    it claims: True, False or None).
    """
    path, out, task, repeat, limit = (
        sys.argv[1],
        sys.argv[2],
        sys.argv[3],
        int(sys.argv[4]),
        float(sys.argv[5]),
    )
    data = Data(path, task)
    began, times, weights, claims = time.perf_counter(), [], None, None
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as said:
        warnings.simplefilter("ignore")
        prepared = prepare(data)
        reset_peak()
        baseline = resident()
        try:
            for _ in range(max(repeat, 1)):
                start = time.perf_counter()
                weights, claims = solve(prepared)
                times.append(time.perf_counter() - start)
                if time.perf_counter() - began + times[-1] > 0.5 * limit:
                    break
        except Exception as error:
            finish({"error": f"{type(error).__name__}: {str(error).strip()[:300]}"}, package, note)
            return
    np.save(Path(out), np.asarray(weights, dtype=np.float64))
    words = said.getvalue().strip().splitlines()
    extra = words[-1][:120] if words else ""
    finish(
        {
            "seconds": min(times),
            "first": times[0],
            "calls": len(times),
            "claims": None if claims is None else bool(claims),
            "memory": peak() - baseline,
            "said": extra,
        },
        package,
        note,
    )


def finish(report: dict, package: str, note: str) -> None:
    """Print the report as the last line."""
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = ""
    sys.__stdout__.write("\n" + json.dumps({**report, "version": version, "note": note}) + "\n")
    sys.__stdout__.flush()


def reset_peak() -> None:
    """Let the peak of resident memory start again from here (Linux)."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def resident() -> int:
    """Resident bytes now."""
    return _status("VmRSS")


def peak() -> int:
    """Largest resident bytes since ``reset_peak``."""
    return _status("VmHWM")


def _status(name: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":")), 0)
