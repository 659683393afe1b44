"""One state without Dagster: where every benchmark of the pipeline starts. The loading itself is
the pipeline's own.

Belongs here: nothing but the name benchmarks know it by. Does not belong here: a step of loading
(``pipeline/steps.py``), or a comparison (a module each beside this one).
"""

from __future__ import annotations

from pipeline.loaded_state import LoadedState, load_state

__all__ = ["LoadedState", "load_state"]
