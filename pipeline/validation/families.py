"""Which target families are withheld together: the named groups of ``data_specs/holdout.yaml``, and
any family by its own id.

Belongs here: the model of that file, and turning names into groups. Does not belong here:
withholding (``holdout.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pydantic import Field, model_validator

from pipeline.errors import ProfileError, SpecError
from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml
from pipeline.specs.catalog import Catalog
from pipeline.specs.profiles import Profile

HOLDOUT_FILE = SPEC_ROOT / "holdout.yaml"


class HoldOutGroup(SpecModel):
    """Families withheld together; ``why`` says what would leak if one of them stayed."""

    id: str
    title: str
    families: tuple[str, ...] = Field(min_length=1)
    why: str


class KeptFamily(SpecModel):
    """A family that cannot be withheld, and why."""

    family: str
    why: str


class HoldOutFile(SpecModel):
    """``data_specs/holdout.yaml``."""

    groups: tuple[HoldOutGroup, ...]
    kept: tuple[KeptFamily, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> HoldOutFile:
        ids = [group.id for group in self.groups]
        if len(set(ids)) != len(ids):
            raise ValueError("a group id occurs twice")
        barred = {kept.family for kept in self.kept}
        if wrong := [group.id for group in self.groups if barred & set(group.families)]:
            raise ValueError(
                f"groups {', '.join(wrong)} withhold a family that is listed under `kept`"
            )
        return self


def load_holdout(catalog: Catalog) -> HoldOutFile:
    """Read the file. Raises SpecError if a group names a family that no variable has."""
    found = load_yaml(HOLDOUT_FILE, HoldOutFile)
    known = {variable.family for variable in catalog.variables.values()}
    named = {family for group in found.groups for family in group.families} | {
        kept.family for kept in found.kept
    }
    if unknown := sorted(named - known):
        raise SpecError(
            f"No variable has the family {', '.join(unknown)}",
            where=str(HOLDOUT_FILE),
            expected=f"families of data_specs/variables: {', '.join(sorted(known))}",
            remedy="Correct the name",
        )
    return found


def profile_families(catalog: Catalog, profile: Profile) -> list[str]:
    """Families of which the profile has a target at some level, sorted."""
    return sorted(
        {
            catalog.variables[item.variable, item.domain].family
            for spec in catalog.specs_of(profile)
            for item in spec.items
        }
    )


def hold_out_groups(
    names: Sequence[str], catalog: Catalog, profile: Profile
) -> tuple[HoldOutGroup, ...]:
    """The groups that ``names`` ask for, in the order asked, each once: a group's id, or a family's
    for that family alone.

    Raises ProfileError for no name, a name that is neither, a family that cannot be withheld, and a
    group of which the profile has no target.
    """
    held = load_holdout(catalog)
    groups, kept = (
        {group.id: group for group in held.groups},
        {item.family: item.why for item in held.kept},
    )
    there = profile_families(catalog, profile)
    expected = (
        f"groups {', '.join(sorted(groups))}; families of profile {profile.id}:"
        f" {', '.join(f for f in there if f not in kept)}"
    )
    wanted = list(dict.fromkeys(name.strip() for name in names if name.strip()))
    if not wanted:
        raise ProfileError(
            "No family is named to hold out",
            where="--hold-out",
            expected=expected,
            remedy="Name one or more, such as --hold-out education",
        )
    return tuple(_group(name, groups, kept, there, expected, catalog, profile) for name in wanted)


def _group(
    name: str,
    groups: dict[str, HoldOutGroup],
    kept: dict[str, str],
    there: Iterable[str],
    expected: str,
    catalog: Catalog,
    profile: Profile,
) -> HoldOutGroup:
    if name in groups:
        group = groups[name]
    elif name in kept:
        raise ProfileError(
            f"The family {name} cannot be withheld: {kept[name]}",
            where=f"--hold-out {name}",
            expected=expected,
            remedy="Leave it out, or hold out another",
        )
    elif any(variable.family == name for variable in catalog.variables.values()):
        group = HoldOutGroup(
            id=name,
            title=name.replace("_", " "),
            families=(name,),
            why="asked for by the id of its family",
        )
    else:
        raise ProfileError(
            f"There is no target family {name!r}",
            where=f"--hold-out {name}",
            expected=expected,
            remedy="Correct the name",
        )
    if not set(group.families) & set(there):
        raise ProfileError(
            f"Profile {profile.id} has no target of {group.id} ({', '.join(group.families)}), so"
            " there is nothing to withhold",
            where=f"--hold-out {name}",
            expected=expected,
            remedy="Hold out another, or add target files of the family to the profile",
        )
    return group
