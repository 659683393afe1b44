"""The flat wing: one matrix of targets by records, and every method behind ``calibrate``.

Belongs here: problem, result, methods and words of one flat calibration. Does not belong here:
trees of areas.
"""
