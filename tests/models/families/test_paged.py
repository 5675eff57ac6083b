"""A parent whose weights come and go gives the numbers of one that is loaded."""

import itertools
import shutil
from pathlib import Path

import pytest
import torch

from puzzledsl.models.families.access import layers
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.placement import paged_parent
from tests.refused import refused
from tests.tiny import FAMILIES, HYBRIDS, save_tiny, tiny_tokens


@torch.no_grad()
@pytest.mark.parametrize(
    ("family", "tied"), [*itertools.product(FAMILIES, (False, True)), *((name, False) for name in HYBRIDS)]
)
def test_the_numbers_are_those_of_the_loaded_parent(tmp_path: Path, family: str, tied: bool) -> None:
    layers = 12 if family == "nemotron_h" else 4
    directory, tokens = save_tiny(tmp_path, family, tied=tied, layers=layers), tiny_tokens()
    expected = load_parent(directory)(tokens).logits
    for room_bytes, present in ((0, 1), (1 << 40, layers + 2)):
        paged, pages = paged_parent(directory, room_bytes=room_bytes)
        assert torch.equal(paged(tokens).logits, expected)
        assert (paged.device, paged.dtype) == (torch.device("cpu"), torch.float32)
        assert len(pages.present) == present


def test_only_one_layer_is_there_and_each_is_read_once_while_tokens_move_up_together(tmp_path: Path) -> None:
    paged, pages = paged_parent(save_tiny(tmp_path, layers=4), room_bytes=0)
    runner = LayerRunner(paged)
    batches = [runner.embed(tiny_tokens(seed=seed)) for seed in range(3)]
    assert pages.present == ("model.embed_tokens",)
    for layer_idx in range(4):
        batches = [runner.run_layer(layer_idx, hidden) for hidden in batches]
        assert pages.present == (f"model.layers.{layer_idx}",)
        there = [not bool(layer.mlp.up_proj.weight.isnan().any()) for layer in layers(paged)]
        assert there == [i == layer_idx for i in range(4)]
    assert pages.reads == 5


def test_what_ran_longest_ago_goes_first(tmp_path: Path) -> None:
    directory = save_tiny(tmp_path, layers=4)
    _, all_of_them = paged_parent(directory, room_bytes=1 << 40)
    layer_bytes = 4 * sum(w.numel() for w in layers(load_parent(directory))[0].parameters())
    paged, pages = paged_parent(directory, room_bytes=2 * layer_bytes)
    runner = LayerRunner(paged)
    hidden = runner.embed(tiny_tokens())
    for layer_idx in (0, 1, 0, 2):
        runner.run_layer(layer_idx, hidden)
    assert pages.present == ("model.layers.0", "model.layers.2")
    assert all_of_them.present == ()


def test_a_kept_head_stays_beside_the_rest(tmp_path: Path) -> None:
    paged, pages = paged_parent(save_tiny(tmp_path), room_bytes=0, keep_head=True)
    loaded = load_parent(tmp_path)
    assert torch.equal(paged.lm_head.weight, loaded.lm_head.weight)
    paged(tiny_tokens())
    assert not paged.lm_head.weight.isnan().any() and pages.present == ("model.layers.2",)


def test_weights_that_are_gone_when_they_are_needed_are_a_diagnostic(tmp_path: Path) -> None:
    paged, _ = paged_parent(save_tiny(tmp_path / "parent"), room_bytes=0)
    shutil.rmtree(tmp_path / "parent")
    found = refused(paged, tiny_tokens())
    assert found.code == "E0705" and "No such file" in found.message
