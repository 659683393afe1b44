"""All specs together, and the checks that hold between them.

Belongs here: loading ``data_specs`` whole, references between files, and what a profile follows
from them (vintages, tables to read). Does not belong here: the models of single files, or reading
data.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from pipeline.errors import ProfileError, SpecError
from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.specs.factors import (
    AgeSexFactor,
    Factor,
    FactorFile,
    GrowthFactor,
    RatioFactor,
    SeriesFactor,
)
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import SourceSpec, load_sources
from pipeline.specs.targets import CarryRule, TargetItem, TargetSpec
from pipeline.specs.variables import CategoryFile, CategoryGroup, Variable, VariableFile

NOT_FACTORS = frozenset({"tax_rules.yaml"})
Key = tuple[str, str]
Model = TypeVar("Model", bound=SpecModel)


@dataclass(frozen=True)
class Catalog:
    """Everything under ``data_specs``: ``variables`` by (variable, domain), the rest by id."""

    sources: dict[str, SourceSpec]
    variables: dict[Key, Variable]
    categories: dict[str, CategoryGroup]
    factors: dict[str, Factor]
    targets: dict[str, TargetSpec]
    profiles: dict[str, Profile]

    def profile(self, profile_id: str) -> Profile:
        """The profile of that id. Raises ProfileError naming those there are."""
        if profile_id not in self.profiles:
            raise ProfileError(
                f"There is no profile {profile_id!r}",
                where="data_specs/profiles",
                expected=", ".join(sorted(self.profiles)),
                remedy="Choose one of these, or add a YAML file",
            )
        return self.profiles[profile_id]

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
        """The year the target file's numbers speak of before carrying."""
        return profile.target_year if spec.data_year == "target_year" else int(vintage)

    def carry_of(self, spec: TargetSpec, item: TargetItem, profile: Profile) -> CarryRule:
        """The carry rule in force: the profile's override of the file, else the item's, else the
        file's.
        """
        return profile.carry_overrides.get(spec.id) or spec.carry_of(item)

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


def _tables_of(factor: Factor, profile: Profile) -> set[tuple[str, str]]:
    if isinstance(factor, RatioFactor):
        return {
            (factor.source, v.vintage)
            for v in factor.vintages
            if v.vintage in profile.sources.get(factor.source, ())
        }
    if isinstance(factor, GrowthFactor):
        return {(p.source, p.vintage) for p in (factor.start, factor.end)}
    if isinstance(factor, AgeSexFactor):
        return {(factor.national, factor.national_vintage)} | (
            {(factor.control.source, factor.control.vintage)} if factor.control else set()
        )
    return set()


def load_catalog(root: Path = SPEC_ROOT) -> Catalog:
    """Load and cross-check every spec under ``root``. Raises SpecError naming file and key of the
    first fault.
    """
    return _load(root.resolve())


@cache
def _load(root: Path) -> Catalog:
    catalog = Catalog(
        sources=load_sources(root),
        variables=_variables(root),
        categories={g.id: g for g in load_yaml(root / "categories.yaml", CategoryFile).groups},
        factors=_factors(root),
        targets=_by_file_name(root / "targets", TargetSpec),
        profiles=_by_file_name(root / "profiles", Profile),
    )
    _check_categories(catalog)
    for spec in catalog.targets.values():
        _check_target_file(catalog, spec)
    for profile in catalog.profiles.values():
        _check_profile(catalog, profile)
    return catalog


def _variables(root: Path) -> dict[Key, Variable]:
    found: dict[Key, Variable] = {}
    for path in sorted((root / "variables").glob("*.yaml")):
        for variable in load_yaml(path, VariableFile).variables:
            if variable.key in found:
                raise SpecError(
                    f"Variable {variable.variable}/{variable.domain} is declared twice",
                    where=str(path),
                    expected="each pair once",
                    remedy="Take one of them out",
                )
            found[variable.key] = variable
    return found


def _factors(root: Path) -> dict[str, Factor]:
    found: dict[str, Factor] = {}
    for path in sorted((root / "factors").glob("*.yaml")):
        if path.name in NOT_FACTORS:
            continue
        for factor in load_yaml(path, FactorFile).factors:
            if factor.id in found:
                raise SpecError(
                    f"Factor {factor.id} is declared twice",
                    where=str(path),
                    expected="each id once",
                    remedy="Take one of them out",
                )
            found[factor.id] = factor
    return found


