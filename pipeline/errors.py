"""Causes of failure that concern files, specifications, profiles and stored results.

Belongs here: exception classes only. Does not belong here: numerical causes
(``calibration_core/errors.py``) or code that decides when to raise.
"""

from __future__ import annotations

from calibration_core.errors import GeocalError


class SpecError(GeocalError):
    """A YAML specification is wrong: an unknown key, a missing value, a reference to nothing."""


class ProfileError(GeocalError):
    """An unknown profile or state was asked for, or a profile cannot serve what was asked."""


class SourceFileError(GeocalError):
    """A raw file cannot be used at all: missing, empty, truncated, or not what its name says."""


class SourceLayoutError(GeocalError):
    """A raw file is readable but its columns, sheets, members or vintage are not the
    expected ones.
    """


class SourceValueError(GeocalError):
    """A value in a raw file is impossible: a negative count, a duplicated GEOID, an
    unknown code.
    """


class DownloadError(GeocalError):
    """A publisher's file could not be brought: no connection, cut off, not there, or not what it
    should be.
    """


class DownloadRefusedError(DownloadError):
    """A publisher gives the file to persons only: it refuses programs, wants a key, or answers with
    a web page.
    """


class KnownTotalError(SourceValueError):
    """A file adds up to another total than the one known of its vintage: another year's file, or
    not the whole of it.
    """


class CheckError(SourceValueError):
    """A named check of a file's figures fails (``data_specs/checks.yaml``): it has the right form
    and cannot be right.
    """


class RecordsError(GeocalError):
    """Microdata cannot serve a state: no records, orphaned persons, an impossible household."""


class TargetError(GeocalError):
    """A target cannot be built: its column is absent, its expression fails, its factor
    is missing.
    """


class StoreError(GeocalError):
    """A stored result is missing or unreadable."""


class MemoryBudgetError(GeocalError):
    """A state needs more memory than the budget that the environment states, or that is none."""


class BusyError(StoreError):
    """Another run writes the tables of a state, or of the nation, at this moment."""


class DeliveryError(GeocalError):
    """A notice did not reach the address it was meant for; it stands in the file of notices."""


class InvariantError(GeocalError):
    """A result breaks a hard rule (finite, non-negative, exactly k, every target accounted for);
    nothing was written.
    """
