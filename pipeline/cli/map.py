"""The command ``geocal map``: a picture of a state by tract and county.

Belongs here: what its options ask for, and where the picture goes. Does not belong here: figures,
places and drawing (``reports/map_rows.py``, ``tile_grid.py``, ``boundaries.py``, ``maps.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.cli.asked import one_state
from pipeline.cli.progress import Waiting
from pipeline.cli.terminal import Terminal
from pipeline.errors import ProfileError, StoreError

if TYPE_CHECKING:
    from pipeline.reports.map_rows import MapFigures
    from pipeline.settings import RunEnvironment
    from pipeline.specs.catalog import Catalog
    from pipeline.specs.profiles import Profile


@dataclass(frozen=True)
class MapOptions:
    """The options of ``geocal map`` as they were given; without a ``variable`` the fit is drawn."""

    state: str
    file: Path
    variable: str | None
    fit: bool
    per: str | None
    boundaries: tuple[Path, ...]
    profile: str | None
    output: Path | None


def draw(terminal: Terminal, wanted: MapOptions) -> None:
    """Draw and write the picture. Raises a GeocalError where options or tables do not allow it."""
    ending = _ending(wanted.file)
    if wanted.fit and wanted.variable:
        raise _exclusive("--fit and --variable exclude each other", "leave one out")
    if wanted.per and not wanted.variable:
        raise _exclusive("--per divides the figure of --variable, which is not named", "name both")
    with Waiting(terminal, "reading the last result") as waiting:
        from pipeline.io_manager import read_facts, write_atomic
        from pipeline.reports.maps import as_file, boundary_map, tile_map
        from pipeline.settings import run_environment
        from pipeline.specs.catalog import load_catalog

        environment = run_environment(wanted.profile, None, wanted.output)
        catalog = load_catalog()
        profile = catalog.profile(environment.profile)
        state = one_state(wanted.state, profile)
        figures = _figures(environment, catalog, state, wanted)
        facts = read_facts(environment.table_path("weights", state))
        names = _county_names(environment, profile, state)
        waiting("drawing")
        synthetic = bool(facts.get("synthetic"))
        if wanted.boundaries:
            shapes = _shapes(wanted.boundaries)
            files = ", ".join(map(str, wanted.boundaries))
            chart = boundary_map(figures, shapes, names, synthetic=synthetic, file=files)
        else:
            chart = tile_map(figures, names, synthetic=synthetic)
        write_atomic(wanted.file, as_file(chart, ending))
    terminal.result(f"{figures.title}: {wanted.file}", markup=False)


def _ending(file: Path) -> str:
    from pipeline.reports.maps import ENDINGS

    ending = file.suffix.lower()
    if ending not in ENDINGS or file.is_dir() or not file.absolute().parent.is_dir():
        raise StoreError(
            f"No picture can be written to {file}",
            where="the argument FILE",
            expected=f"a file name ending in {', '.join(ENDINGS)}, in a folder that exists",
            remedy="Name such a file, for example map.png",
        )
    return ending


def _exclusive(found: str, remedy: str) -> ProfileError:
    return ProfileError(
        found, where="geocal map", expected="--fit, or --variable V", remedy=f"Please {remedy}"
    )


def _figures(
    environment: RunEnvironment, catalog: Catalog, state: str, wanted: MapOptions
) -> MapFigures:
    from pipeline.reports.map_rows import fit_figures, key_of_text, variable_figures
    from pipeline.reports.show import stored

    if wanted.variable is None:
        return fit_figures(stored(environment, "fit_report", state), state)
    weights = stored(environment, "weights", state)
    units = stored(environment, "candidate_units", state)
    key = key_of_text(wanted.variable)
    per = key_of_text(wanted.per) if wanted.per else None
    words = {
        each: (catalog.variables[each].label, catalog.variables[each].unit)
        for each in (key, per)
        if each is not None and each in catalog.variables
    }
    return variable_figures(weights, units, key, per, state, words)


def _shapes(files: tuple[Path, ...]) -> Mapping[str, Any]:
    from pipeline.reports.boundaries import read_boundaries

    found: dict[str, Any] = {}
    for file in files:
        found |= read_boundaries(file.expanduser())
    return found


def _county_names(environment: RunEnvironment, profile: Profile, state: str) -> dict[str, str]:
    """Names of the state's counties, from the first stored table of the nation that has them."""
    import polars as pl

    from pipeline.reports.map_rows import short_name
    from pipeline.specs.states import state_of

    fips = state_of(state).fips
    for source in sorted(profile.sources):
        path = environment.table_path(source)
        if not path.exists():
            continue
        table = pl.scan_parquet(path)
        if not {"level", "geoid", "name"} <= set(table.collect_schema().names()):
            continue
        own = (pl.col("level") == "county") & pl.col("geoid").str.starts_with(fips)
        rows = table.filter(own & (pl.col("name") != "")).select("geoid", "name").unique().collect()
        if rows.height:
            return {geoid: short_name(name) for geoid, name in sorted(rows.iter_rows())}
    return {}