def _by_file_name(folder: Path, model: type[Model]) -> dict[str, Model]:
    found: dict[str, Model] = {}
    for path in sorted(folder.glob("*.yaml")):
        spec = load_yaml(path, model)
        if spec.id != path.stem:
            raise SpecError(
                f"The file's id is {spec.id!r}",
                where=str(path),
                expected=f"id: {path.stem}",
                remedy="Make the id equal the file name",
            )
        found[spec.id] = spec
    return found


def _fault(found: str, where: str, expected: str, remedy: str) -> SpecError:
    return SpecError(found, where=f"data_specs/{where}", expected=expected, remedy=remedy)


def _check_categories(catalog: Catalog) -> None:
    for group in catalog.categories.values():
        for member in (group.parent, *group.children):
            if (member.variable, member.domain) not in catalog.variables:
                raise _fault(
                    f"Group {group.id} names {member.variable}/{member.domain}, which is no"
                    " variable",
                    "categories.yaml",
                    "declared variables",
                    "Declare it, or correct the group",
                )


def _check_target_file(catalog: Catalog, spec: TargetSpec) -> None:
    where = f"targets/{spec.id}.yaml"
    if spec.source not in catalog.sources:
        raise _fault(
            f"Source {spec.source!r} does not exist",
            where,
            ", ".join(sorted(catalog.sources)),
            "Correct `source`, or add the source",
        )
    source = catalog.sources[spec.source]
    if not set(spec.levels) <= set(source.levels):
        raise _fault(
            f"Source {spec.source} has no level"
            f" {', '.join(sorted(set(spec.levels) - set(source.levels)))}",
            where,
            ", ".join(source.levels),
            "Correct `levels`",
        )
    if unknown := set(spec.vintages) - set(source.vintages):
        raise _fault(
            f"Source {spec.source} has no vintage {', '.join(sorted(unknown))}",
            where,
            ", ".join(sorted(source.vintages)),
            "Correct `vintages`",
        )
    for item in spec.items:
        if (item.variable, item.domain) not in catalog.variables:
            raise _fault(
                f"{item.variable}/{item.domain} is no variable",
                where,
                "a pair declared in data_specs/variables",
                "Declare it, or correct the item",
            )
        for rule in spec.carry_of(item).rule:
            _check_rule(catalog, rule, where)


def _check_rule(catalog: Catalog, rule: str, where: str) -> None:
    if rule not in catalog.factors:
        raise _fault(
            f"Carry rule {rule!r} is no factor",
            where,
            ", ".join(sorted(catalog.factors)),
            "Correct the rule, or add the factor",
        )


def _check_profile(catalog: Catalog, profile: Profile) -> None:
    where = f"profiles/{profile.id}.yaml"
    for source, vintages in profile.sources.items():
        if source not in catalog.sources:
            raise _fault(
                f"Source {source!r} does not exist",
                where,
                ", ".join(sorted(catalog.sources)),
                "Correct `sources`",
            )
        if unknown := set(vintages) - set(catalog.sources[source].vintages):
            raise _fault(
                f"Source {source} has no vintage {', '.join(sorted(unknown))}",
                where,
                ", ".join(sorted(catalog.sources[source].vintages)),
                "Correct `sources`",
            )
    if unknown_targets := [
        t for t in (*profile.targets, *profile.carry_overrides) if t not in catalog.targets
    ]:
        raise _fault(
            f"Target file {unknown_targets[0]!r} does not exist",
            where,
            ", ".join(sorted(catalog.targets)),
            "Correct `targets`",
        )
    for column, rule in profile.records.uprating.items():
        if not isinstance(catalog.factors.get(rule), SeriesFactor):
            raise _fault(
                f"Amount {column} is uprated by {rule!r}, which is no published series",
                where,
                "a factor of kind series",
                "Correct `records.uprating`",
            )
    for rule in (r for carry in profile.carry_overrides.values() for r in carry.rule):
        _check_rule(catalog, rule, where)
    stated: dict[tuple[str, str, str], str] = {}
    for spec in catalog.specs_of(profile):
        items = spec.items_of(catalog.vintage_of(spec, profile))
        for level in spec.levels:
            for item in items:
                first = stated.setdefault((level, item.variable, item.domain), spec.id)
                if first != spec.id:
                    raise _fault(
                        f"{item.variable}/{item.domain} at {level} level is stated by {first} and"
                        f" by {spec.id}",
                        where,
                        "one file for each",
                        "Leave one of the two out",
                    )
    for source, vintage in sorted(catalog.required_tables(profile)):
        if vintage not in profile.sources.get(source, ()):
            raise _fault(
                f"A carry rule needs {source} {vintage}",
                where,
                f"it under `sources: {source}`",
                "List it, or override the carry rule",
            )
