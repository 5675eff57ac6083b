"""Scores and evaluations of conversations are means over the positions that losses count."""

import math

import pytest
import torch
import torch.nn.functional as F

from puzzledsl.evaluate.divergence import compare_block, cross_entropies, divergence_figures, final_states
from puzzledsl.evaluate.plan import Text
from puzzledsl.models.families.access import output_embedding
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.scoring.measures import Divergence
from tests.tiny import tiny_model, tiny_tokens

BLOCKS, CONTEXT, SAMPLES = 4, 12, 40
TOKENS = tiny_tokens(BLOCKS, CONTEXT)
LEARNED = torch.rand(BLOCKS, CONTEXT, generator=torch.Generator().manual_seed(0)) < 0.4
LEARNED[:, -1] = False


@pytest.fixture(scope="module")
def models() -> tuple[torch.nn.Module, torch.nn.Module]:
    """A parent, and a model with its head."""
    parent, other = tiny_model(seed=0), tiny_model(seed=1)
    other.lm_head.weight = parent.lm_head.weight
    return parent, other


def by_position(models: tuple[torch.nn.Module, torch.nn.Module]) -> tuple[torch.Tensor, ...]:
    """KL, cross-entropies of both, and cosine distance of the final states, at every position, [N, S]."""
    (p, ours), (q, theirs) = (
        (found.logits.log_softmax(-1), found.hidden_states[-1])
        for found in (model(TOKENS, output_hidden_states=True) for model in models)
    )
    kl = F.kl_div(q, p, log_target=True, reduction="none").sum(-1)
    entropies = [
        F.pad(F.nll_loss(each[:, :-1].transpose(1, 2), TOKENS[:, 1:], reduction="none"), (0, 1))
        for each in (p, q)
    ]
    return kl, *entropies, 1 - F.cosine_similarity(ours, theirs, dim=-1)


@torch.no_grad()
def test_scores(models: tuple[torch.nn.Module, torch.nn.Module]) -> None:
    """Only the first `samples` positions, of these only what counts; whatever happens elsewhere changes nothing."""
    runner = LayerRunner(models[0])
    measure = Divergence(runner, TOKENS, SAMPLES, learned_NS=LEARNED)
    states = [[model.model(TOKENS).last_hidden_state] for model in models]
    measure.set_parent(states[0])
    figures = measure.figures(states[1])
    at = LEARNED.flatten()[:SAMPLES].nonzero()[:, 0]
    kl, before, after, cosine = (each.flatten()[:SAMPLES][at] for each in by_position(models))
    assert measure.samples() == len(at) < SAMPLES
    assert figures["kl_divergence"] == pytest.approx(float(kl.mean()), rel=1e-4)
    assert figures["lm_loss"] == pytest.approx(float((after - before).mean()), rel=1e-3)
    assert figures["cosine"] == pytest.approx(float(cosine.mean()), rel=1e-4)
    elsewhere = states[1][0] + 5 * ~LEARNED[..., None]
    assert measure.figures([elsewhere]) == figures
    plain = Divergence(runner, TOKENS, SAMPLES)
    assert plain.identity() != measure.identity() and plain.samples() == SAMPLES


@torch.no_grad()
def test_evaluations(models: tuple[torch.nn.Module, torch.nn.Module]) -> None:
    """The mean over blocks is the mean over positions, though blocks have more and fewer of them, and one has none."""
    learned = LEARNED.clone()
    learned[2] = False
    text = Text("chat", TOKENS, learned)
    (parent, parent_VH), (model, model_VH) = (
        (final_states(each, TOKENS), output_embedding(each)) for each in models
    )
    blocks = [
        compare_block(ids, p, parent_VH, q, model_VH, counted)
        for ids, p, q, counted in zip(TOKENS, parent, model, text.counted(), strict=True)
    ]
    kl, before, after, _ = by_position(models)
    figures = divergence_figures(blocks)
    assert figures["kl"].value == pytest.approx(float(kl[learned].mean()), rel=1e-4)
    assert figures["perplexity"].value == pytest.approx(float(after[learned].mean().exp()), rel=1e-4)
    itself = [
        compare_block(ids, p, parent_VH, p, parent_VH, counted)
        for ids, p, counted in zip(TOKENS, parent, text.counted(), strict=True)
    ]
    agreement = divergence_figures(itself)["top1_agreement"]
    assert (agreement.value, agreement.stderr) == (pytest.approx(1), pytest.approx(0, abs=1e-9))
    sums, counts = [float(kl[i][learned[i]].sum()) for i in range(BLOCKS)], learned.sum(1).tolist()
    ratio = sum(sums) / sum(counts)
    off = [each - ratio * count for each, count in zip(sums, counts, strict=True)]
    error = math.sqrt(sum(o * o for o in off) * BLOCKS / (BLOCKS - 1)) / sum(counts)
    assert figures["kl"].stderr == pytest.approx(error, rel=1e-3)
    paired = [a - b for a, b in zip(cross_entropies(blocks), cross_entropies(itself), strict=True)]
    changes = [float((after - before)[i][learned[i]].sum()) for i in range(BLOCKS)]
    change = sum(changes) / sum(counts)
    assert sum(paired) / BLOCKS == pytest.approx(change, rel=1e-4)
    wanted = [
        (each - change * count) * BLOCKS / sum(counts) for each, count in zip(changes, counts, strict=True)
    ]
    assert [each - change for each in paired] == pytest.approx(wanted, rel=1e-3, abs=1e-5)
    assert blocks[2].means["kl"] == 0 and 0 <= figures["top10_agreement"].value <= 1
    everywhere = [
        compare_block(*each)
        for each in zip(TOKENS, parent, [parent_VH] * 4, model, [model_VH] * 4, strict=True)
    ]
    assert divergence_figures(everywhere)["kl"].value == pytest.approx(float(kl.mean()), rel=1e-4)
    assert Text("plain", TOKENS).counted() == [None] * BLOCKS
