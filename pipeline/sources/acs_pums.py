"""Where ``read_pums`` was imported from before version 0.4.0; it lives in ``sources/microdata``.

Belongs here: names that were public at this address. Does not belong here: anything new.
"""

from pipeline.sources.microdata.acs_pums import read_pums

__all__ = ["read_pums"]
