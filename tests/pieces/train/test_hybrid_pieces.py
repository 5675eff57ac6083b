"""Coupled pieces of a parent with one sub-block a layer: the absent half adds nothing."""

from __future__ import annotations

import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.alternatives.shape import Initialisers
from puzzledsl.ir.nodes import Schedule
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.families.access import layers, shape_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.pieces.train.layer_trainer import walk_layers
from puzzledsl.pieces.train.student import Student
from tests.tiny import tiny_model, tiny_tokens


def test_a_coupled_piece_of_a_layer_without_an_ffn_is_its_attention() -> None:
    model, tokens = tiny_model("nemotron_h", layers=2), tiny_tokens(2, 12)
    shape, attention = shape_of(model.config), GqaAttention(kv_heads=1)
    job = BldJob(
        id="0", bld="b", layer=1, sub_block="block", attention=attention, ffn=ParentFfn(),
        shapes={}, init="least_squares", loss="normalized_mse", tokens=0, context=12, batch=2,
        lr=Schedule(peak=1e-3, warmup=0), calibration_tokens=24, seed=0,
    )  # fmt: skip
    statistics = dict(walk_layers(model, [tokens]))[1]
    student = Student.build(job, model, statistics, Initialisers(), shape.at(1))
    runner = LayerRunner(model)
    hidden = runner.run_layer(0, runner.embed(tokens))
    trace = runner.trace_layer(1, hidden)
    made, _ = student.trained["self_attn"](trace.attention_input, **trace.attention_kwargs)
    torch.testing.assert_close(student.forward(hidden, trace), made)
    assert torch.equal(student.target(trace), trace.attention_added)
    assert layers(model)[1].mixer is not student.trained["self_attn"]
