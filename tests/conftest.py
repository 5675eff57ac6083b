"""No property depends on how busy the machine is; garbage is looked for among what tests make; and a GPU that is not there."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from tests.pretended_gpu import Gpu

settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")  # hypothesis neither times examples nor complains of slow ones


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
