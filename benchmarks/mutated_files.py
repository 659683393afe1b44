"""Real files edited so that their form stays right and their figures lie: what notices?

    python -m benchmarks.mutated_files --data DIR [--only TEXT] [--json FILE]

Each of ``mutations.py`` is made to one file of a profile, in a folder of links to the others. The
file is read and checked as ``geocal check`` and a run do. A line says: **caught** by which check
(or by the reader, or a known total), **noted** (a note or a check that blocks nothing),
**harmless** (no target of the state moved by a tenth of its standard error), **small** (none by
more than three), or **silent**, with the largest move of a target in its standard errors.
``docs/source_checks.md`` quotes it.

Belongs here: trying mutations, that table. Does not belong here: the mutations, the checks.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl

from benchmarks.mutations import Mutation, all_mutations
from calibration_core.errors import GeocalError
from pipeline.checks import run
from pipeline.checks.of_profile import other_vintage, witnesses
from pipeline.checks.results import CheckResult
from pipeline.errors import KnownTotalError
from pipeline.sources.base import merged_notes
from pipeline.sources.microdata.schema import Microdata
from pipeline.sources.of_profile import read_geography
from pipeline.sources.registry import UNFORESEEN, read_microdata, read_source
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.states import state_of
from pipeline.targets.build import build_targets
from pipeline.vocabulary import TARGET_KEY

# Standard errors: a target moved by more is wrong beyond what its publisher leaves open.
SILENT, HARMLESS = 3.0, 0.1
Tables = dict[tuple[str, str], pl.DataFrame]


@dataclass(frozen=True)
class Outcome:
    """What became of one mutation. ``by``: what found it; ``moved``: the largest move of a target
    of the state, in standard errors (null where the file was not taken)."""

    kind: str
    source: str
    file: str
    what: str
    verdict: str
    by: str
    moved: float | None


class World:
    """One profile and state: the tables of the files as they are, and what they make."""

    def __init__(self, profile_id: str, postal: str, data: Path) -> None:
        self.catalog: Catalog = load_catalog()
        self.profile: Profile = self.catalog.profile(profile_id)
        self.postal, self.fips, self.data = postal, state_of(postal).fips, data
        self.tables: Tables = {}
        self.older: dict[tuple[str, str], dict[str, pl.DataFrame]] = {}
        for source, vintages in self.profile.sources.items():
            spec = self.catalog.sources[source]
            for vintage in vintages if spec.kind == "published" else ():
                asked = [postal] if spec.coverage == "state" else None
                self.tables[source, vintage] = read_source(spec, vintage, data, asked).frame
                own = other_vintage(spec, vintages, vintage, data, [postal])
                self.older[source, vintage] = own
        self.witnesses = witnesses(self.profile, data, [postal])
        self.geography = read_geography(self.profile, data, [postal]).frame
        records = self.profile.records
        spec = self.catalog.sources[records.source]
        self.survey: Microdata = read_microdata(spec, records.vintage, data, [postal])
        self.targets = self._targets(self.tables)
        self.shares = _class_shares(self.survey)

    def _targets(self, tables: Tables) -> pl.DataFrame:
        """Targets of the state at every level, as published and carried."""
        levels = tuple(self.profile.levels)
        above = build_targets(self.catalog, self.profile, tables, levels[:2]).frame
        above = above.filter(pl.col("geoid").is_in(["", self.fips]))
        below = build_targets(self.catalog, self.profile, tables, levels[2:], self.fips).frame
        return pl.concat([above, below])

    def checks(self, key: tuple[str, str], frame: pl.DataFrame, older: dict) -> list[CheckResult]:
        """Those that a table takes part in."""
        both = {**self.witnesses, **self.tables, key: frame}
        found = run.within(*key, frame, older, [self.fips], self.profile.accepted_checks)
        found += run.between(both, [self.fips], accepted=self.profile.accepted_checks)
        return found + self.of_survey(self.survey, both)

    def of_survey(self, survey: Microdata, tables: Tables) -> list[CheckResult]:
        records = self.profile.records
        own = pl.col("vintage") == self.profile.geography.puma_link_vintage
        where = (records.source, records.vintage, self.fips)
        tracts = self.geography.filter(own)
        return run.of_survey(survey, *where, tables, tracts, self.profile.accepted_checks)

    def moved(self, key: tuple[str, str], frame: pl.DataFrame) -> tuple[float, str]:
        """The largest move of a target in its standard errors, and which. A target that is gone,
        or that cannot be built, counts as moved without end."""
        try:
            made = self._targets({**self.tables, key: frame})
        except (GeocalError, *UNFORESEEN) as error:
            return float("inf"), f"no targets: {str(error)[:80]}"
        both = self.targets.join(made, on=TARGET_KEY, how="left", suffix="_new")
        both = both.filter(pl.col("value").is_not_null()).with_columns(
            by=(pl.col("value_new") - pl.col("value")).abs()
            / pl.max_horizontal("published_standard_error", pl.lit(1e-9))
        )
        worst = both.sort("by", descending=True, nulls_last=True).row(0, named=True)
        name = f"{worst['level']} {worst['geoid']} {worst['variable']}/{worst['domain']}"
        return float(worst["by"] or 0.0), name


def _class_shares(survey: Microdata) -> dict[str, tuple[float, float]]:
    """Weighted shares of persons by class, and a standard error as of a simple random sample."""
    persons, found = survey.persons, {}
    total = persons["design_weight"].sum()
    for column in ("sex", "race", "hispanic", "marital_status", "education", "employment", "puma"):
        for value, weight in persons.group_by(column).agg(pl.sum("design_weight")).iter_rows():
            share = weight / total
            found[f"{column}={value}"] = (share, (share * (1 - share) / persons.height) ** 0.5)
    for column in ("age", "wages", "social_security"):
        weighted = (persons[column].fill_null(0) * persons["design_weight"]).sum() / total
        spread = float(persons[column].fill_null(0).std() or 1.0) / persons.height**0.5
        found[f"mean {column}"] = (weighted, spread)
    return found


def _moved_shares(world: World, survey: Microdata) -> tuple[float, str]:
    """The largest move of a share or mean of the records, in standard errors."""
    new = _class_shares(survey)
    moves = {
        name: abs(new.get(name, (0.0, 0.0))[0] - share) / max(error, 1e-9)
        for name, (share, error) in world.shares.items()
    }
    worst = max(moves, key=moves.__getitem__)
    return moves[worst], worst


def try_one(mutation: Mutation, world: World, folder: Path) -> Outcome:
    """Make it, read it, check it, and undo it."""
    path, original = folder / mutation.path, world.data / mutation.path
    said = (mutation.kind, f"{mutation.source} {mutation.vintage}", mutation.path, mutation.what)
    path.unlink()
    try:
        if mutation.edit is None:
            path.write_bytes((world.data / mutation.instead).read_bytes())
        else:
            path.write_bytes(mutation.edit(original.read_bytes()))
        return _judged(mutation, world, folder, said)
    finally:
        path.unlink(missing_ok=True)
        path.symlink_to(original.resolve())


def _judged(
    mutation: Mutation, world: World, folder: Path, said: tuple[str, str, str, str]
) -> Outcome:
    spec = world.catalog.sources[mutation.source]
    key = (mutation.source, mutation.vintage)
    asked = [world.postal] if spec.coverage == "state" else None
    try:
        if spec.kind == "microdata":
            survey = read_microdata(spec, mutation.vintage, folder, [world.postal])
            results = world.of_survey(survey, world.tables)
            notes, old = merged_notes(survey.notes), merged_notes(world.survey.notes)
        else:
            table = read_source(spec, mutation.vintage, folder, asked)
            results = world.checks(key, table.frame, world.older[key])
            notes = old = ()
    except KnownTotalError:
        return Outcome(*said, "caught", "known total", None)
    except (GeocalError, *UNFORESEEN) as error:
        return Outcome(*said, "caught", f"reader ({type(error).__name__})", None)
    failing = list(dict.fromkeys(r.name for r in results if not r.passed and r.blocking))
    if failing:
        return Outcome(*said, "caught", ", ".join(failing), None)
    moved, which = (
        _moved_shares(world, survey) if spec.kind == "microdata" else world.moved(key, table.frame)
    )
    noted = [r.name for r in results if not r.passed]
    if noted or (spec.kind == "microdata" and notes != old):
        return Outcome(*said, "noted", ", ".join(noted) or "notes of the reader", moved)
    verdict = "harmless" if moved < HARMLESS else "small" if moved <= SILENT else "silent"
    return Outcome(*said, verdict, which if verdict != "harmless" else "", moved)


def try_all(
    data: Path, only: str = "", mutations: Iterable[Mutation] | None = None
) -> list[Outcome]:
    """Every mutation whose kind, source or file holds ``only``."""
    chosen = [
        m
        for m in (all_mutations() if mutations is None else mutations)
        if only in f"{m.kind} {m.source} {m.path}"
    ]
    outcomes, worlds = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "data"
        _linked(data, folder)
        for mutation in chosen:
            key = (mutation.profile, mutation.state)
            if key not in worlds:
                worlds[key] = World(*key, data)
            outcomes.append(try_one(mutation, worlds[key], folder))
        shutil.rmtree(folder)
    return outcomes


def _linked(data: Path, folder: Path) -> None:
    """The folder's files as links, so that one can be replaced."""
    for path in data.rglob("*"):
        if path.is_file():
            link = folder / path.relative_to(data)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


