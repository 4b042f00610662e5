"""Loads this package as ``_mfbazel_reading`` and reads the flow that the request names (first argument)."""

import importlib.util
import sys
from pathlib import Path

_NAME = "_mfbazel_reading"

if __name__ == "__main__":
    here = Path(__file__).parent
    spec = importlib.util.spec_from_file_location(_NAME, here / "__init__.py", submodule_search_locations=[str(here)])
    if spec is None or spec.loader is None:
        raise SystemExit(f"{here} cannot be loaded")
    package = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = package
    spec.loader.exec_module(package)
    importlib.import_module(f"{_NAME}.run").main(Path(sys.argv[1]))
