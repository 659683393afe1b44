"""The old address of ``moment_problem``; new code says ``from calibration_core import moment_problem``.

Belongs here: that name. Does not belong here: code.
"""

from calibration_core.flat.methods.entropy import moment_problem

__all__ = ["moment_problem"]