def as_markdown(outcomes: Sequence[Outcome]) -> str:
    """A row per kind and source with the numbers of each verdict and what caught them, then every
    outcome that was not caught."""
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for each in outcomes:
        groups.setdefault((each.kind, each.source), []).append(each)
    lines = ["| kind | table | made | caught | by | not caught |", "|---|---|---|---|---|---|"]
    for (kind, source), own in sorted(groups.items()):
        caught = [x for x in own if x.verdict == "caught"]
        by = ", ".join(dict.fromkeys(name for x in caught for name in x.by.split(", ")))
        rest = Counter(x.verdict for x in own if x.verdict != "caught")
        left = ", ".join(f"{n} {verdict}" for verdict, n in sorted(rest.items()))
        lines.append(f"| {kind} | {source} | {len(own)} | {len(caught)} | {by} | {left} |")
    totals = Counter(x.verdict for x in outcomes)
    said = ", ".join(f"{n} {verdict}" for verdict, n in totals.most_common())
    lines += ["", f"{len(outcomes)} files of {len({x.kind for x in outcomes})} kinds: {said}.", ""]
    for x in outcomes:
        if x.verdict != "caught":
            size = "" if x.moved is None else f"{x.moved:.1f} standard errors"
            lines.append(f"* {x.verdict}: {x.kind}, {x.source}, {x.what}: {size} {x.by}".rstrip())
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="the folder of raw files")
    parser.add_argument("--only", default="", help="kinds, sources or files that hold this text")
    parser.add_argument("--json", type=Path, help="also write every outcome to this file")
    asked = parser.parse_args(arguments)
    outcomes = try_all(asked.data.resolve(), asked.only)
    if asked.json:
        asked.json.write_text(json.dumps([asdict(x) for x in outcomes], indent=1))
    print(as_markdown(outcomes))


if __name__ == "__main__":
    main()
