"""Registry of every diagnostic of all stages, without loading the stages' libraries.

Diagnostics are in modules called `*errors.py` and in folders called `diagnostics`. They import no more than the IR; a test
checks this.
"""

from __future__ import annotations

import importlib
from functools import cache
from pathlib import Path

import puzzledsl
from puzzledsl.base.diagnostics import Diagnostic


@cache
def all_codes() -> dict[str, type[Diagnostic]]:
    """Code -> class, in the order of the codes."""
    root = Path(puzzledsl.__file__).parent
    for path in sorted({*root.glob("**/*errors.py"), *root.glob("**/diagnostics/*.py")}):
        importlib.import_module(".".join(("puzzledsl", *path.relative_to(root).with_suffix("").parts)))
    ours = {c: kind for c, kind in Diagnostic.registry.items() if kind.__module__.startswith("puzzledsl.")}
    return dict(sorted(ours.items(), key=lambda item: (item[0][1:], item[0])))
