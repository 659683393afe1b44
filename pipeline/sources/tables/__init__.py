"""What readers of publications share: text and cells, columns, areas, the schema of the result.

Belongs here: rules that hold for every published table. Does not belong here: any publication's
layout (``readers``).
"""
