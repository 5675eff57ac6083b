"""Replace-1 scores are those of whole forward passes, whatever is cached and however often the run is interrupted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.data.blocks import token_blocks
from puzzledsl.data.budget import Budget
from puzzledsl.diagnostics import DiagnosticError
from puzzledsl.ir.alternatives import (
    GqaAttention,
    LinearFfn,
    MlpFfn,
    NoOpAttention,
    ParentAttention,
    ParentFfn,
    name_of,
)
from puzzledsl.ir.tables import LayerDefinition, ModelDefinition
from puzzledsl.modeling.assemble import assemble
from puzzledsl.parents.load import load_parent
from puzzledsl.progress import Silent
from puzzledsl.scoring import measures
from puzzledsl.scoring.run import run_score
from tests.bld.bld_programs import make_program
from tests.scoring.cases import Case
from tests.tiny import FAMILIES, tiny_tokenizer

SETTINGS: dict[str, Any] = {"tokens": 64, "calibration_tokens": 128}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_scores_are_those_of_whole_forward_passes(family: str, tmp_path: Path) -> None:
    case = Case(tmp_path, make_program(tmp_path, family, model={"layers": 2}, **SETTINGS))
    # 45 positions are three blocks of 16 whether or not each block's last position has a label
    tables = {
        metric: case.score(metric=metric, samples=45) for metric in ("kl_divergence", "lm_loss", "cosine")
    }
    for layer, choice in enumerate(case.program.spaces["w"].layers):
        expected = {name_of(a): case.naive(layer, a, ParentFfn(), 45) for a in choice.attention[1:]}
        expected |= {"ffn " + name_of(f): case.naive(layer, ParentAttention(), f, 45) for f in choice.ffn[1:]}
        for metric, table in tables.items():
            assert table.metric == metric and table.samples == 45
            assert table.unit == "subblock" and not table.pairs
            scores = table.attention[layer] | {
                f"ffn {name}": value for name, value in table.ffn[layer].items()
            }
            wanted = {name: figures[metric] for name, figures in expected.items()}
            assert scores == pytest.approx(wanted, abs=1e-5)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """One program for several tests."""
    base = tmp_path_factory.mktemp("small")
    attention = (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention())
    return Case(
        base,
        make_program(base, attention=attention, ffn=(ParentFfn(), MlpFfn(width=16), LinearFfn()), **SETTINGS),
    )


@torch.no_grad()
def test_pairs_are_measured_together(small: Case) -> None:
    table = small.score(metric="kl_divergence", samples=32, unit="block")
    assert table.unit == "block" and not table.attention and not table.ffn
    for layer, choice in enumerate(small.program.spaces["w"].layers):
        expected = {
            f"{name_of(a)}/{name_of(f)}": small.naive(layer, a, f, 32)["kl_divergence"]
            for a in choice.attention
            for f in choice.ffn
            if (a.kind, f.kind) != ("parent", "parent")
        }
        assert table.pairs[layer] == pytest.approx(expected, abs=1e-5)


def test_small_chunks_and_forgotten_log_probabilities_change_nothing(
    small: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small.score(metric="kl_divergence", samples=40)
    monkeypatch.setattr(measures, "CHUNK", 7)
    monkeypatch.setattr(measures, "KEPT_LOG_PROBS_BYTES", 0)
    monkeypatch.setattr(measures, "GROUP_TOKENS", 16)
    parts = small.score(metric="kl_divergence", samples=40)
    for a, b in zip(whole.attention + whole.ffn, parts.attention + parts.ffn, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


class Interrupting(Silent):
    """Ends the run after some replacements."""

    def __init__(self, after: int) -> None:
        self.left = after

    def advance(self, amount: int = 1, **figures: float | str) -> None:
        self.left -= amount
        if self.left <= 0:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_to_the_same_bytes(small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small.score().canonical_json()
    arguments = (
        small.program,
        "s",
        small.base / "parent",
        small.base,
        small.library,
        small.jobs,
        small.base / "cut",
    )
    for after in (1, 4):
        with pytest.raises(KeyboardInterrupt):
            run_score(*arguments, Interrupting(after))
        with (small.base / "cut" / "figures.jsonl").open("a") as file:
            file.write('[2, "ffn", "li')  # torn while it was written
    measured = []
    original = measures.Divergence.figures
    monkeypatch.setattr(
        measures.Divergence, "figures", lambda self, normed: measured.append(1) or original(self, normed)
    )
    assert run_score(*arguments, Silent()).canonical_json() == whole
    assert len(measured) == 12 - 4 and not (small.base / "cut").exists()


def test_unfinished_work_from_other_pieces_is_not_used(small: Case) -> None:
    small.base.joinpath("stale").mkdir()
    (small.base / "stale" / "figures.jsonl").write_text(
        json.dumps({"key": "other"}) + "\n" + json.dumps([0, "ffn", "linear", {"kl_divergence": 9.0}]) + "\n"
    )
    assert small.score("stale").ffn == small.score().ffn


def test_scoring_text_is_behind_the_training_text(small: Case) -> None:
    budget = Budget.of(small.program.blds["b"])
    data = small.program.data["mix"]
    used = token_blocks(
        data, small.base, tiny_tokenizer(), context=16, tokens=16 * budget.blocks, seed=budget.seed
    )
    for block in small.tokens(40).tolist():
        assert block not in used.tolist()


def failure(case: Case, **method: Any) -> tuple[str, str]:
    with pytest.raises(DiagnosticError) as caught:
        case.score(**method)
    (diagnostic,) = caught.value.diagnostics
    return diagnostic.code, diagnostic.message


def test_mistakes_are_diagnostics(small: Case) -> None:
    assert failure(small, metric="lm_loss", pairwise=True)[0] == "E1503"
    assert failure(small, metric="kl_divergence", samples=10**6)[0] == "E1204"
    assert failure(small, metric="accuracy", tasks="nothing.jsonl")[0] == "E1206"
    (small.base / "bad.jsonl").write_text('{"context": "a", "choices": ["b"], "answer": 0}\n')
    assert failure(small, metric="accuracy", tasks="bad.jsonl")[0] == "E1207"
    small_jobs = small.jobs
    try:
        small.jobs = tuple(job for job in small.jobs if job.sub_block == "ffn")
        code, message = failure(small, metric="kl_divergence", samples=8)
        assert code == "E1501" and "`gqa1`" in message
    finally:
        small.jobs = small_jobs


def test_a_damaged_piece_is_a_diagnostic(tmp_path: Path) -> None:
    case = Case(tmp_path, make_program(tmp_path, ffn=(ParentFfn(),), **SETTINGS))
    file = case.library.root / f"{case.jobs[0].id}.safetensors"
    file.write_bytes(file.read_bytes()[:-4])
    code, message = failure(case, metric="kl_divergence", samples=8)
    assert code == "E1302" and str(file) in message


# ---------------------------------------------------------------- accuracy


@torch.no_grad()
def naive_accuracy(model: Any, items: list[dict[str, Any]]) -> float:
    tokenizer, right = tiny_tokenizer(), 0
    for item in items:
        scores = []
        for choice in item["choices"]:
            start = len(tokenizer(item["context"]).input_ids)
            ids = torch.tensor([tokenizer(f"{item['context']} {choice}").input_ids])
            log_probs = model(ids, use_cache=False).logits.double().log_softmax(-1)[0, start - 1 : -1]
            scores.append(float(log_probs.gather(1, ids[0, start:, None]).sum()) / len(choice))
        right += scores.index(max(scores)) == item["answer"]
    return right / len(items)


def test_accuracy_is_the_drop_of_right_answers(small: Case) -> None:
    items = [
        {"context": f"kara {i}", "choices": ["lone", "mi" * (i + 1), "su ra to", "x"], "answer": i % 4}
        for i in range(24)
    ]
    (small.base / "tasks.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    table = small.score(metric="accuracy", tasks="tasks.jsonl", samples=20)
    assert table.samples == 20
    parent = load_parent(small.base / "parent")
    expected = naive_accuracy(parent, items[:20])
    pieces = {(j.layer, j.attention, j.ffn): j.id for j in small.jobs}
    drops = []
    for layer in range(3):
        plain = LayerDefinition(attention=ParentAttention(), ffn=ParentFfn())
        for f in (MlpFfn(width=16), LinearFfn()):
            layers = [plain] * 3
            layers[layer] = LayerDefinition(
                attention=ParentAttention(), ffn=f, ffn_piece=pieces[layer, None, f]
            )
            definition = ModelDefinition(name="n", search="n", parent="p", layers=tuple(layers))
            child = assemble(definition, small.base / "parent", small.library.load)
            drops.append(expected - naive_accuracy(child, items[:20]))
            assert table.ffn[layer][name_of(f)] == pytest.approx(drops[-1])
    assert len(set(drops)) > 1, "the replacements differ, or this shows nothing"
