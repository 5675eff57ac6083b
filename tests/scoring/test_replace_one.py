"""Replace-1 scores are those of whole forward passes, whatever is cached and however often the run is interrupted."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.alternatives.gqa import GqaAttention
from puzzledsl.alternatives.linear import LinearFfn, NoOpAttention
from puzzledsl.alternatives.mlp import MlpFfn
from puzzledsl.alternatives.parent import ParentAttention, ParentFfn
from puzzledsl.models.families.load import load_parent
from puzzledsl.plan.memory.stage_plan import Tiles
from puzzledsl.scoring import measures
from puzzledsl.scoring.replacements import score_table
from tests.refused import refused
from tests.scoring.cases import PARENT, Case
from tests.tiles import cut
from tests.tiny import FAMILIES, tiny_tokenizer

FFN = (ParentFfn(), MlpFfn(width=16), LinearFfn())


@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_scores_are_those_of_whole_forward_passes(family: str, tmp_path: Path) -> None:
    """45 positions are three blocks of 16 whether or not each block's last position has a label."""
    case = Case.of(tmp_path, family, model={"layers": 2})
    tables = {m: case.score(metric=m, samples=45) for m in ("kl_divergence", "lm_loss", "cosine")}
    for layer, choice in enumerate(case.program.spaces["w"].layers):
        expected = {a.name: case.naive(layer, a, ParentFfn(), 45) for a in choice.attention[1:]}
        expected |= {"ffn " + f.name: case.naive(layer, ParentAttention(), f, 45) for f in choice.ffn[1:]}
        for metric, table in tables.items():
            assert table.metric == metric and table.samples == 45
            assert table.unit == "subblock" and not table.pairs
            ffn = {f"ffn {name}": value for name, value in table.ffn[layer].items()}
            wanted = {name: figures[metric] for name, figures in expected.items()}
            assert table.attention[layer] | ffn == pytest.approx(wanted, abs=1e-5)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """One program for several tests."""
    attention = (ParentAttention(), GqaAttention(kv_heads=1), NoOpAttention())
    return Case.of(tmp_path_factory.mktemp("small"), attention=attention, ffn=FFN)


@torch.no_grad()
def test_pairs_are_measured_together(small: Case) -> None:
    table = small.score(metric="kl_divergence", samples=32, unit="block")
    assert table.unit == "block" and not table.attention and not table.ffn
    for layer, choice in enumerate(small.program.spaces["w"].layers):
        expected = {
            f"{a.name}/{f.name}": small.naive(layer, a, f, 32)["kl_divergence"]
            for a in choice.attention
            for f in choice.ffn
            if (a.kind, f.kind) != ("parent", "parent")
        }
        assert table.pairs[layer] == pytest.approx(expected, abs=1e-5)


