"""Pieces of a mixture whose experts are read one by one are those of a parent in memory, and leave the parent alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.linear import LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.ir.nodes import Initialisers
from puzzledsl.models.alternatives.realisation import State, initialise
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.placement import paged_parent
from puzzledsl.pieces.train.layer_trainer import walk_layers
from tests.tiny import MIXTURES, SPARSE_HYBRIDS, save_tiny, tiny_tokens

PIECES: tuple[Alternative, ...] = (
    MoeFfn(experts=3, top_k=2, width=16),
    MoeFfn(experts=6, top_k=2, width=8),
    MoeFfn(experts=4, top_k=1, width=8),
    MoeFfn(experts=6, top_k=1, width=16),
    MlpFfn(width=16),
    LinearFfn(),
)


def pieces(model: PreTrainedModel, wanted: Sequence[Alternative] = PIECES) -> list[State]:
    """Pieces of the first layer with a mixture, in turn from the same statistics."""
    shape = shape_of(model.config)
    place = next(index for index, own in enumerate(shape.each) if own.ffn == "moe")
    tokens = [tiny_tokens(8, 32, seed=seed) for seed in range(2)]
    _, statistics = next(walk_layers(model, tokens, layers=[place]))
    layer, own = layers(model)[place], shape.at(place)
    return [initialise(layer, piece, statistics, Initialisers(), own) for piece in wanted]


@pytest.mark.parametrize("family", [*MIXTURES, *SPARSE_HYBRIDS])
def test_pieces_are_the_same_bit_for_bit_when_experts_are_read_one_by_one(
    tmp_path: Path, family: str
) -> None:
    directory = save_tiny(tmp_path / "parent", family, layers=4, intermediate=16)
    loaded = load_parent(directory)
    before = {name: weight.clone() for name, weight in loaded.state_dict().items()}
    paged, pages = paged_parent(directory, room_bytes=0)
    for piece, own, expected in zip(PIECES, pieces(paged), pieces(loaded), strict=True):
        assert set(own) == set(expected)
        assert all(torch.equal(own[name], expected[name]) for name in own), piece.name
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.state_dict().items())
    assert len(pages.present) == 1, "a piece that reads the whole sub-block has its page"
    paged, pages = paged_parent(directory, room_bytes=0)
    pieces(paged, PIECES[:1])
    assert pages.present == (), "surgery on experts drops the layer"
    paged, pages = paged_parent(directory, room_bytes=1 << 40)
    pieces(paged, PIECES[:1])
    assert pages.reads == len(pages.present), "a page that fits stays"
