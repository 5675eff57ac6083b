"""Constraints for pip with the oldest version of each dependency that a pyproject.toml allows: `lowest.py pyproject.toml`."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

BOUNDS = re.compile(r"(?P<name>[\w.-]+)>=(?P<lower>[\d.]+),<(?P<upper>[\d.]+)")


def constraints(dependencies: list[str]) -> list[str]:
    """Return `name==lower` for each dependency. Raises ValueError for one without both bounds."""
    found = []
    for dependency in dependencies:
        bounds = BOUNDS.fullmatch(dependency)
        if bounds is None:
            raise ValueError(f"`{dependency}` has no lower and upper bound: `name>=1.2,<3`")
        found.append(f"{bounds['name']}=={bounds['lower']}")
    return found


if __name__ == "__main__":
    project = tomllib.loads(Path(sys.argv[1]).read_text("utf-8"))["project"]
    print("\n".join(constraints(project["dependencies"])))
