"""Assets of the group ``sources``: raw files in, checked tables out, one asset per publication.

Belongs here: which source of the profile becomes which asset, and provenance. Does not belong here:
how a file is read (``pipeline/sources``). The assets are made from the profile: a source that
another profile uses is not in this profile's graph.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl

from pipeline.assets import source_checks
from pipeline.assets.common import (
    INGEST_RETRY,
    check_specs,
    frame_metadata,
    inline_picture,
    markdown_table,
    permanent,
    permanent_tables,
)
from pipeline.assets.names import (
    DONOR_HOUSEHOLDS,
    DONOR_PERSONS,
    GATE,
    GEOGRAPHY,
    HOUSEHOLDS,
    PERSONS,
    RAW_FILES,
    REPLICATES,
    SOURCES_GROUP,
)
from pipeline.assets.raw_files import raw_key
from pipeline.io_manager import Table
from pipeline.settings import RunEnvironment
from pipeline.specs.donation import Donor
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import SourceSpec, load_source

if TYPE_CHECKING:
    from pipeline.sources.base import SourceTable
    from pipeline.sources.files import FileProvenance
    from pipeline.sources.microdata.schema import Microdata

_KINDS = {"polars", "parquet"}


def provenance_facts(provenance: Iterable["FileProvenance"], data: Path) -> list[dict[str, Any]]:
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

    def deps(source: str) -> list[dg.AssetKey]:
        return [dg.AssetKey(RAW_FILES) if profile.synthetic else raw_key(source)]

    published = [
        _published(spec, profile, environment, partitions, deps(spec.id))
        for spec in published_sources(profile)
    ]
    survey = [*deps(profile.records.source), dg.AssetKey(GATE)]
    others = [
        _geography(profile, environment, deps(profile.geography.source)),
        _microdata(profile, environment, partitions, survey),
    ]
    if (donor := profile.records.donor) is not None:
        others.append(_donor(donor, profile, environment, deps(donor.source)))
    return [*raw, *published, *others]


def _synthetic_raw_files(profile: Profile, environment: RunEnvironment) -> dg.AssetsDefinition:
    @dg.asset(
        name=RAW_FILES,
        group_name=SOURCES_GROUP,
        kinds={"python", "csv"},
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
        files = sorted(filter(Path.is_file, environment.data.rglob("*")))
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

    label = pl.col("level").cast(pl.String) + " · " + pl.col("status").cast(pl.String)
    counts = frame.group_by(label).len("cells").sort("level")
    chart = bars(counts, "level", "cells", title, "cells", synthetic=synthetic)
    return inline_picture(chart, title)


def _facts(table: "SourceTable", spec: SourceSpec, profile: Profile, data: Path) -> dict[str, Any]:
    """What is stored beside the table of a publication."""
    vintages = list(profile.sources.get(spec.id, ()))
    not_own = (v for v in vintages if not spec.vintage(v).publishers_form)
    why = {v: " ".join(spec.vintage(v).notes) for v in not_own}
    carried = [{"source": spec.id, "vintage": v, "why": words} for v, words in why.items()]
    own = {"provenance": provenance_facts(table.provenance, data), "source": spec.id}
    return {**own, "vintages": vintages, "transcriptions": carried}


def _shown(table: "SourceTable", facts: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What is shown beside it: counted facts, files, and whatever else is given."""
    notes = [f"{note.code}: {note.detail} ({note.count:,})" for note in table.notes]
    more["files"] = dg.MetadataValue.json(facts["provenance"])
    return frame_metadata(table.frame, notes=notes, **more)


