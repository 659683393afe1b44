"""All specs together: where each is found, and what a profile follows from them.

Belongs here: which files hold which specs, and the vintages and tables that follow for a profile.
Does not belong here: the models of single files, references between files
(``specs/references.py``), when a file is read (``specs/folders.py``), or reading data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pipeline.errors import ProfileError, SpecError
from pipeline.specs.base import SPEC_ROOT, load_yaml, over, read_yaml
from pipeline.specs.factors import (
    AgeGroupFactor,
    AgeSexFactor,
    Factor,
    FactorFile,
    GrowthFactor,
    RatioFactor,
    TrendFactor,
)
from pipeline.specs.folders import SpecEntries, SpecFolder
from pipeline.specs.profiles import Profile
from pipeline.specs.references import check_groups, check_profile, check_target_file
from pipeline.specs.roots import Roots, spec_roots
from pipeline.specs.sources import SourceSpec, source_of
from pipeline.specs.targets import AgeSexCell, CarryRule, TargetItem, TargetSpec, completed
from pipeline.specs.variables import CategoryFile, CategoryGroup, Variable, VariableFile

NOT_FACTORS = frozenset({"tax_rules.yaml"})
Key = tuple[str, str]
Named = TypeVar("Named", TargetSpec, Profile)


@dataclass(frozen=True)
class Catalog:
    """Everything under ``data_specs``: ``variables`` by (variable, domain), the rest by id.

    Of a catalog that ``load_catalog`` made, each mapping reads its files when it is asked, and
    raises SpecError for a faulty one.
    """

    sources: Mapping[str, SourceSpec]
    variables: Mapping[Key, Variable]
    categories: Mapping[str, CategoryGroup]
    factors: Mapping[str, Factor]
    targets: Mapping[str, TargetSpec]
    profiles: Mapping[str, Profile]
    roots: Roots = field(default_factory=lambda: Roots((SPEC_ROOT,)))

    def overrides(self) -> list[str]:
        """What stands in place of an earlier folder's file or entry, in words, sorted."""
        entries = (self.variables, self.factors, self.categories)
        found = [
            text for each in entries if isinstance(each, SpecEntries) for text in each.overrides()
        ]
        return sorted([*self.roots.overrides(), *found])

    def profile(self, profile_id: str) -> Profile:
        """The profile of that id.

        Raises ProfileError naming those there are, and SpecError if a file it needs is faulty.
        """
        if profile_id not in self.profiles:
            raise ProfileError(
                f"There is no profile {profile_id!r}",
                where="data_specs/profiles",
                expected=", ".join(sorted(self.profiles)),
                remedy="Choose one of these, or add a YAML file",
            )
        return self.profiles[profile_id]

    def check(self) -> None:
        """Read and cross-check every file. Raises the SpecError of the first faulty one."""
        for entries in (self.variables, self.factors, self.categories):
            if isinstance(entries, SpecEntries) and (faults := entries.faults()):
                raise faults[0]
        for folder in (self.sources, self.targets, self.profiles):
            for name in folder:
                folder[name]

    def specs_of(self, profile: Profile, levels: Iterable[str] | None = None) -> list[TargetSpec]:
        """Target files of ``profile``, in its order, that speak of any of ``levels`` (default: the
        profile's).
        """
        wanted = set(profile.levels if levels is None else levels)
        return [self.targets[i] for i in profile.targets if wanted & set(self.targets[i].levels)]

    def vintage_of(self, spec: TargetSpec, profile: Profile) -> str:
        """The vintage a target file reads, of those the profile lists and the file accepts.

        Where a vintage holds the target year itself (``data_year: target_year``): the earliest not
        before it, else the latest. Where a vintage is its own year: the nearest, of two the later.
        """
        allowed = [
            v
            for v in profile.sources.get(spec.source, ())
            if not spec.vintages or v in spec.vintages
        ]
        if not allowed:
            raise ProfileError(
                f"Profile {profile.id} lists no vintage of {spec.source} that target file {spec.id}"
                " accepts",
                where=f"data_specs/profiles/{profile.id}.yaml, sources",
                expected=" or ".join(spec.vintages) or "any vintage",
                remedy=(
                    f"Add a vintage of {spec.source}, or take {spec.id} out of the profile's"
                    " targets"
                ),
            )
        if spec.data_year == "vintage":
            return min(allowed, key=lambda v: (abs(int(v) - profile.target_year), -int(v)))
        current = [v for v in allowed if int(v) >= profile.target_year]
        return min(current) if current else max(allowed)

    def data_year(self, spec: TargetSpec, vintage: str, profile: Profile) -> int:
        """The year the target file's numbers speak of before carrying: of a table of five years,
        the middle one.
        """
        if spec.data_year == "target_year":
            return profile.target_year
        return int(vintage) - spec.period_years // 2

    def carry_of(self, spec: TargetSpec, item: TargetItem, profile: Profile) -> CarryRule:
        """The carry rule in force: the profile's override of the item (``file:variable/domain``),
        else of the file, else the item's own, else the file's.
        """
        stated = profile.carry_overrides
        own = stated.get(f"{spec.id}:{item.variable}/{item.domain}")
        return own or stated.get(spec.id) or spec.carry_of(item)

    def partition_of(self, spec: TargetSpec) -> tuple[AgeSexCell, ...]:
        """The age-by-sex cells that a target file's rules rest on: its own, else those of the file
        that it names.
        """
        other = spec.age_sex_partition_of
        return self.targets[other].age_sex_partition if other else spec.age_sex_partition

    def rules_in_force(self, profile: Profile, levels: Iterable[str] | None = None) -> set[str]:
        """Factors that are evaluated for ``profile``: those of items whose data year is not the
        target year.
        """
        rules: set[str] = set()
        for spec in self.specs_of(profile, levels):
            vintage = self.vintage_of(spec, profile)
            if self.data_year(spec, vintage, profile) != profile.target_year:
                rules |= {
                    rule
                    for item in spec.items_of(vintage)
                    for rule in self.carry_of(spec, item, profile).rule
                }
        rules |= {f.of for f in map(self.factors.get, rules) if isinstance(f, AgeGroupFactor)}
        for rule in list(rules):
            factor = self.factors.get(rule)
            if isinstance(factor, AgeSexFactor):
                rules.add(factor.population)
        return rules

    def required_tables(
        self, profile: Profile, levels: Iterable[str] | None = None
    ) -> set[tuple[str, str]]:
        """``(source, vintage)`` of every published table that building targets at ``levels`` reads,
        carry rules included.
        """
        tables = {
            (spec.source, self.vintage_of(spec, profile)) for spec in self.specs_of(profile, levels)
        }
        for rule in self.rules_in_force(profile, levels):
            tables |= _tables_of(self.factors[rule], profile)
        return tables

    def same_concept(self, profile: Profile) -> frozenset[Key]:
        """Variables whose tables are made from the very questions the records answer."""
        return frozenset(
            (item.variable, item.domain)
            for spec in self.specs_of(profile)
            if spec.same_concept
            for item in spec.items
        )

    def growth_groups(self, profile: Profile) -> tuple[Variable, ...]:
        """Variables over persons that divide them: what the survey's population grows by."""
        groups = (self.categories[name] for name in profile.method.growth_by)
        return tuple(self.variables[child.key] for group in groups for child in group.children)


