"""Assets of the group ``sources``: raw files in, checked tables out, one asset a publication.

Belongs here: which reader serves which source of the profile, and provenance. Does not belong here:
how a file is read (``pipeline/sources``). The assets are made from the profile: a source that
another profile uses is not in this profile's graph.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl

from pipeline.assets.common import (
    INGEST_RETRY,
    check_specs,
    code_version,
    frame_metadata,
    inline_png,
    markdown_table,
    permanent,
    permanent_tables,
)
from pipeline.io_manager import Table
from pipeline.settings import RunEnvironment
from pipeline.sources.base import SourceTable, resolve_files
from pipeline.sources.files import FileProvenance
from pipeline.sources.microdata_schema import Microdata
from pipeline.sources.registry import read_source
from pipeline.specs.profiles import Donor, Profile
from pipeline.specs.sources import SourceSpec, load_source
from pipeline.specs.states import state_of

GROUP = "sources"
RAW_FILES = "synthetic_raw_files"
GEOGRAPHY = "geography"
PERSONS, HOUSEHOLDS = "microdata_persons", "microdata_households"
DONOR_PERSONS, DONOR_HOUSEHOLDS = "cps_asec_persons", "cps_asec_households"
_CODE = ("pipeline/sources", "pipeline/specs/sources.py", "data_specs/sources")


def provenance_facts(provenance: Iterable[FileProvenance], data: Path) -> list[dict[str, Any]]:
    """Provenance for a stored table: file relative to the data folder (no folder of this machine),
    member, bytes, SHA-256; sorted.
    """
    entries = []
    for item in provenance:
        path = Path(item.path)
        file = path.relative_to(data).as_posix() if path.is_relative_to(data) else path.name
        entries.append(
            {"file": file, "member": item.member, "bytes": item.bytes, "sha256": item.sha256}
        )
    return sorted(entries, key=lambda entry: (entry["file"], entry["member"]))


def published_sources(profile: Profile, coverage: str | None = None) -> list[SourceSpec]:
    """Specs of the profile's statistical publications (neither microdata nor geography), by id; of
    one coverage if given.
    """
    specs = [load_source(source) for source in sorted(profile.sources)]
    return [
        spec for spec in specs if spec.kind == "published" and coverage in (None, spec.coverage)
    ]


def build_source_assets(
    profile: Profile, environment: RunEnvironment, partitions: dg.PartitionsDefinition
) -> list[dg.AssetsDefinition]:
    """Every asset of the group for this profile, in the order of their keys."""
    raw = [_synthetic_raw_files(profile, environment)] if profile.synthetic else []
    deps = [RAW_FILES] if profile.synthetic else []
    published = [
        _published(spec, profile, environment, partitions, deps)
        for spec in published_sources(profile)
    ]
    others = [
        _geography(profile, environment, deps),
        _microdata(profile, environment, partitions, deps),
    ]
    if profile.records.donor is not None:
        others.append(_donor(profile.records.donor, profile, environment, deps))
    return [*raw, *published, *others]


def _synthetic_raw_files(profile: Profile, environment: RunEnvironment) -> dg.AssetsDefinition:
    @dg.asset(
        name=RAW_FILES,
        group_name=GROUP,
        kinds={"python", "csv"},
        code_version=code_version("pipeline/sample", "data_specs/sample.yaml"),
        description=(
            "SYNTHETIC. The embedded default: raw files in the publishers' own formats, written by"
            " a generator from one known population, so that the readers downstream are the ones"
            " that read real files."
        ),
    )
    @permanent
    def synthetic_raw_files(context: dg.AssetExecutionContext) -> dg.MaterializeResult:
        from pipeline.sample.generate import ensure_sample

        ensure_sample(environment.data)
        files = sorted(path for path in environment.data.rglob("*") if path.is_file())
        listing = "\n".join(
            f"* {path.relative_to(environment.data).as_posix()} ({path.stat().st_size:,} bytes)"
            for path in files
        )
        return dg.MaterializeResult(
            metadata={
                "label": "SYNTHETIC",
                "files": len(files),
                "folder": dg.MetadataValue.path(str(environment.data)),
                "listing": dg.MetadataValue.md(listing),
            }
        )

    return synthetic_raw_files


def _cells_plot(frame: pl.DataFrame, title: str, synthetic: bool) -> dg.MetadataValue:
    from pipeline.reports.plots import bars

    counts = (
        frame.group_by(pl.col("level").cast(pl.String) + " · " + pl.col("status").cast(pl.String))
        .len("cells")
        .sort("level")
    )
    return inline_png(bars(counts, "level", "cells", title, "cells", synthetic=synthetic), title)


def _read_vintages(
    spec: SourceSpec,
    vintages: Sequence[str],
    environment: RunEnvironment,
    states: Sequence[str] | None,
) -> SourceTable:
    """All vintages of one publication under one another."""
    tables = [read_source(spec, vintage, environment.data, states) for vintage in vintages]
    return SourceTable(
        pl.concat([table.frame for table in tables]),
        tuple(item for table in tables for item in table.provenance),
        tuple(note for table in tables for note in table.notes),
    )


def _published(
    spec: SourceSpec,
    profile: Profile,
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition,
    deps: list[str],
) -> dg.AssetsDefinition:
    by_state = spec.coverage == "state"
    vintages = profile.sources[spec.id]

    @dg.asset(
        name=spec.id,
        group_name=GROUP,
        kinds={"polars", "parquet"},
        partitions_def=partitions if by_state else None,
        deps=deps,
        retry_policy=INGEST_RETRY,
        code_version=code_version(*_CODE),
        description=(
            f"{spec.title}, {', '.join(vintages)}. Publisher: {spec.publisher}."
            f" {spec.documentation}"
        ),
        metadata={
            "publisher": spec.publisher,
            "url": dg.MetadataValue.url(spec.url_of(vintages[0])),
            "vintages": list(vintages),
        },
        check_specs=check_specs(
            spec.id, {"has_published_cells": "At least one cell of every vintage carries a value."}
        ),
    )
    @permanent
    def published(context: dg.AssetExecutionContext):
        # A nationwide file is kept whole: the nation reconciles with all its states, not with the
        # profile's alone.
        states = [context.partition_key] if by_state else None
        table = _read_vintages(spec, vintages, environment, states)
        counts = dict(
            table.frame.filter(pl.col("estimate").is_not_null())
            .group_by("vintage")
            .len()
            .iter_rows()
        )
        empty = [vintage for vintage in vintages if not counts.get(vintage)]
        facts = {
            "provenance": provenance_facts(table.provenance, environment.data),
            "source": spec.id,
            "vintages": list(vintages),
        }
        return dg.MaterializeResult(
            value=Table(table.frame, facts),
            metadata=frame_metadata(
                table.frame,
                notes=[f"{note.code}: {note.detail} ({note.count:,})" for note in table.notes],
                files=dg.MetadataValue.json(facts["provenance"]),
                plot=_cells_plot(table.frame, f"Cells of {spec.id}", profile.synthetic),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="has_published_cells",
                    passed=not empty,
                    metadata={"cells_by_vintage": counts, "empty": empty},
                )
            ],
        )

    return published


def _geography(
    profile: Profile, environment: RunEnvironment, deps: list[str]
) -> dg.AssetsDefinition:
    spec = load_source(profile.geography.source)
    vintages = profile.sources[spec.id]

    @dg.asset(
        name=GEOGRAPHY,
        group_name=GROUP,
        kinds={"polars", "parquet"},
        deps=deps,
        retry_policy=INGEST_RETRY,
        code_version=code_version(*_CODE),
        description=(
            f"{spec.title}, {', '.join(vintages)}: each census tract with its county and its PUMA,"
            " a row a tract and vintage."
        ),
        metadata={
            "publisher": spec.publisher,
            "url": dg.MetadataValue.url(spec.url_of(vintages[0])),
            "vintages": list(vintages),
        },
        check_specs=check_specs(
            GEOGRAPHY,
            {
                "every_state_has_areas": (
                    "Every state of the profile has at least one tract and one county in every"
                    " vintage."
                )
            },
        ),
    )
    @permanent
    def geography(context: dg.AssetExecutionContext):
        tables = [
            (vintage, read_source(spec, vintage, environment.data, list(profile.states)))
            for vintage in vintages
        ]
        frame = pl.concat(
            [table.frame.with_columns(vintage=pl.lit(vintage)) for vintage, table in tables]
        ).sort("vintage", "tract")
        present = set(frame.select("vintage", "state_fips").unique().iter_rows())
        absent = sorted(
            f"{vintage}/{fips}"
            for vintage in vintages
            for fips in profile.state_fips
            if (vintage, fips) not in present
        )
        provenance = provenance_facts(
            [item for _, table in tables for item in table.provenance], environment.data
        )
        sizes = frame.group_by("vintage", "state_fips").agg(
            tracts=pl.len(),
            counties=pl.col("county_fips").n_unique(),
            pumas=pl.col("puma").n_unique(),
        )
        return dg.MaterializeResult(
            value=Table(
                frame, {"provenance": provenance, "source": spec.id, "vintages": list(vintages)}
            ),
            metadata=frame_metadata(
                frame,
                notes=[
                    f"{note.code}: {note.detail} ({note.count:,})"
                    for _, table in tables
                    for note in table.notes
                ],
                files=dg.MetadataValue.json(provenance),
                sizes=dg.MetadataValue.md(
                    markdown_table(sizes.sort("vintage", "state_fips"), limit=60)
                ),
            ),
            check_results=[
                dg.AssetCheckResult(
                    check_name="every_state_has_areas",
                    passed=not absent,
                    metadata={"absent": absent},
                )
            ],
        )

    return geography


def _microdata_results(
    names: tuple[str, str], microdata: Microdata, environment: RunEnvironment, synthetic: bool
) -> list[dg.MaterializeResult]:
    """The two outputs of a survey with their metadata."""
    from pipeline.reports.plots import histogram

    facts = {"provenance": provenance_facts(microdata.provenance, environment.data)}
    results = []
    for name, frame in zip(names, (microdata.persons, microdata.households), strict=True):
        title = f"Design weights of {name}"
        metadata = frame_metadata(
            frame,
            notes=microdata.notes,
            files=dg.MetadataValue.json(facts["provenance"]),
            sum_of_weights=float(frame["weight"].sum()),
            plot=inline_png(
                histogram(frame, "weight", title, "design weight", synthetic=synthetic), title
            ),
        )
        results.append(
            dg.MaterializeResult(asset_key=name, value=Table(frame, facts), metadata=metadata)
        )
    return results


def _survey(
    name: str,
    names: tuple[str, str],
    what: str,
    read: Callable[[str | None], Microdata],
    profile: Profile,
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition | None,
    deps: list[str],
) -> dg.AssetsDefinition:
    """Two assets of one step, persons and households of a survey; ``read`` takes the state's postal
    code, or None for the nation.
    """
    contents = ("persons", "households, and persons in group quarters as units of one")
    outs = {
        key: dg.AssetOut(
            is_required=False,
            group_name=GROUP,
            kinds={"polars", "parquet"},
            description=f"{what}: {content}.",
            code_version=code_version(*_CODE),
        )
        for key, content in zip(names, contents, strict=True)
    }

    @dg.multi_asset(
        can_subset=True,
        name=name,
        outs=outs,
        deps=deps,
        partitions_def=partitions,
        retry_policy=INGEST_RETRY,
    )
    @permanent_tables
    def survey(context: dg.AssetExecutionContext):
        microdata = read(context.partition_key if partitions is not None else None)
        return _microdata_results(names, microdata, environment, profile.synthetic)

    return survey


def _microdata(
    profile: Profile,
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition,
    deps: list[str],
) -> dg.AssetsDefinition:
    spec, vintage = load_source(profile.records.source), profile.records.vintage

    def read(postal: str | None) -> Microdata:
        from pipeline.sources.acs_pums import read_pums

        state = state_of(postal or "")
        files = {
            file.role: file.path
            for file in resolve_files(spec, vintage, environment.data, [state.postal])
        }
        url = spec.url_of(vintage, state)
        return read_pums(
            files["persons"],
            files.get("housing"),
            year=int(vintage),
            state_fips=state.fips,
            source=spec.id,
            url=url,
        )

    return _survey(
        "microdata",
        (PERSONS, HOUSEHOLDS),
        f"{spec.title}, {vintage}",
        read,
        profile,
        environment,
        partitions,
        deps,
    )


def _donor(
    donor: Donor, profile: Profile, environment: RunEnvironment, deps: list[str]
) -> dg.AssetsDefinition:
    spec = load_source(donor.source)

    def read(postal: str | None) -> Microdata:
        from pipeline.sources.cps_asec import read_asec

        # Persons, families and households are members of one archive, which the reader opens
        # itself.
        archive = resolve_files(spec, donor.vintage, environment.data)[0].path
        return read_asec(
            archive, year=int(donor.vintage), source=spec.id, url=spec.url_of(donor.vintage)
        )

    return _survey(
        "donor",
        (DONOR_PERSONS, DONOR_HOUSEHOLDS),
        f"{spec.title}, {donor.vintage}",
        read,
        profile,
        environment,
        None,
        deps,
    )
