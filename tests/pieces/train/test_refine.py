"""Nonlinear least squares on pieces: nearer to the parent on unseen tokens, and nothing where it has no business."""

from collections.abc import Sequence
from functools import cache

import pytest
import torch
from transformers import PreTrainedModel

from puzzledsl.alternatives.alternative import Alternative
from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearAttention, LinearFfn, NoOpAttention, NoOpFfn
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.ir import nodes
from puzzledsl.ir.nodes import Initialisers
from puzzledsl.ir.tables import BldJob
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.models.least_squares.grams import LayerStatistics, TracedBatch
from puzzledsl.pieces.train.layer_trainer import walk_layers
from puzzledsl.pieces.train.piece_state import SquaredErrors
from puzzledsl.pieces.train.quantise import refine
from puzzledsl.pieces.train.student import Student
from tests.tiny import FAMILIES, tiny_model, tiny_tokens

PAPER = Initialisers(gqa="mean_pool", mlp="channel_contribution")
SHRUNK = [GqaAttention(kv_heads=2), GqaAttention(kv_heads=1), MlpFfn(width=36), MlpFfn(width=12)]


@cache
def parent(family: str) -> PreTrainedModel:
    return tiny_model(family, heads=8, kv_heads=4, layers=2, intermediate=48, scale=0.3).requires_grad_(False)


@cache
def calibration(family: str) -> LayerStatistics:
    return dict(walk_layers(parent(family), [tiny_tokens(16, 32, seed=i) for i in range(8)]))[1]


def job(attention: Alternative | None, ffn: Alternative | None, init: Initialisers) -> BldJob:
    """A job of layer 1."""
    chosen = {"attention": attention, "ffn": ffn}
    names = [a.initialiser(init) for a in chosen.values() if a is not None and a.trainable]
    site = "block" if attention and ffn else "attention" if attention else "ffn"
    return BldJob(
        id="piece", bld="b", layer=1, sub_block=site, **chosen, shapes={}, init="+".join(names),
        loss="normalized_mse", tokens=1, context=1, batch=1, lr=nodes.Schedule(peak=1e-3),
        calibration_tokens=1, seed=0,
    )  # fmt: skip


def of(alternative: Alternative, init: Initialisers | None = None) -> BldJob:
    attention = isinstance(alternative, GqaAttention | LinearAttention)
    parts = (alternative, None) if attention else (None, alternative)
    return job(*parts, init or Initialisers())


def student_of(family: str, made: BldJob, init: Initialisers | None = None) -> Student:
    model = parent(family)
    shape = shape_of(model.config).at(1)
    return Student.build(made, model, calibration(family), init or Initialisers(), shape)


def unseen_loss(family: str, student: Student) -> float:
    runner, tokens = LayerRunner(parent(family)), tiny_tokens(16, 32, seed=99)
    hidden = runner.run_layer(0, runner.embed(tokens))
    errors = SquaredErrors()
    errors.add(student, hidden, runner.trace_layer(1, hidden))
    return errors.normalized_mse


def gained(family: str, made: BldJob) -> float:
    """The share of the loss on unseen tokens that refining leaves."""
    student = student_of(family, made)
    before = unseen_loss(family, student)
    refine([student], calibration(family).calls)
    return unseen_loss(family, student) / before


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("alternative", SHRUNK, ids=lambda a: a.name)
def test_pieces_come_nearer_on_unseen_tokens(family: str, alternative: Alternative) -> None:
    merged = family == "smollm3" and isinstance(
        alternative, GqaAttention
    )  # nearly as well as can be, without RoPE
    assert gained(family, of(alternative)) <= (1 if merged else 0.98)


@pytest.mark.parametrize(
    ("attention", "ffn"),
    [
        (GqaAttention(kv_heads=1), MlpFfn(width=12)),
        (GqaAttention(kv_heads=1), ParentFfn()),
        (GqaAttention(kv_heads=1), NoOpFfn()),
        (ParentAttention(), MlpFfn(width=12)),
        (NoOpAttention(), MlpFfn(width=12)),
        (LinearAttention(), MlpFfn(width=12)),
    ],
    ids=lambda a: a.name,
)
def test_coupled_pieces_do_too(attention: Alternative, ffn: Alternative) -> None:
    assert gained("llama", job(attention, ffn, Initialisers())) < 0.98


@pytest.mark.parametrize(
    ("alternative", "init", "calls"),
    [
        (GqaAttention(kv_heads=1), PAPER, 8),
        (MlpFfn(width=12), PAPER, 8),
        (LinearFfn(), Initialisers(), 8),
        (MlpFfn(width=12), Initialisers(), 1),
    ],
    ids=["pooled heads", "contribution", "linear", "one batch, which cannot judge itself"],
)
def test_what_is_left_alone(alternative: Alternative, init: Initialisers, calls: int) -> None:
    student = student_of("llama", of(alternative, init), init)
    assert is_left_alone(student, calibration("llama").calls[:calls])


def is_left_alone(student: Student, calls: Sequence[TracedBatch]) -> bool:
    before = student.weights()
    refine([student], calls)
    return all(torch.equal(weight, before[name]) for name, weight in student.weights().items())