def _published(
    spec: SourceSpec,
    profile: Profile,
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition,
    deps: list[dg.AssetKey],
) -> dg.AssetsDefinition:
    by_state = spec.coverage == "state"
    own_partitions = partitions if by_state else None
    held = {"has_published_cells": "At least one cell of every vintage carries a value."}

    @dg.asset(
        name=spec.id,
        group_name=SOURCES_GROUP,
        kinds=_KINDS,
        partitions_def=own_partitions,
        deps=[*deps, dg.AssetKey(GATE)] if by_state else deps,
        retry_policy=INGEST_RETRY,
        description=(
            f"{spec.title}, {', '.join(profile.sources[spec.id])}. Publisher: {spec.publisher}."
            f" {spec.documentation}"
        ),
        check_specs=[
            *check_specs(spec.id, held, partitions=own_partitions),
            *source_checks.of_source(spec.id, own_partitions),
        ],
    )
    @permanent
    def published(context: dg.AssetExecutionContext):
        from pipeline.sources.of_profile import read_published

        # A nationwide file is kept whole: the nation reconciles with all its states, not with the
        # profile's alone.
        states = [context.partition_key] if by_state else None
        owner = profile.of(context.partition_key) if by_state else profile
        vintages = owner.sources.get(spec.id, ())
        table = read_published(spec, vintages, environment.data, states)
        stated = table.frame.filter(pl.col("estimate").is_not_null())
        counts = dict(stated.group_by("vintage").len().iter_rows())
        empty = [vintage for vintage in vintages if not counts.get(vintage)]
        facts = _facts(table, spec, owner, environment.data)
        plot = _cells_plot(table.frame, f"Cells of {spec.id}", profile.synthetic)
        own = (spec.id, table.frame, owner, environment.data, states or profile.states)
        checked = source_checks.results_of_source(*own)
        return dg.MaterializeResult(
            value=Table(table.frame, facts),
            metadata=_shown(table, facts, plot=plot),
            check_results=[
                dg.AssetCheckResult(
                    check_name="has_published_cells",
                    passed=not empty,
                    metadata={"cells_by_vintage": counts, "empty": empty},
                ),
                *checked,
            ],
        )

    return published


def _geography(
    profile: Profile, environment: RunEnvironment, deps: list[dg.AssetKey]
) -> dg.AssetsDefinition:
    spec = load_source(profile.geography.source)
    vintages = profile.sources[spec.id]
    every = "Every state of the profile has at least one tract and one county in every vintage."

    @dg.asset(
        name=GEOGRAPHY,
        group_name=SOURCES_GROUP,
        kinds=_KINDS,
        deps=deps,
        retry_policy=INGEST_RETRY,
        description=(
            f"{spec.title}, {', '.join(vintages)}: each census tract with its county and its PUMA,"
            " a row per tract and vintage."
        ),
        check_specs=check_specs(GEOGRAPHY, {"every_state_has_areas": every}),
    )
    @permanent
    def geography(context: dg.AssetExecutionContext):
        from pipeline.sources.of_profile import read_geography

        table = read_geography(profile, environment.data, list(profile.states))
        by_state = table.frame.group_by("vintage", "state_fips")
        sizes = by_state.agg(
            tracts=pl.len(),
            counties=pl.col("county_fips").n_unique(),
            pumas=pl.col("puma").n_unique(),
        ).sort("vintage", "state_fips")
        present = set(sizes.select("vintage", "state_fips").iter_rows())
        wanted = [(vintage, fips) for vintage in vintages for fips in profile.state_fips]
        absent = sorted("/".join(key) for key in wanted if key not in present)
        facts = _facts(table, spec, profile, environment.data)
        shown = dg.MetadataValue.md(markdown_table(sizes, limit=60))
        return dg.MaterializeResult(
            value=Table(table.frame, facts),
            metadata=_shown(table, facts, sizes=shown),
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
    names: tuple[str, str], microdata: "Microdata", environment: RunEnvironment, synthetic: bool
) -> list[dg.MaterializeResult]:
    """Persons and households of a survey with their metadata."""
    from pipeline.reports.plots import histogram

    facts = {"provenance": provenance_facts(microdata.provenance, environment.data)}
    results = []
    for name, frame in zip(names, (microdata.persons, microdata.households), strict=True):
        title = f"Design weights of {name}"
        chart = histogram(frame, "design_weight", title, "design weight", synthetic=synthetic)
        shown = frame_metadata(
            frame,
            notes=microdata.notes,
            files=dg.MetadataValue.json(facts["provenance"]),
            sum_of_weights=float(frame["design_weight"].sum()),
            plot=inline_picture(chart, title),
        )
        value = Table(frame, facts)
        results.append(dg.MaterializeResult(asset_key=name, value=value, metadata=shown))
    return results


