"""One file a method, each with ``Settings`` and ``run(problem, settings, progress)``;
``flat/api.py`` finds them by name.

Belongs here: methods. Does not belong here: what several of them share.
"""
