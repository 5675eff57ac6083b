"""Work cut into smaller pieces than a CPU's."""

from dataclasses import replace

import pytest

from puzzledsl.plan.memory import stage_plan as tiles


def cut(monkeypatch: pytest.MonkeyPatch, **sizes: int) -> None:
    """Let a CPU's tiles have these sizes."""
    monkeypatch.setattr(tiles, "CPU", replace(tiles.CPU, **sizes))
