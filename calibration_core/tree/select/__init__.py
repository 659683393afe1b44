"""Exactly k pairs out of a dense solution.

Belongs here: draws by cell, exchanges, rounds, refits, what was lost. Does not belong here: other
methods (``rivals``).
"""
