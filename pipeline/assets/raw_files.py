"""Raw files as nodes of the graph: one for each source, which nobody makes and which is observed.

The data version of a node is the content of its files. It is reported when a run begins that reads
them, and by the sensor ``changed_files``, so that Dagster shows what rests on a changed file as out
of date, state by state where a source's files are a state's.

Belongs here: the nodes. Does not belong here: their versions (``currency/observed.py``), or reading
files (``assets/sources.py``).
"""

import dagster as dg

from pipeline.specs.profiles import Profile
from pipeline.specs.sources import SourceSpec, load_source

RAW, RAW_GROUP = "raw", "raw_files"


def raw_key(source: str) -> dg.AssetKey:
    """The node of a source's files."""
    return dg.AssetKey([RAW, source])


def raw_sources(profile: Profile) -> list[SourceSpec]:
    """Every source whose files the profile reads, by id."""
    records = profile.records
    named = {*profile.sources, profile.geography.source, records.source}
    named |= {records.donor.source} if records.donor is not None else set()
    return [load_source(name) for name in sorted(named)]


def build_raw_files(profile: Profile, partitions: dg.PartitionsDefinition) -> list[dg.AssetSpec]:
    """The nodes of a profile of published files; the sample makes its own, and has an asset for
    them.
    """
    if profile.synthetic:
        return []
    return [
        dg.AssetSpec(
            raw_key(spec.id),
            group_name=RAW_GROUP,
            kinds={"file"},
            owners=list(profile.owners),
            partitions_def=partitions if spec.coverage == "state" else None,
            description=f"Raw files of {spec.title}. Publisher: {spec.publisher}.",
            metadata={"page": dg.MetadataValue.url(spec.documentation)},
        )
        for spec in raw_sources(profile)
    ]
