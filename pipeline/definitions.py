"""The code location: every asset, job, schedule and sensor of one profile, made by a function.

Belongs here: putting the parts together. Does not belong here: anything heavy; this module is
imported by the web server, the daemon and every run process, so torch, scipy and altair stay inside
the functions that use them.

``defs`` is built for the profile that the environment names (``GEOCAL_PROFILE``, ``GEOCAL_DATA``,
``GEOCAL_OUTPUT``).
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from pipeline.assets.build import build_assets
from pipeline.assets.common import code_version
from pipeline.automation.build import build_automation
from pipeline.io_manager import ParquetIOManager
from pipeline.jobs import build_jobs
from pipeline.partitions import state_partitions
from pipeline.settings import RunEnvironment, run_environment
from pipeline.sources.settled import settle
from pipeline.specs.base import SPEC_ROOT, spec_digest
from pipeline.specs.catalog import load_catalog
from pipeline.specs.codebook import load_codebook
from pipeline.specs.profiles import Profile
from pipeline.specs.roots import beside_ours


def run_facts(profile: Profile) -> dict[str, Any]:
    """The constants of a run that every stored table and every manifest carries."""
    return {
        "profile": profile.id,
        "synthetic": profile.synthetic,
        "target_year": profile.target_year,
        "seed": profile.seed,
        "specs_sha256": spec_digest(SPEC_ROOT, *beside_ours()),
        "code_sha256": code_version("calibration_core", "pipeline"),
    }


def build_definitions(
    profile: Profile, environment: RunEnvironment, *, resources: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Definitions of ``profile`` reading and writing where ``environment`` says; ``resources``
    override, for tests.
    """
    environment = environment.generated() if profile.synthetic else environment
    stated, profile = profile, settle(load_catalog(), profile, environment.data)
    facts = run_facts(profile)
    assets = build_assets(profile, environment, state_partitions(profile.states), facts)
    jobs = build_jobs(assets, profile.owners)
    automation = build_automation(jobs, stated, environment)
    return dg.Definitions(
        assets=assets,
        jobs=list(jobs.values()),
        schedules=automation.schedules,
        sensors=automation.sensors,
        resources={
            "io_manager": ParquetIOManager(environment, facts, load_codebook().words),
            **(resources or {}),
        },
        # One heavy step follows another and isolation buys nothing: a process for each would cost
        # more than the work.
        executor=dg.in_process_executor,
        metadata={
            "profile": profile.id,
            "title": profile.title,
            **({"label": "SYNTHETIC"} if profile.synthetic else {}),
        },
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The code location: the profile that the environment names. Dagster calls this when it loads
    the module, an import does not.
    """
    environment = run_environment()
    return build_definitions(load_catalog().profile(environment.profile), environment)
