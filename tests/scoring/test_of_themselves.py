"""Measures, caches and work of scoring, and which layers a change heals, each by itself."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from puzzledsl.alternatives.linear import NoOpAttention, NoOpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.base.build_dir import BuildDir
from puzzledsl.data.tasks import Item, encode_item
from puzzledsl.ir.base import Where
from puzzledsl.ir.nodes import LayerChoice, ReplaceOne, ScoreFromTable
from puzzledsl.models.families.access import shape_of
from puzzledsl.models.layerwise import LayerRunner
from puzzledsl.scoring import measures, run
from puzzledsl.scoring.replacements import HEALING, End, FiguresCache, Run, ScoringWork, runs_to_score
from puzzledsl.scoring.sweep import HealedReplacement
from tests.tiny import tiny_model, tiny_tokenizer, tiny_tokens

TOKENS = tiny_tokens(3, 12)


def dice(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(sum(size)))


def test_logits_of_a_16_bit_model_are_not_rounded_to_16_bits() -> None:
    weight_VH, states_PH = (dice(*size).bfloat16() for size in ((40, 64), (9, 64)))
    bias_V = dice(40).bfloat16()
    head = measures.Vocabulary(weight_VH, bias_V)
    exact = states_PH.double() @ weight_VH.double().T + bias_V.double()
    found = head.logsumexp(states_PH)
    assert found.dtype == torch.float32
    assert torch.allclose(found.double(), exact.logsumexp(-1), atol=1e-4, rtol=0)
    expected = head.expected(states_PH, found)
    assert expected.dtype == torch.float32
    assert torch.allclose(expected.double(), exact.softmax(-1) @ weight_VH.double(), atol=1e-4, rtol=0)
    assert head.expected(states_PH[:0], found[:0]).shape == (0, 64)


@torch.no_grad()
def test_a_head_of_its_own_answers_in_its_own_words() -> None:
    """As a whole model with that head does, whatever number type it comes in; and that is not what the parent answers."""
    parent, other = tiny_model(seed=0), tiny_model(seed=0)
    other.lm_head.weight = torch.nn.Parameter(other.lm_head.weight.flip(0).contiguous())
    words = ("lone", "mi", "su", "ra")
    items = [Item(f"kara {i}", words[i % 2 :], i % 3) for i in range(20)]
    encoded = [encode_item(tiny_tokenizer(), item) for item in items]
    own, child = (measures.Accuracy(LayerRunner(m), items, encoded) for m in (parent, other))
    states = [parent.model(tokens).last_hidden_state for tokens in own.groups]
    own.set_parent(states)
    drop = own.figures(states, other.lm_head.weight.double())["accuracy"]
    assert drop == own.accuracy(states) - child.accuracy(states) != 0
    divergence = measures.Divergence(LayerRunner(parent), TOKENS, 30)
    states = [parent.model(tokens).last_hidden_state for tokens in divergence.groups]
    divergence.set_parent(states)
    assert divergence.figures(states, other.lm_head.weight.double())["kl_divergence"] > 1e-3


def test_what_a_measure_counts_is_in_its_name() -> None:
    runner = LayerRunner(tiny_model(seed=0))
    assert len({measures.Divergence(runner, TOKENS, n).identity() for n in (8, 9)}) == 2
    learned = torch.zeros_like(TOKENS, dtype=torch.bool)
    learned[:, :3] = True
    inputs: Any = SimpleNamespace(method=ReplaceOne(metric="kl_divergence", samples=20), data="d")
    inputs.declaration = SimpleNamespace(where=Where(file="", line=1, column=1, end_line=1, end_column=1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "scored", lambda given: (TOKENS, learned))
        assert run.measure_of(inputs, runner).samples() == 6  # of 20 positions, blocks of 12


def test_figures_under_another_key_are_not_read(tmp_path: Path) -> None:
    known, name = FiguresCache(BuildDir(tmp_path), "", "this"), (1, "ffn", "noop")
    known.add(name, {"kl_divergence": 0.5})
    (file,) = (each for each in tmp_path.rglob("*") if each.is_file())
    assert FiguresCache(BuildDir(tmp_path), "", "this").figures == {name: {"kl_divergence": 0.5}}
    head, *entries = file.read_text().splitlines(keepends=True)
    file.write_text("".join(["another head\n", *entries]))
    assert FiguresCache(BuildDir(tmp_path), "", "this").figures == {}
    assert file.read_text() == head


def test_work_is_that_of_the_layers_from_the_first_that_differs() -> None:
    plain = ScoringWork((1, 10, 100, 1000), head=7, healed=0.0)
    healed = replace(plain, healed=0.5)
    assert plain.above(End("head", "q8_0")) == healed.above(End("embedding", "q8_0")) == 1118
    assert plain.above(Run(0, 2)) == 1107
    assert healed.above(Run(0, 2)) == 1107 + HEALING * 0.5 * 1100


def test_runs_have_the_lengths_that_a_score_asks_for() -> None:
    dropped = LayerChoice(attention=(ParentAttention(), NoOpAttention()), ffn=(ParentFfn(), NoOpFfn()))
    model: Any = tiny_model(layers=4)
    shape, space = shape_of(model.config), SimpleNamespace(layers=(dropped,) * 4)
    score: Any = SimpleNamespace(method=ReplaceOne(metric="kl_divergence", runs=(2, 3)))
    found = runs_to_score(score, space, shape)  # type: ignore[arg-type]
    assert [(each.layer, each.length) for each in found] == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 2)]
    score.method = ReplaceOne(metric="kl_divergence")
    assert runs_to_score(score, space, shape) == []  # type: ignore[arg-type]


def test_what_a_parent_lacks_is_not_healed() -> None:
    """A run is healed in the layer above it; above the last layer there is none; links lead over what is not there."""
    without = frozenset({(1, "ffn"), (2, "attention")})
    found = HealedReplacement.of(Run(0, 1), 4, without)
    assert (found.behind, found.start) == (1, 0)
    assert [(link.layer_idx, link.sub_block, link.goal) for link in found.changed] == [(1, "attention", 5)]
    last = HealedReplacement.of(Run(3, 1), 4, without)
    assert last.behind == 3 and last.start == 5
    assert [(link.layer_idx, link.sub_block, link.goal) for link in last.changed] == [(2, "ffn", 8)]


def test_a_score_of_a_table_is_not_measured() -> None:
    program = SimpleNamespace(scores={"kl": SimpleNamespace(method=ScoreFromTable(path="kl.csv"))})
    given: list[Any] = [program, "kl", *[None] * 6]
    with pytest.raises(ValueError, match="score kl is not measured, it is read from a table"):
        _ = run.ScoreInputs(*given).method
