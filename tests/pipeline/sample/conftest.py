"""One full sample for the whole session, and its population."""

from pathlib import Path

import pytest

from pipeline.sample.generate import SampleManifest, generate_sample
from pipeline.sample.population import Population, build_population
from pipeline.sample.settings import SampleSettings, load_settings


@pytest.fixture(scope="session")
def settings() -> SampleSettings:
    return load_settings()


@pytest.fixture(scope="session")
def population(settings: SampleSettings) -> Population:
    return build_population(settings)


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory, settings: SampleSettings) -> SampleManifest:
    return generate_sample(tmp_path_factory.mktemp("sample"), settings)


@pytest.fixture(scope="session")
def folder(manifest: SampleManifest) -> Path:
    return manifest.root
