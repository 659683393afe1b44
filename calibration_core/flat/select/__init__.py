"""Choosing records of one flat problem.

Belongs here: shares of cells, draws, exchanges, refits. Does not belong here: methods; draws along
a list (``sampling``).
"""
