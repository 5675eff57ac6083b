"""One thread for all tests of scores, whatever the test before has left; and a parent that is read layer by layer."""

from collections.abc import Iterator

import pytest
import torch
from transformers import PreTrainedModel

from puzzledsl.models.placement import paged_parent
from puzzledsl.scoring import run


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def paged(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A parent of which one page is in memory. The numbers of processes that it was loaded for."""
    asked: list[int] = []

    def load(parent_dir: object, progress: object, *, processes: int = 1, **given: object) -> PreTrainedModel:
        asked.append(processes)
        return paged_parent(parent_dir, room_bytes=0, keep_head=True)[0]  # type: ignore[arg-type]

    monkeypatch.setattr(run, "reachable_parent", load)
    return asked
