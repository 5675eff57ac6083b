"""No property depends on how busy the machine is; long modules come first; and a GPU that is not there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.pretended_gpu import Gpu

ROOT = Path(__file__).parent
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # hypothesis neither times examples nor complains of slow ones


LONG = (
    "pretended_gpu/test_families.py",
    "paper/test_programs.py",
    "uptrain/test_two_ranks.py",
    "search/sensitivity/test_why.py",
    "child/checkpoint/test_checkpoint.py",
    "child/checkpoint/test_hybrid_children.py",
    "pieces/train/test_bld_run.py",
    "evaluate/test_run.py",
    "pieces/train/test_stream.py",
    "explore/test_in_a_browser.py",
    "cluster/test_stages_on_ray.py",
    "generated/test_generated.py",
)
"""Modules of 20 seconds or more, longest first: a worker that began one of them last would keep the others waiting."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long modules first. `--no-loadscope-reorder` keeps this order."""
    places = {ROOT / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


def pytest_collection_finish() -> None:
    """Keep what was imported and collected out of every collection of garbage: evaluations ask for several each."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def pretended() -> Iterator[Gpu]:
    """This process has one CUDA device until the test ends (`tests.pretended_gpu`)."""
    from tests.pretended_gpu import pretended_gpu  # PyTorch is not loaded for other tests

    with pretended_gpu() as gpu:
        yield gpu
