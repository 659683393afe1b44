"""``geocal`` with the profile ``sample_files`` of ``tests/pipeline/faults.py`` among the others.

python -m tests.pipeline.cli.small_profile run --profile sample_files --data DIR ...
"""

from __future__ import annotations

from unittest.mock import patch

from pipeline.cli import main
from tests.pipeline.faults import catalog_with, files_profile

if __name__ == "__main__":
    catalog = catalog_with(files_profile())
    with patch("pipeline.specs.catalog.load_catalog", lambda *_: catalog):
        main()
