"""Draws of exactly so many records: controlled rounding of cells, and samples with given inclusion probabilities.

Belongs here: whole counts and draws from probabilities. Does not belong here: how many an area gets (``allocation.py``), refitting.
"""
