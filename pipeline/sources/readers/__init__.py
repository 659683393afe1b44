"""Readers of statistical publications, one module per publisher's layout.

Belongs here: layouts of files and what is peculiar to each. Does not belong here: cells, columns
and areas, which all of them share (``tables``), or microdata.
"""
