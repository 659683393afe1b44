"""Settings of the core as keys of YAML: the same names, defaults and rules, written in the core.

Belongs here: the model made of a frozen settings class. Does not belong here: which settings a
profile may state (``method.py``), or what a setting means (its class).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar, get_type_hints

from pydantic import create_model, model_validator

from calibration_core.errors import GeocalError
from pipeline.specs.base import SpecModel


class SettingsSpec(SpecModel):
    """Base of such models."""

    of: ClassVar[type]
    given: ClassVar[Mapping[str, Any]]
    renamed: ClassVar[Mapping[str, str]]

    @model_validator(mode="before")
    @classmethod
    def _present_names(cls, stated: Any) -> Any:
        refuse_old_names(stated, cls.renamed)
        return stated

    @model_validator(mode="after")
    def _kept_by_the_core(self) -> SettingsSpec:
        try:
            self.settings(**self.given)
        except GeocalError as error:
            raise ValueError(f"{error.found}; expected: {error.expected}") from error
        return self

    def settings(self, **given: Any) -> Any:
        """The core's object. ``given``: what a run adds, or sets in place of what is stated."""
        return self.of(**{**dict(self), **given})


def settings_spec(
    settings: type,
    *,
    given: Mapping[str, Any] | None = None,
    renamed: Mapping[str, str] | None = None,
) -> type[SettingsSpec]:
    """A strict model whose keys are the fields of ``settings``, a frozen dataclass of the core.

    Parameters
    ----------
    given : fields that a run sets and no file may state, each with a value to check the others by.
    renamed : keys of earlier versions, with what they are called now; refused by that name.
    """
    given, hints = given or {}, get_type_hints(settings)
    stated: dict[str, Any] = {
        each.name: (hints[each.name], ... if each.default is MISSING else each.default)
        for each in fields(settings)
        if each.name not in given
    }
    name = f"{settings.__name__}Spec"
    model = create_model(name, __base__=SettingsSpec, __doc__=settings.__doc__, **stated)
    model.of, model.given, model.renamed = settings, given, renamed or {}
    return model


def refuse_old_names(stated: Any, renamed: Mapping[str, str]) -> None:
    """Raise ValueError for the first key of an earlier version, with its present name."""
    for old, new in renamed.items():
        if isinstance(stated, Mapping) and old in stated:
            raise ValueError(f"`{old}` is now {new}")
