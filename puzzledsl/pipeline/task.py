"""Parts of a run: the stages in order, and one thing to make."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

STAGES = (
    "measure",
    "bld",
    "score",
    "solve",
    "frontier",
    "refine",
    "realise",
    "uptrain",
    "eval",
    "export",
    "report",
)
"""In the order in which `pzl run` does them."""

COMPILE = "compile"
"""The stage of what `pzl compile` writes: made anew by every run, read by none."""


@dataclass(frozen=True)
class Task:
    """One thing to make. `run` returns the paths it wrote; a directory stands for all below it.

    `intact` says whether what no stamp can vouch for is there too; raises DiagnosticError where it is damaged.
    """

    stage: str
    name: str
    inputs: Callable[[], dict[str, str]]
    run: Callable[[], list[Path]]
    intact: Callable[[], bool] = lambda: True

    @property
    def title(self) -> str:
        """`score kl`."""
        return f"{self.stage} {self.name}".strip()
