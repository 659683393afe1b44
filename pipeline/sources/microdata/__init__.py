"""Surveys: one schema of persons and households, and the readers that fill it.

Belongs here: microdata. Does not belong here: published tables (``readers``, ``tables``), or what
records become afterwards (``pipeline/records``).
"""
