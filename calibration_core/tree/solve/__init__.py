"""Solvers of the tree wing.

Belongs here: Newton steps, blocks, links, losses. Does not belong here: the choice of pairs.
"""
