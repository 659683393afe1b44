"""Where ``moment_problem`` was imported from before version 0.4.0 (old scripts still do).

Belongs here: that name. Does not belong here: code.
"""

from calibration_core.flat.methods.entropy import moment_problem

__all__ = ["moment_problem"]
