"""Answers of several prompts at once are those of each prompt alone."""

from __future__ import annotations

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentFfn
from puzzledsl.child.assemble import load_checkpoint
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.evaluate import prompts
from puzzledsl.evaluate.prompts import PromptTokens, continued_ids
from puzzledsl.models.families.load import load_parent, load_tokenizer
from tests.child.checkpoint.test_hybrid_children import MIXED
from tests.children import define, random_pieces
from tests.tiles import cut
from tests.tiny import save_tiny

WINDOWS = [
    (GqaAttention(kv_heads=4, window=5, sinks=2), ParentFfn()),
    (GqaAttention(kv_heads=2, window=6), MlpFfn(width=20)),
    (NoOpAttention(), ParentFfn()),
]


@pytest.mark.parametrize(("family", "layers"), [("llama", WINDOWS), *MIXED.items()])
def test_answers_of_a_batch_are_those_of_each_prompt_alone(tmp_path, monkeypatch, family, layers):
    """Prompts of many lengths, with windows and states that padding must not reach."""
    monkeypatch.setattr(prompts, "ANSWER_TOKENS", 8)
    parent = save_tiny(tmp_path / "parent", family, layers=len(layers), scale=0.2)
    realise(define(layers), parent, random_pieces(load_parent(parent), layers), tmp_path / "child")
    model, tokenizer = load_checkpoint(tmp_path / "child"), load_tokenizer(parent)
    dice = torch.Generator().manual_seed(0)
    lengths = (3, 17, 9, 9, 1, 30)
    asked = [PromptTokens("", tuple(torch.randint(4, 260, (n,), generator=dice).tolist())) for n in lengths]
    alone = [continued_ids(model, tokenizer, [prompt], lambda count: None)[0] for prompt in asked]
    seen, told, real = [], [], model.generate
    monkeypatch.setattr(model, "generate", lambda ids, **k: seen.append(tuple(ids.shape)) or real(ids, **k))
    assert continued_ids(model, tokenizer, asked, told.append) == alone
    assert seen == [(6, 30)] and sum(told) == len(asked)
    seen.clear()
    cut(monkeypatch, generated_tokens=60)
    assert continued_ids(model, tokenizer, asked, told.append) == alone
    assert seen[:3] == [(1, 30), (2, 17), (3, 9)]
