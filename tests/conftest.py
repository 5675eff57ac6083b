"""No property depends on how busy the machine is; long modules come first; and a GPU that is not there."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

from puzzledsl.families.registry import FAMILIES
from tests.cases import ALL, cases

if TYPE_CHECKING:
    from tests.pretended_gpu import Gpu

ROOT = Path(__file__).parent
settings.register_profile(
    "untimed", deadline=None, max_examples=cases(100), suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("untimed")  # hypothesis neither times examples nor complains of slow ones


LONG = (
    "pretended_gpu/test_families.py",
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
SLOW = (
    "cluster/test_stages_on_ray.py",
    "costs/test_calibrate.py",
    "docs/test_site.py",
    "plugins/test_low_rank.py",
    "uptrain/test_two_ranks.py",
)
"""Modules of `make test-slow`: each takes long, and what it tests seldom breaks alone."""
KEPT = {"llama", "qwen3_moe", "nemotron_h"}
"""Families of `make test`, one of each kind; tests of models in the others are slow ones."""
OF_MODELS = (
    "child",
    "evaluate",
    "export",
    "measure",
    "models",
    "pieces",
    "pipeline",
    "plan",
    "scoring",
    "uptrain",
)


@pytest.hookimpl(tryfirst=True)  # before `-m 'not slow'` chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long modules first, and mark slow ones. `--no-loadscope-reorder` keeps this order."""
    places = {ROOT / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))
    for item in items:
        more = not ALL and item.get_closest_marker("more") is not None
        if more or ("PZL_WHOLE" not in os.environ and is_slow(item)):
            item.add_marker(pytest.mark.slow)


def is_slow(item: pytest.Item) -> bool:
    """Return True for a test of a slow module, and for one of models of a family that is not kept."""
    module = item.path.relative_to(ROOT)
    call = getattr(item, "callspec", None)
    if module.as_posix() in SLOW or call is None or module.parts[0] not in (*OF_MODELS, "pretended_gpu"):
        return module.as_posix() in SLOW
    values = {value for value in call.params.values() if isinstance(value, str)}
    return bool(values & FAMILIES.keys()) and not values & KEPT


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
