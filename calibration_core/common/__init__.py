"""What both wings use: distances, losses, step rules, number formats, threads, weight figures.

Belongs here: ideas that know neither one matrix nor a tree of areas. Does not belong here:
problems, results, solvers.
"""
