"""What linear programs say about a problem. Belongs here: LPs. Does not belong here: words on multipliers."""

from __future__ import annotations

import numpy as np


def explain(problem, rows: np.ndarray) -> tuple:
    """Findings."""
    return ()


def minimax_error(problem, rows: np.ndarray) -> float | None:
    """Smallest possible largest |r_j| / s_j over rows."""
    return None
