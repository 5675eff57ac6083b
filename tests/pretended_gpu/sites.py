"""Call sites: the nearest line of the package on the stack."""

from __future__ import annotations

import os
import sys
from types import FrameType

import puzzledsl

PACKAGE = os.path.dirname(os.path.abspath(puzzledsl.__file__)) + os.sep
OWN = {"calls.py", "cuda.py", "memory.py", "operators.py", "sites.py", "state.py"}


def call_site() -> str:
    """Return `folder/file.py:line` inside the package; the nearest line of a test where the package is not on the stack."""
    frame: FrameType | None = sys._getframe(1)
    outside = "?"
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(PACKAGE):
            return f"{file.removeprefix(PACKAGE)}:{frame.f_lineno}"
        name = os.path.basename(file)
        if outside == "?" and "site-packages" not in file and name not in OWN:
            outside = f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return outside
