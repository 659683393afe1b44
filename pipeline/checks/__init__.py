"""Named checks of files that have the right form and may be wrong: parts against wholes, files
against each other, another vintage, the survey against published totals.

Belongs here: what computes them from tables as read; rules, thresholds and their evidence are in
``data_specs/checks.yaml``. Does not belong here: reading, targets, Dagster.
"""
