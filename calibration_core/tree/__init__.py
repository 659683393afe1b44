"""The tree wing: areas in a hierarchy, targets at every level, pairs of records and areas.

Belongs here: geography, targets, problems and results of a tree. Does not belong here: one flat
matrix.
"""
