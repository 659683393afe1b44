"""References between spec files: every id that one names, another declares.

Belongs here: checks of one file against the others. Does not belong here: checks within one file
(the models), or where files lie (``specs/catalog.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import TYPE_CHECKING

from pipeline.errors import SpecError
from pipeline.specs.alignment import load_alignment
from pipeline.specs.donation import ALL, load_donation
from pipeline.specs.factors import SeriesFactor
from pipeline.specs.profiles import Profile
from pipeline.specs.provenance import SURVEYED, load_provenance
from pipeline.specs.targets import TargetItem, TargetSpec
from pipeline.specs.variables import CategoryGroup
from pipeline.vocabulary import NATION, POPULATION, STATE

if TYPE_CHECKING:
    from pipeline.specs.catalog import Catalog


def check_groups(catalog: Catalog, groups: dict[str, CategoryGroup]) -> dict[str, CategoryGroup]:
    """The groups, if every member is a variable. Raises SpecError naming the first that is not."""
    for group in groups.values():
        for member in (group.parent, *group.children):
            if (member.variable, member.domain) not in catalog.variables:
                name = f"{member.variable}/{member.domain}"
                raise _fault(
                    f"Group {group.id} names {name}, which is no variable",
                    "data_specs/categories.yaml",
                    "declared variables",
                    "Declare it, or correct the group",
                )
    return groups


def check_target_file(catalog: Catalog, spec: TargetSpec) -> TargetSpec:
    """The target file, if its source, variables and carry rules are declared. Raises SpecError."""
    where = catalog.roots.shown("targets", spec.id)
    if spec.source not in catalog.sources:
        raise _fault(
            f"Source {spec.source!r} does not exist",
            where,
            _listed(catalog.sources),
            "Correct `source`, or add the source",
        )
    source = catalog.sources[spec.source]
    for key, asked, there in (
        ("level", spec.levels, source.levels),
        ("vintage", spec.vintages, source.vintages),
    ):
        if unknown := set(asked) - set(there):
            found = f"Source {spec.source} has no {key} {_listed(unknown)}"
            raise _fault(found, where, _listed(there), f"Correct `{key}s`")
    for item in spec.items:
        if (item.variable, item.domain) not in catalog.variables:
            raise _fault(
                f"{item.variable}/{item.domain} is no variable",
                where,
                "a pair declared in data_specs/variables",
                "Declare it, or correct the item",
            )
        _check_class(catalog, spec, item, where)
        for rule in spec.carry_of(item).rule:
            _check_rule(catalog, rule, where)
    if spec.age_sex_partition_of and spec.age_sex_partition_of not in catalog.targets:
        raise _fault(
            f"`age_sex_partition_of` names {spec.age_sex_partition_of!r}, which is no target file",
            where,
            _listed(catalog.targets),
            "Correct it",
        )
    return spec


def _check_class(catalog: Catalog, spec: TargetSpec, item: TargetItem, where: str) -> None:
    """A survey's figure has the class of its variable's family."""
    stated = spec.provenance_of(item)
    family = catalog.variables[item.variable, item.domain].family
    due = load_provenance().of_survey(family)
    if stated in SURVEYED and stated != due:
        raise _fault(
            f"{item.variable}/{item.domain} has provenance {stated}, its family is {family}",
            where,
            f"provenance {due} of a survey's figure of this family (provenance.yaml)",
            "Correct `provenance`, or the list of families about money",
        )


def check_profile(catalog: Catalog, profile: Profile) -> Profile:
    """The profile, if everything it names is there and nothing is stated twice. Raises SpecError.

    Reads every file the profile needs, so a faulty one is named now and not in the middle of a run;
    of a profile with choices every option is looked at.
    """
    for example in profile.examples:
        _check_one(catalog, example)
    _check_choices(catalog, profile, catalog.roots.shown("profiles", profile.id))
    return profile


def _check_choices(catalog: Catalog, profile: Profile, where: str) -> None:
    """What the nation is made from cannot hang on the files of one state."""
    options = [o for c in profile.choices if c.by == "state" for o in c.options]
    for option in options:
        for name in option.targets:
            spec = catalog.targets.get(name)
            if spec is not None and {NATION, STATE} & set(spec.levels):
                raise _fault(
                    f"Option {option.name!r} of one state has {name}, which speaks of states",
                    where,
                    "target files of counties and tracts under a choice by state",
                    "Make the choice `by: nation`",
                )
    if profile.choices:
        national = (choice.options[0] for choice in profile.choices if choice.by == "nation")
        nation = profile.taking(national)
        for spec in catalog.specs_of(nation):
            catalog.vintage_of(spec, nation)
    records = [profile.records, *(o.records for o in options if o.records)]
    if len({(each.steps, each.donor) for each in records}) > 1:
        raise _fault(
            "States take records with different steps or donors",
            where,
            "the same `steps` and `donor` in every option with `records`",
            "State them alike; the tables of records are the same for all states",
        )


def _check_one(catalog: Catalog, profile: Profile) -> None:
    where = catalog.roots.shown("profiles", profile.id)
    _check_donor(profile, where)
    _check_sources(catalog, profile, where)
    overridden = (name.partition(":")[0] for name in profile.carry_overrides)
    for name in (*profile.targets, *overridden):
        if name not in catalog.targets:
            found = f"Target file {name!r} does not exist"
            raise _fault(found, where, _listed(catalog.targets), "Correct `targets`")
    for column, rule in profile.records.uprating.items():
        if not isinstance(catalog.factors.get(rule), SeriesFactor):
            raise _fault(
                f"Amount {column} is uprated by {rule!r}, which is no published series",
                where,
                "a factor of kind series",
                "Correct `records.uprating`",
            )
    for carry in profile.carry_overrides.values():
        for rule in carry.rule:
            _check_rule(catalog, rule, where)
    _check_stated_once(catalog, profile, where)
    _check_held_out(catalog, profile, where)
    _check_steps(catalog, profile, where)
    _check_method(catalog, profile, where)
    for source, vintage in sorted(catalog.required_tables(profile)):
        if vintage not in profile.sources.get(source, ()):
            raise _fault(
                f"A carry rule needs {source} {vintage}",
                where,
                f"it under `sources: {source}`",
                "List it, or override the carry rule",
            )


def _check_donor(profile: Profile, where: str) -> None:
    """The donor lends, and the items asked of it are declared and fill different columns."""
    donor = profile.records.donor
    if donor is None:
        return
    rules = load_donation()
    if donor.source not in rules.surveys:
        found = f"Donor {donor.source} lends nothing"
        raise _fault(found, where, _listed(rules.surveys), "Correct `records.donor.source`")
    try:
        chosen = rules.chosen(donor.items)
    except ValueError as error:
        names = f"{ALL}, or some of {', '.join(item.name for item in rules.items)}"
        raise _fault(str(error), where, names, "Correct `records.donor.items`") from error
    if not chosen:
        asked = "at least one item"
        raise _fault("The donor lends no item", where, asked, "Name one, or leave out the donor")


def _check_method(catalog: Catalog, profile: Profile, where: str) -> None:
    families = {variable.family for variable in catalog.variables.values()}
    if unknown := set(profile.method.balanced) - families:
        raise _fault(
            f"No variable has the family {_listed(unknown)}",
            where,
            _listed(families),
            "Correct `method.balanced`",
        )
    if groups := set(profile.method.growth_by) - set(catalog.categories):
        raise _fault(
            f"No group of categories is called {_listed(groups)}",
            where,
            _listed(catalog.categories),
            "Correct `method.growth_by`",
        )


def _check_sources(catalog: Catalog, profile: Profile, where: str) -> None:
    if unlisted := profile.unlisted_sources():
        expected = "it under `sources` of the profile or of the option"
        raise _fault(f"The profile uses {unlisted}", where, expected, "List it")
    for source, vintages in profile.sources.items():
        if source not in catalog.sources:
            found = f"Source {source!r} does not exist"
            raise _fault(found, where, _listed(catalog.sources), "Correct `sources`")
        there = catalog.sources[source].vintages
        if unknown := set(vintages) - set(there):
            found = f"Source {source} has no vintage {_listed(unknown)}"
            raise _fault(found, where, _listed(there), "Correct `sources`")


def _check_stated_once(catalog: Catalog, profile: Profile, where: str) -> None:
    stated: dict[tuple[str, str, str], str] = {}
    for spec in catalog.specs_of(profile):
        items = spec.items_of(catalog.vintage_of(spec, profile))
        for level, item in itertools.product(spec.levels, items):
            first = stated.setdefault((level, item.variable, item.domain), spec.id)
            if first != spec.id:
                name = f"{item.variable}/{item.domain} at {level} level"
                raise _fault(
                    f"{name} is stated by {first} and by {spec.id}",
                    where,
                    "one file for each",
                    "Leave one of the two out",
                )


def _check_held_out(catalog: Catalog, profile: Profile, where: str) -> None:
    """What weights are scaled to, and what records are aligned with, is not held out."""
    needed = {POPULATION, *load_alignment().keys_of_steps(profile.records.steps)}
    for spec in catalog.specs_of(profile, [STATE]):
        for item in spec.items_of(catalog.vintage_of(spec, profile)):
            key, stated = (item.variable, item.domain), spec.provenance_of(item)
            if key in needed and stated in profile.held_out_classes:
                raise _fault(
                    f"Class {stated} is held out, and {'/'.join(key)} of it is needed: records are"
                    " scaled to it or aligned with it",
                    where,
                    "classes that neither total persons nor `records: steps` rest on",
                    "Take the class out of `held_out_classes`, or the step out of `records: steps`",
                )


def _check_steps(catalog: Catalog, profile: Profile, where: str) -> None:
    """Every step's controls are targets of the profile at the state."""
    if not profile.records.steps:
        return
    stated = {
        (item.variable, item.domain)
        for spec in catalog.specs_of(profile, [STATE])
        for item in spec.items_of(catalog.vintage_of(spec, profile))
    }
    alignment = load_alignment()
    for step in profile.records.steps:
        missing = [key for key in alignment.keys_of(step) if key not in stated]
        if missing:
            raise _fault(
                f"Step {step} is controlled by {'/'.join(missing[0])}, which no target file of the"
                " profile states for states",
                where,
                "every control of alignment.yaml among the targets",
                "Add the target file, or take the step out of `records: steps`",
            )


def _check_rule(catalog: Catalog, rule: str, where: str) -> None:
    if rule not in catalog.factors:
        raise _fault(
            f"Carry rule {rule!r} is no factor",
            where,
            _listed(catalog.factors),
            "Correct the rule, or add the factor",
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _fault(found: str, where: str, expected: str, remedy: str) -> SpecError:
    return SpecError(found, where=where, expected=expected, remedy=remedy)