def _replicates_result(microdata: "Microdata", environment: RunEnvironment) -> dg.MaterializeResult:
    """The replicate weights with their metadata; no rows where the survey has none."""
    from pipeline.sources.microdata.replicates import no_replicates

    found = microdata.replicate_weights
    frame = no_replicates() if found is None else found
    notes = [note for note in microdata.notes if note.code == "replicate_weights_absent"]
    facts = {
        "provenance": provenance_facts(microdata.provenance, environment.data),
        "notes": [str(note) for note in notes],
    }
    shown = frame_metadata(frame.select(frame.columns[:6]), notes=notes)
    return dg.MaterializeResult(asset_key=REPLICATES, value=Table(frame, facts), metadata=shown)


def _survey_outs(names: tuple[str, str], what: str) -> dict[str, dg.AssetOut]:
    contents = ("persons", "households, and persons in group quarters as units of one")
    return {
        name: dg.AssetOut(
            is_required=False,
            group_name=SOURCES_GROUP,
            kinds=_KINDS,
            description=f"{what}: {content}.",
        )
        for name, content in zip(names, contents, strict=True)
    }


def _microdata(
    profile: Profile,
    environment: RunEnvironment,
    partitions: dg.PartitionsDefinition,
    deps: list[dg.AssetKey],
) -> dg.AssetsDefinition:
    spec, names = load_source(profile.records.source), (PERSONS, HOUSEHOLDS)

    def read(context: dg.AssetExecutionContext) -> list[dg.MaterializeResult]:
        from pipeline.sources.of_profile import read_survey

        postal = context.partition_key
        own = profile.of(postal)
        survey = read_survey(own, environment.data, postal)
        checked = source_checks.results_of_survey(survey, own, environment.data, postal)
        persons, households = _microdata_results(names, survey, environment, profile.synthetic)
        persons = persons._replace(check_results=checked)
        return [persons, households, _replicates_result(survey, environment)]

    title = f"{spec.title}, {profile.records.vintage}"
    replicates = dg.AssetOut(
        is_required=False,
        group_name=SOURCES_GROUP,
        kinds=_KINDS,
        description=(
            f"{title}: replicate weights of persons, and of households (person number 0), from"
            " which sampling errors follow; no rows where the files have none."
        ),
    )
    outs = {**_survey_outs(names, title), REPLICATES: replicates}
    return _survey("microdata", outs, read, partitions, deps, source_checks.of_survey(partitions))


def _donor(
    donor: Donor, profile: Profile, environment: RunEnvironment, deps: list[dg.AssetKey]
) -> dg.AssetsDefinition:
    names = (DONOR_PERSONS, DONOR_HOUSEHOLDS)
    outs = _survey_outs(names, f"{load_source(donor.source).title}, {donor.vintage}")

    def read(context: dg.AssetExecutionContext) -> list[dg.MaterializeResult]:
        from pipeline.sources.of_profile import read_donor

        survey = read_donor(donor, environment.data)
        return _microdata_results(names, survey, environment, profile.synthetic)

    return _survey("donor", outs, read, None, deps)


def _survey(
    name: str,
    outs: dict[str, dg.AssetOut],
    read: Callable[[dg.AssetExecutionContext], list[dg.MaterializeResult]],
    partitions: dg.PartitionsDefinition | None,
    deps: list[dg.AssetKey],
    checks: list[dg.AssetCheckSpec] | None = None,
) -> dg.AssetsDefinition:
    """The assets of one step: persons and households of a survey, and what else ``outs`` has."""

    @dg.multi_asset(
        can_subset=True,
        name=name,
        outs=outs,
        deps=deps,
        partitions_def=partitions,
        retry_policy=INGEST_RETRY,
        check_specs=checks,
    )
    @permanent_tables
    def survey(context):
        return read(context)

    return survey
