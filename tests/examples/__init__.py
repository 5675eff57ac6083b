"""Scripts of examples/smollm2 as modules, which import each other by name."""

import importlib
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str) -> ModuleType:
    """Import examples/smollm2/NAME.py, as it is for a script beside it."""
    folder = str(EXAMPLES / "smollm2")
    if folder not in sys.path:
        sys.path.insert(0, folder)
    return importlib.import_module(name)
