"""Text that a parent writes: its own distribution, the same bytes for the same seed, whole after a kill, no surprise."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from puzzledsl.base.diagnostics import DiagnosticError
from puzzledsl.base.progress import Silent
from puzzledsl.ir import nodes
from puzzledsl.models.families.load import load_parent, load_tokenizer
from puzzledsl.sampling import documents
from puzzledsl.sampling.documents import SampleInputs, run_sample, sampled_batch
from tests.tiny import save_tiny
from tests.uptrain.cases import Interrupted, Recorder


@pytest.fixture(scope="module")
def parent(tmp_path_factory) -> Path:
    return save_tiny(tmp_path_factory.mktemp("sampling") / "parent", layers=2, scale=0.3)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Batches of 4 documents on one thread."""
    monkeypatch.setattr(documents, "ROWS", 4)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def inputs(parent: Path, folder: Path, progress: Any = None, **settings: Any) -> SampleInputs:
    source = nodes.SampledData(
        **({"parent": "tiny", "tokens": 200, "length": 16, "dtype": "fp32"} | settings)
    )
    given = (parent, folder, folder / "out.jsonl", folder / "work", progress or Silent())
    return SampleInputs(source, "d", None, *given)  # type: ignore[arg-type]


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_documents_begin_and_end_as_texts_do_and_there_are_enough(parent, tmp_path):
    tokenizer = load_tokenizer(parent)
    progress = Recorder()
    found = read(run_sample(inputs(parent, tmp_path, progress)))
    lengths = [len(document["ids"]) for document in found]
    assert sum(lengths) >= 200 > sum(lengths[:-1]) and max(lengths) <= 1 + 16 + 1
    for document in found:
        ids = document["ids"]
        assert (
            document["prompt"] == 1 and ids[0] == tokenizer.bos_token_id and ids[-1] == tokenizer.eos_token_id
        )
        assert tokenizer.eos_token_id not in ids[1:-1]
        assert document["text"] == tokenizer.decode(ids, skip_special_tokens=True)
    assert progress.advanced == progress.named("start")[-1]["total"] == 200
    assert not (tmp_path / "work").exists()


def test_the_seed_decides_about_every_byte(parent, tmp_path):
    def written(name: str, **settings: Any) -> bytes:
        torch.manual_seed(hash(name) % 1000)  # what the process draws otherwise changes nothing
        (tmp_path / name).mkdir()
        state = torch.random.get_rng_state()
        content = run_sample(inputs(parent, tmp_path / name, **settings)).read_bytes()
        assert torch.equal(state, torch.random.get_rng_state()), "nor is it changed"
        return content

    one = written("one")
    assert written("again") == one
    others = [written("seed", seed=1), written("cold", temperature=0.2), written("few", top_k=2)]
    assert len({one, *others}) == 4
    assert written("more", tokens=400).startswith(one), "a longer text begins with the shorter one"


@pytest.mark.parametrize("after", [1, 2])
def test_a_text_that_was_interrupted_is_the_one_of_an_unbroken_run(parent, tmp_path, monkeypatch, after):
    for name in ("whole", "broken"):
        (tmp_path / name).mkdir()
    whole = run_sample(inputs(parent, tmp_path / "whole")).read_bytes()
    calls, real = [], documents.sampled_batch

    def stopped(*given: Any, **more: Any) -> Any:
        if len(calls) == after:
            raise Interrupted
        calls.append(more["seed"])
        return real(*given, **more)

    with monkeypatch.context() as patch:
        patch.setattr(documents, "sampled_batch", stopped)
        with pytest.raises(Interrupted):
            run_sample(inputs(parent, tmp_path / "broken"))
    assert not (tmp_path / "broken" / "out.jsonl").exists()
    kept = sorted((tmp_path / "broken" / "work").iterdir())
    assert len(kept) == after
    if after == 2:  # a kill in the middle of a write, and a flipped bit
        kept[1].write_bytes(kept[1].read_bytes()[:-40])
    seeds = []
    monkeypatch.setattr(documents, "sampled_batch", lambda *g, **m: seeds.append(m["seed"]) or real(*g, **m))
    assert run_sample(inputs(parent, tmp_path / "broken")).read_bytes() == whole
    assert calls[0] not in seeds, "what is finished is not written again"


