"""Every stage of every family on the pretended GPU: measure, bld, score, solve, refine, realise, uptrain, eval and export."""

import json
from pathlib import Path

import pytest
import torch

import puzzledsl as pzl
from puzzledsl.evaluate import bench
from puzzledsl.evaluate import units as speed
from puzzledsl.families.registry import FAMILIES
from puzzledsl.measure import estimate
from tests.pretended_gpu import Gpu, pretended_gpu
from tests.tiny import EXPERTS, save_tiny

PROGRAM = """\
parent p = hf("parent")
space w of p {{
  attention = parent | gqa(kv_heads: 1) | linear | noop
  ffn = parent | mlp(width: 50%) | noop{moe}
}}
hardware here = measured(device: cuda, dtype: bf16)
scenario chat on here = batch(1, 4 -> 4)
data corpus = text("train.txt")
bld pieces of w {{
  tokens = 128, context = 16, batch = 2, calibration = 128, lr = cosine(1e-3), data = corpus, heal = 64
}}
score kl of pieces = replace_one(kl_divergence, samples: 64)
score cured of pieces = replace_one(kl_divergence, samples: 16, healed: 64)
search best of w {{ minimize kl, require params <= 0.8x }}
search cheap of w {{ minimize cured, require params <= 0.7x }}
uptrain final of best {{
  loss = 1 * kld + 1 * cosine + 1 * lm
  tokens = 64, context = 16, batch = 2, lr = cosine(1e-3), data = corpus
}}
eval quality of final = tasks("items.jsonl") {{ data = corpus, tokens = 64 }}
export ship of final = hf("out")
"""
COUPLED = """\
space both of p {
  attention = parent | gqa(kv_heads: 1)
  ffn = parent | mlp(width: 50%)
}
bld pairs of both {
  train = attention * ffn, tokens = 64, context = 16, batch = 2, calibration = 128, data = corpus, heal = 0
}
score blocks of pairs = replace_one(kl_divergence, samples: 16)
search narrow of both { minimize blocks, require params <= 0.9x, refine = measured(2, healed: 64, samples: 16) }
"""
LAYERS = {"nemotron_h": 4, "gemma3_text": 3}
MARKS = {"llama": (), **dict.fromkeys(("gemma3_text", "gpt_oss", "nemotron_h"), pytest.mark.more)}
"""Plain layers and coupled blocks in `make test`; then windows, experts with sinks, and state spaces; others are just slow."""
NO_WAITS = (
    "models/kernels/",
    "pieces/train/sweep.py",
    "scoring/replacements.py",
    "models/machine.py",
)
"""Code that runs at every step, for every piece or every tile: it never waits for the device."""
WAITS = {
    "child/healing/fit.py": 20,  # one a fit
    "models/least_squares/grams.py": 1200,  # one a solved system, three a round of channels; experts have many
    "pieces/initialise/gauss_newton.py": 20,  # two a point of a fit
    "pieces/train/student.py": 150,  # one a tensor of a piece, before its training and behind it
    "pieces/train/layer_trainer.py": 8,  # one a calibration batch
    # at the first and the last evaluation, and to write the piece; one a batch, for the copy of the one before
    "pieces/train/piece_state.py": 56,
    "scoring/measures.py": 60,  # three a replacement and child
}
"""Most waits a layer of the parent, in loops of one of these programs."""


def write_program(directory: Path, family: str) -> Path:
    """Write a program, its parent, text and tasks; return the `.pzl` file."""
    save_tiny(directory / "parent", family, layers=LAYERS.get(family, 2))
    (directory / "train.txt").write_text("A sentence of some words, and another one. " * 60, "utf-8")
    items = [{"context": f"number {i}", "choices": ["goes on", "stops"], "answer": i % 2} for i in range(4)]
    (directory / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    text = PROGRAM.format(moe=" | moe(experts: 4)" * (family in EXPERTS))
    file = directory / "all.pzl"
    file.write_text(text + COUPLED * (family == "llama"), "utf-8")
    return file


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time everything once: no time means anything here. Few tokens of an answer show what every token does."""
    monkeypatch.setattr(estimate, "ROUNDS", 1)
    monkeypatch.setattr(estimate, "CHECKED_CHILDREN", 1)
    monkeypatch.setattr(estimate, "CHECK_ROUNDS", 1)
    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(bench, "ANSWER_TOKENS", 8)


def check(gpu: Gpu, family: str) -> None:
    """Bfloat16 throughout, no hidden waits, nothing added in any order."""
    for part in NO_WAITS:
        assert not gpu.waits_in(f" {part}"), gpu.waits_in(f" {part}")
    found = {file: gpu.waits_in(f" {file}") for file in WAITS}
    layers = LAYERS.get(family, 2)
    too_many = {file: waits for file, waits in found.items() if waits.total() > WAITS[file] * layers}
    assert not too_many
    assert not gpu.any_order
    assert {dtype for dtype, *_ in gpu.attention} == ({torch.bfloat16} if family != "gpt_oss" else set())
    assert gpu.flop[torch.bfloat16] > 0


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=MARKS.get(name, pytest.mark.slow)) for name in FAMILIES]
)
@pytest.mark.usefixtures("quick")
def test_every_stage(family: str, tmp_path: Path) -> None:
    program = write_program(tmp_path, family)
    with pretended_gpu(replays=1) as gpu:
        pzl.load(program).run()
        check(gpu, family)
    assert (tmp_path / "out" / "config.json").is_file()
