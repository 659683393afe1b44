"""How publishers are asked for files: waits, attempts, pauses, hosts that want a key.

Belongs here: the model of ``data_specs/download.yaml``. Does not belong here: the requests
(``pipeline/fetch/``), addresses of files (``sources.py``), or any key: those come from the
environment alone.

Short because it is one model: the numbers and their reasons stand in the YAML.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from pipeline.specs.base import SPEC_ROOT, SpecModel, load_yaml

DOWNLOAD_FILE = "download.yaml"


class HostRule(SpecModel):
    """A host that wants a key: the parameter it goes into, the variable of the environment that
    holds it, and where to ask for one.
    """

    key_parameter: str
    key_variable: str = Field(pattern=r"^[A-Z][A-Z0-9_]*$")
    key_from: str = Field(pattern=r"^https://")


class Download(SpecModel):
    """``data_specs/download.yaml``; seconds and bytes as named, ``hosts`` by name."""

    connect_seconds: float = Field(gt=0)
    read_seconds: float = Field(gt=0)
    attempts: int = Field(ge=1)
    first_wait_seconds: float = Field(ge=0)
    longest_wait_seconds: float = Field(ge=0)
    longest_retry_after_seconds: float = Field(ge=0)
    pause_seconds: float = Field(ge=0)
    redirects: int = Field(ge=0)
    hosts: dict[str, HostRule]


def load_download(root: Path = SPEC_ROOT) -> Download:
    """The settings. Raises SpecError naming file and key."""
    return load_yaml(root / DOWNLOAD_FILE, Download)
