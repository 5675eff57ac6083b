"""Alternatives of the mixtures of tiny random parents: pieces that fit their modules, nearer to the parent than rivals.

Pieces of a mixture whose experts are read one by one are those of a parent in memory.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.linear import LinearFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.moe import MoeFfn
from puzzledsl.ir.nodes import Initialisers
from puzzledsl.models.alternatives.realisation import State, build_alternative, initialise
from puzzledsl.models.errors import CannotInitialise
from puzzledsl.models.families.access import layers, shape_of, sub_block_of
from puzzledsl.models.families.load import load_parent
from puzzledsl.models.families.slots import load_weights_into, weights_of
from puzzledsl.models.least_squares.grams import LayerStatistics
from puzzledsl.models.mixtures.experts import Mixture, ModuleRules
from puzzledsl.models.mixtures.smaller import reap
from puzzledsl.models.placement import paged_parent
from puzzledsl.pieces.train.layer_trainer import walk_layers
from tests.refused import refused
from tests.tiny import MIXTURES, SPARSE_HYBRIDS, save_tiny, tiny_model, tiny_tokens

SMALLER = [
    MoeFfn(experts=3, top_k=2, width=16),
    MoeFfn(experts=6, top_k=2, width=8),
    MoeFfn(experts=4, top_k=1, width=12),
]
LEAST_SQUARES = Initialisers()
of_each = pytest.mark.parametrize("family", [*MIXTURES, *SPARSE_HYBRIDS])


@cache
def parent(family: str) -> PreTrainedModel:
    return tiny_model(family, layers=4, intermediate=16)


def place_in(model: PreTrainedModel) -> int:
    """The first layer with a mixture."""
    return next(index for index, own in enumerate(shape_of(model.config).each) if own.ffn == "moe")


def place(family: str) -> int:
    return place_in(parent(family))


@cache
def statistics(family: str, seeds: tuple[int, ...] = (0, 1, 2, 3)) -> LayerStatistics:
    index = place(family)
    tokens = [tiny_tokens(16, 32, seed=i) for i in seeds]
    return dict(walk_layers(parent(family), tokens, layers=[index]))[index]


def made(family: str, alternative: Alternative, init: Initialisers = LEAST_SQUARES) -> torch.nn.Module:
    model, index = parent(family), place(family)
    shape = shape_of(model.config).at(index)
    state = initialise(layers(model)[index], alternative, statistics(family), init, shape)
    module = build_alternative(model, index, alternative)
    load_weights_into(module, state)
    return module


@torch.no_grad()
def error(family: str, module: torch.nn.Module) -> float:
    trace = statistics(family, (99,)).calls[0][1]
    x, y = trace.ffn_input, trace.ffn_output
    output = module(x)
    output = output[0] if isinstance(output, tuple) else output
    return float((output - y).square().sum() / y.square().sum())


def rival(family: str, alternative: MoeFfn) -> torch.nn.Module:
    """The experts of the highest saliency, and their first channels."""
    model, index = parent(family), place(family)
    weights = weights_of(sub_block_of(layers(model)[index], "ffn"))
    full = Mixture.of(weights, 2, ModuleRules(sub_block_of(layers(model)[index], "ffn")))
    x = torch.cat([trace.ffn_input.flatten(0, 1) for _, trace in statistics(family).calls])
    fewer = full.only(torch.tensor(reap(full, x)).topk(alternative.experts).indices.sort().values.tolist())
    narrow = replace(fewer, experts=[e.channels(torch.arange(alternative.width)) for e in fewer.experts])
    module = build_alternative(model, index, alternative)
    shared = {name: weight for name, weight in weights.items() if name.startswith("shared_expert")}
    load_weights_into(module, shared | narrow.state())
    return module


@of_each
@pytest.mark.parametrize("alternative", SMALLER, ids=lambda a: a.name)
def test_smaller_mixtures_are_nearer_to_the_parent_than_rivals(family, alternative):
    assert error(family, made(family, alternative)) < error(family, rival(family, alternative))


@of_each
def test_a_mixture_of_the_parents_size_loses_nothing_and_larger_ones_are_refused(family):
    assert error(family, made(family, MoeFfn(experts=6, top_k=2, width=16))) < 1e-9
    assert refused(made, family, MoeFfn(experts=7, top_k=2, width=16)).kind == CannotInitialise


@of_each
def test_a_dense_ffn_in_place_of_a_mixture_is_better_than_none_and_than_channels_that_are_not_fitted(family):
    errors = [error(family, made(family, MlpFfn(width=width))) for width in (48, 16)]
    assert errors[0] < errors[1] < 1
    init = Initialisers(mlp="channel_contribution")
    own = weights_of(sub_block_of(layers(parent(family))[place(family)], "ffn"))
    rows = {tuple(row.tolist()) for name, weight in own.items() if "up_proj.weight" in name for row in weight}
    plain = made(family, MlpFfn(width=48), init)
    assert {tuple(row.tolist()) for row in plain.up_proj.weight} <= rows
    assert errors[0] < error(family, plain)


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
    index, tokens = place_in(model), [tiny_tokens(8, 32, seed=seed) for seed in range(2)]
    _, found = next(walk_layers(model, tokens, layers=[index]))
    layer, own = layers(model)[index], shape_of(model.config).at(index)
    return [initialise(layer, piece, found, LEAST_SQUARES, own) for piece in wanted]


@of_each
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