def _tables_of(factor: Factor, profile: Profile) -> set[tuple[str, str]]:
    if isinstance(factor, RatioFactor):
        return {
            (factor.source, v.vintage)
            for v in factor.vintages
            if v.vintage in profile.sources.get(factor.source, ())
        }
    if isinstance(factor, GrowthFactor):
        return {(p.source, p.vintage) for p in (factor.start, factor.end)}
    if isinstance(factor, TrendFactor):
        return {(factor.source, factor.start_vintage), (factor.source, factor.end_vintage)}
    if isinstance(factor, AgeSexFactor):
        return {(factor.national, factor.national_vintage)} | (
            {(factor.control.source, factor.control.vintage)} if factor.control else set()
        )
    return set()


def load_catalog(root: Path | None = None) -> Catalog:
    """The specs under ``root``, each read and cross-checked when somebody asks for it; without a
    ``root`` ours and those of the folders that the environment names (``roots.py``).

    A faulty file raises SpecError, naming file and key, from whatever needs it; what does not need
    it is served. ``Catalog.check`` asks for everything.
    """
    return _open(spec_roots() if root is None else Roots((root.resolve(),)))


@cache
def _open(roots: Roots) -> Catalog:
    def taken_over(content: Any, kind: str, join: Callable[[Any, Any], Any]) -> Any:
        """``content`` with what it leaves to the file of ``kind`` that it is ``like``."""
        other = content.get("like") if isinstance(content, Mapping) else None
        if other is None:
            return content
        path = roots.files(kind).get(other)
        if path is None:
            raise SpecError(
                f"A file of {kind} is like {other!r}, which is none",
                where=f"data_specs/{kind}, {content.get('id')}",
                expected=f"the id of another file of {kind}",
                remedy="Correct `like`",
            )
        joined = join(taken_over(read_yaml(path, kind), kind, join), content)
        return {key: value for key, value in joined.items() if key != "like"}

    def whole(content: Any) -> Any:
        return taken_over(content, "targets", completed)

    def target(path: Path) -> TargetSpec:
        return check_target_file(catalog, _named_by_file(path, TargetSpec, whole))

    def profile(path: Path) -> Profile:
        return check_profile(catalog, _named_by_file(path, Profile, year_filled))

    def year_filled(content: Any) -> Any:
        """A profile with what it leaves to the one that it is ``like``, its year filled in."""
        content = taken_over(content, "profiles", over)
        year = content.get("target_year") if isinstance(content, Mapping) else None
        return _filled(content, str(year))

    def groups(path: Path) -> dict[str, CategoryGroup]:
        return check_groups(catalog, {g.id: g for g in load_yaml(path, CategoryFile).groups})

    def files(kind: str, without: frozenset[str] = frozenset()) -> list[Path]:
        return [p for layer in roots.layers(kind) for p in layer if p.name not in without]

    place = roots.layer_of
    variables: SpecEntries[Key, Variable] = SpecEntries(
        lambda: files("variables"), _variables, "Variable", layer_of=place
    )
    factors: SpecEntries[str, Factor] = SpecEntries(
        lambda: files("factors", NOT_FACTORS), _factors, "Factor", layer_of=place
    )
    catalog = Catalog(
        sources=SpecFolder(lambda: roots.files("sources"), source_of),
        variables=variables,
        categories=SpecEntries(lambda: roots.groups, groups, "Group", whole=True, layer_of=place),
        factors=factors,
        targets=SpecFolder(lambda: roots.files("targets"), target),
        profiles=SpecFolder(lambda: roots.files("profiles"), profile),
        roots=roots,
    )
    return catalog


