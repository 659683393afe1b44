"""What a profile reads: its published tables, its tract list, its survey and the donor survey.

Belongs here: which files and vintages a profile names, for one state or for the nation. Does not
belong here: how a file is read (the readers), or what is made of a table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from pipeline.sources.base import SourceNote, SourceTable
from pipeline.sources.microdata.schema import Microdata
from pipeline.sources.registry import read_microdata, read_source
from pipeline.sources.tables.schemas import PublishedTable
from pipeline.specs.catalog import Catalog
from pipeline.specs.donation import Donor
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import SourceSpec, load_source

Tables = Mapping[tuple[str, str], pl.DataFrame]
"""Published tables by (source, vintage)."""


def read_published(
    spec: SourceSpec, vintages: Sequence[str], data: Path, states: Sequence[str] | None
) -> SourceTable:
    """All vintages of one publication under one another; without vintages an empty table whose note
    says that the state does without it."""
    if not vintages:
        said = f"{spec.id} is not read for {', '.join(states or ())}: its profile does without it"
        return SourceTable(PublishedTable.create_empty(), (), (SourceNote("not_read", 1, said),))
    return _under_one_another([read_source(spec, v, data, states) for v in vintages])


def read_geography(profile: Profile, data: Path, states: Sequence[str]) -> SourceTable:
    """Every vintage of the tract list that the profile names, with a column ``vintage``."""
    spec = load_source(profile.geography.source)
    tables = []
    for vintage in profile.sources[spec.id]:
        table = read_source(spec, vintage, data, states)
        frame = table.frame.with_columns(vintage=pl.lit(vintage))
        tables.append(SourceTable(frame, table.provenance, table.notes))
    table = _under_one_another(tables)
    return SourceTable(table.frame.sort("vintage", "tract"), table.provenance, table.notes)


def _under_one_another(tables: Sequence[SourceTable]) -> SourceTable:
    return SourceTable(
        pl.concat([table.frame for table in tables]),
        tuple(item for table in tables for item in table.provenance),
        tuple(note for table in tables for note in table.notes),
    )


def read_survey(profile: Profile, data: Path, postal: str) -> Microdata:
    """Persons and households of one state."""
    return read_microdata(
        load_source(profile.records.source), profile.records.vintage, data, [postal]
    )


def read_donor(donor: Donor, data: Path) -> Microdata:
    """Persons and households of the survey that the records borrow from."""
    return read_microdata(load_source(donor.source), donor.vintage, data)


def read_tables(
    catalog: Catalog,
    profile: Profile,
    postal: str,
    data: Path,
    held: dict[tuple[str, str], pl.DataFrame] | None = None,
) -> Tables:
    """Every published table that the targets of the profile are made from; ``held``: nationwide
    ones read before, to which those read now are added."""
    tables = {}
    for source, vintage in sorted(catalog.required_tables(profile)):
        spec = load_source(source)
        if held is not None and (source, vintage) in held:
            tables[source, vintage] = held[source, vintage]
            continue
        # A nationwide file is read whole: the nation reconciles with all its states, not with the
        # profile's alone.
        states = [postal] if spec.coverage == "state" else None
        tables[source, vintage] = read_source(spec, vintage, data, states).frame
        if held is not None and states is None:
            held[source, vintage] = tables[source, vintage]
    return tables
