"""Divergence figures are those of full float64 logits, from an independent forward pass."""

import math
import statistics

import numpy as np
import pytest
import torch

from puzzledsl.child.checkpoint.contents import load_checkpoint
from puzzledsl.child.checkpoint.write import realise
from puzzledsl.evaluate.divergence import compare_block, divergence_figures, final_states
from puzzledsl.models.families.load import load_parent
from tests.children import MIXED, define, random_pieces
from tests.oracle_forward import oracle_logits
from tests.tiles import cut
from tests.tiny import save_tiny, tiny_tokens


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    base = tmp_path_factory.mktemp("divergence")
    parent = save_tiny(base / "parent", layers=len(MIXED), scale=0.2)
    realise(define(MIXED), parent, random_pieces(load_parent(parent), MIXED), base / "child")
    return parent, base / "child"


def log_probs(directory, row) -> np.ndarray:
    logits = oracle_logits(directory, row.tolist())
    return logits - np.logaddexp.reduce(logits, -1, keepdims=True)


def figures_of(parent_dir, child_dir, tokens):
    parent, child = load_checkpoint(parent_dir), load_checkpoint(child_dir)
    states = [final_states(model, tokens) for model in (parent, child)]
    heads = [model.get_output_embeddings().weight for model in (parent, child)]
    return [compare_block(ids, p, heads[0], c, heads[1]) for ids, p, c in zip(tokens, *states, strict=True)]


@pytest.mark.parametrize("chunk", [512, 5])
def test_against_an_independent_forward(pair, monkeypatch, chunk):
    cut(monkeypatch, divergence_positions=chunk, forward_tokens=24)
    tokens = tiny_tokens(3, 12)
    found = figures_of(*pair, tokens)
    for block, row in zip(found, tokens, strict=True):
        p, q = log_probs(pair[0], row), log_probs(pair[1], row)
        assert block.means["kl"] == pytest.approx((np.exp(p) * (p - q)).sum(-1).mean(), rel=1e-4)
        chosen = np.argsort(-q, -1)
        agreed = [(chosen[:, :k] == p.argmax(-1)[:, None]).any(-1).mean() for k in (1, 5, 10)]
        assert [block.means[f"top{k}_agreement"] for k in (1, 5, 10)] == agreed == sorted(agreed)
        nexts = q[np.arange(11), row.numpy()[1:]]
        assert block.means["perplexity"] == pytest.approx(-nexts.mean(), rel=1e-4)
    figures, kl = divergence_figures(found), [block.means["kl"] for block in found]
    assert figures["kl"].value == pytest.approx(statistics.fmean(kl))
    assert figures["kl"].stderr == pytest.approx(statistics.stdev(kl) / math.sqrt(3))
    perplexity = math.exp(statistics.fmean(block.means["perplexity"] for block in found))
    assert figures["perplexity"].value == pytest.approx(perplexity)


def test_bfloat16_states_are_scored_in_float32():
    g = torch.Generator().manual_seed(0)
    states, head = torch.randn(6, 8, generator=g).bfloat16(), torch.randn(40, 8, generator=g).bfloat16()
    ids = torch.arange(6)
    block = compare_block(ids, states, head, states, head)
    nexts = (states @ head.T).double().log_softmax(-1)[:-1].gather(1, ids[1:, None])
    assert block.means["perplexity"] == pytest.approx(-nexts.mean().item(), rel=1e-5)