def _filled(content: Any, year: str) -> Any:
    """``content`` of a YAML file with {target_year} replaced in every text."""
    if isinstance(content, str):
        return content.replace("{target_year}", year)
    if isinstance(content, Mapping):
        return {key: _filled(value, year) for key, value in content.items()}
    return [_filled(value, year) for value in content] if isinstance(content, list) else content


def _variables(path: Path) -> dict[Key, Variable]:
    found: dict[Key, Variable] = {}
    for variable in load_yaml(path, VariableFile).variables:
        _once(variable.key, found, f"Variable {variable.variable}/{variable.domain}", path)
        found[variable.key] = variable
    return found


def _factors(path: Path) -> dict[str, Factor]:
    found: dict[str, Factor] = {}
    for factor in load_yaml(path, FactorFile).factors:
        _once(factor.id, found, f"Factor {factor.id}", path)
        found[factor.id] = factor
    return found


def _once(key: object, found: Mapping, name: str, path: Path) -> None:
    if key in found:
        raise SpecError(
            f"{name} is declared twice",
            where=str(path),
            expected="each one once",
            remedy="Take one of them out",
        )


def _named_by_file(
    path: Path, model: type[Named], complete: Callable[[Any], Any] = lambda content: content
) -> Named:
    spec = load_yaml(path, model, complete)
    if spec.id != path.stem:
        raise SpecError(
            f"The file's id is {spec.id!r}",
            where=str(path),
            expected=f"id: {path.stem}",
            remedy="Make the id equal the file name",
        )
    return spec
