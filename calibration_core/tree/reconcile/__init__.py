"""One consistent tree of targets.

Belongs here: sweeps, categories, shares over areas. Does not belong here: weights.
"""
