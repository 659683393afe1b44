"""Releases: immutable sets of results, what differs between two, and which may follow another.

Belongs here: what a release holds, making, comparing, judging and removing releases. Does not
belong here: commands (``pipeline/cli``), or the results themselves.
"""
