"""The work that healing reports, by which the time that is left is estimated, is what its products take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.base.progress import Silent
from puzzledsl.child.healing.walk import heal
from puzzledsl.models.families.load import load_parent
from tests.children import PARENT, Choice, define, random_pieces
from tests.export.variants import NA, NF, A, F
from tests.tiny import save_tiny, tiny_tokens

CALIBRATION, HELD_OUT = tiny_tokens(64, 16, seed=1), tiny_tokens(4, 16, seed=2)
NARROW: Choice = (A, MlpFfn(width=16))


class Works(Silent):
    """All that is to be done, and of each layer that is healed the work said and the FLOP counted."""

    def __init__(self, counter: FlopCounterMode) -> None:
        self.all, self.units, self._counter, self._before = 0.0, list[tuple[float, int]](), counter, 0
        self.left = 0

    def start(self, task: str, total: int) -> None:
        self.left = total

    def ready(self, work: float | None = None, at_once: int = 1, cold: int = 0) -> None:
        assert work is not None
        self.all, self._before = work, self._counter.get_total_flops()

    def advance(
        self, amount: int = 1, *, kept: bool = False, work: float | None = None, **figures: float | str
    ) -> None:
        assert work is not None and (work == 0 or not kept)
        self.left -= amount
        if not kept:
            now = self._counter.get_total_flops()
            self.units.append((work, now - self._before))
            self._before = now


def works(layers: Sequence[Choice], folder: Path, work: str) -> Works:
    directory = folder / "parent"
    parent = load_parent(directory if directory.exists() else save_tiny(directory, layers=len(layers)))
    pieces = random_pieces(parent, list(layers))
    with FlopCounterMode(display=False) as counter:
        found = Works(counter)
        heal(parent, define(list(layers)).layers, pieces, CALIBRATION, HELD_OUT, folder / work, found)
    return found


@pytest.mark.parametrize(
    "layers",
    [
        [PARENT, NARROW, PARENT, PARENT],
        [PARENT, PARENT, (NA, F), NARROW],
        [(A, NF), PARENT, (NA, NF), PARENT],
        [PARENT, NARROW, PARENT, (NA, NF)],
    ],
)
def test_a_layer_of_a_child_counts_by_its_own_sub_blocks(layers: list[Choice], tmp_path: Path) -> None:
    found = works(layers, tmp_path, "work")
    assert sum(work for work, _ in found.units) == pytest.approx(found.all) and found.left == 0
    rates = [flop / work for work, flop in found.units[:-1]]  # the last compares
    assert max(rates) < 1.25 * min(rates)


def test_layers_that_are_healed_already_count_less(tmp_path: Path) -> None:
    layers = [PARENT, NARROW, PARENT, PARENT]
    before, again = works(layers, tmp_path, "work"), works(layers, tmp_path, "work")
    assert again.all < before.all
    assert sum(work for work, _ in again.units) == pytest.approx(again.all)
