"""Names of assets and of their groups: what the UI shows, and what tables are stored under.

Belongs here: those names, and inputs by name. Does not belong here: assets, or names of tables that
the steps themselves must know (``pipeline/vocabulary.py``).
"""

import dagster as dg

from pipeline.vocabulary import DENSE as DENSE
from pipeline.vocabulary import SELECTED as SELECTED
from pipeline.vocabulary import WEIGHTS as WEIGHTS

SOURCES_GROUP, TARGETS_GROUP, CANDIDATES_GROUP = "sources", "targets", "candidates"
WEIGHTS_GROUP, REPORTS_GROUP = "weights", "reports"

RAW_FILES, GEOGRAPHY = "synthetic_raw_files", "geography"
PERSONS, HOUSEHOLDS = "microdata_persons", "microdata_households"
REPLICATES = "microdata_replicates"
DONOR_PERSONS, DONOR_HOUSEHOLDS = "cps_asec_persons", "cps_asec_households"

GATE = "nation_ready"
NATIONAL_TARGETS, STATE_TARGETS = "national_targets", "state_targets"
RECONCILED, CONCEPT_GAPS = "reconciled_targets", "concept_gaps"
SURVEY_ESTIMATES = "survey_estimates"

RECORDS = ("record_persons", "record_households", "record_tax_units")
RECORD_ALIGNMENT, RECORD_DONATION = "record_alignment", "record_donation"
UNITS, AREAS, CELLS = "candidate_units", "candidate_areas", "candidate_cells"
POOLS = "candidate_pools"

SELECTED_RECORDS = ("selected_persons", "selected_households")

FIT, SELECTION_REPORT, MANIFEST = "fit_report", "selection_report", "run_manifest"
BYSTANDERS = "bystander_report"
NATIONAL_FIT, NATIONAL_REPORT = "national_fit", "national_report"

# What a step of weights or reports reads to have its state (``pipeline/steps.py``, ``solvable``).
OF_THE_STATE = (RECONCILED, UNITS, GEOGRAPHY, AREAS, POOLS)


def inputs_of(*names: str) -> dict[str, dg.AssetIn]:
    """Asset inputs that arrive under their own names."""
    return {name: dg.AssetIn(name) for name in names}