def test_tokens_are_drawn_from_the_parents_distribution(parent, tmp_path):
    """A chi-squared test of the first token behind one prompt, at two temperatures, against the softmax of full logits."""
    tokenizer, model = load_tokenizer(parent), load_parent(parent)
    prompt, rows = [30, 40, 50], 4000
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0, -1].double()
    for temperature, top_k in ((1.0, None), (0.5, None), (1.0, 3)):
        given = {"length": 1, "ends": (tokenizer.eos_token_id,), "temperature": temperature, "top_k": top_k}
        found = sampled_batch(model, tokenizer, [prompt] * rows, **given, seed=3)
        seen = Counter(document.ids[3] for document in found)
        scaled = logits / temperature
        if top_k is not None:
            scaled[scaled < scaled.topk(top_k).values[-1]] = -math.inf
        expected = {i: p * rows for i, p in enumerate(scaled.softmax(-1).tolist()) if p}
        assert set(seen) <= set(expected)
        common = {i: e for i, e in expected.items() if e >= 5}
        rest = rows - sum(common.values())
        square = sum((seen[i] - e) ** 2 / e for i, e in common.items())
        square += (rows - sum(seen[i] for i in common) - rest) ** 2 / max(rest, 1)
        freedom = len(common)
        assert square < freedom + 5 * math.sqrt(2 * freedom), (temperature, top_k)


def test_a_document_of_a_batch_follows_its_own_prompt(parent, tmp_path):
    """At a temperature near 0 sampling is greedy decoding, whatever the other prompts' lengths are."""
    (tmp_path / "p.txt").write_text("kara lone\n\nsura mito kane lora kara lone\n\nmito")
    tokenizer, model = load_tokenizer(parent), load_parent(parent)
    given = {"prompts": "p.txt", "temperature": 1e-4, "tokens": 130}
    found = read(run_sample(inputs(parent, tmp_path, **given)))
    prompts = ["kara lone", "sura mito kane lora kara lone", "mito"]
    for number, document in enumerate(found):
        ids = tokenizer(prompts[number % 3])["input_ids"]
        said: list[int] = []
        while len(said) < 16 and said[-1:] != [tokenizer.eos_token_id]:
            said.append(int(model(torch.tensor([[*ids, *said]])).logits[0, -1].argmax()))
        end = [] if said[-1:] == [tokenizer.eos_token_id] else [tokenizer.eos_token_id]
        assert document["ids"] == [*ids, *said, *end] and document["prompt"] == len(ids)


def test_the_parents_own_settings_of_generation_do_not_count(parent, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(parent, changed)
    (changed / "generation_config.json").write_text(
        '{"top_k": 1, "repetition_penalty": 5.0, "do_sample": true}'
    )
    for name in ("plain", "other"):
        (tmp_path / name).mkdir()
    plain = run_sample(inputs(parent, tmp_path / "plain")).read_bytes()
    assert run_sample(inputs(changed, tmp_path / "other")).read_bytes() == plain


def test_what_cannot_be_written_is_told(parent, tmp_path, monkeypatch):
    def code(given: SampleInputs) -> str:
        with pytest.raises(DiagnosticError) as error:
            run_sample(given)
        return error.value.diagnostics[0].code

    assert code(inputs(parent, tmp_path, prompts="none.txt")) == "E1220"
    (tmp_path / "long.txt").write_text("kara " * 3000)
    assert code(inputs(parent, tmp_path, prompts="long.txt")) == "E1221"
    with monkeypatch.context() as patch:
        patch.setattr(documents, "free_bytes", lambda device: 1000)
        assert code(inputs(parent, tmp_path)) == "E1223"
    nameless = load_tokenizer(parent)
    nameless.bos_token = nameless.eos_token = None
    monkeypatch.setattr(documents, "load_tokenizer", lambda directory: nameless)
    assert code(inputs(parent, tmp_path)) == "E1224"
    assert not (tmp_path / "out.jsonl").exists()


def test_texts_have_the_name_of_what_is_written_not_of_what_is_picked():
    one = nodes.SampledData(parent="p", tokens=100)
    assert one.text.startswith("p-") and one.model_copy(update={"take": 10}).text == one.text
    assert one.model_copy(update={"seed": 1}).text != one.text
