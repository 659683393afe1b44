"""Who is compared in ``benchmarks.methods``: our methods and every peer, each one line of data.

Belongs here: the contenders, what is told of each, which of them are installed. Does not belong
here: running them (``contender_runs.py``), how a peer is called (``peers/``).
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass

# Interior-point solvers hold every record as a variable: beyond this they are run only if named in
# --only.
_CONE_RECORDS = 20_000


@dataclass(frozen=True)
class Contender:
    """One line to be: ``package`` "" is this project; ``module`` is what shows that a peer is
    installed.
    """

    task: str
    label: str
    runner: str
    argument: str
    module: str = ""
    most_records: int = 10**12


OURS = tuple(
    Contender(task, f"geocal {method}", "run_geocal.py", f"{task}/{method}")
    for task, method in (
        ("kl", "raking"),
        ("kl", "entropy"),
        ("kl", "gradient"),
        ("linear", "linear"),
        ("truncated", "truncated_linear"),
        ("logit", "logit"),
        ("bounded_kl", "raking_bounded"),
        ("margins", "ipf"),
        ("margins", "raking"),
    )
)


PEERS = (
    Contender("kl", "python-icarus raking", "run_icarus.py", "kl", "pycarus"),
    Contender(
        "kl",
        "empirical_calibration entropy",
        "run_empirical_calibration.py",
        "kl",
        "empirical_calibration",
    ),
    Contender("kl", "PopulationSim list balancer", "run_populationsim.py", "kl", "populationsim"),
    Contender("kl", "R survey raking", "run_survey.R", "kl", "R"),
    Contender("kl", "cvxpy Clarabel", "run_cvxpy.py", "kl", "cvxpy", _CONE_RECORDS),
    Contender("linear", "svy GREG", "run_svy.py", "linear", "svy"),
    Contender("linear", "python-icarus linear", "run_icarus.py", "linear", "pycarus"),
    Contender("linear", "R survey linear", "run_survey.R", "linear", "R"),
    Contender("linear", "cvxpy Clarabel", "run_cvxpy.py", "linear", "cvxpy", _CONE_RECORDS),
    Contender("truncated", "python-icarus truncated", "run_icarus.py", "truncated", "pycarus"),
    Contender("truncated", "R survey linear, bounded", "run_survey.R", "truncated", "R"),
    Contender("truncated", "cvxpy Clarabel", "run_cvxpy.py", "truncated", "cvxpy", _CONE_RECORDS),
    Contender("logit", "python-icarus logit", "run_icarus.py", "logit", "pycarus"),
    Contender("logit", "R survey logit", "run_survey.R", "logit", "R"),
    Contender("margins", "svy rake", "run_svy.py", "margins", "svy"),
    Contender(
        "margins", "leafblower newton_kl", "run_leafblower.py", "margins/newton_kl", "leafblower"
    ),
    Contender("margins", "leafblower raking", "run_leafblower.py", "margins/raking", "leafblower"),
    Contender("margins", "python-icarus raking", "run_icarus.py", "margins", "pycarus"),
    Contender(
        "margins", "PopulationSim list balancer", "run_populationsim.py", "margins", "populationsim"
    ),
    Contender("margins", "ipfn", "run_ipfn.py", "margins", "ipfn"),
    Contender("margins", "weightipy rim", "run_weightipy.py", "margins", "weightipy"),
    Contender("margins", "R survey raking", "run_survey.R", "margins", "R"),
)


# What a task's other contenders are measured against.
REFERENCE = {
    "kl": "raking",
    "linear": "linear",
    "truncated": "truncated_linear",
    "logit": "logit",
    "bounded_kl": "raking_bounded",
    "margins": "raking",
}


def installed(python: str, modules: set[str]) -> set[str]:
    """Which modules that interpreter can find; "R" stands for Rscript with the package survey."""
    code = (
        "import importlib.util as u, json, sys; print(json.dumps([m for m in sys.argv[1:] if"
        " u.find_spec(m)]))"
    )
    found: set[str] = set()
    names = sorted(modules - {"R", ""})
    if names:
        run = subprocess.run(
            [python, "-c", code, *names], capture_output=True, text=True, check=False
        )
        found = set(json.loads(run.stdout)) if run.returncode == 0 else set()
    if "R" in modules and shutil.which("Rscript"):
        run = subprocess.run(["Rscript", "-e", "library(survey)"], capture_output=True, check=False)
        found |= {"R"} if run.returncode == 0 else set()
    return found
