"""Solvers of the flat wing.

Belongs here: iterations on one matrix. Does not belong here: methods, words, choices of records.
"""
