"""Where methods were imported from before version 0.4.0; they live in
``calibration_core.flat.methods``.

Belongs here: names that were public at this address. Does not belong here: anything new.
"""
