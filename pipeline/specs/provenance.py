"""Who says a figure, and how: classes of provenance.

Belongs here: the classes, the model of ``data_specs/provenance.yaml``, the class of a survey's own
figure. Does not belong here: which class a target has (``specs/targets.py``) or which classes a
profile holds out (``specs/profiles.py``).
"""

from __future__ import annotations

from functools import cache
from typing import Literal, Self, get_args

from pydantic import Field, model_validator

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml

Provenance = Literal[
    "administrative_count", "census", "survey_demographic", "survey_tax_benefit", "projection"
]
SURVEYED: tuple[Provenance, ...] = ("survey_demographic", "survey_tax_benefit")


class ProvenanceFile(SpecModel):
    """``data_specs/provenance.yaml``: what each class means, and the families about money."""

    classes: dict[Provenance, str]
    money: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _every_class(self) -> Self:
        if absent := set(get_args(Provenance)) - set(self.classes):
            raise ValueError(f"no words for {', '.join(sorted(absent))}")
        return self

    def of_survey(self, family: str) -> Provenance:
        """The class of a survey's figure of a variable of ``family``."""
        return "survey_tax_benefit" if family in self.money else "survey_demographic"


@cache
def load_provenance() -> ProvenanceFile:
    """The file. Raises SpecError."""
    return load_yaml(SPEC_ROOT / "provenance.yaml", ProvenanceFile)