def test_small_tiles_and_groups_change_nothing(small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small.score(metric="kl_divergence", samples=40)
    cut(monkeypatch, logit_positions=7, logit_tokens=10, group_tokens=16)
    parts = small.anew(metric="kl_divergence", samples=40)
    for a, b in zip(whole.attention + whole.ffn, parts.attention + parts.ffn, strict=True):
        assert a == pytest.approx(b, abs=1e-6)


def test_any_number_of_threads_finds_the_same_bytes(small: Case) -> None:
    """A product that is split among threads would have other last digits."""
    found = set()
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.add(small.anew(metric="kl_divergence", samples=40).canonical_json())
        assert torch.get_num_threads() == threads
    assert len(found) == 1


def test_a_damaged_figure_is_measured_again(small: Case) -> None:
    whole = small.anew().canonical_json()
    (kept,) = small.kept()
    lines = kept.read_text().splitlines(keepends=True)
    assert len(lines) > 4
    kept.write_text("".join([*lines[:2], lines[2].replace("[", "{", 1), *lines[3:]]))
    assert small.score().canonical_json() == whole
    assert kept.read_text().splitlines()[-1] == lines[2].rstrip()


def test_an_interrupted_run_goes_on_to_the_same_bytes(small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = small.anew().canonical_json()
    small.forget()
    for after in (1, 4):
        small.interrupted(after)
        (kept,) = small.kept()
        with kept.open("a") as file:
            file.write('[2, "ffn", "li')  # torn while it was written
    measured = []
    original = measures.Divergence.figures
    monkeypatch.setattr(
        measures.Divergence, "figures", lambda self, normed: measured.append(1) or original(self, normed)
    )
    assert small.score("cut").canonical_json() == whole
    assert len(measured) == 12 - 4 and not (small.base / "cut").exists()


def test_all_metrics_come_from_one_pass(small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    kl = small.score(metric="kl_divergence", samples=24)
    loss = small.score(metric="lm_loss", samples=24)
    monkeypatch.setattr(measures.Divergence, "figures", lambda self, normed: pytest.fail("measured again"))
    assert small.score(metric="lm_loss", samples=24) == loss
    cosine = small.score(metric="cosine", samples=24)
    assert len({table.ffn[0]["linear"] for table in (kl, loss, cosine)}) == 3


def failure(case: Case, **method: Any) -> tuple[str, str]:
    diagnostic = refused(case.score, **method)
    return diagnostic.code, diagnostic.message


def test_mistakes_are_diagnostics(small: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert failure(small, metric="kl_divergence", samples=10**6)[0] == "E1204"
    assert failure(small, metric="accuracy", tasks="nothing.jsonl")[0] == "E1206"
    (small.base / "bad.jsonl").write_text('{"context": "a", "choices": ["b"], "answer": 0}\n')
    assert failure(small, metric="accuracy", tasks="bad.jsonl")[0] == "E1207"
    monkeypatch.setattr(small, "jobs", tuple(job for job in small.jobs if job.sub_block == "ffn"))
    code, message = failure(small, metric="kl_divergence", samples=8)
    assert code == "E1501" and "`gqa1`" in message


def test_a_damaged_piece_is_a_diagnostic(tmp_path: Path) -> None:
    case = Case.of(tmp_path, ffn=(ParentFfn(),), model={"layers": 1})
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
        for i, choice in enumerate(item["choices"]):
            context = item["context"] if isinstance(item["context"], str) else item["context"][i]
            start = len(tokenizer(context).input_ids)
            ids = torch.tensor([tokenizer(f"{context} {choice}").input_ids])
            log_probs = model(ids, use_cache=False).logits.double().log_softmax(-1)[0, start - 1 : -1]
            length = len(choice) if item.get("normalised", True) else 1
            scores.append(float(log_probs.gather(1, ids[0, start:, None]).sum()) / length)
        right += scores.index(max(scores)) == item["answer"]
    return right / len(items)


def test_accuracy_is_the_drop_of_right_answers(small: Case) -> None:
    items = [
        {"context": f"kara {i}", "choices": ["lone", "mi" * (i + 1), "su ra to", "x"], "answer": i % 4}
        for i in range(24)
    ]
    for item in items[::3]:
        item["normalised"] = False
    for item in items[::4]:
        item["context"] = [f"{item['context']} {name}" for name in ("ka", "mi", "ra", "to")]
    (small.base / "tasks.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    table = small.score(metric="accuracy", tasks="tasks.jsonl", samples=20)
    assert table.samples == 20
    parent, drops = naive_accuracy(load_parent(small.base / "parent"), items[:20]), []
    for layer in range(3):
        for ffn in FFN[1:]:
            layers = [PARENT] * 3
            layers[layer] = (ParentAttention(), ffn)
            drops.append(parent - naive_accuracy(small.assembled(layers), items[:20]))
            assert table.ffn[layer][ffn.name] == pytest.approx(drops[-1])
    assert len(set(drops)) > 1, "the replacements differ, or this shows nothing"


def test_a_table_of_blocks_has_pairs_alone() -> None:
    figures = {(0, "pairs", "noop/mlp8"): {"kl": 0.5}, (1, "pairs", "parent/noop"): {"kl": 0.25}}
    table = score_table("s", "kl", "block", 8, 2, figures)
    assert table.pairs == ({"noop/mlp8": 0.5}, {"parent/noop": 0.25}) and table.attention == table.ffn == ()


def test_a_head_in_tiles_is_the_head(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "tiles", lambda kind: Tiles(logit_positions=3, logit_tokens=7))
    generator = torch.Generator().manual_seed(0)
    weight_VH, bias_V, states_PH = (
        torch.randn(*size, generator=generator) for size in ((20, 6), (20,), (5, 6))
    )
    head = measures.Vocabulary(weight_VH, bias_V)
    logits_PV = states_PH @ weight_VH.T + bias_V
    total_P = head.logsumexp(states_PH)
    torch.testing.assert_close(total_P, logits_PV.logsumexp(-1))
    torch.testing.assert_close(head.expected(states_PH, total_P), logits_PV.softmax(-1) @ weight_VH)
