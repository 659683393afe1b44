"""Runners of other people's calibration software, one small script each, run as processes of their
own.

    python run_NAME.py DATA.npz OUT.npy TASK REPEAT SECONDS

A runner needs only numpy and its package; it never imports this project (``run_geocal.py``
excepted). ``protocol.py`` is what they share.

Belongs here: how each peer is called at its best. Does not belong here: judging results
(``benchmarks/methods.py``).
"""
