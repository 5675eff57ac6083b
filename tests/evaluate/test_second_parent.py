"""`benchmarks.second_parent`: a small Qwen3 that learns within its budget and goes on from its checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.second_parent import Sizes, batch_places, make, scheduled
from puzzledsl.cli.loading import context
from puzzledsl.models.families.load import load_parent, load_tokenizer

SIZES = Sizes(
    layers=8, hidden=32, heads=4, kv_heads=2, head_dim=8, intermediate=48, vocab=300, context=16, batch=4
)


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    """A folder like examples/smollm2/data."""
    sentences = [f"The {i % 7}th dog saw {i % 5} cats and ran {i % 3} miles home." for i in range(200)]
    for name in ("train", "varied", "calibration", "heldout"):
        (tmp_path / f"{name}.txt").write_text("\n\n".join(f"{name}: {s}" for s in sentences) + "\n")
    return tmp_path


def test_it_learns_and_goes_on_where_it_was(
    texts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "second"
    losses, steps = [], []
    for minutes in (0.002, 0.02):
        make(texts, folder, SIZES, minutes)
        last = capsys.readouterr().out.splitlines()[-1]
        losses.append(float(last.rsplit(" ", 1)[1]))
        steps.append(torch.load(folder / "work" / "checkpoint.pt", weights_only=True)["step"])
    assert steps[0] < steps[1] and losses[1] < losses[0]
    before = (folder / "parent" / "model.safetensors").read_bytes()
    make(texts, folder, SIZES, 0.02)  # nothing is left of the budget
    assert (folder / "parent" / "model.safetensors").read_bytes() == before

    model, tokenizer = load_parent(folder / "parent"), load_tokenizer(folder / "parent")
    assert model.config.model_type == "qwen3" and model.config.tie_word_embeddings
    assert tokenizer.decode(tokenizer("a 3rd dog").input_ids) == "a 3rd dog"
    trained_on = set((texts / "varied.txt").read_text().split("\n\n"))
    kept = (folder / "data" / "varied.txt").read_text().strip().split("\n\n")
    assert len(kept) == 20 and set(kept) < trained_on

    program = context(folder / "second.pzl", ["speedup=1.3x"], None).program
    assert program.searches["best"].refine is not None and program.spaces["wide"].layers


def test_a_checkpoint_of_another_model_is_refused(texts: Path, tmp_path: Path) -> None:
    make(texts, tmp_path / "s", SIZES, 0.0)
    with pytest.raises(SystemExit, match="of another model"):
        make(texts, tmp_path / "s", replace(SIZES, hidden=40), 0.0)


def test_an_epoch_has_every_block_once() -> None:
    places = torch.cat([batch_places(step, 13, 4) for step in range(3)])
    assert len(places.unique()) == 12 and not torch.equal(batch_places(0, 13, 4), batch_places(3, 13, 4))


def test_the_rate_rises_then_falls() -> None:
    rates = [scheduled(done / 100) for done in range(101)]
    assert rates[:3] == sorted(rates[:3]) and max(rates) == rates[2] == 1
    assert rates[2:] == sorted(rates[2:], reverse=True) and rates[-1] == pytest.approx(0.1)
